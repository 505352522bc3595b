"""info_nce_loss and siglip_loss beside the bare matrix products, and PyTorch with the matrix of similarities.

The limit is the three matrix products of NumPy, into buffers that are kept, in the chunks of fastloss, as in
the suite "linear". The row "many-keys" has as many keys as a batch of 65,536 pairs, but fewer
queries, whose chunks take as long.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from fastloss import reference

from ..case import LIMIT, OURS, TORCH, Case, Suite, at_least, at_most
from ..contenders import Contender, contender, imported, require_equal
from ..peers import torch_peer
from ..problem import Array, Problem, blocks, require

__all__ = ["SUITE"]

# The largest error of a gradient, relative to its largest entry, and of the loss.
AGREEMENT = 4e-6
SIGLIP = {"scale": 10.0, "bias": -10.0}


def _case(name: str, function: str, what: str = "", **others: Any) -> Case:
    """Return a row; the detail "chunks" is the number of chunks of the limit."""
    attributes: dict[str, Any] = {
        "shape": (4096, 4096, 384),
        "small": (40, 40, 24),
        "contenders": (LIMIT, OURS, TORCH),
        "limit": "products",
        "targets": (at_most(1.1, LIMIT), at_least(2.0, TORCH)),
        **others,
    }
    title = f"{function} of queries, keys, features {attributes['shape']}{what}"
    return Case("contrastive", name, title, function, **attributes)


CASES = (
    _case("info-nce", "info_nce_loss"),
    _case(
        "info-nce-symmetric",
        "info_nce_loss",
        ", both directions",
        targets=(at_most(1.15, LIMIT), at_least(2.0, TORCH)),
        options={"symmetric": True},
    ),
    _case("info-nce-value", "info_nce_loss", ", value", mode="value"),
    _case(
        "info-nce-many-keys",
        "info_nce_loss",
        shape=(4096, 65536, 384),
        small=(40, 120, 24),
        contenders=(LIMIT, OURS),
        targets=(at_most(1.1, LIMIT),),
        details={"chunks": 8},
    ),
    _case("siglip", "siglip_loss", targets=(at_most(1.1, LIMIT), at_least(1.5, TORCH)), options=SIGLIP),
)


@lru_cache(maxsize=1)
def _arrays(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return queries and keys of length 1."""
    queries, keys, features = shape
    rng = np.random.default_rng(0)
    k = rng.standard_normal((keys, features), dtype=np.float32)
    q = rng.standard_normal((queries, features), dtype=np.float32) + np.float32(0.5) * k[:queries]
    q, k = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, k))
    return q, k


class ContrastiveProblem(Problem):
    """The reference has all gradients; errors are relative to the largest entry of each."""

    leaves = 2
    largest_axis = None

    @cached_property
    def arguments(self) -> tuple[Array, ...]:
        return _arrays(self.shape)

    @cached_property
    def out(self) -> tuple[Array | None, ...]:
        """Return the buffers, written once, so that no timed call has their page faults."""
        numbers = 2 if self.case.function == "siglip_loss" else 1
        return (*map(np.ones_like, self.arguments), *[None] * numbers)

    @cached_property
    def similarities(self) -> Array:
        """Return the similarities of one chunk of the limit."""
        q, k = self.arguments
        return np.ones((len(q) // self.case.details.get("chunks", 1), len(k)), q.dtype)

    @cached_property
    def answer(self) -> tuple[float, tuple[Any, ...]]:
        """Return the mean of the reference and its gradients, by parts of the queries if it can be cut."""
        (q, k), function = self.arguments, getattr(reference, self.case.function)
        options: dict[str, Any] = {"reduction": "sum", "return_grad": True, "grad_output": 1 / len(q)}
        if len(q) == len(k):
            loss, grads = function(q, k, **self.case.options, **options)
            return loss / len(q), tuple(grads)
        loss, of_query, of_key, of_temperature = 0.0, np.empty(q.shape), np.zeros(k.shape), 0.0
        for rows in blocks(len(q), len(q) * len(k), 1 << 24):
            target = np.arange(len(q))[rows]
            some, grads = function(q[rows], k, target=target, **self.case.options, **options)
            loss += some / len(q)
            of_query[rows] = grads.query
            of_key += grads.key
            of_temperature += grads.temperature
        return loss, (of_query, of_key, of_temperature)

    @property
    def expected_loss(self) -> float:
        return self.answer[0]

    @property
    def expected_values(self) -> tuple[Array, ...]:
        return self.answer[1][:2]

    def tolerance(self, name: str) -> tuple[float, float]:
        return (AGREEMENT, AGREEMENT) if name.startswith(OURS) else super().tolerance(name)

    def check(self, name: str, loss: float | Array | None, values: Any, scale: float = 1.0) -> None:
        """Compare the arrays as always, and numbers, which PyTorch is not asked for, by themselves."""
        super().check(name, loss, None if values is None else tuple(values[:2]), scale)
        for number, right in zip((values or ())[2:], self.answer[1][2:], strict=False):
            require(abs(number - right) / abs(right), 2 * AGREEMENT, "a number")


@contender(LIMIT, suite="contrastive")
def _products(problem: ContrastiveProblem, name: str) -> Contender:
    (q, k), z = problem.arguments, problem.similarities
    gq, gk = problem.out[:2]
    assert gq is not None
    has_gradient = problem.case.has_gradient

    def call() -> None:
        for start in range(0, len(q), len(z)):
            chunk = slice(start, start + len(z))
            np.matmul(q[chunk], k.T, out=z)
            if has_gradient:
                np.matmul(z, k, out=gq[chunk])
                np.matmul(z.T, q[chunk], out=gk)

    def check(_: Any) -> None:
        """Check one row of each product of the last chunk."""
        found = [(z[-1], k @ q[-1])]
        if has_gradient and gk is not None:
            found += [(gq[-1], z[-1] @ k), (gk[-1], z[:, -1] @ q[-len(z) :])]
        for got, right in found:
            require_equal(np.allclose(got, right, rtol=0.0, atol=1e-3 * np.abs(right).max()), True)

    return Contender(name, call, check)


@contender(TORCH, suite="contrastive")
def _torch(problem: ContrastiveProblem, name: str) -> Contender:
    """Build the loss as its users write it, of the whole matrix."""
    torch = imported("torch")
    function, index = torch.nn.functional, torch.arange(problem.shape[0])

    def info_nce(q: Any, k: Any, symmetric: bool = False) -> Any:
        z = function.normalize(q, dim=1) @ function.normalize(k, dim=1).T / 0.05
        loss = function.cross_entropy(z, index)
        return (loss + function.cross_entropy(z.T, index)) / 2 if symmetric else loss

    def siglip(q: Any, k: Any, scale: float, bias: float) -> Any:
        labels = 2 * torch.eye(len(q)) - 1
        return -function.logsigmoid(labels * (scale * q @ k.T + bias)).sum() / len(q)

    return torch_peer(problem, name, siglip if problem.case.function == "siglip_loss" else info_nce)


SUITE = Suite(
    name="contrastive",
    title="contrastive losses beside the bare matrix products (several minutes)",
    cases=CASES,
    problem=ContrastiveProblem,
    columns={LIMIT: "matrix products", OURS: OURS, TORCH: "PyTorch"},
    repeats=7,
)
