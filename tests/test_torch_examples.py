"""The examples that train with PyTorch run from beginning to end, and show what they are there to show."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pydoc_data.topics", reason="the example's text")

from fastloss._examples import finetune_torch as example

EXAMPLE = Path(__file__).parents[1] / "examples" / "finetune_torch.py"
TINY = ["--vocabulary", "600", "--width", "16", "--layers", "1", "--batch", "2", "--length", "8"]


def numbers(output: str, title: str) -> list[float]:
    """The figures in the lines of the table that begin like this."""
    (line,) = re.findall(rf"^ *{title} +([-+\d.e ]+)$", output, re.M)
    return [float(figure) for figure in line.split()]


def test_the_curves_are_one() -> None:
    """As a script, whose processes have to find their way back into it."""
    ways = ["install()", "inplace", "no logits"]
    run = [sys.executable, str(EXAMPLE), *TINY, "--steps", "4", "--threads", "1", "--ways", *ways]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    output = done.stdout
    for step in range(1, 5):
        torchs, *others = numbers(output, str(step))
        assert others == pytest.approx([torchs] * 3, abs=1e-4)
    assert max(numbers(output, "largest difference")) <= 1e-4
    assert len(numbers(output, "times as fast")) == 3
    for title in ("seconds a step, median", "peak memory, MB"):
        assert len(numbers(output, title)) == 4
        assert min(numbers(output, title)) > 0
    assert output.splitlines()[-1].startswith("The same curve")


def runs(*curves: list[float]) -> dict[str, example.Run]:
    """Runs that have told of these losses."""
    nobody: Any = None
    names = [example.TORCH, example.INSTALLED]
    return {
        name: example.Run(nobody, nobody, curve, [1.0] * len(curve), 10**6)
        for name, curve in zip(names, curves, strict=True)
    }


@pytest.mark.parametrize("last", [2.1, float("nan")])
def test_curves_that_disagree(last: float, capsys: pytest.CaptureFixture[str]) -> None:
    assert not example.report(runs([3.0, 2.0], [3.0, last]))
    assert "THE CURVES DISAGREE" in capsys.readouterr().out


def test_models_start_out_the_same_and_learn() -> None:
    options = example.make_parser().parse_args([*TINY, "--rate", "0.01"])
    data = example.load(options)
    for name in (example.TORCH, "inplace", "no logits"):
        training = example.Training(data, options, example.WAYS[name])
        losses = [training.step() for _ in range(30)]
        assert losses[0] == pytest.approx(6.4, abs=0.1)  # log 600: nothing is known yet
        assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("arguments", [["--ways", "x"], ["--steps", "0"], ["--text", "no such file"]])
def test_options_are_checked(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        example.main(arguments)
    assert arguments[-1] in capsys.readouterr().err


def test_token_mean() -> None:
    """In two processes the mean over all tokens is that of one process, and the mean of means is not."""
    torch = pytest.importorskip("torch")
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        pytest.skip("no gloo")
    run = [sys.executable, str(EXAMPLE.with_name("token_mean.py")), "--steps", "4"]
    output = subprocess.run(run, capture_output=True, text=True, check=True, timeout=100.0).stdout
    found = {name: float(figure) for name, figure in re.findall(r"^(\S.*?)  .* (\S+)$", output, re.M)}
    assert found.pop("mean of means") > 1e-3
    assert set(found) == {"token mean", "micro-batches"}
    assert max(found.values()) < 1e-6


def test_options_of_token_mean() -> None:
    run = [sys.executable, str(EXAMPLE.with_name("token_mean.py")), "--processes", "0"]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "--processes" in done.stderr
