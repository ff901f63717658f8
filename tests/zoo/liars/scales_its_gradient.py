"""Leaves the factor three out of the gradient."""

import benchbench as bb


@bb.implementation("liars/cube", "scales_its_gradient")
def scales_its_gradient(inputs):
    def call():
        x = inputs.x.detach()
        return (x**3, x**2 * inputs.cotangents[0])

    return call


@bb.hookimpl
def benchbench_implementations():
    return [scales_its_gradient]
