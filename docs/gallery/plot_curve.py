"""
A curve diagnosed
=================

:class:`~fastloss.LossCurve` takes the losses of a run as they come, and says what they show. This run learns
by heart: a network of 9,500 parameters sees 150 images.
"""

# %%
# The images are scanned digits of 8 x 8 pixels.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastloss

images, digits = load_digits(return_X_y=True)
images = images.astype(np.float32) / 16
seen, held_out = slice(0, 150), slice(150, None)

rng = np.random.default_rng(0)
first = 0.2 * rng.standard_normal((64, 128), dtype=np.float32)
second = 0.2 * rng.standard_normal((128, 10), dtype=np.float32)

# %%
# The training loop in NumPy. A tenth of the labels is wrong, as in many collections.
labels = digits.copy()
wrong = rng.random(len(labels)) < 0.1
labels[wrong] = rng.integers(10, size=wrong.sum())

curve = fastloss.LossCurve(unigram=np.log(10))
for step in range(1, 401):
    hidden = np.maximum(images[seen] @ first, 0)
    loss, grad = fastloss.cross_entropy(hidden @ second, labels[seen], return_grad=True)
    grad_first = images[seen].T @ (grad @ second.T * (hidden > 0))
    second -= 0.2 * hidden.T @ grad
    first -= 0.2 * grad_first
    validation = None
    if step % 10 == 0:
        scores = np.maximum(images[held_out] @ first, 0) @ second
        validation = fastloss.cross_entropy(scores, labels[held_out])
    curve.update(step, train=loss, validation=validation)

# %%
# What it shows, what to do, and the picture:
for finding in curve.diagnose():
    print(f"{finding.severity}: {finding}")
    print(f"    {finding.advice}")

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
curve.plot(axes)
plt.show()

# %%
# ``python -m fastloss curve FILE`` does the same for a log: a CSV file, JSON lines, or the
# ``trainer_state.json`` of transformers.
