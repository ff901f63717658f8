"""Drop-in modules: subclasses of torch's with another forward.

Names, arguments, defaults, parameters and buffers are torch's, so state dicts go both ways, and
``isinstance(module, torch.nn.LayerNorm)`` stays true.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchbench.fused import activations, curves, group_norms, norms


class ReLU(nn.ReLU):
    """``torch.nn.ReLU``; in place falls back to torch's, which writes nothing twice."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else activations.relu(input)


class Sigmoid(nn.Sigmoid):
    """``torch.nn.Sigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return activations.sigmoid(input)


class Tanh(nn.Tanh):
    """``torch.nn.Tanh``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return activations.tanh(input)


class GELU(nn.GELU):
    """``torch.nn.GELU``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return activations.gelu(input, self.approximate)


class SiLU(nn.SiLU):
    """``torch.nn.SiLU``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else activations.silu(input)


class Softmax(nn.Softmax):
    """``torch.nn.Softmax``; without a dimension falls back to torch's rule and warning."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply along ``dim``."""
        if self.dim is None:
            return super().forward(input)
        return activations.softmax(input, self.dim)


class Softplus(nn.Softplus):
    """``torch.nn.Softplus``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return curves.softplus(input, self.beta, self.threshold)


class LogSigmoid(nn.LogSigmoid):
    """``torch.nn.LogSigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return curves.logsigmoid(input)


class ELU(nn.ELU):
    """``torch.nn.ELU``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else curves.elu(input, self.alpha)


class SELU(nn.SELU):
    """``torch.nn.SELU``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else curves.selu(input)


class Mish(nn.Mish):
    """``torch.nn.Mish``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else curves.mish(input)


class Hardswish(nn.Hardswish):
    """``torch.nn.Hardswish``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        return super().forward(input) if self.inplace else curves.hardswish(input)


class LeakyReLU(nn.LeakyReLU):
    """``torch.nn.LeakyReLU``; in place falls back to torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape."""
        if self.inplace:
            return super().forward(input)
        return curves.leaky_relu(input, self.negative_slope)


class PReLU(nn.PReLU):
    """``torch.nn.PReLU``."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to a tensor of any shape, channels second."""
        return curves.prelu(input, self.weight)


class SwiGLU(nn.Module):
    """``silu(gate) * up`` of two tensors of one shape; torch has no module for it."""

    def forward(self, gate: Tensor, up: Tensor) -> Tensor:
        """Multiply elementwise."""
        return activations.swiglu(gate, up)


class LayerNorm(nn.LayerNorm):
    """``torch.nn.LayerNorm``."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the last dimensions."""
        return norms.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """``torch.nn.RMSNorm``."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimensions."""
        return norms.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class AddLayerNorm(nn.LayerNorm):
    """``layer_norm(input + residual)`` and the sum, as pre-norm transformers need it."""

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add two tensors of one shape; return the normalised sum and the sum."""
        return norms.add_layer_norm(
            input, residual, self.normalized_shape, self.weight, self.bias, self.eps
        )


class AddRMSNorm(nn.RMSNorm):
    """``rms_norm(input + residual)`` and the sum."""

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add two tensors of one shape; return the normalised sum and the sum."""
        return norms.add_rms_norm(input, residual, self.normalized_shape, self.weight, self.eps)


class _FusedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Forward of torch's batch norm, statistics included, with our kernel at its end."""

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalise each channel of (N, C, ...), and add the residual in the same pass."""
        return self._fused(input, residual, relu=False)

    def _fused(
        self,
        input: Tensor,
        residual: Tensor | None,
        *,
        relu: bool,
        ceiling: float | None = None,
    ) -> Tensor:
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # cumulative average; a number would break a traced graph
                momentum = 1.0 / self.num_batches_tracked
        # Without running statistics, evaluation uses those of the batch, as torch does.
        training = self.training or (self.running_mean is None and self.running_var is None)
        keeps = not self.training or self.track_running_stats
        return norms._batch_norm(
            input,
            residual,
            self.running_mean if keeps else None,
            self.running_var if keeps else None,
            self.weight,
            self.bias,
            training,
            momentum,
            self.eps,
            relu,
            ceiling,
        )


class BatchNorm1d(_FusedBatchNorm, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d``."""


class BatchNorm2d(_FusedBatchNorm, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``."""


class BatchNorm3d(_FusedBatchNorm, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d``."""


class _FusedBatchNormReLU(_FusedBatchNorm):
    """``relu(batch_norm(input))``, or with a residual ``relu(batch_norm(input) + residual)``."""

    ceiling: float | None = None
    """Where the ReLU cuts: set it to 6 for ReLU6."""

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalise each channel, add, and rectify in one pass."""
        return self._fused(input, residual, relu=True, ceiling=self.ceiling)

    def extra_repr(self) -> str:
        """Torch's, and the ceiling."""
        found = super().extra_repr()  # type: ignore[no-untyped-call]
        return found if self.ceiling is None else f"{found}, ceiling={self.ceiling}"


class BatchNormReLU1d(_FusedBatchNormReLU, BatchNorm1d):
    """Batch norm of (N, C) or (N, C, L), a residual if given, and ReLU; state of a batch norm."""


class BatchNormReLU2d(_FusedBatchNormReLU, BatchNorm2d):
    """Batch norm of (N, C, H, W), a residual if given, and ReLU; state of a batch norm."""


class BatchNormReLU3d(_FusedBatchNormReLU, BatchNorm3d):
    """Batch norm of (N, C, D, H, W), a residual if given, and ReLU; state of a batch norm."""


class GroupNorm(nn.GroupNorm):
    """``torch.nn.GroupNorm``."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each group of channels of (N, C, ...)."""
        return group_norms.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class _FusedInstanceNorm(nn.modules.instancenorm._InstanceNorm):
    """Torch's checks, and its handling of a missing batch dimension, before our kernel."""

    def _apply_instance_norm(self, input: Tensor) -> Tensor:
        return group_norms.instance_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )


class InstanceNorm1d(_FusedInstanceNorm, nn.InstanceNorm1d):
    """``torch.nn.InstanceNorm1d``."""


class InstanceNorm2d(_FusedInstanceNorm, nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d``."""


class InstanceNorm3d(_FusedInstanceNorm, nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d``."""


class LocalResponseNorm(nn.LocalResponseNorm):
    """``torch.nn.LocalResponseNorm``."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...) by neighbouring channels."""
        return group_norms.local_response_norm(input, self.size, self.alpha, self.beta, self.k)
