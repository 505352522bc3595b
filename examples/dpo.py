"""Teach a language model a preference by DPO: a plain NumPy loop whose losses come from fastloss.

First the model of train_language_model.py learns to predict the next word of real text. Then it
learns by direct preference optimisation (Rafailov et al., 2023) to prefer what people wrote to its
own words: of two continuations of the same context the chosen one is that of the text, and the
rejected one the model made up itself (so do Chen et al., 2024, whose SPIN goes on with new ones).
What the model thinks of a continuation is its log-probability, measured against that of a frozen
copy, the reference: the model as it was before. One step is three calls:

    logps = fastloss.sequence_log_probs(logits, target)  # (2 * N,): the chosen ones, the rejected ones
    loss, _ = fastloss.dpo_loss(*halves(logps), *reference, return_grad=True, out=halves(upstream))
    fastloss.sequence_log_probs(logits, target, return_grad=True, grad_output=upstream, out=logits)

The gradient of the loss by the log-probabilities goes back to the logits as ``grad_output``, and
takes their place in memory.

Run it with ``python examples/dpo.py``; the option ``--help`` lists what can be changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fastloss

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, under the name that it has wherever fastloss is installed
    from fastloss._examples import train_language_model as lm

# Shapes in the comments: N pairs, C words of context, L words in a continuation, V words in the
# vocabulary. A window is a context and its continuation.

# What --quick replaces.
QUICK = {"steps": 60, "dpo_steps": 30, "width": 32, "pairs": 16, "pool": 512, "rate": 1e-2, "dpo_rate": 3e-3}


# ----------------------------------------------------------------------------------- the pairs


@dataclass
class Pairs:
    """Windows that go on differently after the context, and what the reference thinks of them."""

    chosen: lm.Integers  # (N, C + L)
    rejected: lm.Integers  # (N, C + L)
    ref_chosen: lm.Floats  # (N,)
    ref_rejected: lm.Floats  # (N,)


def continued(model: lm.Model, windows: lm.Integers, context: int, rng: np.random.Generator) -> lm.Integers:
    """Return windows (N, C + L) with continuations that are drawn from the model, word by word."""
    windows = windows.copy()
    logits: lm.Floats = np.empty((len(windows), len(model.embedding)), dtype=np.float32)
    for end in range(context, windows.shape[1]):
        hidden = model.forward(windows[:, end - context : end])
        np.matmul(hidden, model.embedding.T, out=logits)
        logits += model.word_bias
        fastloss.softmax(logits, out=logits)
        # A word is drawn where a point, thrown evenly, falls among the sums of the probabilities.
        np.cumsum(logits, axis=1, out=logits)
        points = rng.random((len(windows), 1), dtype=np.float32) * logits[:, -1:]
        windows[:, end] = (logits[:, :-1] <= points).sum(axis=1)
    return windows


def make_pairs(
    windows: lm.Integers, reference: lm.Model, options: argparse.Namespace, rng: np.random.Generator
) -> Pairs:
    """Make a pair of each window, but for the few where the model said just what the text says."""
    starts = range(0, len(windows), options.batch)
    batches = (windows[start : start + options.batch] for start in starts)
    made = np.concatenate([continued(reference, batch, options.context, rng) for batch in batches])
    differ = (windows != made).any(axis=1)
    chosen, rejected = windows[differ], made[differ]
    # The reference never changes: it is asked once about every pair, and not again in each step.
    return Pairs(
        chosen,
        rejected,
        log_probs(reference, chosen, options),
        log_probs(reference, rejected, options),
    )


# ------------------------------------------------------------------------ the log-probabilities


def split(windows: lm.Integers, context: int) -> tuple[lm.Integers, lm.Integers]:
    """Return the words before (N * L, C) each word to predict (N, L)."""
    views = np.lib.stride_tricks.sliding_window_view(windows, context + 1, axis=1)  # (N, L, C + 1)
    return views[..., :-1].reshape(-1, context), views[..., -1]


def is_averaged(options: argparse.Namespace) -> bool:
    """Tell whether the loss is one of means over the words: IPO is, the others are of sums."""
    return bool(options.loss_type == "ipo")


def log_probs(model: lm.Model, windows: lm.Integers, options: argparse.Namespace) -> lm.Floats:
    """Return the log-probability (N,) of each continuation.

    Where no gradient is wanted, the logits need not exist.
    """
    result = np.empty(len(windows), dtype=np.float32)
    for start in range(0, len(windows), options.pairs):
        context, target = split(windows[start : start + options.pairs], options.context)
        words = fastloss.linear_token_log_probs(
            model.forward(context), model.embedding, target.reshape(-1), linear_bias=model.word_bias
        ).reshape(target.shape)  # (N, L)
        reduce = np.mean if is_averaged(options) else np.sum
        reduce(words, axis=1, out=result[start : start + options.pairs])
    return result


# ------------------------------------------------------------------------------------- training


def pretrain(data: lm.Data, options: argparse.Namespace) -> lm.Model:
    """Return a language model that has read the text."""
    training = lm.Training(data, options, lm.fast_loss)
    progress = lm.Progress(options.steps)
    history: list[lm.Step] = []
    for rate in lm.Schedule(options.rate, options.steps):
        history.append(training.step(rate))
        progress.show(options.batch, history, options.steps)
    return training.model


def copied(model: lm.Model, options: argparse.Namespace) -> lm.Model:
    """Return a model with the same parameters, and with buffers for a batch of pairs."""
    rows = 2 * options.pairs * options.length
    vocabulary, width = model.embedding.shape
    policy = lm.Model(vocabulary, options.context, width, rows, np.random.default_rng())
    for mine, theirs in zip(policy.parameters, model.parameters, strict=True):
        np.copyto(mine, theirs)
    return policy


def preference_loss(
    reference: tuple[lm.Floats, lm.Floats], length: int, options: argparse.Namespace
) -> lm.LossFunction:
    """Return DPO as a loss of logits (2 * N * L, V): the chosen continuations, then the rejected ones.

    Its gradient takes the place of the logits.
    """
    pairs = len(reference[0])
    upstream = np.empty(2 * pairs, dtype=np.float32)  # the gradient by the log-probabilities
    average = is_averaged(options)

    def loss_function(logits: lm.Floats, target: lm.Integers) -> tuple[float, lm.Floats]:
        sequences = logits.reshape(2 * pairs, length, -1)  # a view, as the next line
        words = target.reshape(2 * pairs, length)
        logps = fastloss.sequence_log_probs(sequences, words, average=average)
        loss, _ = fastloss.dpo_loss(
            logps[:pairs],
            logps[pairs:],
            *reference,
            beta=options.beta,
            label_smoothing=options.label_smoothing,
            loss_type=options.loss_type,
            return_grad=True,
            out=(upstream[:pairs], upstream[pairs:]),
        )
        fastloss.sequence_log_probs(
            sequences, words, average=average, return_grad=True, grad_output=upstream, out=sequences
        )
        return loss, logits

    return loss_function


def train(
    policy: lm.Model,
    pairs: Pairs,
    options: argparse.Namespace,
    rng: np.random.Generator,
    after_step: Callable[[int, float], None],
) -> None:
    """Teach the policy the preference, by batches of pairs drawn at random."""
    optimiser = lm.Adam(policy.parameters, decay=0.0)  # the reference is what it is held close to
    for step in range(options.dpo_steps):
        rows = rng.integers(len(pairs.chosen), size=options.pairs)
        windows = np.concatenate([pairs.chosen[rows], pairs.rejected[rows]])  # (2 * N, C + L)
        context, target = split(windows, options.context)
        reference = pairs.ref_chosen[rows], pairs.ref_rejected[rows]

        policy.forward(context)
        loss_function = preference_loss(reference, options.length, options)
        loss, _ = policy.loss(target.reshape(-1), loss_function)
        policy.backward(context)
        optimiser.step(policy.gradients, options.dpo_rate * (1 - step / options.dpo_steps))
        after_step(step + 1, loss)


# -------------------------------------------------------------------------- what it has learned


class Report:
    """The lines of the table: the loss of a batch, and the rewards of the pairs that were held out."""

    def __init__(self, policy: lm.Model, pairs: Pairs, options: argparse.Namespace) -> None:
        self.policy = policy
        self.pairs = pairs
        self.options = options
        self.every = max(1, options.dpo_steps // 15)
        print(f"\n{'':>9}  {'':>6}    held-out rewards\n{'step':>9}  {'loss':>6}", end="")
        print(f"  {'chosen':>8}  {'rejected':>8}  {'margin':>7}  {'accuracy':>8}")

    def __call__(self, step: int, loss: float) -> None:
        """Print a line now and then."""
        steps = self.options.dpo_steps
        if step % self.every and step not in (1, steps):
            return
        pairs, options = self.pairs, self.options
        rewards = fastloss.preference_rewards(
            log_probs(self.policy, pairs.chosen, options),
            log_probs(self.policy, pairs.rejected, options),
            pairs.ref_chosen,
            pairs.ref_rejected,
            beta=options.beta,
        )
        means = [f"{array.mean():8.3f}" for array in (rewards.chosen, rewards.rejected)]
        margin = f"{rewards.margins.mean():7.3f}"
        print(
            f"{step:4d}/{steps:<4d}  {loss:6.4f}  {'  '.join(means)}  {margin}  {rewards.accuracy:8.1%}",
            flush=True,
        )


def show(data: lm.Data, pairs: Pairs, context: int) -> None:
    """Print a pair."""
    chosen, rejected = (
        [data.words[word] for word in windows[0]] for windows in (pairs.chosen, pairs.rejected)
    )
    print(f"  after     {' '.join(chosen[:context])}")
    print(f"  chosen    {' '.join(chosen[context:])}")
    print(f"  rejected  {' '.join(rejected[context:])}")


def agreement(model: lm.Model, pairs: Pairs, options: argparse.Namespace) -> float:
    """Return how often the model finds the chosen continuation likelier: rewards without a reference."""
    chosen, rejected = (log_probs(model, windows, options) for windows in (pairs.chosen, pairs.rejected))
    return fastloss.preference_rewards(chosen, rejected, beta=options.beta).accuracy


# ---------------------------------------------------------------------------- the command line


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train a language model, then teach it a preference by DPO with the losses of fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few seconds: a small model and few steps")
    add("--text", type=Path, metavar="FILE", help="text to learn; without it, Python's own docs")
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--vocabulary", type=lm.positive, default=8000, help="most words to tell apart")
    add("--width", type=lm.positive, default=128, help="numbers per word vector and hidden layer")
    add("--context", type=lm.positive, default=5, help="words that the model looks back")
    add("--steps", type=lm.positive, default=400, help="steps of training on the text")
    add("--batch", type=lm.positive, default=512, help="words predicted in such a step")
    add("--rate", type=float, default=3e-3, help="learning rate of these steps at the start")
    add("--decay", type=float, default=0.1, help="weight decay in these steps")
    add("--dpo-steps", type=lm.positive, default=300, help="steps of DPO")
    add("--pairs", type=lm.positive, default=32, help="pairs in a step of DPO")
    add("--pool", type=lm.positive, default=8192, help="pairs to draw from")
    add("--length", type=lm.positive, default=8, help="words in a continuation")
    add("--dpo-rate", type=float, default=5e-4, help="learning rate of DPO at the start")
    add("--beta", type=float, default=0.1, help="how close DPO stays to the reference: more is closer")
    add("--loss-type", default="sigmoid", help="form of DPO, as in fastloss.dpo_loss: hinge, ipo, ...")
    add("--label-smoothing", type=float, default=0.0, help="share of preferences taken to be wrong")
    return parser


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; what it says itself goes before what --quick says."""
    options = parser.parse_args(argv)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    kinds = {name: getattr(options, name) for name in ("beta", "loss_type", "label_smoothing")}
    try:  # the loss knows what it takes; better asked now than after the training
        fastloss.dpo_loss([0.0], [0.0], [0.0], [0.0], **kinds)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the example."""
    parser = make_parser()
    options = parse(parser, argv)
    try:
        tokens = lm.tokenise(lm.read_text(options.text))
        data = lm.prepare(tokens, options.vocabulary, options.context)
        windows = lm.prepare(tokens, options.vocabulary, options.context + options.length - 1)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except ImportError:  # some distributions leave pydoc_data out
        parser.error("this Python comes without its documentation; give a text with --text FILE")

    print(f"A language model of {len(data.words):,} words, from a text of {len(tokens):,}:")
    reference = pretrain(data, options)
    policy = copied(reference, options)
    rng = np.random.default_rng(options.seed)
    drawn = windows.training[rng.integers(len(windows.training), size=options.pool)]
    pairs = make_pairs(drawn, reference, options, rng)
    # Held out are windows of the part of the text that no model has read, end to end.
    held_out = make_pairs(windows.validation[:: options.length], reference, options, rng)

    print(
        f"\nDPO ({options.loss_type}) on {len(pairs.chosen):,} pairs; {len(held_out.chosen):,} are held out:"
    )
    show(data, held_out, options.context)
    train(policy, pairs, options, rng, Report(policy, held_out, options))

    print("\nHeld out                                  before  after")
    shares = [agreement(model, held_out, options) for model in (reference, policy)]
    print(f"finds what the text says likelier        {shares[0]:7.1%}{shares[1]:7.1%}")
    values = [lm.validation_perplexity(model, data, options.batch) for model in (reference, policy)]
    print(f"perplexity                               {values[0]:7.1f}{values[1]:7.1f}")
    return 0


if __name__ == "__main__":
    lm.restart_with_passive_threads()
    sys.exit(main())
