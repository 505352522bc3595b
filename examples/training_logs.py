"""Train small models on real data, well and badly, and keep the logs, of which it is known what is wrong.

Each run trains a word language model on Python's documentation, a network on scanned digits, or a linear
model of the progress of diabetes, with the losses of fastloss, and does one thing right or wrong on purpose.
The table `LOGS` says what `fastloss.LossCurve` should find in each log. The reason is in how the run was
made, not in what was found. A log is a CSV file with the columns step, train and validation, as trainers
write it: the training loss is the mean since the last line, and every few lines have a validation loss.

``python examples/training_logs.py --out FOLDER`` makes all of them in half a minute, and prints what each
shows. tests/logs has those that the tests read. It needs scikit-learn, for the digits and the diabetes.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

import fastloss

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import train_language_model as lm

Row = tuple[int, float, float | None]  # step, training loss, validation loss

# ---------------------------------------------------------------------------------- the learners


class Learner(Protocol):
    """A model in training."""

    baseline: float  # the loss of a prediction without inputs

    def step(self, rate: float) -> float:
        """Take a step, and return the loss before it."""

    def validate(self) -> float:
        """Return the loss on the validation data."""


@cache
def text() -> lm.Data:
    """Return the documentation of Python as windows of four words."""
    return lm.prepare(lm.tokenise(lm.read_text(None)), vocabulary=1000, context=3)


def baseline(train: npt.NDArray[Any], validation: npt.NDArray[Any], classes: int) -> float:
    """Return the loss of predicting each class as often as it is among the training targets."""
    counts = np.bincount(train, minlength=classes) + 1.0
    return float(-np.log(counts / counts.sum())[validation].mean())


class Words:
    """The language model of train_language_model.py, small, with Adam."""

    def __init__(self, data: lm.Data, *, batch: int = 128, width: int = 32, seed: int = 0) -> None:
        options = argparse.Namespace(batch=batch, context=3, width=width, seed=seed, decay=0.0)
        self.data = data
        self.training = lm.Training(data, options, lm.fast_loss)
        self.baseline = baseline(data.training[:, -1], data.validation[:, -1], len(data.words))

    def step(self, rate: float) -> float:
        """Take a step, and return the loss before it."""
        return self.training.step(rate).loss

    def validate(self) -> float:
        """Return the loss on a thousand validation examples."""
        part = replace(self.data, validation=self.data.validation[:1000])
        return lm.validation_loss(self.training.model, part, 500)


class Digits:
    """A network of one hidden layer that reads scanned digits, with momentum.

    `wrong` is the share of the training examples with a random label, `noise` the standard deviation of the
    noise that every training batch gets (augmentation), and `broken` an image that is NaN.
    """

    baseline = math.log(10)

    def __init__(
        self,
        *,
        examples: int = 1400,
        wrong: float = 0.0,
        noise: float = 0.0,
        broken: int | None = None,
        width: int = 64,
        bias: float = 0.0,
    ) -> None:
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        self.rng = np.random.default_rng(1)
        order = self.rng.permutation(len(y))
        x, y = (x[order] / 16).astype(np.float32), y[order]
        self.x, self.y = x[:examples], y[:examples].copy()
        self.held_x, self.held_y = x[1400:], y[1400:]
        replaced = self.rng.random(examples) < wrong
        self.y[replaced] = self.rng.integers(10, size=int(replaced.sum()))
        if broken is not None:
            self.x[broken] = math.nan
        self.noise = noise
        shapes = ((64, width), (width,), (width, 10), (10,))
        self.parameters = [
            (self.rng.standard_normal(shape) / math.sqrt(shape[0]) * (len(shape) == 2)).astype(np.float32)
            for shape in shapes
        ]
        self.parameters[1] += bias
        self.speeds = [np.zeros_like(parameter) for parameter in self.parameters]

    def logits(self, x: lm.Floats) -> tuple[lm.Floats, lm.Floats]:
        """Return the hidden layer and the logits."""
        first, first_bias, second, second_bias = self.parameters
        hidden = np.maximum(x @ first + first_bias, 0)
        return hidden, hidden @ second + second_bias

    def step(self, rate: float) -> float:
        """Take a step, and return the loss before it."""
        rows = self.rng.integers(len(self.x), size=32)
        x = self.x[rows] + self.noise * self.rng.standard_normal((32, 64), dtype=np.float32)
        hidden, logits = self.logits(x)
        loss, slope = fastloss.cross_entropy(logits, self.y[rows], return_grad=True, out=logits)
        inner = (slope @ self.parameters[2].T) * (hidden > 0)
        for parameter, speed, gradient in zip(
            self.parameters,
            self.speeds,
            (x.T @ inner, inner.sum(0), hidden.T @ slope, slope.sum(0)),
            strict=True,
        ):
            speed *= 0.9
            speed -= rate * gradient
            parameter += speed
        return loss

    def validate(self) -> float:
        """Return the loss on the held-out digits."""
        return fastloss.cross_entropy(self.logits(self.held_x)[1], self.held_y)


class Diabetes:
    """A linear model of the progress of diabetes after a year, from ten measurements of a patient."""

    def __init__(self) -> None:
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True)
        self.rng = np.random.default_rng(0)
        x, y = (x / x.std(0)).astype(np.float32), y.astype(np.float32)
        self.x, self.y, self.held_x, self.held_y = x[:352], y[:352], x[352:], y[352:]
        self.weight = np.zeros(11, dtype=np.float32)
        self.baseline = float(self.y.var())

    def predict(self, x: lm.Floats) -> lm.Floats:
        """Return the prediction of each patient."""
        predicted: lm.Floats = x @ self.weight[:10] + self.weight[10]
        return predicted

    def step(self, rate: float) -> float:
        """Take a step, and return the loss before it."""
        rows = self.rng.integers(len(self.x), size=32)
        predicted = self.predict(self.x[rows])
        loss, slope = fastloss.mse_loss(predicted, self.y[rows], return_grad=True, out=predicted)
        self.weight[:10] -= rate * (slope @ self.x[rows])
        self.weight[10] -= rate * slope.sum()
        return loss

    def validate(self) -> float:
        """Return the loss on the held-out patients."""
        return fastloss.mse_loss(self.predict(self.held_x), self.held_y)


# --------------------------------------------------------------------------------- what goes wrong


def first(data: lm.Data, examples: int) -> lm.Data:
    """Return a text of which only the first training examples are left."""
    return replace(data, training=data.training[:examples])


def leaked(data: lm.Data, copies: int) -> lm.Data:
    """Return a text whose validation part is in the training part, too, several times."""
    return replace(data, training=np.concatenate([data.training[:20_000], *[data.validation] * copies]))


class SpoiledWords(Words):
    """The language model, in some of whose steps the targets are wrong words."""

    def __init__(self, data: lm.Data, spoiled: set[int]) -> None:
        super().__init__(data)
        self.spoiled = spoiled

    def step(self, rate: float) -> float:
        """Take a step, and return the loss before it."""
        if self.training.optimiser.steps in self.spoiled:
            wrong = self.data.training.copy()
            wrong[:, -1] = len(self.data.words) - 1 - wrong[:, -1]  # the rarest word for the most frequent
            self.training.data = replace(self.data, training=wrong)
        loss = super().step(rate)
        self.training.data = self.data
        return loss


def tuned_on(batch: int) -> Words:
    """Return a language model that has been trained already, and goes on with batches of another size."""
    words = Words(text())
    for rate in fallen(1e-2, 2000):
        words.step(rate)
    model = words.training.model
    words.training.batch, model.logits = batch, None
    model.grad_hidden = np.empty((batch, model.grad_hidden.shape[1]), dtype=np.float32)
    return words


# ------------------------------------------------------------------------------ the learning rates


def fallen(rate: float, count: int, warm_up: int = 1) -> Iterator[float]:
    """Return rates that rise to `rate` in some steps, and then fall to 0 along a cosine."""
    for step in range(count):
        done = max(0.0, (step - warm_up) / (count - warm_up))
        yield rate * min(1.0, (step + 1) / warm_up) * (1 + math.cos(math.pi * done)) / 2


def stairs(rates: Iterable[float], count: int) -> Iterator[float]:
    """Return each of these rates for so many steps."""
    return (rate for rate in rates for _ in range(count))


def rising(rate: float, factor: float, count: int) -> Iterator[float]:
    """Return rates each of which is the one before times a factor."""
    return (rate * factor**step for step in range(count))


# ---------------------------------------------------------------------------------------- the logs


def run(learner: Learner, rates: Iterable[float], every: int = 5, held_out: int = 10) -> Iterator[Row]:
    """Train, and yield a row every few steps, with the validation loss in every `held_out`-th of them."""
    losses: list[float] = []
    with np.errstate(all="ignore"):  # some runs overflow on purpose
        for step, rate in enumerate(rates, 1):
            losses.append(learner.step(rate))
            if step % every == 0:
                is_due = step % (every * held_out) == 0
                yield step, sum(losses) / every, learner.validate() if is_due else None
                losses.clear()


@dataclass(frozen=True)
class Log:
    """A run, what its log should show, and why."""

    name: str
    findings: tuple[str, ...]  # one of them at least, and no other that asks for an act
    why: str
    learner: Callable[[], Learner]
    rates: Callable[[], Iterable[float]]
    every: int = 5

    def rows(self) -> tuple[list[Row], float]:
        """Train, and return the rows of the log and the loss of the baseline."""
        learner = self.learner()
        return list(run(learner, self.rates(), self.every)), learner.baseline


def words() -> Words:
    """Return the language model on the whole text."""
    return Words(text())


RIGHT = ("falling", "plateau")  # which of them depends on where the run ends
LOGS = [
    Log("right", ("falling",), "Adam at a good rate, for less than four epochs", words,
        lambda: repeat(3e-3, 2000)),
    Log("right_cosine", RIGHT, "warm-up, and a rate that falls to 0", words,
        lambda: fallen(1e-2, 1500, warm_up=100)),
    Log("right_stairs", RIGHT, "a rate that falls to a tenth, twice", lambda: Digits(noise=0.3),
        lambda: stairs((5e-2, 5e-3, 5e-4), 600)),
    Log("right_restarts", RIGHT, "three cosines: the loss rises at every restart, and comes back", words,
        lambda: [rate for _ in range(3) for rate in fallen(1e-2, 600)]),
    Log("right_augmented", RIGHT, "a little noise on the training images: validation is below training",
        lambda: Digits(noise=0.3), lambda: repeat(1e-2, 2000)),
    Log("strong_augmentation", ("leak",), "so much noise that the curve is like that of a leak: the advice "
        "names both", lambda: Digits(noise=0.6), lambda: repeat(1e-2, 2000)),
    Log("right_regression", ("plateau",), "a linear model has eleven parameters to find, and has them early",
        Diabetes, lambda: repeat(3e-3, 1500)),
    Log("rate_too_small", ("falling",), "a tenth of the right rate: far from done at the end", words,
        lambda: repeat(3e-4, 2000)),
    Log("rate_far_too_small", ("underfitting",), "a thousandth of it: word frequencies are better", words,
        lambda: repeat(3e-6, 1500)),
    Log("rate_too_large", ("divergence",), "the rate grows, as if the schedule after warm-up were missing",
        words, lambda: rising(1e-3, 1.005, 1150)),
    Log("rate_far_too_large", ("divergence", "non_finite"), "beyond twice the inverse curvature each step "
        "multiplies the error, until it overflows", Diabetes, lambda: repeat(0.35, 400), every=1),
    Log("broken_example", ("non_finite",), "one image of 1400 is NaN, and so is the model that has seen it",
        lambda: Digits(broken=1123), lambda: repeat(1e-2, 600)),
    Log("too_little_text", ("overfitting",), "3000 words, fifty times", lambda: Words(first(text(), 3000)),
        lambda: repeat(3e-3, 1200)),
    Log("too_few_digits", ("overfitting",), "a hundred images, ten of them with a random label",
        lambda: Digits(examples=100, wrong=0.1), lambda: repeat(3e-2, 1500)),
    Log("wrong_labels", ("overfitting",), "two labels in five are random, and learnt by heart in time",
        lambda: Digits(wrong=0.4, width=128), lambda: repeat(2e-2, 9000), every=30),
    Log("leak", ("leak",), "the validation text is in the training text, eight times",
        lambda: Words(leaked(text(), 8)), lambda: repeat(5e-3, 2000)),
    Log("small_batches", ("noise",), "a trained model goes on with batches of two words",
        lambda: tuned_on(2), lambda: repeat(3e-5, 400), every=1),
    Log("rate_zero", ("plateau",), "the rate is 0 from the middle on, as after the end of a schedule", words,
        lambda: stairs((3e-3, 0.0), 1000)),
    Log("dead_units", ("underfitting",), "no unit of the hidden layer is ever above 0",
        lambda: Digits(bias=-20.0), lambda: repeat(1e-2, 1000)),
    Log("spoiled_batches", ("spike",), "the targets of four batches are wrong",
        lambda: SpoiledWords(text(), {250, 480, 700, 850}), lambda: repeat(3e-3, 1000), every=1),
]  # fmt: skip


def write(folder: Path, name: str) -> fastloss.LossCurve:
    """Make a log, write it, and return its curve."""
    (log,) = (log for log in LOGS if log.name == name)
    rows, baseline = log.rows()
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "train", "validation"))
        writer.writerows((step, f"{a:.6g}", "" if b is None else f"{b:.6g}") for step, a, b in rows)
    return fastloss.LossCurve.read(path, unigram=float(f"{baseline:.6g}"))


def is_as_stated(log: Log, curve: fastloss.LossCurve) -> bool:
    """Return whether the findings of a curve are those of its log, and no others that ask for an act."""
    findings = curve.diagnose()
    kinds = {finding.kind for finding in findings}
    acts = {finding.kind for finding in findings if finding.severity == "act"}
    return bool(kinds & set(log.findings)) and acts <= set(log.findings)


@contextmanager
def single_threads() -> Iterator[None]:
    """Let the processes that are started have one thread each: the models are too small for two."""
    before = dict(os.environ)
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


# ---------------------------------------------------------------------------- the command line


def main(argv: list[str] | None = None) -> int:
    """Make the logs and print what they show; the exit status is 1 if one does not show what it should."""
    parser = argparse.ArgumentParser(
        description="Train small models on real data, well and badly, and keep the logs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("training_logs"), help="folder for the CSV files")
    parser.add_argument("names", nargs="*", help="the logs to make; without names all of them")
    options = parser.parse_args(argv)
    logs = {log.name: log for log in LOGS if log.name in options.names or not options.names}
    if unknown := set(options.names) - set(logs):
        parser.error(
            f"there is no log {', '.join(sorted(unknown))}; there are {', '.join(log.name for log in LOGS)}"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    faults, context = 0, multiprocessing.get_context("spawn")
    with single_threads(), ProcessPoolExecutor(2, mp_context=context) as pool:
        try:
            curves = dict(zip(logs, pool.map(partial(write, options.out), logs), strict=True))
        except ImportError as error:
            parser.error(f"{error} (pip install scikit-learn; a Python with its documentation)")
    for name, curve in curves.items():
        log = logs[name]
        print(f"\n{name}: {log.why}. Should show: {' or '.join(log.findings)}.")
        for finding in curve.diagnose():
            print(f"  {finding.severity:4} {finding}")
        if not is_as_stated(log, curve):
            print("  THIS IS NOT WHAT IT SHOULD SHOW")
            faults += 1
    path = options.out / "baselines.json"
    baselines = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    baselines |= {name: curve.unigram for name, curve in curves.items()}
    path.write_text(json.dumps(baselines, indent=2) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
