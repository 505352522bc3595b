"""The options that functions share: their types, defaults, ranges and descriptions, each once.

Public signatures take them as ``**options: Unpack[...]`` of one of the types below; `documented` shows every
one of them. One more option of the softmax losses is a field of `MapOptions`, an entry of `_RANGES` and
`DEFAULTS`, a description, and a field of ``fl_softmax_job`` (`logit_scale` has none: see `_without_scale`).
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy.typing as npt

from fastloss._engine.arguments import number

__all__ = [
    "DEFAULTS", "DESCRIPTIONS", "ArrayOrNone", "Checked", "Common", "CommonOfSeveral", "CommonOptions",
    "MapOptions", "RowOptions", "RowOptionsOfSeveral", "SoftmaxOptions", "Weighted", "common_options",
    "map_of", "option", "softmax_options",
]  # fmt: skip

ArrayOrNone: TypeAlias = npt.ArrayLike | None


class Common(TypedDict, total=False):
    """The parameters of every loss that its signature does not write out."""

    grad_output: ArrayOrNone
    accumulate: bool
    num_threads: int | None


class CommonOfSeveral(TypedDict, total=False):
    """The same parameters of a loss with several gradients."""

    grad_output: ArrayOrNone
    accumulate: bool | tuple[bool, ...]
    num_threads: int | None


class Weighted(Common, total=False):
    """Those of an elementwise loss."""

    weight: ArrayOrNone


class Checked(Weighted, total=False):
    """Those of an elementwise loss whose targets have a domain."""

    check_domain: bool


class MapOptions(TypedDict, total=False):
    """The options of a cross-entropy that torch lacks."""

    z_loss: float
    softcap: float | None
    temperature: float
    logit_scale: float


class SoftmaxOptions(MapOptions, total=False):
    """The options of a cross-entropy."""

    label_smoothing: float


class RowOptions(SoftmaxOptions, Common, total=False):
    """Both for a loss with one gradient."""


class RowOptionsOfSeveral(SoftmaxOptions, CommonOfSeveral, total=False):
    """Both for a loss with several gradients."""


DEFAULTS: dict[str, Any] = {
    "label_smoothing": 0.0,
    "z_loss": 0.0,
    "softcap": None,
    "temperature": 1.0,
    "logit_scale": 1.0,
    "weight": None,
    "check_domain": True,
    "grad_output": None,
    "accumulate": False,
    "num_threads": None,
}

DESCRIPTIONS = """\
label_smoothing : float, default 0.0
    The share, between 0 and 1, of the target that is spread evenly over all classes.
z_loss : float, default 0.0
    Factor of the squared log-sum-exp, at least 0. It keeps logits from drifting.
softcap : float, optional
    Bound `c` of the (scaled) logits, which become ``c * tanh(logits / c)``; greater than 0.
temperature : float, default 1.0
    Divisor of the (capped) logits, greater than 0.
logit_scale : float, default 1.0
    Factor of the logits, applied before `softcap`; greater than 0.
"""

# The range of each option that more than one function has.
_RANGES: dict[str, dict[str, float]] = {
    "label_smoothing": {"low": 0.0, "high": 1.0},
    "z_loss": {"low": 0.0},
    "softcap": {"above": 0.0},
    "temperature": {"above": 0.0},
    "logit_scale": {"above": 0.0},
    "delta": {"above": 0.0},
    "quantile": {"low": 0.0, "high": 1.0},
    "alpha": {"high": 1.0},
    "eps": {"low": 0.0},
    "clip": {"low": 0.0},
}


def option(name: str, value: Any, side: str = "") -> float:
    """Return the value of an option, checked against its range; `side` begins its name in errors."""
    return number(side + name, value, **_RANGES[name])


def softmax_options(
    given: dict[str, Any], own: dict[str, Any] | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the checked options of the softmax losses, and the other parameters that were given.

    Of a function that has only some of the options these are `own`, and no others may be among those given.
    For the kernels a softcap of 0 is none.
    """
    if own is not None:
        return softmax_options(own)[0], given
    found: dict[str, float] = {}
    rest: dict[str, Any] = {}
    for name, value in given.items():
        if name not in SoftmaxOptions.__optional_keys__:
            rest[name] = value
        else:
            found[name] = 0.0 if name == "softcap" and value is None else option(name, value)
    return _without_scale(found) if "logit_scale" in found else found, rest


def map_of(side: str, softcap: Any, logit_scale: Any, temperature: Any) -> dict[str, float]:
    """Return softcap and temperature of a student or a teacher, with its scale; `side` begins their names."""
    found = {
        "softcap": 0.0 if softcap is None else option("softcap", softcap, side),
        "logit_scale": option("logit_scale", logit_scale, side),
        "temperature": option("temperature", temperature),
    }
    return _without_scale(found, side)


def _without_scale(found: dict[str, float], side: str = "") -> dict[str, float]:
    """Return options without `logit_scale` that mean the same.

    With a scale `s`, ``c * tanh(s * x / c) / T = b * tanh(x / b) / (T / s)`` for ``b = c / s``.
    """
    scale = found.pop("logit_scale")
    if scale == 1.0:
        return found
    found["temperature"] = found.get("temperature", 1.0) / scale
    found["softcap"] = found.get("softcap", 0.0) / scale
    if not 0.0 < found["temperature"] < math.inf or found["softcap"] == math.inf:
        raise ValueError(f"{side}logit_scale is too far from 1 for this temperature or softcap, got {scale}")
    return found


class CommonOptions(NamedTuple):
    """The common parameters as they were given."""

    grad_output: Any = None
    accumulate: Any = False
    num_threads: Any = None


_NONE_GIVEN = CommonOptions()


def common_options(given: dict[str, Any]) -> CommonOptions:
    """Return the common parameters, or raise the error for a parameter that the function does not have."""
    if not given:
        return _NONE_GIVEN
    for name in given:
        if name not in CommonOptions._fields:
            raise TypeError(f"{_public_caller()}() got an unexpected keyword argument {name!r}")
    return CommonOptions(**given)


def _public_caller() -> str:
    """The name of the public function that has called the engine, for errors."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("fastloss._engine."):
        frame = frame.f_back
    return frame.f_code.co_name
