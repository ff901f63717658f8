"""What the driver says of a GPU while contenders are timed on it: clocks, power, heat, throttling.

Asked through the module ``pynvml`` (distribution nvidia-ml-py, extra ``gpu``). What a device or
driver does not tell is left out. NVML's numbers are written out where the module has renamed them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

from benchbench.doctor.nvml import slowing

T = TypeVar("T")

_SM, _MEMORY, _CHIP = 1, 2, 0
"""NVML's numbers of two clocks and of the sensor on the chip."""
_VIOLATIONS = {0: "its power limit", 1: "heat", 3: "the board's limit"}
"""NVML's policies that lower clocks and count for how long they did."""
MISSING = (
    "GPU clocks, power and throttling are not recorded: nvidia-ml-py is not installed; "
    "`pip install 'benchbench[gpu]'`"
)


@dataclass(frozen=True, kw_only=True)
class State:
    """A GPU at one moment."""

    sm_clock: float | None = None
    memory_clock: float | None = None
    """MHz."""
    power: float | None = None
    """Watts."""
    temperature: float | None = None
    """Degrees Celsius."""

    def signals(self, suffix: str = "") -> dict[str, float]:
        """What is known, by name."""
        return {f"{k}{suffix}": float(v) for k, v in vars(self).items() if v is not None}


@dataclass(kw_only=True)
class Gauge:
    """Reads one GPU; about 0.1 ms a reading, outside timed regions."""

    nvml: Any
    handle: Any
    reasons: set[str] = field(default_factory=set)
    """What held its clocks down since the last :meth:`start`."""
    _violations: dict[int, int] = field(default_factory=dict)
    _unknown: set[str] = field(default_factory=set)
    """Questions that were refused once; they are not asked again."""

    def ask(self, name: str, *arguments: Any) -> Any:
        """An answer of NVML, or None where this device, driver or module knows none."""
        key = f"{name}{arguments}"
        if key in self._unknown:
            return None
        try:
            return getattr(self.nvml, name)(self.handle, *arguments)
        except (self.nvml.NVMLError, AttributeError, TypeError):
            self._unknown.add(key)
            return None

    def state(self) -> State:
        """Clocks, power and temperature now."""
        milliwatts = self.ask("nvmlDeviceGetPowerUsage")
        return State(
            sm_clock=self.ask("nvmlDeviceGetClockInfo", _SM),
            memory_clock=self.ask("nvmlDeviceGetClockInfo", _MEMORY),
            power=None if milliwatts is None else milliwatts / 1000,
            temperature=self.ask("nvmlDeviceGetTemperature", _CHIP),
        )

    def start(self) -> None:
        """Forget what was seen; count from now."""
        self.reasons.clear()
        self._violations = self._violated()

    def throttled(self) -> bool:
        """True when clocks are held down now, or were for a while since the last look."""
        mask = self.ask("nvmlDeviceGetCurrentClocksEventReasons")
        if mask is None:  # drivers before 535 know the old name only
            mask = self.ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        found = set(slowing(int(mask or 0)))
        now = self._violated()
        for policy, spent in now.items():
            if spent > self._violations.get(policy, spent):
                found.add(_VIOLATIONS[policy])
        self._violations = now
        self.reasons |= found
        return bool(found)

    def _violated(self) -> dict[int, int]:
        """Nanoseconds that each policy has lowered clocks so far."""
        found = {}
        for policy in _VIOLATIONS:
            status = self.ask("nvmlDeviceGetViolationStatus", policy)
            if status is not None:
                found[policy] = int(status.violationTime)
        return found


def nvml() -> ModuleType | None:
    """The module ``pynvml``, or None where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def gauge(torch: Any, module: Any) -> tuple[Gauge | None, str]:
    """A gauge of torch's current CUDA device, or None and why there is none.

    Args:
        torch: with a CUDA device.
        module: ``pynvml``, or None where it is not installed.
    """
    if module is None:
        return None, MISSING
    try:
        module.nvmlInit()
        return Gauge(nvml=module, handle=_handle(torch, module)), ""
    except Exception as error:  # the module raises AttributeError and OSError too
        why = str(error) or type(error).__name__
        return None, f"GPU clocks, power and throttling are not recorded: NVML says {why}"


def _handle(torch: Any, module: Any) -> Any:
    """The driver's handle of the device that torch works on, whatever is visible to torch."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    identity = getattr(properties, "uuid", None)
    if identity is not None:
        text = str(identity)
        name = text if text.startswith(("GPU-", "MIG-")) else f"GPU-{text}"
        with suppress(module.NVMLError):
            return module.nvmlDeviceGetHandleByUUID(name)
    return module.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())


def describe(found: Gauge) -> dict[str, Any]:
    """What a run's header says of the GPU beside its name: what decides how fast it is."""
    ask = found.ask

    def scaled(question: str, by: float) -> float | None:
        value = ask(question)
        return None if value is None else value / by

    def first(question: str) -> Any:
        answer = ask(question)
        return answer[0] if isinstance(answer, list | tuple) and answer else answer

    def on(value: Any) -> bool | None:
        return None if value is None else bool(value)

    facts: dict[str, Any] = {
        "driver": _system(found.nvml, "nvmlSystemGetDriverVersion"),
        "driver_cuda": _cuda_version(_system(found.nvml, "nvmlSystemGetCudaDriverVersion")),
        "power_limit": scaled("nvmlDeviceGetEnforcedPowerLimit", 1000),
        "power_limit_default": scaled("nvmlDeviceGetPowerManagementDefaultLimit", 1000),
        "sm_clock_most": ask("nvmlDeviceGetMaxClockInfo", _SM),
        "memory_clock_most": ask("nvmlDeviceGetMaxClockInfo", _MEMORY),
        "sm_clock": ask("nvmlDeviceGetClockInfo", _SM),
        "memory_clock": ask("nvmlDeviceGetClockInfo", _MEMORY),
        "temperature": ask("nvmlDeviceGetTemperature", _CHIP),
        "mig": on(first("nvmlDeviceGetMigMode")),
        "ecc": on(first("nvmlDeviceGetEccMode")),
        "persistence": on(ask("nvmlDeviceGetPersistenceMode")),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _system(module: Any, question: str) -> Any:
    ask: Callable[[], Any] | None = getattr(module, question, None)
    if ask is None:
        return None
    with suppress(module.NVMLError):
        answer = ask()
        return answer.decode() if isinstance(answer, bytes) else answer
    return None


def _cuda_version(number: Any) -> str | None:
    """13000 -> ``13.0``."""
    return None if number is None else f"{int(number) // 1000}.{int(number) % 1000 // 10}"


@dataclass(kw_only=True)
class Record:
    """The GPU's state before and after the samples of a case, and what held its clocks down."""

    gauge: Gauge
    before: State = State()
    after: State = State()

    def look(self) -> bool:
        """Before the first pass and after each; see :func:`benchbench.measure.take_passes`."""
        now = self.gauge.state()
        if self.before == State():
            self.gauge.start()
            self.before = now
        self.after = now
        return self.gauge.throttled()

    def signals(self) -> Mapping[str, float]:
        """For the rows of the case."""
        return {**self.before.signals("_before"), **self.after.signals()}

    def note(self) -> str:
        """What a reader should know, or an empty text."""
        reasons = ", ".join(sorted(self.gauge.reasons))
        return f"throttled ({reasons})" if reasons else ""
