"""Train a next-word language model: a plain NumPy loop with the loss of fastloss.

The model is the neural probabilistic language model of Bengio et al. (2003): look up a vector for each of
the previous words, pass them through one tanh layer, and score every word of the vocabulary as the next
one. The forward pass, the backward pass and the optimiser are written out below. fastloss computes only the
loss and its gradient with respect to the scores:

    loss, gradient = fastloss.cross_entropy(logits, target, return_grad=True, out=logits)

With a large vocabulary the scores of a batch would take more memory than the model. Then one call computes
the last layer and its loss, and the whole array of scores never exists:

    loss, gradients = fastloss.linear_cross_entropy(hidden, weight, target, return_grad=True, out=buffers)

The first steps are taken with that loss and with two losses in plain NumPy, in turn. They show that all
three give the same numbers, the time of each, and the number of training steps that fit into the time.
Training stops when the validation loss no longer falls, and keeps the parameters of the best validation.
`fastloss.interpret` says what a loss means, and `fastloss.LossCurve` what the curve shows.

Run it with ``python -m fastloss demo`` or ``python examples/train_language_model.py``; ``--help`` lists the
options. It needs NumPy, and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import sys
import textwrap
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import fastloss
import fastloss.reference

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
# A loss takes logits (B, V) and target (B,), and returns the mean loss and its gradient (B, V).
LossFunction = Callable[[Floats, Integers], tuple[float, npt.NDArray[Any]]]
# Above this size in bytes, the logits of a batch are not made all at once.
LARGE = 2**27

# Shapes in the comments: B examples in a batch, C words of context, D numbers in a word's vector
# and in the hidden layer (the "width"), V words in the vocabulary.


# ------------------------------------------------------------------------------------ the text

UNKNOWN = "<unk>"
# A word may have dots, apostrophes and hyphens inside ("object.__len__", "don't", "built-in").
# Any other mark is a token of its own, but a run of one mark ("-----") counts as one token.
TOKEN = re.compile(r"\w+(?:[.'-]\w+)*|([^\w\s])\1*")


def read_text(path: Path | None) -> str:
    """Return the text of a file or, without one, the documentation included in CPython."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    from pydoc_data.topics import topics

    # Some topics repeat parts of others. Keep each paragraph once: otherwise the model would see paragraphs
    # of the training text again in validation.
    paragraphs = "\n\n".join(topics.values()).split("\n\n")
    return "\n\n".join(dict.fromkeys(paragraphs))


def tokenise(text: str) -> list[str]:
    """Split a text into words and punctuation, case-sensitive, as ``None`` is not ``none``."""
    return [match[0] for match in TOKEN.finditer(text)]


@dataclass
class Data:
    """A text as word numbers, in windows of C words of context and the word to predict."""

    words: list[str]  # the word of each number, V in all
    training: Integers  # (number of examples, C + 1)
    validation: Integers  # (number of examples, C + 1)


def prepare(tokens: list[str], vocabulary: int, context: int) -> Data:
    """Number the words, hold out the last twentieth, and cut both parts into windows."""
    # The vocabulary is that of the whole text, so the model knows every word in it. Words beyond the limit
    # share one entry.
    counts = Counter(tokens)
    words = [word for word, _ in counts.most_common(vocabulary)]
    if len(counts) > vocabulary:
        words[-1] = UNKNOWN
    number = {word: i for i, word in enumerate(words)}
    ids = np.array([number.get(token, len(words) - 1) for token in tokens], dtype=np.int64)
    cut = len(ids) - len(ids) // 20
    if len(ids) - cut <= context:
        raise ValueError(f"the text is too short: {len(ids)} words, context {context}")
    windows = np.lib.stride_tricks.sliding_window_view
    return Data(words, windows(ids[:cut], context + 1), windows(ids[cut:], context + 1))


def unigram_perplexity(data: Data) -> float:
    """Return the perplexity of predictions by word frequency alone, the baseline of a model."""
    counts = np.bincount(data.training[:, -1], minlength=len(data.words)) + 1  # none has zero
    return math.exp(-np.log(counts / counts.sum())[data.validation[:, -1]].mean())


# ----------------------------------------------------------------------------------- the model


class Model:
    """Bengio's model, in float32, with one table for the input and output vectors of a word."""

    def __init__(
        self, vocabulary: int, context: int, width: int, batch: int, rng: np.random.Generator
    ) -> None:
        def normal(rows: int, columns: int, scale: float) -> Floats:
            return (scale * rng.standard_normal((rows, columns))).astype(np.float32)

        # The scales give the hidden layer and the logits an initial order of one.
        scale = width**-0.5
        self.embedding = normal(vocabulary, width, scale)  # (V, D)
        self.mix = normal(context * width, width, context**-0.5)  # (C * D, D)
        self.mix_bias = np.zeros(width, dtype=np.float32)  # (D,)
        self.word_bias = np.zeros(vocabulary, dtype=np.float32)  # (V,)
        self.parameters = [self.embedding, self.mix, self.mix_bias, self.word_bias]
        self.gradients = [np.zeros_like(parameter) for parameter in self.parameters]
        # By far the largest array of a step, so it is allocated once. The loss writes its gradient over it,
        # and the next forward pass fills it again.
        self.logits: Floats | None = None  # (B, V)
        self.grad_hidden = np.empty((batch, width), dtype=np.float32)  # (B, D)

    def forward(self, context: Integers) -> Floats:
        """Return the hidden layer (B, D) after each row of context (B, C)."""
        self.inputs = self.embedding[context].reshape(len(context), -1)  # (B, C * D)
        hidden: Floats = np.tanh(self.inputs @ self.mix + self.mix_bias)  # (B, D)
        self.hidden = hidden
        return hidden

    def loss(self, target: Integers, loss_function: LossFunction) -> tuple[float, float]:
        """Return the loss and its seconds; fill the gradients of the last layer."""
        embedding, _, _, word_bias = self.gradients
        self.logits = logits = np.matmul(self.hidden, self.embedding.T, out=self.logits)
        logits += self.word_bias
        begin = time.perf_counter()
        loss, gradient = loss_function(logits, target)
        seconds = time.perf_counter() - begin
        grad_logits = gradient.astype(np.float32, copy=False)  # (B, V)
        np.matmul(grad_logits.T, self.hidden, out=embedding)
        np.sum(grad_logits, axis=0, out=word_bias)
        np.matmul(grad_logits, self.embedding, out=self.grad_hidden)
        return loss, seconds

    def loss_without_logits(self, target: Integers) -> tuple[float, float]:
        """Do the same in one call, whose seconds include the products of the last layer."""
        embedding, _, _, word_bias = self.gradients
        begin = time.perf_counter()
        loss, _ = fastloss.linear_cross_entropy(
            self.hidden,
            self.embedding,
            target,
            linear_bias=self.word_bias,
            return_grad=True,
            out=(self.grad_hidden, embedding, word_bias),
        )
        return loss, time.perf_counter() - begin

    def backward(self, context: Integers) -> None:
        """Fill the other ``gradients``, after a forward pass and the loss."""
        embedding, mix, mix_bias, _ = self.gradients
        grad_hidden = self.grad_hidden
        grad_hidden *= 1 - self.hidden**2  # tanh' = 1 - tanh^2
        np.matmul(self.inputs.T, grad_hidden, out=mix)
        np.sum(grad_hidden, axis=0, out=mix_bias)
        grad_inputs = (grad_hidden @ self.mix.T).reshape(context.size, -1)  # (B * C, D)
        # A word may be in the context many times, and its gradients add up. Sorted by word, they are runs
        # of rows to sum, which is much faster than np.add.at.
        order = np.argsort(context, axis=None)
        words, starts = np.unique(context.ravel()[order], return_index=True)
        embedding[words] += np.add.reduceat(grad_inputs[order], starts, axis=0)


class Adam:
    """Adam (Kingma and Ba, 2015), in place, with decoupled weight decay on the matrices."""

    def __init__(self, parameters: list[Floats], decay: float) -> None:
        self.parameters = parameters
        self.decay = decay
        self.steps = 0
        self.means = [np.zeros_like(p) for p in parameters]
        self.squares = [np.zeros_like(p) for p in parameters]
        self.scratch = [np.empty_like(p) for p in parameters]

    def step(self, gradients: list[Floats], rate: float) -> None:
        """Move every parameter one step against its gradient."""
        self.steps += 1
        # The averages start from zero; these undo the bias that this gives to the first steps.
        root = math.sqrt(1 - 0.999**self.steps)
        rate_now = rate * root / (1 - 0.9**self.steps)
        for parameter, gradient, mean, square, scratch in zip(
            self.parameters, gradients, self.means, self.squares, self.scratch, strict=True
        ):
            np.subtract(gradient, mean, out=scratch)
            scratch *= 1 - 0.9
            mean += scratch
            np.square(gradient, out=scratch)
            scratch -= square
            scratch *= 1 - 0.999
            square += scratch
            np.sqrt(square, out=scratch)
            scratch += 1e-8 * root
            np.divide(mean, scratch, out=scratch)
            scratch *= rate_now
            if parameter.ndim > 1:
                parameter *= 1 - rate * self.decay
            parameter -= scratch


# ------------------------------------------------------------------------------------ the loss


def fast_loss(logits: Floats, target: Integers) -> tuple[float, npt.NDArray[Any]]:
    """Return loss and gradient of fastloss; the gradient overwrites the logits."""
    loss, gradient = fastloss.cross_entropy(logits, target, return_grad=True, out=logits)
    return float(loss), gradient


def numpy_loss(logits: Floats, target: Integers) -> tuple[float, npt.NDArray[Any]]:
    """Return loss and gradient of NumPy in float32, in the memory of the logits."""
    rows = np.arange(len(target))
    logits -= logits.max(axis=1, keepdims=True)
    target_logits = logits[rows, target]  # (B,)
    np.exp(logits, out=logits)
    sums = logits.sum(axis=1)  # (B,)
    losses = np.log(sums) - target_logits
    logits /= (len(target) * sums)[:, np.newaxis]
    logits[rows, target] -= 1 / len(target)
    return float(losses.mean(dtype=np.float64)), logits


def reference_loss(logits: Floats, target: Integers) -> tuple[float, npt.NDArray[Any]]:
    """Return loss and gradient of the NumPy reference of fastloss, in float64."""
    result = fastloss.reference.cross_entropy(logits, target, return_grad=True)
    loss, gradient = cast(tuple[Any, npt.NDArray[Any]], result)  # a pair, as return_grad is set
    return float(loss), gradient


# -------------------------------------------------------------------------------- the training


@dataclass
class Step:
    """The result of one training step, and its time."""

    loss: float
    seconds: float
    loss_seconds: float  # the part of ``seconds`` in the loss (and, if large, its layer)


def is_large(data: Data, options: argparse.Namespace) -> bool:
    """Return whether the logits of a batch would take too much memory."""
    return bool(4 * options.batch * len(data.words) > LARGE)


class Training:
    """A new model and its optimiser; only the seed determines its start and its batches.

    Without a loss function one call computes the last layer and its loss.
    """

    def __init__(self, data: Data, options: argparse.Namespace, loss_function: LossFunction | None) -> None:
        self.data = data
        self.batch = options.batch
        self.loss_function = loss_function
        self.is_large = is_large(data, options)
        self.rng = np.random.default_rng(options.seed)
        self.model = Model(len(data.words), options.context, options.width, options.batch, self.rng)
        self.optimiser = Adam(self.model.parameters, decay=options.decay)

    def step(self, rate: float) -> Step:
        """Read a batch, and move every parameter against its gradient."""
        begin = time.perf_counter()
        training, model = self.data.training, self.model
        window = training[self.rng.integers(len(training), size=self.batch)]  # (B, C + 1)
        context, target = window[:, :-1], window[:, -1]

        model.forward(context)
        begin_layer = time.perf_counter()
        if self.loss_function is None:
            loss, loss_seconds = model.loss_without_logits(target)
        else:
            loss, loss_seconds = model.loss(target, self.loss_function)
        if self.is_large:  # the same part is timed with and without logits
            loss_seconds = time.perf_counter() - begin_layer
        model.backward(context)
        self.optimiser.step(model.gradients, rate)
        return Step(loss, time.perf_counter() - begin, loss_seconds)


class Schedule:
    """The learning rates of the steps, which fall linearly to zero.

    The end may be moved during training.
    """

    def __init__(self, rate: float, steps: int) -> None:
        self.rate = rate
        self.steps = steps
        self.done = 0

    def __iter__(self) -> Iterator[float]:
        while self.done < self.steps:
            yield self.rate
            self.done += 1
            left = self.steps - self.done
            self.rate *= left / (left + 1)


def steps_that_fit(time_left: float, seconds: float, most: int) -> int:
    """Return the number of steps of these seconds that fit into the remaining time."""
    return int(max(0.0, min(time_left / seconds, most)))


class Best:
    """The parameters of a model at its lowest validation loss."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.parameters = [parameter.copy() for parameter in model.parameters]
        self.step = 0
        self.loss = math.inf
        self.waited = 0  # validations since then

    def update(self, step: int, loss: float) -> None:
        """Keep the parameters if the loss is the lowest so far."""
        self.waited += 1
        if loss < self.loss:
            self.step, self.loss, self.waited = step, loss, 0
            copy_arrays(self.model.parameters, self.parameters)

    def restore(self) -> None:
        """Restore the parameters of the model."""
        copy_arrays(self.parameters, self.model.parameters)


def copy_arrays(sources: list[Floats], targets: list[Floats]) -> None:
    """Copy the values of each array into the other one of its pair."""
    for source, target in zip(sources, targets, strict=True):
        np.copyto(target, source)


def validation_loss(model: Model, data: Data, batch: int) -> float:
    """Return the mean loss on the held-out part of the text."""
    total = 0.0
    for start in range(0, len(data.validation), batch):
        window = data.validation[start : start + batch]
        hidden, target = model.forward(window[:, :-1]), window[:, -1]
        log_probs = fastloss.linear_token_log_probs(
            hidden, model.embedding, target, linear_bias=model.word_bias
        )
        total += float(log_probs.sum(dtype=np.float64))
    return -total / len(data.validation)


def validation_perplexity(model: Model, data: Data, batch: int) -> float:
    """Return the perplexity on the held-out part of the text."""
    return perplexity(validation_loss(model, data, batch))


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss in nats per word."""
    return float(fastloss.interpret(loss).perplexity)


@dataclass
class Result:
    """A trained model, and the course of its training."""

    model: Model  # with the parameters of the best validation
    losses: list[float]  # of each step
    validation: list[tuple[int, float]]  # (step, loss)
    best_step: int
    best_loss: float

    def curve(self, unigram: float) -> fastloss.LossCurve:
        """Return the losses of all steps, to be read beside the perplexity of word frequencies."""
        curve, validation = fastloss.LossCurve(unigram=math.log(unigram)), dict(self.validation)
        for step, loss in enumerate(self.losses, 1):
            curve.update(step, train=loss, validation=validation.get(step))
        return curve


def train(data: Data, options: argparse.Namespace, steps: int, deadline: float) -> Result:
    """Train until the steps are done, the time is up, or validation no longer improves.

    The learning rate always falls to zero by the expected end: if the machine becomes slower than in the
    first steps, the end comes earlier.
    """
    training = Training(data, options, None if is_large(data, options) else fast_loss)
    schedule = Schedule(options.rate, steps)
    every = max(1, steps // 20)  # steps from one validation to the next
    progress, best = Progress(steps), Best(training.model)
    times = deque([time.perf_counter()], maxlen=every + 1)  # when the last steps ended
    history: list[Step] = []
    validation: list[tuple[int, float]] = []
    for rate in schedule:
        history.append(training.step(rate))
        step = len(history)
        times.append(time.perf_counter())
        seconds = (times[-1] - times[0]) / (len(times) - 1)  # of a step, with a share of the validations
        schedule.steps = step + steps_that_fit(deadline - times[-1], seconds, steps - step)
        if step % every == 0 or step == schedule.steps:
            loss = validation_loss(training.model, data, options.batch)
            validation.append((step, loss))
            best.update(step, loss)
            if best.waited == options.patience:
                schedule.steps = step
        note = f", held out {perplexity(validation[-1][1]):6.1f}" if validation else ""
        progress.show(options.batch, history, schedule.steps, note)
    best.restore()
    return Result(training.model, [step.loss for step in history], validation, best.step, best.loss)


def print_findings(curve: fastloss.LossCurve, title: str = "The curve") -> None:
    """Print what a curve shows: what asks for an act first, with advice; three findings at most."""
    for finding in curve.diagnose()[:3]:
        advice = f" {finding.advice}" if finding.severity == "act" else ""
        print(textwrap.fill(f"{title}: {finding}{advice}", 100, subsequent_indent="  "))


class Progress:
    """A line that rewrites itself in a terminal, or occasional lines elsewhere."""

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // 20)
        self.terminal = sys.stdout.isatty()
        self.shown = -math.inf

    def show(self, batch: int, history: list[Step], steps: int, note: str = "") -> None:
        """Print the line, unless the last one was printed just before."""
        step, now = len(history), time.perf_counter()
        due = now - self.shown > 0.1 if self.terminal else step % self.every == 0
        if not (due or step in (1, steps)):
            return
        self.shown = now
        recent = history[-20:]  # one batch is noisy: show the mean of the last few
        loss = statistics.fmean(s.loss for s in recent)
        seconds = sum(s.seconds for s in recent)
        # Shorter than the 80 columns of a terminal: a wrapped line cannot rewrite itself.
        line = (
            f"step {step:4d}/{steps:<4d} loss {loss:.3f}  perplexity {perplexity(loss):6.1f}{note}  "
            f"{batch * len(recent) / seconds:6,.0f} words/s"
        )
        if self.terminal:
            print("\r" + line, end="" if step < steps else "\n", flush=True)
        else:
            print(line, flush=True)


# ---------------------------------------------------------------- the comparison and the picture

NAMES = ["fastloss", "NumPy float32", "NumPy float64"]  # the last one is fastloss.reference
TOLERANCE = 1e-4


@dataclass
class Comparison:
    """The first steps of training with each of the three losses."""

    part: str  # the part timed by ``loss_seconds``
    histories: list[list[Step]]  # in the order of NAMES

    def loss_milliseconds(self) -> list[float]:
        """Return the median time of each loss with its gradient: some calls wait for a core."""
        return [1e3 * statistics.median(s.loss_seconds for s in history) for history in self.histories]

    def rest_milliseconds(self) -> float:
        """Return the median time of a step without the loss, which is the same for every loss."""
        return 1e3 * statistics.median(s.seconds - s.loss_seconds for h in self.histories for s in h)

    def differences(self) -> list[float]:
        """Return the largest difference of each loss from the last one, relative to the last one."""
        *_, exact = self.histories
        return [
            max(abs(a.loss - b.loss) / abs(b.loss) for a, b in zip(history, exact, strict=True))
            for history in self.histories
        ]

    def agrees(self) -> bool:
        """Return whether fastloss and the float64 reference give the same losses."""
        return self.differences()[0] <= TOLERANCE  # False also for NaN


def compare(data: Data, options: argparse.Namespace, deadline: float) -> Comparison:
    """Take the first steps, at least one, with each of the losses, and print the losses."""
    functions = [None if is_large(data, options) else fast_loss, numpy_loss, reference_loss]
    trainings = [Training(data, options, function) for function in functions]
    part = "output layer and loss" if is_large(data, options) else "loss"
    comparison = Comparison(part, [[] for _ in trainings])
    count = min(options.check_steps, options.steps)
    print(f"\nThe first {count} steps of training, with three losses in turn:")
    print("  step" + "".join(f"{name:>16}" for name in NAMES), flush=True)
    for step, rate in zip(range(1, count + 1), Schedule(options.rate, options.steps), strict=False):
        # In turn, so that a slow moment of the machine affects all of them.
        for training, history in zip(trainings, comparison.histories, strict=True):
            history.append(training.step(rate))
        losses = [history[-1].loss for history in comparison.histories]
        print(f"  {step:4d}" + "".join(f"{loss:16.7f}" for loss in losses), flush=True)
        if time.perf_counter() > deadline:
            break
    return comparison


def report(comparison: Comparison) -> None:
    """Print the results of the comparison."""
    difference = comparison.differences()[0]
    verdict = "they agree" if comparison.agrees() else f"THEY DISAGREE (tolerance {TOLERANCE:.0e})"
    print(f"Largest relative difference of fastloss from float64: {difference:.1e}; {verdict}.")
    rest, (fast, *others) = comparison.rest_milliseconds(), comparison.loss_milliseconds()
    print(f"Median time of the {comparison.part} with gradients; the rest of a step takes {rest:.1f} ms:")
    for name, milliseconds in zip(NAMES, (fast, *others), strict=True):
        share, ratio = milliseconds / (rest + milliseconds), milliseconds / fast
        factor = "" if name == NAMES[0] else f", {ratio:.1f} times as long"
        print(f"  {name:13} {milliseconds:8.2f} ms, {share:3.0%} of the step{factor}")


def plot(pyplot: Any, path: Path, result: Result, unigram: float, comparison: Comparison) -> None:
    """Draw the loss curves and the comparison as a PNG."""
    figure, (curves, bars) = pyplot.subplots(
        ncols=2, figsize=(12, 4.8), width_ratios=[3, 2], layout="constrained"
    )
    plot_curves(curves, result, unigram)
    plot_comparison(bars, comparison)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_curves(axes: Any, result: Result, unigram: float) -> None:
    """Draw the losses, what they show, and the best validation loss; the baseline is the unigram's."""
    result.curve(unigram).plot(axes)
    if result.best_step:
        best = f"perplexity {perplexity(result.best_loss):.1f} at step {result.best_step}"
        axes.plot(
            result.best_step,
            result.best_loss,
            "*",
            color="tab:red",
            markersize=15,
            zorder=5,
            label=f"best validation: {best}",
        )
    axes.set(ylabel="cross-entropy (nats per word)", xlim=(0, 1.03 * len(result.losses)))
    axes.set_title("Next-word language model, plain NumPy with fastloss")
    axes.grid(alpha=0.3)
    axes.legend(framealpha=0.85, edgecolor="none")


def plot_comparison(axes: Any, comparison: Comparison) -> None:
    """Draw the time of a step with each of the losses as a bar, and write the largest difference below."""
    rest, losses = comparison.rest_milliseconds(), comparison.loss_milliseconds()
    rows, height, gap = range(len(NAMES)), 0.45, 0.04
    axes.barh(rows, rest, height, color="0.85")
    axes.barh(rows, losses, height, left=rest, color=["tab:blue", "tab:orange", "tab:orange"])
    for row, name, milliseconds in zip(rows, NAMES, losses, strict=True):
        share = milliseconds / (rest + milliseconds)
        text = f"{name}: {comparison.part} {milliseconds:.1f} ms, {share:.0%} of the step"
        axes.text(0, row - height / 2 - gap, text, va="bottom", weight="bold" if row == 0 else "normal")
    difference = (
        f"In the first {len(comparison.histories[0])} steps the losses of {NAMES[0]} and {NAMES[-1]}\n"
        f"differ by {comparison.differences()[0]:.0e} of the loss at most."
    )
    axes.text(0, rows[-1] + height / 2 + 3 * gap, difference, va="top")
    axes.set(
        xlabel=f"time of a step (ms); grey: the rest of it, {rest:.1f} ms",
        ylim=(rows[-1] + 0.75, -0.5),
        yticks=[],
    )
    axes.set_title(f"The same training step, its {comparison.part} from")
    axes.spines[["top", "right"]].set_visible(False)


# ---------------------------------------------------------------------------- the command line


def positive(text: str) -> int:
    """Parse a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def positive_seconds(text: str) -> float:
    """Parse a time greater than 0; infinity is one."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0, not {text}")
    return value


# NumPy's OpenBLAS and the OpenMP runtime of fastloss keep idle threads spinning, each on the cores that the
# other one wants next. With these settings they sleep instead.
PASSIVE = {"OMP_WAIT_POLICY": "passive", "OPENBLAS_THREAD_TIMEOUT": "4"}


def restart_with_passive_threads() -> None:
    """Restart this program in the same process with those of the settings above that are not set.

    Libraries read them when they are loaded, and NumPy is loaded before any line of this program runs. So
    the process is replaced: it keeps its id, files, terminal and parent, and exit status and signals need
    no forwarding. Windows cannot do that; there the program continues unchanged.
    """
    missing = {name: value for name, value in PASSIVE.items() if name not in os.environ}
    if os.name == "posix" and sys.executable and missing:
        with suppress(OSError):  # the system forbids it
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    packaged = __name__.startswith("fastloss.")
    parser = argparse.ArgumentParser(
        prog="python -m fastloss demo" if packaged else None,
        description="Train a next-word language model in plain NumPy with the loss of fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--text", type=Path, metavar="FILE", help="text to learn; without it, Python's own docs")
    add("--steps", type=positive, default=600, help="most steps of training")
    add("--patience", type=positive, default=3, help="validations without a better one, before it stops")
    add(
        "--seconds",
        type=positive_seconds,
        default=50,
        help="time for all of it; a slow machine takes fewer steps",
    )
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--vocabulary", type=positive, default=8000, help="most words to tell apart")
    add("--width", type=positive, default=256, help="numbers per word vector and hidden layer")
    add("--context", type=positive, default=5, help="words that the model looks back")
    add("--batch", type=positive, default=512, help="words predicted in a step")
    add("--rate", type=float, default=3e-3, help="learning rate at the start")
    add("--decay", type=float, default=1.0, help="weight decay")
    add("--plot", type=Path, default=Path("loss_curve.png"), metavar="PNG", help="where to draw the result")
    add("--check-steps", type=positive, default=10, help="steps to take with all three losses")
    return parser


def load_pyplot() -> Any:
    """Return matplotlib's pyplot, or None without it."""
    try:
        import matplotlib

        matplotlib.use("Agg")  # draw to a file, also without a screen
        import matplotlib.pyplot as pyplot
    except ImportError:
        return None
    return pyplot


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit status is 1 if fastloss and the reference disagree."""
    begin = time.perf_counter()
    parser = make_parser()
    options = parser.parse_args(argv)
    if not options.plot.absolute().parent.is_dir():
        parser.error(f"--plot: there is no folder {options.plot.parent}")
    pyplot = load_pyplot()
    try:
        tokens = tokenise(read_text(options.text))
        data = prepare(tokens, options.vocabulary, options.context)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except ImportError:  # some distributions do not include pydoc_data
        parser.error("this Python comes without its documentation; give a text with --text FILE")
    unigram = unigram_perplexity(data)
    print(
        f"{len(tokens):,} words of {options.text or 'the Python documentation'}, "
        f"{len(data.words):,} different ones.\n"
        f"Held out for validation: the last {len(data.validation):,}; "
        f"word frequencies alone give them a perplexity of {unigram:.1f}."
    )

    # At most a fifth of the time for the comparison, a tenth for the picture, and the rest for training.
    comparison = compare(data, options, begin + options.seconds / 5)
    report(comparison)

    deadline = begin + 0.9 * options.seconds
    # The fastest of the first steps: if later steps are slower, training ends earlier.
    seconds = min(step.seconds for step in comparison.histories[0])
    steps = max(1, steps_that_fit(deadline - time.perf_counter(), seconds, options.steps))
    print(
        f"\nTraining: up to {steps} steps, fewer if they turn out slower. It ends earlier where\n"
        f"{options.patience} validations in a row are no better than the best.",
        flush=True,
    )
    result = train(data, options, steps, deadline)
    print(
        f"Best validation perplexity: {perplexity(result.best_loss):.1f} at step {result.best_step}, "
        f"whose parameters are kept (word frequencies: {unigram:.1f})."
    )
    print(textwrap.fill(str(fastloss.interpret(result.best_loss)), 100, subsequent_indent="  "))
    if len(result.losses) > 1:
        print_findings(result.curve(unigram))

    if pyplot is None:
        print("No picture: matplotlib is missing (pip install 'fastloss[demo]').")
    else:
        plot(pyplot, options.plot, result, unigram, comparison)
        print(f"Picture written to {options.plot}.")
    return 0 if comparison.agrees() else 1


if __name__ == "__main__":
    restart_with_passive_threads()
    sys.exit(main())
