"""How often verdicts are wrong under noise that you describe: the gate's rule on simulated samples.

    python -m benchbench.simulate                        usual machines, unchanged and slowed code
    python -m benchbench.simulate --noise shared --shift 0.03 --looks 9,16
    python -m benchbench.simulate --placement 0.02 --ruined 0.1

Samples of both sides are drawn in the order A B B A in each process, reduced by the code that
reduces real ones (:func:`benchbench.stats.log_ratio`) and decided by the code that decides them
(:func:`benchbench.sequential.decide`). What the model leaves out cannot show here;
``benchbench calibrate`` measures on the machine itself.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import click

from benchbench.sequential import Decision, Design, decide, evenly_rising
from benchbench.stats import log_ratio, order_statistic_interval

MAGNITUDE = 0.3
"""How much longer a sample takes that a neighbour interrupts: the mean of an exponential."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What makes times differ. Spreads are standard deviations of the logarithm of a time."""

    sample: float = 0.01
    """Of one sample."""
    placement: float = 0.003
    """Of a process's ratio of both sides: where code and data happen to lie."""
    drift: float = 0.02
    """By how much the machine slows down from the first to the last sample of a case; each process
    draws between nothing and this, in either direction."""
    machine: float = 0.02
    """Of the machine's speed between processes; both sides of one process share it."""
    interrupted: float = 0.0
    """Share of samples that a neighbour makes longer."""
    ruined: float = 0.0
    """Share of processes in which one side is off by up to ``ruin``, either way."""
    ruin: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sample", "placement", "drift", "machine", "ruin"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, it is {getattr(self, name)}")
        for name in ("interrupted", "ruined"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")


NOISE = {
    "idle": Noise(),
    # A virtual machine with two processors and nothing else to do (calibrated: samples of 1 ms).
    "virtual": Noise(sample=0.021, placement=0.004),
    "shared": Noise(sample=0.02, placement=0.006, drift=0.1, machine=0.1, interrupted=0.1),
    "contaminated": Noise(placement=0.005, ruined=0.1),
    "drifting": Noise(drift=0.5, machine=0.2),
}


def process(shift: float, noise: Noise, passes: int, rng: random.Random) -> tuple[float, ...]:
    """``ln(time)`` of the samples of one process: the baseline's, then the candidate's.

    Args:
        shift: by how much the candidate is slower, 0.05 for 5 %.
        noise: of the machine.
        passes: samples of each side; two make one ABBA block.
        rng: source of chance.
    """
    speed = rng.gauss(0.0, noise.machine)
    offset = math.log1p(shift) + rng.gauss(0.0, noise.placement)
    if noise.ruined and rng.random() < noise.ruined:
        offset += rng.uniform(-noise.ruin, noise.ruin)
    slope = rng.uniform(-noise.drift, noise.drift)
    sides: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * passes):
        side = (number % 2) ^ (number // 2 % 2)  # A B, then B A
        value = speed + slope * number / (2 * passes) + rng.gauss(0.0, noise.sample)
        if noise.interrupted and rng.random() < noise.interrupted:
            value += rng.expovariate(1.0 / MAGNITUDE)
        sides[side].append(value + side * offset)
    return (*sides[0], *sides[1])


def log_ratios(
    shift: float, noise: Noise, processes: int, rng: random.Random, passes: int = 4
) -> list[float]:
    """``ln(candidate / baseline)`` of each process, reduced as real samples are."""
    found = []
    for _ in range(processes):
        times = [math.exp(value) for value in process(shift, noise, passes, rng)]
        value = log_ratio(times[passes:], times[:passes])
        assert value is not None
        found.append(value)
    return found


@dataclass(frozen=True, kw_only=True)
class Characteristics:
    """How a rule behaves on cases whose truth is known."""

    shift: float
    words: Counter[str] = field(default_factory=Counter)
    """Verdicts, by word."""
    gates: int = 0
    red: int = 0
    """Gates in which an unchanged case was called slower or faster."""
    processes: float = 0.0
    """Mean of those that a case took."""
    covered: float = 0.0
    """Share of nominal 95 % intervals, at the first look, that contain the truth."""

    @property
    def cases(self) -> int:
        """How many were judged."""
        return sum(self.words.values())

    def share(self, *words: str) -> float:
        """Share of the cases with one of these verdicts."""
        return sum(self.words[word] for word in words) / self.cases


def characteristics(
    shift: float,
    noise: Noise,
    *,
    design: Design | None = None,
    cases: int = 3000,
    family: int = 100,
    passes: int = 4,
    seed: int = 0,
) -> Characteristics:
    """Simulate cases in gates of ``family`` and decide them as a gate does.

    Unchanged cases (shift 0) fill their gates. A case that is slower stands alone among unchanged
    ones, which have no influence on its own verdict beyond their number.

    Args:
        shift: of every judged case.
        noise: of the machine.
        design: looks, margin and error rates; the gate's own when left out.
        cases: judged in all.
        family: cases of one gate.
        passes: samples of each side in a process.
        seed: of the source of chance.
    """
    design = design or Design()
    rng = random.Random(f"{seed}/{shift}")
    words: Counter[str] = Counter()
    gates = red = covered = 0
    used = 0
    together = family if shift == 0 else 1
    for begin in range(0, cases, together):
        count = min(together, cases - begin)
        logs = {
            number: log_ratios(shift, noise, design.looks[-1], rng, passes)
            for number in range(count)
        }
        decisions: dict[int, Decision] = {}
        for look, upto in enumerate(design.looks):
            seen = {number: values[:upto] for number, values in logs.items()}
            decisions = decide(seen, design, look, decisions, family=family)
        for number, decision in decisions.items():
            words[decision.word] += 1
            used += decision.processes
            interval = order_statistic_interval(logs[number][: design.looks[0]])
            covered += interval.low <= math.log1p(shift) <= interval.high
        gates += 1
        red += any(d.word in ("slower", "faster") for d in decisions.values())
    return Characteristics(
        shift=shift,
        words=words,
        gates=gates,
        red=red,
        processes=used / cases,
        covered=covered / cases,
    )


def other_rules(
    shift: float, noise: Noise, *, cases: int = 3000, samples: int = 32, seed: int = 0
) -> dict[str, float]:
    """Share of cases that rules in use call slower, each on two processes of ``samples`` samples.

    One process measures the baseline, another one the candidate: the usual way.

    - ``median +5 %``: the medians differ by more than 5 % (pytest-benchmark's
      ``--compare-fail=median:5%``).
    - ``Mann-Whitney 5 %``: of the samples (the U test of google/benchmark's compare.py).
    - ``Welch t 5 %``: of the samples.
    """
    from scipy import stats

    rng = random.Random(f"{seed}/{shift}/others")
    hits: Counter[str] = Counter()
    for _ in range(cases):
        one = process(0.0, noise, samples, rng)[:samples]
        other = process(shift, noise, samples, rng)[samples:]
        hits["median +5 %"] += statistics.median(other) - statistics.median(one) > math.log(1.05)
        u = stats.mannwhitneyu(other, one, alternative="two-sided").pvalue
        t = stats.ttest_ind(other, one, equal_var=False).pvalue
        slower = statistics.fmean(other) > statistics.fmean(one)
        hits["Mann-Whitney 5 %"] += bool(u < 0.05) and slower
        hits["Welch t 5 %"] += bool(t < 0.05) and slower
    return {name: count / cases for name, count in sorted(hits.items())}


def estimated(blocks: Sequence[Sequence[float]]) -> Noise:
    """The noise of a stored pair of contenders, or of many: one list of block log-ratios a process.

    Spreads by the median absolute deviation, so that interrupted samples and ruined processes do
    not enter them.

    Raises:
        ValueError: fewer than three processes of two blocks.
    """
    usable = [list(values) for values in blocks if len(values) > 1]
    if len(usable) < 3:
        raise ValueError("noise is estimated from at least 3 processes with 2 blocks each")
    centres = [statistics.median(values) for values in usable]
    # Neighbouring blocks: what drifts hardly enters, and a difference has twice the variance.
    block = _spread([b - a for values in usable for a, b in pairwise(values)]) / math.sqrt(2)
    passes = statistics.fmean(len(values) for values in usable)
    # A block's log-ratio is the difference of two means of two samples: its variance is theirs.
    between = _spread([c - statistics.median(centres) for c in centres]) ** 2
    own = 1.57 * block**2 / passes  # variance of a median of so many normal values
    return Noise(sample=block, placement=math.sqrt(max(0.0, between - own)))


def _spread(deviations: Sequence[float]) -> float:
    return 1.4826 * statistics.median(abs(value) for value in deviations)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--noise", "name", type=click.Choice(list(NOISE)), default="idle", show_default=True)
@click.option("--from-run", metavar="RUN", help="Take sample and placement from a stored run.")
@click.option("--sample", type=click.FloatRange(0), help="Spread of one sample (0.01 is 1 %).")
@click.option("--placement", type=click.FloatRange(0), help="Spread of ratios between processes.")
@click.option("--drift", type=click.FloatRange(0), help="Of the machine during a case.")
@click.option("--machine", type=click.FloatRange(0), help="Spread of speed between processes.")
@click.option("--interrupted", type=click.FloatRange(0, 1), help="Share of samples.")
@click.option("--ruined", type=click.FloatRange(0, 1), help="Share of processes.")
@click.option("--shift", "shifts", type=float, multiple=True, help="Repeatable. [0.02 .. 0.1]")
@click.option("--cases", type=click.IntRange(1), default=3000, show_default=True)
@click.option("--family", type=click.IntRange(1), default=100, show_default=True)
@click.option("--passes", type=click.IntRange(2), default=4, show_default=True)
@click.option("--looks", default="9,16,24", show_default=True)
@click.option("--margin", type=click.FloatRange(0, min_open=True), default=0.02, show_default=True)
@click.option("--alpha", type=click.FloatRange(0, 0.5, True, True), default=0.01, show_default=True)
@click.option("--others", is_flag=True, help="Rules in use elsewhere, too.")
@click.option("--seed", type=int, default=0, show_default=True)
def main(
    name: str,
    from_run: str | None,
    shifts: tuple[float, ...],
    cases: int,
    family: int,
    passes: int,
    looks: str,
    margin: float,
    alpha: float,
    others: bool,
    seed: int,
    **given: float | None,
) -> None:
    """Error rates and power of the gate's rule under noise that you describe."""
    noise = NOISE[name]
    if from_run is not None:
        measured = _of_run(from_run)
        noise = replace(noise, sample=measured.sample, placement=measured.placement)
    noise = replace(noise, **{key: value for key, value in given.items() if value is not None})
    try:
        counts = tuple(int(part) for part in looks.split(","))
        spending = Design.spending if len(counts) == 3 else evenly_rising(len(counts))
        design = Design(looks=counts, margin=margin, alpha=alpha, spending=spending)
    except ValueError as error:
        raise click.UsageError(f"--looks {looks}: {error}") from error
    click.echo(
        f"sample {noise.sample:g}, placement {noise.placement:g}, drift {noise.drift:g}, machine "
        f"{noise.machine:g}, interrupted {noise.interrupted:g}, ruined {noise.ruined:g}; "
        f"{cases} cases in gates of {family}, looks at {looks}, margin {100 * margin:g} %"
    )
    click.echo("  shift   slower     same   faster     open  processes  covered  red gates")
    for shift in (0.0, *(shifts or (0.02, 0.03, 0.05, 0.10))):
        found = characteristics(
            shift, noise, design=design, cases=cases, family=family, passes=passes, seed=seed
        )
        shares = [100 * found.share(w) for w in ("slower", "same", "faster", "undecided")]
        red = f"{found.red} of {found.gates}" if shift == 0 else ""
        click.echo(
            f"{100 * shift:>5g} % " + " ".join(f"{share:>6.2f} %" for share in shares) + ""
            f"  {found.processes:>9.1f}  {100 * found.covered:>5.1f} %  {red:>9}"
        )
        if others:
            for rule, share in other_rules(shift, noise, cases=cases, seed=seed).items():
                click.echo(f"        {100 * share:>6.2f} % slower by {rule}")


def _of_run(identity: str) -> Noise:
    from benchbench import store
    from benchbench.stats import blocks

    run = store.read(store.find(store.default_directory(), identity))
    samples = {(r.case, r.process, r.contender): r.samples for r in run.results if r.samples}
    found = []
    spreads = []
    keys = sorted({(r.case, r.contender, r.baseline) for r in run.results})
    for case, contender, baseline in keys:
        if contender == baseline:
            continue
        processes = sorted({p for c, p, _ in samples if c == case})
        ratios = [
            [
                math.log(own / other)
                for own, other in zip(
                    blocks(samples[case, p, contender]),
                    blocks(samples[case, p, baseline]),
                    strict=False,
                )
            ]
            for p in processes
            if (case, p, contender) in samples and (case, p, baseline) in samples
        ]
        try:
            found.append(estimated(ratios))
        except ValueError:
            continue
        spreads.append(found[-1].placement)
    if not found:
        raise click.UsageError(
            f"run {run.id} has no contender with 3 processes of 2 blocks beside its baseline"
        )
    return Noise(
        sample=statistics.median(one.sample for one in found),
        placement=statistics.median(spreads),
    )


if __name__ == "__main__":
    main()
