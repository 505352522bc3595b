"""Draw results: a run of `python -m fastloss bench`, and growth. It needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from .bench import NAME as BENCH
from .case import COLUMNS, JAX, LIMIT, NUMPY, OURS, SKLEARN, TORCH
from .report import RESULTS
from .suites.bounds import CALLS, COMPUTE
from .suites.growth import IN_PLACE, NEW, UNALIGNED, threads_of
from .tables import newest

__all__ = ["draw_all", "draw_bench", "draw_growth"]

# Colours that the colour-blind can distinguish (Okabe and Ito).
COLOURS = {OURS: "#0072B2", NUMPY: "#E69F00", TORCH: "#D55E00", JAX: "#009E73", SKLEARN: "#CC79A7"}
LIMIT_COLOUR = "#404040"
SETTINGS: Any = {
    "svg.hashsalt": "fastloss",  # fixed names in the file: drawing again gives the same bytes
    "svg.fonttype": "none",  # text as text: half the bytes of outlines
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
}
# Rows that move at least so many bytes are limited by memory, not by a cache.
LARGE = 64e6
MARKERS = "osD^vP*Xh<>"

# Of the documentation, from the newest results of any processor.
FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"

Row = Mapping[str, Any]


def draw_all(results: Path = RESULTS, figures: Path = FIGURES) -> list[Path]:
    """Draw the pictures of the documentation for which there are results; return their paths."""
    drawn = []
    for name, draw in ((BENCH, draw_bench), ("growth", draw_growth)):
        runs = newest(name, None, results).values()
        if runs:
            drawn.append(figures / f"{name}.svg")
            draw(max(runs, key=lambda run: (run["date"], run["time"])), drawn[-1])
    return drawn


def _median(row: Row, name: str) -> float:
    return float(row["contenders"][name]["median"])


def _plain_ticks(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def save(figure: Any, path: Path) -> None:
    """Write the picture, in the format of the suffix; an SVG without the date."""
    is_svg = path.suffix == ".svg"
    figure.savefig(path, dpi=150, metadata={"Date": None, "Creator": None} if is_svg else None)


def draw_bench(run: Mapping[str, Any], path: Path) -> None:
    """Draw the bars of each row, with the limit of memory as a line, and the roofline."""
    import matplotlib
    from matplotlib.figure import Figure

    rows, on = run["rows"], run["machine"]
    large = [row for row in rows if _is_on_roofline(row)]
    heights = [*map(_height, rows), *([3.3] if large else [])]
    with matplotlib.rc_context(rc=SETTINGS):
        figure = Figure(figsize=(7.5, 0.5 + sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for ax, row in zip(axes, rows, strict=False):
            _bars(ax, row)
        axes[len(rows) - 1].set_xlabel("milliseconds, on logarithmic axes; dashed: the limit of memory")
        if large:
            _roofline(axes[-1], large)
        figure.suptitle(
            f"{on['processor']}, {on['cores']} cores, {on['threads']} threads, {on['instruction_set']}; "
            f"fastloss {on['versions']['fastloss']}; {run['date']}",
            fontsize=9,
        )
        save(figure, path)


# --- bars ---


def _shown(row: Row) -> list[str]:
    return [name for name in COLOURS if name in row["contenders"]]


def _height(row: Row) -> float:
    """Return the height of a row's bars in inches, with its title and axis."""
    return 0.5 + 0.16 * len(_shown(row))


def _bars(ax: Any, row: Row) -> None:
    """Draw the times of a row on a logarithmic axis: they differ by a factor of a hundred."""
    names = _shown(row)
    times = [1e3 * _median(row, name) for name in names]
    limits = [1e3 * _median(row, LIMIT)] if LIMIT in row["contenders"] else []
    ax.barh([COLUMNS[name] for name in names], times, color=[COLOURS[name] for name in names], height=0.75)
    ax.set_xscale("log")
    ax.set_xlim(0.5 * min(*times, *limits, max(times)), 1.6 * max(times))
    _plain_ticks(ax.xaxis)
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    for place, time in enumerate(times):
        ax.annotate(f"{time:.3g}", (time, place), (3, 0), textcoords="offset points", va="center")
    ax.set_title(row["title"])
    for limit in limits:
        ax.axvline(limit, color=LIMIT_COLOUR, ls="--", lw=1.2)
        ax.set_title(f"limit {limit:.3g}", loc="right", color=LIMIT_COLOUR)


# --- the roofline ---


def _is_on_roofline(row: Row) -> bool:
    is_bounded = row["contenders"].keys() >= {OURS, LIMIT, COMPUTE, CALLS}
    return bool(is_bounded and row.get("moved", 0) >= LARGE)


def _roofline(ax: Any, rows: Sequence[Row]) -> None:
    """Draw the memory that each loss moves in a second over its arithmetic for each byte.

    To the left of the ridge memory is the bound, to the right arithmetic.
    """
    arithmetic = [1e9 * (_median(row, COMPUTE) - _median(row, CALLS)) / row["moved"] for row in rows]
    reached = [1e-9 * row["moved"] / _median(row, OURS) for row in rows]
    bandwidth = max(1e-9 * row["moved"] / _median(row, LIMIT) for row in rows)
    ridge = 1.0 / bandwidth
    left, right = 0.5 * min(ridge, *arithmetic), 2.5 * max(ridge, *arithmetic)
    ax.plot([left, ridge, right], [bandwidth, bandwidth, 1.0 / right], color=LIMIT_COLOUR, lw=1.5)
    texts = ((left, bandwidth, f"memory, {bandwidth:.3g} GB/s"), (1.5 * ridge, bandwidth / 1.5, "arithmetic"))
    for x, y, text in texts:
        ax.annotate(text, (x, y), (6, 6), textcoords="offset points")
    for row, x, y, marker in zip(rows, arithmetic, reached, cycle(MARKERS), strict=False):
        ax.plot(x, y, marker, ls="", label=f"{row['suite']}/{row['name']}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(left, right)
    ax.set_ylim(0.5 * min(*reached, 1.0 / right), 2.0 * max(*reached, bandwidth))
    _plain_ticks(ax.xaxis)
    _plain_ticks(ax.yaxis)
    ax.grid(color="#E0E0E0")
    ax.legend(loc="lower left", fontsize=8, framealpha=0.9)
    ax.set_title("Roofline: what fastloss reaches, under the bounds of this machine")
    ax.set_xlabel("arithmetic for a byte that is moved, ns (all threads, measured in cache)")
    ax.set_ylabel("moved, GB/s")


# --- growth ---

# The lines: their names in the legend, colours, dashes and markers.
WAYS = {
    LIMIT: ("limit of memory", LIMIT_COLOUR, "--", "."),
    OURS: ("buffer kept (out=)", "#0072B2", "-", "o"),
    IN_PLACE: ("in place", "#009E73", "-", "s"),
    NEW: ("new array", "#D55E00", "-", "^"),
    UNALIGNED: ("unaligned", "#CC79A7", ":", "v"),
}
PANELS = {
    "rows": "rows of 1000 classes, cross_entropy",
    "classes": "classes, cross_entropy of 4,194,304 logits",
    "elements": "elements, mse_loss",
}
THREADED = {
    "long": "cross_entropy (512, 32000)",
    "short": "cross_entropy (419430, 10)",
    "mse": "mse_loss, 10,000,000",
}
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))


def draw_growth(run: Mapping[str, Any], path: Path) -> None:
    """Draw the time for an element as rows, classes, elements and threads grow: the least of the runs."""
    import matplotlib
    from matplotlib.figure import Figure

    on = run["machine"]
    with matplotlib.rc_context(rc=SETTINGS):
        figure = Figure(figsize=(7.5, 6.4), layout="constrained")
        axes = figure.subplots(2, 2)
        for ax, (kind, label) in zip(axes.flat, PANELS.items(), strict=False):
            _grown(ax, _rows_of(run, kind), label)
        _threads(axes[1, 1], _rows_of(run, "threads"))
        for ax in axes.flat:
            # Without results: of a run of some rows.
            ax.set_visible(bool(ax.lines))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        figure.supxlabel(
            f"{on['processor']}, {on['threads']} threads, {on['instruction_set']}; value and gradient, "
            f"float32; the least of {run['settings']['repeats']} runs; {run['date']}",
            fontsize=8,
        )
        save(figure, path)


def _rows_of(run: Mapping[str, Any], kind: str) -> list[Row]:
    return [row for row in run["rows"] if row["name"].startswith(f"{kind}-")]


def _nanoseconds(row: Row, name: str) -> float:
    return 1e9 * float(row["contenders"][name]["min"]) / math.prod(row["shape"])


def _grown(ax: Any, rows: Sequence[Row], label: str) -> None:
    """Draw a line for each way, over the number that ends the name of a row."""
    if not rows:
        return
    for name, (text, colour, dashes, marker) in WAYS.items():
        measured = [row for row in rows if name in row["contenders"]]
        x = [int(row["name"].rpartition("-")[2]) for row in measured]
        y = [_nanoseconds(row, name) for row in measured]
        ax.plot(x, y, color=colour, ls=dashes, marker=marker, ms=3.5, lw=1.2, label=text)
    ax.set_xscale("log")
    ax.set_yscale("log")
    _plain_ticks(ax.yaxis)
    ax.grid(color="#E0E0E0")
    ax.set_xlabel(label)
    ax.set_ylabel("ns for an element")


def _threads(ax: Any, rows: Sequence[Row]) -> None:
    """Draw how many times as fast each row is as on one thread."""
    if not rows:
        return
    most = 1
    for row, (colour, marker) in zip(rows, STYLES, strict=False):
        times = {threads_of(name): _nanoseconds(row, name) for name in row["contenders"]}
        text = THREADED[row["name"].partition("-")[2]]
        gains = [times[1] / time for time in times.values()]
        ax.plot([*times], gains, color=colour, marker=marker, label=text)
        most = max(most, *times)
    ax.plot([1, most], [1, most], color=LIMIT_COLOUR, ls="--", lw=1.2, label="as many times as threads")
    ax.set_xlim(0.9, most + 0.1)
    ax.set_ylim(0.8, most * 1.05)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.grid(color="#E0E0E0")
    ax.set_xlabel("threads")
    ax.set_ylabel("times as fast as one thread")
    ax.legend(fontsize=8, frameon=False, loc="upper left")
