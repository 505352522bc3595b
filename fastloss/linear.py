"""Linear layers and their loss together: large logits never exist all at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastloss._engine.chunks import LinearGradients
from fastloss._engine.documentation import documented
from fastloss._engine.fragments import LINEAR
from fastloss._engine.linear import linear_loss
from fastloss._engine.options import CommonOfSeveral, RowOptionsOfSeveral
from fastloss._engine.types import Array, Reduction

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "LinearGradients",
    "linear_cross_entropy",
    "linear_token_log_probs",
]


@documented(LINEAR, gradients=LinearGradients)
def linear_cross_entropy(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    sample_weight: npt.ArrayLike | None = None,
    filter_eps: float = 0.0,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **options: Unpack[RowOptionsOfSeveral],
) -> Any:
    r"""Cross-entropy of a linear layer's logits, which are made in chunks.

    ``loss = cross_entropy(input @ linear_weight.T + linear_bias, target)``

    With :math:`z_i = W x_i + b` the logits of token `i`,

    .. math:: \mathrm{cross\_entropy}(X W^\top + b,\ y)

    with the options and the meaning of `cross_entropy`. For `N` tokens, width `D` and `V` classes the
    logits and their gradient would be ``(N, V)`` arrays; here they are made for some tokens at a time, in
    one buffer. Ignored tokens are left out before anything is multiplied. The products are those of NumPy's
    BLAS, with its threads (in a training loop see "Settings" of the README).

    Parameters
    ----------
    input : array_like with shape (..., D)
        The vectors of the tokens; float16, bfloat16 (of ml_dtypes), float32 or float64. Half types are
        multiplied in float32, of which there is never a whole copy of `linear_weight`; the gradient of
        that is added up in float32 and rounded once. Lists and integers become float64.
    target : array_like with shape (...) or (..., V)
        A class index for each token, of any integer type; or probabilities.
    ignore_index : int, default -100
        Tokens with this target have loss and gradient 0, and are not read. With probabilities it must be
        negative.
    filter_eps : float, default 0.0
        Where greater than 0: in each chunk, classes whose logits all have a gradient under this number (in
        units of the smallest weight of a token there; without weights, a probability) are left out of the
        products for the gradients of `input` and `linear_weight`. An approximation: of a token's gradient
        less is left out than ``filter_eps``, in those units, times the sum of the absolute rows of
        `linear_weight` that are. The loss and the bias's gradient are exact. It takes memory of its own: up
        to half of a chunk's logits and of `linear_weight`.

    See Also
    --------
    cross_entropy : from logits.
    linear_token_log_probs : the log-probability of each target.

    Notes
    -----
    What `filter_eps` brings depends on how few classes matter in a chunk. Of 32,000 classes and 1,024
    tokens (float32, value and gradients): where a twentieth of the classes are in use at all, 1e-6 takes
    0.5 of the time and costs no digit; with classes as frequent as words (Zipf), 2**-12 leaves 46 % of
    them, takes 0.9 of the time, and gradients are off by 5e-3 of their largest entry. In a small trained
    model of 4,704 words it leaves 94 %, and gains nothing; there 1e-2 leaves 18 %, takes 0.66 of the time,
    and is off by 7e-2. Looking costs 6 %.

    References
    ----------
    ``torch.nn.functional.linear_cross_entropy``. Wijmans et al., "Cut your losses in large-vocabulary
    language models", 2025, for `filter_eps`.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> rng = np.random.default_rng(0)
    >>> hidden, weight = rng.standard_normal((4, 3)), rng.standard_normal((10, 3))
    >>> loss, grad = fastloss.linear_cross_entropy(hidden, weight, [1, 7, -100, 2], return_grad=True)
    >>> round(loss, 4)
    3.3617
    >>> grad.input.shape, grad.linear_weight.shape, grad.linear_bias
    ((4, 3), (10, 3), None)

    Micro-batches write their own rows of the gradient of `input`, and add up in that of `linear_weight`:

    >>> target, total = np.array([1, 7, -100, 2]), 3
    >>> grad_hidden, grad_weight = np.empty_like(hidden), np.zeros_like(weight)
    >>> for rows in (slice(0, 2), slice(2, 4)):
    ...     loss, _ = fastloss.linear_cross_entropy(
    ...         hidden[rows], weight, target[rows], reduction="sum", return_grad=True,
    ...         grad_output=1.0 / total, out=(grad_hidden[rows], grad_weight, None),
    ...         accumulate=(False, True, False),
    ...     )
    >>> np.allclose(grad_hidden, grad.input), np.allclose(grad_weight, grad.linear_weight)
    (True, True)
    """
    return linear_loss(
        input,
        linear_weight,
        target,
        reduction,
        return_grad,
        out,
        options,
        linear_bias=linear_bias,
        weight=weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        filter_eps=filter_eps,
        memory_budget=memory_budget,
    )


@documented(
    LINEAR,
    gradients=LinearGradients,
    mean="the number of tokens that are not ignored",
    unreduced="the log-probability of each token",
    result="log_probs",
)
def linear_token_log_probs(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    temperature: float = 1.0,
    softcap: float | None = None,
    memory_budget: int | None = None,
    reduction: Reduction = "none",
    return_grad: bool = False,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    **common: Unpack[CommonOfSeveral],
) -> Any:
    r"""Log-probability of each target under a linear layer's logits, which are made in chunks.

    ``log_probs = token_log_probs(input @ linear_weight.T + linear_bias, target)``

    .. math:: z_{i y_i} - \log \sum_j e^{z_{ij}}, \qquad z_i = \mathrm{softcap}(W x_i + b) / T

    for token `i` with class :math:`y_i`. What preference and policy losses are made from; their gradient
    comes back through `grad_output`.

    See Also
    --------
    linear_cross_entropy : their negative mean.

    References
    ----------
    ``torch.nn.functional.linear_cross_entropy``, of which it is the negative; the ``logps`` of TRL.

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> hidden, weight = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> fastloss.linear_token_log_probs(hidden, weight, [0]).round(4)
    array([-0.1269])
    """
    return linear_loss(
        input,
        linear_weight,
        target,
        reduction,
        return_grad,
        out,
        common,
        linear_bias=linear_bias,
        ignore_index=ignore_index,
        sign=-1.0,
        own={"temperature": temperature, "softcap": softcap},
        memory_budget=memory_budget,
    )
