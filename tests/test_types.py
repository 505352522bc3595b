"""The types of the package: the stub is fresh, and type checkers see every public call as it is."""

import ast
import inspect
import json
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path

import pytest
import stubs

import fastloss

TABLE = Path(__file__).with_name("types_of_calls.py")
ROOT = Path(fastloss.__file__).parents[1]

# Losses with several gradients, and the class of these. All others return an array.
SEVERAL = {
    "linear.AdaptiveGradients": ("adaptive_log_softmax_with_loss",),
    "linear.LinearGradients": ("linear_cross_entropy", "linear_token_log_probs"),
    "pairs.CosineEmbeddingGradients": ("cosine_embedding_loss",),
    "pairs.MarginRankingGradients": ("margin_ranking_loss",),
    "pairs.TripletMarginGradients": ("triplet_margin_loss",),
    "preference.PairGradients": ("cpo_loss", "dpo_loss", "orpo_loss", "simpo_loss"),
    "preference.RewardGradients": ("reward_model_loss",),
    "regression.GaussianNLLGradients": ("gaussian_nll_loss",),
    "distribution.NegativeBinomialNLLGradients": ("negative_binomial_nll_loss",),
    "distribution.StudentTNLLGradients": ("student_t_nll_loss",),
    "contrastive.InfoNCEGradients": ("info_nce_loss",),
    "contrastive.SigLIPGradients": ("siglip_loss",),
    "linear_divergence.StudentGradients": ("linear_js_div", "linear_kl_div", "linear_tv_distance"),
}
GRADIENTS = {name: f"fastloss.{kind}" for kind, names in SEVERAL.items() for name in names}

# Arguments by the annotation of a parameter, and losses by the reduction.
PAIRS = "Sequence[tuple[npt.ArrayLike, npt.ArrayLike]]"
VALUES = {"float": "0.5", "npt.ArrayLike": "x", "npt.ArrayLike | None": "x", PAIRS: "[(x, x)]"}
LOSSES = {"mean": "float", "sum": "float", "none": "Array", "sum_and_count": "tuple[float, float]"}


def losses() -> list[str]:
    """The public functions that have a reduction."""
    public = {name: getattr(fastloss, name) for name in fastloss.__all__}
    return [n for n, value in public.items() if "reduction" in inspect.signature(value).parameters]


def results(name: str, parameters: Container[str]) -> Iterator[tuple[str, list[str]]]:
    """What a loss returns on request: the arguments that ask for it, and the types behind the loss."""
    gradient = GRADIENTS.get(name, "Array")
    yield "", []
    yield ", return_grad=True", [gradient]
    if "return_hessian" in parameters:
        yield ", return_grad=True, return_hessian=True", [gradient, "Array"]
    if "teacher_grad" in parameters:
        yield ", return_grad=True, teacher_grad=True", ["fastloss.divergence.DivergenceGradients"]
    if "return_entropy" in parameters:
        yield ", return_entropy=True", ["Array"]
        yield ", return_grad=True, return_entropy=True", [gradient, "Array"]


def calls_of_losses() -> Iterator[str]:
    """Each loss with each reduction, by default that of its signature, and each set of results."""
    for name in losses():
        parameters = inspect.signature(getattr(fastloss, name)).parameters
        needed = [p for p in parameters.values() if p.default is p.empty]
        names = [f"{p.name}=" if p.kind is p.KEYWORD_ONLY else "" for p in needed]
        given = ", ".join(n + VALUES[str(p.annotation)] for n, p in zip(names, needed, strict=True))
        default = LOSSES[parameters["reduction"].default]
        ways = {"": default, **{f', reduction="{k}"': loss for k, loss in LOSSES.items()}}
        for reduction, loss in ways.items():
            for flags, more in results(name, parameters):
                kind = f"tuple[{', '.join([loss, *more])}]" if more else loss
                yield f"assert_type(fastloss.{name}({given}{reduction}{flags}), {kind})"


HEAD = """
from typing import Any, assert_type
import numpy as np
import numpy.typing as npt
import fastloss
import fastloss.contrastive, fastloss.distribution, fastloss.divergence, fastloss.linear, fastloss.pairs
import fastloss.linear_divergence, fastloss.preference, fastloss.regression
Array = npt.NDArray[Any]
x = np.zeros((2, 3), np.float32)
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calls of all losses; those of other names are in `TABLE`."""
    path = tmp_path_factory.mktemp("types") / "types_of_losses.py"
    path.write_text("\n".join([HEAD, *calls_of_losses()]), encoding="utf-8")
    return path


def test_the_stubs_are_fresh() -> None:
    for path, text in stubs.files().items():
        assert path.read_text(encoding="utf-8") == text, "run `python tests/stubs.py`"


def test_the_table_has_every_public_name(table: Path) -> None:
    text = TABLE.read_text(encoding="utf-8") + table.read_text(encoding="utf-8")
    used = {n.attr for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Attribute)}
    assert set(fastloss.__all__) <= used


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=ROOT)
    return done.stdout + done.stderr


def test_mypy_agrees_with_the_table(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="a type checker")
    assert "Success" in run("mypy", "--strict", f"--cache-dir={tmp_path}", str(TABLE), str(table))


def test_pyright_agrees_with_the_table(table: Path, tmp_path: Path) -> None:
    pytest.importorskip("basedpyright", reason="a type checker")
    settings = {"include": [str(TABLE), str(table)], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    output = run("basedpyright", "-p", str(tmp_path))
    assert "0 errors, 0 warnings" in output, output
