"""What autograd keeps from the forward to the backward pass: the memory that training is about.

Counted while a forward pass runs, from the tensors that operations save for their backward
(``torch.autograd.graph.saved_tensors_hooks``). A storage counts once, however many operations save
it or views of it, and as a whole, since that is what stays alive. Parameters and inputs would be
there anyway and are counted apart.

What an operation keeps beside tensors, and what the backward pass allocates, is not seen: the peak
of a whole step stands in the column ``memory``. Compiled models are left out: under hooks they
would be compiled once more, into another graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

MIB = 2**20
_FIGURE = "saved_activation_bytes"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """Bytes of storages that a forward pass has saved."""

    activations: int = 0
    """Of neither parameters nor inputs."""
    parameters: int = 0
    inputs: int = 0


class SavedTensors(saved_tensors_hooks):
    """While entered, notes what is saved. Results and gradients are what they are without it.

    Args:
        parameters: of the model, with its buffers.
        inputs: of the pass, with its targets.
    """

    saved = Saved()
    """What was saved, once it is left."""

    def __init__(self, parameters: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        # Storages are kept, not addresses alone: a freed one's address may come again.
        self._storages: dict[int, Any] = {}
        self._kinds = {_storage(tensor)[0]: "inputs" for tensor in inputs}
        self._kinds.update((_storage(tensor)[0], "parameters") for tensor in parameters)

        def note(tensor: Tensor) -> Tensor:
            address, storage = _storage(tensor)
            self._storages[address] = storage
            return tensor

        super().__init__(note, lambda tensor: tensor)

    def __enter__(self) -> SavedTensors:
        super().__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        super().__exit__(*raised)
        sums = dict.fromkeys(("activations", "parameters", "inputs"), 0)
        for address, storage in self._storages.items():
            sums[self._kinds.get(address, "activations")] += storage.nbytes()
        self.saved = Saved(**sums)
        self._storages.clear()  # or nothing would be freed in the backward pass


def _storage(tensor: Tensor) -> tuple[int, Any]:
    storage = tensor.untyped_storage()
    return storage._cdata, storage


def note(loss: Tensor, saved: Saved) -> None:
    """Leave the figure with a training step's loss.

    Every part of an output is compared with the reference, in which this has no place: ways to run
    a model may save more or less. So it travels as an attribute.
    """
    setattr(loss, _FIGURE, saved.activations)


def metrics(output: Mapping[str, Any]) -> dict[str, float]:
    """``saved_MiB`` of the activations, where the step has left it."""
    found = getattr(output["loss"], _FIGURE, None)
    return {} if found is None else {"saved_MiB": found / MIB}
