"""fastloss.torch in several processes: losses of a vocabulary in slices, and data parallelism, over gloo.

Processes are started once for each number of them. Each goes through all `CHECKS` in the same order, in a
group of its own for each, and writes down what went wrong; the tests look it up.
"""

import json
import math
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch_cases as cases  # noqa: E402
from torch import distributed, nn  # noqa: E402
from torch import multiprocessing as mp  # noqa: E402
from torch.nn import functional  # noqa: E402

import fastloss.torch as ft  # noqa: E402
from fastloss import reference  # noqa: E402

Tensor = torch.Tensor
if not (distributed.is_available() and distributed.is_gloo_available()):
    pytest.skip("no gloo", allow_module_level=True)

PATIENCE = 20.0  # seconds that a process waits for the others
LIMIT = 100.0  # for all
# Where the vocabulary is cut; slices differ in size.
CUTS = {2: (0, 7, 11), 3: (0, 2, 8, 11)}
CLASSES, WIDTH = 11, 6


@dataclass(frozen=True)
class Ranks:
    """Where a process stands."""

    rank: int
    size: int
    group: Any

    @property
    def mine(self) -> slice:
        return slice(*CUTS[self.size][self.rank : self.rank + 2])

    def gathered(self, x: Tensor) -> list[Tensor]:
        found = [torch.empty_like(x) for _ in range(self.size)]
        distributed.all_gather(found, x.contiguous(), group=self.group)
        return found

    def assert_same_everywhere(self, x: Tensor) -> None:
        """The same bits in each process."""
        for other in self.gathered(x.detach()):
            torch.testing.assert_close(other, x.detach(), rtol=0.0, atol=0.0, equal_nan=True)


CHECKS: dict[str, Callable[[Ranks], None]] = {}


def check(f: Callable[[Ranks], None]) -> Callable[[Ranks], None]:
    CHECKS[f.__name__] = f
    return f


# What one process has


def problem(*rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets in every slice, and weights of the classes; the same in each process."""
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(2.0 * rng.standard_normal((*rows, CLASSES)))
    target = torch.arange(math.prod(rows)).view(rows) % CLASSES
    return logits, target, torch.from_numpy(rng.uniform(0.5, 2.0, CLASSES))


def of_one_process(
    name: str, arrays: tuple[Any, ...], upstream: Tensor, **options: Any
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and the gradients, as the reference has them."""

    def array(x: Any) -> Any:
        return x.double().numpy() if isinstance(x, Tensor) and x.is_floating_point() else x

    options = {k: array(v) for k, v in options.items() if k != "memory_budget"}
    loss, grads = getattr(reference, name)(
        *(array(x) if x.is_floating_point() else x.numpy() for x in arrays),
        return_grad=True,
        grad_output=upstream.double().numpy(),
        **options,
    )
    grads = grads if isinstance(grads, tuple) else (grads,)
    return torch.as_tensor(np.asarray(loss)), tuple(
        torch.from_numpy(np.array(g)) for g in grads if g is not None
    )


def upstream_of(reduction: str, rows: tuple[int, ...]) -> Tensor:
    return cases.upstream_for(rows) if reduction == "none" else torch.tensor(-2.0)


def cross_entropy_is_that_of_one(
    ranks: Ranks, logits: Tensor, target: Tensor, weight: Tensor | None = None, **options: Any
) -> None:
    """All reductions: the loss, the same everywhere, and the gradient of the slice."""
    for reduction in cases.REDUCTIONS:
        upstream = upstream_of(reduction, tuple(target.shape))
        given = {"reduction": reduction, **options}
        expected, (grad,) = of_one_process(
            "cross_entropy", (logits, target), upstream, weight=weight, **given
        )
        leaf = logits[..., ranks.mine].clone().requires_grad_()
        of_mine = None if weight is None else weight[ranks.mine].clone()
        loss = ft.vocab_parallel_cross_entropy(leaf, target, of_mine, group=ranks.group, **given)
        ranks.assert_same_everywhere(loss)
        title = f"{reduction} {options}"
        rel = {torch.float64: 1e-12}.get(logits.dtype, 2e-6)
        assert loss.dtype == logits.dtype
        cases.assert_near(loss.detach(), expected, rel, 1, title)
        loss.backward(upstream.to(loss.dtype))
        assert leaf.grad is not None and leaf.grad.dtype == logits.dtype
        largest = grad.abs().amax(-1, keepdim=True) * torch.ones(leaf.shape, dtype=torch.float64)
        exact = grad[..., ranks.mine]
        bound = rel * largest + 1e-30
        if logits.dtype.itemsize == 2:
            bound = (
                bound + torch.finfo(logits.dtype).eps * exact.abs() + 1e-7 * (logits.dtype is torch.float16)
            )
        assert ((leaf.grad.double() - exact).abs() <= bound).all(), title
        with torch.no_grad():
            alone = ft.vocab_parallel_cross_entropy(leaf, target, of_mine, group=ranks.group, **given)
        assert torch.equal(alone, loss.detach()), title


# Cross entropy


@check
def plain(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    cross_entropy_is_that_of_one(ranks, logits, target)


@check
def other_shapes(ranks: Ranks) -> None:
    for rows in ((2, 3), (2, 2, 2), (), (1,)):
        logits, target, weight = problem(*rows)
        cross_entropy_is_that_of_one(ranks, logits, target, weight, label_smoothing=0.1)


@check
def ignored(ranks: Ranks) -> None:
    for index in (-100, 4, 9):
        logits, target, _ = problem(13)
        target[::4] = index
        cross_entropy_is_that_of_one(ranks, logits, target, ignore_index=index)


@check
def smoothed(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    for smoothing in (0.1, 1.0):
        cross_entropy_is_that_of_one(ranks, logits, target, label_smoothing=smoothing)


@check
def weighted(ranks: Ranks) -> None:
    logits, target, weight = problem(13)
    cross_entropy_is_that_of_one(ranks, logits, target, weight)
    cross_entropy_is_that_of_one(ranks, logits, target, weight, label_smoothing=0.2)


@check
def z_loss(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    cross_entropy_is_that_of_one(ranks, logits, target, z_loss=0.05)


@check
def softcap_and_temperature(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    cross_entropy_is_that_of_one(ranks, logits, target, softcap=3.0)
    cross_entropy_is_that_of_one(ranks, logits, target, temperature=1.7)


@check
def everything(ranks: Ranks) -> None:
    logits, target, weight = problem(13)
    target[::5] = -100
    options = {"label_smoothing": 0.1, "z_loss": 0.05, "softcap": 4.0, "temperature": 0.7}
    cross_entropy_is_that_of_one(ranks, logits, target, weight, **options)
    cross_entropy_is_that_of_one(ranks, logits.float(), target, weight.float(), **options)


@check
def other_types(ranks: Ranks) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits, target, _ = problem(13)
        for indices in (target, target.int(), target.to(torch.uint8)):
            cross_entropy_is_that_of_one(ranks, logits.to(dtype), indices)


@check
def shifted_logits(ranks: Ranks) -> None:
    """The largest is in another slice in each row, far above the others."""
    logits, target, _ = problem(13)
    logits[torch.arange(13), torch.arange(13) % CLASSES] += 500.0
    logits += 1e4
    cross_entropy_is_that_of_one(ranks, logits, target)
    cross_entropy_is_that_of_one(ranks, logits, (target + 5) % CLASSES)


@check
def masked_slice(ranks: Ranks) -> None:
    """All classes of the second process, and some of the first, at -inf."""
    logits, target, _ = problem(13)
    cuts = CUTS[ranks.size]
    logits[..., cuts[1] : cuts[2]] = -math.inf
    logits[..., 0] = -math.inf
    target = torch.where((target >= cuts[1]) & (target < cuts[2]) | (target == 0), 1, target)
    cross_entropy_is_that_of_one(ranks, logits, target)
    leaf = logits[..., ranks.mine].clone().requires_grad_()
    ft.vocab_parallel_cross_entropy(leaf, target, group=ranks.group).backward()
    assert not leaf.grad[logits[..., ranks.mine] == -math.inf].any()


@check
def nothing_counts(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    for reduction in cases.REDUCTIONS:
        leaf = logits[..., ranks.mine].clone().requires_grad_()
        loss = ft.vocab_parallel_cross_entropy(
            leaf, torch.full_like(target, -100), reduction=reduction, group=ranks.group
        )
        assert loss.isnan().all() if reduction == "mean" else not loss.any()
        loss.sum().backward()
        assert not leaf.grad.any()


@check
def nan_in_one_slice(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    logits[4, CLASSES - 1] = math.nan
    loss = ft.vocab_parallel_cross_entropy(
        logits[..., ranks.mine].clone(), target, reduction="none", group=ranks.group
    )
    ranks.assert_same_everywhere(loss)
    assert loss[4].isnan() and loss.isnan().sum() == 1


@check
def default_group(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    loss = ft.vocab_parallel_cross_entropy(logits[..., ranks.mine].clone(), target)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, target))


@check
def strided_slices(ranks: Ranks) -> None:
    """Views of the whole are slices, too; the gradient is theirs."""
    logits, target, _ = problem(13)
    leaf = logits.clone().requires_grad_()
    ft.vocab_parallel_cross_entropy(leaf[:, ranks.mine], target, group=ranks.group).backward()
    whole = logits.clone().requires_grad_()
    functional.cross_entropy(whole, target).backward()
    torch.testing.assert_close(leaf.grad[:, ranks.mine], whole.grad[:, ranks.mine])
    assert leaf.grad.count_nonzero() == 13 * (ranks.mine.stop - ranks.mine.start)


def assert_index_error_everywhere(ranks: Ranks, call: Callable[[], Any]) -> None:
    started = time.monotonic()
    raised = 0
    try:
        call()
    except IndexError:
        raised = 1
    found = ranks.gathered(torch.tensor(raised))
    assert all(found), f"IndexError in {[int(x) for x in found]}"
    assert time.monotonic() - started < PATIENCE / 2.0


@check
def bad_class_index(ranks: Ranks) -> None:
    """On every rank, and nobody waits for the others."""
    logits, target, _ = problem(13)
    for bad in (CLASSES, -1, -7, 10**6):
        wrong = target.clone()
        wrong[5] = bad
        for reduction in cases.REDUCTIONS:
            leaf = logits[..., ranks.mine].clone().requires_grad_()
            assert_index_error_everywhere(
                ranks,
                lambda x=leaf, t=wrong, r=reduction: ft.vocab_parallel_cross_entropy(
                    x, t, reduction=r, group=ranks.group
                ),
            )
    # The group is of use still.
    cross_entropy_is_that_of_one(ranks, logits, target)


@check
def backward_twice(ranks: Ranks) -> None:
    logits, target, _ = problem(13)
    for reduction in cases.REDUCTIONS:
        leaf = logits[..., ranks.mine].clone().requires_grad_()
        loss = ft.vocab_parallel_cross_entropy(leaf, target, reduction=reduction, group=ranks.group).sum()
        first = torch.autograd.grad(loss, leaf, retain_graph=True)[0].clone()
        assert torch.equal(torch.autograd.grad(2.0 * loss, leaf)[0], 2.0 * first)


@check
def second_derivatives(ranks: Ranks) -> None:
    """None, and no wrong ones."""
    logits, target, _ = problem(13)
    leaf = logits[..., ranks.mine].clone().requires_grad_()
    loss = ft.vocab_parallel_cross_entropy(leaf, target, group=ranks.group)
    with pytest.raises(RuntimeError):
        (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
        (grad**2).sum().backward()


@check
def bad_arguments(ranks: Ranks) -> None:
    logits, target, weight = problem(13)
    mine = logits[..., ranks.mine].clone()
    for options in (
        {"reduction": "average"},
        {"label_smoothing": 2.0},
        {"softcap": 0.0},
        {"temperature": -1.0},
        {"z_loss": -1.0},
        {"weight": weight},
    ):
        with pytest.raises((ValueError, RuntimeError)):
            ft.vocab_parallel_cross_entropy(mine, target, group=ranks.group, **options)
    with pytest.raises((ValueError, RuntimeError)):
        ft.vocab_parallel_cross_entropy(mine, target[:5], group=ranks.group)


# Of a linear layer


def linear_is_that_of_one(
    ranks: Ranks, rows: tuple[int, ...], dtype: torch.dtype, with_bias: bool, **options: Any
) -> None:
    rng = np.random.default_rng(5)
    _, target, _ = problem(*rows)
    if "ignore_index" in options:
        target.view(-1)[::4] = options["ignore_index"]
    x = torch.from_numpy(rng.standard_normal((*rows, WIDTH))).to(dtype)
    w = torch.from_numpy(0.6 * rng.standard_normal((CLASSES, WIDTH))).to(dtype)
    b = torch.from_numpy(0.3 * rng.standard_normal(CLASSES)).to(dtype) if with_bias else None
    weight = options.pop("weight", None)
    for reduction in cases.REDUCTIONS:
        upstream = upstream_of(reduction, rows)
        given = {"reduction": reduction, **options}
        expected, grads = of_one_process(
            "linear_cross_entropy", (x, w, target), upstream, linear_bias=b, weight=weight, **given
        )
        leaves = [x.clone(), w[ranks.mine].clone(), *([] if b is None else [b[ranks.mine].clone()])]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        loss = ft.vocab_parallel_linear_cross_entropy(
            leaves[0],
            leaves[1],
            target,
            linear_bias=leaves[2] if with_bias else None,
            weight=None if weight is None else weight[ranks.mine],
            group=ranks.group,
            **given,
        )
        title = f"{reduction} {dtype} {options}"
        rel = {torch.float64: 1e-11}.get(dtype, 1e-5)
        ranks.assert_same_everywhere(loss)
        assert loss.dtype == dtype
        cases.assert_near(loss.detach(), expected, rel, 1, title)
        loss.backward(upstream.to(dtype))
        ranks.assert_same_everywhere(leaves[0].grad)
        exact = [grads[0], *(g[ranks.mine] for g in grads[1:])]
        for leaf, g, whole in zip(leaves, exact, grads, strict=True):
            assert leaf.grad is not None and leaf.grad.dtype == dtype
            # Half types are rounded once in each process, and once when they are added.
            bound = (
                rel + (ranks.size * torch.finfo(dtype).eps if dtype.itemsize == 2 else 0.0)
            ) * whole.abs().max()
            assert ((leaf.grad.double() - g).abs() <= bound).all(), title


@check
def linear(ranks: Ranks) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        linear_is_that_of_one(ranks, (13,), dtype, with_bias=False)
        linear_is_that_of_one(ranks, (2, 5), dtype, with_bias=True)


@check
def linear_with_options(ranks: Ranks) -> None:
    _, _, weight = problem(1)
    for options in (
        {"ignore_index": -100},
        {"ignore_index": 9},
        {"label_smoothing": 0.2},
        {"weight": weight},
        {"z_loss": 0.05},
        {"softcap": 3.0, "temperature": 1.7},
        {"memory_budget": 1 << 16},
        {"ignore_index": -100, "label_smoothing": 0.1, "weight": weight, "z_loss": 0.05, "softcap": 4.0},
    ):
        linear_is_that_of_one(ranks, (13,), torch.float64, with_bias=True, **dict(options))


@check
def linear_of_some(ranks: Ranks) -> None:
    """What wants no gradient gets none; the others have the same."""
    rng = np.random.default_rng(5)
    _, target, _ = problem(13)
    tensors = [torch.from_numpy(rng.standard_normal(s)) for s in ((13, WIDTH), (CLASSES, WIDTH), (CLASSES,))]

    def gradients(wanted: tuple[bool, ...]) -> list[Tensor | None]:
        x, w, b = tensors
        leaves = [
            t.clone().requires_grad_(k)
            for t, k in zip((x, w[ranks.mine], b[ranks.mine]), wanted, strict=True)
        ]
        ft.vocab_parallel_linear_cross_entropy(
            leaves[0], leaves[1], target, linear_bias=leaves[2], group=ranks.group
        ).backward()
        return [leaf.grad for leaf in leaves]

    every = gradients((True, True, True))
    for wanted in ((True, False, False), (False, True, False), (False, True, True), (True, False, True)):
        for grad, expected, want in zip(gradients(wanted), every, wanted, strict=True):
            assert (grad is not None) == want
            if grad is not None:
                torch.testing.assert_close(grad, expected)


@check
def linear_under_autocast(ranks: Ranks) -> None:
    """Cast as the operands of a matrix product; each gradient has the type of its tensor."""
    rng = np.random.default_rng(5)
    _, target, _ = problem(13)
    hidden, weight = (
        torch.from_numpy(rng.standard_normal(s)).bfloat16() for s in ((13, WIDTH), (CLASSES, WIDTH))
    )
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [hidden.clone().requires_grad_(), weight[ranks.mine].to(dtype).requires_grad_()]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = ft.vocab_parallel_linear_cross_entropy(*leaves, target, group=ranks.group)
        loss.backward()
        assert loss.dtype == torch.float32 and leaves[1].grad.dtype == dtype
        found.append([loss.detach(), *(leaf.grad.float() for leaf in leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    # Probabilities may stay what they are.
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(CLASSES), 13)).float()
    losses = []
    for enabled in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(
                ft.vocab_parallel_linear_cross_entropy(
                    hidden.float(),
                    weight[ranks.mine].float(),
                    probabilities[:, ranks.mine],
                    group=ranks.group,
                )
            )
    torch.testing.assert_close(*losses, rtol=0.01, atol=0.0)


@check
def incoming_gradients_that_are_not_finite(ranks: Ranks) -> None:
    """Ignored rows have a gradient of 0, also in the gradients that are added over the processes."""
    logits, target, _ = problem(13)
    target[4:7] = -100
    for factor in (math.inf, math.nan):
        leaf = logits[:, ranks.mine].clone().requires_grad_()
        (factor * ft.vocab_parallel_cross_entropy(leaf, target, group=ranks.group)).backward()
        assert not leaf.grad[4:7].any() and not leaf.grad[:4].isfinite().any()
        hidden = logits[:, :WIDTH].clone().requires_grad_()
        weight = logits[:CLASSES, :WIDTH][ranks.mine].clone()
        (
            factor * ft.vocab_parallel_linear_cross_entropy(hidden, weight, target, group=ranks.group)
        ).backward()
        assert not hidden.grad[4:7].any() and not hidden.grad[:4].isfinite().any()


@check
def linear_with_a_bad_class_index(ranks: Ranks) -> None:
    _, target, _ = problem(13)
    target[3] = CLASSES
    x, w = torch.randn(13, WIDTH), torch.randn(CLASSES, WIDTH)[ranks.mine].requires_grad_()
    assert_index_error_everywhere(
        ranks, lambda: ft.vocab_parallel_linear_cross_entropy(x, w, target, group=ranks.group)
    )


# Data parallelism


@check
def data_parallel(ranks: Ranks) -> None:
    """Gradients are averaged over the processes, as with torch's function."""
    found = []
    for f, options in (
        (functional.cross_entropy, {}),
        (ft.cross_entropy, {}),
        (ft.cross_entropy, {"inplace": True}),
    ):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, CLASSES))
        parallel = nn.parallel.DistributedDataParallel(model, process_group=ranks.group)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        for step in range(3):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(10 * step + ranks.rank))
            optimizer.zero_grad()
            f(parallel(x), torch.arange(8), label_smoothing=0.1, **options).backward()
            optimizer.step()
        found.append([p.detach().clone() for p in model.parameters()])
        for p in model.parameters():
            ranks.assert_same_everywhere(p)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


@check
def data_parallel_without_synchronization(ranks: Ranks) -> None:
    """Gradients of several steps in `no_sync` add up, and are averaged in the last."""
    torch.manual_seed(0)
    model = nn.Linear(6, CLASSES)
    parallel = nn.parallel.DistributedDataParallel(model, process_group=ranks.group)
    found = []
    for f in (functional.cross_entropy, ft.cross_entropy):
        model.zero_grad()
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(ranks.rank))
        with parallel.no_sync():
            f(parallel(x), torch.arange(8)).backward()
        f(parallel(2.0 * x), torch.arange(8)).backward()
        found.append(model.weight.grad.clone())
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)


# One launch for each number of processes


def worker(rank: int, size: int, folder: str) -> None:
    """Run all checks."""
    torch.set_num_threads(1)
    timeout = timedelta(seconds=PATIENCE)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=timeout)
    found = {}
    for name, f in CHECKS.items():
        # A group of its own, so that one who has left a check early does not meet others in the next.
        group = distributed.new_group(timeout=timeout)
        try:
            f(Ranks(rank, size, group))
        except BaseException:
            found[name] = traceback.format_exc()
        else:
            found[name] = ""
        Path(folder, f"{rank}.json").write_text(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[dict[str, str]]]:
    """What went wrong in each process, by check."""
    done: dict[int, list[dict[str, str]]] = {}

    def run(size: int) -> list[dict[str, str]]:
        if size in done:
            return done[size]
        folder = tmp_path_factory.mktemp(f"of_{size}")
        started = time.monotonic()
        context = mp.start_processes(worker, (size, str(folder)), size, join=False, start_method="spawn")
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
        done[size] = [json.loads(file.read_text()) if file.exists() else {} for file in files]
        return done[size]

    return run


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("name", CHECKS)
def test_in_processes(name: str, size: int, launch: Callable[[int], list[dict[str, str]]]) -> None:
    for rank, found in enumerate(launch(size)):
        assert name in found, f"process {rank} did not come so far"
        assert not found[name], f"process {rank}:\n{found[name]}"


def test_without_processes() -> None:
    """No group has been made: an error, or a vocabulary of one slice."""
    logits, target, _ = problem(13)
    result = cases.outcome(lambda: ft.vocab_parallel_cross_entropy(logits, target))
    if isinstance(result, Exception):
        assert isinstance(result, (RuntimeError, ValueError))
    else:
        torch.testing.assert_close(result, functional.cross_entropy(logits, target))
