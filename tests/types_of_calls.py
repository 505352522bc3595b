"""The types of public calls, for type checkers alone: tests/test_types.py adds those of the losses."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import fastloss as fl
from fastloss.linear import LinearGradients
from fastloss.preference import PreferenceRewards
from fastloss.reading import Interpretation
from fastloss.sequence import TokenStatistics

Array = npt.NDArray[Any]
x = np.zeros((2, 3), np.float32)
y = [0, 1]

# Settings, transforms, perplexity
assert_type(fl.get_num_threads(), int)
assert_type(fl.set_num_threads(2), None)
with fl.num_threads(2):
    assert_type(fl.show_config(), None)
for transformed in (fl.softmax(x), fl.log_softmax(x, out=x), fl.logsumexp(x, axis=0)):
    assert_type(transformed, Array)
assert_type(fl.perplexity(x, y), float)
assert_type(fl.Perplexity().update(x, y), fl.Perplexity)
assert_type(fl.Perplexity().compute(), float)
assert_type(fl.Perplexity().update(x, y, by=y) + fl.Perplexity(), fl.Perplexity)
assert_type(fl.Perplexity().load_state_dict(fl.Perplexity().state_dict()), fl.Perplexity)
assert_type(fl.Perplexity().documents["a"].perplexity, float)
assert_type(fl.preference_rewards(x, x), PreferenceRewards)
assert_type(fl.token_statistics(x, y), TokenStatistics)
assert_type(fl.token_statistics(x, y, return_grad=True), tuple[TokenStatistics, Array])
assert_type(fl.linear_token_statistics(x, x, y), TokenStatistics)
assert_type(fl.linear_token_statistics(x, x, y, return_grad=True), tuple[TokenStatistics, LinearGradients])
assert_type(fl.kl_div(x, x, reduction="batchmean"), float)
assert_type(fl.interpret(2.0), Interpretation)
assert_type(fl.interpret(x, base=2, tokens=6, utf8_bytes=[[20.0] * 3] * 2), Interpretation)

# Curves
assert_type(fl.LossCurve().update(1, train=2.0), fl.LossCurve)
assert_type(fl.LossCurve.from_arrays([1, 2], train=[2.0, None], validation=x[0]), fl.LossCurve)
assert_type(fl.LossCurve.read("log.csv", unigram=7.0), fl.LossCurve)
assert_type(fl.LossCurve().diagnose(), list[fl.Finding])
assert_type(fl.Finding("spike", 1, 2, {"size": 1.0}, "None.").severity, str)
