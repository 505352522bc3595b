"""The public surface: every name is documented, typed, and has its reference, its cases and its doctests."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cases import CASES

import fastloss
from fastloss import reference

# Names that are not functions of numbers: they need no reference.
SETTINGS = {"get_num_threads", "num_threads", "set_num_threads", "show_config"}
ROW_LOSSES = {"cross_entropy", "nll_loss"}
LOSSES = {name for name in fastloss.__all__ if re.search("(loss|entropy|penalty)", name)}
MODULES = sorted(
    f"{folder}{info.name}"
    for folder in ("", "torch.")
    for info in pkgutil.iter_modules([str(Path(fastloss.__path__[0], folder.rstrip(".")))])
    if info.name not in ("_kernels", "__main__")
)


def public_functions() -> dict[str, object]:
    return {name: getattr(fastloss, name) for name in fastloss.__all__}


def test_all_is_sorted_and_complete() -> None:
    assert fastloss.__all__ == sorted(fastloss.__all__)
    exported = {
        name
        for name, value in vars(fastloss).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert exported == set(fastloss.__all__)


@pytest.mark.parametrize("name", sorted(set(fastloss.__all__) - SETTINGS - {"Perplexity"}))
def test_has_a_reference(name: str) -> None:
    ours = inspect.signature(getattr(fastloss, name)).parameters
    theirs = inspect.signature(getattr(reference, name)).parameters
    beyond_arithmetic = {"out", "accumulate", "num_threads", "check_domain", "memory_budget", "filter_eps"}
    assert {k: v.default for k, v in ours.items() if k not in beyond_arithmetic} == {
        k: v.default for k, v in theirs.items()
    }


def test_every_loss_has_its_case() -> None:
    assert {case.name for case in CASES} >= ROW_LOSSES


@pytest.mark.parametrize("name", fastloss.__all__)
def test_is_documented(name: str) -> None:
    """One line, then sections; every parameter is described."""
    value = public_functions()[name]
    doc = inspect.getdoc(value)
    assert doc
    first, blank = doc.splitlines()[:2]
    assert first.endswith(".") and blank == ""
    assert "Examples\n--------" in doc
    if name in SETTINGS:
        return
    for section in ("Parameters", "References"):
        assert re.search(rf"^{section}\n-+$", doc, re.MULTILINE), section
    assert ".. math::" in doc
    for parameter in inspect.signature(value).parameters:
        assert re.search(rf"^[\w, ]*\b{parameter}\b.*( :|$)", doc, re.MULTILINE), parameter


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_loss_takes_the_common_arguments(name: str) -> None:
    parameters = inspect.signature(getattr(fastloss, name)).parameters
    common = ["reduction", "return_grad", "grad_output", "out", "accumulate", "num_threads"]
    assert [p for p in parameters if p != "return_hessian"][-len(common) :] == common
    arrays = {"dpo_loss": 4}
    three = ("gaussian_nll_loss", "elastic_net_penalty", "linear_cross_entropy", "kto_loss")
    arrays |= dict.fromkeys((*three, "ppo_loss", "value_loss", "grpo_loss"), 3)
    positional = arrays.get(name, 2)
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[positional:])


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str) -> None:
    if module.startswith("torch"):
        pytest.importorskip("torch")
    loaded = importlib.import_module(f"fastloss.{module}")
    assert doctest.testmod(loaded).failed == 0


def test_import_is_light() -> None:
    """Importing loads no framework and not even the optional bfloat16."""
    heavy = ("torch", "jax", "sklearn", "ml_dtypes", "lightgbm", "xgboost")
    code = f"import sys, fastloss; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_command_line_prints_the_configuration() -> None:
    run = [sys.executable, "-m", "fastloss"]
    out = subprocess.run([*run, "info"], capture_output=True, text=True, check=True).stdout
    assert out.startswith("fastloss") and "instruction sets" in out
    assert subprocess.run([*run, "nonsense"], capture_output=True).returncode == 2
    assert subprocess.run([*run, "info", "--nonsense"], capture_output=True).returncode == 2
