"""Fixtures that all tests share, and one line that says what was not run."""

import gc
import os
import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from helpers import full_if
from levels import LEVELS, using

import fastloss
from fastloss import _kernels

FULL = "full or not full"


@pytest.fixture(params=LEVELS, ids=lambda level: _kernels.LEVELS[level])
def isa(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each instruction set that this machine has, in turn."""
    with using(request.param):
        yield request.param


@pytest.fixture(
    params=[full_if(level != LEVELS[-1], level) for level in LEVELS],
    ids=lambda level: _kernels.LEVELS[level],
)
def one_isa(request: pytest.FixtureRequest) -> Iterator[int]:
    """The best instruction set that this machine has; the others in the full matrix."""
    with using(request.param):
        yield request.param


def pytest_configure(config: pytest.Config) -> None:
    """Let idle threads of OpenMP sleep in the processes of pytest-xdist, which start after this.

    By default they spin, and there are more threads than processors then: a test of rows that threads share
    took 17.6 s instead of 4.1 s on a busy machine.

    Tests that share costly work are marked as an xdist_group, and run in one process.
    """
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        if config.option.dist == "load":
            config.option.dist = "loadgroup"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run take a part of its tests."""
    parser.addoption(
        "--one-in", type=int, default=1, metavar="N",
        help="of the selected tests, run one in N, chosen by their names",
    )  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Look for no garbage among what is collected: that took a fifth of the time, and finds none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all but one test in N; the names' checksums are the same in every process."""
    number = config.getoption("one_in")
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % number]
    if left_out:
        names = {item.nodeid for item in left_out}
        items[:] = [item for item in items if item.nodeid not in names]
        config.hook.pytest_deselected(items=left_out)


def pytest_report_header() -> str:
    """What is under test."""
    levels = ", ".join(_kernels.LEVELS[level] for level in LEVELS)
    return f"fastloss {fastloss.__version__}: {levels}; {fastloss.get_num_threads()} threads"


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what the full matrix would run."""
    for item in items:
        left_out = item.get_closest_marker("full") is not None and FULL not in item.config.option.markexpr
        item.config.stash[LEFT_OUT] = item.config.stash.get(LEFT_OUT, 0) + left_out


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the count of a process of pytest-xdist to the main process."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the count: each process has collected the same tests."""
    node.config.stash[LEFT_OUT] = node.workeroutput.get("left_out", 0)


LEFT_OUT = pytest.StashKey[int]()


def reason(report: Any) -> str:
    """Why a test was skipped, in a few words."""
    text = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)
    text = text.removeprefix("Skipped: ")
    missing = re.match(r"could not import '(\w+)", text)
    return f"of {missing[1]} (not installed)" if missing else f"({text})"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say in one line what was not run, and why."""
    reasons = Counter(map(reason, terminalreporter.stats.get("skipped", [])))
    parts = [f"{number} {'test' if number == 1 else 'tests'} {why}" for why, number in reasons.most_common()]
    absent = [name for level, name in enumerate(_kernels.LEVELS) if level not in LEVELS]
    if absent:
        parts.append(f"those of {' and '.join(absent)} (this machine has none)")
    left_out = config.stash.get(LEFT_OUT, 0)
    line = ", ".join(parts)
    if left_out:
        line += f"{'; ' if line else ''}{left_out:,} more with -m '{FULL}'"
    if line:
        terminalreporter.write_line(f"not run: {line}")
