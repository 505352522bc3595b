"""Make the tables of docs/benchmarks.md and README.md from the newest results.

The lines between `<!-- table: SUITE -->` and `<!-- end -->` are the table of the newest results of a suite.
`<!-- table: SUITE PROCESSOR -->` selects the newest file whose name ends in this processor. The table
"short" has three rows, of three suites.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import JAX, LIMIT, OURS, TORCH, UNITS
from benchmarks.report import PASS, RESULTS, UNKNOWN
from benchmarks.suites import SUITES

__all__ = ["FILES", "NOT_MEASURED", "rendered", "rewrite", "stale"]

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
NOT_MEASURED = "Not measured yet."
SHORT = "short"
SHORT_ROWS = (("softmax", "32k"), ("elementwise", "mse"), ("linear", "gradients"))
SHORT_COLUMNS = {LIMIT: LIMIT, OURS: f"**{OURS}**", TORCH: "PyTorch", JAX: "JAX"}
MARKED = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)

Run = Mapping[str, Any]


def newest(suite: str, processor: str | None, folder: Path) -> Run | None:
    """Return the newest results of a suite, or None."""
    runs = [json.loads(path.read_text()) for path in folder.glob(f"{suite}-*-{processor or '*'}.json")]
    # "torch" is not the suite of "torch-something".
    runs = [run for run in runs if run["suite"] == suite]
    return max(runs, key=lambda run: (run["date"], run["time"]), default=None)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(corner: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line([corner, *columns]), "|---" * (len(columns) + 1) + "|", *map(_line, rows)]


def _cell(row: Mapping[str, Any], name: str) -> str:
    """Return a median; that of fastloss is bold."""
    if name in row["wrong"]:
        return "wrong"
    if name not in row["contenders"]:
        return ""
    text = UNITS[row["quantity"]].text(row["contenders"][name]["median"])
    return f"**{text}**" if name == OURS else text


def _unit(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the common unit of the rows, or an empty string if there are several."""
    names = {UNITS[row["quantity"]].name for row in rows}
    return names.pop() if len(names) == 1 else ""


def _title(row: Mapping[str, Any], unit: str) -> str:
    """Return the title of a row, with its unit if the table has several units."""
    title = str(row["title"])
    if row["is_small"]:
        title += f" at the small shape {tuple(row['shape'])}"
    return title if unit else f"{title} ({UNITS[row['quantity']].name})"


def _caption(run: Run) -> str:
    on = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in on["versions"].items())
    variables = ", ".join(f"{name}={value}" for name, value in on["environment"].items() if value is not None)
    threads = f"{on['threads']} thread" + ("s" if on["threads"] != 1 else "")
    return (
        f"{on['processor']}, {on['cores']} cores, {on['instruction_set']}, {threads}, {on['compiler']}; "
        f"{versions}; {variables or 'no variables set'}; {run['date']}."
    )


def _verdict_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the number of targets that were met, and each missed target."""
    verdicts = [(row["title"], v) for row in rows for v in row["verdicts"] if v["verdict"] != UNKNOWN]
    missed = [
        f"- {title}: {v['target']} ({v['verdict']}: {v['medians']:.3g})"
        for title, v in verdicts
        if v["verdict"] != PASS
    ]
    if not verdicts:
        return []
    others = ["", *missed] if missed else []
    return ["", f"Targets met: {len(verdicts) - len(missed)} of {len(verdicts)}.", *others]


def _suite_table(run: Run | None) -> list[str]:
    if run is None:
        return [NOT_MEASURED]
    suite, rows = SUITES[run["suite"]], run["rows"]
    columns, derived = suite.columns, suite.derived
    unit = _unit(rows)
    main = [row for row in rows if any(name in row["contenders"] for name in columns)]
    titles = [f"**{title}**" if name == OURS else title for name, title in columns.items()]
    titles += derived
    cells = (
        [
            _title(row, unit),
            *(_cell(row, name) for name in columns),
            *(text(row) for text in derived.values()),
        ]
        for row in main
    )
    variants = [
        (_title(row, unit), name, _cell(row, name))
        for row in rows
        for name in row["contenders"]
        if name not in columns
    ]
    under = ["", *_table("", ["variant", unit], variants)] if variants else []
    return [_caption(run), "", *_table(unit, titles, cells), *under, *_verdict_lines(rows)]


def _short_table(processor: str | None, folder: Path) -> list[str]:
    runs = {suite: newest(suite, processor, folder) for suite, _ in SHORT_ROWS}
    rows = [
        row
        for suite, name in SHORT_ROWS
        for row in (runs[suite] or {"rows": []})["rows"]
        if row["name"] == name
    ]
    if not rows:
        return [NOT_MEASURED]
    cells = ([_title(row, _unit(rows)), *(_cell(row, name) for name in SHORT_COLUMNS)] for row in rows)
    return _table(_unit(rows), list(SHORT_COLUMNS.values()), cells)


def rendered(text: str, folder: Path = RESULTS) -> str:
    """Return the text with the tables of the results."""

    def table(match: re.Match[str]) -> str:
        before, suite, processor, after = match.groups()
        if suite == SHORT:
            lines = _short_table(processor, folder)
        elif suite in SUITES:
            lines = _suite_table(newest(suite, processor, folder))
        else:
            raise ValueError(f"no suite is named {suite!r}; there are {', '.join([*SUITES, SHORT])}")
        return "\n".join([before.rstrip(), *lines, after])

    return MARKED.sub(table, text)


def stale() -> list[Path]:
    """Return the files whose tables differ from the results."""
    return [path for path in FILES if path.exists() and rendered(path.read_text()) != path.read_text()]


def rewrite() -> list[Path]:
    """Rewrite the tables; return the changed files."""
    changed = stale()
    for path in changed:
        path.write_text(rendered(path.read_text()))
    return changed
