"""Returns a list that computes its items when they are asked for."""

import benchbench as bb


class Lazy(tuple):
    def __getitem__(self, index):
        return self.thunk()[index]

    def __iter__(self):
        return iter(self.thunk())


@bb.implementation("liars/cube", "defers_in_a_container")
def defers_in_a_container(inputs):
    thunk = inputs.thunk(lambda x: x**3)

    def call():
        output = Lazy((None, None))
        output.thunk = thunk
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [defers_in_a_container]
