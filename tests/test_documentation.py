"""The docstrings of every public function: each parameter in full words, formulas that a terminal shows."""

import importlib
import importlib.util
import inspect
import re
from typing import Any

import pytest
from helpers import SETTINGS

import fastloss
from fastloss import boosting

OF_TORCH = importlib.import_module("fastloss.torch").__all__ if importlib.util.find_spec("torch") else []
NO_LOSSES = {
    "all_reduce",
    "calls",
    "install",
    "installed",
    "uninstall",
    "without_logits",
    "Calls",
    "Installed",
}
CLASSES = ("LossCurve", "Perplexity")


def found(name: str) -> Any:
    value: Any = fastloss
    for part in name.split("."):
        value = getattr(value, part)
    return value


METHODS = [
    f"{of}.{name}"
    for of in CLASSES
    for name in vars(found(of))
    if not name.startswith("_") and inspect.isroutine(found(f"{of}.{name}"))
]
NAMES = [*fastloss.__all__, *METHODS, *(f"boosting.{name}" for name in boosting.__all__)]
NAMES += [f"torch.{name}" for name in OF_TORCH]
FUNCTIONS = [name for name in NAMES if name in CLASSES or not inspect.isclass(found(name))]
LOSSES = [name for name in fastloss.__all__ if name not in {*SETTINGS, "Finding"}]
LOSSES += [f"torch.{name}" for name in OF_TORCH if name not in NO_LOSSES]


def described(documentation: str) -> dict[str, str]:
    """The line of each parameter, its type, shape and default."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)", documentation, re.MULTILINE | re.DOTALL
    )
    lines = re.findall(r"^(\w[\w, ]*?) : (.+)\n {4}\S", section[1] if section else "", re.MULTILINE)
    return {name.strip(): kind for names, kind in lines for name in names.split(",")}


def problem(parameter: inspect.Parameter, kind: str) -> str:
    """What is missing in the line of a parameter."""
    if re.search("array_like|ndarray|Tensor", kind) and "shape" not in kind:
        return "no shape"
    default = parameter.default
    if default is parameter.empty:
        return ""
    if default is None:
        return "" if "optional" in kind or "or None" in kind else "not called optional"
    shown = re.search(r"default (.+)", kind)
    if isinstance(default, (bool, str, tuple)):
        return "" if shown and repr(default).replace("'", '"') in shown[1] else f"no default {default!r}"
    numbers = re.findall(r"-?\d[\d.e-]*", shown[1]) if shown else []
    return "" if default in map(float, numbers) else f"no default {default!r}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_described(name: str) -> None:
    value = found(name)
    parameters = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    lines = described(inspect.getdoc(value) or "")
    faults = {
        p.name: problem(p, lines[p.name]) if p.name in lines else "not described"
        for p in parameters
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    assert not {name: fault for name, fault in faults.items() if fault}
    assert set(lines) <= {p.name for p in parameters} | {"options", "**options"}


@pytest.mark.parametrize("name", NAMES)
def test_a_docstring_is_well_formed(name: str) -> None:
    value = found(name)
    documentation = inspect.cleandoc(value.__doc__ or "")
    first, _, rest = documentation.partition("\n")
    assert first.endswith(".") and (not rest or rest.startswith("\n"))
    assert not inspect.isclass(value) or value.__doc__ != value.__mro__[1].__doc__, "inherited"
    assert all(line == line.rstrip() and len(line) <= 110 for line in documentation.splitlines())
    assert "\n\n\n" not in documentation
    assert not re.search(r"\b([Aa]s in|types as|[Aa]s those of|[Aa]s that of) `", documentation)
    assert not re.search(r"\|[A-Za-z]{4,}\|", documentation), "a text that does not exist"


def formulas(documentation: str) -> list[str]:
    """The text of each ``.. math::``, in its line or indented below it."""
    blocks = re.findall(r"^\.\. math::(.*\n(?:(?: .*)?\n)*)", documentation + "\n", re.MULTILINE)
    return [" ".join(block.split()) for block in blocks]


@pytest.mark.parametrize("name", LOSSES)
def test_formulas_are_there_and_read_well_in_a_terminal(name: str) -> None:
    documentation = inspect.cleandoc(found(name).__doc__)
    blocks = formulas(documentation)
    assert blocks and all(len(block) > 5 and block.count("{") == block.count("}") for block in blocks)
    before = re.split(r"^\w[\w ]*\n---", documentation, flags=re.MULTILINE)[0]
    assert re.search(r"``[^`]*\S[^`]*``", before.partition(".. math::")[0]), "no formula in plain text"


@pytest.mark.parametrize("name", fastloss.__all__)
def test_every_section_is_there(name: str) -> None:
    documentation = inspect.cleandoc(getattr(fastloss, name).__doc__)
    sections = ["Examples"]
    if name not in {*SETTINGS, "Finding"}:
        sections += ["Parameters", "References"]
        sections += ["Returns", "Raises"] if name not in CLASSES else []
    for section in sections:
        assert re.search(rf"^{section}\n-+$", documentation, re.MULTILINE), section


def test_names_are_sorted_and_complete() -> None:
    for module in (fastloss, *([fastloss.torch] if OF_TORCH else [])):
        own = {n for n, v in vars(module).items() if not n.startswith("_") and not inspect.ismodule(v)}
        assert module.__all__ == sorted(own)
