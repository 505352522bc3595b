"""Bad arguments of what is no loss: perplexity, settings, the environment; and of probabilities."""

import os
import re
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import INPUTS_OF_WRONG_TYPE, NAN, OUT_OF_RANGE, TARGETS, Kind, refused
from levels import LEVELS
from registry import call
from rows.softmax import NLL, OF_PROBABILITIES

import fastloss
from fastloss import _kernels

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


# Perplexity: a refused batch leaves the totals as they were


def check_refused(error: Kind, name: str, *arrays: Any, **given: Any) -> str:
    """Assert that both ways of computing it refuse, and the object's totals stay."""
    counter = fastloss.Perplexity().update(LOGITS, INDICES)
    before = (counter.tokens, counter.mean_loss)
    refused(partial(fastloss.perplexity, *arrays, **given), error, name)
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


# Settings


@pytest.mark.parametrize("value", [0, -1])
def test_threads_out_of_range(value: int) -> None:
    before = fastloss.get_num_threads()
    refused(lambda: fastloss.set_num_threads(value), ValueError, "num_threads")
    refused(fastloss.num_threads(value).__enter__, ValueError, "num_threads")
    assert fastloss.get_num_threads() == before


@pytest.mark.parametrize("value", [1.0, None, True, "2", [1]])
def test_threads_of_another_type(value: Any) -> None:
    before = fastloss.get_num_threads()
    refused(lambda: fastloss.set_num_threads(value), TypeError, "num_threads")
    refused(fastloss.num_threads(value).__enter__, TypeError, "num_threads")
    assert fastloss.get_num_threads() == before


def import_with(code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Import fastloss in a process with this environment, and run a line."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("FASTLOSS_")}
    return subprocess.run(
        [sys.executable, "-c", f"import fastloss\n{code}"],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("value", ["sse9", "AVX2 ", "2", "avx"])
def test_unknown_instruction_set(value: str) -> None:
    process = import_with(FASTLOSS_ISA=value)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTLOSS_ISA")
    assert value in last
    assert "baseline, avx2, avx512" in last


def test_instruction_set_that_is_not_there() -> None:
    absent = [name for i, name in enumerate(_kernels.LEVELS) if i not in LEVELS]
    if not absent:
        pytest.skip("this machine has all of them")
    for name in absent:
        process = import_with(FASTLOSS_ISA=name)
        assert process.returncode != 0
        assert "FASTLOSS_ISA" in process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1,2", "0x2"])
def test_bad_number_of_threads_in_the_environment(value: str) -> None:
    process = import_with(FASTLOSS_NUM_THREADS=value)
    assert process.returncode != 0
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTLOSS_NUM_THREADS")
    assert value in last


def test_good_environment() -> None:
    # Ours comes before OpenMP's, whose own forms (a list, an empty value) are no error.
    show = "fastloss.show_config(); print('number', fastloss.get_num_threads())"
    for level in LEVELS:
        name = _kernels.LEVELS[level]
        process = import_with(show, FASTLOSS_ISA=name, FASTLOSS_NUM_THREADS="3", OMP_NUM_THREADS="2")
        assert process.returncode == 0, process.stderr
        assert re.search(rf"in use +{name}\n", process.stdout)
        assert process.stdout.endswith("number 3\n")
    for omp, expected in (("2", "2"), ("5,3", "5")):
        process = import_with(show, OMP_NUM_THREADS=omp, FASTLOSS_ISA="", FASTLOSS_NUM_THREADS="")
        assert process.stdout.endswith(f"number {expected}\n"), process.stderr
    assert import_with(OMP_NUM_THREADS="nonsense").returncode == 0


def test_reductions_that_are_no_strings() -> None:
    """The short way of plain calls refuses them, too."""
    x = np.zeros((2, 3))
    for reduction in (np.array(["mean"]), np.array(["mean", "sum"]), ["mean"], None, 1):
        with pytest.raises(ValueError, match="reduction must be"):
            fastloss.cross_entropy(x, np.array([0, 1]), reduction=reduction)
        with pytest.raises(ValueError, match="reduction must be"):
            fastloss.mse_loss(x, x, reduction=reduction)
