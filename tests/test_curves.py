"""`LossCurve`: what it finds in curves of known kind, what it reads, and what it refuses."""

import csv
import gzip
import json
import math
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curves import KINDS, MARKS, NOISES, PAGE, SEEDS, Count, base, counted

from fastloss import Finding, LossCurve

NAN = math.nan
STEPS = np.arange(1, 201)
FALLING = 2.0 + 3.0 * STEPS**-0.5


def kinds(curve: LossCurve) -> list[str]:
    return [finding.kind for finding in curve.diagnose()]


def found_in(train: Any, validation: Any = None, steps: Any = None) -> list[Finding]:
    """What is found in losses of the steps 1, 2, ..."""
    steps = np.arange(1, len(train) + 1) if steps is None else steps
    return LossCurve.from_arrays(steps, train=train, validation=validation).diagnose()


def check(counts: dict[tuple[str, float], Count], share: float) -> None:
    """No miss at the lower two levels, few at the others, and hardly a false alarm."""
    clean, alarms = 0, 0
    for (kind, level), count in counts.items():
        assert count.missed <= (0 if level <= 0.01 else share * count.curves), (kind, level, count)
        assert count.far <= 0.05 * count.curves or level > 0.01, (kind, level, count)
        if KINDS[kind](np.random.default_rng(0), 200).clean:
            clean, alarms = clean + count.curves, alarms + count.false_alarms
    assert alarms <= 0.02 * clean


# Curves of known kind


def test_kinds_are_found() -> None:
    check({(k, v): counted(k, v, range(4)) for k in KINDS for v in NOISES}, share=0.25)


@pytest.mark.full
def test_kinds_are_found_with_all_seeds() -> None:
    check({(k, v): counted(k, v, range(SEEDS)) for k in KINDS for v in NOISES}, share=0.1)


def test_the_table_has_every_kind() -> None:
    rows = PAGE.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]
    assert all(f"\n| {kind} |" in rows for kind in KINDS)


@pytest.mark.parametrize("level", [0.01, 0.1])
def test_the_interval_of_the_power_law_holds(level: float) -> None:
    """The true loss at twice the steps is within the 90 % interval of more than 80 % of the curves."""
    inside = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(100, 2000))
        whole = base(rng, 2 * n, "power")
        losses = whole[:n] + level * np.ptp(whole[:n]) * rng.normal(size=n)
        for finding in found_in(losses):
            if finding.kind == "falling":
                inside.append(finding.evidence["next_low"] <= whole[-1] <= finding.evidence["next_high"])
    assert len(inside) > 30 and np.mean(inside) > 0.8


def test_findings_do_not_depend_on_units_or_steps() -> None:
    rng = np.random.default_rng(5)
    train = FALLING + 0.02 * rng.normal(size=200)
    validation = train + 0.5 * np.maximum(STEPS - 100, 0) / 100
    first, *_ = found_in(train, validation)
    second, *_ = found_in(train * 64 - 512, validation * 64 - 512, STEPS * 50)
    assert first.kind == second.kind == "overfitting"
    assert second.evidence["best_step"] == 50 * first.evidence["best_step"]
    assert second.evidence["size"] == pytest.approx(64 * first.evidence["size"])


def test_a_hundred_thousand_losses_are_read_at_once() -> None:
    steps = np.arange(1, 100_001)
    rng = np.random.default_rng(0)
    curve = LossCurve.from_arrays(steps, train=2 + 7 * steps**-0.3 + 0.1 * rng.normal(size=len(steps)))
    took = []
    for _ in range(5):
        start = time.perf_counter()
        found = kinds(curve)
        took.append(time.perf_counter() - start)
    assert found == ["falling"] and min(took) < 0.25  # 0.02 on a quiet machine


def test_few_validation_losses_are_enough() -> None:
    epochs = [2.0, 1.8, 1.9, 2.1, 2.4]
    validation = [epochs[i // 40] if i % 40 == 39 else None for i in range(200)]
    first, *_ = found_in(FALLING, validation)
    assert (first.kind, first.evidence["best_step"]) == ("overfitting", 80)


def test_order_and_severity() -> None:
    train = FALLING.copy()
    train[[60, 61, 120]] = 6.0, NAN, 5.5
    found = LossCurve.from_arrays(STEPS, train=train, unigram=1.0).diagnose()
    assert [f.severity for f in found] == sorted((f.severity for f in found), key=lambda s: s != "act")
    assert {f.kind for f in found} == {"non_finite", "underfitting", "spike", "falling"}
    for finding in found:
        assert finding.advice and {"size", "confidence"} <= set(finding.evidence)
        assert "?" not in str(finding)
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize("value", [0.0, 1e-200, -1e-9, 2.0, 1e90])
@pytest.mark.parametrize("count", [13, 200])
def test_a_constant_is_a_plateau(value: float, count: int) -> None:
    (finding,) = found_in(np.full(count, value))
    assert (finding.kind, finding.start, finding.severity) == ("plateau", 1, "note")
    assert "would lower it by nothing." in str(finding)


def test_constants_that_differ_are_told_in_words() -> None:
    (first, _) = found_in(np.full(200, 3.0), np.ones(200))
    assert str(first).endswith("by 2, many times the whole fall (more than 1000 standard errors).")


@pytest.mark.parametrize(
    ("validation", "trend", "sentence", "advice"),
    [
        (FALLING + 0.1, "falling", "The loss is still falling", "Train on"),
        (np.maximum(FALLING, 2.5), "level", "The validation loss is level, at 2.5.", "training loss only"),
        (np.abs(FALLING - 2.5) + 3.0, "rising", "The validation loss rises, to 3.2", "training loss only"),
        ([None] * 199 + [2.5], None, "The loss is still falling", "Train on"),
    ],
)
def test_falling_speaks_of_the_training_loss(validation: Any, trend: Any, sentence: str, advice: str) -> None:
    found = found_in(FALLING, validation)[-1]
    assert (found.kind, found.evidence.get("validation_trend")) == ("falling", trend)
    assert sentence in str(found) and advice in found.advice


@pytest.mark.parametrize("width", [3, 8])
def test_long_spikes_of_a_short_curve_are_counted(width: int) -> None:
    """Of 100 losses up to 16 are high; a spike returns at once, or decays."""
    train = 2.0 + 2.0 * np.exp(-np.arange(100) / 20) + 0.01 * np.random.default_rng(2).normal(size=100)
    for at in (30, 60):
        train[at : at + width] += 3.0 if width == 3 else 3.0 * np.exp(-np.arange(8) / 2)
    (finding,) = [f for f in found_in(train) if f.kind == "spike"]
    assert finding.evidence["steps"] == [31, 61]


@pytest.mark.parametrize("noise", [0.005, 0.05])
def test_a_divergence_starts_where_the_rise_leaves_the_noise(noise: float) -> None:
    x = np.arange(1, 1001) / 1000
    rise = 0.02 * np.expm1(np.maximum(x - 0.5, 0.0) / 0.05)  # 450 at the end
    train = 2.0 + 2.0 * np.exp(-x / 0.1) + rise + noise * np.random.default_rng(4).normal(size=1000)
    (finding,) = found_in(train)
    assert finding.kind == "divergence" and 500 < finding.start < 660


def test_many_spikes_ask_for_an_act() -> None:
    rng = np.random.default_rng(3)
    train = FALLING + 0.01 * rng.normal(size=200)
    train[30:190:20] += 2.0
    (finding,) = [f for f in found_in(train) if f.kind == "spike"]
    assert (finding.evidence["count"], finding.severity) == (8, "act")
    assert finding.evidence["steps"] == list(range(31, 191, 20))


# What is a measurement


def test_update_and_arrays_are_the_same() -> None:
    whole = LossCurve.from_arrays(STEPS, train=FALLING, validation=[None] * 199 + [2.5])
    single = LossCurve()
    for step, loss in zip(STEPS, FALLING, strict=True):
        assert single.update(step, train=np.float32(loss)) is single
    single.update(200, validation=np.array(2.5))
    assert repr(single) == repr(whole) == "LossCurve(200 training and 1 validation losses)"
    assert kinds(single) == kinds(whole) == ["falling"]
    assert kinds(pickle.loads(pickle.dumps(whole))) == ["falling"]


def every(k: int, *nan: int) -> Any:
    validation = np.full(200, NAN)
    validation[::k] = FALLING[::k] + 0.1
    validation[list(nan)] = NAN
    return validation


@pytest.mark.parametrize(
    ("validation", "at"),
    [
        (every(10), None),
        (every(10, 50), 51),  # where one was due
        (every(10, *range(120, 200)), 121),  # and none any more
        (np.where(STEPS == 200, 2.5, every(10)), None),  # the last one is beside the others
        (every(1, 77), 78),
        (np.full(200, NAN), 1),
        (np.ma.masked_invalid(np.full(200, NAN)), None),
        (np.where(STEPS == 7, np.inf, every(10)), 7),
    ],
)
def test_nan_of_validation(validation: Any, at: int | None) -> None:
    found = found_in(FALLING, validation)
    assert [f.start for f in found if f.kind == "non_finite"] == ([] if at is None else [at])


def test_nan_is_a_finding_also_alone() -> None:
    (finding,) = LossCurve().update(3, train=NAN).diagnose()
    assert (finding.kind, finding.start, finding.severity) == ("non_finite", 3, "act")
    assert kinds(LossCurve.from_arrays(STEPS, train=np.full(200, NAN))) == ["non_finite"]
    assert kinds(LossCurve().update(1, train=2.0).update(2, train=1e200)) == ["non_finite"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LossCurve().diagnose(), ValueError, "at least 2 losses, got 0"),
        (lambda: LossCurve().update(1, train=2.0).diagnose(), ValueError, "at least 2 losses, got 1"),
        (lambda: found_in(range(9), steps=[3] * 9), ValueError, "at least 2 steps, got 9 of one step"),
        (lambda: LossCurve().update(5).update(4, 1.0), ValueError, "step must not be below .* 5; got 4"),
        (lambda: LossCurve().update(NAN, train=1.0), ValueError, "step must be finite, got nan"),
        (lambda: LossCurve().update(1, train="1"), TypeError, "train must be a number or None, got '1'"),
        (lambda: LossCurve().update(1, train=np.True_), TypeError, "train must be a number or None"),
        (lambda: LossCurve().update(1, train=10**400), ValueError, "train must be within the range"),
        (lambda: LossCurve(unigram="7"), TypeError, "unigram must be a number, got '7'"),
        (lambda: LossCurve.from_arrays([1, 2]), ValueError, "train or validation must be given"),
        (lambda: found_in([1, 2], np.ones(2, bool)), TypeError, "validation must hold numbers, got bool"),
        (lambda: found_in([1.0, True]), TypeError, "train must hold numbers, got bool"),
        (lambda: found_in([1, 2], steps=[True, True]), TypeError, "steps must hold numbers"),
        (lambda: found_in([1], steps=[1, 2]), ValueError, "each of the 2 steps, got 1"),
        (lambda: found_in([1, 2, 3], steps=[1, 3, 2]), ValueError, "got 2 after 3 at position 2"),
        (lambda: found_in([1, 2], steps=[1, NAN]), ValueError, "finite .* nan at position 1"),
        (lambda: found_in([[1]], steps=[[1]]), ValueError, r"one dimension, got shape \(1, 1\)"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


# Logs


def written(path: Path, kind: str) -> Path:
    rows = [{"step": i + 1, "train": 3.0 - i / 100, "validation": None} for i in range(100)]
    for i in range(9, 100, 10):
        rows[i]["validation"] = 3.5 - i / 100
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "train", "validation"])
            writer.writeheader()
            writer.writerows(rows)
        return path
    trainer: list[dict[str, Any]] = []
    for row in rows:
        trainer.append({"epoch": 0.5, "loss": row["train"], "learning_rate": 1e-4, "step": row["step"]})
        if row["validation"]:
            trainer.append({"epoch": 0.5, "eval_loss": row["validation"], "step": row["step"]})
    trainer.append({"step": 100, "total_flos": 1.0, "train_loss": 2.5, "train_runtime": 9.0})
    if kind == "state":
        path.write_text(json.dumps({"best_metric": None, "log_history": trainer}))
    else:
        path.write_text("\n".join(json.dumps(row) for row in (rows if kind == "lines" else trainer)))
    return path


@pytest.mark.parametrize("kind", ["csv", "lines", "state", "trainer"])
def test_logs(tmp_path: Path, kind: str) -> None:
    curve = LossCurve.read(written(tmp_path / "log", kind), unigram=7.0)
    assert repr(curve) == "LossCurve(100 training and 10 validation losses)" and curve.unigram == 7.0
    assert kinds(curve) == ["falling"]


def test_an_unfinished_line_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "log", "lines")
    path.write_text(path.read_text()[:-20])
    assert repr(LossCurve.read(path)) == "LossCurve(99 training and 9 validation losses)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,2.0\n", "no steps .*'epoch', 'loss'"),
        ("step,accuracy\n1,0.5\n", "no losses .*'step', 'accuracy'"),
        ("step,train\n", "no measurements; its columns are 'step', 'train'"),
        ("", "no measurements; its columns are none"),
        ("step,train\n1,2.0\n2,high\n", "line 3: train must be a number, got 'high'"),
        ("step,train\n1,2.0\n,1.5\n", "line 3: step must be a number"),
        ("step,train\n2,2.0\n1,1.5\n", "steps must not decrease, got 1 after 2"),
        ('{"step": 1, "train": 2}\n{"step": \n{"step": 3}\n', "line 2 is not JSON"),
        ("[1, 2]", "must hold JSON objects"),
        ('step,train,note\n1,2.0,"a\n2,1.9,b\n', "is not CSV"),
        ("step,loss,loss\n1,2.0,3.0\n", "the column 'loss' twice"),
        ("step,loss\n1_0,2.0\n", "step must be a number, got '1_0'"),
        ('[{"step": 1, "loss": ' + "9" * 400 + "}]", "loss must be a number"),
        ('{"step": 1, "loss": ' + "9" * 5000 + "}", "not a log in JSON"),
        ("[" * 100_000, "not a log in JSON"),
        ('{"step": 1, "loss": 2}\n' + "[" * 100_000 + "\n{}\n", "line 2 is not JSON"),
    ],
)
def test_bad_logs(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        LossCurve.read(path)


@pytest.mark.parametrize("kind", ["gzip", "utf-16"])
def test_a_log_that_is_no_text(tmp_path: Path, kind: str) -> None:
    path, text = tmp_path / "log", "step,train\n1,2\n"
    path.write_bytes(gzip.compress(text.encode()) if kind == "gzip" else text.encode(kind))
    with pytest.raises(ValueError, match="log must be text in UTF-8"):
        LossCurve.read(path)


# The picture and the command


def test_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = pytest.importorskip("matplotlib.figure")
    curve = LossCurve.from_arrays(STEPS, train=FALLING, validation=FALLING + STEPS / 100)
    ax = figures.Figure().subplots()
    named = {"overfitting", "falling"}
    assert curve.plot(ax) is ax and named <= {text.get_text() for text in ax.get_legend().get_texts()}
    assert curve.plot().figure is not ax.figure
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="needs matplotlib"):
        curve.plot()


@pytest.mark.parametrize(
    "losses", [FALLING - 9, np.r_[FALLING, NAN], FALLING * 1e6, FALLING[:3], np.tile(2.0, 500)]
)
def test_any_curve_can_be_drawn(losses: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ax = LossCurve.from_arrays(np.arange(len(losses)), train=losses, validation=losses).plot()
    ax.figure.savefig(tmp_path / "curve.png", dpi=30)


def command(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastloss", "curve", *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_command(tmp_path: Path) -> None:
    log = str(written(tmp_path / "log", "csv"))
    done = command(log, "--unigram", "1.5", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("act") and "The model underfits" in done.stdout
    found = json.loads(command(log, "--json").stdout)
    assert [f["kind"] for f in found] == ["falling"] and found[0]["severity"] == "note"
    refused = command(str(tmp_path / "missing"))
    assert refused.returncode == 2 and "missing" in refused.stderr


def test_command_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command(str(written(tmp_path / "log", "csv")), "--output", str(tmp_path / "curve.png"))
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    done = command(str(tmp_path / "log"), cwd=tmp_path)
    assert "Picture written to log.png." in done.stdout and (tmp_path / "log.png").exists()


def test_a_finding_of_another_kind_prints() -> None:
    assert "new from step 1 to 2" in str(Finding("new", 1, 2, {"size": 0}, ""))


def test_a_spike_that_validation_meets_is_no_overfitting() -> None:
    steps = np.arange(1, 101)
    for at in (89, 99):
        train = 2.0 + 2.0 * np.exp(-steps / 20)
        train[at] *= 4.0
        validation = np.where(steps % 10 == 0, train + 0.05, np.nan)
        assert "overfitting" not in {finding.kind for finding in found_in(train, validation)}


def test_few_validation_losses_that_rise_beyond_doubt() -> None:
    validation = [3.354, 2.854, 2.483, 2.278, 2.205, 2.228, 2.285, 2.319, 2.358, 2.403]
    train = [2.6, 2.2, 1.9, 1.75, 1.65, 1.6, 1.57, 1.55, 1.54, 1.53]
    first, *_ = found_in(train, validation)
    assert (first.kind, first.evidence["best_step"]) == ("overfitting", 5)


def test_a_constant_in_noise_is_level() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=500)
        assert "falling" not in {finding.kind for finding in found_in(4.0 + 0.01 * noise)}
