"""Logs of real runs, of which it is known what was done wrong: `LossCurve` finds that, and no more to mend.

examples/training_logs.py has made them, and has the table of what each should show.
"""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import full_if

pytest.importorskip("pydoc_data.topics", reason="the example's text")

from fastloss._examples import training_logs as example

import fastloss

FOLDER = Path(__file__).with_name("logs")
BASELINES = json.loads((FOLDER / "baselines.json").read_text(encoding="utf-8"))
LOGS = {log.name: log for log in example.LOGS}
# Those whose learning rate is the same in both halves, and that do not end in NaN.
CONSTANT = (
    "right", "right_augmented", "right_regression", "strong_augmentation", "rate_too_small",
    "rate_far_too_small", "too_little_text", "too_few_digits", "wrong_labels", "leak", "dead_units",
    "spoiled_batches",
)  # fmt: skip


def curve_of(name: str) -> fastloss.LossCurve:
    return fastloss.LossCurve.read(FOLDER / f"{name}.csv", unigram=BASELINES[name])


def rows_of(folder: Path, name: str) -> Any:
    """Steps, training losses and validation losses."""
    return np.genfromtxt(folder / f"{name}.csv", delimiter=",", skip_header=1).T


def test_every_log_is_there() -> None:
    files = sorted(FOLDER.iterdir())
    assert {file.stem for file in files if file.suffix == ".csv"} == set(LOGS) == set(BASELINES)
    assert len(LOGS) == len(example.LOGS) >= 12 and sum(file.stat().st_size for file in files) < 200_000
    kinds = {kind for log in example.LOGS for kind in log.findings}
    assert len(kinds) == 9  # all that `diagnose` knows


@pytest.mark.parametrize("name", LOGS)
def test_shows_what_was_done_and_nothing_else_to_mend(name: str) -> None:
    assert example.is_as_stated(LOGS[name], curve_of(name)), curve_of(name).diagnose()


@pytest.mark.parametrize("name", [name for name, log in LOGS.items() if log.findings == ("overfitting",)])
def test_the_step_to_go_back_to(name: str) -> None:
    (finding,) = (f for f in curve_of(name).diagnose() if f.kind == "overfitting")
    steps, _, validation = rows_of(FOLDER, name)
    given = ~np.isnan(validation)
    lowest = steps[given][validation[given].argmin()]
    assert abs(finding.evidence["best_step"] - lowest) <= 0.05 * steps[-1]


def came_true(name: str) -> bool:
    """Whether a run cut in half ends within the interval that is predicted for its second half."""
    steps, train, _ = rows_of(FOLDER, name)
    half = len(steps) // 2
    findings = fastloss.LossCurve.from_arrays(steps[:half], train=train[:half]).diagnose()
    (said,) = (finding.evidence for finding in findings if finding.kind in ("falling", "plateau"))
    low = said.get("next_low", said["level"] - said.get("gain_high", 0.0))
    high = said.get("next_high", said["level"] - said.get("gain_low", 0.0))
    return bool(low <= train[-(len(train) // 16) :].mean() <= high)


def test_the_page_says_how_many_predictions_come_true() -> None:
    page = FOLDER.parents[1] / "docs" / "reading-a-loss.md"
    found = re.search(r"\*\*(\d+) of (\d+)\*\*\s+ended within the interval", page.read_text(encoding="utf-8"))
    assert found is not None
    assert (int(found[1]), int(found[2])) == (sum(map(came_true, CONSTANT)), len(CONSTANT))


@pytest.mark.parametrize("name", [full_if(place % 4 > 0, name) for place, name in enumerate(LOGS)])
def test_is_drawn_with_its_findings(name: str) -> None:
    pytest.importorskip("matplotlib")
    curve = curve_of(name)
    ax = curve.plot()
    ax.figure.savefig(io.BytesIO())  # where warnings of ticks would come
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {finding.kind.replace("_", " ") for finding in curve.diagnose()} | {"baseline"} <= labels


def test_the_axis_of_perplexity_has_round_numbers() -> None:
    pytest.importorskip("matplotlib")
    ax = curve_of("right").plot()
    ax.figure.savefig(io.BytesIO())
    (second,) = ax.child_axes
    low, high = second.get_ylim()
    shown = [label.get_text() for label in second.get_yticklabels() if low < label.get_position()[1] < high]
    assert shown == ["50", "100", "200", "500", "1,000"]
    assert curve_of("rate_far_too_large").plot().get_yscale() == "log"


def test_another_finding_is_noticed() -> None:
    assert not example.is_as_stated(LOGS["leak"], curve_of("right"))
    assert not example.is_as_stated(LOGS["right"], curve_of("too_little_text"))


def test_the_example_makes_such_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main(["--out", str(tmp_path), "too_little_text"]) == 0
    output = capsys.readouterr().out
    assert "Should show: overfitting." in output and "act  The model overfits" in output
    made, kept = (rows_of(folder, "too_little_text") for folder in (tmp_path, FOLDER))
    np.testing.assert_array_equal(made[0], kept[0])
    np.testing.assert_allclose(made, kept, rtol=0.5)  # the text depends on the version of Python
    assert list(json.loads((tmp_path / "baselines.json").read_text())) == ["too_little_text"]


def test_the_example_checks_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        example.main(["no_such_log"])
    assert "no_such_log" in capsys.readouterr().err
