"""What a loss says in other words: `fastloss.interpret` beside its reference, and its sentence."""

import math
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from helpers import INF, INPUTS_OF_WRONG_TYPE, NAN, RAGGED, refused

import fastloss
from fastloss import reference

LOSSES = np.array([[0.0, 1e-12, 0.105, math.log(10)], [20.0, 700.0, 800.0, INF]])


def check(loss: Any, **options: Any) -> None:
    ours = fastloss.interpret(loss, **options)
    for name, exact in reference.interpret(loss, **options)._asdict().items():
        found = getattr(ours, name)
        assert type(found) is type(exact), name
        if exact is not None:
            np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-300, err_msg=name)


@pytest.mark.parametrize("base", [math.e, 2, 2.0, 10, np.float32(256), 1.5])
def test_is_as_its_reference(base: Any) -> None:
    counts: list[dict[str, Any]] = [{}, {"tokens": 30, "utf8_bytes": 120.0}]
    for more in counts:
        for loss in (LOSSES, *LOSSES.flat):
            check(loss, base=base, **more)
    check(LOSSES, base=base, tokens=np.arange(1, 9).reshape(2, 4), utf8_bytes=7 * LOSSES.astype(bool) + 1)


def test_by_hand() -> None:
    assert fastloss.interpret(3, base=2, tokens=8, utf8_bytes=32) == (0.125, 8.0, 3.0, 0.75)
    found = fastloss.interpret(math.log(10))
    assert found.branching_factor == found.perplexity == pytest.approx(10, rel=1e-15)
    assert found.bits_per_byte is None and found.probability == pytest.approx(0.1, rel=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint64, ml_dtypes.bfloat16])
def test_any_type_of_number_becomes_float64(dtype: Any) -> None:
    found = fastloss.interpret(np.array([0, 2], dtype))
    assert all(v is None or v.dtype == np.float64 for v in found)
    assert found.perplexity.tolist() == [1.0, math.exp(2)] == fastloss.interpret([0, 2]).perplexity.tolist()
    assert all(v is None or type(v) is float for v in fastloss.interpret(np.array([0, 2], dtype)[1]))


def test_agrees_with_the_perplexity_of_logits() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(40, 9)), rng.integers(9, size=40)
    corpus = fastloss.Perplexity().update(logits, target)
    found = fastloss.interpret(fastloss.cross_entropy(logits, target))
    assert found.perplexity == pytest.approx(corpus.compute(), rel=1e-12)
    assert found.bits_per_token == pytest.approx(corpus.bits_per_token, rel=1e-12)
    probabilities = fastloss.softmax(logits)[np.arange(40), target]
    assert found.probability == pytest.approx(math.prod(probabilities) ** (1 / 40), rel=1e-9)


def test_odd_losses() -> None:
    assert fastloss.interpret(INF, tokens=1, utf8_bytes=1) == (0.0, INF, INF, INF)
    assert math.copysign(1, fastloss.interpret(-0.0).bits_per_token) == 1
    assert fastloss.interpret(1e300).perplexity == INF
    for base in (math.e, 2):
        nothing, one = fastloss.interpret([], base=base), fastloss.interpret([NAN, 1.0], base=base)
        assert [v.shape for v in nothing[:3]] == [(0,)] * 3
        assert [np.isnan(v).tolist() for v in one[:3]] == [[True, False]] * 3


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (math.log(10), "A loss of 2.3 nats gives the right token a probability of 10 percent: as uncertain "
         "as a choice among 10 equally likely tokens, or 3.32 bits per token."),
        (10, "A loss of 10 nats gives the right token a probability of 1 in 22,026: as uncertain as a "
         "choice among 22,026 equally likely tokens, or 14.4 bits per token."),
        (1e-5, "probability of more than 99.9 percent: as uncertain as a choice among 1 equally"),
        (1000, "1 in more than 1e308"),
        (0, "A loss of 0 nats gives the right token a probability of 100 percent: "
         "the model is certain of it."),
        (INF, "An infinite loss gives the right token a probability of 0 percent: the model rules it out."),
        (NAN, "A loss of NaN says nothing about the model."),
        ([], "0 losses."),
        ([NAN], "1 losses, 1 of them NaN."),
        ([1.0, NAN, 0.0], "3 losses, 1 of them NaN. The lowest gives the right token a probability of 100"),
        ([1.0, NAN, 0.0], " The highest gives the right token a probability of 36.8 percent: as"),
    ],
)  # fmt: skip
def test_the_sentence(loss: Any, sentence: str) -> None:
    text = str(fastloss.interpret(loss))
    assert text == sentence or (not sentence.startswith("A loss") and sentence in text)


def test_the_sentence_of_bits() -> None:
    text = str(fastloss.interpret([3, 1], base=2, tokens=[8, 8], utf8_bytes=[32, 16]))
    assert "among 2 equally likely tokens, or 1 bits per token, 0.5 bits per byte. The highest" in text
    assert text.endswith("among 8 equally likely tokens, or 3 bits per token, 0.75 bits per byte.")
    assert "A loss of 2.08 nats" in str(fastloss.interpret(3, base=2))


def test_bad_arguments() -> None:
    for value in (*INPUTS_OF_WRONG_TYPE, None, True, np.True_, [True, False]):
        refused(partial(fastloss.interpret, value), TypeError, "loss")
    refused(partial(fastloss.interpret, RAGGED), ValueError, "loss")
    refused(partial(fastloss.interpret, -1e-9), ValueError, "loss")
    assert "loss[1, 0]" in refused(partial(fastloss.interpret, [[1.0], [-INF]]), ValueError, "loss")
    for error, values in ((TypeError, (True, "2", None, [2])), (ValueError, (1, 0, -2, 0.5, NAN, INF))):
        for value in values:
            refused(partial(fastloss.interpret, 1.0, base=value), error, "base")
    for name, other in (("tokens", "utf8_bytes"), ("utf8_bytes", "tokens")):
        both: dict[str, Any] = {other: 5}
        message = refused(partial(fastloss.interpret, 1.0, **both), ValueError, name)
        assert other in message
        for error, values in ((TypeError, (True, "2")), (ValueError, (0, -2, NAN, INF, [1, 2]))):
            for value in values:
                refused(partial(fastloss.interpret, 1.0, **both, **{name: value}), error, name)
        refused(partial(fastloss.interpret, [1.0, 2.0], **both, **{name: [3, 0]}), ValueError, name)
