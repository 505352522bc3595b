"""The suites: each module has rows, their arrays and expected results, and its own contenders."""

from __future__ import annotations

from typing import Any

from .. import peers  # noqa: F401 (registers the peers)
from ..case import Case, Suite
from . import (
    alignment,
    boosting,
    bounds,
    contrastive,
    distributions,
    elementwise,
    growth,
    linear,
    lists,
    memory,
    options,
    pairs,
    post_training,
    softmax,
    survival,
    torch_backend,
)

__all__ = ["SUITES", "problem_of"]

SUITES: dict[str, Suite] = {
    module.SUITE.name: module.SUITE
    for module in (
        softmax,
        options,
        elementwise,
        linear,
        contrastive,
        pairs,
        alignment,
        distributions,
        post_training,
        survival,
        lists,
        torch_backend,
        boosting,
        memory,
        bounds,
        growth,
    )
}


def problem_of(case: Case, is_small: bool) -> Any:
    """Return the arrays of a row and its expected result."""
    return SUITES[case.suite].problem(case, is_small)
