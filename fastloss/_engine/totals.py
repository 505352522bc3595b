"""Exact totals of the losses of tokens, of a corpus and of its documents.

Losses are added as integers, in units of the smallest float64. So the order of the additions does not matter,
and a total has the same bits however the losses were cut up.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count, starmap
from typing import Any

import numpy as np
import numpy.typing as npt

from fastloss._engine import arguments
from fastloss._engine.types import Array

__all__ = [
    "Key",
    "Totals",
    "documents_of",
    "joined",
    "state_of",
    "totals_of",
    "totals_of_groups",
    "totals_of_state",
]

# What a document is called.
Key = int | str
# Every finite float64 is a whole number of these.
_UNIT_EXPONENT = -1074
# So many bits of each loss are added at once. The sums of 2**27 rows are below 2**53, and exact in float64.
_LIMB = 26
_ROWS = 1 << 27
# Up to so many losses are added one by one: arrays cost more. (Of 8 losses 2.6 us instead of 17, of 48 14.)
_FEW = 48


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the losses of some tokens; read only.

    `total` is the exact sum of the finite losses, in units of 2**-1074. `tokens` is the number of tokens that
    count; the losses of `infinite` of them are infinite, and those of `nan` are NaN.
    """

    total: int = 0
    tokens: int = 0
    infinite: int = 0
    nan: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.total + other.total,
            self.tokens + other.tokens,
            self.infinite + other.infinite,
            self.nan + other.nan,
        )

    @property
    def mean_loss(self) -> float:
        """The mean cross-entropy in nats; NaN without tokens."""
        if self.tokens == 0 or self.nan:
            return math.nan
        if self.infinite:
            return math.inf
        # Integers of any size are divided with one rounding.
        return self.total / (self.tokens << -_UNIT_EXPONENT)

    @property
    def bits_per_token(self) -> float:
        """The mean cross-entropy in bits; NaN without tokens."""
        return self.mean_loss / math.log(2.0)

    @property
    def perplexity(self) -> float:
        """The exponential of the mean; NaN without tokens, infinity if it is too large for float64."""
        try:
            return math.exp(self.mean_loss)
        except OverflowError:
            return math.inf

    def __str__(self) -> str:
        text = f"{self.perplexity:.6g} over {_counted(self.tokens, 'token')}"
        if self.infinite:
            text += f", {_counted(self.infinite, 'infinite loss', 'infinite losses')}"
        return text + (f", {_counted(self.nan, 'loss of NaN', 'losses of NaN')}" if self.nan else "")

    def __repr__(self) -> str:
        return f"Totals({self})"


def _counted(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"


# --- sums ---


def _exact_sums(values: npt.NDArray[np.float64], groups: Array | None, number: int) -> list[int]:
    """Return the sum of numbers in each group, without rounding, in units of 2**-1074.

    The numbers are finite and not negative. They are split into limbs, the highest
    first: multiples of a power of two, of 26 bits at most.
    """
    totals = [0] * number
    if values.size <= _FEW:
        where = [0] * values.size if groups is None else groups.tolist()
        for group, value in zip(where, values.tolist(), strict=True):
            numerator, denominator = value.as_integer_ratio()  # the latter a power of two
            totals[group] += numerator << (1 - _UNIT_EXPONENT - denominator.bit_length())
        return totals
    for start in range(0, values.size, _ROWS):
        rest = values[start : start + _ROWS].copy()
        piece = None if groups is None else groups[start : start + _ROWS]
        while largest := float(rest.max()):
            exponent = max(math.frexp(largest)[1] - _LIMB, _UNIT_EXPONENT)
            limbs = np.floor(np.ldexp(rest, -exponent))
            rest -= np.ldexp(limbs, exponent)
            if piece is None:
                sums = [float(limbs.sum())]
            else:
                sums = np.bincount(piece, weights=limbs, minlength=number).tolist()
            shift = exponent - _UNIT_EXPONENT
            for group, found in enumerate(sums):
                if found:
                    totals[group] += int(found) << shift
    return totals


def totals_of(losses: npt.NDArray[np.float64], tokens: int) -> Totals:
    """Return the totals of the losses of rows, which are 0 in rows that do not count."""
    finite = np.isfinite(losses)
    if finite.all():
        return Totals(_exact_sums(losses.ravel(), None, 1)[0], tokens)
    nan = int(np.isnan(losses).sum())
    infinite = losses.size - int(finite.sum()) - nan
    return Totals(_exact_sums(losses[finite], None, 1)[0], tokens, infinite, nan)


def joined(parts: Iterable[Totals]) -> Totals:
    """Return the totals of all parts together."""
    values = [(one.total, one.tokens, one.infinite, one.nan) for one in parts]
    return Totals(*map(sum, zip(*values, strict=True))) if values else Totals()


def totals_of_groups(
    losses: npt.NDArray[np.float64], counted: npt.NDArray[np.bool_], groups: Array, number: int
) -> list[Totals]:
    """Return the totals of each group of rows."""
    losses = losses.ravel()
    tokens = np.bincount(groups if counted.all() else groups[counted.ravel()], minlength=number).tolist()
    finite = np.isfinite(losses)
    if finite.all():
        pairs = zip(_exact_sums(losses, groups, number), tokens, strict=True)
        return list(starmap(Totals, pairs))
    is_nan = np.isnan(losses)
    nan = np.bincount(groups[is_nan], minlength=number).tolist()
    infinite = np.bincount(groups[~(finite | is_nan)], minlength=number).tolist()
    return list(map(Totals, _exact_sums(losses[finite], groups[finite], number), tokens, infinite, nan))


# --- documents ---


def _keys(by: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return the documents' keys as an array of integers, of strings, or of Python objects of either type."""
    dtype = getattr(by, "dtype", None)
    # NumPy would make strings of the integers in a list that holds both types.
    if isinstance(by, (list, tuple, str)) or getattr(dtype, "kind", "") in ("O", "T"):
        keys = np.asarray(by, dtype=object)
        kinds = set(map(type, keys.ravel().tolist()))
    else:
        keys = arguments.as_array("by", by)
        kinds = {keys.dtype.type}
    for kind in kinds:
        if issubclass(kind, bool) or not issubclass(kind, (int, str, np.integer)):
            raise TypeError(f"by must hold integers or strings, got {kind.__name__}")
    if keys.shape != shape[: keys.ndim]:
        raise ValueError(
            f"by must have the shape of target, {shape}, or of its leading axes; got {keys.shape}"
        )
    return keys


def documents_of(by: npt.ArrayLike, shape: tuple[int, ...]) -> tuple[list[Key], Array]:
    """Return the keys of the documents of a batch, and the number of the document of each row.

    `shape` is that of the target; `by` has a key for each row, or for each entry of some leading axes.
    """
    keys = _keys(by, shape)
    flat = keys.ravel()
    if not flat.size:
        return [], np.empty(0, np.int64)
    # The rows of a document mostly stand together: a key is looked up once for each run of it.
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    numbers: defaultdict[Any, int] = defaultdict(count().__next__)
    runs = np.fromiter(map(numbers.__getitem__, flat[starts].tolist()), np.int64, starts.size)
    lengths = np.diff(starts, append=flat.size) * math.prod(shape[keys.ndim :])
    return [str(key) if isinstance(key, str) else int(key) for key in numbers], np.repeat(runs, lengths)


# --- checkpoints ---

_VERSION = 1
_NAMES = ("total", "tokens", "infinite", "nan")
_STATE = ("version", "ignore_index", *_NAMES, "documents")
# The sum of the losses: an odd integer in hexadecimal digits, and the power of two it is multiplied by.
_SUM = re.compile(r"0x([0-9a-f]{1,600})p([+-]\d{1,4})")


def _written(total: int) -> str:
    """Return a sum as text; decimal digits of an integer would be many more."""
    zeros = (total & -total).bit_length() - 1 if total else -_UNIT_EXPONENT
    return f"{total >> zeros:#x}p{zeros + _UNIT_EXPONENT:+d}"


def _read(name: str, value: Any) -> int:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string such as '0x3p-4', got {value!r}")
    match = _SUM.fullmatch(value)
    if match is None or int(match[2]) < _UNIT_EXPONENT:
        raise ValueError(
            f"{name} must be a string such as '0x3p-4', a sum that is not negative; got {value!r}"
        )
    return int(match[1], 16) << (int(match[2]) - _UNIT_EXPONENT)


def _totals(where: str, values: Any) -> Totals:
    """Return the totals that stand for four values of a state."""
    total = _read(f"{where}total", values[0])
    counts = []
    for name, value in zip(_NAMES[1:], values[1:], strict=True):
        counts.append(arguments.index(f"{where}{name}", value))
        if counts[-1] < 0:
            raise ValueError(f"{where}{name} must be at least 0, got {value}")
    tokens, infinite, nan = counts
    if infinite + nan > tokens:
        raise ValueError(
            f"{where}infinite and nan must be at most {tokens} tokens together, got {infinite} and {nan}"
        )
    return Totals(total, *counts)


def _values(totals: Totals) -> list[Any]:
    return [_written(totals.total), totals.tokens, totals.infinite, totals.nan]


def state_of(ignore_index: int, whole: Totals, documents: Mapping[Key, Totals]) -> dict[str, Any]:
    """Return a checkpoint: numbers, strings and lists; the same however the corpus was cut up."""
    keys = sorted(documents, key=lambda key: (isinstance(key, str), key))
    entries = [[key, *_values(documents[key])] for key in keys]
    values = zip(_NAMES, _values(whole), strict=True)
    return {"version": _VERSION, "ignore_index": ignore_index, **dict(values), "documents": entries}


def _documents(entries: Any) -> dict[Key, Totals]:
    if not isinstance(entries, (list, tuple)):
        raise TypeError(f"state['documents'] must be a list, got {type(entries).__name__}")
    found: dict[Key, Totals] = {}
    for i, entry in enumerate(entries):
        where = f"state['documents'][{i}]"
        if not isinstance(entry, (list, tuple)):
            raise TypeError(f"{where} must be a list, got {type(entry).__name__}")
        if len(entry) != 1 + len(_NAMES):
            raise ValueError(f"{where} must hold a key and {', '.join(_NAMES)}; got {len(entry)} values")
        key = entry[0]
        if type(key) not in (int, str):
            raise TypeError(f"the key of {where} must be an integer or a string, got {key!r}")
        if key in found:
            raise ValueError(f"state['documents'] must have each key once, got {key!r} twice")
        found[key] = _totals(f"{where}: ", entry[1:])
    return found


def totals_of_state(state: Any) -> tuple[int, Totals, dict[Key, Totals]]:
    """Return what `state_of` was given."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a dictionary, got {type(state).__name__}")
    missing, unknown = set(_STATE) - set(state), [key for key in state if key not in _STATE]
    if missing or unknown:
        raise ValueError(
            f"state must have the keys {', '.join(_STATE)}; missing {sorted(missing)}, unknown {unknown}"
        )
    version = arguments.index("state['version']", state["version"])
    if version != _VERSION:
        raise ValueError(f"state must be of version {_VERSION}, got version {version}")
    ignore_index = arguments.index("state['ignore_index']", state["ignore_index"])
    whole = _totals("state: ", [state[name] for name in _NAMES])
    documents = _documents(state["documents"])
    parts = joined(documents.values())
    for name in _NAMES:
        if getattr(parts, name) > getattr(whole, name):
            raise ValueError(f"state: the {name} of the documents must be at most that of the whole")
    return ignore_index, whole, documents
