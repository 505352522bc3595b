"""
The share of the loss in a training step
========================================

A language model scores every word of its vocabulary at every position. These scores, the logits, are by far
the largest array of a step, and the loss in plain NumPy passes over them many times. This program times the
same training step with two losses.
"""

# %%
# The text is the source of Python's standard library. The model looks up a vector for each of the two words
# before, adds them, and scores every word as the next one.
import re
import sysconfig
import time
from collections import Counter
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np

import fastloss

library = Path(sysconfig.get_path("stdlib"))
text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(library.glob("*.py")))
tokens = re.findall(r"\w+|[^\w\s]", text)
vocabulary, width, batch = 20_000, 64, 256
number = {word: i for i, (word, _) in enumerate(Counter(tokens).most_common(vocabulary - 1))}
words = np.array([number.get(token, vocabulary - 1) for token in tokens])

rng = np.random.default_rng(0)
inputs = rng.standard_normal((vocabulary, width), dtype=np.float32)
outputs = 0.1 * rng.standard_normal((vocabulary, width), dtype=np.float32)
logits = np.empty((batch, vocabulary), dtype=np.float32)
print(f"{len(words)} words; logits of {logits.nbytes / 1e6:.0f} MB")

# %%
# The usual loss in NumPy, and that of fastloss, which writes the gradient over the logits:


def loss_of_numpy(logits, target):
    """Return cross-entropy and gradient."""
    rows = np.arange(len(target))
    shifted = logits - logits.max(axis=1, keepdims=True)
    gradient = np.exp(shifted)
    total = gradient.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - shifted[rows, target]).mean()
    gradient /= total
    gradient[rows, target] -= 1
    gradient /= len(target)
    return loss, gradient


def loss_of_fastloss(logits, target):
    """Return cross-entropy and gradient, in the memory of the logits."""
    return fastloss.cross_entropy(logits, target, return_grad=True, out=logits)


# %%
# A step notes the time after each of its parts.


def step(loss_function):
    """Train on one batch; return the loss, and the seconds of each part."""
    at = rng.integers(2, len(words), size=batch)
    before, target = words[[at - 2, at - 1]], words[at]
    times = [time.perf_counter()]
    hidden = np.tanh(inputs[before].sum(axis=0))
    np.matmul(hidden, outputs.T, out=logits)
    times.append(time.perf_counter())
    loss, gradient = loss_function(logits, target)
    times.append(time.perf_counter())
    grad_hidden = (gradient @ outputs) * (1 - hidden**2)
    grad_outputs = gradient.T @ hidden
    times.append(time.perf_counter())
    outputs[...] -= 2.0 * grad_outputs
    for row in before:
        np.subtract.at(inputs, row, 2.0 * grad_hidden)
    times.append(time.perf_counter())
    return loss, np.diff(times)


names = ("NumPy", "fastloss")
seconds = {name: [] for name in names}
for _ in range(16):
    for name, function in zip(names, (loss_of_numpy, loss_of_fastloss), strict=True):
        loss, parts = step(function)
        seconds[name].append(parts)
print(f"loss {loss:.2f}, at the start {np.log(vocabulary):.2f}")

# %%
# The bars are medians of each part. The two losses took turns, so that both had the same machine.
parts = ("forward", "loss", "backward", "update")
colours = ("#56B4E9", "#D55E00", "#0072B2", "#999999")
figure, axes = plt.subplots(figsize=(7, 2.4), layout="constrained")
for name in names:
    left = 0.0
    for part, colour, column in zip(parts, colours, zip(*seconds[name], strict=True), strict=True):
        width_of_bar = 1e3 * median(column)
        axes.barh(name, width_of_bar, left=left, color=colour, label=part if name == "NumPy" else None)
        left += width_of_bar
axes.invert_yaxis()
axes.set_xlabel("milliseconds of a step")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(ncols=4, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
plt.show()

# %%
# What is left of a step are the matrix products. :func:`~fastloss.linear_cross_entropy` takes the products of
# the last layer and the loss in one call, so that the logits never exist all at once.
