"""Stand-ins for libraries that need a GPU: the same names and signatures, computed by torch.

They behave like the originals where that matters to a contender: which arguments they take, what
they return, what they write over (liger-kernel's gradients), and where autograd ends (FlagGems).
"""

from __future__ import annotations

from types import ModuleType

import torch
import torch.nn.functional as F


class _OverwritingProduct(torch.autograd.Function):
    """silu(a) * b whose backward pass writes the gradients over a and b."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return F.silu(a) * b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        with torch.enable_grad():
            x, y = a.detach().requires_grad_(True), b.detach().requires_grad_(True)
            da, db = torch.autograd.grad(F.silu(x) * y, (x, y), grad)
        a.data.copy_(da)
        b.data.copy_(db)
        return da, db


class _OverwritingLoss(torch.autograd.Function):
    """Cross-entropy that writes the gradient over the logits in forward, when there is one."""

    @staticmethod
    def forward(ctx, logits, target):
        loss = F.cross_entropy(logits.detach(), target)
        if logits.requires_grad:
            grad = logits.detach().softmax(1)
            grad[torch.arange(len(target)), target] -= 1
            logits.data.copy_(grad / len(target))
            ctx.save_for_backward(logits.data.clone())
        return loss

    @staticmethod
    def backward(ctx, grad):
        return ctx.saved_tensors[0] * grad, None


class _OverwritingNorm(torch.autograd.Function):
    """RMS norm whose backward pass writes over the gradient it is given when asked to."""

    @staticmethod
    def forward(ctx, x, weight, eps, in_place):
        ctx.save_for_backward(x, weight)
        ctx.rest = (eps, in_place)
        return F.rms_norm(x, x.shape[-1:], weight, eps)

    @staticmethod
    def backward(ctx, grad):
        (x, weight), (eps, in_place) = ctx.saved_tensors, ctx.rest
        with torch.enable_grad():
            a, w = x.detach().requires_grad_(True), weight.detach().requires_grad_(True)
            dx, dw = torch.autograd.grad(F.rms_norm(a, a.shape[-1:], w, eps), (a, w), grad)
        if in_place:
            grad.copy_(dx)
        return dx, dw, None, None


def liger() -> dict[str, ModuleType]:
    """liger_kernel.transformers.functional."""

    def liger_swiglu(a, b):
        return _OverwritingProduct.apply(a, b)

    def liger_softmax(x):
        return x.softmax(-1)

    def liger_relu_squared(x):
        return F.relu(x).square()

    def liger_layer_norm(X, W, B, eps):
        return F.layer_norm(X, X.shape[-1:], W, B, eps)

    def liger_rms_norm(X, W, eps, offset=0.0, casting_mode="llama", in_place=True):
        return _OverwritingNorm.apply(X, W, eps, in_place)

    def liger_fused_add_rms_norm(X, R, W, eps, offset=0.0, casting_mode="llama", in_place=True):
        total = X + R
        return _OverwritingNorm.apply(total, W, eps, in_place), total

    def liger_group_norm(
        X, affine_scaling_weight, affine_shifting_bias, num_channels, num_groups, eps
    ):
        assert X.is_contiguous() and num_channels == X.shape[1]
        return F.group_norm(X, num_groups, affine_scaling_weight, affine_shifting_bias, eps)

    def liger_cross_entropy(
        input,
        target,
        weight=None,
        size_average=None,
        ignore_index=-100,
        reduce=None,
        reduction="mean",
        label_smoothing=0.0,
        lse_square_scale=0.0,
        softcap=None,
        return_z_loss=False,
    ):
        return _OverwritingLoss.apply(input, target)

    return _modules("liger_kernel", "liger_kernel.transformers", functional=locals())


def quack() -> dict[str, ModuleType]:
    """quack, and layernorm_fwd of quack.rmsnorm."""

    def rmsnorm(
        x,
        weight=None,
        bias=None,
        residual=None,
        out_dtype=None,
        residual_dtype=None,
        eps=1e-6,
        prenorm=False,
    ):
        total = x if residual is None else x + residual
        y = F.rms_norm(total, x.shape[-1:], weight, eps)
        return (y, total) if prenorm and residual is not None else y

    def softmax(x):
        assert x.dim() == 2
        return x.softmax(1)

    def cross_entropy(
        x,
        target,
        lse_partial=None,
        weight=None,
        ignore_index=-100,
        reduction="mean",
        inplace_backward=False,
    ):
        return F.cross_entropy(x, target, reduction=reduction)

    def layernorm_fwd(x, weight, bias=None, eps=1e-6, return_rstd=False, return_mean=False):
        assert weight.dtype == torch.float32
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps).detach()

    top = ModuleType("quack")
    top.__dict__.update(rmsnorm=rmsnorm, softmax=softmax, cross_entropy=cross_entropy)
    norms = ModuleType("quack.rmsnorm")
    norms.layernorm_fwd = layernorm_fwd  # type: ignore[attr-defined]
    top.__path__ = []  # type: ignore[attr-defined]
    return {"quack": top, "quack.rmsnorm": norms}


def gems() -> dict[str, ModuleType]:
    """flag_gems."""

    def raw(function):
        """Operators that are called by name have no autograd."""
        return lambda *arguments, **rest: function(*arguments, **rest).detach()

    def gelu(self, *, approximate="none"):
        return F.gelu(self, approximate=approximate).detach()

    def elu(A, alpha=1.0, scale=1.0, input_scale=1.0):
        return F.elu(A, alpha).detach()

    def softplus(self, beta=1.0, threshold=20.0):
        return F.softplus(self, beta, threshold).detach()

    def glu(self, dim=-1):
        return F.glu(self, dim).detach()

    def softmax(self, dim, half_to_float=False):
        return self.softmax(dim).detach()

    def log_softmax(self, dim, half_to_float=False):
        return self.log_softmax(dim).detach()

    def silu_and_mul(A, B):
        return F.silu(A) * B

    def gelu_and_mul(x, y, approximate="none"):
        return F.gelu(x, approximate=approximate) * y

    def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
        y = F.layer_norm(input, normalized_shape, weight, bias, eps).detach()
        return y, torch.empty(0), torch.empty(0)

    def group_norm(input, weight, bias, N, C, HxW, group, eps=1e-05):
        assert input.numel() == N * C * HxW
        return F.group_norm(input, group, weight, bias, eps).detach(), None, None

    def instance_norm(
        input,
        weight=None,
        bias=None,
        running_mean=None,
        running_var=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
        cudnn_enable=False,
    ):
        return F.instance_norm(input, None, None, weight, bias, True, 0.0, eps)

    def rms_norm(x, normalized_shape, weight, eps=1e-5):
        return F.rms_norm(x, normalized_shape, weight, eps)

    def cross_entropy_loss(
        inp, target, weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0
    ):
        return F.cross_entropy(inp, target)

    def mse_loss(inp, target, reduction=1):
        return F.mse_loss(inp, target).detach()

    module = ModuleType("flag_gems")
    module.__dict__.update(
        {name: value for name, value in locals().items() if callable(value) and name != "raw"},
        relu=raw(lambda self: self.relu()),
        sigmoid=raw(lambda self: self.sigmoid()),
        tanh=raw(lambda self: self.tanh()),
        silu=raw(lambda self: F.silu(self)),
        log_sigmoid=raw(lambda x: F.logsigmoid(x)),
    )
    return {"flag_gems": module}


def _modules(*packages: str, **modules: dict) -> dict[str, ModuleType]:
    """Packages without anything, and modules with names in the last of them."""
    found = {}
    for name in packages:
        found[name] = ModuleType(name)
        found[name].__path__ = []  # type: ignore[attr-defined]
    for name, contents in modules.items():
        module = ModuleType(f"{packages[-1]}.{name}")
        module.__dict__.update(contents)
        found[module.__name__] = module
    return found
