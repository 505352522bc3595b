"""The rows of the registry, by family: one or more for each public function that computes something."""

from registry import Row

from . import contrastive, divergences, elementwise, linear, linear_divergences, preferences, softmax

ROWS: list[Row] = [
    *softmax.ROWS,
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

# Public names that have tests of their own, in test_perplexity.py, test_reading.py, test_curves.py and
# test_ctc.py.
OBJECTS = ("Finding", "LossCurve", "Perplexity", "ctc_loss", "ctc_loss_with_logits", "interpret")
