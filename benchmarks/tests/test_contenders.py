"""Every row of every suite with each of its contenders: in each group the limit, fastloss and every peer.

    pytest benchmarks --benchmark-only            everything (many minutes)
    pytest benchmarks -k softmax-one-call         one row
    pytest benchmarks --benchmark-disable         no timing: each contender once, on a small shape

Every result is checked after its timing. The times of different contenders come from different minutes
here; for ratios between them run ``python -m benchmarks``, which runs them in turn.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pytest

from benchmarks import report
from benchmarks.case import BEST_PEER, COMPILED, NUMPY, OURS, Case
from benchmarks.contenders import Contender, UnavailableError, build, is_installed, passes
from benchmarks.problem import WrongResultError
from benchmarks.runner import Figures, Result
from benchmarks.suites import SUITES, growth, problem_of

pytest.importorskip("pytest_benchmark")

# For contenders with work before each run, which pytest-benchmark cannot calibrate.
ROUNDS = 10


def pairs(cases: Iterable[Case]) -> list[Any]:
    """Return each row with each of its contenders."""
    return [
        pytest.param(case, name, id=f"{case.suite}-{case.name}-{name.replace(' ', '_')}")
        for case in cases
        for name in case.contenders
        if is_installed(name)
    ]


@lru_cache(maxsize=1)
def kept_problem(case: Case, is_small: bool) -> Any:
    """The arrays of a row, kept for the contenders of that row."""
    return problem_of(case, is_small)


def built(case: Case, name: str, is_small: bool) -> Contender:
    """Return the contender of that name; skip the test without it."""
    try:
        return build(name, kept_problem(case, is_small))
    except (UnavailableError, ImportError) as reason:
        pytest.skip(str(reason))


def run(benchmark: Any, contender: Contender) -> Any:
    if contender.before is None:
        return benchmark(contender.call)
    return benchmark.pedantic(contender.call, setup=contender.before, rounds=ROUNDS, warmup_rounds=1)


def is_timed(case: Case) -> bool:
    return case.quantity == "seconds"


ALL_CASES = [case for suite in SUITES.values() for case in suite.cases]
MORE_CASES = [case for suite in SUITES.values() for case in suite.also_checked]


@pytest.mark.parametrize(("case", "name"), pairs(filter(is_timed, ALL_CASES)))
def test_contender(benchmark: Any, case: Case, name: str, is_small: bool) -> None:
    """Time the whole call of one contender for one row, then check its result."""
    if is_small and name == COMPILED:
        pytest.skip("takes long to compile")
    benchmark.group = f"{case.suite}: {case.title}"
    contender = built(case, name, is_small)
    benchmark.extra_info["threads"] = kept_problem(case, is_small).threads
    with contender.setting():
        result = run(benchmark, contender)
    contender.check(result)


@pytest.mark.parametrize(("case", "name"), pairs(case for case in ALL_CASES if not is_timed(case)))
def test_memory_and_errors(case: Case, name: str, is_small: bool) -> None:
    """Measure once, and compare with the bound; small shapes show only that it runs correctly."""
    if is_small and name == COMPILED:
        pytest.skip("takes long to compile")
    figure = Figures({0: built(case, name, is_small).call()})
    result = Result(case, kept_problem(case, is_small).shape, {name: figure})
    assert report.FAIL not in {verdict.verdict for verdict in report.verdicts_of(result)}


@pytest.mark.parametrize(("case", "name"), pairs(MORE_CASES))
def test_every_type_is_right(case: Case, name: str) -> None:
    """Only ``python -m benchmarks`` times the other types: here is one call of each."""
    contender = built(case, name, is_small=True)
    with contender.setting():
        contender.check(contender.call())


def spoiled(result: Any) -> list[Any]:
    """The result with one of its parts changed, for each part that is a number or an array."""
    if not isinstance(result, tuple):
        return [] if result is None else [result + 1]
    parts = list(result)
    make = getattr(result, "_make", tuple)
    return [
        make([*parts[:place], wrong, *parts[place + 1 :]])
        for place, part in enumerate(parts)
        for wrong in spoiled(part)
    ]


CHECKED_ALONE = [
    pair
    for pair in pairs(filter(is_timed, [*ALL_CASES, *MORE_CASES]))
    if pair.values[1].startswith((OURS, NUMPY))
    and not pair.values[0].name.startswith(("step", "round-"))
    # Its calls work on the results of those before, so its check makes a call of its own.
    and (pair.values[0].suite, pair.values[1]) != ("growth", growth.IN_PLACE)
]


@pytest.mark.parametrize(("case", "name"), CHECKED_ALONE)
def test_a_wrong_result_is_seen(case: Case, name: str) -> None:
    """In every part: the loss and each gradient."""
    contender = built(case, name, is_small=True)
    with contender.setting():
        if contender.before is not None:
            contender.before()
        results = spoiled(contender.call())
    assert results
    for result in results:
        with pytest.raises(WrongResultError):
            contender.check(result)


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: f"{case.suite}-{case.name}")
def test_who_is_not_for_a_row_says_so(case: Case) -> None:
    """`--with` may name any contender; an unknown one has no builder."""
    with pytest.raises((UnavailableError, ImportError)):
        problem = kept_problem(case, True)
        if case.name.endswith("step"):
            build(COMPILED, problem).call()
        build("nobody", problem)


@pytest.mark.parametrize("case", [*ALL_CASES, *MORE_CASES], ids=lambda case: f"{case.suite}-{case.name}")
def test_targets_are_about_contenders(case: Case) -> None:
    """A target with an unknown name would never be measured."""
    known = {*case.contenders, COMPILED, BEST_PEER, None}
    assert {name for target in case.targets for name in (target.of, target.against)} <= known


def test_the_limit_moves_every_array_once() -> None:
    """Each pass writes one array at most, and arrays of other sizes have their own."""
    assert [*passes([8, 8, 8, 2], [8, 8])] == [(2, 1, 0), (8, 2, 1), (8, 1, 1)]
    assert [*passes([4], [4, 4])] == [(4, 1, 1), (4, 0, 1)]


def test_names_are_unique() -> None:
    """The command finds rows by name."""
    for suite in SUITES.values():
        names = [case.name for case in suite.cases]
        assert len(names) == len(set(names))
        assert {case.suite for case in suite.cases} == {suite.name}
