"""Train a next-word language model: a plain NumPy loop whose loss comes from fastloss.

The model is the neural probabilistic language model of Bengio et al. (2003): look up a vector
for each of the previous words, pass them through one tanh layer, and score every word of the
vocabulary as the next one. The forward pass, the backward pass and the optimiser are written out
below. Only the loss and its gradient with respect to the scores are left to the library:

    loss, gradient = fastloss.cross_entropy(logits, target, return_grad=True, out=logits)

Where the vocabulary is large, the scores of a batch would take more memory than the model. Then the
last layer and its loss are one call, and the scores never exist all at once:

    loss, gradients = fastloss.linear_cross_entropy(hidden, weight, target, return_grad=True, out=buffers)

Run it with ``python -m fastloss demo`` or ``python examples/train_language_model.py``; the
option ``--help`` lists what can be changed. Needs NumPy, and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

import fastloss
import fastloss.reference

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
# A loss takes logits (B, V) and target (B,), and gives the mean loss and its gradient (B, V).
LossFunction = Callable[[Floats, Integers], tuple[float, npt.NDArray[Any]]]
# Logits of a batch above this many bytes are not made all at once.
LARGE = 2**27

# Shapes in the comments: B examples in a batch, C words of context, D numbers in a word's vector
# and in the hidden layer (the "width"), V words in the vocabulary.


# ------------------------------------------------------------------------------------ the text

UNKNOWN = "<unk>"
# A word may have dots, apostrophes and hyphens inside ("object.__len__", "don't", "built-in").
# Any other mark is a token of its own, but a run of one mark ("-----") counts as one token.
TOKEN = re.compile(r"\w+(?:[.'-]\w+)*|([^\w\s])\1*")


def read_text(path: Path | None) -> str:
    """Return the text of a file or, without one, the documentation that CPython carries."""
    if path is not None:
        return path.read_text(encoding="utf-8")
    from pydoc_data.topics import topics

    # Some topics repeat parts of others. Keep each paragraph once: otherwise the model would
    # meet in validation what it has already read in training.
    paragraphs = "\n\n".join(topics.values()).split("\n\n")
    return "\n\n".join(dict.fromkeys(paragraphs))


def tokenise(text: str) -> list[str]:
    """Split a text into words and punctuation; case stays, as ``None`` is not ``none``."""
    return [match[0] for match in TOKEN.finditer(text)]


@dataclass
class Data:
    """A text as word numbers, in windows of C words of context and the word to predict."""

    words: list[str]  # the word of each number, V in all
    training: Integers  # (number of examples, C + 1)
    validation: Integers  # (number of examples, C + 1)


def prepare(tokens: list[str], vocabulary: int, context: int) -> Data:
    """Number the words, hold out the last twentieth, and cut both parts into windows."""
    # The vocabulary is that of the whole text, so the model can be asked for every word in it.
    # Words beyond the limit share one entry.
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
    """Return the perplexity of guessing by word frequency alone, which a model has to beat."""
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

        # Scales are such that the hidden layer and the logits start out at the order of one.
        scale = width**-0.5
        self.embedding = normal(vocabulary, width, scale)  # (V, D)
        self.mix = normal(context * width, width, context**-0.5)  # (C * D, D)
        self.mix_bias = np.zeros(width, dtype=np.float32)  # (D,)
        self.word_bias = np.zeros(vocabulary, dtype=np.float32)  # (V,)
        self.parameters = [self.embedding, self.mix, self.mix_bias, self.word_bias]
        self.gradients = [np.zeros_like(parameter) for parameter in self.parameters]
        # By far the largest array of a step, so it is made once. The loss writes its gradient
        # over it, and the next forward pass fills it anew.
        self.logits: Floats | None = None  # (B, V)
        self.grad_hidden = np.empty((batch, width), dtype=np.float32)  # (B, D)

    def forward(self, context: Integers) -> Floats:
        """Return the hidden layer (B, D) after each row of context (B, C)."""
        self.inputs = self.embedding[context].reshape(len(context), -1)  # (B, C * D)
        hidden: Floats = np.tanh(self.inputs @ self.mix + self.mix_bias)  # (B, D)
        self.hidden = hidden
        return hidden

    def loss(self, target: Integers, loss_function: LossFunction) -> tuple[float, float]:
        """Return the loss, and the seconds that it took; fill the gradients of the last layer."""
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
        """Do the same in one call; the seconds are those of the products of the last layer, too."""
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
        # A word may stand many times in the context, and its gradients add up. Sorted by word,
        # they are runs of rows to sum, which is much faster than np.add.at.
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
    """Return loss and gradient from fastloss; the gradient takes the place of the logits."""
    loss, gradient = fastloss.cross_entropy(logits, target, return_grad=True, out=logits)
    return float(loss), gradient


def reference_loss(logits: Floats, target: Integers) -> tuple[float, npt.NDArray[Any]]:
    """Return the same two from the NumPy reference, which computes in float64."""
    result = fastloss.reference.cross_entropy(logits, target, return_grad=True)
    loss, gradient = cast(tuple[Any, npt.NDArray[Any]], result)  # a pair, as return_grad is set
    return float(loss), gradient


# -------------------------------------------------------------------------------- the training


@dataclass
class Step:
    """What one step of training gave, and how long it took."""

    loss: float
    seconds: float
    loss_seconds: float  # the part of ``seconds`` that was spent in the loss (and, if large, its layer)


def train(
    data: Data,
    options: argparse.Namespace,
    loss_function: LossFunction | None,
    steps: int,
    after_step: Callable[[Model, list[Step]], None],
) -> list[Step]:
    """Train a new model; the seed alone decides how it starts and what it reads.

    Without a loss function the last layer and its loss are one.
    """
    rng = np.random.default_rng(options.seed)
    model = Model(len(data.words), options.context, options.width, options.batch, rng)
    optimiser = Adam(model.parameters, decay=options.decay)
    history: list[Step] = []
    for step in range(steps):
        begin = time.perf_counter()
        window = data.training[rng.integers(len(data.training), size=options.batch)]  # (B, C + 1)
        context, target = window[:, :-1], window[:, -1]

        model.forward(context)
        if loss_function is None:
            loss, loss_seconds = model.loss_without_logits(target)
        else:
            loss, loss_seconds = model.loss(target, loss_function)
        model.backward(context)
        # Large steps first, then ever smaller ones: the rate falls in a straight line to zero.
        optimiser.step(model.gradients, options.rate * (1 - step / options.steps))

        end = time.perf_counter()
        history.append(Step(loss, end - begin, loss_seconds))
        after_step(model, history)
    return history


def validation_perplexity(model: Model, data: Data, batch: int) -> float:
    """Return the perplexity on the part of the text that was held out."""
    total = 0.0
    for start in range(0, len(data.validation), batch):
        window = data.validation[start : start + batch]
        hidden, target = model.forward(window[:, :-1]), window[:, -1]
        log_probs = fastloss.linear_token_log_probs(
            hidden, model.embedding, target, linear_bias=model.word_bias
        )
        total += log_probs.sum(dtype=np.float64)
    return math.exp(-total / len(data.validation))


class Progress:
    """A line that rewrites itself in a terminal, or a line now and then anywhere else."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.terminal = sys.stdout.isatty()
        self.shown = -math.inf

    def show(self, batch: int, history: list[Step]) -> None:
        """Print the line, unless the last one was only just printed."""
        step, now = len(history), time.perf_counter()
        twentieth = step % max(1, self.steps // 20) == 0
        due = now - self.shown > 0.1 if self.terminal else twentieth
        if not (due or step in (1, self.steps)):
            return
        self.shown = now
        recent = history[-20:]  # one batch says little: show the mean of the last few
        loss = statistics.fmean(s.loss for s in recent)
        seconds = sum(s.seconds for s in recent)
        share = sum(s.loss_seconds for s in recent) / seconds
        line = (
            f"step {step:5d}/{self.steps}  loss {loss:6.3f}  perplexity {math.exp(loss):7.1f}  "
            f"{batch * len(recent) / seconds:7,.0f} tokens/s  loss takes {share:5.1%} of the step"
        )
        if self.terminal:
            print("\r" + line, end="" if step < self.steps else "\n", flush=True)
        else:
            print(line, flush=True)


# --------------------------------------------------------------------- the check and the picture


def check(fast: list[Step], slow: list[Step], is_large: bool, tolerance: float = 1e-4) -> bool:
    """Compare the first steps with both losses, and tell whether they agree."""
    pairs = list(zip(fast, slow, strict=False))  # ``slow`` is the shorter one
    print(f"\nThe first {len(slow)} steps again, with the loss of the NumPy float64 reference:")
    print("  step      fastloss     reference")
    for number, (a, b) in enumerate(pairs, 1):
        print(f"  {number:4d}  {a.loss:12.7f}  {b.loss:12.7f}")
    difference = max(abs(a.loss - b.loss) / abs(b.loss) for a, b in pairs)
    agree = difference <= tolerance  # False for a NaN, too
    verdict = "they agree" if agree else f"THEY DISAGREE (tolerance {tolerance:.0e})"
    print(f"  Largest relative difference: {difference:.1e}; {verdict}.")
    if is_large:  # what was timed is not the same
        return agree
    # Medians, because some calls have to wait for a core. That of fastloss is over the whole run.
    fast_seconds = statistics.median(s.loss_seconds for s in fast)
    slow_seconds = statistics.median(s.loss_seconds for s in slow)
    slow_share = slow_seconds / statistics.median(s.seconds for s in slow)
    print(
        f"  Median time of the loss with its gradient: {1e3 * fast_seconds:.2f} ms with fastloss, "
        f"{1e3 * slow_seconds:.2f} ms with the reference ({slow_share:.0%} of its step).\n"
        f"  The loss is {slow_seconds / fast_seconds:.1f} times as fast."
    )
    return agree


def plot(path: Path, losses: list[float], validation: list[tuple[int, float]], unigram: float) -> None:
    """Draw the training loss, the validation loss and the unigram's as a PNG."""
    import matplotlib

    matplotlib.use("Agg")  # draw to a file, even where there is no screen
    import matplotlib.pyplot as plt

    steps = np.arange(1, len(losses) + 1)
    span = max(1, len(losses) // 40)
    smooth = np.convolve(losses, np.ones(span) / span, mode="valid")
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(steps, losses, color="tab:blue", alpha=0.25, linewidth=0.8, label="training, each step")
    axes.plot(
        steps[: len(smooth)] + (span - 1) / 2,  # the middle of each mean
        smooth,
        color="tab:blue",
        linewidth=2,
        label=f"training, mean of {span}",
    )
    axes.plot(*np.array(validation).T, "o-", color="tab:orange", markersize=5, label="validation")
    axes.axhline(math.log(unigram), color="0.4", linestyle="--", label="validation, unigram")
    axes.set(xlabel="step", ylabel="cross-entropy (nats per word)", xlim=(0, 1.02 * len(losses)))
    axes.set_title("Next-word language model, plain NumPy with fastloss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    # The same scale read as perplexity, on the right.
    right = axes.twinx()
    right.set_ylim(axes.get_ylim())
    low, high = axes.get_ylim()
    ticks = [m * 10**e for e in range(7) for m in (1, 2, 5) if low < math.log(m * 10**e) < high]
    right.set_yticks([math.log(tick) for tick in ticks], labels=[f"{tick:,}" for tick in ticks])
    right.set_ylabel("perplexity")
    figure.savefig(path, dpi=150)
    plt.close(figure)


# ---------------------------------------------------------------------------- the command line


def positive(text: str) -> int:
    """Parse a whole number of at least one."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


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
    add("--steps", type=positive, default=1000, help="steps of training")
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--vocabulary", type=positive, default=8000, help="most words to tell apart")
    add("--width", type=positive, default=256, help="numbers per word vector and hidden layer")
    add("--context", type=positive, default=5, help="words that the model looks back")
    add("--batch", type=positive, default=512, help="words predicted in a step")
    add("--rate", type=float, default=2e-3, help="learning rate at the start")
    add("--decay", type=float, default=0.1, help="weight decay")
    add("--plot", type=Path, default=Path("loss_curve.png"), metavar="PNG", help="loss curve")
    add("--check-steps", type=positive, default=10, help="steps to repeat with the reference")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit status is 1 if fastloss and the reference disagree."""
    parser = make_parser()
    options = parser.parse_args(argv)
    # Matrix products and losses take turns: on the same threads, neither is in the way of the other.
    fastloss.share_threads_with_blas()
    try:
        tokens = tokenise(read_text(options.text))
        data = prepare(tokens, options.vocabulary, options.context)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except ImportError:  # some distributions leave pydoc_data out
        parser.error("this Python comes without its documentation; give a text with --text FILE")
    unigram = unigram_perplexity(data)
    print(
        f"{len(tokens):,} words of {options.text or 'the Python documentation'}, "
        f"{len(data.words):,} different ones.\n"
        f"Held out for validation: the last {len(data.validation):,}; "
        f"word frequencies alone give them a perplexity of {unigram:.1f}."
    )

    progress = Progress(options.steps)
    validation: list[tuple[int, float]] = []  # (step, loss)

    def after_step(model: Model, history: list[Step]) -> None:
        progress.show(options.batch, history)
        step = len(history)
        if step % max(1, options.steps // 10) == 0 or step == options.steps:
            loss = math.log(validation_perplexity(model, data, options.batch))
            validation.append((step, loss))

    is_large = 4 * options.batch * len(data.words) > LARGE
    history = train(data, options, None if is_large else fast_loss, options.steps, after_step)
    print(f"Validation perplexity {math.exp(validation[-1][1]):.1f} (unigram: {unigram:.1f}).")

    check_steps = min(options.check_steps, options.steps)
    repeated = train(data, options, reference_loss, check_steps, lambda model, history: None)
    agree = check(history, repeated, is_large)

    try:
        plot(options.plot, [step.loss for step in history], validation, unigram)
        print(f"\nLoss curve written to {options.plot}")
    except ImportError:
        print("\nNo loss curve: matplotlib is missing (pip install 'fastloss[demo]').")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
