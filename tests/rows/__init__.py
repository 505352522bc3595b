"""The rows of the registry, by family: one or more for each public function that computes something."""

from registry import Row

from . import contrastive, divergences, elementwise, linear, linear_divergences, preferences, softmax, sparse

ROWS: list[Row] = [
    *softmax.ROWS,
    *sparse.ROWS,
    *elementwise.ELEMENTWISE,
    *elementwise.PENALTIES,
    *elementwise.KL_DIVS,
    *divergences.ROWS,
    *preferences.PREFERENCES,
    preferences.PREFERENCE_REWARDS,
    *preferences.POLICIES,
    *linear.ROWS,
    *contrastive.ROWS,
    *linear_divergences.ROWS,
]

# Public names that have tests of their own, in test_perplexity.py, test_reading.py and test_curves.py.
OBJECTS = ("Finding", "LossCurve", "Perplexity", "interpret")
