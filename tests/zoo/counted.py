"""Work whose instructions are known in proportion, for the tests of instruction counts."""

import threading

import benchbench as bb

SIZE = 1 << 16


def make(params, seed):
    import torch

    generator = torch.Generator().manual_seed(seed)
    return bb.Inputs({"x": torch.randn(SIZE, generator=generator)})


@bb.implementation("counted/add", "once")
def once(inputs):
    """The baseline."""
    return inputs.thunk(lambda x: x + 1)


@bb.implementation("counted/add", "again")
def again(inputs):
    """The same again."""
    return inputs.thunk(lambda x: x + 1)


@bb.implementation("counted/add", "four-times")
def four_times(inputs):
    """Three results are thrown away."""

    def work(x):
        for _ in range(3):
            x + 1
        return x + 1

    return inputs.thunk(work)


@bb.implementation("counted/add", "threaded")
def threaded(inputs):
    """Four times, three of them where a count of the calling thread alone would not look."""

    def work(x):
        helper = threading.Thread(target=lambda: [x + 1 for _ in range(3)])
        helper.start()
        helper.join()
        return x + 1

    return inputs.thunk(work)


@bb.hookimpl
def benchbench_workloads():
    return [
        bb.Workload(
            name="counted/add",
            doc="One more.",
            make=make,
            baseline="once",
            axes={"mode": ("plain",)},
            reference=lambda inputs: inputs.x.double() + 1,
            work=lambda params: bb.Work(bytes=8 * SIZE),
        )
    ]


@bb.hookimpl
def benchbench_implementations():
    return [once, again, four_times, threaded]
