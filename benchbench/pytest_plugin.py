"""The pytest plugin: a fixture that compares two callables, and fails a test on the verdict.

::

    @pytest.mark.benchbench(processes=9, margin=0.02)
    def test_new_is_not_slower(benchbench):
        benchbench.compare(new, old, inputs=make).assert_not_slower()

Pytest imports this module at start-up, so it imports nothing but pytest itself until a test asks
for the fixture.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from benchbench.contract import Tolerance
    from benchbench.pairs import Check, Rules, Verdict

_SOUND: pytest.StashKey[list[tuple[Rules, str]]] = pytest.StashKey()
"""Rules of comparisons whose controls came out right in this session, and the tests' ids."""
PROPERTY = "benchbench"
"""Name of the user property of a report that holds a line of the summary."""
POLICIES = ("fail", "xfail", "skip", "pass")
INCONCLUSIVE = "benchbench_inconclusive"
RULES = "benchbench_rules"
MARKER = (
    "benchbench(processes=9, most=24, margin=0.02, alpha=0.01, beta=0.01, family=0, "
    "controls='each', budget=0.4, warmup=0.2, threads=0, device='cpu', timer='auto', timeout=180, "
    "seed=0, inconclusive='fail'): how the fixture `benchbench` measures, and what becomes of a "
    "claim that stays open; every test that uses the fixture carries the marker, so that "
    "-m 'not benchbench' leaves them out"
)
# Coverage that follows subprocesses would be timed with what it traces.
_TRACERS = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COV_CORE_SOURCE")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--benchbench-inconclusive``, ``--benchbench-skip`` and the ini options."""
    group = parser.getgroup("benchbench", "comparing callables with benchbench")
    group.addoption(
        "--benchbench-inconclusive",
        choices=POLICIES,
        default=None,
        help="What becomes of a test whose claim can be neither confirmed nor refuted "
        "(ini: benchbench_inconclusive; default: fail).",
    )
    group.addoption(
        "--benchbench-skip",
        action="store_true",
        default=False,
        help="Time nothing: results are compared once, and every claim about speed holds.",
    )
    group.addoption(
        "--benchbench-store",
        metavar="DIR",
        default=None,
        help="Directory of the results. Default: BENCHBENCH_STORE, or .benchbench where pytest "
        "was started.",
    )
    group.addoption(
        "--benchbench-rule",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="A rule of measuring, such as processes=5, whatever tests say. Repeatable "
        "(ini: benchbench_rules, for tests that say nothing).",
    )
    parser.addini(RULES, "rules of measuring: NAME=VALUE, one a line", type="linelist", default=[])
    parser.addini(
        INCONCLUSIVE, "fail, xfail, skip or pass; see --benchbench-inconclusive", default=""
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse mistyped options before any test runs."""
    config.addinivalue_line("markers", MARKER)
    _policy(config)
    given = {
        **_assignments(config.getini(RULES), RULES),
        **_assignments(config.getoption("--benchbench-rule"), "--benchbench-rule"),
    }
    if given:
        from benchbench.errors import UsageError
        from benchbench.pairs import Rules

        try:
            Rules.of(given)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None


def _assignments(given: Iterable[str], source: str) -> dict[str, Any]:
    """``NAME=VALUE`` lines as a mapping.

    Raises:
        pytest.UsageError: one is something else.
    """
    found = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign:
            raise pytest.UsageError(f"{source}: {text!r} is not NAME=VALUE, such as processes=5")
        found[name.strip()] = value.strip()
    return found


def _policy(config: pytest.Config) -> str:
    return config.getoption("--benchbench-inconclusive") or _known(
        config.getini(INCONCLUSIVE) or "fail", INCONCLUSIVE
    )


def _known(policy: object, source: str) -> str:
    """A policy that there is.

    Raises:
        pytest.UsageError: it is none.
    """
    if policy not in POLICIES:
        from benchbench.errors import suggestion

        raise pytest.UsageError(
            f"{source} = {policy} is none of {', '.join(POLICIES)}."
            f"{suggestion(str(policy), POLICIES)}"
        )
    return str(policy)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that use the fixture carry the marker, so that ``-m`` selects them."""
    for item in items:
        if "benchbench" in _fixtures(item):
            item.add_marker("benchbench")


class Comparisons:
    """What the fixture ``benchbench`` gives to a test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node: pytest.Item = request.node
        self._config = request.config
        self._count = 0

    def compare(
        self,
        candidate: Callable[..., Any],
        baseline: Callable[..., Any],
        *,
        inputs: Callable[[int], Any],
        reference: Callable[..., Any] | None = None,
        check: Check = "tolerance",
        tolerance: Tolerance | None = None,
        **rules: Any,
    ) -> Verdict:
        """Check two callables against each other and time them: :func:`benchbench.pairs.compare`.

        Args:
            candidate: what is judged; importable by name, see there.
            baseline: what it is compared with.
            inputs: takes a seed and returns the arguments.
            reference: the same computation in float64.
            check: how outputs are compared.
            tolerance: how far they may lie apart.
            rules: of :class:`benchbench.claims.Rules`; they go before those of the marker.

        Raises:
            WrongResult: the results differ, an input was changed, or one of the two failed.
            UsageError: a callable cannot be imported in another process, or a rule is unknown.
        """
        from benchbench import pairs

        __tracebackhide__ = True
        self._count += 1
        timed = not self._config.getoption("--benchbench-skip")
        name = self._node.name + (f"-{self._count}" if self._count > 1 else "")
        shared, said = self._shared(self._rules(rules))
        entry = len(self._node.user_properties)
        self._node.user_properties.append((PROPERTY, ""))

        def measure() -> Verdict:
            return pairs.compare(
                candidate,
                baseline,
                inputs=inputs,
                reference=reference,
                check=check,
                tolerance=tolerance,
                rules=shared,
                name=name,
                timed=timed,
                store=_store(self._config),
                command=("pytest", self._node.nodeid),
            )

        return self._guarded(measure, entry, said)

    def _guarded(self, measure: Callable[[], Verdict], entry: int, said: str) -> Verdict:
        """Measure while nobody else does, and keep the line of the summary up to date."""
        from dataclasses import replace

        from benchbench.errors import BenchbenchError
        from benchbench.pairs import WrongResult

        __tracebackhide__ = True
        timed = not self._config.getoption("--benchbench-skip")
        with _alone(self._note) if timed else nullcontext(), _untraced():
            try:
                verdict = measure()
            except (WrongResult, BenchbenchError) as error:
                self._note(str(error).partition("\n")[0], entry)
                raise error.with_traceback(None) from None  # the line of the test says more
        self._note(verdict.line, entry)
        self._remember(verdict)
        known = verdict.more

        def more(settled: Callable[[Verdict], bool]) -> Verdict:
            __tracebackhide__ = True
            assert known is not None
            return self._guarded(lambda: known(settled), entry, said)

        return replace(
            verdict,
            notes=(*verdict.notes, *([said] if said and said not in verdict.notes else ())),
            more=None if known is None else more,
            inconclusive=self._inconclusive,
        )

    def _shared(self, rules: Rules) -> tuple[Rules, str]:
        """The rules in this session: who shares the error, and whether controls are carried.

        Also what a reader should know: which comparison's controls stand for this one's.
        """
        from dataclasses import replace

        if not rules.family:
            # Of -n too: each of its processes has collected all tests.
            tests = (i for i in self._node.session.items if "benchbench" in _fixtures(i))
            rules = replace(rules, family=max(1, sum(1 for _ in tests)))
        if rules.controls == "session":
            # A slow-down of a few margins that was found says nothing of a smaller one.
            for found, nodeid in self._config.stash.get(_SOUND, []):
                if _like(found) == _like(rules) and found.margin <= rules.margin:
                    return replace(rules, controls="none"), f"controls as they must be: {nodeid}"
        return rules, ""

    def _remember(self, verdict: Verdict) -> None:
        """Controls that came out right, for the comparisons that share them."""
        if verdict.controls and all(control.ok for control in verdict.controls):
            sound = self._config.stash.setdefault(_SOUND, [])
            sound.append((verdict.rules, self._node.nodeid))

    def _rules(self, given: dict[str, Any]) -> Rules:
        """The ini file's rules, then those of the markers from the outermost to the nearest, then
        those of the call, then the command line's: the later goes before the earlier.
        """
        from benchbench.errors import UsageError
        from benchbench.pairs import Rules

        merged = _assignments(self._config.getini(RULES), RULES)
        for mark in reversed(list(self._node.iter_markers("benchbench"))):
            if mark.args:
                raise UsageError(
                    f"@pytest.mark.benchbench{mark.args} takes keywords only, as in processes=9"
                )
            if "inconclusive" in mark.kwargs:
                _known(mark.kwargs["inconclusive"], "inconclusive")
            merged.update({k: v for k, v in mark.kwargs.items() if k != "inconclusive"})
        merged.update(given)
        merged.update(
            _assignments(self._config.getoption("--benchbench-rule"), "--benchbench-rule")
        )
        return Rules.of(merged)

    def _note(self, line: str, entry: int | None = None) -> None:
        """A line of the summary; with ``entry`` in the place of an earlier one."""
        if entry is None:
            self._node.user_properties.append((PROPERTY, line))
        else:
            self._node.user_properties[entry] = (PROPERTY, line)

    def _inconclusive(self, message: str) -> None:
        from benchbench.pairs import Inconclusive

        __tracebackhide__ = True
        # The comparison's own line may say faster where "faster by 1.2" stays open.
        self._note(f"inconclusive: {message.partition(chr(10))[0]}")
        policy = self._config.getoption("--benchbench-inconclusive")
        for mark in self._node.iter_markers("benchbench"):  # the nearest first
            if not policy and "inconclusive" in mark.kwargs:
                policy = _known(mark.kwargs["inconclusive"], "inconclusive")
        policy = policy or _policy(self._config)
        if policy == "xfail":
            pytest.xfail(f"inconclusive: {message}")
        if policy == "skip":
            pytest.skip(f"inconclusive: {message}")
        if policy == "fail":
            raise Inconclusive(
                f"{message}\n(--benchbench-inconclusive=xfail, skip or pass lets such a test "
                "through)"
            )


def _fixtures(item: pytest.Item) -> tuple[str, ...]:
    return tuple(getattr(item, "fixturenames", ()))


def _like(rules: Rules) -> tuple[object, ...]:
    """What must be the same for the controls of one comparison to stand for those of another."""
    return rules.device, rules.timer, rules.threads


@pytest.fixture
def benchbench(request: pytest.FixtureRequest) -> Comparisons:
    """Compare two callables: ``benchbench.compare(new, old, inputs=make).assert_not_slower()``."""
    return Comparisons(request)


def _store(config: pytest.Config) -> Path:
    """The directory of results; a test that changes the working directory does not move it."""
    from benchbench.store import default_directory

    given = config.getoption("--benchbench-store")
    return config.invocation_params.dir / (Path(given) if given else default_directory())


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    """One timed comparison at a time on this machine, whatever other pytest processes there are.

    Only comparisons wait for each other; what else runs on the machine goes on.
    """
    import getpass
    import tempfile
    from time import monotonic

    from filelock import FileLock, Timeout

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for this user, as in some containers
        user = str(os.getuid())
    lock = FileLock(Path(tempfile.gettempdir()) / f"benchbench-timing-{user}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        started = monotonic()
        lock.acquire()
        say(f"waited {monotonic() - started:.0f} s for another comparison on this machine to end")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _untraced() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in _TRACERS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for each comparison."""
    lines = [
        (report.nodeid, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY and value
    ]
    if not lines:
        return
    terminalreporter.section("benchbench")
    for nodeid, line in lines:
        terminalreporter.write_line(f"{nodeid}: {line}", yellow="inconclusive" in line)
    if getattr(config.option, "numprocesses", None):
        terminalreporter.write_line(
            "timed one at a time, but beside the other tests of -n: give them a call of their own, "
            "`pytest -m benchbench -n 0`, for narrow intervals"
        )
    if config.getoption("--benchbench-skip"):
        terminalreporter.write_line("not timed, because of --benchbench-skip")
    else:
        terminalreporter.write_line(f"stored in {_store(config)}: benchbench show last")
