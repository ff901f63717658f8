"""Works until it has been called 40 times."""

import benchbench as bb


@bb.implementation("zoo/double", "raises_later")
def raises_later(inputs):
    calls = []

    def call():
        calls.append(1)
        if len(calls) > 40:
            raise RuntimeError("out of handles")
        return inputs.x * 2

    return call


@bb.hookimpl
def benchbench_implementations():
    return [raises_later]
