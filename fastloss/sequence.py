"""Log-probabilities and entropies of sequences of tokens, straight from logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastloss._engine.documentation import documented
from fastloss._engine.fragments import ROWS
from fastloss._engine.options import Common
from fastloss._engine.rows import cross_entropy_rows, entropy_of_rows, row_loss, sequence_loss
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "entropy",
    "sequence_log_probs",
    "token_log_probs",
]


@documented(
    ROWS,
    mean="the number of tokens that are not ignored",
    unreduced="the log-probability of each token",
    result="log_probs",
)
def token_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    axis: int = -1,
    ignore_index: int = -100,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Log-probability of each target token.

    ``log_probs = z[target] - log(sum(exp(z)))`` for each row, with ``z = logits / temperature``

    .. math:: z_y - \log \sum_j e^{z_j}, \qquad z = x / T

    for a row of logits `x` with class `y`. It is minus the `cross_entropy` of each row; log-probabilities of
    other classes are not stored. Preference and policy losses are functions of it: pass their gradient as
    `grad_output` for that of the logits. The gradient is ``(one_hot(target) - softmax(z)) / temperature``.

    Parameters
    ----------
    ignore_index : int, default -100
        Tokens with this target have log-probability and gradient 0, and are not read.
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    See Also
    --------
    sequence_log_probs : their sums over sequences.
    linear_token_log_probs : the same from a linear layer, without stored logits.

    References
    ----------
    ``trl.trainer.utils.selective_log_softmax``; ``torch.log_softmax`` and ``gather``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])
    >>> fastloss.token_log_probs(logits, [0, 1]).round(4)
    array([-0.6931, -0.2231])
    """
    return row_loss(
        cross_entropy_rows, "logits", logits, axis, target, reduction, return_grad, out, common,
        ignore_index=ignore_index, own={"temperature": temperature}, sign=-1.0,
    )  # fmt: skip


@documented(
    ROWS,
    mean="the number of sequences",
    unreduced="the log-probability of each sequence",
    result="log_probs",
    of_nothing=(
        "A sequence without tokens that count has log-probability 0. The mean over no sequences is NaN, "
        "their sum is 0."
    ),
    outside="if `mask` and `lengths` are both given, if `mask` holds other numbers than 0 and 1, if a length "
    "is not between 0 and T, ",
)
def sequence_log_probs(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    lengths: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    average: bool = False,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Log-probability of each sequence of target tokens.

    ``log_probs = sum(z[t, target[t]] - log(sum(exp(z[t]))) for t in counted)``, with
    ``z = logits / temperature``

    .. math:: \sum_t m_t \Big(z_{t y_t} - \log \sum_j e^{z_{tj}}\Big), \qquad z_t = x_t / T

    for a sequence with logits :math:`x_t`, classes :math:`y_t` and mask `m`. Nothing is shifted: the logits
    at `t` are those for the target at `t`. Preference losses are functions of it: pass their gradient as
    `grad_output` for that of the logits. The gradient at `t` is ``one_hot(target) - softmax(z)``, divided
    by the temperature, and with `average` by the number of tokens that count.

    Parameters
    ----------
    logits : array_like with shape (..., T, C)
        Unnormalised scores; |types| Rows may have any strides and are not copied. Logits of tokens that do
        not count are not read, and their gradient is 0. A class at ``-inf`` is masked: its probability and
        gradient are 0.
    target : array_like of int with shape (..., T)
        Class index of each token, of any integer type. Targets of tokens that do not count may have any
        value.
    mask : array_like of bool, or of 0 and 1, with shape (..., T), optional
        Tokens that count; by default all.
    lengths : array_like of int with shape (...), optional
        Number of tokens that count in each sequence, from its first one on. An alternative to `mask`.
    ignore_index : int, default -100
        Tokens with this target do not count.
    average : bool, default False
        Divide the sum of each sequence by the number of its tokens that count.
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    Raises
    ------
    IndexError
        If the target of a token that counts is not in ``[0, C)``. The message names the first one. Nothing
        has been written to `out` then.

    See Also
    --------
    token_log_probs : the log-probability of each token.

    References
    ----------
    The ``logps`` of TRL's DPO trainer; with `average` those of its CPO and ORPO trainers.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> logits = np.log([[[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]])
    >>> fastloss.sequence_log_probs(logits, [[0, 1, 0]], lengths=[2]).round(4)
    array([-0.9808])
    """
    return sequence_loss(
        logits, target, reduction, return_grad, out, common, mask=mask, lengths=lengths,
        ignore_index=ignore_index, average=average, temperature=temperature,
    )  # fmt: skip


@documented(
    ROWS,
    mean="the number of rows",
    unreduced="the entropy of each row",
    result="entropy",
    of_nothing=(
        "A row with a NaN, with ``+inf``, or with nothing but ``-inf`` is NaN. The mean over no rows is NaN, "
        "their sum is 0."
    ),
)
def entropy(
    logits: npt.ArrayLike,
    *,
    axis: int = -1,
    temperature: float = 1.0,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: Array | None = None,
    **common: Unpack[Common],
) -> Any:
    r"""Entropy of softmax(logits), in nats.

    ``entropy = -sum(p * log(p))`` for each row, with ``p = softmax(logits / temperature)``

    .. math:: -\sum_j p_j \log p_j, \qquad p = \mathrm{softmax}(x / T)

    for a row of logits `x`. It measures the uncertainty of a model: 0 if one class has all of the
    probability, ``log(C)`` if all classes have the same. An entropy bonus adds it to the objective of a
    policy. The gradient is ``-p * (log(p) + entropy) / temperature``.

    Parameters
    ----------
    temperature : float, default 1.0
        Divisor of the logits, greater than 0.

    Raises
    ------
    IndexError
        If `axis` is out of range (`numpy.exceptions.AxisError`, which is also a ValueError).

    See Also
    --------
    cross_entropy : against a target.

    References
    ----------
    ``torch.distributions.Categorical.entropy``, ``trl.trainer.utils.entropy_from_logits``.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> [f"{value:.4g}" for value in fastloss.entropy(np.array([[0.0, 0.0], [0.0, 40.0]]))]
    ['0.6931', '1.742e-16']
    """
    return entropy_of_rows(logits, axis, temperature, reduction, return_grad, out, common)
