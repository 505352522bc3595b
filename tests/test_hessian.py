"""The second derivative of cross_entropy alone: by hand, confident rows, masked classes, every type of call.

That it is as near its reference as the gradient, and the difference quotient of the gradient, is asserted for
all rows of the registry that have one.
"""

import math

import numpy as np
import pytest
from helpers import INF, NAN, Options, assert_within, dtype_named, on_every_isa, over_dtypes, over_wide, ulp
from registry import Row, call, of_values, over, plain_and_all
from rows.softmax import CROSS_ENTROPY, OF_PROBABILITIES

import fastloss
from fastloss import reference


def test_by_hand() -> None:
    # Probabilities 1/8, 2/8, 5/8.
    x, p = np.log([[1.0, 2.0, 5.0]] * 2), np.array([1.0, 2.0, 5.0]) / 8
    given: Options = {"return_grad": True, "return_hessian": True}
    for module in (reference, fastloss):
        loss, grad, hessian = module.cross_entropy(x, [1, 0], **given)
        assert loss == pytest.approx(math.log(4.0) / 2 + math.log(8.0) / 2, rel=1e-14)
        np.testing.assert_allclose(grad[0], [1 / 16, -6 / 16, 5 / 16], rtol=1e-14)
        np.testing.assert_allclose(hessian, [p * (1 - p) / 2] * 2, rtol=1e-14)
        # Weights 3 and 4 of the classes, 2 of the rows, 5 upstream; the mean divides by 2 * (4 + 3).
        options = {**given, "weight": [3.0, 4.0, 9.0], "sample_weight": 2.0, "grad_output": 5.0}
        _, _, hessian = module.cross_entropy(x, [1, 0], **options)
        np.testing.assert_allclose(hessian, np.outer([8, 6], p * (1 - p)) * 5 / 14, rtol=1e-14)
        _, _, hessian = module.cross_entropy(x, [1, 0], z_loss=0.5, temperature=2.0, **given)
        q = np.sqrt([1.0, 2.0, 5.0])
        lse, q = math.log(q.sum()), q / q.sum()
        np.testing.assert_allclose(hessian[0], ((1 + lse) * q * (1 - q) + q * q) / 8, rtol=1e-13)


@on_every_isa
@over_dtypes
def test_confident_rows_keep_their_digits(dtype: str) -> None:
    # 1 - p is the sum of the others: at a margin of 30 it is far below one unit in the last place of 1.
    for classes in (2, 10, 64, 65, 1000):
        x = np.zeros((3, classes), dtype_named(dtype))
        x[np.arange(3), [0, 1, classes - 1]] = 30.0
        p = of_values(CROSS_ENTROPY, x, [0, 1, classes - 1], dtype=dtype, reduction="sum")
        small = math.exp(-30.0)
        total = 1.0 + (classes - 1) * small
        exact = np.full(x.shape, small * (1.0 + (classes - 2) * small) / total**2)
        exact[np.arange(3), p["target"]] = (classes - 1) * small / total**2
        bound = 1e-13 if dtype == "float64" else 4e-7
        assert_within(p.run()[1][1], exact, bound * exact + 0.5 * ulp(exact, dtype), p.title)


@on_every_isa
@over_wide
def test_confident_rows_that_are_wrong(dtype: str) -> None:
    """The winning class keeps its digits where it is not the target, too."""
    for classes in (2, 10, 64, 65, 5000):
        for margin in (1.0, 10.0, 18.0, 30.0):
            x = np.random.default_rng(3).uniform(-60.0, -50.0, (3, classes)).astype(dtype)
            target = np.array([0, 1, classes - 1])
            x[np.arange(3), target] = 0.0
            x[np.arange(3), (target + 1) % classes] = margin
            for options in ({}, {"softcap": 50.0}, {"temperature": 2.0}):
                p = of_values(CROSS_ENTROPY, x, target, dtype=dtype, reduction="sum", **options)
                exact = p.expected[1][1]
                largest = np.abs(exact).max(axis=-1, keepdims=True)
                bound = 1e-12 if dtype == "float64" else 1e-6
                assert_within(p.run()[1][1], exact, bound * largest, p.title)


@on_every_isa
@over_dtypes
@over([CROSS_ENTROPY, OF_PROBABILITIES])
def test_masked_classes_and_nan(row: Row, dtype: str) -> None:
    for shape in ((7, 6), (7, 100)):
        for base in plain_and_all(row, shape, dtype, seed=2):
            x, q = np.array(base.first), np.array(base["target"])
            x[:, 2] = -INF
            if row is CROSS_ENTROPY:
                q[q == 2] = 0
            else:
                q[:, 2] = 0.0
            x[3, 0], x[5, 1] = NAN, NAN if shape[1] == 6 else INF
            c = base.with_(logits=x, target=q, label_smoothing=0.0)
            of_rows = {k: v for k, v in c.options.items() if k in ("softcap", "temperature", "ignore_index")}
            bad = np.isnan(np.asarray(reference.cross_entropy(x, q, reduction="none", **of_rows)))
            assert bad[3] and not bad[[0, 2, 6]].any()
            _, (grad, hessian) = c.run()
            wide = hessian.astype(np.float64)
            assert np.isnan(wide[bad]).all()
            assert not wide[~bad, 2].any()
            assert np.isfinite(wide[~bad]).all()
            c.check_derivatives((grad, hessian))


def test_return_hessian_of_false_or_numpy() -> None:
    c = call(CROSS_ENTROPY, (4, 6), "float64")
    assert type(c.value(return_hessian=False)) is float
    assert len(c.run(return_hessian=np.bool_(True))[1]) == 2
    with pytest.raises(ValueError, match="return_hessian"):
        reference.cross_entropy(*c.arguments.values(), return_hessian=True)


@on_every_isa
@over_dtypes
def test_nothing_counts_with_a_cap(dtype: str) -> None:
    for classes in (5, 100):
        x, target = np.full((6, classes), NAN, dtype_named(dtype)), np.full(6, -100)
        for reduction in ("mean", "sum", "none"):
            c = of_values(CROSS_ENTROPY, x, target, dtype=dtype, reduction=reduction, softcap=3.0, z_loss=0.1)
            loss, derivatives = c.run()
            assert math.isnan(loss) if reduction == "mean" else not np.any(loss)
            for array in derivatives:
                assert_within(array, np.zeros(x.shape), 0.0, reduction)
