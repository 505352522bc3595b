"""The focal loss of several classes as an objective; test_boosting.py has its formulas."""

from typing import Any

import numpy as np
import pytest
from boosting_cases import LIBRARIES, drawn, estimator, over_libraries
from helpers import bits, refused
from numpy.testing import assert_allclose, assert_array_equal

import fastloss

ALPHA = (0.2, 1.0, 3.0, 1.0, 0.5)


@over_libraries
def test_without_the_factor_it_is_the_cross_entropy(library: str) -> None:
    """To the last bit; alpha is then the weight of a row."""
    make = LIBRARIES[library]
    plain, focal = make("cross_entropy"), make("softmax_focal_loss", gamma=0)
    s, y, weight = drawn(plain, 300, 1)
    for w in (None, weight):
        assert bits(plain(y, s, w)) == bits(focal(y, s, w))
        assert_array_equal(plain.init_score(y, w), focal.init_score(y, w))
    weighted = make("softmax_focal_loss", gamma=0.0, alpha=ALPHA)
    by_class = np.array(ALPHA)[y.astype(int)]
    assert bits(plain(y, s, by_class * weight)) == bits(weighted(y, s, weight))
    assert_allclose(plain.init_score(y, by_class), weighted.init_score(y), rtol=1e-14)
    assert_array_equal(plain.transform(s), focal.transform(s))


@over_libraries
def test_rows_that_are_sure(library: str) -> None:
    """The gradient keeps its digits where the model is right, and is that of cross-entropy where wrong."""
    scores = np.array([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0], [800.0, 0.0, 0.0], [-1e4, 0.0, 0.0]])
    gradient, hessian = LIBRARIES[library]("softmax_focal_loss", gamma=1.0)(np.zeros(4), scores)
    small = 2.0 * np.exp(-40.0)
    assert_allclose(gradient[0], 2.0 * small * np.array([-small, small / 2, small / 2]), rtol=1e-6)
    assert_allclose(gradient[1], [-1.0, 1.0, np.exp(-40.0)], rtol=1e-6)
    assert_allclose(gradient[2:], [[0.0, 0.0, 0.0], [-1.0, 0.5, 0.5]])
    assert np.isfinite(hessian).all() and (hessian >= 0.0).all()


@over_libraries
@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0.3, "alpha": 2.0}, {"gamma": 5.0, "alpha": ALPHA}], ids=str
)
def test_the_start_has_the_least_loss(options: dict[str, Any], library: str) -> None:
    objective = LIBRARIES[library]("softmax_focal_loss", **options)
    rng = np.random.default_rng(2)
    y, weight = rng.choice(5, 400, p=[0.6, 0.2, 0.1, 0.07, 0.03]), rng.uniform(0.0, 2.0, 400)
    start = objective.init_score(y, weight)
    assert np.exp(start).sum() == pytest.approx(1.0, abs=1e-12)

    def slope(scores: Any) -> Any:
        _, grad = fastloss.softmax_focal_loss(
            np.broadcast_to(scores, (400, 5)).copy(), y, **options, reduction="none", return_grad=True
        )
        return weight @ grad / weight.sum()

    assert_allclose(slope(start), 0.0, atol=1e-12)
    assert np.abs(slope(start + 0.01 * np.eye(5)[0])).max() > 1e-5
    # Without rows of a class, and of one class alone, as the cross-entropy.
    plain = LIBRARIES[library]("softmax_focal_loss")
    none = plain.init_score([0, 2, 2], num_class=4)
    assert none[1] == none[3] == np.log(1e-15)
    assert_allclose(plain.init_score([1, 1]), [np.log(1e-15), 0.0])


@over_libraries
@pytest.mark.parametrize("classes", [2, 3])
def test_estimators(library: str, classes: int) -> None:
    """Probabilities of all classes, and a good model from 40 trees."""
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_wine

    x, y = load_wine(return_X_y=True)
    x, y = x[y < classes], y[y < classes]
    objective = LIBRARIES[library]("softmax_focal_loss", alpha=tuple(range(1, classes + 1)))
    model = estimator(library, "Classifier", objective, n_estimators=40).fit(x[::2], y[::2])
    probabilities = model.predict_proba(x)
    assert probabilities.shape == (len(y), classes)
    assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert model.score(x[1::2], y[1::2]) > 0.9
    assert fastloss.nll_loss(np.log(probabilities[::2]), y[::2]) < 0.2


@over_libraries
def test_errors(library: str) -> None:
    make = LIBRARIES[library]
    for alpha in (-1.0, [1.0, -1.0], [1.0, np.inf], [1.0], np.ones((2, 2))):
        refused(lambda a=alpha: make("softmax_focal_loss", alpha=a), ValueError, "alpha")
    refused(lambda: make("softmax_focal_loss", gamma=-0.1), ValueError, "gamma")
    refused(lambda: make("softmax_focal_loss", delta=1.0), ValueError, "delta")
    objective = make("softmax_focal_loss", alpha=[1.0, 2.0, 3.0])
    assert objective.options["alpha"] == (1.0, 2.0, 3.0)
    refused(lambda: objective([0, 1], np.zeros((2, 4))), ValueError, "alpha")
    refused(lambda: objective.init_score([0, 3]), ValueError, "label")
    refused(lambda: objective.init_score([0, 2], num_class=4), ValueError, "alpha")
    for labels in ([0, 3], [0.0, -1.0], [0.0, 0.5]):
        refused(lambda y=labels: objective(y, np.zeros((2, 3))), ValueError, "label")
