"""Types that the public signatures share."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import numpy.typing as npt

Array = npt.NDArray[Any]
Reduction = Literal["mean", "sum", "none", "sum_and_count"]


class Common(TypedDict, total=False):
    """The parameters of every loss that its signature does not write out."""

    grad_output: npt.ArrayLike | None
    accumulate: bool
    num_threads: int | None


class CommonOfSeveral(TypedDict, total=False):
    """The same of a loss with several gradients."""

    grad_output: npt.ArrayLike | None
    accumulate: bool | tuple[bool, ...]
    num_threads: int | None
