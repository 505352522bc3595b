"""Linear layers and their loss together: large logits never exist all at once.

Tokens are worked on in chunks. Of each chunk the logits are a matrix product, the softmax family turns them
in place into their gradient, and two more products turn that into the gradients of input and weight. The
products are BLAS's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _arguments, _kernels
from fastloss._blas import add_product, is_straight
from fastloss._types import Array, Reduction
from fastloss._workspace import workspace
from fastloss.classification import run_family

__all__ = ["LinearGradients", "linear_cross_entropy", "linear_token_log_probs"]

# Logits of up to WHOLE bytes are computed at once. Of more, the largest of CHUNK bytes, ROWS rows and a
# SHARE of all is. A product packs the weight anew for every chunk: with 128 rows it takes 1.5 times as long
# for each row as with 1024, with 256 1.2, with 512 1.1.
WHOLE, CHUNK, ROWS, SHARE = 2**27, 2**26, 256, 25
# Bytes of the weight that are converted, or brought into order, at a time.
BAND = 2**24
# Rows whose bias gradients are added in the type computed in, before they are added in float64.
FEW = 64


class LinearGradients(NamedTuple):
    """The gradients of the linear losses; None where one was not wanted or there is no bias."""

    input: Array | None
    linear_weight: Array | None
    linear_bias: Array | None


def _rows_at_once(rows: int, classes: int, itemsize: int, memory_budget: int | None) -> int:
    """How many rows make a chunk; all chunks but the last have as many."""
    row = classes * itemsize
    if memory_budget is not None:
        most = max(1, memory_budget // row)
    elif rows * row <= WHOLE:
        most = rows
    else:
        most = max(ROWS, CHUNK // row, rows // SHARE)
    chunks = -(-rows // most)
    return -(-rows // chunks)


def _product(a: Array, b: Array, out: Array, *, add: bool) -> None:
    """``out = a @ b``, or ``out += a @ b``."""
    if add:
        add_product(a, b, out)
    else:
        np.matmul(a, b, out=out)


@dataclass
class _Layer:
    """The weight and bias, in the type computed in, as BLAS takes them."""

    weight: Array
    bias: Array | None
    compute: np.dtype[Any]

    def bands(self) -> Iterator[tuple[slice, Array]]:
        """The whole weight as it lies, or its rows band by band, converted."""
        weight, classes = self.weight, self.weight.shape[0]
        if weight.dtype == self.compute and is_straight(weight):
            yield slice(0, classes), weight
            return
        step = max(1, BAND // max(1, weight.shape[1] * self.compute.itemsize))
        for start in range(0, classes, step):
            band = slice(start, min(start + step, classes))
            yield band, np.ascontiguousarray(weight[band], self.compute)

    def logits(self, x: Array, out: Array) -> None:
        """``x @ weight.T + bias``."""
        if self.bias is not None:
            out[...] = self.bias
        for band, weight in self.bands():
            _product(x, weight.T, out[:, band], add=self.bias is not None)

    def back(self, z: Array, out: Array, *, add: bool) -> None:
        """``z @ weight``."""
        for band, weight in self.bands():
            _product(z[:, band], weight, out, add=add or band.start > 0)


@dataclass
class _Call:
    """A checked call; rows are flat. What is None was not given, or is not wanted."""

    layer: _Layer
    x: Array
    indices: Array | None
    probabilities: Array | None
    counted: npt.NDArray[np.bool_] | None  # which rows are not ignored, None for all
    weight: Array | None
    sample_weight: Array | None
    grad_output: Array | None
    grad_scale: float
    sign: float
    options: dict[str, Any]
    filter_eps: float
    gradients: LinearGradients
    accumulate: bool
    memory_budget: int | None
    num_threads: int | None

    def chunks(self) -> Iterator[slice | npt.NDArray[np.intp]]:
        """The rows that count, chunk by chunk: as slices where these are neighbours."""
        kept = None if self.counted is None else np.flatnonzero(self.counted)
        rows = self.x.shape[0] if kept is None else kept.size
        if rows == 0:
            return
        itemsize = self.layer.compute.itemsize
        step = _rows_at_once(rows, self.layer.weight.shape[0], itemsize, self.memory_budget)
        for start in range(0, rows, step):
            chunk = slice(start, min(start + step, rows))
            yield chunk if kept is None else kept[chunk]

    def has_gradients(self) -> bool:
        """Whether any is wanted."""
        return any(gradient is not None for gradient in self.gradients)

    def run(self, losses: Array | None) -> float:
        """Run all chunks; return the sum of the losses, which go to `losses` one by one, too.

        Product and softmax take turns: the softmax of one chunk beside the product of the next, in another
        thread, brought nothing (1.05 of the bare products for 1.05; on shared threads 1.03 for 1.01).
        """
        chunks = list(self.chunks())
        first = chunks[0] if chunks else slice(0, 0)
        longest = first.stop if isinstance(first, slice) else first.size
        total = 0.0
        with workspace((longest, self.layer.weight.shape[0]), self.layer.compute) as buffer:
            sums = _Sums(self)  # writes: all that may fail comes before
            for rows in chunks:
                x = self.x[rows]
                if x.dtype != self.layer.compute or not is_straight(x):
                    x = np.ascontiguousarray(x, self.layer.compute)
                z = buffer[: len(x)]
                self.layer.logits(x, z)
                total += self.softmax(rows, z, losses)
                if self.has_gradients():
                    sums.add(rows, x, z)
            sums.end()
        return total

    def softmax(self, rows: Any, z: Array, losses: Array | None) -> float:
        """Turn logits into their gradients, in place, if one is wanted; return the sum of the losses."""

        def of(array: Array | None) -> Array | None:
            return None if array is None else array[rows]

        some = np.empty(z.shape[0])
        _, total, _ = run_family(
            _kernels.CROSS_ENTROPY, z, 1, output=z if self.has_gradients() else None,
            indices=of(self.indices), probabilities=of(self.probabilities), weight=self.weight,
            sample_weight=of(self.sample_weight), grad_output=of(self.grad_output),
            grad_scale=self.sign * self.grad_scale, row_loss=None if losses is None else some,
            num_threads=self.num_threads, **self.options,
        )  # fmt: skip
        if losses is not None:
            losses[rows] = some if self.sign > 0 else 0.0 - some
        return self.sign * total

    def kept_classes(self, rows: Any, z: Array) -> npt.NDArray[np.intp] | None:
        """The classes that `filter_eps` keeps; None for all, also where leaving some out would not pay."""
        if self.filter_eps == 0.0:
            return None
        factors = np.full(z.shape[0], abs(self.grad_scale))
        for array in (self.sample_weight, self.grad_output):
            if array is not None:
                factors *= np.abs(array[rows])
        if self.weight is not None and self.indices is not None:
            factors *= np.abs(self.weight[self.indices[rows]])
        factors = factors[factors > 0.0]
        bound = self.filter_eps * factors.min() if factors.size else 0.0
        # The other way round, a NaN would be left out.
        kept = np.flatnonzero(~((z.max(axis=0) < bound) & (z.min(axis=0) > -bound)))
        return kept if kept.size <= z.shape[1] // 2 else None


class _Sums:
    """The gradients of a call as they grow, chunk after chunk.

    Where the caller's buffer can hold a sum it is kept there; where it cannot (another type than that
    computed in, gaps), beside it until the end.
    """

    def __init__(self, call: _Call) -> None:
        self.call = call
        given, compute, accumulate = call.gradients, call.layer.compute, call.accumulate
        self.input = self.weight = self.bias = None
        self.input_is_begun = self.weight_is_begun = False
        if given.input is not None:
            # Each of its rows is written once, rounded once: it may be of any type.
            is_ready = given.input.flags.c_contiguous
            self.input = given.input if is_ready else np.zeros(given.input.shape, compute)
            self.input = self.input.reshape(call.x.shape)
            self.input_is_begun = accumulate and is_ready
            if call.counted is not None and not self.input_is_begun:
                self.input[~call.counted] = 0
        if given.linear_weight is not None:
            is_ready = given.linear_weight.dtype == compute and given.linear_weight.flags.c_contiguous
            self.weight = given.linear_weight if is_ready else np.empty(given.linear_weight.shape, compute)
            self.weight_is_begun = accumulate and is_ready
        if given.linear_bias is not None:
            self.bias = np.zeros(given.linear_bias.shape)

    def add(self, rows: Any, x: Array, z: Array) -> None:
        """Add what the gradients `z` of the logits of some rows come to."""
        has_products = self.input is not None or self.weight is not None
        kept = self.call.kept_classes(rows, z) if has_products else None
        if self.bias is not None:
            for start in range(0, z.shape[0], FEW):
                self.bias += z[start : start + FEW].sum(axis=0)
        if kept is not None:
            z = z.take(kept, axis=1)
        if self.input is not None:
            self.add_input(self.input, rows, z, kept)
        if self.weight is not None:
            self.add_weight(self.weight, x, z, kept)

    def add_input(self, total: Array, rows: Any, z: Array, kept: npt.NDArray[np.intp] | None) -> None:
        layer = self.call.layer
        is_direct = total.dtype == layer.compute and isinstance(rows, slice)
        out = total[rows] if is_direct else np.empty((z.shape[0], total.shape[1]), layer.compute)
        add = is_direct and self.input_is_begun
        if kept is None:
            layer.back(z, out, add=add)
        else:
            _product(z, np.ascontiguousarray(layer.weight[kept], layer.compute), out, add=add)
        if not is_direct:
            total[rows] = total[rows] + out if self.input_is_begun else out

    def add_weight(self, total: Array, x: Array, z: Array, kept: npt.NDArray[np.intp] | None) -> None:
        if kept is None:
            _product(z.T, x, total, add=self.weight_is_begun)
        else:
            if not self.weight_is_begun:
                total[...] = 0
            total[kept] += z.T @ x
        self.weight_is_begun = True

    def end(self) -> None:
        """Bring home what was kept elsewhere."""
        if self.weight is not None and not self.weight_is_begun:
            self.weight[...] = 0
        for gradient, total in zip(self.call.gradients, (self.input, self.weight, self.bias), strict=True):
            if gradient is None or total is None or np.may_share_memory(gradient, total):
                continue
            total = total.reshape(gradient.shape)
            gradient[...] = gradient + total if self.call.accumulate else total


def _buffers(
    out: Any,
    arrays: tuple[Array, Array, Array | None],
    others: tuple[Any, ...],
    return_grad: bool,
    accumulate: bool,
) -> LinearGradients:
    """Check return_grad, out and accumulate; return where each gradient goes."""
    if out is None:
        if accumulate:
            raise ValueError("accumulate=True needs out")
        made = [None if not return_grad or a is None else np.empty(a.shape, a.dtype) for a in arrays]
        return LinearGradients(*made)
    if not return_grad:
        raise ValueError("out needs return_grad=True")
    if not isinstance(out, tuple) or len(out) != 3:
        raise TypeError(
            "out must be a tuple of three buffers (input, linear_weight, linear_bias), "
            f"None for one not wanted; got {type(out).__name__}"
        )
    found: list[Array | None] = []
    for field, one, array in zip(LinearGradients._fields, out, arrays, strict=True):
        name = f"out.{field}"
        if one is not None:
            if array is None:
                raise ValueError(f"{name} must be None: there is no {field}")
            if isinstance(one, np.ndarray):
                _arguments.apart(one, (*arrays, *others), f"{name} must not overlap an input")
            _arguments.buffer(one, array, (), name)
            _arguments.apart(one, tuple(found), f"{name} must not overlap another buffer")
        found.append(one)
    return LinearGradients(*found)


def _layer(linear_weight: Any, linear_bias: Any, x: Array) -> tuple[Array, Array | None]:
    """Check weight and bias beside the input."""
    weight = _arguments.floating("linear_weight", linear_weight)
    bias = None if linear_bias is None else _arguments.floating("linear_bias", linear_bias)
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


def _linear_loss(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None,
    ignore_index: int,
    weight: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    softcap: float | None,
    temperature: float,
    sign: float = 1.0,
    filter_eps: float = 0.0,
    memory_budget: int | None,
    reduction: Reduction,
    return_grad: bool,
    grad_output: npt.ArrayLike | None,
    out: tuple[Array | None, Array | None, Array | None] | None,
    accumulate: bool,
    num_threads: int | None,
    **options: Any,
) -> Any:
    """Check, run in chunks, and reduce."""
    _arguments.reduction(reduction)
    options["softcap"] = 0.0 if softcap is None else _arguments.number("softcap", softcap, above=0.0)
    options["temperature"] = _arguments.number("temperature", temperature, above=0.0)
    ignore_index = _arguments.index("ignore_index", ignore_index)
    if memory_budget is not None:
        memory_budget = _arguments.index("memory_budget", memory_budget)
        if memory_budget < 1:
            raise ValueError(f"memory_budget must be at least 1, got {memory_budget}")
    threads = _arguments.threads(num_threads)
    return_grad = _arguments.flag("return_grad", return_grad)
    accumulate = _arguments.flag("accumulate", accumulate)
    x = _arguments.floating("input", input)
    layer_weight, bias = _layer(linear_weight, linear_bias, x)
    rows, classes = x.shape[:-1], layer_weight.shape[0]
    count = math.prod(rows)

    given = _arguments.as_array("target", target)
    indices = probabilities = counted = None
    class_weight = None if weight is None else _arguments.class_weight(weight, classes)
    samples = _arguments.per_row("sample_weight", sample_weight, rows)
    shares = np.ones(count) if samples is None else samples.reshape(-1)
    if sign > 0 and _arguments.is_probabilities(given):
        logits = np.broadcast_to(x.dtype.type(0), (*rows, classes))
        probabilities = _arguments.probabilities(given, logits, ignore_index).reshape(count, classes)
    else:
        target_indices, ignored = _arguments.class_indices(given, rows, ignore_index)
        indices = target_indices.reshape(-1)
        counted = np.ones(count, np.bool_) if ignored is None else indices != ignored
        _arguments.require_classes(given, indices, classes, counted)
        shares = shares[counted]
        if class_weight is not None:
            shares = shares * class_weight[indices[counted]]
    scale, upstream = _arguments.upstream(grad_output, rows if reduction == "none" else (), return_grad)
    others = (target, weight, sample_weight, grad_output)
    gradients = _buffers(out, (x, layer_weight, bias), others, return_grad, accumulate)

    denominator = float(shares.sum()) if reduction == "mean" else 1.0
    compute = np.dtype(np.float64 if x.dtype == np.float64 else np.float32)
    losses = np.zeros(count) if reduction == "none" else None
    with np.errstate(all="ignore"):
        total = _Call(
            layer=_Layer(layer_weight, bias if bias is None else bias.astype(compute), compute),
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
            accumulate=accumulate,
            memory_budget=memory_budget,
            num_threads=threads,
        ).run(losses)
    unreduced = None if losses is None else losses.reshape(rows)
    loss = _arguments.reduced(reduction, unreduced, total, denominator, x)
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
    accumulate: bool = False,
    num_threads: int | None = None,
) -> Any:
    r"""Cross-entropy of a linear layer's logits, which are made in chunks.

    With :math:`z_i = W x_i + b` the logits of token `i`,

    .. math:: \mathrm{cross\_entropy}(X W^\top + b,\ y)

    with the options and the meaning of `cross_entropy`. For `N` tokens, width `D` and `V` classes the
    logits and their gradient would be ``(N, V)`` arrays; here they are made for some tokens at a time, in
    one buffer. Ignored tokens are left out before anything is multiplied. The products are those of NumPy's
    BLAS, with its threads (in a training loop see `share_threads_with_blas`).

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
        Bytes of logits at a time; at least one token's are computed whatever it is. By default all, up to
        128 MiB; of more, the largest of 64 MiB, 256 tokens, and a twenty-fifth. Products with fewer tokens
        take longer for each. Up to 256 MiB are kept for the next call, as fresh memory would cost more; the
        system may take them in between.
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
    accumulate : bool, default False
        Add the gradients to `out`.
    num_threads : int, optional
        For the softmax of this call; the package setting otherwise. Results do not depend on it. (In their
        last digits they do on how BLAS multiplies: its threads, and the number of tokens in a chunk.)

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

    Over micro-batches, into the same buffers:

    >>> loss, grad = fastloss.linear_cross_entropy(
    ...     hidden, weight, [0, 1, 2, 3], return_grad=True, accumulate=True,
    ...     out=(None, grad.linear_weight, None),
    ... )
    """
    return _linear_loss(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        ignore_index=ignore_index,
        sample_weight=sample_weight,
        softcap=softcap,
        temperature=temperature,
        filter_eps=_arguments.number("filter_eps", filter_eps, low=0.0, high=1.0),
        memory_budget=memory_budget,
        reduction=reduction,
        return_grad=return_grad,
        grad_output=grad_output,
        out=out,
        accumulate=accumulate,
        num_threads=num_threads,
        label_smoothing=_arguments.number("label_smoothing", label_smoothing, low=0.0, high=1.0),
        z_loss=_arguments.number("z_loss", z_loss, low=0.0),
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
    accumulate: bool = False,
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
    return _linear_loss(
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
