"""Checks one case's contenders: before they are timed, on what was timed, and on shared inputs."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchbench import checks, device, outputs
from benchbench.contract import Evidence, Params, Stage, Tolerance, Workload
from benchbench.fingerprint import Shared
from benchbench.guards import GlobalState, RandomState
from benchbench.heap import FILL, Perturbed
from benchbench.integrity import Integrity
from benchbench.measure import Entrant
from benchbench.plugins import describe_error
from benchbench.signals import CudaPeakMemory, PeakMemory
from benchbench.structures import Spec, total_bytes
from benchbench.threads import Threads

log = logging.getLogger("benchbench")


def explain(error: BaseException) -> str:
    """``ValueError: message (file.py:12)`` on one line: the place is where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    text = describe_error(error)
    return (text if len(text) <= 500 else text[:497] + "...") + place


class Guard:
    """Runs one step of one contender; what goes wrong in it stays with that contender."""

    def __init__(
        self,
        announce: Callable[[str, Stage], None],
        seed: int,
        end_stray: Callable[[], None],
        strays: Callable[[float], set[str]],
        integrity: Integrity | None = None,
        threads: Threads | None = None,
        device_lost: Callable[[str], None] | None = None,
    ) -> None:
        self.announce = announce
        self._device_lost = device_lost
        self._threads = threads
        self._integrity = integrity
        self._random = RandomState(seed)
        self._end_stray = end_stray
        self._strays = strays
        self._forked: set[str] = set()
        self._state = GlobalState()

    def attempt(self, entrant: Entrant, stage: Stage, step: Callable[[], Any]) -> Any:
        """Result of the step, or None when the entrant was rejected in it.

        Global torch state that the step changed is put back and makes the entrant wrong; random
        generators are put back before ``build`` and ``check``, so that all contenders draw the
        same numbers there.
        """
        self.announce(entrant.name, stage)
        if stage in ("build", "check"):
            self._random.restore()
        value = None
        try:
            value = step()
            if stage != "time":  # a timed sample has waited
                device.wait()
        except BaseException as error:
            self._end_stray()
            self.see_device(error)
            entrant.reject("failed", stage, explain(error))
        self._end_stray()
        changed = self._state.restore()
        if changed:
            entrant.reject("wrong", stage, changed)
        self._forked |= self._strays(0.25 if stage in ("build", "check") else 0.0)
        self.see_surroundings(entrant, stage)
        if self._threads is not None:
            self._threads.note(entrant.name)
        if entrant.name in self._forked:
            entrant.reject("failed", stage, "it forked, and the child came back out of the call")
        return value if entrant.alive else None

    def see_device(self, error: BaseException) -> None:
        """After an error: a process whose CUDA context is gone can run nobody's code any more.

        Whoever was announced last is in hand; the worker ends, and a new one carries on.
        """
        if self._device_lost is not None and device.lost():
            self._device_lost(explain(error))

    def see_surroundings(self, entrant: Entrant, stage: Stage) -> None:
        """Reject the contender that just ran when functions were replaced.

        After a timed sample only timers and clocks are looked at; the rest follows when the
        contender is audited.
        """
        if self._integrity is None:
            return
        replaced = self._integrity.restore(deep=stage != "time")
        if replaced:
            entrant.status = "ok"  # explains whatever else was found
            entrant.reject("wrong", stage, replaced)

    def let_finish(self, entrant: Entrant) -> None:
        """Wait a little for threads that the contender started, if there are any."""
        if self._threads is not None:
            self._threads.let_finish(entrant.name)

    def restore(self) -> None:
        """Put global state back after the workload's own code."""
        self._state.restore()
        self._random.restore()


class Checker:
    """Everything that decides whether a contender of this case is right.

    Args:
        workload: whose reference, tolerance and check apply.
        params: point of the case.
        shared: the inputs.
        remake: makes the inputs again from the seed.
        reference: output of the workload's reference, or None.
        guard: runs the contenders' code.
        weigh: measure peak memory too. That gives freed memory back to the kernel, and getting it
            again costs milliseconds, so it is done in one process only.
    """

    def __init__(
        self,
        workload: Workload,
        params: Params,
        shared: Shared,
        remake: Callable[[], Any],
        reference: Any,
        guard: Guard,
        weigh: bool = True,
    ) -> None:
        self.weigh = weigh
        self._workload = workload
        self._params = params
        self._shared = shared
        self._remake = remake
        self._raw_reference = reference
        self._guard = guard
        self._tolerance: Tolerance | None = workload.tolerance
        self._reference: checks.Reference | None = None
        if workload.reference is not None and self._tolerance is not None:
            self._reference = checks.Reference(reference)
        self._baseline_errors: checks.Errors | None = None
        self._baseline_specs: tuple[Spec, ...] | None = None
        self._may_alias: set[str] = set()
        self._baseline_kinds: outputs.Kinds | None = None
        self._compared: dict[outputs.Reading, tuple[checks.Errors, str]] = {}
        self.first: dict[str, outputs.Reading] = {}
        """Values of each contender's checked output."""
        self.built: Sequence[Entrant] = ()
        """All contenders of the case."""
        self.broken = ""
        """Why nothing of this case can be trusted any more, or an empty text."""

    @property
    def inputs(self) -> Any:
        """What all contenders read."""
        return self._shared.inputs

    def check(self, entrant: Entrant) -> None:
        """Call the fresh contender, and reject it when anything about its output is wrong."""
        started = perf_counter_ns()
        self._check(entrant)
        entrant.signals["check"] = (perf_counter_ns() - started) * 1e-9

    def _check(self, entrant: Entrant, *, again: bool = False) -> None:
        output, glance, reading = self._first_output(entrant) or (None, (), ())
        if not entrant.alive:
            self._see_inputs(entrant)
            return
        entrant.specs = checks.signature(output)
        entrant.signals["output_bytes"] = float(total_bytes(output))
        if self._see_inputs(entrant):
            return
        if self._is_inputs_memory(entrant, output):
            return
        self.first[entrant.name] = reading
        errors, reason = self._compare(entrant, output, reading)
        # Rather than what is wrong with it: an output that is not finished is wrong in some way.
        reason = self._still_changing(entrant, output, glance, reading) or reason
        if reason and self._find_changers([entrant]):
            # Somebody else's change to the inputs made this output differ: ask again.
            if again and entrant.alive:
                self.broken = "the inputs change while nobody runs who could be named"
            if entrant.alive and not self.broken:
                self._check(entrant, again=True)
            return
        if reason:
            unwritten = checks.unwritten(output, FILL)
            entrant.reject("wrong", "check", unwritten or reason)
            if not unwritten:
                entrant.reason += self._second_opinion(entrant, reading)
        if entrant.alive:
            self._ask_workload(entrant, output, "check")
        if entrant.alive:
            self._check_second_output(entrant, output)
        if entrant.alive and self._workload.metrics is not None:
            self._measure_quality(entrant, output)
        if entrant.alive and entrant.name == self._workload.baseline:
            self._baseline_kinds = outputs.kinds(output)
            self._baseline_errors, self._baseline_specs = errors, entrant.specs
        self._see_inputs(entrant)

    def _second_opinion(self, entrant: Entrant, wrong: outputs.Reading) -> str:
        """Whether a wrong output comes out right when asked for again, to say so beside the reason.

        A race in the contender, or memory that somebody else broke, is looked for elsewhere than a
        mistake in its arithmetic. The contender is rejected already: what else goes wrong here does
        not take the place of the reason.
        """
        if self._workload.stateful:
            return ""
        found: list[tuple[Any, outputs.Glance, outputs.Reading]] = []
        self._fill_free_memory()
        self._guard.attempt(entrant, "check", lambda: found.append(self._fresh_output(entrant)))
        output, _, reading = found[0] if found else (None, (), ())
        if not reading or reading == wrong:
            return ""
        if self._compare(entrant, output, reading)[1]:
            return "; the next call gave another wrong output"
        return "; the next call's output is right, so its results differ from call to call"

    def _read(self, entrant: Entrant, output: Any, stage: Stage) -> outputs.Reading:
        """Values of an output that a call just returned; none for one that may not be there yet."""
        expected = self._baseline_kinds if entrant.name != self._workload.baseline else None
        compared = self._reference is not None and entrant.name != self._workload.baseline
        reason = outputs.deferral(output, expected, compared=compared)
        if reason:
            entrant.reject("wrong", stage, reason)
            return ()
        return outputs.read(output)

    def _still_changing(
        self, entrant: Entrant, output: Any, glance: outputs.Glance, reading: outputs.Reading
    ) -> str:
        self._guard.let_finish(entrant)
        if outputs.glance(output) == glance and outputs.read(output) == reading:
            return ""
        return "its output changed after the call had returned: it was not finished"

    def _first_output(self, entrant: Entrant) -> Any:
        """Output of the call that the reference is compared with, and its values right then."""
        self._fill_free_memory()
        return self._guard.attempt(entrant, "check", lambda: self._fresh_output(entrant))

    def _fill_free_memory(self) -> None:
        if self._baseline_specs is not None and not self._workload.stateful:
            checks.poison(self._baseline_specs, 2)

    def _fresh_output(self, entrant: Entrant) -> tuple[Any, outputs.Glance, outputs.Reading]:
        """An output, a glance at it as soon as it is there, and its values."""
        with Perturbed():
            for _ in range(self._workload.check_calls - 1):
                entrant.call()
            if not self._workload.stateful:
                output = entrant.call()
                return output, outputs.glance(output), self._read(entrant, output, "check")
        output = self._weighed_call(entrant)
        return output, outputs.glance(output), self._read(entrant, output, "check")

    def _weighed_call(self, entrant: Entrant) -> Any:
        """One call, with its peak of memory in the entrant's signals when that is asked for."""
        if not self.weigh:
            return entrant.call()
        on_gpu = str(self._params.get("device", "cpu")).startswith("cuda")
        with CudaPeakMemory() if on_gpu else PeakMemory() as peak:
            output = entrant.call()
        if peak.bytes is not None:
            entrant.signals["peak_memory"] = float(peak.bytes)
        return output

    def _compare(
        self, entrant: Entrant, output: Any, key: outputs.Reading
    ) -> tuple[checks.Errors, str]:
        """Errors against the reference and what is wrong, for the values alone."""
        if self._reference is None or self._tolerance is None:
            return {}, ""
        is_baseline = entrant.name == self._workload.baseline
        if not is_baseline and self._baseline_specs is not None:
            reason = checks.signature_fault(
                checks.signature(output), self._baseline_specs, "the baseline's is"
            )
            if reason:
                return {}, reason
        # The same bits have the same errors: most audits, and contenders that share a kernel, cost
        # a checksum only.
        if key not in self._compared:
            self._compared[key] = self._reference.compare(output)
        errors, reason = self._compared[key]
        if reason:
            return errors, reason
        row, reason = checks.judge(
            errors, None if is_baseline else self._baseline_errors, self._tolerance
        )
        if not entrant.errors:
            entrant.errors = row
        return errors, reason

    def _is_inputs_memory(self, entrant: Entrant, output: Any) -> bool:
        """Reject a contender whose output is an input's memory where the baseline's is not."""
        found = checks.aliases(output, self._shared.inputs)
        if entrant.name == self._workload.baseline:
            self._may_alias = set(found)
        reason = checks.alias_fault(found, self._may_alias)
        if reason:
            entrant.reject("wrong", "check", reason)
        return bool(reason)

    def _check_second_output(self, entrant: Entrant, output: Any) -> None:
        """Two outputs that are held at once must not be the same memory."""
        if self._workload.stateful:
            return
        second = self._guard.attempt(entrant, "check", lambda: self._weighed_call(entrant))
        if not entrant.alive:
            return
        both = [path for path in checks.shared_parts(second, output) if path not in self._may_alias]
        if both:
            entrant.reject(
                "wrong",
                "check",
                f"two outputs held at once are the same memory (output{both[0]}): a result is "
                "kept and handed out again",
            )

    def _ask_workload(self, entrant: Entrant, output: Any, stage: Stage) -> None:
        check = self._workload.check
        if check is None:
            return
        evidence = Evidence(
            output=output,
            inputs=self._shared.inputs,
            params=self._params,
            calls=entrant.made,
            reference=self._raw_reference,
            timed=stage == "audit",
        )
        try:
            reason = check(evidence)
        except BaseException as error:
            self._guard.see_device(error)
            entrant.reject("failed", stage, f"the workload's check raised {explain(error)}")
        else:
            if reason is not None:
                entrant.reject("wrong", stage, str(reason) or "the workload's check says so")
        self._guard.restore()

    def _measure_quality(self, entrant: Entrant, output: Any) -> None:
        assert self._workload.metrics is not None
        try:
            metrics = self._workload.metrics(output, self._raw_reference)
            entrant.metrics = {str(name): float(value) for name, value in metrics.items()}
        except BaseException as error:
            self._guard.see_device(error)
            entrant.reject("failed", "check", f"the workload's metrics raised {explain(error)}")
        self._guard.restore()

    def poison(self, entrant: Entrant) -> None:
        """Fill free memory that the contender's next outputs may get."""
        if not self._workload.stateful:
            checks.poison(entrant.specs)

    def audit(self, entrant: Entrant, output: Any, glance: outputs.Glance) -> None:
        """Check an output that came out of a timed region like the first.

        Args:
            entrant: whose output it is.
            output: of the last call of a sample.
            glance: what lay in its memory when the sample was over.
        """
        self._guard.announce(entrant.name, "audit")
        reading = self._read(entrant, output, "audit")
        reason = ""
        if entrant.alive and not self._workload.stateful:
            reason = self._compare(entrant, output, reading)[1]
        if entrant.alive:
            reason = self._still_changing(entrant, output, glance, reading) or reason
        self._guard.see_surroundings(entrant, "audit")
        if reason and self._find_changers([entrant]):
            return
        if reason:
            entrant.reject("wrong", "audit", f"in a timed sample: {reason}")
        if entrant.alive:
            self._ask_workload(entrant, output, "audit")

    def _see_inputs(self, entrant: Entrant) -> bool:
        """Reject the contender that just ran when the inputs are not what they were."""
        path = self._shared.changed(content=False)
        if not path:
            return False
        entrant.status = "ok"  # changing the inputs explains whatever else was found
        entrant.reject("wrong", "check", f"it changed the shared input {path!r}")
        self._restore()
        return True

    def _restore(self) -> None:
        self._guard.restore()
        try:
            failure = self._shared.restore(self._remake())
        except BaseException as error:
            failure = f"make raised {explain(error)}"
        self._guard.restore()
        if failure and not self.broken:
            self.broken = f"a contender changed the inputs, which cannot be restored: {failure}"

    def verify_inputs(self, entrants: Sequence[Entrant]) -> None:
        """After timing: every byte of the inputs must be what it was; else name who changed it."""
        if not self._shared.changed(content=True):
            return
        if not self._find_changers(entrants, known=True):
            for entrant in entrants:
                entrant.reject(
                    "wrong",
                    "time",
                    "the inputs changed while it and others were timed, by one that could not be "
                    "told when each was called alone",
                )

    def _find_changers(self, entrants: Sequence[Entrant], *, known: bool = False) -> bool:
        """Call contenders one at a time on restored inputs and reject those that change them.

        Returns True when the inputs had been changed by anybody. All contenders that were ever
        built are called, those of ``entrants`` first.
        """
        if not known and not self._shared.changed(content=True):
            return False
        self._restore()
        named = False
        suspects = [*entrants, *(e for e in self.built if e not in entrants)]
        for entrant in suspects:
            if self.broken or not entrant.alive or entrant.thunk is None:
                continue
            self._guard.attempt(entrant, "check", entrant.call)
            path = self._shared.changed(content=True)
            if path:
                named = True
                entrant.status = "ok"
                entrant.reject("wrong", "check", f"it changed the shared input {path!r}")
                self._restore()
        return named or not known
