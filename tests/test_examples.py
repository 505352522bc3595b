"""The examples run from beginning to end, quickly, and show what they are there to show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pydoc_data.topics", reason="the examples' text")

from fastloss._examples import distill, dpo

EXAMPLES = Path(__file__).parents[1] / "examples"


def dpo_table(output: str) -> list[tuple[float, ...]]:
    """Step, loss, and the held-out rewards: chosen, rejected, margin, accuracy in percent."""
    lines = re.findall(r"^ *(\d+)/\d+ +([-\d.]+) +([-\d.]+) +([-\d.]+) +([-\d.]+) +([\d.]+)%$", output, re.M)
    return [tuple(map(float, line)) for line in lines]


def test_dpo_widens_the_margin(capsys: pytest.CaptureFixture[str]) -> None:
    assert dpo.main(["--quick"]) == 0
    table = dpo_table(capsys.readouterr().out)
    _, loss, _, _, margin, accuracy = table[0]
    assert loss == pytest.approx(0.6931, abs=1e-4)  # log 2: the policy starts as its reference
    assert table[-1][1] < loss
    assert table[-1][4] > margin + 0.02
    assert table[-1][5] > accuracy + 5


@pytest.mark.parametrize("loss_type", ["ipo", "hinge", "exo_pair", "aot"])
def test_dpo_takes_every_type(capsys: pytest.CaptureFixture[str], loss_type: str) -> None:
    smoothing = "0.1" if loss_type == "exo_pair" else "0"
    quick = ["--quick", "--steps", "2", "--dpo-steps", "2", "--pool", "32"]
    assert dpo.main([*quick, "--loss-type", loss_type, "--label-smoothing", smoothing]) == 0
    assert [row[0] for row in dpo_table(capsys.readouterr().out)] == [1, 2]


def test_dpo_checks_the_loss_before_it_trains(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        dpo.main(["--loss-type", "nonsense"])
    output = capsys.readouterr()
    assert "loss_type" in output.err and output.out == ""


def perplexities(output: str) -> dict[str, float]:
    """The last column of the table, by the first."""
    rows = re.findall(r"^(\w.*?)  .* ([\d.]+)$", output, re.M)
    return {name: float(perplexity) for name, perplexity in rows}


def test_a_distilled_student_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill.main(["--quick"]) == 0
    found = perplexities(capsys.readouterr().out)
    teacher, plain, distilled, words = (
        found[name]
        for name in ("teacher", "student, plain", "student, distilled (kl)", "word frequencies alone")
    )
    assert teacher < distilled < plain < words


def test_every_divergence_distils(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--quick", "--steps", "2", "--teacher-steps", "2"]
    assert distill.main([*quick, "--students", *distill.DIVERGENCES]) == 0
    assert len(perplexities(capsys.readouterr().out)) == 2 + len(distill.DIVERGENCES)


@pytest.mark.parametrize("arguments", [["--share", "2"], ["--temperature", "0"], ["--students", "x"]])
def test_distill_checks_its_options(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        distill.main(arguments)
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("script", ["dpo.py", "distill.py"])
def test_runs_as_a_script(script: str) -> None:
    run = [sys.executable, str(EXAMPLES / script), "--help"]
    assert "--quick" in subprocess.run(run, capture_output=True, text=True, check=True).stdout
