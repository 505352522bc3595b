"""Make the tables of docs/benchmarks.md and README.md from the newest results.

The lines between `<!-- table: SUITE -->` and `<!-- end -->` are the tables of a suite: of the newest results
of each processor. `<!-- table: SUITE PROCESSOR -->` selects the newest file whose name ends in this
processor. The table "short" has three rows, of three suites, for each processor that has them all. The
table "bench" is that of `python -m fastloss bench`, from files whose name begins with "bench-".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .bench import NAME as BENCH
from .case import COLUMNS, JAX, LIMIT, OURS, TORCH, UNITS
from .report import PASS, RESULTS, UNKNOWN, slug_of
from .suites import SUITES

__all__ = ["FILES", "NOT_MEASURED", "newest", "rendered", "rewrite", "stale"]

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
NOT_MEASURED = "Not measured yet."
SHORT = "short"
SHORT_ROWS = (("softmax", "32k"), ("elementwise", "mse"), ("linear", "gradients"))
SHORT_COLUMNS = {LIMIT: LIMIT, OURS: f"**{OURS}**", TORCH: "PyTorch", JAX: "JAX"}
MARKED = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n).*?(<!-- end -->)", re.DOTALL)

Run = Mapping[str, Any]


def newest(suite: str, processor: str | None, folder: Path) -> dict[str, Run]:
    """Return the newest results of a suite by the name of the processor in files, or of one processor."""
    runs = [json.loads(path.read_text()) for path in folder.glob(f"{suite}-*-{processor or '*'}.json")]
    # "torch" is not the suite of "torch-something".
    runs = [run for run in runs if run["suite"] == suite]
    runs.sort(key=lambda run: (run["date"], run["time"]))
    found = {slug_of(run["machine"]["processor"]): run for run in runs}
    return dict(sorted(found.items()))


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


def _suite_tables(runs: Iterable[Run]) -> list[str]:
    """Return the tables of a suite, one below the other."""
    tables = [_suite_table(run) for run in runs]
    return [line for table in tables for line in ("", *table)][1:] or [NOT_MEASURED]


def _suite_table(run: Run) -> list[str]:
    rows = run["rows"]
    suite = SUITES.get(run["suite"])
    declared, derived = (suite.columns, suite.derived) if suite else (COLUMNS, {})
    # Without those of contenders that the run did not have.
    columns = {name: title for name, title in declared.items() if any(_cell(row, name) for row in rows)}
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


def _short_rows(processor: str | None, folder: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Return the three rows of each processor that has them all."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for suite, name in SHORT_ROWS:
        for run in newest(suite, processor, folder).values():
            on = run["machine"]["processor"]
            found.setdefault(on, []).extend(row for row in run["rows"] if row["name"] == name)
    whole = {on: rows for on, rows in found.items() if len(rows) == len(SHORT_ROWS)}
    return dict(sorted(whole.items()))


def _short_tables(processor: str | None, folder: Path) -> list[str]:
    lines: list[str] = []
    found = _short_rows(processor, folder)
    for on, rows in found.items():
        cells = ([_title(row, _unit(rows)), *(_cell(row, name) for name in SHORT_COLUMNS)] for row in rows)
        lines += [""] if lines else []
        lines += [f"{on}:", ""] if len(found) > 1 else []
        lines += _table(_unit(rows), list(SHORT_COLUMNS.values()), cells)
    return lines or [NOT_MEASURED]


def rendered(text: str, folder: Path = RESULTS) -> str:
    """Return the text with the tables of the results."""

    def table(match: re.Match[str]) -> str:
        before, suite, processor, after = match.groups()
        if suite == SHORT:
            lines = _short_tables(processor, folder)
        elif suite in (*SUITES, BENCH):
            lines = _suite_tables(newest(suite, processor, folder).values())
        else:
            raise ValueError(f"no suite is named {suite!r}; there are {', '.join([*SUITES, BENCH, SHORT])}")
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
