"""Losses of tensors with autograd, for programs that train with PyTorch on the CPU.

Functions that ``torch.nn.functional`` has keep its names, signatures and meaning. The others have those of
`fastloss`. All are differentiable. `install` replaces torch's functions for a whole program, which then needs
no other change.

If gradients are required, they are computed in the forward pass, together with the value. Backward
multiplies them only if the incoming gradient is not 1. For unreduced and float16 losses backward computes the
gradients. CPU tensors are read and written without copies. Torch's own function is called for other devices,
mixed dtypes, shapes that broadcast, targets that require a gradient, functional transforms and forward-mode
differentiation. The losses that torch lacks support ``vmap`` and the reverse-mode transforms of
``torch.func``. A forward or second derivative of them raises a `NotImplementedError`, or a `RuntimeError`
with ``create_graph=True``.

The kernels use ``torch.get_num_threads()`` threads.
"""

from fastloss.torch import (
    _adaptive,
    _beyond,
    _derived,
    _functional,
    _install,
    _modules,
    _parallel,
    _processes,
    _statistics,
    _without_logits,
)

_MODULES = (
    _adaptive, _beyond, _derived, _functional, _install, _modules, _parallel, _processes, _statistics,
    _without_logits,
)  # fmt: skip
_PUBLIC = {name: getattr(module, name) for module in _MODULES for name in module.__all__}
globals().update(_PUBLIC)
__all__ = sorted(_PUBLIC)
