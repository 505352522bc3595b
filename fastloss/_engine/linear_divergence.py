"""Divergences of two linear layers, student and teacher, whose logits are computed in chunks.

Two products compute the logits of a chunk of tokens, one of each layer. The divergence replaces those of the
teacher with the gradient of those of the student. So the latter are still there for the cross-entropy of hard
targets, whose gradient is added, and two more products compute the gradients of input and weight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastloss import _kernels
from fastloss._engine import arguments
from fastloss._engine.bands import weighed
from fastloss._engine.chunks import Call, Layer, LinearGradients, Sums, for_products, matrix_in, rows_of_chunk
from fastloss._engine.conversion import widened
from fastloss._engine.linear import budget, layer_of
from fastloss._engine.options import map_of
from fastloss._engine.results import Request, as_loss, reduced, request
from fastloss._engine.rows import entropies
from fastloss._engine.types import Array
from fastloss._engine.workspace import empty_like

__all__ = ["Hard", "Side", "StudentGradients", "linear_divergence"]

_TEACHER = ("teacher_input", "teacher_weight", "teacher_bias")


class StudentGradients(NamedTuple):
    """The gradients of a linear divergence; None for a gradient not wanted, or without a bias."""

    student_input: Array | None
    student_weight: Array | None
    student_bias: Array | None


class Side(NamedTuple):
    """What a caller gives for the student or for the teacher."""

    input: npt.ArrayLike
    weight: npt.ArrayLike
    bias: npt.ArrayLike | None
    softcap: Any
    logit_scale: Any


class Hard(NamedTuple):
    """What a caller gives for hard targets."""

    target: npt.ArrayLike | None
    share: Any
    ignore_index: Any


class _Checked(NamedTuple):
    """A checked side: its rows, its layer, and softcap and temperature of its logits."""

    x: Array
    weight: Array
    bias: Array | None
    map: dict[str, float]

    def layer(self, compute: np.dtype[Any]) -> Layer:
        return Layer(self.weight, None if self.bias is None else widened(self.bias, compute), compute)

    def rows(self) -> Array:
        return self.x.reshape(math.prod(self.x.shape[:-1]), self.x.shape[-1])


class _Target(NamedTuple):
    """The hard target of all tokens (-1 where none counts), its share, and how many count."""

    indices: Array | None
    share: float
    number: int


@dataclass
class _Distillation(Call):
    """A call of the student's layer, with a teacher. What `Call` says of targets holds for hard ones."""

    teacher: Layer
    teacher_x: Array
    operation: int
    beta: float
    is_reversed: bool  # whether the kernel takes the two swapped
    maps: tuple[dict[str, float], dict[str, float]]  # softcap and temperature of student and teacher
    divergence_scale: float  # the factor of the divergence's gradient
    factors: tuple[float, float]  # those of divergence and cross-entropy in the loss of a row
    entropy: Array | None  # if given, the student's entropy is written here
    teacher_room: Array | None = None

    def cut(self, count: int, has_gradients: bool) -> tuple[int, int]:
        """Return the number of rows of a chunk, with half of the budget for each layer, and no bands."""
        each = None if self.memory_budget is None else self.memory_budget // 2
        return rows_of_chunk(count, self.layer.weight.shape[0], self.layer.compute.itemsize, each), 1

    def chunk(self, rows: Any, bands: list[slice], room: Array, sums: Sums, *, is_known: bool) -> Array:
        """Run some rows and return their losses. `room` is for the student's logits."""
        x, (classes,) = self.inputs(rows), bands
        if self.teacher_room is None:
            self.teacher_room = empty_like(room)
        z = self.logits(x, classes, room, is_known=is_known)
        t = matrix_in(self.teacher_room, *z.shape)
        self.teacher.logits(for_products(self.teacher_x[rows], self.layer.compute), classes, t)
        if self.entropy is not None:
            threads = arguments.threads(self.num_threads)
            self.entropy[rows] = entropies(z, 1, self.maps[0], threads=threads)
        losses = weighed(self.divergence(rows, z, t), self.factors[0])
        if self.indices is not None:
            hard = np.zeros(len(x))
            into = {"output": t, "accumulate": True} if self.has_gradients() else {}
            self.softmax(rows, classes, z, row_loss=hard, ignored=-1, **into)
            losses += weighed(hard, self.factors[1])
        if self.has_gradients():
            sums.add(rows, classes, x, t)
        return losses

    def divergence(self, rows: Any, z: Array, t: Array) -> Array:
        """Return the divergence of some rows, and write the gradient of the logits `z` over those in `t`."""
        losses = np.zeros(len(z))
        student = (z, t if self.has_gradients() else None, self.maps[0])
        first, second = student, (t, None, self.maps[1])
        if self.is_reversed:
            first, second = second, first
        _kernels.divergence(
            self.operation, first[0], second[0], 1, x_gradient=first[1], t_gradient=second[1],
            x_softcap=first[2]["softcap"], t_softcap=second[2]["softcap"],
            x_temperature=first[2]["temperature"], t_temperature=second[2]["temperature"], beta=self.beta,
            grad_output=None if self.grad_output is None else self.grad_output[rows],
            grad_scale=self.divergence_scale, row_loss=losses, threads=arguments.threads(self.num_threads),
        )  # fmt: skip
        return losses


def _side(names: tuple[str, str, str], given: Side, temperature: Any) -> _Checked:
    side = names[0].removesuffix("input")
    options = map_of(side, given.softcap, given.logit_scale, temperature)
    return _Checked(*layer_of(names, given.input, given.weight, given.bias), options)


def _both(student: Side, teacher: Side, temperature: Any) -> tuple[_Checked, _Checked]:
    """Check student and teacher, which must have the same tokens and classes."""
    s, t = _side(StudentGradients._fields, student, temperature), _side(_TEACHER, teacher, temperature)
    if t.x.shape[:-1] != s.x.shape[:-1]:
        raise ValueError(
            f"teacher_input must have the tokens of student_input, shape {(*s.x.shape[:-1], t.x.shape[-1])}; "
            f"got {t.x.shape}"
        )
    if len(t.weight) != len(s.weight):
        raise ValueError(
            f"teacher_weight must have a row for each class of student_weight, {len(s.weight)}; "
            f"got {t.weight.shape}"
        )
    return s, t


def _target(
    target: Array | None, share: float, ignore_index: Any, shape: tuple[int, ...], mask: Array | None
) -> _Target:
    """Check the hard targets of the tokens under the mask, of logits of a shape."""
    name, ignore_index = "hard_target", arguments.index("ignore_index", ignore_index)
    if target is None:
        if share > 0.0:
            raise ValueError(f"hard_share={share:g} needs a {name}")
        return _Target(None, share, 1)
    if share == 0.0:
        raise ValueError(f"{name} needs a hard_share greater than 0")
    indices, ignored = arguments.class_indices(target, shape, len(shape) - 1, ignore_index, name)
    counted = np.ones(shape[:-1], np.bool_) if mask is None else mask
    if ignored is not None:
        counted = counted & (indices != ignored)
    arguments.require_classes(target, indices, shape[-1], counted, name)
    return _Target(np.where(counted, indices, -1).reshape(-1), share, int(np.count_nonzero(counted)))


def _common_count(rows: int, target: _Target) -> float:
    """Return what the mean of both parts divides by, for `rows` rows that count in the divergence."""
    if target.share == 0.0:
        return float(rows)
    if target.share < 1.0 and target.number != rows:
        raise ValueError(
            f"reduction='sum_and_count' needs a hard_target for each token of the divergence, {rows}; got "
            f"{target.number}: leave the others out by the mask"
        )
    return float(target.number)


def _over(share: float, denominator: float) -> float:
    """Return a part's factor of a mean, 0 if nothing counts."""
    return share / denominator if denominator else 0.0


def _distillation(
    s: _Checked,
    t: _Checked,
    target: _Target,
    counted: npt.NDArray[np.bool_] | None,
    call: Request,
    counts: tuple[float, float],
    student: Side,
    **more: Any,
) -> _Distillation:
    """Return the call of checked arguments; a mean divides the two parts by `counts`."""
    compute = np.dtype(np.float64 if s.x.dtype == np.float64 else np.float32)
    factors = _over(1.0 - target.share, counts[0]), _over(target.share, counts[1])
    return _Distillation(
        layer=s.layer(compute),
        x=s.rows(),
        indices=target.indices,
        probabilities=None,
        counted=None if counted is None or counted.all() else counted.reshape(-1),
        weight=None,
        sample_weight=None,
        grad_output=None if call.upstream is None else call.upstream.reshape(-1),
        grad_scale=call.scale * factors[1],
        sign=1.0,
        options=map_of("student_", student.softcap, student.logit_scale, 1.0),
        filter_eps=0.0,
        gradients=LinearGradients(*call.buffers),
        accumulate=call.accumulate,
        share=None,
        teacher=t.layer(compute),
        teacher_x=t.rows(),
        maps=(s.map, t.map),
        divergence_scale=call.scale * factors[0],
        factors=factors,
        **more,
    )


def linear_divergence(
    operation: int,
    student: Side,
    teacher: Side,
    temperature: Any,
    mask: npt.ArrayLike | None,
    hard: Hard,
    memory_budget: Any,
    reduction: Any,
    return_grad: Any,
    return_entropy: Any,
    out: Any,
    options: Any,
    *,
    beta: float = 0.0,
    is_reversed: bool = False,
) -> Any:
    """Check, run and reduce a divergence of two layers, in chunks. If reversed, the kernel swaps the two."""
    memory_budget = budget(memory_budget)
    return_entropy = arguments.flag("return_entropy", return_entropy)
    s, t = _both(student, teacher, temperature)
    rows, classes = s.x.shape[:-1], len(s.weight)
    given, mask = arguments.given("hard_target", hard.target), arguments.given("mask", mask)
    counted = None if mask is None else arguments.mask("mask", mask, rows)
    share = arguments.number("hard_share", hard.share, low=0.0, high=1.0)
    call = request(
        StudentGradients._fields, s[:3], (*t[:3], mask, given), rows, reduction, return_grad, out, options,
        in_place=False,
    )  # fmt: skip
    target = _target(given, share, hard.ignore_index, (*rows, classes), counted)
    number = math.prod(rows) if counted is None else int(np.count_nonzero(counted))
    counts, count = (1.0, 1.0), 1.0
    if reduction == "mean":
        least = 0 if counted is None else 1
        counts = float(max(number, least)), float(max(target.number, least))
    elif reduction == "sum_and_count":
        count = _common_count(number, target)
    losses = np.zeros(math.prod(rows)) if reduction == "none" else None
    entropy = np.zeros(math.prod(rows)) if return_entropy else None
    with np.errstate(all="ignore"):
        total = _distillation(
            s, t, target, counted, call, counts, student, memory_budget=memory_budget, operation=operation,
            beta=beta, is_reversed=is_reversed, entropy=entropy, num_threads=options.get("num_threads"),
        ).run(losses)  # fmt: skip
    unreduced = None if losses is None else losses.reshape(rows)
    # The parts of a mean have been divided already.
    loss: Any = reduced(reduction, unreduced, math.nan if 0.0 in counts else total, count, s.x)
    results = [loss, StudentGradients(*call.buffers)] if call.return_grad else [loss]
    if entropy is not None:
        results.append(as_loss(entropy.reshape(rows), s.x))
    return tuple(results) if len(results) > 1 else loss
