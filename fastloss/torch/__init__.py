"""The losses as functions of tensors, for programs that train with PyTorch on the processor.

Where ``torch.nn.functional`` has a function, the one here has its name, its signature and its meaning; the
others are those of `fastloss`, with theirs. All are differentiable. `install` puts them in the place of torch's
for a whole program, which then needs no other change.

Gradients are computed in the forward pass, together with the value, when they will be wanted; backward has
something to do only where the incoming gradient is not 1. Tensors of the processor are read and written where
they lie. Whatever is not ours (other devices, dtypes that differ, shapes that broadcast, targets with a gradient,
functional transforms, forward differentiation) is given to torch's own function.

The kernels use as many threads as ``torch.get_num_threads()`` says.
"""

from fastloss.torch import _beyond, _functional, _modules, _parallel
from fastloss.torch._beyond import *
from fastloss.torch._functional import *
from fastloss.torch._install import Installed, install, uninstall
from fastloss.torch._modules import *
from fastloss.torch._parallel import *

__all__ = [
    *_functional.__all__,
    *_beyond.__all__,
    *_modules.__all__,
    *_parallel.__all__,
    "Installed",
    "install",
    "uninstall",
]
