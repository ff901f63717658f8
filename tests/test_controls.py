"""Copies of implementations: what a gate and a calibration measure themselves with."""

from time import perf_counter_ns

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, Provider
from benchbench.controls import SLOWDOWN, controls_of, with_copies
from benchbench.plugins import LoaderOptions
from benchbench.records import to_json
from benchbench.sides import Copy


def busy(nanoseconds):
    def build(inputs):
        def thunk():
            start = perf_counter_ns()
            while perf_counter_ns() - start < nanoseconds:
                pass
            return inputs

        return thunk

    return build


ITEM = Implementation(workload="k/w", name="x", build=busy(200_000))
CATALOG = Catalog(implementations={"k/w": {"x": ITEM}}, providers={"k/w:x": Provider(plugin="p")})


def test_controls_stand_next_to_what_they_copy():
    made = with_copies(CATALOG, controls_of("k/w:x")).implementations["k/w"]
    assert set(made) == {"x", "x@null", "x@slowed"}
    assert {item.pair for item in made.values()} == {"x"}
    assert made["x@null"].build is ITEM.build


def test_copies_of_their_own_pair_leave_the_original_alone():
    copies = (Copy(of="k/w:x", suffix="a", pair="one"), Copy(of="k/w:x", suffix="b", pair="one"))
    found = with_copies(CATALOG, copies)
    made = found.implementations["k/w"]
    assert [made[name].pair for name in ("x", "x@a", "x@b")] == ["", "one", "one"]
    assert found.providers["k/w:x@a"] == CATALOG.providers["k/w:x"]


def test_a_copy_of_nobody_is_left_out():
    made = with_copies(CATALOG, [Copy(of="k/w:gone", suffix="a")])
    assert set(made.implementations["k/w"]) == {"x"}


def test_a_slowed_copy_returns_the_same_and_takes_longer():
    made = with_copies(CATALOG, [Copy(of="k/w:x", suffix="s", slower=0.5)])
    thunk = made.implementations["k/w"]["x@s"].build("inputs")
    start = perf_counter_ns()
    assert thunk() == "inputs"
    assert perf_counter_ns() - start >= 300_000  # at least: a neighbour can only add to it


def test_copies_travel_as_json():
    options = LoaderOptions(controls=controls_of("k/w:x", SLOWDOWN))
    assert LoaderOptions.from_json(to_json(options)) == options
