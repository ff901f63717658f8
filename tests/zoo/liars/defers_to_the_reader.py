"""Returns a tensor of a class of its own that computes when somebody looks at it."""

import torch

import benchbench as bb


class Later(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            for item in args:
                if isinstance(item, Later) and item.todo is not None:
                    x, w, item.todo = *item.todo, None
                    torch.mm(x, w, out=item)
            return function(*args, **(kwargs or {}))


@bb.implementation("liars/product", "defers_to_the_reader")
def defers_to_the_reader(inputs):
    def call():
        output = torch.empty_like(inputs.x).as_subclass(Later)
        output.todo = (inputs.x, inputs.w)
        return output

    return call


@bb.hookimpl
def benchbench_implementations():
    return [defers_to_the_reader]
