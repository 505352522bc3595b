"""Every name of fastloss.torch is documented: losses and modules with their formula."""

import inspect
import re

import pytest

torch = pytest.importorskip("torch")
ft = pytest.importorskip("fastloss.torch")

# What is no loss.
PROGRAM = {name for name in ft.__all__ if name.lower() in ("calls", "install", "installed", "uninstall")}
LOSSES = [name for name in ft.__all__ if name not in PROGRAM]


def formulas(documentation: str) -> list[str]:
    """What stands behind each ``.. math::``, in its line or indented below it."""
    found = []
    for part in re.split(r"^\.\. math::", documentation, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        below = []
        for line in rest:
            if line and not line.startswith(" "):
                break
            below.append(line.strip())
        found.append(f"{first} {' '.join(below)}".strip())
    return found


def test_all_is_sorted_and_complete() -> None:
    own = {n for n, v in vars(ft).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert set(ft.__all__) == own and len(set(ft.__all__)) == len(ft.__all__)
    assert ft.__all__ == sorted(ft.__all__)


@pytest.mark.parametrize("name", ft.__all__)
def test_is_documented(name: str) -> None:
    value = getattr(ft, name)
    documentation = inspect.cleandoc(value.__doc__ or "")
    assert documentation and documentation.splitlines()[0].endswith(".")
    assert not inspect.isclass(value) or value.__doc__ != value.__mro__[1].__doc__, "inherited"
    assert all(formulas(documentation))
    assert all(line == line.rstrip() for line in documentation.splitlines())
    assert "\n\n\n" not in documentation


@pytest.mark.parametrize("name", LOSSES)
def test_has_a_formula(name: str) -> None:
    (formula,) = formulas(inspect.cleandoc(getattr(ft, name).__doc__))
    assert len(formula) > 5 and formula.count("{") == formula.count("}")


def test_what_is_no_loss() -> None:
    assert {"install", "uninstall", "Installed"} <= PROGRAM
    assert all(inspect.isclass(getattr(ft, n)) or callable(getattr(ft, n)) for n in PROGRAM)
