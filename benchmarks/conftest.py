"""What every benchmark shares: the size of its shapes, and the quiet before it."""

from __future__ import annotations

import time

import pytest

from benchmarks.runner import SETTLE


@pytest.fixture(scope="session")
def is_small(request: pytest.FixtureRequest) -> bool:
    """With --benchmark-disable nothing is timed: small shapes show that everything runs and is right."""
    return bool(request.config.getoption("benchmark_disable", default=False))


@pytest.fixture(autouse=True)
def _settled(is_small: bool) -> None:
    """Let the threads of whatever ran before go to sleep."""
    if not is_small:
        time.sleep(SETTLE)
