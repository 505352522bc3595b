"""Docstrings of the functions of tensors, made from descriptions of torch's parameters and of `fastloss`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import fastloss
from fastloss._engine.documentation import DECLARED, Entry, Family, documented, parsed, written
from fastloss._engine.fragments import TYPES
from fastloss._engine.options import DESCRIPTIONS

__all__ = ["PARALLEL", "as_module", "as_torchs", "formula", "of_tensors", "summary"]

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

_TENSORS = "float16, bfloat16, float32 or float64."
# Of `memory_budget`: what functions of tensors do beside those of arrays.
_HELD = (
    "For an unreduced or float16 loss, backward needs the logits again: the graph keeps them if all of them "
    "fit, else they are computed twice."
)


def _docstring(name: str) -> str:
    return inspect.getdoc(getattr(fastloss, name)) or ""


def summary(name: str) -> str:
    """Return the first line of the docstring of a function of the package."""
    return _docstring(name).partition("\n")[0]


def formula(name: str) -> str:
    """Return the formulas of a function: its docstring between the summary and the end of the first LaTeX."""
    _, _, *lines = _docstring(name).splitlines() or ("", "")
    for first, line in enumerate(lines):
        if line.startswith(".. math::"):
            # The block ends before the next line that is neither indented nor empty.
            after = [k for k in range(first + 1, len(lines)) if lines[k] and not lines[k].startswith(" ")]
            return "\n".join(lines[: after[0] if after else None]).rstrip()
    return ""


def as_module(of: str) -> Callable[[Class], Class]:
    """Return a decorator that adds the formula of a function after the first line of a module's docstring."""

    def complete(module: Class) -> Class:
        first, _, rest = (inspect.cleandoc(module.__doc__ or "")).partition("\n")
        module.__doc__ = f"{first}\n\n{formula(of)}\n{rest}"
        return module

    return complete


_TORCHS = Family(
    parameters="""
input : Tensor with |shape_of_input|
    |input| Any strides; |types|
input1, input2 : Tensor with |shape_of_input|, the same for both
    |input| Any strides; |types|
anchor, positive, negative : Tensor with |shape_of_input|, the same for all
    |input| Any strides; |types|
target : Tensor with |shape_of_target|
    |target|
distance_function : callable, optional
    The distance of two tensors, by default ``torch.nn.PairwiseDistance()``.
swap : bool, default False
    Take the distance between positive and negative where it is the smaller one.
var : Tensor with the shape of `input`, or float
    Predicted variances, at least 0.
weight : Tensor with |shape_of_weight|, optional
    |weight|
pos_weight : Tensor that broadcasts to the shape of `input`, optional
    Weight of the positive part of each element.
size_average : bool, optional
    Deprecated in torch. If this or `reduce` is given, they determine the reduction instead of `reduction`.
reduce : bool, optional
    Deprecated in torch. If this or `size_average` is given, they determine the reduction.
ignore_index : int, |ignore|
    Rows with this target have loss and gradient 0 and are not read.
reduction : {"mean", "sum", "none", "sum_and_count"}, default "mean"
    ``"mean"`` divides by |mean|. ``"sum"`` returns the sum, ``"none"`` the unreduced loss.
    ``"sum_and_count"``, which torch lacks, returns the sum and what the mean divides by. Those of the parts
    of a batch, or of several processes, add up.
beta : float, default 1.0
    The absolute residual below which the loss is quadratic.
delta : float, default 1.0
    The absolute residual at which the loss changes from quadratic to linear.
log_target : bool, default False
    Whether `target` holds logarithms of probabilities.
log_input : bool, default True
    Whether `input` is the logarithm of the rate.
full : bool, default False
    Add the terms that do not depend on the input. They do not change gradients.
eps : float, default |eps|
    |of_eps|
p : |powers|
    |of_p|
margin : float, default |margin|
    |of_margin|
linear_weight : Tensor with shape (V, D)
    A row for each class, of the dtype of `input`.
linear_bias : Tensor with shape (V,), optional
    Bias of each class, of the dtype of `input`.
options : object, optional
    torch's own options of this function. If given, torch's function is called.
sample_weight : Tensor with the shape of the unreduced loss, optional
    Weight of each row. It multiplies the loss and counts in the mean.
memory_budget : int, optional
    Bytes of logits that exist at a time, by default 128 MiB if that suffices for all; see
    `fastloss.linear_cross_entropy`. |held|
group : ProcessGroup, optional
    The processes that share the classes, by default torch's default group. Every rank must make the call. For
    an unreduced or float16 loss, every rank must also run the backward pass.
inplace : bool, default False
    Write the gradient over the logits, so that nothing is allocated. The logits must not be used afterwards;
    backward raises a `RuntimeError` if autograd sees such a use. Without a required gradient the logits are
    unchanged. A compiled call ignores this option and allocates memory.
"""
    + DESCRIPTIONS,
    returns="""
loss : Tensor with shape (), or that of the unreduced loss; or two tensors with shape ()
    With the dtype of the result of torch's function: that of `input`, or that given by torch's autocast.
    Two for ``"sum_and_count"``: the sum, with autograd, and the count, without, in float32 for half types.
""",
    raises="""
TypeError, ValueError, RuntimeError
    If an argument is wrong. Where torch has the function, the error is torch's own, except for options that
    torch lacks and for ``"sum_and_count"``. Where only torch's function can take the arguments, that
    reduction is a `ValueError`.
""",
    texts={
        "types": _TENSORS,
        "held": _HELD,
        "ignore": "default -100",
        "shape_of_input": "any shape",
        "shape_of_target": "the shape of `input`",
        "shape_of_weight": "the shape of `input`",
        "input": "Predictions.",
        "target": "Values to predict, of the dtype of `input`.",
        "weight": "Weight of each element.",
        "mean": "the number of elements",
        "margin": "1.0",
        "of_margin": "The required difference between the scores.",
        "powers": "{1, 2}, default 1",
        "of_p": "The exponent of a violation of the margin.",
        "eps": "1e-8",
        "of_eps": "Keeps the logarithm of a rate of 0 finite. Not used with `log_input`.",
    },
)

_CLASSES = _TORCHS.varied(
    raises="""
IndexError
    If a class index is out of range. Nothing is written in this case.
"""
)

_ROWS = {
    "axis": "",
    "shape_of_input": "shape (C,), (N, C) or (N, C, d1, ...)",
    "shape_of_target": "the shape of `input` without the classes",
    "shape_of_weight": "shape (C,)",
    "target": "Class indices of any integer type.",
    "weight": "Weight of each class.",
    "mean": "the sum of the weights of the rows that are not ignored",
}

_TRIPLES = {
    "shape_of_input": "shape (..., D)",
    "input": "The vectors of each triple.",
    "of_margin": "How much farther the negative should be, greater than 0.",
    "powers": "float, default 2",
    "of_p": "The exponent of the norm.",
    "eps": "1e-6",
    "of_eps": "Added to each difference.",
    "mean": "the number of triples",
}

# The texts of each function that differ from those of an elementwise loss.
_TEXTS: dict[str, dict[str, str]] = {
    "cross_entropy": {
        **_ROWS,
        "input": "Logits.",
        "shape_of_target": "the shape of `input` without the classes, or that of `input`",
        "target": "Class indices of any integer type, or probabilities of the dtype of `input`.",
        "mean": "the sum of the weights of the rows that are not ignored, or for probabilities the number of "
        "rows",
    },
    "nll_loss": {**_ROWS, "input": "Log-probabilities."},
    "multi_margin_loss": {**_ROWS, "input": "Scores.", "mean": "the number of rows"},
    "multilabel_soft_margin_loss": {
        "input": "Logits.",
        "shape_of_input": "shape (..., C)",
        "shape_of_weight": "shape (C,)",
        "target": "0 or 1 for each class, or its probability, of the dtype of `input`.",
        "weight": "Weight of each class.",
        "mean": "the number of rows",
    },
    "linear_cross_entropy": {
        **_ROWS,
        "ignore": "optional (-100 if None)",
        "input": "The vectors of the tokens.",
        "shape_of_input": "shape (D,) or (N, D)",
        "shape_of_target": "shape () or (N,), or (V,) or (N, V) for probabilities",
        "target": "Class indices of any integer type, or probabilities of the dtype of `input`.",
        "shape_of_weight": "shape (V,)",
    },
    "binary_cross_entropy": {"input": "Probabilities.", "target": "0 or 1, or probabilities of class 1."},
    "binary_cross_entropy_with_logits": {
        "input": "Logits.",
        "target": "0 or 1, or probabilities of class 1.",
        "shape_of_weight": "a shape that broadcasts to that of `input`",
    },
    "mse_loss": {"mean": "the number of elements, or the sum of the weights"},
    "l1_loss": {"mean": "the number of elements, or the sum of the weights"},
    "huber_loss": {"mean": "the number of elements, also with weights"},
    "kl_div": {
        "input": "Log-probabilities.",
        "target": "Probabilities, or their logarithms with `log_target`.",
    },
    "soft_margin_loss": {"input": "Scores.", "target": "Classes, -1 or 1."},
    "hinge_embedding_loss": {"input": "Distances.", "target": "Classes, -1 or 1."},
    "multilabel_margin_loss": {
        **_ROWS,
        "input": "Scores.",
        "shape_of_input": "shape (C,) or (N, C)",
        "shape_of_target": "the shape of `input`",
        "target": "Class indices of the labels, of any integer type, up to the first -1 of each row.",
        "mean": "the number of rows",
    },
    "margin_ranking_loss": {
        "input": "Scores of the first and of the second of each pair.",
        "shape_of_target": "the shape of `input1`",
        "target": "1 where the first should score higher, -1 where the second should.",
        "margin": "0",
    },
    "cosine_embedding_loss": {
        "input": "The vectors of each pair.",
        "shape_of_input": "shape (D,) or (N, D)",
        "shape_of_target": "shape () or (N,)",
        "target": "1 for a pair that belongs together, -1 for one that does not.",
        "margin": "0",
        "of_margin": "The cosine up to which a pair that does not belong together has no loss.",
        "mean": "the number of pairs",
    },
    "triplet_margin_loss": _TRIPLES,
    "triplet_margin_with_distance_loss": _TRIPLES,
    "gaussian_nll_loss": {"input": "Predicted means.", "eps": "1e-6", "of_eps": "The least variance."},
}

# For the losses whose classes are divided among processes.
PARALLEL = _CLASSES.varied(
    parameters="""
input : Tensor with shape (..., |size|)
    |input| Any strides; |types|
target : Tensor with shape (...), or (..., V_r)
    Indices among all classes, the same on each rank, or this rank's slice of the probabilities.
weight : Tensor with shape (V_r,), optional
    This rank's slice of the class weights.
linear_weight : Tensor with shape (V_r, D)
    This rank's slice of the layer.
linear_bias : Tensor with shape (V_r,), optional
    This rank's slice of the bias.
memory_budget : int, optional
    Bytes of logits that exist at a time on each rank, by default 128 MiB if that suffices for all; see
    `fastloss.linear_cross_entropy`. It must be the same on each rank. |held|
""",
    mean="the sum of the weights of the rows that are not ignored, or for probabilities the number of rows",
)


_LEFT = (
    "Torch's own function is called for other devices or dtypes, for shapes that broadcast, and for other "
    "arguments that this package does not support."
)


# The function of arrays that a function of torch's is, if it has another name.
_OF_ARRAYS = {"triplet_margin_with_distance_loss": "triplet_margin_loss"}


def _parts(name: str, note: str) -> str:
    ours = _OF_ARRAYS.get(name, name)
    what = f"The signature is that of ``torch.nn.functional.{name}``. {note} {_LEFT}"
    return (
        f"{summary(ours)}\n\n{formula(ours)}\n\n{textwrap.fill(what, 100)}\n\n"
        "See Also\n--------\n"
        f"fastloss.{ours} : the function of arrays.\n\n"
        f"References\n----------\n``torch.nn.functional.{name}``.\n"
    )


def as_torchs(function: Function) -> Function:
    """Decorate a function of torch's name and signature; its docstring, if any, becomes a note."""
    name = function.__name__
    note = inspect.cleandoc(function.__doc__ or "")
    texts = _TEXTS.get(name, {})
    if "----" not in note:  # only a note, not a whole docstring
        function.__doc__ = _parts(name, note)
    family = _CLASSES if "axis" in texts else _TORCHS
    return documented(family, gradients=None, returns=None, **texts)(function)


def _of_tensor(entry: Entry) -> Entry:
    """Convert the entry of a parameter from arrays to tensors."""
    line = re.sub(r"scalar or array_like", "number or Tensor", entry.line).replace("array_like", "Tensor")
    text = " ".join(entry.text.split()).replace(TYPES, _TENSORS).replace("(of ml_dtypes) ", "")
    text = text.replace("bfloat16 (of ml_dtypes)", "bfloat16")
    text = f"{text} {_HELD}" if "memory_budget" in entry.names else text
    return Entry(line, textwrap.indent(textwrap.fill(text, 100), "    "))


def _statistics_entry(first: str, gradients: str) -> Entry:
    return Entry(
        "TokenStatistics",
        f"    A named tuple of tensors, with the dtype of `{first}`, or float32 for half types under\n"
        "    autocast, and of bool for ``is_top1``; None for what `outputs` does not name. The first two\n"
        f"    have gradients for {gradients}.",
    )


def of_tensors(name: str, kept: Collection[str], first: str, wanted: Collection[str]) -> str:
    """Return the docstring of a function that torch lacks, made from that of the function of arrays.

    `kept` are its parameters, `first` is the first of them, and `wanted` are those with a gradient.
    """
    sections = parsed(_docstring(name))
    mine = [_of_tensor(e) for e in sections.lists["Parameters"] if set(e.names) & set(kept)]
    gradients = " and ".join(f"`{one}`" for one in wanted)
    sections.preamble = (
        f"{summary(name)}\n\n{formula(name)}\n\nThis is `fastloss.{name}` for tensors, with autograd."
    )
    sections.lists = {
        "Parameters": mine,
        "Returns": [
            _statistics_entry(first, gradients)
            if DECLARED[getattr(fastloss, name)].result
            else Entry(
                "Tensor with shape (), or that of the unreduced loss; or two tensors with shape ()",
                f"    With the dtype of `{first}`, or float32 for half types under autocast.\n"
                f"    It has gradients for {gradients}.\n"
                '    Two for ``"sum_and_count"``: the sum, and the count without gradient, which is float32\n'
                "    for half types.",
            )
        ],
        "Raises": [
            Entry(
                "TypeError, ValueError, IndexError",
                f"    The errors of `fastloss.{name}`. Also a `ValueError` for a tensor that requires a\n"
                "    gradient but cannot have one.",
            ),
            Entry("RuntimeError", "    In backward with ``create_graph=True``."),
        ],
    }
    sections.texts = {
        "See Also": f"fastloss.{name} : the function of arrays, with an example.",
        "References": sections.texts.get("References", ""),
    }
    return written(sections)
