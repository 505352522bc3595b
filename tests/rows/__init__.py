"""The rows of the registry, by family: one or more for each public function that computes something."""

from registry import Row

from . import (
    classes,
    contrastive,
    distributions,
    divergences,
    elementwise,
    linear,
    linear_divergences,
    pairs,
    preferences,
    softmax,
    sparse,
    survival,
)

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
    *classes.ROWS,
    *distributions.ROWS,
    *linear_divergences.ROWS,
    *survival.ROWS,
    *pairs.PAIRS,
]

# Public names that have tests of their own: of perplexity, reading, curves, alignments, survival, lists, and
# the adaptive softmax, whose weights are pairs.
OBJECTS = (
    "Finding",
    "LossCurve",
    "Perplexity",
    "adaptive_log_softmax_with_loss",
    "cox_ph_loss",
    "ctc_loss",
    "ctc_loss_with_logits",
    "interpret",
    "lambda_rank_loss",
    "list_net_loss",
)
