"""Perplexity: against the reference, and the same bits however the corpus is cut up."""

import copy
import itertools
import json
import math
import operator
import pickle
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from helpers import INF, NAN, case, on_every_isa, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fastloss
from fastloss import Perplexity, reference

CLASSES, TOKENS = 12, 60


def make_corpus(rows=TOKENS, classes=CLASSES, dtype=np.float32, spread=4.0):
    rng = np.random.default_rng(5)
    logits = (spread * rng.standard_normal((rows, classes))).astype(dtype)
    target = rng.integers(0, classes, rows)
    target[3::10] = -100
    return logits, target


def numbers(corpus):
    """What is computed from it; repr tells NaN from numbers and shows every bit of these."""
    return repr((corpus.mean_loss, corpus.compute(), corpus.bits_per_token))


def assert_same_bits(one, other):
    assert one == other
    assert one.tokens == other.tokens
    assert numbers(one) == numbers(other)


# Values


@on_every_isa
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 2e-14), (np.float32, 2e-6)])
@pytest.mark.parametrize("shape", [(60, 12), (500, 100), (3, 4000)])
def test_against_the_reference(shape, dtype, rtol):
    logits, target = make_corpus(*shape, dtype)
    losses = reference.cross_entropy(logits, target, reduction="none")[target != -100]
    mean = math.fsum(losses) / losses.size  # without any rounding but the last
    corpus = Perplexity().update(logits, target)
    assert_allclose(corpus.mean_loss, mean, rtol=rtol)
    assert_allclose(corpus.compute(), math.exp(mean), rtol=10 * rtol)
    assert_allclose(corpus.bits_per_token, mean / math.log(2.0), rtol=rtol)
    assert corpus.tokens == np.count_nonzero(target != -100)
    assert fastloss.perplexity(logits, target) == corpus.compute()
    assert_allclose(corpus.mean_loss, fastloss.cross_entropy(logits, target), rtol=1e-14)


def test_uniform():
    """Of V equal words the perplexity is V, and log2 V bits."""
    logits, target = np.zeros((6, 8), np.float32), np.arange(6)
    corpus = Perplexity().update(logits, target)
    assert corpus.mean_loss == pytest.approx(math.log(8.0), rel=3e-16)
    assert corpus.compute() == pytest.approx(8.0, rel=1e-15)
    assert corpus.bits_per_token == pytest.approx(3.0, rel=4e-16)
    assert fastloss.perplexity(logits, target) == corpus.compute()


def test_nothing():
    logits, target = make_corpus()
    ignored = Perplexity().update(logits, np.full(TOKENS, -100))
    for corpus in (Perplexity(), ignored, Perplexity().update(logits[:0], target[:0])):
        assert numbers(corpus) == "(nan, nan, nan)"
        assert corpus.tokens == 0
        assert corpus == Perplexity()
    assert math.isnan(fastloss.perplexity(logits[:0], target[:0]))


# Losses that are no numbers


def with_special(*values):
    """A corpus with tokens of these losses."""
    logits, target = make_corpus()
    for row, value in enumerate(values):
        target[row] = 1
        logits[row] = NAN if math.isnan(value) else 0.0
        if value == INF:
            logits[row, 1] = -INF
    return logits, target


@pytest.mark.parametrize(
    ("values", "expected"),
    [((INF,), INF), ((INF, INF), INF), ((NAN,), NAN), ((INF, NAN), NAN), ((NAN, INF), NAN)],
)
def test_special_losses(values, expected):
    logits, target = with_special(*values)
    whole = Perplexity().update(logits, target)
    assert numbers(whole) == repr((expected, expected, expected))
    assert whole.tokens == np.count_nonzero(target != -100)
    one_by_one = Perplexity()
    for row in reversed(range(TOKENS)):
        one_by_one.update(logits[row : row + 1], target[row : row + 1])
    assert_same_bits(one_by_one, whole)
    assert_same_bits(Perplexity().merge(whole), whole)
    whole.reset()
    assert whole.update(*make_corpus()).compute() < INF


def test_overflow():
    """A mean loss above 709.78 is finite, its exponential is not."""
    logits = np.array([[0.0, 1000.0]])
    corpus = Perplexity().update(logits, [0])
    assert corpus.mean_loss == 1000.0
    assert corpus.bits_per_token == pytest.approx(1000.0 / math.log(2.0), rel=1e-15)
    assert corpus.compute() == INF
    assert fastloss.perplexity(logits, [0]) == INF
    assert corpus.update(logits, [1]).compute() == pytest.approx(math.exp(500.0), rel=1e-12)


def test_sum_beyond_float64():
    """Two losses of 1.2e308: their sum is no float64, their mean is."""
    logits = np.array([[0.0, 1.2e308], [0.0, 1.2e308]])
    assert Perplexity().update(logits, [0, 0]).mean_loss == 1.2e308


def test_tiny_beside_large():
    """Exact sums: a loss of 1e-13 is not lost beside 1e16, in whichever order."""
    confident, wrong = np.array([[30.0, 0.0]]), np.array([[0.0, 1e16]])
    tiny = Perplexity().update(confident, [0]).mean_loss
    assert 9.3e-14 < tiny < 9.4e-14
    corpus = Perplexity().update(wrong, [0])
    for _ in range(1000):
        corpus.update(confident, [0])
    mean = corpus.mean_loss
    corpus.merge(Perplexity().update(wrong, [1]))  # loss 0
    assert mean == math.fsum([1e16] + [tiny] * 1000) / 1001
    without = Perplexity().update(wrong, [0])
    one = Perplexity().update(confident, [0])._totals.total
    assert corpus._totals.total - without._totals.total == 1000 * one


# Cutting, order, merging


LOGITS, TARGET = make_corpus()
WHOLE = Perplexity().update(LOGITS, TARGET)
SPECIAL_LOGITS, SPECIAL_TARGET = with_special(INF, INF)
CORPORA = [(LOGITS, TARGET), (SPECIAL_LOGITS, SPECIAL_TARGET)]


@pytest.fixture
def corpus():
    """The same as WHOLE, to be changed."""
    return Perplexity().update(LOGITS, TARGET)


@st.composite
def cuttings(draw):
    """Rows in some order, cut into batches, each with the number of the counter it goes to."""
    order = draw(st.permutations(range(TOKENS)))
    cuts = sorted(draw(st.sets(st.integers(1, TOKENS - 1), max_size=12)))
    batches = [order[start:stop] for start, stop in zip([0, *cuts], [*cuts, TOKENS], strict=True)]
    counters = draw(st.lists(st.integers(0, 3), min_size=len(batches), max_size=len(batches)))
    return list(zip(batches, counters, strict=True))


@settings(max_examples=150, deadline=None)
@given(cutting=cuttings(), merging=st.permutations(range(4)), threads=st.integers(1, 3))
def test_any_cutting_order_and_merging(cutting, merging, threads):
    for logits, target in CORPORA:
        whole = Perplexity().update(logits, target)
        counters = [Perplexity() for _ in range(4)]
        for rows, counter in cutting:
            counters[counter].update(logits[rows], target[rows], num_threads=threads)
        # As a chain, and as a tree.
        chain = Perplexity()
        for counter in merging:
            chain.merge(counters[counter])
        assert_same_bits(chain, whole)
        left, right = copy.copy(counters[0]), copy.copy(counters[2])
        assert_same_bits(right.merge(counters[3]).merge(left.merge(counters[1])), whole)


@settings(max_examples=100, deadline=None)
@given(losses=st.lists(st.floats(0.0, 1e300, allow_subnormal=True) | st.floats(0.0, 1e-300), min_size=1))
def test_sums_are_exact(losses):
    """Any losses: the mean is the exact sum (as fractions have it), rounded once."""
    # Of two classes, the other is larger by `loss`: exactly that is lost, or a little more.
    logits = np.zeros((len(losses), 2))
    logits[:, 1] = losses
    target = np.zeros(len(losses), np.int64)
    rows = fastloss.cross_entropy(logits, target, reduction="none")
    exact = sum(map(Fraction, rows.tolist())) / len(losses)
    assert Perplexity().update(logits, target).mean_loss == float(exact)


# Documents, addition and checkpoints

KEYS = np.random.default_rng(2).integers(-2, 4, TOKENS)


def restored(corpus):
    return Perplexity(ignore_index=5).load_state_dict(json.loads(json.dumps(corpus.state_dict())))


@settings(max_examples=40, deadline=None)
@given(
    cutting=cuttings(), adding=st.permutations(range(4)), kind=st.sampled_from([int, str, object]),
    stored=st.integers(0, 3),
)  # fmt: skip
def test_documents_in_any_cutting_order_and_addition(cutting, adding, kind, stored):
    keys = KEYS.astype(kind)
    for logits, target in CORPORA:
        whole = Perplexity().update(logits, target, by=keys)
        counters = [Perplexity() for _ in range(4)]
        for rows, counter in cutting:
            counters[counter].update(logits[rows], target[rows], by=keys[rows])
        counters[stored] = restored(counters[stored])
        added = sum(counters[i] for i in adding)
        assert_same_bits(added, whole)
        assert json.dumps(added.state_dict()) == json.dumps(whole.state_dict())
        assert_same_bits(restored(added), whole)
        # Each document is what it would be alone.
        assert set(added.documents) == set(keys.tolist())
        for key, totals in added.documents.items():
            alone = Perplexity().update(logits[keys == key], target[keys == key])
            assert totals == alone._totals
            assert repr(totals.mean_loss) == repr(alone.mean_loss) and totals.tokens == alone.tokens


def test_documents_of_sequences():
    logits, target = LOGITS.reshape(5, 12, CLASSES), TARGET.reshape(5, 12)
    by = ["b", 1, "b", "a", 1]  # integers stay integers
    each = np.repeat(np.array(by, object), 12).reshape(5, 12)
    corpus = Perplexity().update(logits, target, by=by)
    assert set(corpus.documents) == {"a", "b", 1}
    for other in (each, each.tolist(), np.array(by, object)):
        assert_same_bits(Perplexity().update(logits, target, by=other), corpus)
    one = Perplexity().update(logits, target, by="all")
    assert one.documents["all"] == one._totals and one.mean_loss == corpus.mean_loss
    nothing = Perplexity().update(logits, np.full_like(target, -100), by=by)
    assert nothing.tokens == nothing.documents["a"].tokens == 0 and len(nothing.documents) == 3
    assert not Perplexity().update(logits[:0], target[:0], by=[]).documents
    with pytest.raises(TypeError):
        corpus.documents["a"] = one
    corpus.reset()
    assert not corpus.documents


@pytest.mark.parametrize(
    ("by", "error", "match"),
    [
        (KEYS[:-1], ValueError, r"by must have the shape of target, \(60,\)"),
        (KEYS[:, np.newaxis], ValueError, r"got \(60, 1\)"),
        (KEYS.astype(float), TypeError, "integers or strings, got float64"),
        (KEYS > 0, TypeError, "got bool"),
        ([None] * TOKENS, TypeError, "got NoneType"),
        ([True] * TOKENS, TypeError, "got bool"),
        (KEYS.astype("S"), TypeError, "got bytes_"),
    ],
)
def test_bad_documents_leave_the_totals(corpus, by, error, match):
    with pytest.raises(error, match=match):
        corpus.update(LOGITS, TARGET, by=by)
    with pytest.raises(IndexError):
        corpus.update(LOGITS, np.full(TOKENS, CLASSES), by=KEYS)
    assert_same_bits(corpus, WHOLE)


def test_adding():
    corpus, other = Perplexity().update(LOGITS, TARGET, by=0), Perplexity().update(LOGITS, TARGET, by="1")
    both = corpus + other
    assert_same_bits(both, Perplexity().merge(corpus).merge(other))
    assert list(both.documents) == [0, "1"] and list(corpus.documents) == [0]
    assert sum([corpus]) is not corpus and sum([corpus]) == corpus
    total = corpus
    total += other
    assert total is corpus and corpus == both
    for bad in (1, None, 1.0):
        for pair in ((corpus, bad), (bad, corpus)):
            with pytest.raises(TypeError):
                operator.add(*pair)


def test_what_it_shows():
    assert repr(Perplexity()) == "Perplexity(nan over 0 tokens)"
    logits = np.zeros((3, 8))
    corpus = Perplexity().update(logits, [0, 1, 2], by=[0, 0, 7])
    assert repr(corpus) == "Perplexity(8 over 3 tokens, 2 documents)"
    assert repr(corpus.documents[7]) == "Totals(8 over 1 token)"
    logits[0, 0], logits[1] = -INF, NAN
    shown = "Perplexity(nan over 3 tokens, 1 infinite loss, 1 loss of NaN)"
    assert repr(Perplexity().update(logits, [0, 1, 2])) == shown


STATE = Perplexity().update(LOGITS, TARGET, by=KEYS).state_dict()
ENTRY = STATE["documents"][0]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"more": 1}, ValueError, r"unknown \['more'\]"),
        ({"version": 2}, ValueError, "version 1, got version 2"),
        ({"version": "1"}, TypeError, "version"),
        ({"ignore_index": None}, TypeError, "ignore_index"),
        ({"tokens": -1}, ValueError, "tokens must be at least 0, got -1"),
        ({"tokens": 1.0}, TypeError, "tokens"),
        ({"nan": True}, TypeError, "nan"),
        ({"infinite": 61}, ValueError, "at most 54 tokens"),
        ({"total": 3}, TypeError, "total must be a string"),
        ({"total": "-0x1p+0"}, ValueError, "not negative"),
        ({"total": "0x1p-1075"}, ValueError, "total"),
        ({"total": "0x0p+0"}, ValueError, "total of the documents must be at most"),
        ({"documents": {}}, TypeError, "documents"),
        ({"documents": [1]}, TypeError, r"documents'\]\[0\] must be a list"),
        ({"documents": [ENTRY[:-1]]}, ValueError, "got 4 values"),
        ({"documents": [ENTRY, ENTRY]}, ValueError, "got -2 twice"),
        ({"documents": [[None, *ENTRY[1:]]]}, TypeError, "key"),
        ({"documents": [[*ENTRY[:2], -1, 0, 0]]}, ValueError, "at least 0"),
    ],
)
def test_bad_states_change_nothing(corpus, changes, error, match):
    with pytest.raises(error, match=match):
        corpus.load_state_dict({**STATE, **changes})
    assert_same_bits(corpus, WHOLE)


def test_states_that_lack_something():
    for name in STATE:
        with pytest.raises(ValueError, match=rf"missing \['{name}'\]"):
            Perplexity().load_state_dict({key: value for key, value in STATE.items() if key != name})
    refused(partial(Perplexity().load_state_dict, [STATE]), TypeError, "state must be a dictionary, got list")


def test_merging(corpus):
    """The other stays as it is; it may be the object itself."""
    other = Perplexity()
    assert other.merge(corpus) is other
    assert other.update(LOGITS, TARGET) is other
    assert_same_bits(corpus, WHOLE)
    corpus.merge(corpus)
    for twice in (other, corpus):
        assert twice.tokens == 2 * WHOLE.tokens
        assert twice.mean_loss == WHOLE.mean_loss


# Objects


def test_storing():
    """As JSON, and by each protocol of pickle."""
    protocols = range(2, pickle.HIGHEST_PROTOCOL + 1)
    ways = [restored, *(lambda one, p=p: pickle.loads(pickle.dumps(one, p)) for p in protocols)]
    logits = np.array([[0.0, 1.7e308], [0.0, 5e-324]])
    large = Perplexity(ignore_index=2**70).update(logits, [0, 1], by=[0, 1])
    for _ in range(100):
        large.merge(large)  # more tokens than any integer of a machine
    special = Perplexity().update(SPECIAL_LOGITS, SPECIAL_TARGET, by=KEYS)
    of_nan = Perplexity().update(*with_special(NAN))
    for way, stored in itertools.product(ways, (Perplexity(ignore_index=3), WHOLE, large, special, of_nan)):
        with case((way, stored)):
            again = way(stored)
            assert again.ignore_index == stored.ignore_index
            assert_same_bits(again, stored)
            again.merge(again)
            assert again.tokens == 2 * stored.tokens
    again.reset()
    assert_same_bits(again.update(LOGITS, TARGET), WHOLE)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_are_apart(duplicate):
    corpus, same = (Perplexity().update(LOGITS, TARGET, by=0) for _ in range(2))
    again = duplicate(corpus)
    again.update(LOGITS[:5], TARGET[:5], by=0)
    assert_same_bits(corpus, same)
    assert again != corpus


def test_reset():
    corpus = Perplexity(ignore_index=5).update(LOGITS[:3], [0, 5, 2])
    assert corpus.tokens == 2
    corpus.reset()
    assert corpus == Perplexity(ignore_index=5)
    assert corpus != Perplexity()


# Errors (test_errors.py has more)


@pytest.mark.parametrize(
    ("logits", "target", "error", "match"),
    [
        (LOGITS, np.full(TOKENS, CLASSES), IndexError, r"target\[0\] is 12"),
        (LOGITS, np.where(np.arange(TOKENS) == 41, -1, 0), IndexError, r"target\[41\] is -1"),
        (LOGITS, TARGET[:-1], ValueError, "target"),
        (LOGITS, TARGET.astype(float), TypeError, "target"),
        (LOGITS, LOGITS, (TypeError, ValueError), "target"),
    ],
    ids=["above", "below", "short", "float", "probabilities"],
)
def test_errors_leave_the_totals(corpus, logits, target, error, match):
    refused(partial(corpus.update, logits, target), error, match)
    assert_same_bits(corpus, WHOLE)
    refused(partial(fastloss.perplexity, logits, target), error, match)


def test_merging_errors(corpus):
    refused(partial(corpus.merge, 1.0), TypeError, "other must be a Perplexity, got float")
    for join in (corpus.merge, corpus.__add__):
        refused(partial(join, Perplexity(ignore_index=0)), ValueError, "ignore_index=-100, got 0")
    assert_same_bits(corpus, WHOLE)
