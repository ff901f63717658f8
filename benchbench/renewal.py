"""Other values in the same buffers: does a contender compute, or hand out what it kept?

All calls of a case read the same buffers, so a contender that computes once and then returns copies
is right in every comparison. Here an input gets other values in place, everybody is called, and the
answers are compared with a reference for those values, which is computed only afterwards: while a
contender runs, no right answer is in memory.

A contender that looks whether values changed is slow where they did. So it is timed on values that
it cannot have met and on the same again, after the same preparation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from statistics import median
from time import perf_counter_ns, sleep
from typing import Any

from benchbench import checks, outputs
from benchbench.contract import Params, Stage, Timer, Workload
from benchbench.fingerprint import Shared
from benchbench.inputs import Inputs
from benchbench.measure import Entrant
from benchbench.structures import is_array, is_tensor, leaves, total_bytes

log = logging.getLogger("benchbench")

Attempt = Callable[[Entrant, Stage, Callable[[], Any]], Any]

HELD_BYTES = 1 << 30
"""Outputs kept until the reference is computed; beyond that it is computed first."""
ATTEMPTS = 5
"""Of two calls in quick succession, until nothing has interrupted them."""
COMPARISONS, SPARED = 12, 1
"""Pairs of calls of which all but so many must show a look-up. A busy neighbour makes calls of
several threads ten times longer at random: then the new one is so much slower in a quarter of all
pairs at the most, and in 11 of 12 once in 500 000 times."""
BURST_SECONDS = 5e-4
WRITTEN_PER_SECOND = 2e9
"""Calls with no more than this between them follow each other as timed ones do."""
REST_SECONDS = 0.02
"""Before such calls are made again: nobody takes the next for one that follows at once."""
LENIENCE = 16.0
"""What is allowed on other values, over what is on the case's own: the largest errors of an honest
contender differ by a few times between values, those of a result that was kept by far more."""
RATIO = 2.0
SLACK = 5e-6
"""A call on new values that takes more than ``RATIO`` times one on old values and ``SLACK`` seconds
more shows a look-up."""


def renewed_inputs(workload: Workload, inputs: Any) -> dict[str, Any]:
    """The leaves that get other values, by path.

    Those that the workload names; else the first tensor among the arguments (what torch calls
    ``input``: weights and constants, which a contender may prepare when it is built, follow it) and
    the cotangents.
    """
    found = {
        path.lstrip("."): leaf
        for path, leaf in leaves(inputs)
        if (is_tensor(leaf) or (is_array(leaf) and leaf.ndim)) and "'model'" not in path
    }
    if workload.renewed is not None:
        return {path: leaf for path, leaf in found.items() if _name(path) in workload.renewed}
    if isinstance(inputs, Inputs):
        names = [name for name in inputs.arguments if name in found][:1]
        return {
            path: leaf
            for path, leaf in found.items()
            if path in names or path.startswith("cotangent ")
        }
    return dict([*found.items()][:1])


def _name(path: str) -> str:
    """``x`` of ``x``, ``['x']`` and ``x[0]``."""
    return path.lstrip("['").split("[")[0].split(".")[0].split("'")[0]


class Renewal:
    """Examines the contenders of one case with other values in their inputs.

    Args:
        workload: whose ``make`` gives the values and whose reference judges.
        params: point of the case.
        seed: of the case.
        shared: the inputs.
        attempt: runs a step of an entrant.
        restore: puts global state back after the workload's own code.
    """

    def __init__(
        self,
        workload: Workload,
        params: Params,
        seed: int,
        shared: Shared,
        attempt: Attempt,
        restore: Callable[[], None],
    ) -> None:
        self._workload = workload
        self._params = params
        self._seed = seed
        self._shared = shared
        self._attempt = attempt
        self._restore = restore
        self._round = 0
        self._leaves: Mapping[str, Any] = {}
        self._copies: list[Mapping[str, Any]] = []
        if workload.reference is not None and workload.tolerance and not workload.stateful:
            self._leaves = renewed_inputs(workload, shared.inputs)

    @property
    def possible(self) -> bool:
        """True where values can be replaced and a reference can judge."""
        return bool(self._leaves)

    def spread(self, copies: Sequence[Any]) -> None:
        """From now on calls read these inputs in turn with the first ones: write to all."""
        self._copies = [{path.lstrip("."): leaf for path, leaf in leaves(copy)} for copy in copies]

    def _put(self, values: Mapping[str, Any]) -> None:
        """Other values into the buffers of all sets of inputs."""
        for path, leaf in self._leaves.items():
            _write(leaf, values[path])
            for copy in self._copies:
                _write(copy[path], values[path])

    def examine(
        self,
        entrants: Sequence[Entrant],
        timer: Timer,
        stage: Stage,
        rng: Random,
        before: Mapping[str, outputs.Reading],
        *,
        look_ups: bool = True,
        take: Callable[[Entrant], Any] | None = None,
    ) -> None:
        """Call everybody on other values and reject who does not follow.

        Args:
            entrants: all that are alive, the baseline among them.
            timer: for the time of a call.
            stage: of a rejection.
            rng: order of the calls.
            before: outputs for the case's own values, by entrant.
            look_ups: compare times on new values with those on old ones too.
            take: takes a sample like a timed one, and gives its output; without it everybody is
                called once on the case's own values and right after that on the others.
        """
        if not self._leaves or not any(e.name == self._workload.baseline for e in entrants):
            return
        kept = {path: _copy(leaf) for path, leaf in self._leaves.items()}
        try:
            if self._renew():
                call = take or partial(self._call_twice, kept, stage)
                self._compare_all(entrants, call, stage, rng, before)
                if look_ups:
                    for entrant in entrants:
                        if entrant.alive:
                            self._look_for_look_ups(entrant, timer, stage)
        finally:
            self._put(kept)
            self._shared.accept_surfaces()

    def _values(self, number: int) -> dict[str, Any] | None:
        """Values of round ``number``; None when they do not fit into the buffers."""
        made = self._workload.make(self._params, (self._seed + 7919 * number + 1) % (1 << 31))
        self._restore()
        found = {path.lstrip("."): leaf for path, leaf in leaves(made)}
        for path, leaf in self._leaves.items():
            other = found.get(path)
            if other is None or other.shape != leaf.shape or other.dtype != leaf.dtype:
                return None
        return {path: found[path] for path in self._leaves}

    def _renew(self) -> bool:
        self._round += 1
        try:
            values = self._values(self._round)
            if values is None:
                self._leaves = {}
                return False
            self._put(values)
        except Exception as error:
            # The workload cannot make other values, or not into these buffers: nobody's fault.
            log.debug("no other values for %s: %r", self._workload.name, error)
            self._restore()
            return False
        return True

    def _compare_all(
        self,
        entrants: Sequence[Entrant],
        call: Callable[[Entrant], Any],
        stage: Stage,
        rng: Random,
        before: Mapping[str, outputs.Reading],
    ) -> None:
        hold = sum(e.signals.get("output_bytes", 0.0) for e in entrants) <= HELD_BYTES
        order = rng.sample(list(entrants), len(entrants))
        order.sort(key=lambda e: not hold and e.name != self._workload.baseline)
        expected = None if hold else self._expect()
        found: dict[str, tuple[checks.Errors, str]] = {}
        answers: list[tuple[Entrant, Any]] = []
        for entrant in order:
            output = call(entrant)
            if not entrant.alive:
                continue
            if hold:
                answers.append((entrant, output))
            elif expected is not None:
                found[entrant.name] = expected.compare(output)
                self._note_replay(entrant, output, found, before)
        if hold:
            expected = self._expect()
            for entrant, output in answers:
                if expected is not None:
                    found[entrant.name] = expected.compare(output)
                    self._note_replay(entrant, output, found, before)
        self._judge(entrants, stage, found)

    def _call_twice(self, kept: Mapping[str, Any], stage: Stage, entrant: Entrant) -> Any:
        """Output for the other values, right after a call for the case's own.

        Who hands out copies when calls follow each other fast gives the copy of the first.
        """
        other = {path: _copy(leaf) for path, leaf in self._leaves.items()}
        # Writing the values alone takes as long; more, and the process was interrupted.
        at_once = BURST_SECONDS + sum(map(total_bytes, other.values())) / WRITTEN_PER_SECOND

        def step() -> Any:
            for _ in range(ATTEMPTS):
                for path, leaf in self._leaves.items():
                    _write(leaf, kept[path])
                first = entrant.call()
                returned = perf_counter_ns()
                for path, leaf in self._leaves.items():
                    _write(leaf, other[path])
                pause = (perf_counter_ns() - returned) * 1e-9
                del first
                output = entrant.call()
                if pause <= at_once:
                    break
                sleep(REST_SECONDS)
            return output

        output = self._attempt(entrant, stage, step)
        self._put(other)
        return output

    def _expect(self) -> checks.Reference | None:
        assert self._workload.reference is not None
        try:
            return checks.Reference(self._workload.reference(self._shared.inputs))
        except Exception as error:
            log.debug("no reference for other values of %s: %r", self._workload.name, error)
            return None
        finally:
            self._restore()

    @staticmethod
    def _note_replay(
        entrant: Entrant,
        output: Any,
        found: dict[str, tuple[checks.Errors, str]],
        before: Mapping[str, outputs.Reading],
    ) -> None:
        if outputs.has_values(output) and outputs.read(output) == before.get(entrant.name):
            found[entrant.name] = (found[entrant.name][0], "replay")

    def _judge(
        self,
        entrants: Sequence[Entrant],
        stage: Stage,
        found: Mapping[str, tuple[checks.Errors, str]],
    ) -> None:
        tolerance, baseline = self._workload.tolerance, self._workload.baseline
        assert tolerance is not None
        errors, reason = found.get(baseline, ({}, "no answer"))
        if reason or checks.judge(errors, None, tolerance)[1]:
            return  # who sets the measure does not follow: the values are not read in each call
        names = ", ".join(repr(path) for path in self._leaves)
        lenient = replace(
            tolerance, factor=LENIENCE * tolerance.factor, units=LENIENCE * tolerance.units
        )
        for entrant in entrants:
            if entrant.name == baseline or entrant.name not in found:
                continue
            own, reason = found[entrant.name]
            other = reason or checks.judge(own, errors, lenient)[1]
            if not other:
                continue
            what = "in a timed sample " if stage == "audit" else ""
            what += f"with other values in the input {names} "
            if reason == "replay":
                what += "it returned what it had returned before: it keeps results"
            else:
                what += f"it is wrong: {other}"
            entrant.reject("wrong", stage, f"{what} (values read at build? see Workload.renewed)")

    def _look_for_look_ups(self, entrant: Entrant, timer: Timer, stage: Stage) -> None:
        """Reject who is much slower on values that it cannot have met."""

        def seconds(times: int) -> list[float]:
            step = partial(_elapsed, entrant, timer, times)
            return self._attempt(entrant, stage, step) or [0.0] * times

        if timer.unit != "s" or entrant.name == self._workload.baseline:
            return
        # Cheap and biased against the honest, whose caches are cold at first: only a hint. The
        # second of the calls on old values is there for one that was interrupted.
        if not self._renew():
            return
        new, *again = seconds(3)
        if not _slower(new, min(again)):
            return
        news: list[float] = []
        olds: list[float] = []
        losses = 0
        while len(news) < COMPARISONS:
            if not self._renew():
                return
            news += seconds(1)
            self._round -= 1  # the same values once more, made and written in the same way
            if not self._renew():
                return
            olds += seconds(1)
            losses += not _slower(news[-1], olds[-1])
            if losses > SPARED or not entrant.alive:
                return
        entrant.reject(
            "wrong",
            stage,
            f"it takes {median(news):.3g} s on values that it has not met and "
            f"{median(olds):.3g} s on the same again: it keeps results",
        )


def _slower(new: float, old: float) -> bool:
    return new > RATIO * old + SLACK


def _elapsed(entrant: Entrant, timer: Timer, times: int) -> list[float]:
    assert entrant.thunk is not None
    entrant.made += times
    return [timer.sample(entrant.thunk, 1).elapsed for _ in range(times)]


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if is_tensor(leaf) else leaf.copy()


def _write(leaf: Any, values: Any) -> None:
    if is_tensor(leaf):
        # Through .data, so that the version counter, which anybody can read, stays as it is.
        leaf.data.copy_(values.detach())
    else:
        leaf[...] = values
