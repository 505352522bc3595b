"""The examples run from beginning to end, quickly, and show what they are there to show."""

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydoc_data.topics", reason="the examples' text")

from fastloss._examples import distill, dpo
from fastloss._examples import train_language_model as lm

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["--width", "16", "--vocabulary", "500", "--batch", "64", "--check-steps", "3"]


def test_the_demo_compares_trains_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    assert lm.main([*TINY, "--steps", "40", "--rate", "1e-2", "--plot", str(picture)]) == 0
    output = capsys.readouterr().out
    rows = re.findall(r"^ +(\d)" + 3 * r" +(\d\.\d{7})" + "$", output, re.MULTILINE)
    assert [row[0] for row in rows] == ["1", "2", "3"]
    for _, ours, by_hand, exact in rows:
        assert float(ours) == pytest.approx(float(exact), rel=1e-6)
        assert float(by_hand) == pytest.approx(float(exact), rel=1e-5)
    assert re.search(r"^Largest relative difference .*: [\d.]+e-\d\d; they agree\.$", output, re.MULTILINE)
    ways = re.findall(r"^  (?:fastloss|NumPy float\d\d) +[\d.]+ ms, +\d+% of the step", output, re.M)
    assert len(ways) == 3
    validation = [float(value) for value in re.findall(r"^step .*, held out +([\d.]+) ", output, re.M)]
    assert max(map(len, re.findall("^step .*", output, re.MULTILINE))) < 80
    best = re.search(r"^Best validation perplexity: ([\d.]+) at step (\d+),", output, re.MULTILINE)
    assert best is not None and float(best[1]) == min(validation) < validation[0]
    said = re.search(r"^A loss of [\d.]+ nats gives .* among\s+(\d+) equally", output, re.M | re.DOTALL)
    assert said is not None and float(said[1]) == pytest.approx(float(best[1]), rel=0.01)
    assert re.search("^The curve: The loss is ", output, re.MULTILINE)
    assert picture.read_bytes().startswith(b"\x89PNG") and f"Picture written to {picture}." in output


def test_the_demo_goes_without_matplotlib(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    picture = tmp_path / "curve.png"
    assert lm.main([*TINY, "--steps", "2", "--plot", str(picture)]) == 0
    assert "No picture: matplotlib is missing" in capsys.readouterr().out and not picture.exists()


# A program, wrong options of it, and what the message names.
WRONG: list[tuple[Callable[[list[str]], int], list[str], str]] = [
    (lm.main, ["--seconds", "0"], "--seconds"),
    (lm.main, ["--seconds", "nan"], "--seconds"),
    (lm.main, ["--patience", "0"], "--patience"),
    (lm.main, ["--plot", "/no/such/folder/x.png"], "--plot"),
    (dpo.main, ["--loss-type", "nonsense"], "loss_type"),
    (distill.main, ["--share", "2"], "--share"),
    (distill.main, ["--temperature", "0"], "--temperature"),
    (distill.main, ["--students", "x"], "--students"),
]


@pytest.mark.parametrize(("main", "arguments", "named"), WRONG)
def test_options_are_checked_before_anything_is_trained(
    main: Callable[[list[str]], int], arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    output = capsys.readouterr()
    assert named in output.err and output.out == ""


def nonsense(words: int = 40, training: int = 300) -> lm.Data:
    """A text to learn by heart, which says nothing about what comes after it."""
    ids = np.random.default_rng(0).integers(words, size=(2 * training, 3))
    return lm.Data([str(i) for i in range(words)], ids[:training], ids[training:])


def options_of(*arguments: str) -> argparse.Namespace:
    return lm.make_parser().parse_args(["--context", "2", "--width", "32", "--batch", "64", *arguments])


def test_training_stops_where_validation_gets_worse_and_keeps_the_best() -> None:
    data, options = nonsense(), options_of("--rate", "1e-2", "--patience", "4")
    result = lm.train(data, options, 400, deadline=math.inf)
    steps, losses = zip(*result.validation, strict=True)
    assert steps == tuple(range(20, 20 * len(steps) + 1, 20))
    best = losses.index(min(losses))
    assert (result.best_step, result.best_loss) == result.validation[best]
    assert len(losses) == best + 1 + 4 and len(result.losses) == steps[-1] < 400
    assert lm.validation_loss(result.model, data, 64) == result.best_loss < losses[-1]


def test_training_ends_with_the_time() -> None:
    begin = time.perf_counter()
    result = lm.train(nonsense(), options_of("--patience", "1000000"), 10**7, deadline=begin + 0.5)
    assert 0.2 < time.perf_counter() - begin < 20  # 10,000,000 steps would take an hour
    steps = len(result.losses)
    assert 1 < steps < 10**6 and result.validation[-1][0] == steps
    assert len(lm.train(nonsense(), options_of(), 50, deadline=0.0).losses) == 1


def test_the_comparison_ends_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = lm.compare(nonsense(), options_of(), deadline=0.0)
    assert [len(history) for history in comparison.histories] == [1, 1, 1]


def test_the_rate_falls_to_zero_wherever_the_end_is_moved() -> None:
    assert list(lm.Schedule(0.3, 5)) == pytest.approx([0.3, 0.24, 0.18, 0.12, 0.06])
    schedule, rates = lm.Schedule(0.3, 10), []
    for rate in schedule:
        rates.append(rate)
        if len(rates) == 5:  # the rate is 0.18 here
            schedule.steps = 8
    assert rates[4:] == pytest.approx([0.18, 0.135, 0.09, 0.045])


def test_the_losses_of_the_demo_are_one() -> None:
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((20, 50), dtype=np.float32), rng.integers(50, size=20)
    exact, exact_gradient = lm.reference_loss(logits, target)
    for function in (lm.fast_loss, lm.numpy_loss):
        loss, gradient = function(logits.copy(), target)
        assert loss == pytest.approx(exact, rel=1e-6)
        np.testing.assert_allclose(gradient, exact_gradient, atol=1e-8)


def test_without_logits_the_numbers_are_the_same() -> None:
    data, options = nonsense(), options_of()
    ways = [lm.Training(data, options, function) for function in (lm.fast_loss, None)]
    for rate in lm.Schedule(1e-2, 5):
        with_logits, without = (way.step(rate) for way in ways)
        assert without.loss == pytest.approx(with_logits.loss, rel=1e-5)


def test_the_demo_makes_no_large_logits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm, "LARGE", 1)
    assert lm.main([*TINY, "--steps", "4", "--plot", str(tmp_path / "curve.png")]) == 0
    output = capsys.readouterr().out
    assert "they agree" in output and "Median time of the output layer and loss with gradients" in output


def compared(*losses: float) -> lm.Comparison:
    """A comparison of one step, of 10 ms beside 1, 2 and 30 ms in the loss."""
    times = (0.001, 0.002, 0.030)
    steps = [lm.Step(loss, 0.010 + t, t) for loss, t in zip(losses, times, strict=True)]
    return lm.Comparison("loss", [[step] for step in steps])


@pytest.mark.parametrize("loss", [2.001, math.nan])
def test_a_difference_is_a_failure(loss: float, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compared(loss, 2.0, 2.0)
    assert not comparison.agrees() and compared(2.0001, 2.0, 2.0).agrees()
    lm.report(comparison)
    assert "THEY DISAGREE" in capsys.readouterr().out


def test_the_picture_marks_the_best_and_shows_the_library() -> None:
    figures = pytest.importorskip("matplotlib.figure")
    curves, bars = figures.Figure().subplots(ncols=2)
    validation = [(1, 5.0), (2, math.log(80)), (3, 4.6)]
    model = lm.Training(nonsense(), options_of(), lm.fast_loss).model
    lm.plot_curves(curves, lm.Result(model, [6.0, 5.0, 4.0], validation, 2, math.log(80)), 300.0)
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert "best validation: perplexity 80.0 at step 2" in labels
    lm.plot_curves(figures.Figure().subplots(), lm.Result(model, [6.0], [(1, 5.0)], 1, 5.0), 300.0)
    lm.plot_comparison(bars, compared(2.000002, 2.0, 2.0))
    texts = [text.get_text() for text in bars.texts]
    assert texts[:3] == [
        "fastloss: loss 1.0 ms, 9% of the step",
        "NumPy float32: loss 2.0 ms, 17% of the step",
        "NumPy float64: loss 30.0 ms, 75% of the step",
    ]
    assert "differ by 1e-06 of the loss" in texts[3]
    assert [round(bar.get_width(), 6) for bar in bars.patches] == [10, 10, 10, 1, 2, 30]


needs_exec = pytest.mark.skipif(os.name != "posix", reason="only POSIX replaces a process")


@needs_exec
@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}])
def test_a_restart_is_the_same_process_with_passive_threads(given: dict[str, str]) -> None:
    code = """if True:
        import os, sys
        from fastloss._examples import train_language_model as lm
        lm.restart_with_passive_threads()
        print(os.getpid(), *(os.environ[name] for name in lm.PASSIVE), *sys.argv[1:])
        sys.exit(3)
    """
    environment = {name: value for name, value in os.environ.items() if name not in lm.PASSIVE} | given
    run = [sys.executable, "-c", code, "an argument"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=environment) as process:
        output, _ = process.communicate()
    policy = given.get("OMP_WAIT_POLICY", "passive")
    assert (process.returncode, output) == (3, f"{process.pid} {policy} 4 an argument\n")


@needs_exec
def test_the_demo_can_be_interrupted(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "fastloss", "demo", "--plot", str(tmp_path / "curve.png")]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "words of the Python documentation" in process.stdout.readline()
        # Behind the import of numpy.random, which sometimes clears the exception of a signal.
        assert any(line.startswith("Training") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT and "KeyboardInterrupt" in error


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


def perplexities(output: str) -> dict[str, float]:
    """The last column of the table, by the first."""
    return {name: float(last) for name, last in re.findall(r"^(\w.*?)  .* ([\d.]+)$", output, re.M)}


def test_a_distilled_student_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    assert distill.main(["--quick"]) == 0
    output = capsys.readouterr().out
    assert len(re.findall(r"^(?:teacher|student, .*?): The loss is ", output, re.MULTILINE)) == 3
    found = perplexities(output)
    names = "teacher", "student, distilled (kl)", "student, plain", "word frequencies alone"
    teacher, distilled, plain, words = (found[name] for name in names)
    assert teacher < distilled < plain < words


def test_every_divergence_distils(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--quick", "--steps", "2", "--teacher-steps", "2"]
    assert distill.main([*quick, "--students", *distill.DIVERGENCES]) == 0
    assert len(perplexities(capsys.readouterr().out)) == 2 + len(distill.DIVERGENCES)


# An option of each script that its help names.
SCRIPTS = {
    "dpo.py": "--quick",
    "distill.py": "--quick",
    "train_language_model.py": "--patience",
    "training_logs.py": "--out",
    "finetune_hf.py": "--scripts",  # .ci/run runs it with the libraries that it needs
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_runs_as_a_script(script: str) -> None:
    run = [sys.executable, str(EXAMPLES / script), "--help"]
    assert SCRIPTS[script] in subprocess.run(run, capture_output=True, text=True, check=True).stdout
