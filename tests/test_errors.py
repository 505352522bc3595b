"""Bad arguments of `Perplexity` (those of settings are in test_threads.py), and of probabilities."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import INPUTS_OF_WRONG_TYPE, NAN, OUT_OF_RANGE, TARGETS, Kind, refused
from registry import call
from rows.softmax import NLL, OF_PROBABILITIES

import fastloss

LOGITS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
INDICES = np.array([0, 5, 2, 3])


@pytest.mark.parametrize("ignore_index", [0, 3, 100])
def test_probabilities_have_no_ignored_index(ignore_index: int) -> None:
    c = call(OF_PROBABILITIES, (4, 6))
    x = np.array(c.first)
    for out in (x, np.full_like(x, 55.0)):
        before = out.tobytes()
        refused(partial(c.run, logits=x, out=out, ignore_index=ignore_index), ValueError, "ignore_index")
        assert out.tobytes() == before


def test_probabilities_for_nll_loss() -> None:
    for target in (np.full((4, 6), 1 / 6, np.float32), np.zeros(4, np.float32)):
        refused(partial(call(NLL, (4, 6)).run, target=target), (TypeError, ValueError), "target")


def test_scales_far_from_1() -> None:
    """A temperature or a softcap that becomes infinite when it is divided by the scale."""
    for options in ({"temperature": 1e300}, {"softcap": 1e300, "temperature": 1e-300}):
        call_it = partial(fastloss.cross_entropy, LOGITS, INDICES, logit_scale=1e-100, **options)
        refused(call_it, ValueError, "logit_scale")


# Perplexity: a refused batch leaves the totals as they were


def check_refused(error: Kind, name: str, *arrays: Any, **given: Any) -> str:
    counter = fastloss.Perplexity().update(LOGITS, INDICES)
    before = (counter.tokens, counter.mean_loss)
    message = refused(partial(counter.update, *arrays, **given), error, name)
    assert (counter.tokens, counter.mean_loss) == before
    return message


def test_bad_arguments_of_perplexity() -> None:
    for value in INPUTS_OF_WRONG_TYPE:
        check_refused(TypeError, "logits", value, INDICES)
    for scalar in (1.0, np.float32(1.0), [[1.0, 2.0], [3.0]]):
        check_refused(ValueError, "logits", scalar, INDICES)
    for row in TARGETS:
        check_refused(row.error, "target", LOGITS, row.value)
    for error, values in ((TypeError, (1.0, True, "2", NAN, [1])), (ValueError, (0, -1))):
        for value in values:
            check_refused(error, "num_threads", LOGITS, INDICES, num_threads=value)
    for value in (1.0, None, "-100", True, np.True_, NAN, [1]):
        refused(partial(fastloss.Perplexity, ignore_index=value), TypeError, "ignore_index")


@pytest.mark.parametrize(("values", "dtype", "position", "shown"), OUT_OF_RANGE)
def test_target_out_of_range_of_perplexity(values: list[int], dtype: str, position: int, shown: str) -> None:
    message = check_refused(IndexError, "target", LOGITS, np.array(values, dtype))
    assert {str(position), shown} <= set(re.findall(r"-?\d+", message))


def test_merging_what_cannot_be_merged() -> None:
    counter = fastloss.Perplexity().update(LOGITS, INDICES)
    before = (counter.tokens, counter.mean_loss)
    refused(lambda: counter.merge(7), TypeError, "other")
    refused(lambda: counter.merge(fastloss.Perplexity(ignore_index=0)), ValueError, "ignore_index")
    assert (counter.tokens, counter.mean_loss) == before
