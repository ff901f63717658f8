"""How the racers' learning rates were found: ``python -m benchbench_plugins.optimizers.tune``.

For each race named on the command line (all by default) and each optimizer: four rates, a factor of
two apart, around the one in the table, and for each the hits and the median steps over seven seeds.
The same grid for all is the same effort for all. Racers of other libraries join where those are
installed, but not those that take another's rate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchbench_plugins.optimizers.peers import PEERS
from benchbench_plugins.optimizers.races import RACES, Race, make, metrics, thunk
from benchbench_plugins.optimizers.target import RACERS, Racer

SEEDS = 7
FACTORS = (0.25, 0.5, 1.0, 2.0)


def tried(race: Race, racer: Racer, rate: float, seeds: int) -> dict[str, float]:
    """Metrics of a racer with another learning rate."""
    inputs = make(race, {"seeds": seeds}, 1)  # seeds that no table of a run shows by default
    call = thunk(race, lambda parameters: racer.make(parameters, lr=rate, **racer.settings), inputs)
    return metrics(race, call())


def racers() -> tuple[Racer, ...]:
    """Torch's, and those of ``pytorch_optimizer`` where it is installed."""
    tuned = [peer for peer in PEERS if peer.package == "pytorch_optimizer"]
    return (*RACERS, *(peer.racer() for peer in tuned if not peer.unavailable({})))


def main(arguments: Sequence[str]) -> None:
    """Print a line for each race, optimizer and rate; arguments are names of races or racers."""
    torch.set_num_threads(1)
    everyone = racers()
    known_races = [race.name for race in RACES if race.name in arguments]
    known_racers = [racer.name for racer in everyone if racer.name in arguments]
    for race in RACES:
        if known_races and race.name not in known_races:
            continue
        for racer in everyone:
            if race.name not in racer.rates or (known_racers and racer.name not in known_racers):
                continue
            for factor in FACTORS:
                rate = racer.rates[race.name] * factor
                found = tried(race, racer, rate, SEEDS)
                chosen = "  <" if factor == 1.0 else ""
                print(
                    f"{race.name:<16} {racer.name:<10} lr={rate:<8g} hits {found['hits']:.0%}  "
                    f"steps {found['steps']:g}{chosen}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
