"""Linear layers and their loss together: large logits never exist all at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.conversion import widened
from fastloss._engine.linear import Call, Layer, LinearGradients, Share
from fastloss._engine.types import Array, Reduction

__all__ = ["LinearGradients", "linear_cross_entropy", "linear_token_log_probs"]


def _layer(linear_weight: Any, linear_bias: Any, x: Array) -> tuple[Array, Array | None]:
    """Check weight and bias beside the input."""
    weight = arguments.floating("linear_weight", linear_weight)
    bias = None if linear_bias is None else arguments.floating("linear_bias", linear_bias)
    for name, array in (("linear_weight", weight), ("linear_bias", bias)):
        if array is not None and array.dtype != x.dtype:
            raise TypeError(f"{name} must be {x.dtype} like the input, got {array.dtype}")
    if x.ndim == 0:
        raise ValueError("input must have features on its last axis, got a scalar")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1] or weight.shape[0] == 0:
        raise ValueError(
            f"linear_weight must have a row of {x.shape[-1]} features for each class, "
            f"shape (V, {x.shape[-1]}) with V > 0; got {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear_bias must have shape {weight.shape[:1]}, got {bias.shape}")
    return weight, bias


def _weights_of(indices: Array, weight: Array, share: Share | None) -> Array:
    """The class weights of class indices, which count from the first class here."""
    if share is None:
        return weight[indices]
    is_here = (indices >= 0) & (indices < len(weight))
    own = np.zeros(len(indices))
    own[is_here] = weight[indices[is_here]]
    return np.asarray(share.gather(own).sum(axis=0))


def linear_loss(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None,
    ignore_index: int,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    sign: float = 1.0,
    filter_eps: float = 0.0,
    memory_budget: int | None,
    reduction: Reduction,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    out: tuple[Array | None, Array | None, Array | None] | None,
    accumulate: bool | tuple[bool, bool, bool],
    num_threads: int | None,
    share: Share | None = None,
    **options: Any,
) -> Any:
    """Check, run in chunks, and reduce.

    With a `share` the layer, the class weights, and a target of probabilities are a part of all.
    """
    arguments.reduction(reduction)
    options = arguments.softmax_options(**options)
    ignore_index = arguments.index("ignore_index", ignore_index)
    if memory_budget is not None:
        memory_budget = arguments.index("memory_budget", memory_budget)
        if memory_budget < 1:
            raise ValueError(f"memory_budget must be at least 1, got {memory_budget}")
    arguments.threads(num_threads)
    return_grad = arguments.flag("return_grad", return_grad)
    x = arguments.floating("input", input)
    layer_weight, bias = _layer(linear_weight, linear_bias, x)
    rows, classes = x.shape[:-1], layer_weight.shape[0]
    all_classes, first = (classes, 0) if share is None else (share.classes, share.first)
    count = math.prod(rows)

    given = arguments.as_array("target", target)
    weight = arguments.given("weight", weight)
    sample_weight = arguments.given("sample_weight", sample_weight)
    grad_output = arguments.given("grad_output", grad_output)
    indices = probabilities = counted = None
    shape = (*rows, classes)
    class_weight = None if weight is None else arguments.class_weight(weight, classes)
    samples = arguments.per_row("sample_weight", sample_weight, rows)
    shares = np.ones(count) if samples is None else samples.reshape(-1)
    if sign > 0 and arguments.is_probabilities(given):
        probabilities = arguments.probabilities(given, shape, len(rows), x.dtype, ignore_index)
        probabilities = probabilities.reshape(count, classes)
    else:
        target_indices, ignored = arguments.class_indices(given, shape, len(rows), ignore_index)
        indices = target_indices.reshape(-1)
        counted = np.ones(count, np.bool_) if ignored is None else indices != ignored
        arguments.require_classes(given, indices, all_classes, counted)
        indices, shares = indices - first, shares[counted]
        if class_weight is not None:
            shares = shares * _weights_of(indices[counted], class_weight, share)
    scale, upstream = arguments.upstream(grad_output, rows if reduction == "none" else (), return_grad)
    others = (given, weight, sample_weight, grad_output)
    buffers, flags = arguments.gradient_buffers(
        out, LinearGradients._fields, (x, layer_weight, bias), others, return_grad=return_grad,
        accumulate=accumulate, in_place=False,
    )  # fmt: skip
    gradients = LinearGradients(*buffers)

    denominator = float(shares.sum()) if reduction == "mean" else 1.0
    compute = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    losses = np.zeros(count) if reduction == "none" else None
    with np.errstate(all="ignore"):
        total = Call(
            layer=Layer(layer_weight, bias if bias is None else widened(bias, compute), compute),
            x=x.reshape(count, x.shape[-1]),
            indices=indices,
            probabilities=probabilities,
            counted=None if counted is None or counted.all() else counted,
            weight=class_weight,
            sample_weight=None if samples is None else samples.reshape(-1),
            grad_output=None if upstream is None else upstream.reshape(-1),
            grad_scale=float(np.float64(scale) / denominator),
            sign=sign,
            options=options,
            filter_eps=filter_eps,
            gradients=gradients,
            accumulate=flags,
            memory_budget=memory_budget,
            num_threads=num_threads,
            share=share,
        ).run(losses)
    unreduced = None if losses is None else losses.reshape(rows)
    loss = arguments.reduced(reduction, unreduced, total, denominator, x)
    return (loss, gradients) if return_grad else loss


def linear_cross_entropy(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    sample_weight: npt.ArrayLike | None = None,
    z_loss: float = 0.0,
    softcap: float | None = None,
    temperature: float = 1.0,
    filter_eps: float = 0.0,
    memory_budget: int | None = None,
    reduction: Reduction = "mean",
    return_grad: bool = False,
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    accumulate: bool | tuple[bool, bool, bool] = False,
    num_threads: int | None = None,
) -> Any:
    r"""Cross-entropy of a linear layer's logits, which are made in chunks.

    With :math:`z_i = W x_i + b` the logits of token `i`,

    .. math:: \mathrm{cross\_entropy}(X W^\top + b,\ y)

    with the options and the meaning of `cross_entropy`. For `N` tokens, width `D` and `V` classes the
    logits and their gradient would be ``(N, V)`` arrays; here they are made for some tokens at a time, in
    one buffer. Ignored tokens are left out before anything is multiplied. The products are those of NumPy's
    BLAS, with its threads (in a training loop see "Settings" of the README).

    Parameters
    ----------
    input : array_like, shape (..., D)
        The vectors of the tokens; float16, bfloat16 (of ml_dtypes), float32 or float64. Half types are
        multiplied in float32, of which there is never a whole copy of `linear_weight`; the gradient of
        that is added up in float32 and rounded once. Lists and integers become float64.
    linear_weight : array_like, shape (V, D)
        A row for each class, of the type of `input`.
    target : array_like, shape (...) or (..., V)
        A class index for each token, of any integer type; or probabilities.
    linear_bias : array_like, shape (V,), optional
        Added to the logits; of the type of `input`.
    weight : array_like, shape (V,), optional
        A weight for each class.
    ignore_index : int, default -100
        Tokens with this target have loss and gradient 0, and are not read. With probabilities it must be
        negative.
    label_smoothing : float, default 0.0
        The share, between 0 and 1, of the target that is spread evenly over all classes.
    sample_weight : scalar or array_like, shape (...), optional
        A weight for each token.
    z_loss : float, default 0.0
        Factor of the squared log-sum-exp.
    softcap : float, optional
        Bounds the logits smoothly to this magnitude.
    temperature : float, default 1.0
        Divides the (capped) logits.
    filter_eps : float, default 0.0
        Where greater than 0: in each chunk, classes whose logits all have a gradient under this number (in
        units of the smallest weight of a token there; without weights, a probability) are left out of the
        products for the gradients of `input` and `linear_weight`. An approximation: of a token's gradient
        less is left out than ``filter_eps``, in those units, times the sum of the absolute rows of
        `linear_weight` that are. The loss and the bias's gradient are exact. It takes memory of its own: up
        to half of a chunk's logits and of `linear_weight`.
    memory_budget : int, optional
        Bytes of logits at a time; at least some 128 classes of one token. By default all, up to 128 MiB; of
        more, the largest of 64 MiB, 256 tokens, and a twenty-fifth, but no more than 512 MiB for the 256
        tokens. Where it holds fewer than 80 tokens (512 for the value alone) the classes are cut into
        bands; for gradients the logits are then made twice, four products instead of three. Up to 256 MiB
        are kept for the next call, as fresh memory would cost more; the system may take them in between.
    reduction : {"mean", "sum", "none"}, default "mean"
        As in `cross_entropy`: ``"mean"`` divides by the sum, over the tokens that are not ignored, of class
        weight times sample weight; for probabilities by the number of tokens, or the sum of their sample
        weights.
    return_grad : bool, default False
        Also return the gradients with respect to `input`, `linear_weight` and `linear_bias`.
    grad_output : scalar, or array_like of the loss's shape, optional
        The upstream gradient: multiplies the gradients, not the loss.
    out : tuple of three, optional
        Where the gradients are written, in the order of `LinearGradients`: buffers of the shape and dtype
        of their arguments, apart from all inputs; None for one that is not wanted, which then costs
        nothing. What a call has returned can be passed to the next.
    accumulate : bool or tuple of three bools, default False
        Add the gradients to `out`: all of them, or those for which the tuple says so.
    num_threads : int, optional
        For the softmax of this call; otherwise the package setting, or one where there are few logits at a
        time and BLAS has threads of its own. Results do not depend on it. (In their last digits they do on
        how BLAS multiplies: its threads, and the size of a chunk.)

    Returns
    -------
    loss : float, or ndarray of shape (...)
        A Python float for ``"mean"`` and ``"sum"``; for ``"none"`` an array of the dtype of `input`,
        float32 for half types. The mean over no token at all is NaN.
    grad : LinearGradients
        Only with `return_grad`: a named tuple ``(input, linear_weight, linear_bias)``, of the dtype of
        `input`.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot be used, or the three arrays are not of one type.
    ValueError
        If a shape or an option is wrong, or a buffer overlaps an input or another buffer.
    IndexError
        If a class index is neither in ``[0, V)`` nor `ignore_index`; it names the first. Nothing has been
        written to `out` then, as with any other error.

    Notes
    -----
    What `filter_eps` brings depends on how few classes matter in a chunk. Of 32,000 classes and 1,024
    tokens (float32, value and gradients): where a twentieth of the classes are in use at all, 1e-6 takes
    0.5 of the time and costs no digit; with classes as frequent as words (Zipf), 2**-12 leaves 46 % of
    them, takes 0.9 of the time, and gradients are off by 5e-3 of their largest entry. In a small trained
    model of 4,704 words it leaves 94 %, and gains nothing; there 1e-2 leaves 18 %, takes 0.66 of the time,
    and is off by 7e-2. Looking costs 6 %.

    See Also
    --------
    cross_entropy : from logits.
    linear_token_log_probs : the log-probability of each target.

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
        linear_bias=linear_bias,
        weight=weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        softcap=softcap,
        temperature=temperature,
        filter_eps=arguments.number("filter_eps", filter_eps, low=0.0, high=1.0),
        memory_budget=memory_budget,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
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
    grad_output: npt.ArrayLike | None = None,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
    accumulate: bool | tuple[bool, bool, bool] = False,
    num_threads: int | None = None,
) -> Any:
    r"""Log-probability of each target under a linear layer's logits, which are made in chunks.

    .. math:: z_{i y_i} - \log \sum_j e^{z_{ij}}, \qquad z_i = \mathrm{softcap}(W x_i + b) / T

    for token `i` with class :math:`y_i`. What preference and policy losses are made from; their gradient
    comes back through `grad_output`.

    Parameters
    ----------
    input : array_like, shape (..., D)
        The vectors of the tokens; types as in `linear_cross_entropy`.
    linear_weight : array_like, shape (V, D)
        A row for each class.
    target : array_like of int, shape (...)
        A class index for each token.
    linear_bias : array_like, shape (V,), optional
        Added to the logits.
    ignore_index : int, default -100
        Tokens with this target have log-probability and gradient 0, and are not read.
    temperature : float, default 1.0
        Divides the (capped) logits.
    softcap : float, optional
        Bounds the logits smoothly to this magnitude.
    memory_budget : int, optional
        As in `linear_cross_entropy`.
    reduction : {"mean", "sum", "none"}, default "none"
        ``"mean"`` divides by the number of tokens that are not ignored.
    return_grad, grad_output, out, accumulate, num_threads
        As in `linear_cross_entropy`.

    Returns
    -------
    log_probs : float, or ndarray of shape (...)
        Types as those of the loss of `linear_cross_entropy`.
    grad : LinearGradients
        Only with `return_grad`: the gradients of the log-probabilities, not of their negatives.

    Raises
    ------
    TypeError, ValueError, IndexError
        As `linear_cross_entropy`.

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
        linear_bias=linear_bias,
        ignore_index=ignore_index,
        softcap=softcap,
        temperature=temperature,
        sign=-1.0,
        memory_budget=memory_budget,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
    )
