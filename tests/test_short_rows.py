"""Rows of few classes, which are computed in groups: each has the bits that it has alone."""

import math

import ml_dtypes
import numpy as np
import pytest
from helpers import bits

import fastloss

pytestmark = pytest.mark.usefixtures("isa")

ODD = {
    "nan": lambda x: x.fill(math.nan),
    "one nan": lambda x: x.__setitem__(0, math.nan),
    "inf": lambda x: x.__setitem__(-1, math.inf),
    "masked class": lambda x: x.__setitem__(0, -math.inf),
    "all masked": lambda x: x.fill(-math.inf),
    "huge": lambda x: x.__setitem__(0, 3e38),
    "tiny": lambda x: x.__setitem__(0, -3e38),
    "offset": lambda x: x.__iadd__(3e6),
    "confident": lambda x: x.__setitem__(0, 60.0),
}
FORMS = {
    "value": {},
    "gradient": {"return_grad": True},
    "in place": {"return_grad": True, "out": True},
    "z-loss": {"return_grad": True, "z_loss": 0.01},
    "temperature": {"return_grad": True, "temperature": 0.7},
}


def run(x, target, form):
    x = x.copy()
    options = {**FORMS[form], "out": x} if form == "in place" else FORMS[form]
    result = fastloss.cross_entropy(x, target, reduction="none", **options)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 16, 33, 64])
@pytest.mark.parametrize("form", FORMS)
def test_odd_rows_change_no_other(form, classes, dtype):
    """An odd row at every place of a group of 64, and the rows around it."""
    rng = np.random.default_rng(classes)
    rows = 64 + len(ODD)
    plain = (3.0 * rng.standard_normal((rows, classes))).astype(dtype)
    target = rng.integers(0, classes, rows)
    alone = [bits(*run(plain[i : i + 1], target[i : i + 1], form)) for i in range(rows)]
    for first in range(64):
        x, expected = plain.copy(), list(alone)
        with np.errstate(over="ignore"):
            for place, change in enumerate(ODD.values(), start=first):
                change(x[place])
                if first % 16 == 0:
                    expected[place] = bits(*run(x[place : place + 1], target[place : place + 1], form))
        result = run(x, target, form)
        for i in range(rows):
            if first % 16 == 0 or not first <= i < first + len(ODD):
                assert bits(*(part[i] for part in result)) == expected[i], i
