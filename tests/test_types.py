"""The types of the package: the stub is fresh, and type checkers see every public call as it is."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import stubs

import fastloss

TABLE = Path(__file__).with_name("types_of_calls.py")
ROOT = Path(fastloss.__file__).parents[1]


def test_the_stubs_are_fresh() -> None:
    for path, text in stubs.files().items():
        assert path.read_text(encoding="utf-8") == text, "run `python tests/stubs.py`"


def test_the_table_has_every_public_name() -> None:
    nodes = ast.walk(ast.parse(TABLE.read_text(encoding="utf-8")))
    used = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
    assert set(fastloss.__all__) <= used


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    return done.stdout + done.stderr


def test_mypy_agrees_with_the_table(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="a type checker")
    assert "Success" in run("mypy", "--strict", f"--cache-dir={tmp_path}", str(TABLE))


def test_pyright_agrees_with_the_table(tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="a type checker")
    settings = {"include": [str(TABLE)], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    output = run("basedpyright", "-p", str(tmp_path))
    assert "0 errors, 0 warnings" in output, output
