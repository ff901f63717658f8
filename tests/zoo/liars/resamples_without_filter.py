"""Interpolates and is sold as a resampler that filters: high tones come back as low ones."""

import torch

import benchbench as bb


@bb.implementation("samplers/audio-44100-to-16000", "resamples_without_filter")
def resamples_without_filter(inputs):
    x = inputs.x
    size = -(-len(x) * 160 // 441)
    position = torch.arange(size, dtype=torch.float64) * 441 / 160
    left = position.floor().long().clamp(max=len(x) - 2)
    share = (position - left).float()
    return lambda: torch.lerp(x[left], x[left + 1], share)


@bb.hookimpl
def benchbench_implementations():
    return [resamples_without_filter]
