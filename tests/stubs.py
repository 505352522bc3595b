"""Make the types of the package, ``fastloss/__init__.pyi``, from the signatures of its functions.

A loss returns a float or an array, with or without gradients, as `reduction`, `return_grad` and the like say:
an overload for each. ``python tests/stubs.py`` writes the file; a test fails where it is stale.
"""

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path

import fastloss
from fastloss._engine.documentation import DECLARED

STUB = Path(fastloss.__file__).with_name("__init__.pyi")
MODULES = ("boosting", "reference", "torch")

_HEAD = '''"""Types of the public functions; made by tests/stubs.py from their signatures."""

from typing import Any, Literal, overload

import numpy.typing as npt

'''

# Arguments that say what else is returned, and the types of what each adds.
_FLAGS = ("return_grad", "return_hessian", "teacher_grad")


def _result(flags: dict[str, bool], gradients: str, loss: str) -> str:
    if not flags["return_grad"]:
        return loss
    gradient = "DivergenceGradients" if flags.get("teacher_grad") else gradients
    return f"tuple[{', '.join([loss, gradient] + ['Array'] * flags.get('return_hessian', False))}]"


def _calls(names: list[str]) -> Iterator[dict[str, bool]]:
    """The values of the flags that make a call."""
    others = [name for name in _FLAGS[1:] if name in names]
    yield dict.fromkeys(["return_grad", *others], False)
    for true in [None, *others]:
        yield {"return_grad": True} | {name: name == true for name in others}


def _overload(name: str, signature: inspect.Signature, kinds: dict[str, tuple[str, str]], result: str) -> str:
    """One overload; `kinds` are types and defaults other than those of the signature."""
    found: list[str] = []
    for p in signature.parameters.values():
        if p.kind is p.KEYWORD_ONLY and "*" not in found:
            found.append("*")
        annotation, default = kinds.get(p.name, (str(p.annotation), "" if p.default is p.empty else "..."))
        found.append(f"{p.name}: {annotation}{f' = {default}' if default else ''}")
    indent = " " * 4
    parameters = textwrap.fill(", ".join(found), 110, initial_indent=indent, subsequent_indent=indent)
    return f"@overload\ndef {name}(\n{parameters}\n) -> {result}: ...\n"


def _overloads(name: str) -> str:
    declared = DECLARED[getattr(fastloss, name)]
    signature = inspect.signature(declared.function)
    reduction = signature.parameters["reduction"]
    scalars = ["mean", "sum"] + (["batchmean"] if "batchmean" in reduction.annotation else [])
    ways = {"float": scalars, "Array": ["none"]}
    gradients = declared.gradients.__name__ if declared.gradients else "Array"
    made = []
    for flags in _calls(list(signature.parameters)):
        for loss, allowed in ways.items():
            kinds = {
                "reduction": (
                    f"Literal[{', '.join(repr(one) for one in allowed)}]".replace("'", '"'),
                    "..." if reduction.default in allowed else "",
                )
            }
            for flag, value in flags.items():
                kinds[flag] = (f"Literal[{value}]", "" if value else "...")
            made.append(_overload(name, signature, kinds, _result(flags, gradients, loss)))
    made.append(_overload(name, signature, {}, "Any"))
    return "".join(made)


def _imported(name: str) -> str:
    return f"from {getattr(fastloss, name).__module__} import {name} as {name}"


def text() -> str:
    """The whole file."""
    losses = [
        n for n in fastloss.__all__ if "return_grad" in inspect.signature(getattr(fastloss, n)).parameters
    ]
    types = {kind for n in losses if (kind := DECLARED[getattr(fastloss, n)].gradients)}
    imports = [f"from fastloss import {name} as {name}" for name in MODULES]
    imports += [_imported(name) for name in fastloss.__all__ if name not in losses]
    imports += [f"from {kind.__module__} import {kind.__name__}" for kind in types]
    imports += [
        "from fastloss._engine.rows import DivergenceGradients",
        "from fastloss._engine.types import Array, Reduction",
    ]
    names = "".join(f'    "{name}",\n' for name in fastloss.__all__)
    return "\n".join(
        [_HEAD + "\n".join(sorted(imports)), "", f"__all__ = [\n{names}]", "", "__version__: str", ""]
    ) + "\n".join(map(_overloads, losses))


if __name__ == "__main__":
    STUB.write_text(text(), encoding="utf-8")
