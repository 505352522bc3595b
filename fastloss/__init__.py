"""Fast, exact loss functions with gradients for training on CPUs.

Every function takes NumPy arrays (or anything that ``numpy.asarray`` takes) and, where asked, returns the
gradient from the same pass over memory. Names and meanings are those of ``torch.nn.functional``.
"""

from fastloss._settings import (
    get_num_threads,
    num_threads,
    set_num_threads,
    share_threads_with_blas,
    show_config,
)
from fastloss.classification import (
    cross_entropy,
    log_softmax,
    logsumexp,
    nll_loss,
    softmax,
)
from fastloss.perplexity import Perplexity, perplexity

__version__ = "0.1.0"

__all__ = [
    "Perplexity",
    "cross_entropy",
    "get_num_threads",
    "log_softmax",
    "logsumexp",
    "nll_loss",
    "num_threads",
    "perplexity",
    "set_num_threads",
    "share_threads_with_blas",
    "show_config",
    "softmax",
]
