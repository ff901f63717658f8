"""Copies of implementations: what a gate and a calibration measure themselves with."""

from time import perf_counter_ns

from benchbench.catalog import Catalog
from benchbench.contract import Implementation, Provider
from benchbench.controls import SLOWDOWN, controls_of, slowed, with_copies
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


class Gpu:
    """A GPU that works in a queue, and a host that puts work into it at no cost."""

    def __init__(self, monkeypatch):
        import torch

        self.busy_until = 0
        self.slept = []
        monkeypatch.setattr(torch.cuda, "synchronize", self.synchronize)
        monkeypatch.setattr(torch.cuda, "_sleep", self.sleep)
        gpu = self

        class Event:
            def __init__(self, enable_timing):
                self.at = 0

            def record(self):
                self.at = max(gpu.busy_until, perf_counter_ns())

            def synchronize(self):
                gpu.synchronize()

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e-6

        monkeypatch.setattr(torch.cuda, "Event", Event)

    def queue(self, nanoseconds):
        self.busy_until = max(self.busy_until, perf_counter_ns()) + nanoseconds

    def synchronize(self):
        while perf_counter_ns() < self.busy_until:
            pass

    def sleep(self, cycles):
        self.slept.append(cycles)
        self.queue(cycles // 2)  # two cycles in a nanosecond


def test_what_a_gpu_does_is_slowed_on_the_gpu(monkeypatch):
    import torch

    gpu = Gpu(monkeypatch)

    class OnGpu(torch.Tensor):
        device = torch.device("cuda")

    output = torch.ones(1).as_subclass(OnGpu)

    def build(inputs):
        def thunk():
            start = perf_counter_ns()
            while perf_counter_ns() - start < 20_000:  # queueing takes a tenth of the work
                pass
            gpu.queue(200_000)
            return output

        return thunk

    thunk = slowed(build, 0.5)(None)
    gpu.synchronize()
    gpu.slept.clear()
    assert thunk() is output
    (cycles,) = gpu.slept
    assert (
        200_000 <= cycles < 600_000
    )  # 100 us at two cycles in a nanosecond; the machine is shared


def test_what_the_host_does_needs_no_gpu(monkeypatch):
    gpu = Gpu(monkeypatch)
    slowed(ITEM.build, 0.5)("inputs")()
    assert gpu.slept == []
