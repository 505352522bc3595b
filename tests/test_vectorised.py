"""tests/vectorised.py finds a loop that is not vectorised (CI runs it on src)."""

import shutil
from pathlib import Path

import pytest
import vectorised
from helpers import full_if

compiler = vectorised.gcc()


@pytest.mark.skipif(compiler is None, reason="needs gcc for x86")
@pytest.mark.parametrize("level", [full_if(level == "baseline", level) for level in vectorised.flags()[1]])
def test_a_branch_is_found(tmp_path: Path, level: str) -> None:
    """In a small table: a straight line, a call in the value, a call under a condition in the derivative."""
    assert compiler is not None
    for file in (vectorised.ROOT / "src").glob("*.*"):
        shutil.copy(file, tmp_path)
    (tmp_path / "losses.def").write_text(
        "FL_LOSS(straight, ANY, REAL r = x - t, r * r, 2 * r, 2)\n"
        "FL_LOSS(calls, ANY, REAL r = x - t, (REAL)sin((double)r), 2 * r, 2)\n"
        "FL_LOSS(branches, ANY, REAL r = x - t, r * r, r > 0 ? (REAL)sin((double)r) : r, 2)\n"
    )
    expected = ["calls_value", "calls_first", "calls_second", "branches_first", "branches_second"]
    found = vectorised.scalar_loops(compiler, level, tmp_path)
    assert sorted(found) == sorted(f"{name}_{kind}" for name in expected for kind in vectorised.TYPES)


def test_files_of_c_have_at_most_600_lines() -> None:
    """What is longer has two subjects."""
    files = [
        file for file in (vectorised.ROOT / "src").iterdir() if file.suffix in {".c", ".h", ".inc", ".def"}
    ]
    lines = {file.name: len(file.read_text().splitlines()) for file in files}
    assert len(lines) > 40
    assert not {name: count for name, count in lines.items() if count > 600}
