"""The losses as functions of tensors, for programs that train with PyTorch on the processor.

Where ``torch.nn.functional`` has a function, the one here has its name, its signature and its meaning; the
others are those of `fastloss`, with theirs. All are differentiable. `install` puts them in the place of
torch's for a whole program, which then needs no other change.

Gradients are computed in the forward pass, together with the value, when they will be wanted; backward has
something to do only where the incoming gradient is not 1. Tensors of the processor are read and written where
they lie. Whatever is not ours (other devices, dtypes that differ, shapes that broadcast, targets with a
gradient, functional transforms, forward differentiation) is given to torch's own function. The losses that
torch lacks have the transforms of ``torch.func`` that go in reverse, and ``vmap``; a forward or second
derivative of them is a `NotImplementedError`.

The kernels use as many threads as ``torch.get_num_threads()`` says.
"""

from fastloss.torch import _beyond, _derived, _functional, _install, _modules, _parallel

_PUBLIC = {
    name: getattr(module, name)
    for module in (_beyond, _derived, _functional, _install, _modules, _parallel)
    for name in module.__all__
}
globals().update(_PUBLIC)
__all__ = sorted(_PUBLIC)
