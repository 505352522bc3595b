"""Draw results: bars and a roofline of a run of `python -m fastloss bench`. It needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .case import JAX, LIMIT, NUMPY, OURS, SKLEARN, TORCH
from .suites.bounds import CALLS, COMPUTE

__all__ = ["draw_bench"]

# Colours that the colour-blind can distinguish (Okabe and Ito).
COLOURS = {OURS: "#0072B2", NUMPY: "#E69F00", TORCH: "#D55E00", JAX: "#009E73", SKLEARN: "#CC79A7"}
LIMIT_COLOUR = "#404040"
SETTINGS: dict[str, Any] = {
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

Row = Mapping[str, Any]


def _median(row: Row, name: str) -> float:
    return float(row["contenders"][name]["median"])


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
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(7.5, 0.6 + sum(map(_height, rows)) + (3.6 if large else 0.0)))
        figure.set_layout_engine("constrained")
        heights = [*map(_height, rows), *([3.6] if large else [])]
        axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for ax, row in zip(axes, rows, strict=False):
            _bars(ax, row)
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
    return 0.62 + 0.17 * len(_shown(row))


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


def _bars(ax: Any, row: Row) -> None:
    """Draw the times of a row on a logarithmic axis: they differ by a factor of a hundred."""
    names = _shown(row)
    times = [1e3 * _median(row, name) for name in names]
    limit = 1e3 * _median(row, LIMIT) if LIMIT in row["contenders"] else None
    least = min([*times, *([] if limit is None else [limit])])
    ax.barh(names, times, color=[COLOURS[name] for name in names], height=0.75)
    ax.set_xscale("log")
    ax.set_xlim(0.5 * least, 1.6 * max(times))
    ax.invert_yaxis()
    for place, time in enumerate(times):
        ax.annotate(_milliseconds(time / 1e3), (time, place), (3, 0), textcoords="offset points", va="center")
    title = row["title"]
    if limit is not None:
        ax.axvline(limit, color=LIMIT_COLOUR, ls="--", lw=1.2)
        title += f" (dashed: memory limit, {_milliseconds(limit / 1e3)} ms)"
    ax.set_title(title)
    ax.set_xlabel("milliseconds, logarithmic", fontsize=8)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.tick_params(axis="y", length=0)


# --- the roofline ---


def _is_on_roofline(row: Row) -> bool:
    return row.get("moved", 0) >= LARGE and row["contenders"].keys() >= {OURS, LIMIT, COMPUTE, CALLS}


def _roofline(ax: Any, rows: Sequence[Row]) -> None:
    """Draw the memory that each loss moves in a second over its arithmetic for each byte.

    To the left of the ridge memory is the bound, to the right arithmetic.
    """
    arithmetic = [1e9 * (_median(row, COMPUTE) - _median(row, CALLS)) / row["moved"] for row in rows]
    reached = [1e-9 * row["moved"] / _median(row, OURS) for row in rows]
    bandwidth = max(1e-9 * row["moved"] / _median(row, LIMIT) for row in rows)
    ridge = 1.0 / bandwidth
    left, right = 0.4 * min(ridge, *arithmetic), 2.5 * max(ridge, *arithmetic)
    ax.plot([left, ridge, right], [bandwidth, bandwidth, 1.0 / right], color=LIMIT_COLOUR, lw=1.5)
    ax.annotate(f"memory: {bandwidth:.3g} GB/s", (left, bandwidth), (4, 4), textcoords="offset points")
    ax.annotate(
        "arithmetic",
        ((ridge * right) ** 0.5, (bandwidth / right) ** 0.5),
        (6, 6),
        textcoords="offset points",
    )
    ax.plot(arithmetic, reached, "o", color=COLOURS[OURS])
    for row, x, y in zip(rows, arithmetic, reached, strict=True):
        ax.annotate(f"{row['suite']}/{row['name']}", (x, y), (6, -10), textcoords="offset points", fontsize=8)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(left, right)
    ax.set_ylim(0.4 * min(*reached, 1.0 / right), 2.0 * max(*reached, bandwidth))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.grid(color="#E0E0E0")
    ax.set_title("Roofline: what fastloss reaches (dots) under the bounds of this machine (line)")
    ax.set_xlabel("arithmetic of a byte that is moved, ns (all threads, measured in cache)")
    ax.set_ylabel("moved, GB/s")
