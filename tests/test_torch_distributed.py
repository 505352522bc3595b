"""fastloss.torch in several processes: losses of a vocabulary in slices, and data parallelism, over gloo.

Processes are started once for each number of them. Each goes through all `CHECKS` in the same order, in a
group of its own for each, and writes down what went wrong; the tests look it up.
"""

import copy
import json
import math
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch import distributed, nn  # noqa: E402
from torch import multiprocessing as mp  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_cases import Call, assert_as_torch  # noqa: E402
from torch_tools import DTYPES, HALVES, REDUCTIONS, assert_near, equal, outcome, processes, upstream_for  # noqa: E402

import fastloss  # noqa: E402
import fastloss.torch as ft  # noqa: E402

Tensor = torch.Tensor
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("no gloo", allow_module_level=True)

PATIENCE = 20.0  # seconds that a process waits for the others
LIMIT = 100.0  # for all
# Where the vocabulary is cut; slices differ in size.
CUTS = {1: (0, 11), 2: (0, 7, 11), 3: (0, 2, 8, 11)}
CLASSES, WIDTH = 11, 6


@dataclass(frozen=True)
class Ranks:
    rank: int
    size: int
    group: Any

    @property
    def mine(self) -> slice:
        return slice(*CUTS[self.size][self.rank : self.rank + 2])

    def parallel(self, model: nn.Module) -> nn.parallel.DistributedDataParallel:
        return nn.parallel.DistributedDataParallel(model, process_group=self.group)

    def gathered(self, x: Tensor) -> list[Tensor]:
        found = [torch.empty_like(x) for _ in range(self.size)]
        distributed.all_gather(found, x.contiguous(), group=self.group)
        return found

    def assert_same_everywhere(self, x: Tensor) -> None:
        for other in self.gathered(x.detach()):
            torch.testing.assert_close(other, x.detach(), rtol=0.0, atol=0.0, equal_nan=True)

    def sliced(self, name: str, x: Any, call: Call) -> Any:
        """What this process has of an argument: everything, or its slice of the classes."""
        if name in ("linear_weight", "linear_bias", "weight") and x is not None:
            return x[self.mine].clone()
        is_of_classes = call.name == "vocab_parallel_cross_entropy" and name == "input"
        if is_of_classes or (name == "target" and x.is_floating_point()):
            return x[..., self.mine].clone()
        return x

    def of_mine(self, call: Call) -> Call:
        values = {**call.arguments, **call.options}
        return call.changed(**{n: self.sliced(n, x, call) for n, x in values.items()}, group=self.group)


CHECKS: dict[str, Callable[[Ranks], None]] = {}


def check(f: Callable[[Ranks], None]) -> Callable[[Ranks], None]:
    CHECKS[f.__name__] = f
    return f


# The rows of the registry, against what one process has


def is_that_of_one(ranks: Ranks, call: Call, dtype: torch.dtype) -> None:
    """All reductions: the loss, the same everywhere, and the gradients of the slices."""
    call = call.cast(dtype)
    of_mine, is_linear, is_wide = ranks.of_mine(call), "linear" in call.name, dtype is torch.float64
    relative = (1e-11 if is_wide else 1e-5) if is_linear else (1e-12 if is_wide else 2e-6)
    # Half types are rounded once in each process, and once when they are added.
    eps = torch.finfo(dtype).eps * (dtype in HALVES) * (ranks.size if is_linear else 1)
    for reduction in call.loss.reductions:
        upstream = upstream_for(tuple(call.arguments["target"].shape[: call.arguments["input"].ndim - 1]))
        upstream = upstream if reduction == "none" else torch.tensor(-2.0)
        expected = call.expected(reduction, upstream)
        actual = of_mine.run(upstream, reduction=reduction)
        ranks.assert_same_everywhere(actual.loss)
        title = f"{call} {dtype} {reduction}"
        assert actual.loss.dtype == dtype
        assert_near(actual.loss, expected.loss, relative, 1, title)
        for name, grad in actual.gradients.items():
            whole = expected.gradients[name]
            if is_linear and name == "input":
                ranks.assert_same_everywhere(grad)
            largest = whole.abs().amax() if is_linear else whole.abs().amax(-1, keepdim=True)
            exact = ranks.sliced(name, whole, call)
            bound = relative * largest + eps * (largest if is_linear else exact.abs())
            bound = bound + 1e-30 + 1e-7 * (dtype is torch.float16)
            assert ((grad.double() - exact).abs() <= bound).all(), f"{title} {name}"
        with torch.no_grad():
            alone = of_mine.value(reduction=reduction)
        torch.testing.assert_close(alone, actual.loss, rtol=0.0, atol=0.0, equal_nan=True)


for _loss in cases.SLICED:
    for _call in _loss.calls():
        CHECKS[str(_call)] = partial(is_that_of_one, call=_call, dtype=torch.float64)
        if _call.label in ("plain", "everything"):
            for _name in ("float32", "float16", "bfloat16"):
                CHECKS[f"{_call}-{_name}"] = partial(is_that_of_one, call=_call, dtype=DTYPES[_name])
PLAIN = cases.row_of("vocab_parallel_cross_entropy", cases.SLICED)
PLAIN_LINEAR = cases.row_of("vocab_parallel_linear_cross_entropy", cases.SLICED)


def problem() -> tuple[Tensor, Tensor]:
    """Logits, and targets in every slice; the same in each process."""
    arguments = PLAIN.call().arguments
    return arguments["input"], arguments["target"]


def sliced_loss(ranks: Ranks, logits: Tensor, target: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The loss, and the leaf with this process's slice of the logits."""
    leaf = logits[..., ranks.mine].clone().requires_grad_()
    return ft.vocab_parallel_cross_entropy(leaf, target, group=ranks.group, **options), leaf


@check
def indices_of_other_types(ranks: Ranks) -> None:
    call = PLAIN.call()
    for integers in (torch.int32, torch.uint8):
        is_that_of_one(ranks, call.changed(target=call.arguments["target"].to(integers)), torch.float32)


@check
def masked_slice(ranks: Ranks) -> None:
    """All classes of the second process, and some of the first, at -inf."""
    logits, target = problem()
    cuts = (*CUTS[ranks.size], CLASSES)
    logits[..., cuts[1] : cuts[2]] = -math.inf
    logits[..., 0] = -math.inf
    target = torch.where((target >= cuts[1]) & (target < cuts[2]) | (target == 0), 1, target)
    is_that_of_one(ranks, PLAIN.call().changed(input=logits, target=target), torch.float64)
    loss, leaf = sliced_loss(ranks, logits, target)
    loss.backward()
    assert not leaf.grad[logits[..., ranks.mine] == -math.inf].any()


@check
def nothing_counts(ranks: Ranks) -> None:
    logits, target = problem()
    for reduction in REDUCTIONS:
        loss, leaf = sliced_loss(ranks, logits, torch.full_like(target, -100), reduction=reduction)
        assert loss.isnan().all() if reduction == "mean" else not loss.any()
        loss.sum().backward()
        assert not leaf.grad.any()


@check
def nan_in_one_slice(ranks: Ranks) -> None:
    logits, target = problem()
    logits[4, CLASSES - 1] = math.nan
    loss, _ = sliced_loss(ranks, logits, target, reduction="none")
    ranks.assert_same_everywhere(loss)
    assert loss[4].isnan() and loss.isnan().sum() == 1


@check
def default_group(ranks: Ranks) -> None:
    logits, target = problem()
    loss = ft.vocab_parallel_cross_entropy(logits[..., ranks.mine].clone(), target)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target))


@check
def strided_slices(ranks: Ranks) -> None:
    """Views of the whole are slices, too; the gradient is theirs."""
    logits, target = problem()
    leaf = logits.clone().requires_grad_()
    ft.vocab_parallel_cross_entropy(leaf[:, ranks.mine], target, group=ranks.group).backward()
    whole = logits.clone().requires_grad_()
    functional.cross_entropy(whole, target).backward()
    torch.testing.assert_close(leaf.grad[:, ranks.mine], whole.grad[:, ranks.mine])
    assert leaf.grad.count_nonzero() == 13 * (ranks.mine.stop - ranks.mine.start)


def assert_index_error_everywhere(ranks: Ranks, call: Callable[[], Any]) -> None:
    started = time.monotonic()
    raised = int(isinstance(outcome(call), IndexError))
    found = ranks.gathered(torch.tensor(raised))
    assert all(found), f"IndexError in {[int(x) for x in found]}"
    assert time.monotonic() - started < PATIENCE / 2.0


@check
def bad_class_index(ranks: Ranks) -> None:
    """On every rank, and nobody waits for the others."""
    logits, target = problem()
    for bad in (CLASSES, -1, -7, 10**6):
        wrong = target.clone()
        wrong[5] = bad
        for reduction in REDUCTIONS:
            call = partial(sliced_loss, ranks, logits, wrong, reduction=reduction)
            assert_index_error_everywhere(ranks, call)
    # The group is of use still.
    is_that_of_one(ranks, PLAIN.call(), torch.float64)
    x, w = torch.randn(13, WIDTH), torch.randn(CLASSES, WIDTH)[ranks.mine].requires_grad_()
    linear = partial(ft.vocab_parallel_linear_cross_entropy, x, w, wrong, group=ranks.group)
    assert_index_error_everywhere(ranks, linear)


@check
def backward_twice(ranks: Ranks) -> None:
    logits, target = problem()
    for reduction in REDUCTIONS:
        loss, leaf = sliced_loss(ranks, logits, target, reduction=reduction)
        first = torch.autograd.grad(loss.sum(), leaf, retain_graph=True)[0].clone()
        assert torch.equal(torch.autograd.grad(2.0 * loss.sum(), leaf)[0], 2.0 * first)


@check
def second_derivatives(ranks: Ranks) -> None:
    """None, and no wrong ones."""
    loss, leaf = sliced_loss(ranks, *problem())
    with pytest.raises(RuntimeError):
        (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (grad**2).sum().backward()


BAD_OPTIONS: list[dict[str, Any]] = [
    {"reduction": "average"}, {"label_smoothing": 2.0}, {"softcap": 0.0}, {"temperature": -1.0},
    {"temperature": 0.0}, {"z_loss": -1.0},
]  # fmt: skip


@check
def bad_arguments(ranks: Ranks) -> None:
    for loss in (PLAIN, PLAIN_LINEAR):
        call = ranks.of_mine(loss.call())
        for options in BAD_OPTIONS:
            with pytest.raises((ValueError, RuntimeError), match=next(iter(options))):
                call.changed(**options).value()
        for changed in ({"target": call.arguments["target"][:5]}, {"weight": torch.ones(CLASSES + 1)}):
            with pytest.raises((ValueError, RuntimeError)):
                call.changed(**changed).value()


# Of a linear layer


@check
def memory_budget(ranks: Ranks) -> None:
    call = ranks.of_mine(PLAIN_LINEAR.call("everything"))
    bounded = call.run(memory_budget=1 << 16).list()
    torch.testing.assert_close(bounded, call.run().list(), rtol=1e-12, atol=1e-15)


@check
def linear_of_some(ranks: Ranks) -> None:
    """What wants no gradient gets none; the others have the same."""
    call = ranks.of_mine(PLAIN_LINEAR.call())
    every = call.run().gradients
    for wanted in (("input",), ("linear_weight",), cases.OF_LINEAR[1:], ("input", "linear_bias")):
        torch.testing.assert_close(call.run(wanted=wanted).gradients, {name: every[name] for name in wanted})


@check
def linear_under_autocast(ranks: Ranks) -> None:
    """Cast as the operands of a matrix product; each gradient has the type of its tensor."""
    call = PLAIN_LINEAR.call()
    hidden, weight, target = (call.arguments[n] for n in ("input", "linear_weight", "target"))
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [hidden.clone().requires_grad_(), weight[ranks.mine].to(dtype).requires_grad_()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ft.vocab_parallel_linear_cross_entropy(*leaves, target, group=ranks.group)
        loss.backward()
        assert loss.dtype == torch.float32 and leaves[1].grad.dtype == dtype
        found.append([loss.detach(), *(leaf.grad.float() for leaf in leaves)])
    assert equal(*found)
    # Probabilities may stay what they are.
    probabilities = torch.randn(13, CLASSES, generator=torch.Generator().manual_seed(0)).softmax(1)
    losses = []
    for enabled in (True, False):
        operands = hidden.float(), weight[ranks.mine].float(), probabilities[:, ranks.mine]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(ft.vocab_parallel_linear_cross_entropy(*operands, group=ranks.group))
    torch.testing.assert_close(*losses, rtol=0.01, atol=0.0)


@check
def probabilities_of_other_types(ranks: Ranks) -> None:
    """They are rounded to the type of the input."""
    logits, _ = problem()
    probabilities = logits.flip(0).softmax(1)
    for first in DTYPES.values():
        for dtype in DTYPES.values():
            x, mine = logits.to(first), probabilities[:, ranks.mine].to(dtype)
            layer = torch.eye(CLASSES, dtype=first)[ranks.mine]
            linear = ft.vocab_parallel_linear_cross_entropy(x, layer, mine, group=ranks.group)
            losses = [sliced_loss(ranks, x, mine)[0].item(), linear.item()]
            exact = functional.cross_entropy(x.double(), probabilities.to(dtype).to(first).double()).item()
            assert losses == pytest.approx([exact] * 2, rel=0.01)


@check
def incoming_gradients_that_are_not_finite(ranks: Ranks) -> None:
    """Ignored rows have a gradient of 0, also in the gradients that are added over the processes."""
    logits, target = problem()
    target[4:7] = -100
    hidden, weight = logits[:, :WIDTH].clone().requires_grad_(), logits[:CLASSES, :WIDTH][ranks.mine].clone()
    for factor in (math.inf, math.nan):
        linear = ft.vocab_parallel_linear_cross_entropy(hidden, weight, target, group=ranks.group)
        for loss, leaf in (sliced_loss(ranks, logits, target), (linear, hidden)):
            (grad,) = torch.autograd.grad(factor * loss, leaf)
            assert not grad[4:7].any() and not grad[:4].isfinite().any()


# The perplexity of a corpus


def corpora(special: bool) -> tuple[Any, Any, Any]:
    """Logits, targets and documents, the same in each process; some losses infinite and NaN."""
    rng = np.random.default_rng(3)
    logits, target = rng.normal(size=(40, CLASSES), scale=4.0), rng.integers(0, CLASSES, 40)
    target[::7] = -100
    if special:
        logits[5], logits[9, target[9]] = math.nan, -math.inf
    return logits, target, np.array(["a", "b", "c", "d"])[rng.integers(0, 4, 40)]


@check
def perplexity_of_all(ranks: Ranks) -> None:
    """Uneven shares, down to none: the bits of one process."""
    cuts = {1: (0, 40), 2: (0, 27, 40), 3: (0, 31, 31, 40)}[ranks.size]
    mine = slice(*cuts[ranks.rank : ranks.rank + 2])
    for special in (False, True):
        logits, target, keys = corpora(special)
        for by in (None, keys):
            whole = fastloss.Perplexity().update(logits, target, by=by)
            share = fastloss.Perplexity()
            share.update(logits[mine], target[mine], by=None if by is None else by[mine])
            assert ft.all_reduce(share, group=ranks.group) is share
            assert share == whole and repr(share.compute()) == repr(whole.compute())
            assert share.state_dict() == whole.state_dict()
    # Documents, and numbers beyond a message, on one rank only.
    share = fastloss.Perplexity()
    if ranks.rank == ranks.size - 1:
        share.update(logits, target, by=keys)
        for _ in range(2000):
            share.merge(share)
    ft.all_reduce(share, group=ranks.group)
    assert share.tokens == whole.tokens << 2000 and len(share.documents) == 4


@check
def perplexity_of_other_options(ranks: Ranks) -> None:
    logits, _, keys = corpora(False)
    for by in (None, keys):
        share = fastloss.Perplexity(ignore_index=-100 - ranks.rank // 2 - ranks.rank % 2)
        share.update(logits[:5], [1] * 5, by=None if by is None else by[:5])
        before = copy.deepcopy(share)
        if ranks.size > 1:
            with pytest.raises(ValueError, match=r"same ignore_index on every rank, got \[-100, -101"):
                ft.all_reduce(share, group=ranks.group)
        assert share == before
    with pytest.raises(TypeError, match="got float"):
        ft.all_reduce(share.compute(), group=ranks.group)


# Data parallelism


@check
def data_parallel(ranks: Ranks) -> None:
    """Gradients are averaged over the processes, as with torch's function."""

    def trained(f: Any, **options: Any) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        parallel = ranks.parallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        for step in range(3):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(10 * step + ranks.rank))
            optimizer.zero_grad()
            f(parallel(x), torch.arange(8), label_smoothing=0.1, **options).backward()
            optimizer.step()
        for p in model.parameters():
            ranks.assert_same_everywhere(p)
        return [p.detach().clone() for p in model.parameters()]

    found = assert_as_torch("cross_entropy", trained, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(trained(ft.cross_entropy, inplace=True), found, rtol=1e-5, atol=1e-6)


@check
def data_parallel_without_synchronization(ranks: Ranks) -> None:
    """Gradients of several steps in `no_sync` add up, and are averaged in the last."""
    torch.manual_seed(0)
    model = nn.Linear(6, CLASSES)
    parallel = ranks.parallel(model)

    def answer(f: Any) -> Tensor:
        model.zero_grad()
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(ranks.rank))
        with parallel.no_sync():
            f(parallel(x), torch.arange(8)).backward()
        f(parallel(2.0 * x), torch.arange(8)).backward()
        return model.weight.grad.clone()

    assert_as_torch("cross_entropy", answer, rtol=1e-5, atol=1e-6)


# The mean over the tokens of all processes


def uneven(ranks: Ranks) -> list[tuple[Tensor, Tensor]]:
    """Features and labels of each process, other numbers of them, and of ignored ones."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for rank in range(ranks.size):
        tokens = 5 + 4 * rank
        target = torch.randint(CLASSES, (tokens,), generator=generator)
        target[rank::3] = -100
        found.append((torch.randn(tokens, 6, generator=generator, dtype=torch.float64), target))
    return found


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double()


def of_all(parts: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """The gradients of the mean over all tokens, in one process."""
    model = tiny()
    x, target = (torch.cat(some) for some in zip(*parts, strict=True))
    return list(torch.autograd.grad(functional.cross_entropy(model(x), target), list(model.parameters())))


@check
def token_mean(ranks: Ranks) -> None:
    """One sum over the processes, of a number, makes the gradient that of one process."""
    parts = uneven(ranks)
    for is_last_empty in (False, ranks.size > 1):
        if is_last_empty:
            parts[-1][1].fill_(-100)
        model, (x, target) = tiny(), parts[ranks.rank]
        parallel = ranks.parallel(model)
        total, count = ft.cross_entropy(parallel(x), target, reduction="sum_and_count")
        distributed.all_reduce(count, group=ranks.group)
        (total * (ranks.size / count)).backward()
        found = [parameter.grad for parameter in model.parameters()]
        torch.testing.assert_close(found, of_all(parts), rtol=1e-12, atol=1e-14)
        for grad in found:
            ranks.assert_same_everywhere(grad)


@check
def token_mean_of_micro_batches(ranks: Ranks) -> None:
    """Gradients of sums add up; the count of all divides them once."""
    model, parts = tiny(), uneven(ranks)
    parallel = ranks.parallel(model)
    x, target = parts[ranks.rank]
    tokens = torch.zeros((), dtype=torch.float64)
    for part in (slice(0, 2), slice(2, 3), slice(3, None)):
        with parallel.no_sync() if part.stop else nullcontext():
            total, count = ft.cross_entropy(parallel(x[part]), target[part], reduction="sum_and_count")
            total.backward()
        tokens += count
    distributed.all_reduce(tokens, group=ranks.group)
    found = [parameter.grad * (ranks.size / tokens) for parameter in model.parameters()]
    torch.testing.assert_close(found, of_all(parts), rtol=1e-12, atol=1e-14)


@check
def sum_and_count_of_slices(ranks: Ranks) -> None:
    """Over a divided vocabulary both are those of the whole, the same everywhere."""
    for loss in (PLAIN, PLAIN_LINEAR):
        for label in ("plain", "everything"):
            call = ranks.of_mine(loss.call(label))
            leaves = call.leaves()
            total, count = call.value(leaves, reduction="sum_and_count")
            found = torch.autograd.grad(total, list(leaves.values()))
            expected = call.run(reduction="sum")
            assert equal([total, *found], expected.list())
            ranks.assert_same_everywhere(count)
            torch.testing.assert_close(total / count, call.value(reduction="mean"))
            assert not count.requires_grad


# One launch for each number of processes. The default run has all checks with two processes, and with one and
# three those of perplexities and of all options at once, whose slices have other sizes (see `CUTS`).

OF_ANY_SIZE = {name for name in CHECKS if "perplexity" in name or "everything" in name}
Launch = Callable[[int, bool], list[dict[str, str]]]


def worker(rank: int, size: int, folder: str, is_part: bool) -> None:
    """Run all checks, or `OF_ANY_SIZE` alone."""
    torch.set_num_threads(1)
    found = {}
    with processes(folder, rank, size, PATIENCE):
        for name in CHECKS:
            if is_part and name not in OF_ANY_SIZE:
                continue
            # A group of its own, so that one who has left a check early does not meet others in the next.
            group = distributed.new_group(timeout=timedelta(seconds=PATIENCE))
            try:
                CHECKS[name](Ranks(rank, size, group))
            except BaseException:
                found[name] = traceback.format_exc()
            else:
                found[name] = ""
            Path(folder, f"{rank}.json").write_text(json.dumps(found))
        distributed.barrier()


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """What went wrong in each process, by check."""
    done: dict[tuple[int, bool], list[dict[str, str]]] = {}

    def run(size: int, is_part: bool) -> list[dict[str, str]]:
        if (size, is_part) in done:
            return done[size, is_part]
        folder = tmp_path_factory.mktemp(f"of_{size}")
        started = time.monotonic()
        arguments = (size, str(folder), is_part)
        context = mp.start_processes(worker, arguments, size, join=False, start_method="spawn")
        try:
            while not context.join(timeout=1.0) and time.monotonic() - started < LIMIT:
                pass
        except Exception as error:  # what a process ended with; the others may wait for it
            Path(folder, "error").write_text(repr(error))
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        files = [folder / f"{rank}.json" for rank in range(size)]
        done[size, is_part] = [json.loads(file.read_text()) if file.exists() else {} for file in files]
        return done[size, is_part]

    return run


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(name, size, marks=pytest.mark.full if size != 2 and name not in OF_ANY_SIZE else [])
        for size in CUTS
        for name in CHECKS
    ],
)
@pytest.mark.xdist_group("processes")
def test_in_processes(name: str, size: int, launch: Launch) -> None:
    for rank, found in enumerate(launch(size, size != 2 and name in OF_ANY_SIZE)):
        assert name in found, f"process {rank} did not come so far"
        assert not found[name], f"process {rank}:\n{found[name]}"


def test_all_kinds_run_in_any_number_of_processes() -> None:
    assert len({name.split("-")[0] for name in OF_ANY_SIZE}) == 4


def test_without_processes() -> None:
    """No group has been made: an error, or a vocabulary of one slice."""
    with pytest.raises(ValueError, match="process group"):
        ft.all_reduce(fastloss.Perplexity())
    logits, target = problem()
    result = outcome(lambda: ft.vocab_parallel_cross_entropy(logits, target))
    if isinstance(result, Exception):
        assert isinstance(result, (RuntimeError, ValueError))
    else:
        torch.testing.assert_close(result, functional.cross_entropy(logits, target))
