"""Random cases of the public names that have no row in the registry: a check for each, used by fuzz.py.

A case is made from a number and a size alone, and becomes smaller with the size. Objects get random sequences
of calls, beside a plain list of what they were given. A bad value must raise before anything changes.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import json
import math
import pickle
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from helpers import DTYPES, Array, bits, is_half, refused, rounded
from hypothesis import strategies as st
from levels import LEVELS, using
from pages import PLACES, placed
from test_adaptive_loss import flat
from test_ctc import NAMES as INPUTS
from test_ctc import samples

import fastloss
from fastloss import Finding, LossCurve, Perplexity, reference

Rng = np.random.Generator
CHECKS: dict[str, Callable[[Rng, int], None]] = {}
# All names that the checks call.
NAMES = set[str]()
KINDS = {
    "falling",
    "plateau",
    "divergence",
    "non_finite",
    "spike",
    "overfitting",
    "noise",
    "leak",
    "underfitting",
}


@dataclass(frozen=True)
class ObjectCase:
    """What a case is made from."""

    name: str
    seed: int
    size: int

    def check(self) -> None:
        rng = np.random.default_rng(self.seed)
        with using(int(rng.choice(LEVELS))), np.errstate(all="ignore"):
            CHECKS[self.name](rng, self.size)


def object_cases() -> st.SearchStrategy[ObjectCase]:
    names = st.sampled_from(sorted(CHECKS))
    return st.builds(ObjectCase, names, st.integers(0, 2**32 - 1), st.integers(1, 12))


def check_of(name: str, *others: str) -> Callable[[Callable[[Rng, int], None]], None]:
    NAMES.update((name, *others))
    return lambda check: CHECKS.__setitem__(name, check)


def one_of(rng: Rng, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def moved(rng: Rng, values: Array) -> Array:
    return placed(values, str(rng.choice(PLACES)), bool(rng.integers(2)))


# Losses with arguments of other forms


def assert_near(found: Any, exact: Any, dtype: str, title: str) -> None:
    """Within the rounding of the type beside the largest number of all."""
    bound = {"float64": 1e-12, "float32": 1e-5, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    exact = np.asarray(exact, np.float64)
    largest = np.abs(exact[np.isfinite(exact)]).max(initial=1.0)
    np.testing.assert_allclose(
        np.asarray(found, np.float64), exact, rtol=bound, atol=bound * largest, err_msg=title
    )


def check_loss(
    rng: Rng, name: str, given: dict[str, Any], dtype: str, bad: dict[str, Any], rows: int
) -> None:
    """The loss and its gradients are the reference's, in buffers too; a bad value raises before a write."""
    reduction = one_of(rng, "mean", "sum", "none")
    slope = rng.uniform(-2.0, 2.0, rows) if reduction == "none" and rng.integers(2) else -1.5
    options = {"reduction": reduction, "return_grad": True, "grad_output": slope}
    function = getattr(fastloss, name)
    exact, expected = getattr(reference, name)(**given, **options)
    loss, found = function(**given, **options)
    assert_near(loss, exact, "float32" if is_half(dtype) else dtype, name)
    assert bits(function(**given, reduction=reduction)) == bits(loss)
    is_one = isinstance(found, np.ndarray)
    ours, theirs = ([found], [expected]) if is_one else (flat(found), flat(expected))
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) is (other is None)
        if one is not None:
            assert_near(one, other, dtype, name)

    def same(change: Callable[[Array], Array]) -> Any:
        if is_one:
            return change(found)
        tails = tuple(tuple(change(one) for one in pair) for pair in found[-1])
        return (*(None if one is None else change(one) for one in found[:-1]), tails)

    out = same(lambda one: moved(rng, np.full_like(one, 7.0)))
    again = function(**given, **options, out=out, num_threads=int(rng.integers(1, 4)))
    assert bits(again) == bits(loss, found) and bits(out) == bits(found), name
    wrong = str(rng.choice(sorted(bad)))
    given[wrong] = bad[wrong]
    refused(lambda: function(**given, **options, out=out), (ValueError, IndexError), wrong)
    assert bits(out) == bits(found), f"{name} written before the error"


@check_of("ctc_loss", "ctc_loss_with_logits")
def _(rng: Rng, size: int) -> None:
    name = str(rng.choice(sorted(INPUTS)))
    classes, labels = int(rng.integers(2, 3 + 4 * size)), int(rng.integers(0, 2 + size))
    shape = (int(rng.integers(1, 2 + 4 * size)), int(rng.integers(1, 2 + size)), classes)
    blank, dtype = int(rng.integers(classes)), str(rng.choice(DTYPES))
    x, targets, steps, counts = samples(name, shape, labels, blank, int(rng.integers(2**31)))
    given = {
        INPUTS[name]: moved(rng, np.array(rounded(x, dtype))),
        "targets": moved(rng, targets.astype(one_of(rng, "i1", "i4", "i8")) if classes < 128 else targets),
        "input_lengths": steps, "target_lengths": counts, "blank": blank,
        "zero_infinity": bool(rng.integers(2)),
    }  # fmt: skip
    if rng.integers(2):
        rows = [row[:n] for row, n in zip(targets, counts, strict=True)]
        given["targets"] = np.concatenate(rows)
    bad = {"input_lengths": steps + shape[0] + 1, "target_lengths": counts + labels + 1, "blank": classes}
    check_loss(rng, name, given, dtype, bad, shape[1])


@check_of("adaptive_log_softmax_with_loss")
def _(rng: Rng, size: int) -> None:
    dtype, width = str(rng.choice(DTYPES)), int(rng.integers(1, 2 + 2 * size))
    own, rows = int(rng.integers(1, 2 + 3 * size)), int(rng.integers(1, 2 + 5 * size))
    tails = [
        (int(rng.integers(0, 2 + size)), int(rng.integers(1, 2 + 4 * size)))
        for _ in range(rng.integers(1, 4))
    ]
    classes, entries = own + sum(count for _, count in tails), own + len(tails)

    def numbers(*shape: int) -> Array:
        return moved(rng, np.array(rounded(rng.standard_normal(shape), dtype)))

    target = rng.integers(0, classes, rows)
    target[rng.random(rows) < 0.1] = -100
    given = {
        "input": numbers(rows, width), "target": moved(rng, target), "head_weight": numbers(entries, width),
        "tail_weights": [(numbers(hidden, width), numbers(count, hidden)) for hidden, count in tails],
        "head_bias": numbers(entries) if rng.integers(2) else None,
    }  # fmt: skip
    wrong = target.copy()
    wrong[rng.integers(rows)] = one_of(rng, classes, -1)
    bad = {"target": wrong, "head_weight": numbers(entries, width + 1), "tail_weights": []}
    check_loss(rng, "adaptive_log_softmax_with_loss", given, dtype, bad, rows)


@check_of("interpret")
def _(rng: Rng, size: int) -> None:
    shape = one_of(rng, (), (size,), (size, 3))
    loss = np.asarray(rng.exponential(one_of(rng, 1e-8, 1.0, 50.0, 1e300), shape))
    loss = np.where(rng.random(shape) < 0.2, one_of(rng, 0.0, math.inf, math.nan), loss)
    given: dict[str, Any] = {"base": one_of(rng, math.e, 2, 10.0, 1.0 + 2.0**-40)}
    if rng.integers(2):
        given |= {"tokens": int(rng.integers(1, 10**6)), "utf8_bytes": rng.uniform(1.0, 1e7, shape)}
    found, exact = fastloss.interpret(loss, **given), reference.interpret(loss, **given)
    bound = 1e-12 * max(1.0, np.nanmax(np.where(loss < 1e4, loss, 0)))
    for one, other in zip(found, exact, strict=True):
        assert (one is None) is (other is None)
        if one is not None:
            np.testing.assert_allclose(one, other, rtol=bound)
    assert str(found).endswith(".")
    wrong = np.array(loss)
    wrong.flat[rng.integers(wrong.size)] = -1e-3
    refused(lambda: fastloss.interpret(wrong, **given), ValueError, "loss")
    refused(lambda: fastloss.interpret(loss, base=one_of(rng, 1.0, 0.5, -2.0)), ValueError, "base")


# Objects


@dataclass
class Corpus:
    """A `Perplexity`, and the rows it has been given: their numbers, and their documents."""

    counter: Perplexity
    rows: list[tuple[int, str | int | None]]


@check_of("Perplexity")
def _(rng: Rng, size: int) -> None:
    """Three counters, updated, merged, copied and stored: each is one update of all its rows."""
    classes, number = int(rng.integers(1, 60)), int(rng.integers(1, 80))
    ignored, dtype = one_of(rng, -100, 0, 7), str(rng.choice(DTYPES))
    logits = np.array(rounded(rng.standard_normal((number, classes)) * one_of(rng, 1.0, 30.0), dtype))
    target = np.where(rng.random(number) < 0.1, ignored, rng.integers(0, classes, number))
    logits[rng.random(number) < one_of(rng, 0.0, 0.0, 0.1)] = one_of(rng, math.nan, -math.inf)
    corpora = [Corpus(Perplexity(ignore_index=ignored), []) for _ in range(3)]
    for _ in range(3 * size):
        one, other = (corpora[i] for i in rng.integers(0, 3, 2))
        update(rng, one, logits, target, ignored)
        kind = rng.integers(6)
        if kind < 2:
            merged = one.counter + other.counter if kind else one.counter.merge(other.counter)
            one.counter, one.rows = merged, one.rows + other.rows
        elif kind == 2:
            one.counter, one.rows = copy.copy(other.counter), list(other.rows)
        elif kind == 3:
            one.counter = pickle.loads(pickle.dumps(one.counter))
        elif kind == 4:
            one.counter = Perplexity().load_state_dict(json.loads(json.dumps(one.counter.state_dict())))
        refuse(rng, one.counter, logits, target, classes)
    for one in corpora:
        compare(one, logits, target, ignored)


def update(rng: Rng, corpus: Corpus, logits: Array, target: Array, ignored: int) -> None:
    rows = rng.integers(0, len(target), rng.integers(0, 20))
    keys = one_of(rng, None, [one_of(rng, "a", "b", 3) for _ in rows])
    corpus.counter.update(moved(rng, logits[rows]), moved(rng, target[rows]), by=keys)
    corpus.rows += zip(rows.tolist(), keys or [None] * len(rows), strict=True)


def refuse(rng: Rng, counter: Perplexity, logits: Array, target: Array, classes: int) -> None:
    """Bad arguments leave the counter as it is."""
    before, wrong = counter.state_dict(), target.copy()
    wrong[rng.integers(len(target))] = one_of(rng, classes + 10, -5)
    state = {**before, "tokens": -1}
    for call, error, name in (
        (lambda: counter.update(logits, wrong), IndexError, "target"),
        (lambda: counter.update(logits, target, by=[1.5] * len(target)), TypeError, "by"),
        (lambda: counter.load_state_dict(state), ValueError, "tokens"),
        (lambda: counter.merge(Perplexity(ignore_index=12345)), ValueError, "ignore_index"),
    ):
        refused(call, error, name)
        assert counter.state_dict() == before


def compare(corpus: Corpus, logits: Array, target: Array, ignored: int) -> None:
    whole = Perplexity(ignore_index=ignored)
    for named in (False, True):
        some = [(row, key) for row, key in corpus.rows if (key is not None) == named]
        rows = np.array([row for row, _ in some], int)
        whole.update(logits[rows], target[rows], by=[key for _, key in some] if named else None)
    assert corpus.counter == whole and corpus.counter.state_dict() == whole.state_dict()
    rows = np.array([row for row, _ in corpus.rows], int)
    rows = rows[target[rows] != ignored]
    assert corpus.counter.tokens == len(rows)
    losses = reference.cross_entropy(logits[rows], target[rows], ignore_index=ignored, reduction="none")
    exact = np.mean(losses) if len(rows) else math.nan
    np.testing.assert_allclose(corpus.counter.mean_loss, exact, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(corpus.counter.compute(), np.exp(corpus.counter.mean_loss), rtol=1e-14)


def losses_of(rng: Rng, number: int) -> list[float | None]:
    """A falling curve with noise, turns, spikes and holes; the size of everything varies."""
    steps = np.arange(1.0, number + 1)
    values = rng.normal() + rng.exponential(3.0) * steps ** -rng.uniform(0.0, 1.0)
    values += one_of(rng, 0.0, 0.01, 1.0) * rng.standard_normal(number)
    values += one_of(rng, 0.0, 0.0, 1.0) * np.maximum(steps - rng.uniform(0, number), 0) / number
    values = np.where(rng.random(number) < one_of(rng, 0.0, 0.02), values + 5.0, values)
    values = one_of(rng, 1.0, 1.0, 0.0, 1e-150, 1e90) * values
    values[rng.random(number) < one_of(rng, 0.0, 0.05)] = one_of(rng, math.nan, math.inf, -math.inf, 1e300)
    holes = rng.random(number) < one_of(rng, 0.0, 0.5, 0.95)
    return [None if hole else value for value, hole in zip(values.tolist(), holes.tolist(), strict=True)]


@check_of("LossCurve", "Finding")
def _(rng: Rng, size: int) -> None:
    """Updates one by one, from arrays and from a file are the same curve; what it finds is well-formed."""
    number = int(rng.integers(1, 1 + 12 * size))
    steps = np.cumsum(rng.integers(one_of(rng, 0, 1), 4, number) * one_of(rng, 1.0, 0.5, 1e6)).tolist()
    train, validation = losses_of(rng, number), losses_of(rng, number)
    unigram = one_of(rng, None, 1.0)
    curve = LossCurve(unigram)
    for step, ours, theirs in zip(steps, train, validation, strict=True):
        curve.update(step, ours, theirs)
        before, low = repr(vars(curve)), np.nextafter(step, -math.inf)
        for given, error, name in (
            ((one_of(rng, math.nan, math.inf, low), 1.0), ValueError, "step"),
            ((step, 1.0, one_of(rng, "high", True)), TypeError, "validation"),
            ((step, 10**400), ValueError, "train"),
        ):
            refused(partial(curve.update, *given), error, name)
            assert repr(vars(curve)) == before, "changed before the error"
    alone = LossCurve.from_arrays(steps, train=train, unigram=unigram)
    assert bits(*curve._measured()[0]) == bits(*alone._measured()[0])
    # A row of a log without a loss is none.
    rows = [row for row in zip(steps, train, validation, strict=True) if row[1:] != (None, None)]
    if rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "log.csv")
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("step", "train", "validation"), *rows])
            read = LossCurve.read(path)
        at, ours, theirs = zip(*rows, strict=True)
        stored = LossCurve.from_arrays(at, train=ours, validation=theirs)
        assert bits(read._measured()) == bits(stored._measured())
    for one in (curve, alone):
        check_findings(one, steps)


def check_findings(curve: LossCurve, steps: list[float]) -> None:
    try:
        found = curve.diagnose()
    except ValueError as error:
        assert re.match("a curve must have (at least 2 losses|losses of at least 2)", str(error))
        return
    assert found == curve.diagnose() or "nan" in repr(found)
    for finding in found:
        assert isinstance(finding, Finding) and finding.kind in KINDS and finding.advice
        assert steps[0] <= finding.start <= finding.end <= steps[-1], finding
        assert 0.0 <= finding.evidence["confidence"] <= 1.0 and str(finding).endswith(".")


# Settings


@check_of("num_threads", "get_num_threads", "set_num_threads")
def _(rng: Rng, size: int) -> None:
    """Blocks in blocks, some of which an exception ends."""
    before, expected = fastloss.get_num_threads(), int(rng.integers(1, 9))
    try:
        fastloss.set_num_threads(expected)
        for _ in range(size):
            inner = int(rng.integers(1, 9))
            with contextlib.suppress(KeyError), fastloss.num_threads(inner):
                assert fastloss.get_num_threads() == inner
                wrong = partial(fastloss.set_num_threads, one_of(rng, 0, -3, 1.5, True))
                refused(wrong, (ValueError, TypeError), "num_threads")
                if rng.integers(2):
                    raise KeyError
            assert fastloss.get_num_threads() == expected
    finally:
        fastloss.set_num_threads(before)
