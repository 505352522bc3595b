"""How functions of other libraries are recognised and replaced.

A function is replaced wherever it is a global variable of a module, or a value of a dictionary in `_TABLES`.
A method, or an attribute of one module alone, is replaced in its place. A row of `Foreign` says what is known
of each; only a function whose signature is known is replaced.
"""

from __future__ import annotations

import functools
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, MutableMapping
from typing import Any, NamedTuple

import torch

from fastloss.torch._functional import left_to_torch

__all__ = [
    "Foreign",
    "Replacement",
    "Slot",
    "counts",
    "find",
    "known_rows",
    "own_of",
    "places",
    "replace",
    "signature",
]

Function = Callable[..., Any]
# For the name of each function: the number of its calls, and of those left to torch.
counts: dict[str, list[int]] = {}
# Dictionaries of functions, by module and name.
_TABLES = (("transformers.loss.loss_utils", "LOSS_MAPPING"),)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _count(name: str, left_before: int) -> None:
    """Count a call, without a lock, as a fork could leave it locked. At worst two threads count one call."""
    count = counts.setdefault(name, [0, 0])
    count[0] += 1
    count[1] += left_to_torch() > left_before


class Replacement:
    """A replacement of a function, which counts its calls.

    It is a separate object, so that `uninstall` can distinguish what `install` has placed from what a program
    imported from here. It is an instance of a class, as a function with another `repr` could not be pickled
    by name.
    """

    def __init__(self, name: str, function: Function, own: Function) -> None:
        # It is pickled by the name of the function that it replaces, where it is found.
        functools.update_wrapper(self, own, assigned=("__module__", "__qualname__"), updated=())
        functools.update_wrapper(
            self, function, assigned=("__name__", "__doc__", "__annotations__"), updated=()
        )
        self.fastloss_replaces = own
        self._name, self._function = name, function

    def __call__(self, *args: Any, **options: Any) -> Any:
        left_before = left_to_torch()
        result = self._function(*args, **options)
        _count(self._name, left_before)
        return result

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """Bind it as a method, where it replaces one."""
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<{self._name} of fastloss.torch, installed in the place of {self.fastloss_replaces!r}>"

    def __reduce__(self) -> str:
        return str(vars(self)["__qualname__"])


def own_of(function: Any) -> Any:
    """Return the function that a replacement replaces; any other object unchanged."""
    return function.fastloss_replaces if isinstance(function, Replacement) else function


class _Shown:
    """A default that is shown by name, as the text of a function has an address."""

    def __init__(self, value: Any) -> None:
        self.text = getattr(value, "__name__", None) or repr(value)

    def __repr__(self) -> str:
        return self.text


def signature(function: Function) -> str:
    """Return the parameters of a function as text, with their defaults and without their types."""
    found = inspect.signature(function)
    parameters = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else _Shown(p.default))
        for p in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=found.empty))


_dictionary_of: Any = types.ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]


def find(module: str, name: str) -> Any:
    """Return what has this name (of a method with a dot) within an imported module, or None."""
    contents = sys.modules.get(module)
    if not isinstance(contents, types.ModuleType):
        return None
    first, *rest = name.split(".")
    found = _dictionary_of(contents).get(first)
    for part in rest:
        found = getattr(found, part, None)
    return found


class Foreign(NamedTuple):
    """What is known of a function of another library, and how its replacement is made.

    A method has a dot in its name. A function that `is_local` is replaced in its module alone, and its calls
    are not counted. `known` has the accepted signatures of the function, and of all else that its replacement
    relies on, by their names within the module.
    """

    module: str
    name: str
    make: Callable[[Any], Function]
    known: dict[str, tuple[str, ...]]
    is_local: bool = False

    @property
    def title(self) -> str:
        """Its name with that of its module."""
        return f"{self.module}.{self.name}"

    def find(self, name: str) -> Any:
        """Return what has this name within the module, or None."""
        return find(self.module, name)

    def unknown(self) -> str:
        """Return the first of the signatures that is not a known one, as text, or an empty string."""
        for name, accepted in self.known.items():
            found = self.find(name)
            text = "" if found is None else signature(own_of(found))
            if text not in accepted:
                return f"{name}{text}" if text else f"no {name}"
        return ""


_MISSING = object()


class Slot:
    """An attribute of a class or module that is replaced in its place."""

    def __init__(self, row: Foreign, own: Function) -> None:
        holder, _, self.name = row.name.rpartition(".")
        self.holder = row.find(holder) if holder else sys.modules[row.module]
        self.title = row.title
        self.before = vars(self.holder).get(self.name, _MISSING)
        label = (holder or self.name).rpartition(".")[2]
        made = row.make(own)
        self.placed: Any = made if row.is_local else Replacement(label, made, own)
        setattr(self.holder, self.name, self.placed)

    def is_placed(self) -> bool:
        """Return whether the replacement is still in its place."""
        return vars(self.holder).get(self.name) is self.placed

    def restore(self) -> None:
        """Put back what was there, unless the program has put something else there meanwhile."""
        if not self.is_placed():
            return
        if self.before is _MISSING:
            delattr(self.holder, self.name)
        else:
            setattr(self.holder, self.name, self.before)


# What `install` has said of functions that it does not know.
_said: set[str] = set()


def known_rows(rows: Iterable[Foreign], taken: Container[str]) -> Iterator[tuple[Foreign, Function]]:
    """Yield the rows of imported modules with their functions, but those that are `taken` (by title).

    A function with an unknown signature is left out, with one warning.
    """
    for row in rows:
        own = row.find(row.name)
        if own is None or row.title in taken or isinstance(own, Replacement):
            continue
        if not (unknown := row.unknown()):
            yield row, own
        elif (text := f"{row.title}: {unknown}") not in _said:
            _said.add(text)
            warnings.warn(
                f"fastloss.torch.install() leaves {row.title} as it is: this version has {unknown}, which is "
                "not known here",
                RuntimeWarning,
                stacklevel=4,
            )


def _containers() -> Iterator[tuple[str, MutableMapping[Any, Any]]]:
    """Yield the dictionaries of all imported modules, and the tables, with their names.

    Only the dictionaries of modules are read, as attribute access may load a lazy module or raise an error.
    """
    for key, module in list(sys.modules.items()):
        if issubclass(type(module), types.ModuleType) and not key.startswith("fastloss."):
            yield key, _dictionary_of(module)
    for key, name in _TABLES:
        holder = sys.modules.get(key)
        table = _dictionary_of(holder).get(name) if isinstance(holder, types.ModuleType) else None
        if isinstance(table, dict):
            yield f"{key}.{name}", table


def places(values: Container[int]) -> Iterator[tuple[str, MutableMapping[Any, Any], Any]]:
    """Yield the places of values (by their ids): the name of a dictionary, the dictionary, and a key."""
    for title, contents in _containers():
        for name, value in list(contents.items()):
            if id(value) in values:
                yield title, contents, name


def replace(replacements: dict[int, Function]) -> None:
    """Replace functions (by their ids) in all modules and tables."""
    for _, contents, name in places(replacements):
        contents[name] = replacements[id(contents[name])]
