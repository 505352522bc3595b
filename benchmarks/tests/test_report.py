"""The output of the command: verdicts, JSON and tables, from a real run of rows at small shapes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, tables
from benchmarks.__main__ import main
from benchmarks.case import LIMIT, OURS, at_least, at_most, bound
from benchmarks.contenders import Contender, contender
from benchmarks.problem import Problem, WrongResultError
from benchmarks.runner import Figures, Result, measure
from benchmarks.suites import SUITES

CASE = replace(SUITES["softmax"].cases[0], contenders=(LIMIT, OURS))


def result_of(ours: list[float], limit: list[float], *targets: Any) -> Result:
    """Return the result of a row with these times."""
    case = replace(CASE, targets=targets)
    figures = {OURS: Figures(dict(enumerate(ours))), LIMIT: Figures(dict(enumerate(limit)))}
    return Result(case, case.shape, figures)


def verdicts(*arguments: Any) -> list[str]:
    return [verdict.verdict for verdict in report.verdicts_of(result_of(*arguments))]


def test_verdicts() -> None:
    """Both ratios have to meet the target."""
    assert verdicts([2.0, 2.0], [1.0, 1.0], at_most(2.0, LIMIT), at_most(1.9, LIMIT)) == ["pass", "FAIL"]
    assert verdicts([1.0], [3.0], at_least(3.0, LIMIT), at_least(3.1, LIMIT)) == ["pass", "FAIL"]
    assert verdicts([1.0], [1.0], bound(1.0), bound(0.9)) == ["pass", "FAIL"]
    assert verdicts([1.0], [1.0], at_most(1.0, "torch"), bound(1.0, "torch")) == ["not measured"] * 2
    # Medians 2 and 2; within the repeats 1/2, 2, 3/2.
    restless = [1.0, 2.0, 3.0], [2.0, 1.0, 2.0], at_most(1.2, LIMIT)
    assert verdicts(*restless) == ["restless"]


def test_nothing_passes_at_the_small_shape() -> None:
    result = result_of([1.0], [1.0], at_most(9.0, LIMIT), bound(9.0))
    result.shape = CASE.small
    assert [verdict.verdict for verdict in report.verdicts_of(result)] == ["not measured"] * 2


@contender("wrong", suite="a test")
def _wrong(problem: Problem, name: str) -> Contender:
    def check(result: object) -> None:
        raise WrongResultError("off")

    return Contender(name, lambda: None, check)


@contender("wrong at last", suite="a test")
def _wrong_at_last(problem: Problem, name: str) -> Contender:
    checks = iter([True])

    def check(result: object) -> None:
        if not next(checks, False):
            raise WrongResultError("off")

    return Contender(name, lambda: None, check)


def test_a_wrong_result_has_no_time() -> None:
    """In the first check, and in the last."""
    problem = Problem(replace(CASE, suite="a test"), is_small=True)
    result = measure(problem, ["wrong", "wrong at last", "nobody"], repeats=2, settle=0.0)
    assert result.wrong == {"wrong": "off", "wrong at last": "off"}
    assert result.missing == {"nobody": "not for this row"}
    assert not result.figures


def run_small(folder: Path, suite: str, rows: list[str]) -> Any:
    """Run the command at small shapes, and return its JSON."""
    options = ["--small", "--repeats", "3", "--settle", "0", "--only", f"{OURS},{LIMIT}"]
    assert main([suite, "--rows", *rows, *options, "--json", str(folder)]) == 0
    (path,) = folder.glob(f"{suite}-*.json")
    return json.loads(path.read_text())


def test_json(tmp_path: Path) -> None:
    """The machine, and for each contender the values of a table or a comparison."""
    run = run_small(tmp_path, "softmax", ["32k", "one-call"])
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(f"softmax-{run['date']}-")
    assert {"processor", "cores", "instruction_set", "compiler", "threads"} <= run["machine"].keys()
    assert {"fastloss", "numpy", "python"} <= run["machine"]["versions"].keys()
    assert {"OMP_WAIT_POLICY", "OPENBLAS_THREAD_TIMEOUT"} <= run["machine"]["environment"].keys()
    assert run["settings"] == {"repeats": 3, "settle": 0.0}
    large, small = run["rows"]
    assert [large["name"], large["is_small"], small["is_small"]] == ["32k", True, False]
    assert large["contenders"].keys() == {LIMIT, OURS, "fastloss new array"}
    for figures in large["contenders"].values():
        first, third = figures["quartiles"]
        assert figures["runs"] == len(figures["values"]) == 3
        assert 0.0 < figures["min"] <= first <= figures["median"] <= third
    assert large["contenders"][LIMIT]["to_limit"] == large["contenders"][OURS]["to_fastloss"] == [1.0, 1.0]
    assert {verdict["verdict"] for verdict in small["verdicts"]} <= {"pass", "FAIL", "not measured"}


def test_tables(tmp_path: Path) -> None:
    """The newest run is between the markers, and nothing else changes."""
    text = "a\n<!-- table: softmax -->\nold\n<!-- end -->\nb\n<!-- table: short -->\n<!-- end -->\n"
    empty = tables.rendered(text, tmp_path)
    assert empty.count(tables.NOT_MEASURED) == 2
    run = run_small(tmp_path, "softmax", ["32k", "32k-loss"])
    older = json.loads(json.dumps(run)) | {"date": "2001-01-01"}
    older["rows"][0]["title"] = "from another time"
    report.write_json(older, tmp_path)
    found = tables.rendered(text, tmp_path)
    assert found == tables.rendered(found, tmp_path) == tables.rendered(empty, tmp_path)
    assert found.startswith("a\n<!-- table: softmax -->\n") and "\n<!-- end -->\nb\n" in found
    assert "\nold\n" not in found and "from another time" not in found
    assert found.count("| cross entropy (2048, 32000), value and gradient at the small shape") == 2
    assert "| milliseconds | memory limit | **fastloss** |\n" in found
    assert "| fastloss new array |" in found
    with pytest.raises(ValueError, match="no suite is named 'sofmax'"):
        tables.rendered(text.replace("softmax", "sofmax"), tmp_path)


def test_each_processor_has_a_table(tmp_path: Path) -> None:
    """In the order of their names; a marker may name one of them."""
    run = run_small(tmp_path, "softmax", ["one-call"])
    machine = run["machine"] | {"processor": "A made-up(R) CPU @ 1 GHz"}
    path = report.write_json(run | {"machine": machine, "date": "2001-01-01"}, tmp_path)
    assert path.name == "softmax-2001-01-01-a-made-up.json"
    text = "<!-- table: softmax a-made-up -->\n<!-- end -->\n"
    one, both = tables.rendered(text, tmp_path), tables.rendered(text.replace(" a-made-up", ""), tmp_path)
    assert [t.count("| milliseconds | **fastloss** |") for t in (one, both)] == [1, 2]
    assert "A made-up(R)" in one and one.partition("\n")[2].replace("<!-- end -->\n", "") in both
    assert run["machine"]["processor"] not in one and f"\n\n{run['machine']['processor']}" in both


def test_the_short_table_is_of_whole_processors(tmp_path: Path) -> None:
    """Of one without its name; of several each below its name; none of a processor that lacks a row."""

    def store(processor: str, suites: list[str]) -> None:
        names = dict(tables.SHORT_ROWS)
        for suite in suites:
            figures = {"median": 1e-3}
            row = {"name": names[suite], "title": suite, "quantity": "seconds", "is_small": False}
            run = {"suite": suite, "date": "2001-01-01", "time": "", "machine": {"processor": processor}}
            row |= {"wrong": {}, "contenders": {OURS: figures}}
            report.write_json(run | {"rows": [row]}, tmp_path)

    text, every = "<!-- table: short -->\n<!-- end -->", [suite for suite, _ in tables.SHORT_ROWS]
    store("Z", every[:2])
    assert tables.NOT_MEASURED in tables.rendered(text, tmp_path)
    store("B", every)
    one = tables.rendered(text, tmp_path)
    assert one.count("| **1.00** |") == 3 and "B:" not in one
    store("A", every)
    both = tables.rendered(text, tmp_path)
    assert both.count("| **1.00** |") == 6 and 0 < both.index("A:\n") < both.index("B:\n")


def test_memory_and_errors_have_tables(tmp_path: Path) -> None:
    """Rows of several units name them."""
    run_small(tmp_path, "memory", ["in-place"])
    run_small(tmp_path, "linear", ["agreement", "value"])
    found = tables.rendered(
        "<!-- table: memory -->\n<!-- end -->\n<!-- table: linear -->\n<!-- end -->", tmp_path
    )
    assert "| times the logits | **fastloss** |\n" in found
    assert "(error) | fastloss error | " in found and "(milliseconds) | " in found


def test_bounds_have_further_columns(tmp_path: Path) -> None:
    """What follows from the figures, and where a contender is missing an empty cell."""
    options = ["--rows", "mse", "bfloat16", "--small", "--repeats", "2", "--settle", "0"]
    assert main(["bounds", *options, "--json", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    run = json.loads(path.read_text())
    for name, median in (("memory", 1.0), ("compute", 3e-3), ("calls", 1e-3), (OURS, 1.25)):
        run["rows"][1]["contenders"][name]["median"] = median
    run["rows"][1]["shape"] = [1_000_000]
    del run["rows"][0]["contenders"]["compute"]
    report.write_json(run, tmp_path)
    found = tables.rendered("<!-- table: bounds -->\n<!-- end -->", tmp_path)
    titles = (
        "| memory | compute | calls | **fastloss** | over the larger | bytes per element "
        "| arithmetic, ns per element |"
    )
    assert titles in found
    bfloat16, mse = (line for line in found.splitlines() if "small shape" in line)
    assert mse.endswith("| 1000 | 3.00 | 1.00 | **1250** | 1.25 | 12 | 2.000 |")
    assert bfloat16.endswith("** |  | 4 |  |")


def test_no_table_is_stale() -> None:
    """The documentation has the tables of the results; otherwise run ``python -m benchmarks tables``."""
    assert not tables.stale()


def test_documentation_has_a_table_for_each_suite() -> None:
    text = tables.FILES[0].read_text()
    with_table = {suite.name for suite in SUITES.values() if suite.columns}
    assert {match[1] for match in tables.MARKED.findall(text)} >= with_table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sofmax"], "no suite is named 'sofmax'"),
        (["softmax", "--rows", "nothing"], "no row is named 'nothing'"),
        (["softmax", "--repeats", "0"], "--repeats must be at least 1"),
        (["softmax", "--size", "10"], "not for softmax"),
        (["all", "--dtype", "bfloat16"], "not for softmax, options, linear"),
        (["elementwise", "--size", "0"], "--size must be at least 1"),
        (["tables", "softmax"], "tables stands alone"),
        (["tables", "--small"], "tables stands alone"),
        (["pictures", "--small"], "pictures stands alone"),
        (["--small"], "give a suite"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err


def test_names_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The names of the suites, and with --list those of the rows, at any size."""
    assert main([]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert names[: len(SUITES)] == [*SUITES]
    assert main(["elementwise", "--list", "--rows", "mse*", "--size", "1000", "--dtype", "float16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["elementwise/mse", "elementwise/mse-value"]
    assert "1,000 float16" in lines[0]


def test_growth_is_drawn(tmp_path: Path) -> None:
    """Each way has its line, and each row of threads; the same results give the same bytes."""
    pictures = pytest.importorskip("benchmarks.pictures")
    pytest.importorskip("matplotlib")
    options = ["--small", "--repeats", "2", "--settle", "0", "--json", str(tmp_path)]
    assert main(["growth", *options]) == 0
    texts = []
    for _ in range(2):
        (path,) = pictures.draw_all(tmp_path, tmp_path)
        texts.append(path.read_text())
    assert path.name == "growth.svg" and texts[0] == texts[1]
    for text in (*(text for text, *_ in pictures.WAYS.values()), *pictures.THREADED.values()):
        assert f">{text}<" in texts[0]


def test_pictures_are_in_the_documentation() -> None:
    """Each stored result that has a picture."""
    pages = "".join(path.read_text() for path in tables.FILES[0].parent.glob("*.md"))
    names = [name for name in ("bench", "growth") if any(report.RESULTS.glob(f"{name}-*.json"))]
    assert names
    for name in names:
        assert f"](figures/{name}.svg)" in pages
        assert tables.FILES[0].with_name("figures").joinpath(f"{name}.svg").is_file()
