"""Named input buffers, and the one helper that most contenders need.

Torch is imported when a method needs it, so that describing a catalogue stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchbench.contract import Thunk

if TYPE_CHECKING:
    import torch


class Inputs(Mapping[str, Any]):
    """The buffers of a case, by name; every contender of the case reads these same buffers.

    Args:
        values: named tensors and settings (``{"x": x, "eps": 1e-5}``).
        arguments: names that :meth:`thunk` passes to a function, in order; all by default.
        wrt: names of the floating-point tensors whose gradients are part of the output.
        cotangents: gradients of the outputs. With ``wrt`` empty the case is forward only.

    Values are items and attributes: ``inputs["x"]`` is ``inputs.x``.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        arguments: Sequence[str] | None = None,
        wrt: Sequence[str] = (),
        cotangents: Sequence[torch.Tensor] = (),
    ) -> None:
        self._values = dict(values)
        self.arguments = tuple(self._values if arguments is None else arguments)
        self.wrt = tuple(wrt)
        self.cotangents = tuple(cotangents)
        self.thunks_made: list[tuple[Thunk, Callable[..., Any], Sequence[torch.Tensor]]] = []
        """What :meth:`thunk` gave, with the function and the parameters that it closed over."""
        for name in self.wrt:
            self._values[name].requires_grad_(True)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(
                f"these inputs have no {name!r}; they have {', '.join(self.__dict__['_values'])}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def backward(self) -> bool:
        """True when gradients are part of what is measured."""
        return bool(self.cotangents)

    def thunk(self, function: Callable[..., Any], parameters: Sequence[torch.Tensor] = ()) -> Thunk:
        """Close ``function`` over the arguments, with the backward pass when the case asks for it.

        Args:
            function: takes the values named in ``arguments``, returns a tensor or a tuple of them.
            parameters: tensors of the contender's own whose gradients are wanted too (they follow
                those of ``wrt`` in the output).

        Returns:
            a callable whose output is ``function``'s own, or, in a backward case, the flat tuple
            ``(*outputs, *gradients)``.
        """
        arguments = [self[name] for name in self.arguments]
        if not self.cotangents:
            forward = partial(function, *arguments)
            self.thunks_made.append((forward, function, parameters))
            return forward
        from torch.autograd import grad

        targets = [self[name] for name in self.wrt] + list(parameters)
        cotangents = self.cotangents

        def forward_backward() -> tuple[torch.Tensor, ...]:
            output = function(*arguments)
            outputs = output if isinstance(output, tuple) else (output,)
            return (*(o.detach() for o in outputs), *grad(outputs, targets, cotangents))

        self.thunks_made.append((forward_backward, function, parameters))
        return forward_backward

    def to(self, dtype: torch.dtype) -> Inputs:
        """The same inputs with every floating-point tensor converted to ``dtype``."""

        def convert(value: Any) -> Any:
            import torch

            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value.detach().to(dtype, copy=True)
            return value

        return Inputs(
            {name: convert(value) for name, value in self._values.items()},
            arguments=self.arguments,
            wrt=self.wrt,
            cotangents=[convert(value) for value in self.cotangents],
        )

    def double(self) -> Inputs:
        """The same inputs in float64, for a reference."""
        import torch

        return self.to(torch.float64)

    def tensors(self) -> dict[str, Any]:
        """Every value by name and the cotangents: all that contenders share."""
        shared = dict(self._values)
        shared.update({f"cotangent {i}": value for i, value in enumerate(self.cotangents)})
        return shared
