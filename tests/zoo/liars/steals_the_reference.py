"""Finds the float64 reference among all objects and hands out a copy in float32."""

import gc

import torch

import benchbench as bb


def find(shape):
    for item in gc.get_objects():
        if type(item).__name__ == "Checker":
            found = item._raw_reference
            if torch.is_tensor(found) and found.shape == shape:
                return found
    return None


@bb.implementation("liars/product", "steals_the_reference")
def steals_the_reference(inputs):
    found = []

    def call():
        if not found:
            found.append(find(inputs.x.shape))
        return found[0].float() if found[0] is not None else inputs.x @ inputs.w

    return call


@bb.hookimpl
def benchbench_implementations():
    return [steals_the_reference]
