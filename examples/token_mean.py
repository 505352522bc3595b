"""The mean over the tokens of several processes, by one sum of a number.

Batches of text have other numbers of tokens in each process. ``DistributedDataParallel`` averages gradients
over the processes, so the mean of each process's mean weighs its tokens differently: those of a short batch
count more. `reduction="sum_and_count"` returns the sum of the losses and the number of tokens. The numbers
are added over the processes, and the sum is divided by that:

    total, count = fastloss.torch.cross_entropy(logits, target, reduction="sum_and_count")
    torch.distributed.all_reduce(count)
    (total * (processes / count)).backward()

Micro-batches add the gradients of their sums, and are divided once, before the step.

The example trains a small model in several processes, with the mean of means, with the mean over all tokens
and with micro-batches. It compares the weights with those of one process that sees all tokens.

Run it with ``python examples/token_mean.py``; ``--help`` lists the options. It needs PyTorch 2.13 or later,
with gloo.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import fastloss.torch as ft

WIDTH, CLASSES, RATE = 16, 50, 0.5
# The tokens of a micro-batch.
PART = 16


def batch(step: int, rank: int) -> tuple[Tensor, Tensor]:
    """The hidden states and the targets of a process; some targets are ignored, as those of a prompt."""
    generator = torch.Generator().manual_seed(1000 * step + rank)
    tokens = int(torch.randint(20, 200, (), generator=generator))
    target = torch.randint(CLASSES, (tokens,), generator=generator)
    target[: tokens // (rank + 2)] = -100
    return torch.randn(tokens, WIDTH, generator=generator), target


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.Tanh(), nn.Linear(64, CLASSES))


def mean_of_means(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Compute the gradients of the mean of each process's mean."""
    ft.cross_entropy(model(x), target).backward()


def token_mean(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Compute the gradients of the mean over the tokens of all processes."""
    total, count = ft.cross_entropy(model(x), target, reduction="sum_and_count")
    distributed.all_reduce(count)
    (total * (distributed.get_world_size() / count)).backward()


def micro_batches(model: nn.Module, x: Tensor, target: Tensor) -> None:
    """Compute the same gradients from parts of the batch."""
    assert isinstance(model, DistributedDataParallel)
    tokens = torch.zeros(())
    for start in range(0, len(x), PART):
        part = slice(start, start + PART)
        is_last = part.stop >= len(x)
        with nullcontext() if is_last else model.no_sync():
            total, count = ft.cross_entropy(model(x[part]), target[part], reduction="sum_and_count")
            total.backward()
        tokens += count
    distributed.all_reduce(tokens)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= distributed.get_world_size() / tokens


Backward = Callable[[nn.Module, Tensor, Tensor], None]
WAYS: dict[str, Backward] = {
    "mean of means": mean_of_means, "token mean": token_mean, "micro-batches": micro_batches,
}  # fmt: skip


def train(model: nn.Module, backward: Backward, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for x, target in batches:
        optimizer.zero_grad()
        backward(model, x, target)
        optimizer.step()


def of_one_process(steps: int, processes: int) -> nn.Module:
    """Train on the tokens of all processes at once."""
    joined = []
    for step in range(steps):
        xs, targets = zip(*(batch(step, rank) for rank in range(processes)), strict=True)
        joined.append((torch.cat(xs), torch.cat(targets)))
    model = make_model()
    train(model, mean_of_means, joined)
    return model


def worker(rank: int, options: argparse.Namespace, folder: str) -> None:
    """Train in one of the processes; the first one compares the weights, and prints."""
    torch.set_num_threads(1)
    where = {"init_method": f"file://{folder}/store", "rank": rank, "world_size": options.processes}
    distributed.init_process_group("gloo", **where)
    try:
        expected = list(of_one_process(options.steps, options.processes).parameters())
        for name, backward in WAYS.items():
            model = make_model()
            train(DistributedDataParallel(model), backward, [batch(k, rank) for k in range(options.steps)])
            found = zip(model.parameters(), expected, strict=True)
            difference = max((one - other).abs().max().item() for one, other in found)
            if rank == 0:
                print(f"{name:14}  largest difference of a weight from one process: {difference:.1e}")
    finally:
        distributed.destroy_process_group()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2, help="number of processes (default: 2)")
    parser.add_argument("--steps", type=int, default=20, help="number of steps (default: 20)")
    options = parser.parse_args(arguments)
    if min(options.processes, options.steps) < 1:
        parser.error("--processes and --steps must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(worker, (options, folder), options.processes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
