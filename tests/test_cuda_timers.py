"""The timers for CUDA, on a GPU that exists in virtual time only (``fake_gpu``).

``test_gpu_harness.py`` asks a real one.
"""

import random

import pytest
from fake_gpu import FakeGpu

import benchbench as bb
from benchbench import measure
from benchbench.contract import Settings
from benchbench.measure import Entrant, take_passes, warm_up
from benchbench.timers import builtin, cuda as module, graph as graph_module, suited
from benchbench.timers.cuda import MISSES, CudaEventTimer, CudaHostTimer
from benchbench.timers.graph import BEFORE, CAPTURED, CudaGraphTimer


@pytest.fixture
def gpu(monkeypatch):
    fake = FakeGpu()
    for place in (module, graph_module):
        monkeypatch.setattr(place, "perf_counter_ns", fake.perf_counter_ns)
    monkeypatch.setattr(measure, "monotonic_ns", fake.perf_counter_ns)
    return fake


def settled(timer, thunk, calls, tries=12):
    """The first sample that is not doubtful, as the runner would take it after a warm-up."""
    for _ in range(tries):
        sample = timer.sample(thunk, calls)
        if not sample.doubtful:
            return sample
    pytest.fail(f"always doubtful: {sample.doubtful}")


@pytest.mark.parametrize("kernel", [2e-6, 20e-6, 1e-3])
def test_launches_are_hidden_behind_an_idling_kernel(gpu, kernel):
    timer = CudaEventTimer(gpu)
    sample = settled(timer, lambda: gpu.launch(kernel), 100)
    assert not sample.starved
    # The events' own records are launched too, a microsecond each.
    assert sample.elapsed == pytest.approx(100 * kernel, rel=0.01, abs=5e-6)
    assert sample.host == pytest.approx(100 * 5e-6, rel=0.05)


def test_the_stream_idles_ahead_of_the_calls_and_not_in_the_time(gpu):
    timer = CudaEventTimer(gpu)
    settled(timer, lambda: gpu.launch(1e-3), 3)
    gpu.log.clear()
    timer.sample(lambda: gpu.log.append("call") or gpu.launch(1e-3), 3)
    assert gpu.log == ["device wait", "idle", "call", "call", "call", "device wait"]


def test_more_calls_than_the_queue_holds_are_taken_in_regions(gpu):
    timer = CudaEventTimer(gpu)
    calls = []
    thunk = lambda: calls.append(1) or gpu.launch(2e-6)  # noqa: E731
    sample = settled(timer, thunk, 5000)
    assert sample.elapsed == pytest.approx(5000 * 2e-6, rel=0.02)
    assert len(calls) % 5000 == 0 and gpu.log.count("idle") >= 5000 // module.QUEUED


def test_calls_of_many_kernels_find_a_region_that_fits_the_queue(gpu):
    timer = CudaEventTimer(gpu)

    def forward_and_backward():
        for _ in range(12):
            gpu.launch(1e-6, host=4e-6)

    sample = settled(timer, forward_and_backward, 200)
    assert not sample.starved
    assert sample.elapsed == pytest.approx(200 * 12e-6, rel=0.02)


def test_what_waits_for_the_device_is_timed_with_the_hosts_part_and_says_so(gpu):
    timer = CudaEventTimer(gpu)

    def call():
        gpu.launch(10e-6)
        gpu.read_back()

    doubtful = [bool(timer.sample(call, 10).doubtful) for _ in range(MISSES + 1)]
    assert doubtful == [True] * MISSES + [False]  # within the retakes of a sample
    sample = timer.sample(call, 10)
    assert sample.starved and not sample.doubtful
    # 5 us to launch, 10 us of work, 8 us to read back, one after the other.
    assert sample.elapsed == pytest.approx(10 * 23e-6, rel=0.05)


def test_a_first_call_that_compiles_does_not_make_later_samples_long(gpu):
    timer = CudaEventTimer(gpu)
    first = iter([5.0])

    def call():
        gpu.work(next(first, 5e-6))
        gpu.launch(50e-6, host=0)

    timer.sample(call, 1)
    before = gpu.now
    sample = settled(timer, call, 1)
    sample = settled(timer, call, 100)
    assert sample.elapsed == pytest.approx(100 * 50e-6, rel=0.02)
    assert gpu.now - before < 0.1


def test_a_host_that_is_interrupted_makes_a_doubtful_sample_and_the_next_is_good(gpu):
    timer = CudaEventTimer(gpu)
    settled(timer, lambda: gpu.launch(20e-6), 50)
    stall = iter([0.004])

    def call():
        gpu.work(next(stall, 0))
        gpu.launch(20e-6)

    timer._paces[id(call)] = timer._paces.popitem()[1]
    assert "before the host had queued" in timer.sample(call, 50).doubtful
    assert not timer.sample(call, 50).doubtful


def test_events_that_the_hosts_clock_contradicts_are_doubtful(gpu):
    timer = CudaEventTimer(gpu)
    thunk = lambda: gpu.launch(1e-3)  # noqa: E731
    settled(timer, thunk, 20)
    gpu.skew = 1.5
    assert "the host's clock only" in timer.sample(thunk, 20).doubtful
    gpu.skew = 0.5
    assert "the events saw only" in timer.sample(thunk, 20).doubtful
    gpu.skew = 1.0
    assert not timer.sample(thunk, 20).doubtful


def test_work_on_another_stream_is_doubtful(gpu):
    def call():
        gpu.launch(1e-6)
        gpu.launch_elsewhere(1e-3)

    timer = CudaEventTimer(gpu)
    assert "another stream" in timer.sample(call, 5).doubtful


def test_a_rising_clock_lengthens_the_idling(gpu):
    gpu.cycles_per_second = 0.35e9  # an idle GPU
    timer = CudaEventTimer(gpu)
    thunk = lambda: gpu.launch(5e-6)  # noqa: E731
    settled(timer, thunk, 200)
    gpu.cycles_per_second = 2e9
    assert not settled(timer, thunk, 200, tries=4).starved


def test_the_host_timer_waits_after_each_call(gpu):
    def call():
        gpu.launch(100e-6, host=20e-6)

    sample = CudaHostTimer(gpu).sample(call, 10)
    assert sample.elapsed == pytest.approx(10 * 120e-6, rel=0.02)
    assert sample.host == 0 and not sample.starved


@pytest.mark.parametrize("timer", [CudaEventTimer, CudaHostTimer, CudaGraphTimer])
def test_they_say_why_they_cannot_time(timer):
    fake = FakeGpu()
    assert "it times CUDA devices, not cpu" in timer(torch=fake).unavailable("cpu")
    assert timer(torch=fake).unavailable("cuda") is None
    fake.available = False
    assert "torch finds no CUDA device" in timer(torch=fake).unavailable("cuda:1")


# Graphs.


def test_a_graph_has_the_kernels_without_the_launches(gpu):
    timer = CudaGraphTimer(torch=gpu)
    sample = settled(timer, lambda: gpu.launch(2e-6, host=30e-6), 1000)
    # Launching a graph leaves a gap of 2 us on this device, shared by the calls in it.
    assert sample.elapsed == pytest.approx(1000 * (2e-6 + 2e-6 / CAPTURED), rel=0.05)
    assert sample.host == pytest.approx(1000 * 30e-6, rel=0.02)
    assert (sample.calls, sample.taken_by) == (1000, "")
    assert f"replay {CAPTURED}" in gpu.log
    assert gpu.current is gpu.default


def test_calls_are_captured_once_for_all_samples(gpu):
    timer = CudaGraphTimer(torch=gpu)
    made = []
    thunk = lambda: made.append(1) or gpu.launch(50e-6)  # noqa: E731
    for _ in range(10):
        timer.sample(thunk, 100)
    assert len(made) == BEFORE + CAPTURED


def test_the_output_is_that_of_the_captured_calls(gpu):
    timer = CudaGraphTimer(torch=gpu)
    thunk = lambda: gpu.launch(50e-6) or "static"  # noqa: E731
    assert settled(timer, thunk, 4).output == "static"


def test_rotating_inputs_are_all_captured(gpu):
    timer = CudaGraphTimer(torch=gpu)

    class Thunk:
        period = 100

        def __call__(self):
            gpu.launch(5e-6)

    sample = settled(timer, Thunk(), 10)
    assert "replay 100" in gpu.log
    assert sample.elapsed == pytest.approx(10 * 5e-6, rel=0.05)


def test_what_cannot_be_captured_falls_back_by_name_and_harms_nobody(gpu):
    timer = CudaGraphTimer(torch=gpu)

    def waits():
        gpu.launch(10e-6)
        gpu.read_back()

    for _ in range(MISSES + 1):
        sample = timer.sample(waits, 5)
    assert sample.taken_by == "cuda-events"
    assert "cannot be captured in a CUDA graph: CUDA error: operation not perm" in sample.remark
    assert sample.starved and not sample.doubtful
    assert gpu.current is gpu.default and gpu.capturing is None
    assert not gpu.generator_captured, "torch's generator must draw again"
    other = settled(timer, lambda: gpu.launch(10e-6), 5)
    assert other.taken_by == ""


def test_a_fault_of_the_device_in_a_capture_is_no_refusal(gpu):
    timer = CudaGraphTimer(torch=gpu)

    def breaks():
        gpu.broken = "CUDA error: an illegal memory access was encountered"
        gpu.launch(1e-6)

    with pytest.raises(RuntimeError, match="illegal memory access"):
        timer.sample(breaks, 1)


def test_graphs_are_dropped_after_a_case(gpu):
    timer = CudaGraphTimer(torch=gpu)
    settled(timer, lambda: gpu.launch(10e-6), 5)
    timer.forget()
    assert not timer._graphs and not timer._events._paces


def workload(**options):
    return bb.Workload(name="a/b", make=lambda params, seed: None, baseline="x", **options)


def test_states_are_not_replayed_and_tails_are_waited_for():
    timers = builtin()
    graph, events = timers["cuda-graph"], timers["cuda-events"]
    assert suited(graph, workload(), "cuda-graph", timers) is graph
    assert suited(graph, workload(stateful=True), "cuda-graph", timers) is events
    assert suited(events, workload(tail=True), "auto", timers).name == "cuda-host"
    assert suited(events, workload(tail=True), "cuda-events", timers) is events
    assert suited(timers["wall"], workload(tail=True), "auto", timers).name == "wall"


# In the loop that takes samples.


def attempt(entrant, stage, step):
    return step()


def measured(gpu, timer, thunks, settings):
    entrants = [Entrant(name=name, thunk=thunk) for name, thunk in thunks.items()]
    for entrant in entrants:
        warm_up(entrant, timer, settings)
    take_passes(
        entrants, timer, settings, random.Random(0), attempt, lambda *a: None, lambda e: None
    )
    return {entrant.name: entrant for entrant in entrants}


@pytest.mark.parametrize("timer", [CudaEventTimer, CudaGraphTimer])
def test_two_kernels_are_told_apart_though_their_launches_take_longer(gpu, timer):
    settings = Settings(budget=0.2, warmup=0.1, sample_seconds=0.005)
    thunks = {
        "fast": lambda: gpu.launch(2e-6, host=15e-6),
        "slow": lambda: gpu.launch(2.1e-6, host=15e-6),
    }
    found = measured(gpu, timer(torch=gpu), thunks, settings)
    fast, slow = (min(found[name].samples) for name in ("fast", "slow"))
    assert 1.02 < slow / fast < 1.08
    assert found["fast"].kept[-1] == pytest.approx(15e-6, rel=0.05)
    assert not found["fast"].starved and not found["fast"].doubtful


def test_samples_whose_launches_take_longest_are_kept_short(gpu):
    settings = Settings(budget=0.2, warmup=0.1, sample_seconds=0.01)
    found = measured(
        gpu, CudaEventTimer(gpu), {"tiny": lambda: gpu.launch(1e-6, host=20e-6)}, settings
    )
    # 10 ms of the device's time alone would be 10000 calls, and 0.6 s with the idling ahead.
    assert 100 <= found["tiny"].calls <= 2000


def test_a_contender_that_always_waits_for_the_device_is_measured_and_not_quarantined(gpu):
    def waits():
        gpu.launch(30e-6)
        gpu.read_back()

    settings = Settings(budget=0.05, warmup=0.001, sample_seconds=0.002)
    found = measured(gpu, CudaEventTimer(gpu), {"waits": waits}, settings)["waits"]
    assert found.alive and found.samples and found.starved == len(found.kept)


def test_passes_under_a_lowered_clock_are_counted(gpu):
    entrant = Entrant(name="a", thunk=lambda: gpu.launch(1e-4))
    settings = Settings(budget=0.0, min_passes=4)
    timer = CudaEventTimer(gpu)
    warm_up(entrant, timer, settings)
    looks = iter([False, False, True, False, True])
    take_passes(
        [entrant],
        timer,
        settings,
        random.Random(0),
        attempt,
        lambda *a: None,
        lambda e: None,
        watch=lambda: next(looks),
    )
    assert entrant.throttled == 2 and len(entrant.samples) == 4
