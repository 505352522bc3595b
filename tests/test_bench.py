"""``python -m fastloss bench``, on rows that take milliseconds: what it prints, writes and draws."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bench, contenders, report
from benchmarks.case import LIMIT, OURS
from benchmarks.problem import Problem
from fastloss.__main__ import main

QUICK = ["softmax/one-call", "elementwise/mse-1000"]


@pytest.fixture(autouse=True)
def _with_numpy_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no other peer is installed, and in a hurry: others take seconds to import."""
    monkeypatch.setattr(bench, "is_installed", lambda name: name not in ("torch", "jax", "scikit-learn"))
    monkeypatch.setattr(bench, "SETTLE", 0.0)


def run(*options: str, rows: list[str] = QUICK) -> int:
    return bench.main([*rows, "--seconds", "30", *options])


def test_the_default_rows_exist() -> None:
    """Each has fastloss, the limit of memory, and a peer that NumPy alone can run."""
    cases = bench.selected(bench.ROWS)
    assert [f"{case.suite}/{case.name}" for case in cases] == [*bench.ROWS]
    for case in cases:
        assert {LIMIT, OURS, "numpy"} <= {*case.contenders}
        assert case.limit == "move"


def test_it_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each row; the file has the form of the published results."""
    path = tmp_path / "me.json"
    assert run("--json", str(path)) == 0
    printed = capsys.readouterr().out
    assert "not installed: PyTorch, JAX, scikit-learn\n" in printed
    assert printed.startswith("\nmilliseconds ") and all(f"\n{row} " in printed for row in QUICK)
    written = json.loads(path.read_text())
    published = json.loads(max(report.RESULTS.glob("softmax-*.json")).read_text())
    assert published.keys() <= written.keys() and published["rows"][0].keys() <= written["rows"][0].keys()
    assert [f"{row['suite']}/{row['name']}" for row in written["rows"]] == QUICK
    for row in written["rows"]:
        assert row["contenders"].keys() >= {OURS, "numpy"} and not row["wrong"]
        assert re.search(rf"\n{row['suite']}/{row['name']}: {re.escape(row['title'])}", printed)
    # A loss of 1000 elements with its gradient moves three arrays of float32.
    assert [row.get("moved") for row in written["rows"]] == [None, 12_000]


def test_a_row_takes_part_of_the_time() -> None:
    """Every contender runs at least once; a row that has no time left is not begun."""
    cases = bench.selected(QUICK)
    (first,) = bench._run(cases, 1e-9)
    assert first.case.name == "one-call"
    assert {len(figures.values) for figures in first.figures.values()} == {1}


def test_a_wrong_result_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Problem, "tolerance", lambda self, name: (-1.0, -1.0))
    assert run(rows=QUICK[1:]) == 1
    assert "  fastloss is WRONG: the loss is off by " in capsys.readouterr().out


def test_the_limit_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one NumPy moves the memory: every source is read, and the other array is written."""
    monkeypatch.setattr(contenders, "_library", lambda: None)
    assert contenders.moved_by().startswith("NumPy")
    for reads, writes in (([256], []), ([256, 256], [256]), ([256] * 4, [256]), ([], [256]), ([64], [256])):
        contenders.moving(reads, writes, 2)()
    assert run(rows=QUICK[1:]) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_numpy_writes_what_it_moves(count: int) -> None:
    sources, to = [np.full(8, 2.0, np.float32) for _ in range(count)], np.zeros(8, np.float32)
    contenders._numpy_move(sources, to)
    assert set(to) == {(1.0, 2.0, 4.0)[min(count, 2)]}


def test_pictures(tmp_path: Path) -> None:
    """Bars for each row; a roofline if rows are larger than caches. The same results, the same bytes."""
    pytest.importorskip("matplotlib")
    from benchmarks.pictures import draw_bench

    def figures(milliseconds: float) -> dict[str, Any]:
        return {"median": 1e-3 * milliseconds}

    large = {"suite": "s", "name": "large", "title": "a large row", "moved": 120_000_000, "wrong": {}}
    large["contenders"] = {
        LIMIT: figures(4.0), OURS: figures(5.0), "numpy": figures(90.0),
        "compute": figures(3.0), "calls": figures(1.0),
    }  # fmt: skip
    small = {"suite": "s", "name": "small", "title": "a small row", "contenders": {OURS: figures(0.01)}}
    machine = {"processor": "P", "cores": 2, "threads": 2, "instruction_set": "avx2"}
    found = {"date": "2026-01-01", "machine": {**machine, "versions": {"fastloss": "0"}}}
    texts = []
    for rows in ([large, small], [large, small], [small]):
        draw_bench({**found, "rows": rows}, tmp_path / "picture.svg")
        texts.append((tmp_path / "picture.svg").read_text())
    assert texts[0] == texts[1]
    assert ["Roofline" in text for text in texts] == [True, True, False]
    assert "memory, 30 GB/s" in texts[0] and ">a small row<" in texts[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["sofmax/32k"], "no row is named 'sofmax/32k'"),
        (["--seconds", "0"], "--seconds must be greater than 0"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--json", "nowhere/me.json"], "there is no folder nowhere"),
    ],
)
def test_bad_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.main(options)
    assert message in capsys.readouterr().err


def test_names_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command of the package, which passes its options on."""
    assert main(["bench", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("*")] == [*bench.ROWS]
