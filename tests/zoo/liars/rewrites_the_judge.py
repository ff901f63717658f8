"""Gives the function that judges errors another body, so that all are right."""

import torch

import benchbench as bb
from benchbench import checks


@bb.implementation("liars/product", "rewrites_the_judge")
def rewrites_the_judge(inputs):
    checks.judge.__code__ = (lambda errors, baseline, tolerance: ({}, "")).__code__
    return lambda: torch.zeros_like(inputs.x)


@bb.hookimpl
def benchbench_implementations():
    return [rewrites_the_judge]
