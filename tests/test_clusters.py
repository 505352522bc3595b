"""The examples of perplexity on many machines, on clusters of two processes: the bits of one process."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydoc_data.topics", reason="the examples' text")

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["--vocabulary", "300", "--width", "8", "--steps", "2", "--partitions", "5", "--repeat", "1"]


@pytest.mark.parametrize(("name", "package"), [("dask", "distributed"), ("torch", "torch"), ("ray", "ray")])
def test_the_same_bits_as_in_one_process(name: str, package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"no {package}")
    run = [sys.executable, str(EXAMPLES / f"perplexity_{name}.py"), *TINY]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "The same bits."
    assert re.search(r"^Perplexity\(\d+\.?\d* over \d+ tokens, \d+ documents\);", done.stdout, re.MULTILINE)
