"""Types that the public signatures share."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy.typing as npt

Array = npt.NDArray[Any]
Scalar = Literal["mean", "sum"]
Reduction = Literal["mean", "sum", "none"]


class CommonOptions(TypedDict, total=False):
    """What every loss takes beside `reduction` and `return_grad`."""

    grad_output: npt.ArrayLike | None
    out: Array | None
    accumulate: bool
    num_threads: int | None


class RowOptions(CommonOptions, total=False):
    """What losses over rows of classes take."""

    axis: int
    weight: npt.ArrayLike | None
    ignore_index: int
    sample_weight: npt.ArrayLike | None


class CrossEntropyOptions(RowOptions, total=False):
    """What cross-entropy takes."""

    label_smoothing: float
    z_loss: float
    softcap: float | None
    temperature: float
