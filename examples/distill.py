"""Distil a large language model into small ones: a plain NumPy loop with the losses of fastloss.

The large model of train_language_model.py, the teacher, learns from real text first. Then small models, the
students, learn from the same text: one from the words alone, the others also from the teacher's
distribution over all words (Hinton et al., 2015), softened by a temperature. Both losses of a step add
their gradients in one buffer:

    hard, _ = fastloss.cross_entropy(logits, target, return_grad=True, grad_output=0.5, out=gradient)
    soft, _ = fastloss.kl_div_with_logits(
        logits, teacher_logits, temperature=2.0,
        return_grad=True, grad_output=0.5 * 2.0**2, out=gradient, accumulate=True,
    )

All students start from the same parameters, read the same batches, and take the same number of steps.

Run it with ``python examples/distill.py``; ``--help`` lists the options.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastloss

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import train_language_model as lm

# Shapes in the comments: B examples in a batch, C words of context, V words in the vocabulary.

# A lesson takes the context (B, C) and returns a loss of logits and target.
Lesson = Callable[[lm.Integers], lm.LossFunction]

PLAIN = "plain"
# Each divergence, and the power of the temperature by which its gradient shrinks. The loss is multiplied by
# it, so that the teacher keeps its share of the gradient at every temperature.
DIVERGENCES: dict[str, tuple[Callable[..., Any], int]] = {
    "kl": (fastloss.kl_div_with_logits, 2),
    "js": (fastloss.js_div_with_logits, 2),
    "tv": (fastloss.tv_distance_with_logits, 1),
}

# The values of --quick.
QUICK = {
    "teacher_width": 96,
    "teacher_steps": 200,
    "teacher_rate": 1e-2,
    "width": 24,
    "steps": 150,
    "rate": 2e-2,
    "batch": 256,
}


# ----------------------------------------------------------------------------------- the losses


def plain_lesson(context: lm.Integers) -> lm.LossFunction:
    """Learn from the words of the text alone."""
    return lm.fast_loss


class Distillation:
    """Learn from the words of the text, and from the teacher's distribution."""

    def __init__(self, teacher: lm.Model, name: str, options: argparse.Namespace) -> None:
        self.teacher = teacher
        self.divergence, power = DIVERGENCES[name]
        self.temperature = options.temperature
        self.hard, self.soft = 1 - options.share, options.share * options.temperature**power
        # The teacher's logits and the gradient are the largest arrays, so each is made once.
        shape = options.batch, len(teacher.embedding)
        self.teacher_logits: lm.Floats = np.empty(shape, dtype=np.float32)  # (B, V)
        self.gradient: lm.Floats = np.empty(shape, dtype=np.float32)  # (B, V)

    def __call__(self, context: lm.Integers) -> lm.LossFunction:
        """Compute the teacher's logits of a batch, and return the loss of the student's logits."""
        hidden = self.teacher.forward(context)
        np.matmul(hidden, self.teacher.embedding.T, out=self.teacher_logits)
        self.teacher_logits += self.teacher.word_bias
        return self.loss

    def loss(self, logits: lm.Floats, target: lm.Integers) -> tuple[float, lm.Floats]:
        """Return the weighted sum of both losses, and of their gradients."""
        hard, _ = fastloss.cross_entropy(
            logits, target, return_grad=True, grad_output=self.hard, out=self.gradient
        )
        soft, _ = self.divergence(
            logits,
            self.teacher_logits,
            temperature=self.temperature,
            return_grad=True,
            grad_output=self.soft,
            out=self.gradient,
            accumulate=True,
        )
        # grad_output scales only the gradient.
        return self.hard * hard + self.soft * soft, self.gradient


# ------------------------------------------------------------------------------------- training


@dataclass
class Plan:
    """The size of a model, and the settings of its training."""

    width: int
    steps: int
    rate: float


def train(
    data: lm.Data, options: argparse.Namespace, plan: Plan, lesson: Lesson, curve: fastloss.LossCurve
) -> lm.Model:
    """Train a new model, and add its losses to the curve; only the seed determines start and batches."""
    rng = np.random.default_rng(options.seed)
    model = lm.Model(len(data.words), options.context, plan.width, options.batch, rng)
    optimiser = lm.Adam(model.parameters, decay=options.decay)
    for step in range(plan.steps):
        window = data.training[rng.integers(len(data.training), size=options.batch)]  # (B, C + 1)
        context, target = window[:, :-1], window[:, -1]
        model.forward(context)
        loss, _ = model.loss(target, lesson(context))
        curve.update(step + 1, train=loss)
        model.backward(context)
        optimiser.step(model.gradients, plan.rate * (1 - step / plan.steps))
    return model


def report(
    name: str,
    data: lm.Data,
    options: argparse.Namespace,
    plan: Plan,
    lesson: Lesson,
    curve: fastloss.LossCurve,
) -> lm.Model:
    """Train a model, and print its perplexity on the held-out part of the text."""
    begin = time.perf_counter()
    model = train(data, options, plan, lesson, curve)
    seconds = time.perf_counter() - begin
    size = sum(parameter.size for parameter in model.parameters)
    perplexity = lm.validation_perplexity(model, data, options.batch)
    print(f"{name:24}{size:12,}{plan.steps:8}{seconds:10.1f}{perplexity:21.1f}", flush=True)
    return model


# ---------------------------------------------------------------------------- the command line


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, not {text}")
    return value


def temperature(text: str) -> float:
    """Parse a number greater than 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be greater than 0, not {text}")
    return value


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train a large language model, and let it teach small ones with the losses of fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few seconds: small models and few steps")
    add("--text", type=Path, metavar="FILE", help="text to learn; without it, Python's own docs")
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--students", nargs="+", choices=[PLAIN, *DIVERGENCES], default=[PLAIN, "kl"],
        help="a student for each: the words alone, or also a divergence from the teacher")  # fmt: skip
    add("--temperature", type=temperature, default=2.0, help="softens teacher and student")
    add(
        "--share", type=fraction, default=0.5, help="share of the teacher in the loss; the rest is the text's"
    )
    add("--vocabulary", type=lm.positive, default=8000, help="most words to tell apart")
    add("--context", type=lm.positive, default=5, help="words that the models look back")
    add("--teacher-width", type=lm.positive, default=256, help="numbers per word vector of the teacher")
    add("--width", type=lm.positive, default=32, help="the same of a student")
    add("--teacher-steps", type=lm.positive, default=400, help="steps of the teacher")
    add("--steps", type=lm.positive, default=400, help="steps of each student")
    add("--batch", type=lm.positive, default=512, help="words predicted in a step")
    add("--teacher-rate", type=float, default=3e-3, help="learning rate of the teacher at the start")
    add("--rate", type=float, default=3e-2, help="the same of the students: small models like large steps")
    add("--decay", type=float, default=0.1, help="weight decay")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the example."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.quick:  # options of the command line take precedence
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    try:
        data = lm.prepare(lm.tokenise(lm.read_text(options.text)), options.vocabulary, options.context)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except ImportError:  # some distributions do not include pydoc_data
        parser.error("this Python comes without its documentation; give a text with --text FILE")

    print(f"{'':24}{'parameters':>12}{'steps':>8}{'seconds':>10}{'held-out perplexity':>21}")
    print(f"{'word frequencies alone':24}{'':30}{lm.unigram_perplexity(data):21.1f}")
    plan = Plan(options.teacher_width, options.teacher_steps, options.teacher_rate)
    curves = {"teacher": fastloss.LossCurve()}
    teacher = report("teacher", data, options, plan, plain_lesson, curves["teacher"])
    plan = Plan(options.width, options.steps, options.rate)
    for name in options.students:
        title = f"student, {name}" if name == PLAIN else f"student, distilled ({name})"
        lesson = plain_lesson if name == PLAIN else Distillation(teacher, name, options)
        curves[title] = fastloss.LossCurve()
        report(title, data, options, plan, lesson, curves[title])
    if min(options.steps, options.teacher_steps) > 1:  # a single loss shows nothing
        print()
        for title, curve in curves.items():
            lm.print_findings(curve, title)
    return 0


if __name__ == "__main__":
    lm.restart_with_passive_threads()
    sys.exit(main())
