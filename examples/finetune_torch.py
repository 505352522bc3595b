"""Train a small transformer in PyTorch, with and without fastloss: the same curve, in less time and memory.

The model has the architecture of GPT-2 (Radford et al., 2019), and reads real text. Its training loop is
plain PyTorch. One line around it replaces ``torch.nn.functional.cross_entropy`` by the function of
fastloss.

    with fastloss.torch.install():
        train(model, text)

Two more ways change the line of the loss. The gradient overwrites the logits, or one call computes the last
layer and its loss, and the whole array of logits never exists:

    loss = fastloss.torch.cross_entropy(logits, target, inplace=True)
    loss = fastloss.torch.linear_cross_entropy(hidden, model.words.weight, target)

Each way has its own process, in which peak memory is measured. The processes start from the same weights,
read the same batches, and take their steps in turn, so that a slow minute of the machine affects all of
them.

Run it with ``python examples/finetune_torch.py``; ``--help`` lists the options. It needs PyTorch 2.13 or
later.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import fastloss
import fastloss.torch as ft

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import train_language_model as lm

# Shapes in the comments: B sequences in a batch, L words in each, D numbers in a word's vector (the
# "width"), H heads, V words in the vocabulary.

# The values of --quick.
QUICK = {"steps": 6, "vocabulary": 5000, "width": 32, "batch": 2, "length": 32}
# Curves may differ by rounding errors, which grow in training.
TOLERANCE = 1e-3


# ----------------------------------------------------------------------------------- the model


class Block(nn.Module):
    """Attention to the previous words, then a layer for each word; both are residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        parts = self.attention(self.norm_1(x)).unflatten(-1, (3, self.heads, -1))  # (B, L, 3, H, D / H)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, H, L, D / H) each
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).flatten(2))
        x = x + self.down(functional.gelu(self.up(self.norm_2(x))))
        return x


class Transformer(nn.Module):
    """A small GPT-2, with one table for the input and output vectors of a word."""

    def __init__(self, vocabulary: int, length: int, width: int, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(length, width)
        heads = width // 64 if width % 64 == 0 else 1  # heads of 64 numbers, as in GPT-2
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, (nn.Embedding, nn.Linear)):
                nn.init.normal_(module.weight, std=0.02)

    def hidden(self, context: Tensor) -> Tensor:
        """Return the input of the last layer (B * L, D) for each word of context (B, L)."""
        x: Tensor = self.words(context) + self.places.weight[: context.shape[1]]
        x = self.norm(self.blocks(x))
        return x.flatten(0, 1)

    def forward(self, context: Tensor) -> Tensor:
        """Return the logits (B * L, V) of the word that follows each word of context (B, L)."""
        return functional.linear(self.hidden(context), self.words.weight)


# ------------------------------------------------------------------------------------ the loss


def loss_of_logits(model: Transformer, context: Tensor, target: Tensor) -> Tensor:
    """Compute the loss in the usual way of PyTorch."""
    return functional.cross_entropy(model(context), target)


def loss_in_place(model: Transformer, context: Tensor, target: Tensor) -> Tensor:
    """Compute the loss with a gradient that overwrites the logits."""
    return ft.cross_entropy(model(context), target, inplace=True)


def loss_without_logits(model: Transformer, context: Tensor, target: Tensor) -> Tensor:
    """Compute the last layer and the loss in one call, which makes some logits at a time."""
    return ft.linear_cross_entropy(model.hidden(context), model.words.weight, target)


@dataclass(frozen=True)
class Way:
    """A loss, and the context of the training."""

    loss: Callable[[Transformer, Tensor, Tensor], Tensor]
    setting: Callable[[], AbstractContextManager[object]] = nullcontext


TORCH, INSTALLED = "torch", "install()"
WAYS = {
    TORCH: Way(loss_of_logits),
    INSTALLED: Way(loss_of_logits, ft.install),
    "inplace": Way(loss_in_place),
    "no logits": Way(loss_without_logits),
}


# ------------------------------------------------------------------------------------- training


def load(options: argparse.Namespace) -> lm.Data:
    """Return a text as windows of L + 1 words."""
    return lm.prepare(lm.tokenise(lm.read_text(options.text)), options.vocabulary, options.length)


def batches(data: lm.Data, options: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw context (B, L) and target (B * L,), the same in every process."""
    generator = torch.Generator().manual_seed(options.seed)
    while True:
        rows = torch.randint(len(data.training), (options.batch,), generator=generator)
        words = torch.from_numpy(data.training[rows.numpy()])  # (B, L + 1)
        yield words[:, :-1], words[:, 1:].flatten()


class Training:
    """A model in training."""

    def __init__(self, data: lm.Data, options: argparse.Namespace, way: Way) -> None:
        torch.manual_seed(options.seed)
        # Rows of the table without a word are computed like all others.
        self.model = Transformer(options.vocabulary, options.length, options.width, options.layers)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=options.rate)
        self.batches = batches(data, options)
        self.way = way

    def step(self) -> float:
        """Take a step, and return the loss before it."""
        context, target = next(self.batches)
        loss = self.way.loss(self.model, context, target)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss.item()


# ---------------------------------------------------------------------- a process for each way


def peak_bytes() -> int:
    """Return the peak memory of this process; 0 if unknown."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the memory of the parent when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def work(pipe: Connection, name: str, options: argparse.Namespace) -> None:
    """Take a step on each request; send its loss and seconds, and the peak memory so far."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    way = WAYS[name]
    training = Training(load(options), options, way)
    with way.setting():
        while pipe.recv():  # until the connection closes, so that no process ends during the step of another
            begin = time.perf_counter()
            loss = training.step()
            pipe.send((loss, time.perf_counter() - begin, peak_bytes()))


@dataclass
class Run:
    """The process of a way, and its results."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    losses: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    peak: int = 0

    def step(self) -> None:
        """Request a step of the process, and wait for it."""
        self.pipe.send(True)
        loss, seconds, self.peak = self.pipe.recv()
        self.losses.append(loss)
        self.times.append(seconds)

    def end(self) -> None:
        """End the process."""
        self.pipe.send(False)
        self.process.join()


def start(name: str, options: argparse.Namespace) -> Run:
    """Start a fresh interpreter for a way."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, name, options), daemon=True)
    process.start()
    there.close()  # so that `recv` fails instead of waiting if the process has ended
    return Run(process, here)


def train(options: argparse.Namespace) -> dict[str, Run]:
    """Train once in each way, step by step in turn, and print the curves."""
    runs = {name: start(name, options) for name in options.ways}
    every = max(1, options.steps // 10)
    print(row("loss at step", runs), flush=True)
    for step in range(1, options.steps + 1):
        for run in runs.values():
            run.step()
        if step == 1 or step % every == 0 or step == options.steps:
            print(row(f"{step:12}", (f"{run.losses[-1]:.6f}" for run in runs.values())), flush=True)
    for run in runs.values():
        run.end()
    return runs


# ----------------------------------------------------------------------------------- the figures


def row(title: str, cells: Iterable[str]) -> str:
    """Return a line of the table."""
    return f"{title:26}" + "".join(f"{cell:>12}" for cell in cells)


def apart(run: Run, other: Run) -> float:
    """Return the largest difference between two curves."""
    return float(np.abs(np.subtract(run.losses, other.losses)).max())


def times_as_fast(run: Run, other: Run) -> float:
    """Return the median of the ratios within a step, for which the state of the machine was the same."""
    return statistics.median(b / a for a, b in zip(run.times, other.times, strict=True))


def report(runs: dict[str, Run]) -> bool:
    """Print time and memory of each way, and return whether the curves are equal."""
    torchs, others = runs[TORCH], {name: run for name, run in runs.items() if name != TORCH}
    differences = [apart(run, torchs) for run in others.values()]
    faster = {name: times_as_fast(run, torchs) for name, run in others.items()}
    print("\n" + row("", runs))
    print(row("largest difference", ["", *(f"{difference:.1e}" for difference in differences)]))
    seconds = (statistics.median(run.times) for run in runs.values())
    print(row("seconds a step, median", (f"{median:.4f}" for median in seconds)))
    print(row("times as fast", ["", *(f"{factor:.2f}" for factor in faster.values())]))
    print(row("peak memory, MB", (f"{run.peak / 1e6:.0f}" for run in runs.values())))

    print()
    if len(torchs.losses) > 1:
        steps = np.arange(1, len(torchs.losses) + 1)
        lm.print_findings(fastloss.LossCurve.from_arrays(steps, train=torchs.losses))

    largest = np.max(differences)
    is_same = bool(largest <= TOLERANCE)  # False also for NaN
    print(f"{'The same curve' if is_same else 'THE CURVES DISAGREE'} (to {largest:.0e}); ", end="")
    saved = {name: (torchs.peak - run.peak) / 1e6 for name, run in others.items()}
    gains = (f"{name}: {faster[name]:.2f} times as fast, {saved[name]:.0f} MB less" for name in others)
    print("; ".join(gains))
    return is_same


# ---------------------------------------------------------------------------- the command line


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train a small transformer in PyTorch, with and without the losses of fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few seconds: a tiny model, in which no loss takes long")
    add("--text", type=Path, metavar="FILE", help="text to learn; without it, Python's own docs")
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--ways", nargs="+", choices=[name for name in WAYS if name != TORCH], metavar="WAY",
        default=[INSTALLED, "no logits"],
        help="to train in beside torch's own: install(), inplace, 'no logits'")  # fmt: skip
    add("--vocabulary", type=lm.positive, default=50257, help="rows of the table of words, as GPT-2 has")
    add("--width", type=lm.positive, default=128, help="numbers per word vector")
    add("--layers", type=lm.positive, default=2, help="blocks of the model")
    add("--batch", type=lm.positive, default=8, help="sequences in a batch")
    add("--length", type=lm.positive, default=128, help="words in a sequence")
    add("--steps", type=lm.positive, default=20, help="steps of training")
    add("--rate", type=float, default=1e-3, help="learning rate")
    add("--threads", type=lm.positive, help="threads of PyTorch; by default as many as it chooses")
    return parser


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; its options take precedence over --quick."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    options.ways = [TORCH, *dict.fromkeys(options.ways)]
    try:  # before every process loads it
        data = load(options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except ImportError:  # some distributions do not include pydoc_data
        parser.error("this Python comes without its documentation; give a text with --text FILE")
    logits = 4 * options.batch * options.length * options.vocabulary
    print(
        f"{len(data.words):,} different words, in a table of {options.vocabulary:,}; "
        f"the logits of a batch are {logits / 1e6:.0f} MB.\n"
    )
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the example; the exit status is 1 if the curves disagree."""
    return 0 if report(train(parse(argv))) else 1


if __name__ == "__main__":
    sys.exit(main())
