"""Cross-entropy of arrays with all its options, written out in torch: its own function lacks some of them.

What torch has is compared in test_contract.py (of kernels and reference) and in test_reference.py.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import DTYPES, REDUCTIONS, Options
from numpy.testing import assert_allclose
from registry import Row, call, over, upstreams, with_all
from rows.softmax import CROSS_ENTROPY, NLL, OF_PROBABILITIES
from test_contract import compare_with_torch

import fastloss

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def written_out(torch: Any, tensors: dict[str, Any], options: Options, reduction: str) -> Any:
    x, target = tensors.values()
    classes, smoothing, softcap = x.shape[-1], options.get("label_smoothing", 0.0), options.get("softcap")
    z = options.get("logit_scale", 1.0) * x
    z = z if softcap is None else softcap * torch.tanh(z / softcap)
    z = z / options.get("temperature", 1.0)
    w = options.get("weight", torch.ones(classes, dtype=x.dtype))
    s = options.get("sample_weight", torch.tensor(1.0))
    if target.is_floating_point():
        counted, q = torch.tensor(True), target
        share = torch.ones(q.shape[:-1], dtype=x.dtype)
    else:
        counted = target != options.get("ignore_index", -100)
        y = torch.where(counted, target, 0)
        q, share = functional.one_hot(y, classes).to(x.dtype), torch.where(counted, w[y], 0.0)
    q = (1.0 - smoothing) * q + smoothing / classes
    lse = torch.logsumexp(z, -1)
    ce = (w * q * (lse[..., None] - z)).sum(-1)
    # Liger: the log-sum-exp of what the loss sees, squared, times the factor, added to each row.
    rows = s * torch.where(counted, ce + share * options.get("z_loss", 0.0) * lse * lse, 0.0)
    if reduction == "none":
        return rows
    return rows.sum() / ((share * s).sum() if reduction == "mean" else 1.0)


WRITTEN_OUT = [
    replace(row, torch=written_out, sets=(*row.sets, {"label_smoothing": 1.0}))
    for row in (CROSS_ENTROPY, OF_PROBABILITIES)
]
over_rows = over(WRITTEN_OUT)
over_reductions = pytest.mark.parametrize("reduction", REDUCTIONS)
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)


@over_reductions
@over_rows
def test_every_option_with_every_other(row: Row, reduction: str) -> None:
    """Value and gradient, with and without an incoming gradient."""
    for number in range(len(row.sets)):
        for company in row.companies():
            for kind in upstreams(row, reduction):
                c = call(row, (4, 9), "float64", reduction, number, company, kind, seed=6)
                c = c if kind else c.with_(grad_output=1.0)
                assert compare_with_torch(torch, c) == 1


@over_dtypes
@over_rows
def test_smoothing_alone(row: Row, dtype: str) -> None:
    """With a label smoothing of 1 nothing is left of the target; test_values.py has other ends of options."""
    for shape in row.shapes:
        for reduction in REDUCTIONS:
            with_all(row, shape, dtype, reduction).check()
            call(row, shape, dtype, reduction, len(row.sets) - 1).check()


@over_dtypes
@pytest.mark.parametrize("ignore_index", [2, -1, 400])
@over([CROSS_ENTROPY, NLL])
def test_other_ignore_index(row: Row, ignore_index: int, dtype: str) -> None:
    """A class of its own may be ignored, and so may an index outside of the classes."""
    for reduction in REDUCTIONS:
        c = call(row, (20, 7), dtype, reduction)
        target = np.array(c["target"])
        target[::4] = ignore_index
        c.with_(target=target, ignore_index=ignore_index).check()


@over_dtypes
@over_reductions
def test_nothing_counts_with_smoothing_and_weights(reduction: str, dtype: str) -> None:
    for shape in ((6, 7), (6, 150), (0, 7)):
        c = with_all(WRITTEN_OUT[0], shape, dtype, reduction)
        loss, (grad, _) = c.with_(target=np.full(shape[:1], c["ignore_index"])).check()
        assert np.isnan(np.sum(loss)) == (reduction == "mean")
        assert not grad.any()


@pytest.mark.parametrize("classes", [7, 150])
def test_softmax_of_masked_classes(classes: int) -> None:
    rng = np.random.default_rng(7)
    x = 3.0 * rng.standard_normal((12, classes))
    x[rng.random(x.shape) < 0.3] = -np.inf
    x[np.arange(12), rng.integers(0, classes, 12)] = 1.0
    assert_allclose(fastloss.softmax(x), torch.softmax(torch.from_numpy(x), 1).numpy(), rtol=1e-14)
