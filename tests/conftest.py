"""Fixtures that all tests share, and what is said of tests that were not run."""

from collections.abc import Iterator

import pytest
from levels import LEVELS

import fastloss
from fastloss import _kernels


@pytest.fixture(params=LEVELS, ids=lambda level: _kernels.LEVELS[level])
def isa(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each instruction set that this machine has, in turn."""
    before = _kernels.use_level(request.param)
    yield request.param
    _kernels.use_level(before)


def pytest_report_header() -> str:
    """What is under test."""
    levels = ", ".join(_kernels.LEVELS[level] for level in LEVELS)
    return f"fastloss {fastloss.__version__}: {levels}; {fastloss.get_num_threads()} threads"
