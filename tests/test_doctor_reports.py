"""What the doctor prints, what it finds on this machine, and the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from doctor_machines import a_laptop, says

from benchbench.cli import main
from benchbench.doctor import sharing
from benchbench.doctor.findings import Rule, finding
from benchbench.doctor.place import Machine, here
from benchbench.doctor.probe import probe
from benchbench.doctor.render import render_json, render_markdown, render_text
from benchbench.doctor.rules import RULES, diagnose
from benchbench.files import Files

PAGE = Path(__file__).parent.parent / "docs" / "doctor.md"


@pytest.fixture
def laptop(tmp_path):
    return a_laptop(tmp_path)


def test_text_fits_its_columns_but_for_commands(laptop):
    diagnosis = diagnose(laptop)
    commands = {one.command for one in diagnosis.findings if one.command}
    for width in (60, 80, 100):
        text = render_text(diagnosis, width)
        for line in text.splitlines():
            assert len(line) <= width or line.strip() in commands
        for one in diagnosis.of("noisy"):
            assert one.command in text
    assert text.index("NOISY") < text.index("GOOD")


def test_what_is_good_is_short_unless_asked_for(laptop, capsys):
    diagnosis = diagnose(laptop)
    short = render_text(diagnosis, short=True)
    assert "random addresses" in short and "glibc 2.39" not in short
    assert "glibc 2.39" in render_text(diagnosis)
    assert "\x1b" not in short
    colours = render_text(diagnosis, style=lambda text, status: f"<{status}>{text}")
    assert "<noisy>NOISY" in colours and "<good>GOOD" in colours
    assert run("--all") == 0
    everything = capsys.readouterr().out
    assert run() == 0
    assert len(capsys.readouterr().out) < len(everything)


def test_markdown_and_json_have_every_finding(laptop):
    diagnosis = diagnose(laptop)
    rows = [line for line in render_markdown(diagnosis).splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(diagnosis.findings)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    record = json.loads(render_json(diagnosis))
    assert record["counts"]["noisy"] == len(diagnosis.of("noisy"))
    assert [one["name"] for one in record["findings"]] == [one.name for one in diagnosis.findings]
    assert set(record["findings"][0]) == {"name", "status", "read", "effect", "mend", "command"}
    assert record["probe"]["others"] == 1.4


def test_whatever_is_noisy_says_what_it_does_and_how_to_mend_it(laptop):
    for one in diagnose(laptop).of("noisy"):
        assert one.effect
        assert one.mend.endswith(":") == bool(one.command), one
    # A rule without a word of mending must always say why not.
    for rule in RULES:
        assert rule.mend or rule.name in ("steal", "virtual machine")


def row(rule: Rule) -> str:
    mend = rule.mend.rstrip(":.") or "cannot be mended from inside"
    cells = (rule.name, rule.reads, rule.noisy, rule.effect.rstrip("."), mend)
    return f"| {' | '.join(cells)} |"


def test_the_page_lists_the_rules_as_they_are():
    lines = PAGE.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| finding |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("| "):
            break
        table.append(line)
    assert table == [row(rule) for rule in RULES]


# This machine.


def test_work_on_this_machine_is_watched():
    found = probe(Files())
    assert found.cores
    assert found.seconds > 0
    assert found.copying is not None and found.copying.middle > 0
    assert found.reading is not None and 0 < found.reading < 1e-3
    for core in found.cores:
        assert core.middle > 0 and core.jitter >= 0 and 0 < core.share <= 1
    if len(found.cores) > 1:
        assert found.together is not None and found.together > 0


def test_a_neighbour_is_noticed():
    code = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as neighbour:
        try:
            found = probe(Files())
        finally:
            neighbour.kill()
    assert found.others is not None and found.others >= sharing.MUCH


def test_a_system_that_refuses_every_question_is_unknown(monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError("not for you")

    names = ("virtual_memory", "swap_memory", "cpu_times", "process_iter", "sensors_battery")
    for name in names:
        monkeypatch.setattr(psutil, name, refuse, raising=False)
    monkeypatch.setattr(os, "getloadavg", refuse)
    machine = here(files=Files(tmp_path))
    assert machine.probe is not None and machine.probe.others is None
    assert not machine.probe.busiest
    found = says(machine)
    for name in ("neighbours", "steal", "memory", "swap", "power", "governor", "quota"):
        assert found[name].status == "unknown", found[name]


def test_every_rule_can_look_at_this_machine():
    machine = here(spin=False)
    assert machine.probe is None
    assert machine.usable >= 1
    for rule in RULES:
        one = finding(rule, machine)
        assert one is None or one.read


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["doctor", "--no-spin", *arguments])
    return stop.value.code


def test_the_command_writes_files_and_fails_only_when_strict(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MALLOC_PERTURB_", "1")
    out = tmp_path / "deep" / "doctor.json"
    assert run("--emit", f"json={out}", "--emit", f"markdown={tmp_path / 'doctor.md'}") == 0
    assert "unset MALLOC_PERTURB_" in capsys.readouterr().out
    assert json.loads(out.read_text())["counts"]["noisy"] >= 1
    assert "| variables | **noisy** |" in (tmp_path / "doctor.md").read_text()
    assert run("--strict") == 1


def test_strict_passes_where_nothing_is_noisy(monkeypatch, tmp_path):
    from benchbench.doctor import place

    monkeypatch.setattr(place, "here", lambda *_, **__: Machine(files=Files(tmp_path)))
    assert run("--strict") == 0


def test_a_mistyped_format_is_corrected(capsys):
    assert run("--emit", "jsn=x") == 2
    assert "json" in capsys.readouterr().err
