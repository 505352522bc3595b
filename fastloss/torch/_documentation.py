"""Docstrings of the functions of tensors: fragments of torch's own parameters, and those of `fastloss`."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import fastloss
from fastloss._engine.documentation import Entry, Family, documented, parsed, written
from fastloss._engine.fragments import TYPES
from fastloss._engine.options import DESCRIPTIONS

__all__ = ["PARALLEL", "as_module", "as_torchs", "formula", "of_tensors", "summary"]

Function = TypeVar("Function", bound=Callable[..., Any])
Class = TypeVar("Class", bound=type)

_TENSORS = "float16, bfloat16, float32 or float64."


def _docstring(name: str) -> str:
    return inspect.getdoc(getattr(fastloss, name)) or ""


def summary(name: str) -> str:
    """The first line of the docstring of a function of the package."""
    return _docstring(name).partition("\n")[0]


def formula(name: str) -> str:
    """Its formulas: the text up to the end of the first one in LaTeX, without the summary."""
    _, _, *lines = _docstring(name).splitlines() or ("", "")
    for first, line in enumerate(lines):
        if line.startswith(".. math::"):
            # The block goes on to the next line that is neither indented nor empty.
            after = [k for k in range(first + 1, len(lines)) if lines[k] and not lines[k].startswith(" ")]
            return "\n".join(lines[: after[0] if after else None]).rstrip()
    return ""


def as_module(of: str) -> Callable[[Class], Class]:
    """A decorator: the formula of a function of the package after the first line of a module's docstring."""

    def complete(module: Class) -> Class:
        first, _, rest = (inspect.cleandoc(module.__doc__ or "")).partition("\n")
        module.__doc__ = f"{first}\n\n{formula(of)}\n{rest}"
        return module

    return complete


_TORCHS = Family(
    parameters="""
input : Tensor with |shape_of_input|
    |input| Of any strides; |types|
target : Tensor with |shape_of_target|
    |target|
var : Tensor with the shape of `input`, or float
    Predicted variances, at least 0.
weight : Tensor with |shape_of_weight|, optional
    |weight|
pos_weight : Tensor that broadcasts to the shape of `input`, optional
    Weight of the positive part of each element.
size_average : bool, optional
    Deprecated in torch, which derives the reduction from it and `reduce`. By default `reduction` holds.
reduce : bool, optional
    Deprecated in torch, which derives the reduction from it and `size_average`. By default `reduction` holds.
ignore_index : int, |ignore|
    Rows with this target have loss and gradient 0, and are not read.
reduction : {"mean", "sum", "none"}, default "mean"
    ``"mean"`` divides by |mean|. ``"sum"`` adds. ``"none"`` returns the unreduced loss.
beta : float, default 1.0
    Half the width of the parabola.
delta : float, default 1.0
    The residual at which the parabola becomes a line.
log_target : bool, default False
    Whether `target` holds logarithms of probabilities.
log_input : bool, default True
    Whether `input` is the logarithm of the rate.
full : bool, default False
    Add the terms without the input. They change no gradient.
eps : float, default |eps|
    |of_eps|
p : {1, 2}, default 1
    The power of a violation of the margin.
margin : float, default |margin|
    The wanted difference between the scores.
linear_weight : Tensor with shape (V, D)
    A row for each class, of the dtype of `input`.
linear_bias : Tensor with shape (V,), optional
    Bias of each class, of the dtype of `input`.
options : object, optional
    torch's own options of this function. With them torch's function is called.
sample_weight : Tensor with the shape of the unreduced loss, optional
    Weight of each row. It multiplies the loss and counts in the mean.
memory_budget : int, optional
    Bytes of logits that exist at a time, by default up to 128 MiB.
group : ProcessGroup, optional
    The processes that share the classes, by default torch's default group. Every rank makes the call and, of
    an unreduced or float16 loss, the backward pass.
inplace : bool, default False
    Write the gradient over the logits, so that nothing is allocated. The logits must not be used afterwards:
    where autograd sees such a use, backward raises a `RuntimeError`. They are left as they are if no gradient
    is wanted. A compiled call allocates all the same.
"""
    + DESCRIPTIONS,
    returns="""
loss : Tensor with shape (), or that of the unreduced loss
    Of the dtype that torch's function returns: that of `input`, under autocast what torch's autocast says.
""",
    raises="""
TypeError, ValueError, RuntimeError
    As torch's function raises them; a `ValueError` also for a wrong option that torch lacks.
""",
    texts={
        "types": _TENSORS,
        "ignore": "default -100",
        "shape_of_input": "any shape",
        "shape_of_target": "the shape of `input`",
        "shape_of_weight": "the shape of `input`",
        "input": "Predictions.",
        "target": "Values to predict, of the dtype of `input`.",
        "weight": "Weight of each element.",
        "mean": "the number of elements",
        "margin": "1.0",
        "eps": "1e-8",
        "of_eps": "Keeps the logarithm of a rate of 0 finite; not used with `log_input`.",
    },
)

_CLASSES = _TORCHS.varied(
    raises="""
IndexError
    If a class index is out of range. Nothing has been written then.
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

# The texts of each function where they are not those of an elementwise loss.
_TEXTS: dict[str, dict[str, str]] = {
    "cross_entropy": {
        **_ROWS,
        "input": "Logits.",
        "shape_of_target": "the shape of `input` without the classes, or that of `input`",
        "target": "Class indices of any integer type, or probabilities of the dtype of `input`.",
        "mean": "the sum of the weights of the rows that are not ignored; for probabilities by the number of "
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
        "ignore": "optional (-100)",
        "input": "The vectors of the tokens.",
        "shape_of_input": "shape (D,) or (N, D)",
        "shape_of_target": "shape () or (N,), or with the classes behind",
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
    "huber_loss": {"mean": "the number of elements, with weights too"},
    "kl_div": {
        "input": "Log-probabilities.",
        "target": "Probabilities, or with `log_target` their logarithms.",
    },
    "soft_margin_loss": {"input": "Scores.", "target": "Classes, -1 or 1."},
    "hinge_embedding_loss": {"input": "Distances.", "target": "Classes, -1 or 1."},
    "gaussian_nll_loss": {"input": "Predicted means.", "eps": "1e-6", "of_eps": "The least variance."},
}

# Of the losses whose classes are shared out over processes.
PARALLEL = _CLASSES.varied(
    parameters="""
input : Tensor with shape (..., |size|)
    |input| Of any strides; |types|
target : Tensor with shape (...), or (..., V_r)
    Indices among all classes, the same on each rank; or this rank's slice of probabilities.
weight : Tensor with shape (V_r,), optional
    This rank's slice of the class weights.
linear_weight : Tensor with shape (V_r, D)
    This rank's slice of the layer.
linear_bias : Tensor with shape (V_r,), optional
    This rank's slice of the bias.
memory_budget : int, optional
    Bytes of logits that exist at a time on each rank, the same on each; by default up to 128 MiB.
""",
    mean="the sum of the weights of the rows that are not ignored; for probabilities by the number of rows",
)


_LEFT = (
    "Torch's own function is called for other devices or dtypes, for shapes that broadcast, and for other "
    "arguments that this package does not take."
)


def _parts(name: str, note: str) -> str:
    what = f"``torch.nn.functional.{name}``, with its signature. {note} {_LEFT}"
    return (
        f"{summary(name)}\n\n{formula(name)}\n\n{textwrap.fill(what, 100)}\n\n"
        "See Also\n--------\n"
        f"fastloss.{name} : the same of arrays.\n\nReferences\n----------\n``torch.nn.functional.{name}``.\n"
    )


def as_torchs(function: Function) -> Function:
    """Decorate a function of torch's name and signature; its docstring holds what else there is to say."""
    name = function.__name__
    note = inspect.cleandoc(function.__doc__ or "")
    texts = _TEXTS.get(name, {})
    if "----" not in note:  # of those that have no docstring of their own
        function.__doc__ = _parts(name, note)
    family = _CLASSES if "axis" in texts else _TORCHS
    return documented(family, gradients=None, **texts)(function)


def _of_tensor(entry: Entry) -> Entry:
    """A parameter of a function of arrays as one of tensors."""
    line = re.sub(r"scalar or array_like", "number or Tensor", entry.line).replace("array_like", "Tensor")
    text = " ".join(entry.text.split()).replace(TYPES, _TENSORS).replace("(of ml_dtypes) ", "")
    text = text.replace("bfloat16 (of ml_dtypes)", "bfloat16")
    return Entry(line, textwrap.indent(textwrap.fill(text, 100), "    "))


def of_tensors(name: str, kept: Collection[str], first: str, wanted: Collection[str]) -> str:
    """The docstring of a function that torch lacks, from that of the function of arrays.

    `kept` are its parameters, `first` is the first of them, and `wanted` are those with a gradient.
    """
    sections = parsed(_docstring(name))
    mine = [_of_tensor(e) for e in sections.lists["Parameters"] if set(e.names) & set(kept)]
    gradients = " and ".join(f"`{one}`" for one in wanted)
    sections.preamble = (
        f"{summary(name)}\n\n{formula(name)}\n\nThe same as `fastloss.{name}`, of tensors, with autograd."
    )
    sections.lists = {
        "Parameters": mine,
        "Returns": [
            Entry(
                "Tensor with shape (), or that of the unreduced loss",
                f"    Of the dtype of `{first}`, under autocast float32 for half types.\n"
                f"    It has gradients for {gradients}.",
            )
        ],
        "Raises": [
            Entry(
                "TypeError, ValueError, IndexError",
                f"    As `fastloss.{name}` raises them; a `ValueError` also for a tensor that requires a\n"
                "    gradient and has none.",
            ),
            Entry("RuntimeError", "    In backward with ``create_graph=True``."),
        ],
    }
    sections.texts = {
        "See Also": f"fastloss.{name} : the same of arrays, with an example.",
        "References": sections.texts.get("References", ""),
    }
    return written(sections)
