"""What the examples of perplexity on many machines share: a corpus in partitions, a model, and the report.

The corpus is the documentation included in CPython, whose topics are the documents. The model is the one of
``train_language_model.py``, after a few steps of training on the same text: what counts here is how its
perplexity is computed. Each process reads the partitions that it is given, and computes their logits itself.
Only the parameters of the model are sent to it, and what it sends back is a `fastloss.Perplexity`.

Every process has one thread, also the one that all are compared with: the bits of matrix products may depend
on that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import fastloss

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import train_language_model as lm

CONTEXT = 3
# NumPy reads these when it is imported.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
ROWS = 128  # tokens whose logits exist at a time


@dataclass(frozen=True)
class Plan:
    """The sizes of an evaluation; every process has the same."""

    partitions: int
    vocabulary: int
    width: int
    repeat: int  # how many times the text is read: a longer corpus


@cache
def corpus(vocabulary: int) -> tuple[lm.Integers, list[str]]:
    """Return windows of C words and the next one, and the document of each."""
    from pydoc_data.topics import topics

    tokens = {name: lm.tokenise(text) for name, text in topics.items()}
    counts = Counter(token for words in tokens.values() for token in words)
    number = {word: i for i, (word, _) in enumerate(counts.most_common(vocabulary - 1))}
    windows, names = [], []
    for name, words in tokens.items():
        ids = [number.get(word, vocabulary - 1) for word in words]
        if len(ids) > CONTEXT:
            windows.append(np.lib.stride_tricks.sliding_window_view(np.array(ids, np.int64), CONTEXT + 1))
            names += [name] * len(windows[-1])
    return np.concatenate(windows), names


def train(plan: Plan, steps: int) -> lm.Model:
    """Return a model after some steps of training."""
    windows, _ = corpus(plan.vocabulary)
    options = argparse.Namespace(batch=256, context=CONTEXT, width=plan.width, seed=0, decay=0.0)
    data = lm.Data([""] * plan.vocabulary, windows, windows[:0])
    training = lm.Training(data, options, lm.fast_loss)
    for rate in lm.Schedule(0.01, steps):
        training.step(rate)
    return training.model


def parameters_of(model: lm.Model) -> list[lm.Floats]:
    """Return what is sent to the processes."""
    return model.parameters


def evaluate(partition: int, parameters: list[lm.Floats], plan: Plan) -> fastloss.Perplexity:
    """Return the perplexity of a partition, which this process reads, and of the documents in it."""
    # Arrays that were received may begin at odd addresses, and every product would copy them.
    embedding, mix, mix_bias, word_bias = (np.array(one) for one in parameters)
    windows, names = corpus(plan.vocabulary)
    bounds = [part * len(windows) // plan.partitions for part in (partition, partition + 1)]
    found = fastloss.Perplexity()
    logits = np.empty((ROWS, plan.vocabulary), np.float32)
    with fastloss.num_threads(1):
        for start in list(range(*bounds, ROWS)) * plan.repeat:
            stop = min(start + ROWS, bounds[1])
            inputs = embedding[windows[start:stop, :-1]].reshape(stop - start, -1)
            scores = np.matmul(np.tanh(inputs @ mix + mix_bias), embedding.T, out=logits[: stop - start])
            scores += word_bias
            found.update(scores, windows[start:stop, -1], by=names[start:stop])
    return found


def warm_up(vocabulary: int) -> None:
    """Import what an evaluation needs, and read the text."""
    corpus(vocabulary)


# An engine is told the plan, the parameters and the number of processes. It returns the perplexity of all
# partitions, and the seconds that they took in processes that had started and read the text.
Engine = Callable[[Plan, list[lm.Floats], int], tuple[fastloss.Perplexity, float]]


def in_one_process(plan: Plan, parameters: list[lm.Floats]) -> tuple[fastloss.Perplexity, float]:
    """Return the perplexity of all partitions, computed here, and the seconds."""
    begin = time.perf_counter()
    total = sum((evaluate(i, parameters, plan) for i in range(plan.partitions)), fastloss.Perplexity())
    return total, time.perf_counter() - begin


def report(
    title: str, found: fastloss.Perplexity, one: fastloss.Perplexity, seconds: float, alone: float
) -> bool:
    """Print results and times; return whether the results have the same bits."""
    hardest = sorted(found.documents.items(), key=lambda item: -item[1].mean_loss)[:3]
    print(f"{found}; hardest: " + ", ".join(f"{name!r} {totals.perplexity:.0f}" for name, totals in hardest))
    print(f"one process       {alone:8.2f} s")
    print(f"{title:18}{seconds:8.2f} s, {alone / seconds:.2f} times as fast")
    is_same = found == one and found.state_dict() == one.state_dict()
    print("The same bits." if is_same else "THE RESULTS DIFFER.")
    return is_same


def main(engine: Engine, title: str, description: str | None, arguments: list[str] | None = None) -> int:
    """Run an example from the command line."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = dict(processes=2, partitions=16, vocabulary=6000, width=64, steps=60, repeat=10)
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if any(os.environ.get(name) != one for name, one in ONE_THREAD.items()):
        return subprocess.run(sys.orig_argv, env={**os.environ, **ONE_THREAD}).returncode
    plan = Plan(options.partitions, options.vocabulary, options.width, options.repeat)
    parameters = parameters_of(train(plan, options.steps))
    found, seconds = engine(plan, parameters, options.processes)
    one, alone = in_one_process(plan, parameters)
    return 0 if report(f"{options.processes} {title}", found, one, seconds, alone) else 1
