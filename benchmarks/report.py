"""The report of a run: the machine, the figures and the verdicts, as text and as JSON.

A target is compared with two ratios: of the medians, and the median of the ratios within one repeat. Both
must meet it to pass; if they disagree, the machine was too busy for a verdict ("restless"). Small shapes
have no verdicts.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastloss
from fastloss import _kernels

from .case import BEST_PEER, LIMIT, OURS, Target
from .contenders import moved_by
from .runner import Result

__all__ = [
    "FAIL",
    "PASS",
    "RESTLESS",
    "RESULTS",
    "UNKNOWN",
    "Verdict",
    "as_json",
    "machine",
    "print_machine",
    "print_result",
    "text_of",
    "verdicts_of",
    "write_json",
]

RESULTS = Path(__file__).resolve().parent / "results"
PASS, FAIL, RESTLESS, UNKNOWN = "pass", "FAIL", "restless", "not measured"
PACKAGES = (
    "numpy", "torch", "jax", "scikit-learn", "lightgbm", "xgboost", "ml_dtypes", "trl", "liger-kernel",
)  # fmt: skip
# The variables that determine how long idle threads spin, and their number.
VARIABLES = (
    "OMP_WAIT_POLICY",
    "OPENBLAS_THREAD_TIMEOUT",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "FASTLOSS_NUM_THREADS",
    "FASTLOSS_ISA",
)


# --- targets ---


@dataclass(frozen=True)
class Verdict:
    """A target as measured: by the medians, and within the repeats (None: not measured)."""

    target: str
    medians: float | None
    within: float | None
    verdict: str


def _bound_verdict(result: Result, target: Target) -> Verdict:
    unit = {"seconds": " seconds", "share": " x the logits", "bytes": " bytes"}.get(result.case.quantity, "")
    figures = result.figures.get(target.of)
    if figures is None:
        return Verdict(f"{target}{unit}", None, None, UNKNOWN)
    met = PASS if target.is_met(figures.median) else FAIL
    return Verdict(f"{target}{unit}", figures.median, None, met)


def _ratio_verdict(result: Result, target: Target, against: str) -> Verdict:
    text = str(target)
    if against == BEST_PEER:
        against = result.fastest_peer() or BEST_PEER
        text = f"{target} ({against})"
    ratios = result.ratios(target.of, against)
    if ratios is None:
        return Verdict(text, None, None, UNKNOWN)
    medians, within = map(target.ratio, ratios)
    met = [target.is_met(ratio) for ratio in (medians, within)]
    return Verdict(text, medians, within, PASS if all(met) else RESTLESS if any(met) else FAIL)


def _verdict(result: Result, target: Target) -> Verdict:
    if target.against is None:
        found = _bound_verdict(result, target)
    else:
        found = _ratio_verdict(result, target, target.against)
    if result.shape != result.case.shape:
        return Verdict(found.target, found.medians, found.within, UNKNOWN)
    return found


def verdicts_of(result: Result) -> list[Verdict]:
    """Return a verdict for each target of the row."""
    return [_verdict(result, target) for target in result.case.targets]


# --- the machine ---

NUMBERS = {"family": "cpu family", "model": "model"}


def _processor() -> str:
    """Return the name of the processor, with family and model, as a virtual machine may hide the number."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        found: dict[str, str] = dict(re.findall(r"^(.*?)\s*: (.*)$", text, re.MULTILINE))
        if "model name" in found:
            numbers = [f"{what} {found[key]}" for what, key in NUMBERS.items() if key in found]
            return found["model name"].strip() + (f" ({', '.join(numbers)})" if numbers else "")
    return platform.processor() or platform.machine()


def _instruction_set() -> str:
    """Return the kernels in use, which takes setting others and setting them back."""
    level = _kernels.use_level(_kernels.BUILT_LEVELS[0])
    _kernels.use_level(level)
    return str(_kernels.LEVELS[level])


def _versions() -> dict[str, str]:
    found = {"fastloss": fastloss.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> dict[str, Any]:
    """Return everything besides the code that a figure depends on."""
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "instruction_set": _instruction_set(),
        "compiler": _kernels.COMPILER,
        "memory_moved_by": moved_by(),
        "system": platform.platform(),
        "threads": fastloss.get_num_threads(),
        "versions": _versions(),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }
    with suppress(OSError):
        pages = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        found["huge_pages"] = pages.split("[")[1].split("]")[0]
    with suppress(OSError, AttributeError):
        found["load_before"] = [round(load, 2) for load in os.getloadavg()]
    return found


def print_machine(found: Mapping[str, Any]) -> None:
    """Print the machine, one property on each line."""
    for what, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" for name, text in value.items() if text is not None)
        print(f"{what:16} {value}")


def slug_of(processor: str) -> str:
    """Return a processor's name for the name of a file."""
    plain = re.sub(r"\(.*?\)|\b(cpu|processor|\d+-core)\b|@.*", " ", processor.lower())
    return "-".join(re.findall(r"[a-z0-9]+", plain)) or "unknown"


# --- text ---


def _ratio_text(ratios: tuple[float, float] | None) -> str:
    return "" if ratios is None else f"{ratios[0]:.3g} ({ratios[1]:.3g})"


def _print_verdict(verdict: Verdict) -> None:
    figures = "" if verdict.medians is None else f"{verdict.medians:.3g}"
    if verdict.within is not None:
        figures += f" ({verdict.within:.3g})"
    print(f"  {verdict.verdict:12}  {verdict.target}: {figures}")


def print_result(result: Result) -> None:
    """Print a row: the figures, the contenders without figures, the verdicts."""
    case, unit = result.case, result.case.unit
    print(f"\n{case.name}: {case.title}")
    if result.shape != case.shape:
        print(f"  at the small shape {result.shape}: the figures mean nothing")
    print(f"  {unit.name:24}{'median':>9}{'least':>9}{'runs':>6}   over limit       over fastloss")
    for name, figures in result.figures.items():
        over_limit, over_ours = (_ratio_text(result.ratios(name, of)) for of in (LIMIT, OURS))
        print(
            f"  {name:24}{unit.text(figures.median):>9}{unit.text(figures.least):>9}"
            f"{len(figures.values):>6}   {over_limit:16} {over_ours}"
        )
    for kind, reasons in (("-", result.missing), ("WRONG", result.wrong)):
        for name, reason in reasons.items():
            print(f"  {name:24}{kind:>9}  {reason}")
    for note in result.notes:
        print(f"  {note}")
    for verdict in verdicts_of(result):
        _print_verdict(verdict)
    sys.stdout.flush()


# --- JSON ---


def _row(result: Result) -> dict[str, Any]:
    contenders = {
        name: {
            "runs": len(figures.values),
            "min": figures.least,
            "median": figures.median,
            "quartiles": figures.quartiles,
            "to_limit": result.ratios(name, LIMIT),
            "to_fastloss": result.ratios(name, OURS),
            "values": list(figures.values.values()),
        }
        for name, figures in result.figures.items()
    }
    found = {
        "suite": result.case.suite,
        "name": result.case.name,
        "title": result.case.title,
        "shape": result.shape,
        "is_small": result.shape != result.case.shape,
        "quantity": result.case.quantity,
        "contenders": contenders,
        "missing": result.missing,
        "wrong": result.wrong,
        "notes": result.notes,
        "verdicts": [vars(verdict) for verdict in verdicts_of(result)],
    }
    return found if result.moved is None else {**found, "moved": result.moved}


def as_json(suite: str, results: Sequence[Result], on: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """Return a run of a suite, or of rows of several suites, in its JSON form."""
    now = datetime.now(UTC)
    return {
        "suite": suite,
        "date": f"{now:%Y-%m-%d}",
        "time": f"{now:%H:%M:%S}Z",
        "machine": dict(on),
        "settings": dict(settings),
        "rows": [_row(result) for result in results],
    }


def write_json(run: Mapping[str, Any], folder: Path) -> Path:
    """Write a run to a file named after suite, date and processor."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run['suite']}-{run['date']}-{slug_of(run['machine']['processor'])}.json"
    path.write_text(text_of(run))
    return path


def text_of(run: Mapping[str, Any]) -> str:
    """Return the text of a run's file."""
    return json.dumps(run, indent=1) + "\n"
