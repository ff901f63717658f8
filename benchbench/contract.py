"""The nouns of benchbench, as frozen keyword-only dataclasses.

This module is the contract between all parts and with every plugin. It imports neither torch
nor numpy, so it costs nothing to import and can be used in the parent process, which never loads
either. Dataclasses grow only by fields with defaults.

Times are seconds, sizes are bytes, unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

Scalar = str | int | float | bool
Value = Scalar | tuple[Scalar, ...]
"""A point on an axis. Tuples are shapes: ``(4096, 768)`` is written ``4096x768``."""

Params = Mapping[str, Value]
"""One value for each axis of a workload."""

Grid = Mapping[str, Sequence[Value]]
"""Axis name to values; it stands for the cross product of them."""

Thunk = Callable[[], Any]
"""A zero-argument callable that does the work once and returns the output."""

Status = Literal["ok", "skipped", "failed", "wrong", "quarantined"]
Stage = Literal["prepare", "make", "build", "check", "warm-up", "time", "audit", ""]
Role = Literal["contender", "roof", "null", "control"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one call has to do at the least: compulsory memory traffic and arithmetic.

    ``bytes`` is the floor of the operation (every input read once, every output written once),
    not what a particular implementation moves. ``items`` are whatever the workload counts:
    elements, rows, images, draws; ``item`` names one.
    """

    bytes: float = 0.0
    flops: float = 0.0
    items: float = 0.0
    item: str = "item"


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an output may lie from the float64 reference.

    A contender passes when ``error <= factor * baseline_error + units * eps(dtype)``, for the
    largest and for the root-mean-square error. The baseline itself passes when its largest error
    is at most ``absolute``, or ``sqrt(eps(dtype))`` where that is None. Errors are relative:
    ``|output - reference| / (|reference| + rms(reference))``, ``eps`` is that of the output dtype.
    """

    factor: float = 4.0
    units: float = 1.0
    absolute: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a workload's own ``check`` may look at."""

    output: Any
    inputs: Any
    params: Params
    calls: int
    """How many calls this contender has made since it was built, this one included."""
    reference: Any = None
    timed: bool = False
    """True when ``output`` came out of a timed region."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A problem: what goes in, what has to come out, and on which axes it varies.

    ``make(params, seed)`` returns the inputs that all contenders of a case share; they are
    read-only. Use :class:`benchbench.Inputs` unless you need a shape of your own.

    With a ``reference`` (the same computation in float64, same structure as the output) contenders
    must be *equivalent*. Without one the workload is a *tournament*: only ``check`` judges.
    ``check(evidence)`` returns None or the reason why the output is wrong.

    With a ``reference`` and ``tolerance=None`` the workload is a tournament too: the reference may
    be anything (the expected mean and its standard error, the ideal image), is not compared by the
    core, and reaches ``check`` (as ``evidence.reference``) and ``metrics``.
    """

    name: str
    """``kind/task``. The kind groups and selects; no code interprets it."""
    make: Callable[[Params, int], Any]
    baseline: str
    """Name of the implementation that the others are compared with."""
    doc: str = ""
    axes: Grid = field(default_factory=dict)
    """Every axis with its known values. ``device`` is the only one that the core reads."""
    presets: Mapping[str, Grid | Sequence[Grid]] = field(default_factory=dict)
    """``quick``, ``standard``, ``full``: each a grid or several; an axis left out of a grid takes
    the first value of ``axes``. A preset left out falls back to the next smaller one; one
    without grids leaves the workload out, unless it is asked for by name."""
    reference: Callable[[Any], Any] | None = None
    tolerance: Tolerance | None = Tolerance()
    check: Callable[[Evidence], str | None] | None = None
    work: Callable[[Params], Work] | None = None
    metrics: Callable[[Any, Any], Mapping[str, float]] | None = None
    """``metrics(output, reference)``: quality columns that stand beside speed."""
    stateful: bool = False
    """The thunk advances a state of its own (an optimizer): outputs may be the same buffers each
    time, and the reference is compared after ``check_calls`` calls on a fresh contender."""
    check_calls: int = 1
    tail: bool = False
    """The slowest calls matter (a request, a frame): a sample is one call, a process takes at least
    40 of each contender, and the table has the quantiles p90 and p99 beside the median."""
    renewed: Sequence[str] | None = None
    """Inputs whose values differ from call to call in use, so that no contender may keep what
    follows from them. They get other values (``make`` with another seed) in the same buffers, and
    outputs must follow. None: the first tensor among the arguments, and the cotangents. Empty:
    none. Needs ``reference`` and ``tolerance``; not for ``stateful`` workloads."""
    open_axes: Sequence[str] = ()
    """Axes of text whose listed values are examples: the command line takes any other (the name of
    a model, say), and ``make`` says what is wrong with one that does not exist."""

    @property
    def kind(self) -> str:
        """Text before the slash."""
        return self.name.split("/", 1)[0]


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One way to do a workload. ``build(inputs)`` returns the thunk that is timed.

    ``inputs`` are shared with the other contenders and read-only: what a thunk mutates it copies
    in ``build``. ``unavailable(params)`` returns why it cannot run here, or None. ``prepare()``
    is one-time work for the machine (compiling kernels, say); it runs once per run, before any
    timing, in the first worker.
    """

    workload: str
    name: str
    build: Callable[[Any], Thunk]
    unavailable: Callable[[Params], str | None] | None = None
    prepare: Callable[[], object] | None = None
    doc: str = ""
    presets: Sequence[str] | None = None
    """Presets in which it runs unless selected by name; None for all."""
    pair: str = ""
    """Contenders of a case with the same text here are timed right after one another."""

    @property
    def id(self) -> str:
        """``workload:name``, unique over all plugins."""
        return f"{self.workload}:{self.name}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A workload at one point of its axes, with the seed of its inputs."""

    workload: str
    params: Params
    seed: int = 0
    untimed: tuple[str, ...] = ()
    """Contenders that are checked (what others may be off by follows from them) but not timed."""

    @property
    def id(self) -> str:
        """``kind/task[axis=value,...]`` in the order of the workload's axes."""
        inside = ",".join(f"{axis}={format_value(value)}" for axis, value in self.params.items())
        return f"{self.workload}[{inside}]"

    @property
    def device(self) -> str:
        """Value of the ``device`` axis, or ``cpu``."""
        return str(self.params.get("device", "cpu"))


@dataclass(frozen=True, kw_only=True)
class PlannedCase:
    """A case with the contenders that meet in it; the baseline is always among them."""

    case: Case
    baseline: str
    contenders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An implementation with its built thunk, inside a worker."""

    implementation: Implementation
    thunk: Thunk
    role: Role = "contender"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """Where a contribution came from."""

    plugin: str = ""
    distribution: str = ""
    version: str = ""
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """A plugin as found, loaded or failed."""

    provider: Provider
    status: Literal["ok", "failed", "blocked"] = "ok"
    reason: str = ""
    """One line; set when the plugin failed, in whole or in one hook."""
    detail: str = ""
    """Traceback of the plugin's own frames."""
    workloads: tuple[str, ...] = ()
    implementations: tuple[str, ...] = ()
    timers: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a run measures. All of it is stored in the run's header."""

    preset: str = "quick"
    processes: int = 5
    """Fresh worker processes, the replicates."""
    budget: float = 0.15
    """Timed seconds for each case and process, over all its contenders (the goal, not a cap: every
    contender gets at least ``min_passes`` samples)."""
    min_passes: int = 2
    max_passes: int = 40
    sample_seconds: float = 0.01
    """Least duration of one sample; calls per sample are calibrated to it."""
    warmup: float = 0.1
    """Most seconds of warm-up for each contender."""
    timer: str = "auto"
    threads: int = 0
    """Intra-op threads; 0 takes the physical cores that this process may use."""
    timeout: float = 180.0
    """Seconds that one stage of one contender may take before its worker is killed."""
    memory_limit: int = 0
    """Resident bytes at which a worker is killed; 0 takes 80 % of what is available."""
    seed: int = 0
    roof: bool = True
    """Time a copy of the compulsory bytes beside the contenders of each case."""
    cache: str = "hot"
    """``cold``: calls go round sets of inputs that together are five times the last cache."""
    profile: str = ""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """``calls`` calls in a row, as one timer saw them."""

    elapsed: float
    """Total for all calls, in the timer's unit."""
    calls: int
    output: Any = None
    """What the last call returned."""
    doubtful: str = ""
    """Why this sample should be quarantined (clocks that disagree), or empty."""
    host: float = 0.0
    """Seconds that the calls kept the host, where that is not what was timed; 0 where it is."""
    starved: bool = False
    """The device waited for the host between calls, so ``elapsed`` has the host's time in it."""
    taken_by: str = ""
    """Name of the timer that took it in place of the one that was asked, or empty."""
    remark: str = ""
    """Why another timer took it, or empty."""


@runtime_checkable
class Timer(Protocol):
    """Takes samples; never owns the loop over repetitions.

    It may have more: ``host_clock = True`` says that it reads the host's clock, which a second one
    must bear out; ``replays = True`` that it repeats recorded work, which cannot advance a state;
    ``forget()`` drops what it keeps of thunks, and is called after each case.
    """

    name: str
    unit: str
    """``s`` or ``instructions``."""

    def unavailable(self, device: str) -> str | None:
        """Why this timer cannot time on ``device``, or None."""

    def sample(self, thunk: Thunk, calls: int) -> Sample:
        """Call ``thunk`` ``calls`` times and time them all together."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One contender in one case in one worker process. One line of the store."""

    case: str
    workload: str
    params: Params
    contender: str
    baseline: str
    process: int
    status: Status
    role: Role = "contender"
    provider: Provider = Provider()
    reason: str = ""
    stage: Stage = ""
    seed: int = 0
    timer: str = ""
    unit: str = "s"
    calls: int = 0
    """Calls per sample."""
    samples: tuple[float, ...] = ()
    """Time per call, one entry for each pass. Entry ``i`` of every contender of the same case and
    process was taken in the same pass; passes ``2b`` and ``2b+1`` are one ABBA block."""
    errors: Mapping[str, float] = field(default_factory=dict)
    """``max``, ``rms`` (relative, see :class:`Tolerance`), ``allowed``, ``eps``."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    signals: Mapping[str, float] = field(default_factory=dict)
    """Per call: ``minor_faults``, ``context_switches``; shares: ``system``, ``steal``, ``starved``
    and ``throttled`` (of the samples); bytes: ``peak_memory``, ``output_bytes``; counts:
    ``audited``, ``doubtful``, ``input_sets``; seconds: ``build``, ``check``, ``host`` (per call);
    of a GPU before (``_before``) and after the samples: ``sm_clock`` and ``memory_clock`` (MHz),
    ``power`` (W), ``temperature`` (degrees Celsius)."""
    notes: tuple[str, ...] = ()
    """What a reader should know of this row, in short words (``page faults``, ``stolen time``)."""
    work: Work | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stored run, read back."""

    id: str
    header: Mapping[str, Any]
    """``started``, ``command``, ``settings``, ``environment``, ``plugins``, ``cases``."""
    results: tuple[Result, ...] = ()
    processes: tuple[Mapping[str, Any], ...] = ()
    """What each worker said of itself: ``process``, ``environment``, ``floor`` (seconds of an empty
    call)."""
    events: tuple[Mapping[str, Any], ...] = ()
    complete: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """Turns a run into text. ``render`` runs in a worker when it comes from a plugin."""

    name: str
    render: Callable[[Run], str]
    doc: str = ""
    suffix: str = ".txt"


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What an engine needs to start one worker."""

    process: int
    settings: Settings
    plugins: Mapping[str, Any]
    """Loader options: ``files``, ``allowed``, ``blocked`` (see ``benchbench.plugins``)."""
    interpreter: str = ""
    """Path of the Python that the worker runs in; that of the parent when empty."""
    path: tuple[str, ...] = ()
    """Directories from which the worker imports before all others."""


class Connection(Protocol):
    """The parent's end of one running worker."""

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; a dead worker is not an error here, ``receive`` tells."""

    def receive(self, timeout: float) -> Mapping[str, Any] | None:
        """Next message, None after ``timeout`` seconds; raises ``errors.WorkerDied``."""

    def resident_bytes(self) -> int:
        """Memory of the worker and its children, 0 when not known."""

    def log(self) -> str:
        """Last part of what the worker printed."""

    def close(self, timeout: float = 5.0) -> None:
        """Ask the worker to end, then make it."""

    def kill(self) -> None:
        """End the worker and its children at once."""


@runtime_checkable
class Engine(Protocol):
    """Starts workers somewhere; the worker and the protocol are always the same."""

    name: str

    def unavailable(self) -> str | None:
        """Why workers cannot be started, or None."""

    def start(self, spec: WorkerSpec) -> Connection:
        """Start one fresh worker process."""


def format_value(value: Value) -> str:
    """Write an axis value as the command line and tables show it: ``(8, 64)`` as ``8x64``."""
    if isinstance(value, tuple):
        return "x".join(format_value(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def freeze(value: Any) -> Value:
    """Turn lists (as JSON has them) back into tuples."""
    if isinstance(value, list | tuple):
        return tuple(freeze(part) for part in value)  # type: ignore[misc]
    if isinstance(value, str | int | float | bool):
        return value
    raise TypeError(
        f"an axis value must be text, a number, true/false or a tuple of them, not {value!r}"
    )
