"""Fixtures of all benchmarks: the size of the shapes, and the pause before a test."""

from __future__ import annotations

import time

import pytest

from benchmarks.runner import SETTLE


@pytest.fixture(scope="session")
def is_small(request: pytest.FixtureRequest) -> bool:
    """With --benchmark-disable nothing is timed, and small shapes show that everything runs correctly."""
    return bool(request.config.getoption("benchmark_disable", default=False))


@pytest.fixture(autouse=True)
def _settled(is_small: bool) -> None:
    """Wait until the threads of the previous test sleep."""
    if not is_small:
        time.sleep(SETTLE)
