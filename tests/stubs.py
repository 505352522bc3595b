"""Make the types of `fastloss` and `fastloss.torch`, their ``__init__.pyi``, from the functions' signatures.

A loss of arrays returns a float or an array, with or without gradients, as `reduction`, `return_grad` and the
like say: an overload for each. ``python tests/stubs.py`` writes the files; a test fails where one is stale.
"""

import importlib.util
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastloss
from fastloss._engine.documentation import DECLARED

FOLDER = Path(fastloss.__file__).parent
MODULES = ("boosting", "reference", "torch")

_HEAD = '''"""Types of the public functions; made by tests/stubs.py from their signatures."""

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy.typing as npt

'''

# Arguments that say what else is returned, and the types of what each adds.
_FLAGS = ("return_grad", "return_hessian", "teacher_grad", "return_entropy")


def _result(flags: dict[str, bool], gradients: str, loss: str) -> str:
    gradient = "DivergenceGradients" if flags.get("teacher_grad") else gradients
    more = [gradient] * flags["return_grad"]
    more += ["Array"] * (flags.get("return_hessian", False) or flags.get("return_entropy", False))
    return f"tuple[{', '.join([loss, *more])}]" if more else loss


def _calls(names: list[str]) -> Iterator[dict[str, bool]]:
    """The values of the flags that make a call."""
    others = [name for name in _FLAGS[1:] if name in names]
    yield dict.fromkeys(["return_grad", *others], False)
    if "return_entropy" in others:  # the one that needs no gradient
        yield {"return_grad": False} | {name: name == "return_entropy" for name in others}
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
    function = getattr(fastloss, name)
    declared, signature = DECLARED[function], inspect.signature(function)
    reduction = signature.parameters.get("reduction")
    if reduction is None:
        assert declared.result is not None
        ways: dict[str, list[str]] = {declared.result.__name__: []}
    else:
        scalars = ["mean", "sum"] + (["batchmean"] if "batchmean" in reduction.annotation else [])
        ways = {"float": scalars, "tuple[float, float]": ["sum_and_count"], "Array": ["none"]}
    gradients = declared.gradients.__name__ if declared.gradients else "Array"
    made = []
    for flags in _calls(list(signature.parameters)):
        for loss, allowed in ways.items():
            kinds = {}
            if reduction is not None:
                kinds["reduction"] = (
                    f"Literal[{', '.join(repr(one) for one in allowed)}]".replace("'", '"'),
                    "..." if reduction.default in allowed else "",
                )
            for flag, value in flags.items():
                kinds[flag] = (f"Literal[{value}]", "" if value else "...")
            made.append(_overload(name, signature, kinds, _result(flags, gradients, loss)))
    made.append(_overload(name, signature, {}, "Any"))
    return "".join(made)


def _imported(name: str) -> str:
    return f"from {getattr(fastloss, name).__module__} import {name} as {name}"


def of_arrays() -> str:
    """The types of `fastloss`."""
    losses = [
        n for n in fastloss.__all__ if "return_grad" in inspect.signature(getattr(fastloss, n)).parameters
    ]
    declared = [DECLARED[getattr(fastloss, n)] for n in losses]
    types = {kind for one in declared for kind in (one.gradients, one.result) if kind}
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


def _of_tensors(name: str, value: Callable[..., Any]) -> str:
    """A function of tensors that is made at import."""
    from torch import Tensor

    from fastloss.torch._autograd import LOSSES

    arrays = {"npt.ArrayLike", "npt.ArrayLike | None"}
    own = inspect.signature(getattr(fastloss, name)).parameters
    declared = DECLARED.get(getattr(fastloss, name))
    result = (declared and declared.result) or Tensor
    kinds: dict[str, str] = {}
    parameters = list(inspect.signature(value).parameters.values())
    for p in parameters:
        kind = str(own[p.name].annotation) if p.name in own else _TORCHS.get(p.name, "Any")
        if name in LOSSES and p.name in LOSSES[name].numbers:
            kind = "Tensor | float"
        if kind == "float | npt.ArrayLike":
            kind = "Tensor | float | list[float] | tuple[float, ...]"
        if kind in arrays:  # numbers, too, but for the first
            kind = kind.replace("npt.ArrayLike", "Tensor | float" if kinds else "Tensor")
        kinds[p.name] = kind
    return _of_kinds(name, parameters, kinds, result.__name__)


def _of_kinds(name: str, parameters: list[inspect.Parameter], kinds: dict[str, str], result: str) -> str:
    """A function of tensors whose parameters have these types; by its reduction, if it has one."""
    if "reduction" not in kinds:
        return _of_reduction(name, parameters, kinds, result)
    words = ["mean", "sum", "none", *(["batchmean"] if name == "kl_div" else [])]
    literal = ", ".join(f'"{word}"' for word in words)
    ways = {
        f"Literal[{literal}]": result,
        'Literal["sum_and_count"]': f"tuple[{result}, {result}]",
        "str": "Any",
    }
    made = [_of_reduction(name, parameters, {**kinds, "reduction": r}, ways[r]) for r in ways]
    return "\n".join(f"@overload\n{one}" for one in made)


def _of_reduction(name: str, parameters: list[inspect.Parameter], kinds: dict[str, str], result: str) -> str:
    found: list[str] = []
    for p in parameters:
        # Behind parameters with a default, one without it is taken by name alone.
        is_required = p.default is p.empty or kinds[p.name] == 'Literal["sum_and_count"]'
        if (p.kind is p.KEYWORD_ONLY or (is_required and p.default is not p.empty)) and "*" not in found:
            found.append("*")
        found.append(f"{p.name}: {kinds[p.name]}{'' if is_required else ' = ...'}")
    return f"def {name}({', '.join(found)}) -> {result}: ..."


def _of_torchs(name: str, value: Callable[..., Any]) -> str:
    """A function of tensors that says its types."""
    parameters = list(inspect.signature(value).parameters.values())
    return _of_kinds(name, parameters, {p.name: str(p.annotation) for p in parameters}, "Tensor")


# The types of torch's parameters that the function of arrays lacks.
_TORCHS = {"size_average": "bool | None", "reduce": "bool | None"}


def of_tensors() -> str:
    """The types of `fastloss.torch`."""
    from torch import nn

    import fastloss.torch as ft
    from fastloss.torch import (
        _adaptive,
        _beyond,
        _derived,
        _functional,
        _install,
        _modules,
        _parallel,
        _processes,
        _statistics,
        _without_logits,
    )

    lines = ['"""Types of the functions of tensors; made by tests/stubs.py from their signatures."""', ""]
    lines += ["from collections.abc import Callable", "from typing import Any, Literal, overload", ""]
    lines += ["from torch import Tensor, nn", ""]
    lines += ["from fastloss.torch._statistics import TokenStatistics"]
    for module in (_adaptive, _install, _modules, _processes, _without_logits):
        lines += [f"from {module.__name__} import {name} as {name}" for name in sorted(module.__all__)]
    lines += ["", "__all__ = [", *(f'    "{name}",' for name in ft.__all__), "]", ""]
    for module in (_functional, _parallel):
        lines += [_of_torchs(name, getattr(module, name)) for name in sorted(module.__all__)]
    for module in (_beyond, _derived, _statistics):
        for name in sorted(module.__all__):
            value = getattr(module, name)
            if isinstance(value, type):
                base = "nn.Module" if not hasattr(nn, name) else f"nn.{name}"
                lines.append(f"class {name}({base}):" + _CONSTRUCTED)
            else:
                lines.append(_of_tensors(name, value))
    return "\n".join(lines) + "\n"


_CONSTRUCTED = """
    def __init__(self, *args: Any, **options: Any) -> None: ...
    def forward(self, *tensors: Tensor | None, **options: Any) -> Tensor: ..."""


def files() -> dict[Path, str]:
    """The files and what they should hold; those of `fastloss.torch` only where torch is installed."""
    made = {FOLDER / "__init__.pyi": of_arrays()}
    if importlib.util.find_spec("torch"):
        made[FOLDER / "torch" / "__init__.pyi"] = of_tensors()
    return made


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
