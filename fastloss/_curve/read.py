"""Logs of training: CSV with a header, JSON lines, and the state of a Hugging Face Trainer."""

from __future__ import annotations

import csv
import json
from os import PathLike
from pathlib import Path
from typing import Any

__all__ = ["Rows", "read"]

# The names of each column, the preferred one first. A Trainer's `train_loss` is the mean of the whole run, in
# its last row: `loss` goes before it.
_STEP = ("step", "global_step")
_TRAIN = ("train", "loss", "train_loss")
_VALIDATION = ("validation", "eval_loss", "val_loss", "validation_loss")

Rows = tuple[list[float], list[float | None], list[float | None]]


def read(path: str | PathLike[str]) -> Rows:
    """Return steps, training losses and validation losses of a log; None where a row has no measurement."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from None
    start = text.lstrip()[:1]
    records = _json(text, path) if start in ("{", "[") else _csv(text, path)
    names = list(dict.fromkeys(name for _, record in records for name in record))
    step = _column(_STEP, names, records)
    train, validation = _column(_TRAIN, names, records), _column(_VALIDATION, names, records)
    if step is None or (train is None and validation is None):
        missing = "steps (a column `step`)" if step is None else "losses (a column `train` or `validation`)"
        raise ValueError(f"{path} has no {missing}; its columns are {', '.join(map(repr, names)) or 'none'}")
    rows: Rows = ([], [], [])
    for place, record in records:
        losses = [_number(record.get(name or ""), name, place, path) for name in (train, validation)]
        if losses == [None, None]:
            continue
        at = _number(record.get(step), step, place, path)
        if at is None:
            raise ValueError(f"{path}, {place}: {step} must be a number where there is a loss, got none")
        rows[0].append(at)
        rows[1].append(losses[0])
        rows[2].append(losses[1])
    return rows


def _column(
    names: tuple[str, ...], found: list[str], records: list[tuple[str, dict[str, Any]]]
) -> str | None:
    """Return the first of `names` that a log has with at least one value."""
    plain = {name.strip().lower(): name for name in reversed(found)}
    for name in names:
        own = plain.get(name)
        if own is not None and any(record.get(own) not in (None, "") for _, record in records):
            return own
    return None


def _number(value: Any, name: str | None, place: str, path: Any) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{path}, {place}: {name} must be a number, got {repr(value)[:40]}") from None


def _csv(text: str, path: Any) -> list[tuple[str, dict[str, Any]]]:
    lines = text.splitlines(keepends=True)
    dialect = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    dialect = "\t" if lines and lines[0].count("\t") > lines[0].count(dialect) else dialect
    reader = csv.DictReader(lines, delimiter=dialect, strict=True)
    records = []
    try:
        for row in reader:
            records.append((f"line {reader.line_num}", {k: v for k, v in row.items() if k is not None}))
    except csv.Error as error:  # such as a quote that is not closed
        raise ValueError(f"{path}, line {reader.line_num} is not CSV: {error}") from None
    header = list(reader.fieldnames or ())
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has the column {twice!r} twice")
    if not records:
        columns = ", ".join(map(repr, header)) or "none"
        raise ValueError(f"{path} has no measurements; its columns are {columns}")
    return records


def _json(text: str, path: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the rows of JSON lines, of a list of objects, or of an object with `log_history`."""
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        return _json_lines(text, path)
    except (RecursionError, ValueError) as error:  # too deep, or a number of too many digits
        raise ValueError(f"{path} is not a log in JSON: {error}") from None
    if isinstance(whole, dict):
        whole = whole.get("log_history", [whole])
    if not isinstance(whole, list) or not all(isinstance(row, dict) for row in whole):
        raise ValueError(f"{path} must hold JSON objects, one for each step")
    return [(f"row {i}", row) for i, row in enumerate(whole)]


def _json_lines(text: str, path: Any) -> list[tuple[str, dict[str, Any]]]:
    lines = text.split("\n")
    records = []
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (RecursionError, ValueError) as error:
            if i == len(lines) - 1:  # a run that is being written, or was stopped within a line
                break
            raise ValueError(f"{path}, line {i + 1} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {i + 1} must be a JSON object, got {line.strip()[:40]!r}")
        records.append((f"line {i + 1}", row))
    return records
