"""Returns a view that lies in memory column by column."""

import benchbench as bb


@bb.implementation("liars/product", "returns_a_transposed_view")
def returns_a_transposed_view(inputs):
    return lambda: (inputs.w.t() @ inputs.x.t()).t()


@bb.hookimpl
def benchbench_implementations():
    return [returns_a_transposed_view]
