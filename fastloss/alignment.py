"""Losses of label sequences that are shorter than the input, and not aligned to it."""

from __future__ import annotations

from typing import Any, Unpack

import numpy.typing as npt

from fastloss._engine.alignment import ctc
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ALIGNMENT
from fastloss._engine.options import Common
from fastloss._engine.types import Array, Reduction

__all__ = ["ctc_loss", "ctc_loss_with_logits"]


@documented(ALIGNMENT)
def ctc_loss(
    log_probs: npt.ArrayLike,
    targets: npt.ArrayLike,
    input_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Connectionist temporal classification (CTC), from log-probabilities.

    ``loss = -log(sum over all alignments of exp(sum over steps of log_probs[step, class of the alignment]))``

    .. math:: -\log \sum_{a \in A(y)} \prod_t p_t(a_t)

    for the labels `y` of a sample. An alignment `a` has a class for each step; it belongs to `y` if `y`
    remains when classes that follow themselves are merged and then blanks are removed. Choose it where a
    sequence is to be predicted from a longer one and nobody knows which step belongs to which label, as in
    the recognition of speech and handwriting.

    See Also
    --------
    ctc_loss_with_logits : the same from logits, in fewer passes over memory.

    Notes
    -----
    The gradient is that with respect to `log_probs`: minus the posterior probability of each class at each
    step, 0 for classes that are neither among the targets nor the blank, which are not read. PyTorch returns
    ``exp(log_probs)`` more, as if a log-softmax came before; through a log-softmax both are the same.

    Probabilities have exponents beyond those of float64, so that no alignment is lost, and are added without
    logarithms. The scratch memory of a thread is 48 bytes for each step and label of the longest sample.

    References
    ----------
    Graves et al., "Connectionist temporal classification", 2006. ``torch.nn.functional.ctc_loss``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> log_probs = np.log(np.array([[[0.5, 0.4, 0.1]], [[0.6, 0.3, 0.1]], [[0.2, 0.1, 0.7]]]))
    >>> loss, grad = fastloss.ctc_loss(log_probs, [[1, 2]], [3], [2], reduction="sum", return_grad=True)
    >>> round(float(np.exp(-loss)), 4)  # of the alignments 112, 122, 012, 102 and 120
    0.393
    >>> grad[0, 0].round(4)
    array([-0.2672, -0.7328,  0.    ])
    """
    return ctc(
        log_probs, targets, input_lengths, target_lengths, reduction, return_grad, out, common,
        name="log_probs", blank=blank, zero_infinity=zero_infinity, has_logits=False,
    )  # fmt: skip


@documented(ALIGNMENT)
def ctc_loss_with_logits(
    logits: npt.ArrayLike,
    targets: npt.ArrayLike,
    input_lengths: npt.ArrayLike,
    target_lengths: npt.ArrayLike,
    *,
    blank: int = 0,
    zero_infinity: bool = False,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Connectionist temporal classification (CTC), from logits.

    ``loss = ctc_loss(log_softmax(logits), targets, input_lengths, target_lengths)``

    .. math:: -\log \sum_{a \in A(y)} \prod_t \mathrm{softmax}(x_t)_{a_t}

    for the labels `y` of a sample; see `ctc_loss` for the alignments. The log-softmax is part of the loss: no
    array holds it. The gradient is that with respect to the logits, softmax minus posterior.

    See Also
    --------
    ctc_loss : the same from log-probabilities.

    References
    ----------
    Graves et al., "Connectionist temporal classification", 2006; ``optax.ctc_loss``, which also takes logits.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.array([[[0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 2.0]]])
    >>> loss, grad = fastloss.ctc_loss_with_logits(
    ...     logits, [[1, 2]], [3], [2], reduction="sum", return_grad=True
    ... )
    >>> round(loss, 4)
    0.4233
    >>> grad[1, 0].round(4)
    array([ 0.0313, -0.0156, -0.0156])
    """
    return ctc(
        logits, targets, input_lengths, target_lengths, reduction, return_grad, out, common,
        name="logits", blank=blank, zero_infinity=zero_infinity, has_logits=True,
    )  # fmt: skip
