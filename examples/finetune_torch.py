"""Train a small transformer with PyTorch, with and without fastloss: the same curve, less time, less memory.

The model is a small GPT-2: word and place embeddings, two blocks of attention and a hidden layer, and
an output layer over a vocabulary as large as GPT-2's, which is where most of a step goes. Its training
loop is an ordinary one and calls ``torch.nn.functional.cross_entropy``. The second time it runs,
unchanged, inside

    with fastloss.torch.install():
        train(...)

and the third time the output layer and its loss are one call, so that there are no logits at all:

    loss = fastloss.torch.linear_cross_entropy(hidden, model.words.weight, target)

Each runs in a process of its own, from the same weights over the same batches of real text, and is
asked for its losses, the time of its steps, and the most memory that it ever had.

Run it with ``python examples/finetune_torch.py``; the option ``--help`` lists what can be changed.
Needs PyTorch: ``pip install fastloss[torch]``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, under the name that it has wherever fastloss is installed
    from fastloss._examples import train_language_model as lm

try:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
except ModuleNotFoundError as error:
    raise SystemExit("This example needs PyTorch: pip install fastloss[torch]") from error

import fastloss.torch

# Shapes in the comments: B texts in a batch, T words of each, D numbers in a word's vector, V words.

VARIANTS = {
    "torch": "PyTorch",
    "installed": "with fastloss.torch.install()",
    "linear": "with linear_cross_entropy",
}
# What --quick replaces.
QUICK = {"vocabulary": 2000, "width": 32, "batch": 4, "length": 32, "steps": 4}


# ----------------------------------------------------------------------------------- the model


class Block(nn.Module):
    """Attention, then a hidden layer, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.attention(self.before_attention(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # (B, heads, T, D / heads)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, length, width))
        out: Tensor = x + self.hidden(self.before_hidden(x))
        return out


class Transformer(nn.Module):
    """From words to the vectors by which the next ones are scored. Words have one vector, in and out."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__()
        self.words = nn.Embedding(options.vocabulary, options.width)
        self.places = nn.Embedding(options.length, options.width)
        self.blocks = nn.Sequential(*(Block(options.width, options.heads) for _ in range(options.layers)))
        self.last = nn.LayerNorm(options.width)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, words: Tensor) -> Tensor:
        x = self.words(words) + self.places.weight[: words.shape[1]]
        out: Tensor = self.last(self.blocks(x))  # (B, T, D)
        return out


# -------------------------------------------------------------------------------- the training


def loss_of(model: Transformer, words: Tensor, target: Tensor, is_linear: bool) -> Tensor:
    """The mean loss of the next words, as any program for PyTorch computes it; or in one call."""
    hidden = model(words)
    if is_linear:
        flat = hidden.view(-1, hidden.shape[-1])
        return fastloss.torch.linear_cross_entropy(flat, model.words.weight, target.reshape(-1))
    logits = functional.linear(hidden, model.words.weight)  # (B, T, V)
    return functional.cross_entropy(logits.view(-1, logits.shape[-1]), target.reshape(-1))


@dataclass
class Run:
    """What a variant came to."""

    losses: list[float]
    seconds: list[float]  # of each step
    megabytes: float  # that the process had at most

    @property
    def step(self) -> float:
        """Seconds of a step; the first, in which memory is fetched, does not count."""
        return statistics.median(self.seconds[1:] or self.seconds)


def text_as_numbers(options: argparse.Namespace) -> Tensor:
    """The words of the text by frequency; those beyond the vocabulary share its last number."""
    tokens = lm.tokenise(lm.read_text(options.text))
    common = Counter(tokens).most_common(options.vocabulary - 1)
    number = {word: i for i, (word, _) in enumerate(common)}
    return torch.tensor([number.get(token, options.vocabulary - 1) for token in tokens])


def peak_megabytes() -> float:
    """The most memory that this process ever had."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere the system may count what the parent had
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)


def train(options: argparse.Namespace, variant: str) -> Run:
    """Train from the same start over the same batches."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    text = text_as_numbers(options)
    model = Transformer(options)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, fused=True)
    run = Run([], [], 0.0)
    for _ in range(options.steps):
        starts = torch.randint(len(text) - options.length, (options.batch, 1))
        batch = text[starts + torch.arange(options.length + 1)]  # (B, T + 1)
        start = time.perf_counter()
        loss = loss_of(model, batch[:, :-1], batch[:, 1:], variant == "linear")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        run.seconds.append(time.perf_counter() - start)
        run.losses.append(loss.item())
    run.megabytes = peak_megabytes()
    return run


# ------------------------------------------------------------------------------------ the talk


def in_a_process_of_its_own(argv: list[str], variant: str) -> Run:
    command = [sys.executable, __file__, *argv, "--only", variant]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Run(**json.loads(done.stdout))


def print_curves(runs: dict[str, Run]) -> None:
    print("\nstep" + "".join(f"{VARIANTS[name]:>32}" for name in runs))
    steps = len(next(iter(runs.values())).losses)
    for step in sorted({*range(0, steps, max(1, steps // 6)), steps - 1}):
        print(f"{step + 1:4}" + "".join(f"{run.losses[step]:32.6f}" for run in runs.values()))


def print_figures(runs: dict[str, Run]) -> None:
    base = runs["torch"]
    print(f"\n{'':32}{'a step':>10}{'faster':>9}{'memory':>11}{'less':>11}{'curve off by':>15}")
    for name, run in runs.items():
        off = max(abs(a - b) for a, b in zip(run.losses, base.losses, strict=True))
        print(
            f"{VARIANTS[name]:32}{run.step * 1e3:7.0f} ms{base.step / run.step:8.2f}x"
            f"{run.megabytes:8.0f} MB{base.megabytes - run.megabytes:8.0f} MB{off:15.1e}"
        )


def whole(text: str) -> int:
    """An integer from 1 on."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train a small transformer with PyTorch, with and without fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--text", type=Path, help="a text file instead of Python's documentation")
    parser.add_argument("--vocabulary", type=whole, default=50257, help="rows of the output layer")
    parser.add_argument("--width", type=whole, default=128, help="numbers in a word's vector")
    parser.add_argument("--layers", type=whole, default=2, help="blocks")
    parser.add_argument(
        "--heads", type=whole, default=4, help="heads of the attention; must divide the width"
    )
    parser.add_argument("--batch", type=whole, default=8, help="texts in a batch")
    parser.add_argument("--length", type=whole, default=128, help="words of each")
    parser.add_argument("--steps", type=whole, default=12, help="steps of training")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches")
    parser.add_argument(
        "--threads", type=whole, default=torch.get_num_threads(), help="of PyTorch and losses"
    )
    parser.add_argument("--quick", action="store_true", help="a tiny model, to see that it runs")
    parser.add_argument("--only", choices=VARIANTS, help="run one, here, and print what it came to as JSON")
    options = parser.parse_args(argv)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    if options.width % options.heads:
        parser.error("--heads must divide --width")
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the example."""
    argv = sys.argv[1:] if argv is None else argv
    options = arguments(argv)
    if options.only:
        replaced: Any = fastloss.torch.install() if options.only == "installed" else contextlib.nullcontext()
        with replaced:
            print(json.dumps(vars(train(options, options.only))))
        return 0
    rows = options.batch * options.length
    print(
        f"{options.layers} blocks of width {options.width}, logits ({rows}, {options.vocabulary}): "
        f"{rows * options.vocabulary * 4 / 2**20:.0f} MB; {options.threads} threads"
    )
    runs = {name: in_a_process_of_its_own(argv, name) for name in VARIANTS}
    print_curves(runs)
    print_figures(runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
