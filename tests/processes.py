"""Fresh interpreters, for what would change or end the process of the tests."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastloss

ROOT = Path(fastloss.__file__).parents[1]


def run_python(code: str, *, fails: bool = False, **environment: str) -> str:
    """What a fresh interpreter prints; it and its children are killed after two minutes."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("FASTLOSS_NUM_THREADS", "OMP_NUM_THREADS", "FASTLOSS_ISA")
    }
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**kept, "PYTHONPATH": os.pathsep.join(paths), **environment},
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("hangs: " + process.communicate()[0])
    assert (process.returncode != 0) == fails, output
    return output
