"""Curves of known kind, and how often `LossCurve.diagnose` misses the kind or finds what is not there.

``python tests/curves.py`` counts on all seeds and writes the table of docs/reading-a-loss.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fastloss

Floats = npt.NDArray[np.float64]
Random = np.random.Generator

PAGE = Path(__file__).parents[1] / "docs" / "reading-a-loss.md"
MARKS = ("<!-- curves: made by tests/curves.py -->", "<!-- end of curves -->")
NOISES = (0.005, 0.01, 0.03, 0.1)
SEEDS = 50


@dataclass(frozen=True)
class Curve:
    """A curve without noise and what it shows. `asked` are kinds of which one must be found."""

    train: Floats
    asked: tuple[str, ...]
    validation: Floats | None = None
    every: int = 1
    best_step: float | None = None
    unigram: float | None = None
    range_: float | None = None  # what the noise is a share of; by default the range of the losses
    noise: float = 0.0  # beside that of the level, in ranges
    clean: bool = False


def base(rng: Random, n: int, shape: str | None = None) -> Floats:
    """A loss that falls by a power law or an exponential, between levels as they come."""
    top = float(np.exp(rng.uniform(math.log(0.5), math.log(12.0))))
    floor = top * rng.uniform(0.0, 0.6)
    if rng.random() < 0.1:  # log-likelihoods may be negative
        floor, top = floor - top, 0.0
    t = np.arange(1, n + 1)
    if (shape or rng.choice(["power", "exponential"])) == "power":
        c = rng.choice([0.0, rng.uniform(0.0, 0.1) * n])
        falling = ((t + c) / (1 + c)) ** -rng.uniform(0.15, 0.6)
    else:
        falling = np.exp(-t / (rng.uniform(0.15, 0.5) * n))
    return floor + (top - floor) * falling


def power_law(rng: Random, n: int) -> Curve:
    return Curve(base(rng, n, "power"), ("falling",), clean=True)


def with_validation(rng: Random, n: int) -> Curve:
    train = base(rng, n, "power")
    gap = rng.uniform(0.0, 0.1) * (train[0] - train)
    return Curve(train, ("falling",), train + gap, every=every(rng, n), clean=True)


def every(rng: Random, n: int) -> int:
    return int(rng.choice([1, max(n // 100, 1), max(n // 30, 1)]))


def exponential(rng: Random, n: int) -> Curve:
    t = np.arange(n)
    floor, height = rng.uniform(0.0, 4.0), rng.uniform(0.5, 8.0)
    return Curve(floor + height * np.exp(-t / (n * rng.uniform(0.02, 0.12))), ("plateau",), clean=True)


def early_plateau(rng: Random, n: int) -> Curve:
    floor, height, end = rng.uniform(1.0, 8.0), rng.uniform(0.5, 6.0), rng.uniform(0.03, 0.25) * n
    t = np.arange(n)
    fall = np.clip(1.0 - t / end, 0.0, 1.0) ** rng.uniform(1.0, 2.0)
    return Curve(floor + height * fall, ("plateau",), clean=True)


def clean_shapes(rng: Random, n: int) -> Curve:
    """Schedules and tasks that bend a curve: none of it is wrong."""
    t, train = np.linspace(0, 1, n), base(rng, n)
    range_ = float(np.ptp(train))
    shape = rng.integers(6)
    if shape == 0:  # drops of the learning rate
        for at in rng.uniform(0.2, 0.9, rng.integers(1, 4)):
            train = train - 0.1 * range_ * (1 - np.exp(-np.maximum(t - at, 0) * 100))
    elif shape == 1:  # a cosine's tail
        train = train - 0.15 * range_ * (1 - np.cos(np.pi * t)) / 2
    elif shape == 2:  # a cyclic learning rate, or the order of the data
        train = train + rng.uniform(0.01, 0.04) * range_ * np.sin(2 * np.pi * t * rng.uniform(4, 20))
    elif shape == 3:  # warm-up: the loss rises before it falls
        early = t / 0.005
        train = train + rng.uniform(0.05, 0.3) * range_ * early * np.exp(1.0 - early)
    elif shape == 4:  # the training interpolates
        train = (train.max() - train.min()) * np.exp(-t * rng.uniform(5, 15)) + 1e-4
    else:  # dropout: the validation loss is a little lower
        low = train - rng.uniform(0.0, 0.02) * range_
        return Curve(train, ("falling", "plateau"), low, every=every(rng, n), clean=True)
    return Curve(train, ("falling", "plateau"), clean=True)


def slow_divergence(rng: Random, n: int) -> Curve:
    train, t = base(rng, n), np.linspace(0, 1, n)
    start = rng.uniform(0.3, 0.7)
    rise = np.maximum((t - start) / (1 - start), 0.0) ** rng.uniform(1.0, 2.0)
    return Curve(train + rng.uniform(0.4, 1.5) * np.ptp(train) * rise, ("divergence",))


def sudden_divergence(rng: Random, n: int) -> Curve:
    train, t = base(rng, n), np.arange(n)
    start = int(rng.uniform(0.3, 0.9) * n)
    height, rise = rng.uniform(0.5, 2.0) * np.ptp(train), np.ones(n)
    if rng.random() < 0.5:
        rise = 1 - np.exp(-np.maximum(t - start, 0) / max(0.01 * n, 1.0))
    return Curve(np.where(t >= start, train + height * rise, train), ("divergence",))


def not_a_number(rng: Random, n: int, value: float = math.nan) -> Curve:
    train = base(rng, n)
    start = int(rng.uniform(0.2, 0.98) * n)
    train[start : start + 1 if rng.random() < 0.3 else n] = value
    return Curve(train, ("non_finite",))


def spikes(rng: Random, n: int) -> Curve:
    train = base(rng, n)
    range_ = float(np.ptp(train))
    lengths = max(int(n * rng.uniform(0.0, 0.01)), 1)
    for at in rng.uniform(0.1, 0.9, rng.integers(1, 4)):
        t = np.arange(n) - int(at * n)
        shape = np.exp(-np.maximum(t, 0) / lengths) if rng.random() < 0.5 else t < lengths
        train = train + np.where(t >= 0, shape, 0.0) * range_ * rng.uniform(0.7, 2.0)
    return Curve(train, ("spike",), range_=range_)


def overfitting(rng: Random, n: int) -> Curve:
    train, t = base(rng, n), np.linspace(0, 1, n)
    range_ = float(np.ptp(train))
    start, size = rng.uniform(0.2, 0.6), rng.uniform(0.4, 1.0) * range_
    power = rng.uniform(1.0, 2.0)
    validation = train + 0.03 * range_ + size * np.maximum((t - start) / (1 - start), 0.0) ** power
    step = float(np.argmin(validation[n // 20 :]) + n // 20)
    return Curve(train, ("overfitting",), validation, every=every(rng, n), best_step=step)


def noise(rng: Random, n: int) -> Curve:
    progress = rng.uniform(0.0, 0.6)
    train = rng.uniform(0.5, 8.0) + progress * base(rng, n) / 12.0
    range_ = float(max(np.ptp(train), 0.05))
    return Curve(train, ("noise",), range_=range_, noise=rng.uniform(1.5, 5.0))


def leak(rng: Random, n: int) -> Curve:
    train, t = base(rng, n), np.linspace(0, 1, n)
    start = rng.choice([0.0, rng.uniform(0.1, 0.6)])
    gap = rng.uniform(0.15, 0.5) * np.ptp(train) * np.clip((t - start) * 20, 0.0, 1.0)
    return Curve(train, ("leak",), train - gap, every=every(rng, n))


def underfitting(rng: Random, n: int) -> Curve:
    train = np.abs(base(rng, n)) + 0.5
    train = np.maximum.accumulate(train[::-1])[::-1]
    return Curve(train, ("underfitting",), unigram=float(train[-1]) * rng.uniform(0.85, 1.03))


KINDS: dict[str, Callable[[Random, int], Curve]] = {
    "power law": power_law,
    "power law, with validation": with_validation,
    "exponential with plateau": exponential,
    "plateau early": early_plateau,
    "schedules, wiggles, warm-up": clean_shapes,
    "divergence, slow": slow_divergence,
    "divergence, sudden": sudden_divergence,
    "NaN": not_a_number,
    "infinity": partial(not_a_number, value=math.inf),
    "spikes": spikes,
    "overfitting": overfitting,
    "noise": noise,
    "leak": leak,
    "underfitting": underfitting,
}


def noisy(curve: Curve, rng: Random, level: float, multiplicative: bool) -> fastloss.LossCurve:
    """The curve as it is logged: with noise, and with the validation loss at every k-th step."""
    finite = curve.train[np.isfinite(curve.train)]
    range_ = curve.range_ or float(np.ptp(finite))
    scale = (level + curve.noise) * range_
    n = len(curve.train)

    def measured(losses: Floats) -> Floats:
        size = np.where(np.isfinite(losses), np.abs(losses), 0.0)
        own = size * level if multiplicative and not curve.noise else scale
        with_noise = np.where(np.isfinite(losses), losses, 0.0) + own * rng.normal(size=n)
        return np.where(np.isfinite(losses), with_noise, losses)

    steps = np.arange(1, n + 1)
    train = measured(curve.train)
    if curve.validation is None:
        return fastloss.LossCurve.from_arrays(steps, train=train, unigram=curve.unigram)
    validation = measured(curve.validation)
    given = [v if i % curve.every == 0 else None for i, v in enumerate(validation.tolist())]
    return fastloss.LossCurve.from_arrays(steps, train=train, validation=given, unigram=curve.unigram)


@dataclass
class Count:
    """What was counted for a kind at a level of noise."""

    curves: int = 0
    missed: int = 0
    false_alarms: int = 0
    far: int = 0

    def __add__(self, other: Count) -> Count:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Count(*(a + b for a, b in pairs))


def judged(curve: Curve, findings: list[fastloss.Finding]) -> Count:
    """Whether the asked kind is missed, a clean curve has another, or the best step is far away."""
    kinds = {finding.kind for finding in findings}
    is_missed = not kinds & set(curve.asked)
    far = False
    if curve.best_step is not None and not is_missed:
        found = next(f for f in findings if f.kind == "overfitting")
        far = abs(found.evidence["best_step"] - 1 - curve.best_step) > 0.05 * len(curve.train)
    return Count(1, is_missed, curve.clean and bool(kinds - set(curve.asked)), far)


def counted(kind: str, level: float, seeds: Iterable[int]) -> Count:
    """Count over seeds; noise is additive for even seeds, multiplicative for odd ones."""
    total = Count()
    for seed in seeds:
        rng = np.random.default_rng([seed, int(1000 * level), *kind.encode()])
        n = int(np.exp(rng.uniform(math.log(100), math.log(5000))))
        curve = KINDS[kind](rng, n)
        findings = noisy(curve, rng, level, multiplicative=seed % 2 == 1).diagnose()
        total += judged(curve, findings)
    return total


def table(counts: dict[tuple[str, float], Count]) -> str:
    """The table of the documentation, from the counts of each kind and level."""
    heads = [f"{100 * level:g} %" for level in NOISES]
    rows = [f"| curve | {' | '.join(heads)} |", "|---|" + "---:|" * len(NOISES)]
    clean = {kind for kind, make in KINDS.items() if make(np.random.default_rng(0), 200).clean}
    for kind in KINDS:
        cells = []
        for level in NOISES:
            count = counts[kind, level]
            cells.append(str(count.missed) + (f", {count.false_alarms}" if kind in clean else ""))
        rows.append(f"| {kind} | {' | '.join(cells)} |")
    far = [str(counts["overfitting", level].far) for level in NOISES]
    rows.append(f"| best step of overfitting farther than 5 % | {' | '.join(far)} |")
    every = [sum((counts[kind, level] for kind in clean), Count()) for level in NOISES]
    alarms = [f"{100 * count.false_alarms / count.curves:.1f} %" for count in every]
    rows.append(f"| false alarms of clean curves | {' | '.join(alarms)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    found = {(kind, level): counted(kind, level, range(SEEDS)) for kind in KINDS for level in NOISES}
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{before}{MARKS[0]}\n\n{table(found)}\n\n{MARKS[1]}{after}", encoding="utf-8")
