"""Makes a thousand answers when it is built and hands them out in turn: new memory each time."""

import benchbench as bb


@bb.implementation("liars/double-kept", "hands_out_copies")
def hands_out_copies(inputs):
    stock = [inputs.x * 2 for _ in range(24)]
    count = [0]

    def call():
        count[0] += 1
        return stock[count[0] % len(stock)].view_as(inputs.x)

    return call


@bb.hookimpl
def benchbench_implementations():
    return [hands_out_copies]
