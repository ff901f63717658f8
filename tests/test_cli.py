"""The command line as a person uses it: real workers, a real store, exit codes and messages."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchbench import store
from benchbench.cli import COMMANDS, main

ZOO = Path(__file__).parent / "zoo"
PLUGIN = str(ZOO / "cli_plugin.py")
QUICK = ["--budget", "0.02"]
BENCHBENCH = [sys.executable, "-m", "benchbench"]
NAPS = 5
"""Cases of the workload that is interrupted."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory to work in, with a cache and a store of its own and no installed plugins."""
    path = tmp_path_factory.mktemp("cli")
    variables = {
        "BENCHBENCH_CACHE": str(path / "cache"),
        "BENCHBENCH_STORE": str(path / "store"),
        "BENCHBENCH_PLUGINS": "",
        "COLUMNS": "120",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    yield path
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def call(home, capfd):
    """Run a command in this process; returns exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def finished(home):
    """A stored run of five processes, and what printing it said."""
    done = subprocess.run(
        [
            *BENCHBENCH,
            "run",
            "cli/double",
            "-a",
            "n=256,1024",
            "-n",
            "5",
            "--plugin",
            PLUGIN,
            *QUICK,
        ],
        capture_output=True,
        text=True,
        cwd=home,
    )
    return done, store.find(home / "store", "last")


# Help, names, mistakes: no worker


def test_help_lists_every_command_and_imports_nothing_heavy():
    script = (
        "import sys\nfrom benchbench.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'rich', 'psutil'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(call, name):
    code, out, _ = call(name, "--help")
    assert code == 0
    assert f"benchbench {name}" in out


def test_version(call):
    code, out, _ = call("--version")
    assert (code, out.split()[0]) == (0, "benchbench,")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "Did you mean 'run'"),
        (["run", "--proceses", "3"], "--processes"),
        (["run", "-n", "0"], "not in the range"),
        (["run", "--plugin", "absent.py"], "no such file"),
        (["run", "--no-plugin", "cli_plugn"], "Did you mean 'cli_plugin'"),
        (["run", "cli/duoble"], "Did you mean 'cli/double'"),
        (["run", "-p", "quik"], "Did you mean 'quick'"),
        (["run", "-c", "twise"], "Did you mean 'twice'"),
        (["run", "-a", "mod=plain"], "Did you mean 'mode'"),
        (["run", "-a", "mode=plian"], "Did you mean 'plain'"),
        (["run", "-a", "mode"], "write dtype=float32,bfloat16"),
        (["run", "-f", "tabel"], "Did you mean 'table'"),
        (["run", "-f", "shuot"], "Did you mean 'shout'"),
        (["run", "--timer", "wal"], "Did you mean 'wall'"),
        (["run", "--engine", "locl"], "Did you mean 'local'"),
        (["list", "cli/slep"], "Did you mean 'cli/sleep'"),
        (["show", "-f", "markdwn"], "Did you mean 'markdown'"),
    ],
)
def test_mistakes_are_usage_errors_with_a_suggestion(call, finished, arguments, said):
    takes_plugins = arguments[0] in ("run", "list", "show")
    given = [*arguments, *(["--plugin", PLUGIN] if takes_plugins else [])]
    before = store.runs(store.default_directory())
    code, out, err = call(*given)
    assert code == 2
    assert said in err
    assert out == ""
    assert store.runs(store.default_directory()) == before, "nothing was measured or stored"


@pytest.mark.parametrize(
    "arguments", [["show", "20991231"], ["show", "--store", "nowhere"], ["history", "cli/nothing"]]
)
def test_what_is_not_stored_is_a_usage_error(call, finished, arguments):
    code, _, err = call(*arguments)
    assert code == 2
    assert "20991231" in err or "no runs in" in err or "cli/nothing" in err


def test_an_allow_list_with_a_mistyped_name_is_refused(call, monkeypatch):
    monkeypatch.setenv("BENCHBENCH_PLUGINS", "cli_plugn")
    code, _, err = call("list", "--plugin", PLUGIN)
    assert code == 2
    assert "BENCHBENCH_PLUGINS" in err
    assert "Did you mean 'cli_plugin'" in err


# A whole run


def test_a_run_prints_a_table_and_stores_every_result(finished):
    done, path = finished
    assert done.returncode == 1, "one contender is wrong and one fails"
    for part in ("cli/double", "n=256", "n=1024", "eager", "twice", "baseline", "93.8 %"):
        assert part in done.stdout, part
    assert "liar WRONG" in done.stdout
    assert "crash FAILED (build): RuntimeError: this one cannot be built" in done.stdout
    assert "absent unavailable: needs a quantum computer" in done.stdout
    assert str(path) in done.stderr
    run = store.read(path)
    assert run.complete
    assert {r.process for r in run.results} == set(range(5))
    contenders = [r for r in run.results if r.role == "contender"]
    assert len(contenders) == 5 * 2 * 5
    assert run.header["command"][:2] == ["benchbench", "run"]
    assert run.header["environment"]["cpu"]


def test_only_what_works_ends_with_zero(call):
    code, out, _ = call(
        "run", "cli/double", "-c", "twice", "-c", "absent", "-n", 1, *QUICK, "--plugin", PLUGIN
    )
    assert code == 0
    assert "a quick look" in out
    assert "absent unavailable" in out


def test_a_stored_run_is_shown_again(call, finished):
    done, path = finished
    code, out, _ = call("show", path.stem)
    assert (code, out) == (0, done.stdout)


@pytest.mark.parametrize("name", ["csv", "json", "markdown"])
def test_other_formats_and_an_output_file(call, finished, tmp_path, name):
    _, path = finished
    code, out, _ = call("show", path.stem, "-f", name)
    assert code == 0
    file = tmp_path / "report"
    code, nothing, err = call("show", path.stem, "-f", name, "-o", file)
    assert (code, nothing) == (0, "")
    assert str(file) in err
    assert file.read_text() == out
    if name == "csv":
        assert {r["contender"] for r in csv.DictReader(io.StringIO(out))} >= {"eager", "twice"}
    elif name == "json":
        assert json.loads(out)["id"] == path.stem
    else:
        assert "| contender |" in out


def test_a_report_of_a_plugin_is_rendered(call, finished):
    _, path = finished
    code, out, _ = call("show", path.stem, "-f", "shout", "--plugin", PLUGIN)
    assert code == 0
    assert out == f"{len(store.read(path).results)} RESULTS\n"


def test_an_output_that_cannot_be_written_says_where_the_results_are(call, finished, tmp_path):
    _, path = finished
    code, _, err = call("show", path.stem, "-o", tmp_path / "no" / "such" / "place")
    assert code == 1
    assert "results are stored" in err


def test_history_and_compare_read_the_store(call, finished):
    _, path = finished
    code, out, _ = call("history", "cli/double", "-c", "twice")
    assert code == 0
    assert path.stem in out
    assert "cli/double[n=256,mode=plain]" in out
    code, out, _ = call("compare", path.stem, path.stem)
    assert code == 0
    assert "twice" in out
    assert "+0.0 %" in out


def test_runs_of_different_machines_are_not_compared_unless_forced(call, finished):
    _, path = finished
    lines = path.read_text().splitlines()
    header = json.loads(lines[0])
    header.update(id="20200101-000000-aaaa")
    header["environment"]["cpu"] = "Another CPU"
    other = path.with_name("20200101-000000-aaaa.jsonl")
    other.write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    code, _, err = call("compare", "20200101", path.stem)
    assert code == 2
    assert "Another CPU" in err
    assert "--force" in err
    code, out, err = call("compare", "20200101", path.stem, "--force")
    assert code == 0
    assert "machines differ: cpu: Another CPU" in err
    assert "twice" in out
    other.unlink()


# Listing


def test_list_says_what_there_is_and_why_some_is_not(call):
    code, out, _ = call("list", "--plugin", PLUGIN)
    assert code == 0
    assert "cli/double  eager, twice, liar, crash" in out
    assert "unavailable: absent: needs a quantum computer" in out
    assert "2 workloads, 6 contenders, 1 of them unavailable" in out


def test_a_verbose_list_has_axes_presets_and_docs(call):
    code, out, _ = call("list", "-v", "cli/double", "--plugin", PLUGIN)
    assert code == 0
    for part in ("Twice as much.", "256, 1024", "plain, fancy", "- eager (baseline)", "Multiply"):
        assert part in out, part
    assert "cli/sleep" not in out


def test_the_second_list_starts_no_worker(call):
    call("list", "--plugin", PLUGIN)
    _, _, err = call("list", "--plugin", PLUGIN)
    assert "loading plugins" not in err


def test_plugins_are_listed_with_what_they_contribute(call):
    code, out, _ = call("plugins", "--plugin", PLUGIN)
    assert code == 0
    assert "ok      cli_plugin" in out
    assert "2 workloads, 6 implementations, 1 report" in out


def test_a_broken_plugin_is_one_line_and_the_rest_runs(call):
    bad = str(ZOO / "loading" / "raises_at_import.py")
    both = ["--plugin", PLUGIN, "--plugin", bad]
    code, out, err = call("run", "cli/double", "-c", "twice", "-n", 1, *QUICK, *both)
    assert code == 0
    assert "twice" in out
    assert "plugin raises_at_import" in out, "the table keeps it"
    lines = [line for line in err.splitlines() if line.startswith("plugin raises_at_import")]
    assert len(lines) == 1
    assert "failed:" in lines[0]
    assert f"`benchbench plugins -v --plugin={bad}` has the traceback" in err
    assert "`--no-plugin raises_at_import` leaves it out" in err
    code, out, _ = call("plugins", "-v", *both)
    assert code == 0
    assert "failed  raises_at_import" in out
    assert "raises_at_import.py" in out


def test_strict_turns_a_broken_plugin_into_exit_code_three(call):
    bad = ["--plugin", PLUGIN, "--plugin", str(ZOO / "loading" / "raises_at_import.py"), "--strict"]
    for command in (["run", "cli/double"], ["list"], ["plugins"]):
        code, _, err = call(*command, *bad)
        assert code == 3, command
        assert "--strict" in err


def test_a_blocked_plugin_is_not_loaded(call):
    bad = str(ZOO / "loading" / "raises_at_import.py")
    code, _, err = call(
        "list", "--plugin", PLUGIN, "--plugin", bad, "--no-plugin", "raises_at_import"
    )
    assert code == 0
    assert "failed" not in err


# Interrupting and resuming


def start(home, name):
    """A run that takes a while, in a store of its own, as a shell would start it."""
    return subprocess.Popen(
        [*BENCHBENCH, "run", "cli/sleep", "-n", "2", "--plugin", PLUGIN, "--store", home / name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=home,
        start_new_session=True,
    )


def wait_for_results(directory, count=2, seconds=60.0):
    """The run's file, as soon as it has ``count`` results."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in store.runs(directory):
            if path.read_text().count('"type":"result"') >= count:
                return path
        time.sleep(0.02)
    raise AssertionError("no results came")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_prints_what_it_has_and_can_be_resumed(home, number):
    process = start(home, f"interrupted-{number}")
    path = wait_for_results(home / f"interrupted-{number}")
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # Ctrl-C goes to the whole group
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 128 + number, err
    assert "nap" in out, "the table of what is done"
    assert f"benchbench run --resume {path.stem} --store" in err
    run = store.read(path)
    assert not run.complete
    assert json.loads(path.read_text().splitlines()[-1])["status"] == "interrupted"
    if number == signal.SIGTERM:
        return  # resuming is the same for both
    before = {(r.case, r.process): r.samples for r in run.results}
    command = err.partition("go on with: benchbench ")[2].split()
    done = subprocess.run([*BENCHBENCH, *command], capture_output=True, text=True, cwd=home)
    assert done.returncode == 0, done.stderr
    after = store.read(path)
    assert after.complete
    assert len({(r.case, r.process) for r in after.results if r.role == "contender"}) == 2 * NAPS
    kept = {(r.case, r.process): r.samples for r in after.results}
    assert before.items() <= kept.items(), "what was measured is not measured again"


def test_a_killed_run_keeps_its_results_and_can_be_resumed(home, call):
    process = start(home, "killed")
    path = wait_for_results(home / "killed")
    process.kill()
    process.communicate(timeout=30)
    stored = len(store.read(path).results)
    assert stored >= 2
    code, out, _ = call("run", "--resume", "last", "--store", home / "killed")
    assert code == 0
    assert "nap" in out
    run = store.read(path)
    assert run.complete
    assert len({(r.case, r.process) for r in run.results if r.role == "contender"}) == 2 * NAPS


def test_a_complete_run_is_not_resumed(call, finished):
    code, _, err = call("run", "--resume", finished[1].stem)
    assert code == 2
    assert "is complete" in err


def test_a_run_is_not_resumed_with_another_selection(call, finished):
    code, _, err = call("run", "cli/sleep", "--resume", finished[1].stem, "--seed", 3)
    assert code == 2
    assert "patterns" in err
    assert "seed" in err


@pytest.mark.parametrize("changed", ["plugin", "machine"])
def test_a_run_is_not_resumed_with_what_would_not_fit(call, finished, home, changed):
    text = finished[1].read_text().splitlines()
    header = json.loads(text[0])
    header.update(id="20200202-000000-bbbb")
    if changed == "plugin":
        header["plugins"][0]["provider"]["version"] = "0.0.1"
    else:
        header["environment"]["cpu"] = "0.0.1"
    other = home / "store" / "runs" / "20200202-000000-bbbb.jsonl"
    other.write_text("\n".join([json.dumps(header), *text[1:20]]) + "\n")
    code, _, err = call("run", "--resume", "20200202")
    other.unlink()
    assert code == 1
    assert "cannot be continued" in err
    assert "0.0.1" in err


# Authors


def test_a_new_plugin_is_written(call, tmp_path):
    code, out, _ = call("new-plugin", "my-kernels", "--directory", tmp_path / "p")
    assert code == 0
    assert (tmp_path / "p" / "pyproject.toml").exists()
    assert "next:" in out


def test_check_names_what_is_wrong_with_a_plugin(call):
    code, out, _ = call("check", PLUGIN)
    assert code == 1
    assert "this one cannot be built" in out
    assert "liar" in out
    assert "twice" not in out
