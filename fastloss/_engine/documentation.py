"""Docstrings and signatures of the public functions, made from what they declare.

A public function writes out what is its own: the summary, the formula, the parameters that no other function
has, references, an example. `documented` adds the rest at import: the parameters behind ``**common`` to the
signature, and the description of each shared parameter, result and error to the docstring. So a shared
parameter is described once in the source, in `fastloss._engine.fragments`, and in full in every ``help()``.

In a docstring ``|name|`` stands for a text of the function's family, such as ``|types|``.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, TypeVar

from fastloss._engine import options

__all__ = ["DECLARED", "Declaration", "Family", "documented", "parsed", "with_every_parameter", "written"]

Function = TypeVar("Function", bound=Callable[..., Any])

# The order of numpydoc.
_ORDER = ("Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples")
_LISTS = ("Parameters", "Returns", "Raises")
_TITLE = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)


class Entry(NamedTuple):
    """A parameter, a result or an error: its line, and its description."""

    line: str
    text: str

    @property
    def names(self) -> list[str]:
        """The names before the colon; several parameters may share a description."""
        return [name.strip() for name in self.line.partition(" : ")[0].split(",")]


@dataclass
class Sections:
    """A docstring in its parts."""

    preamble: str
    lists: dict[str, list[Entry]]
    texts: dict[str, str]


def _entries(body: str) -> list[Entry]:
    found = re.split(r"\n(?=\S)", body.strip("\n"))
    return [Entry(*one.partition("\n")[::2]) for one in found if one.strip()]


def parsed(docstring: str) -> Sections:
    """Take a docstring of numpydoc apart."""
    preamble, *rest = _TITLE.split(inspect.cleandoc(docstring))
    bodies = {title: body.strip("\n") for title, body in zip(rest[::2], rest[1::2], strict=True)}
    lists = {title: _entries(bodies.pop(title)) for title in _LISTS if title in bodies}
    return Sections(preamble.strip("\n"), lists, bodies)


def written(sections: Sections) -> str:
    """Put a docstring together."""
    parts = [sections.preamble]
    for title in _ORDER:
        body = sections.texts.get(title, "")
        if sections.lists.get(title):
            body = "\n".join(f"{e.line}\n{e.text}".rstrip() for e in sections.lists[title])
        if body:
            parts.append(f"{title}\n{'-' * len(title)}\n{body}")
    return "\n\n".join(parts) + "\n"


def merged(own: Iterable[Entry], shared: dict[str, Entry], names: Iterable[str]) -> list[Entry]:
    """Return an entry for each name, in order: the function's own one, else the shared one."""
    by_name = {name: entry for entry in own for name in entry.names}
    found: list[Entry] = []
    for name in names:
        entry = by_name.get(name) or shared.get(name)
        if entry is not None and entry not in found:
            found.append(entry)
    return found


@dataclass(frozen=True)
class Family:
    """What functions of one kind share: descriptions, and the texts that these and docstrings refer to."""

    parameters: str
    returns: str
    raises: str
    texts: dict[str, str] = field(default_factory=dict)

    def varied(self, *, parameters: str = "", returns: str = "", raises: str = "", **texts: str) -> Family:
        """Return a family with further or other descriptions and texts."""

        def joined(more: str, less: str) -> str:
            return f"{inspect.cleandoc(more)}\n{inspect.cleandoc(less)}"  # the first of a name counts

        return Family(
            joined(parameters, self.parameters),
            joined(returns, self.returns),
            joined(raises, self.raises),
            {**self.texts, **texts},
        )


class Declaration(NamedTuple):
    """What `documented` was told of a function, for the stubs of its types and the adapters."""

    family: Family
    gradients: type | None
    result: type | None = None


DECLARED: dict[Callable[..., Any], Declaration] = {}


@cache
def _behind(kind: str) -> dict[str, inspect.Parameter]:
    """Return the parameters behind ``**common`` of a type of `fastloss._engine.options`."""
    return {
        name: inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=options.DEFAULTS[name],
            annotation=_written(annotation),
        )
        for name, annotation in typing.get_type_hints(getattr(options, kind)).items()
    }


def _expanded(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with every parameter behind ``**common``, in the order of the documentation."""
    signature = inspect.signature(function)
    found = list(signature.parameters.values())
    if not found or found[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return signature
    kind = re.sub(r"Unpack\[(.*)\]", r"\1", str(found.pop().annotation))
    behind = _behind(kind)
    own = {p.name: p for p in found}
    names = list(own)
    if "out" in own:
        at = names.index("out")
        names[at : at + 1] = ["grad_output", "out", "accumulate", "num_threads"]
    if "weight" in behind:
        at = names.index("reduction")
        names[at:at] = [name for name in ("weight", "check_domain") if name in behind]
    # In the order of torch, which has the first of these.
    first = [name for name in ("label_smoothing",) if name in behind]
    others = [name for name in behind if name in options.MapOptions.__optional_keys__]
    at = names.index("sample_weight") if "sample_weight" in own else len(names)
    names[at : at + 1] = [*first, *names[at : at + 1], *others]
    return signature.replace(parameters=[{**own, **behind}[name] for name in names])


def with_every_parameter(function: Function) -> Function:
    """Decorate a function with its signature as `inspect.signature` and ``help()`` show it."""
    signature = _expanded(function)
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {
        **{p.name: p.annotation for p in signature.parameters.values()},
        "return": signature.return_annotation,
    }
    return function


def _written(annotation: Any) -> str:
    """Return an annotation as the signatures of the package write it."""
    if annotation == options.ArrayOrNone:
        return "npt.ArrayLike | None"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _substituted(text: str, texts: dict[str, str]) -> str:
    """Replace ``|name|`` by a text, which may refer to others; on lines of its own indentation."""

    def one(match: re.Match[str]) -> str:
        return _substituted(texts[match[1]], texts) if match[1] in texts else match[0]

    return re.sub(r"\|(\w+)\|", one, text)


def _filled(entry: Entry, texts: dict[str, str]) -> Entry:
    return Entry(_substituted(entry.line, texts), _wrapped(_substituted(entry.text, texts)))


def _wrapped(text: str, width: int = 100) -> str:
    """Wrap the paragraphs of a description in which lines have become too long."""
    if all(len(line) <= width for line in text.split("\n")):
        return text
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        textwrap.fill(
            " ".join(p.split()),
            width,
            initial_indent="    ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for p in paragraphs
    )


@cache
def _shared(text: str) -> dict[str, Entry]:
    """Return the entries of a family by name; the first of a name counts."""
    found: dict[str, Entry] = {}
    for entry in _entries(inspect.cleandoc(text)):
        for name in entry.names:
            found.setdefault(name, entry)
    return found


def _texts_of(
    signature: inspect.Signature, family: Family, gradients: type | None, texts: dict[str, str]
) -> dict[str, str]:
    """Return what ``|name|`` may stand for in the documentation of a function."""
    names = list(signature.parameters)
    fields: tuple[str, ...] = getattr(gradients, "_fields", ())
    default = signature.parameters["reduction"].default if "reduction" in names else ""
    domain = {**family.texts, **texts}.get("domain", "")
    return {
        "x": names[0] if names else "",
        "default_reduction": default,
        "count": ("no", "one", "two", "three", "four", "five")[len(fields)],
        "Gradients": getattr(gradients, "__name__", ""),
        "wanted": " and ".join(f"`{name}`" for name in (fields or names[:1])),
        "fields": ", ".join(fields),
        "derivatives": "derivatives" if "return_hessian" in names else "gradients" if fields else "gradient",
        "outside": f"if a value is not {domain} (the message names its position), " if domain else "",
        **family.texts,
        **texts,
    }


def documented(
    family: Family, *, gradients: type | None = None, returns: type | None = None, **texts: str
) -> Callable[[Function], Function]:
    """Return a decorator that completes signature and docstring of a public function.

    `gradients` is the NamedTuple of a loss with several gradients, `returns` that of a function which returns
    one instead of a loss; such a function describes it. `texts` are those of this function alone,
    such as `mean`, which says what ``"mean"`` divides by.
    """

    def complete(function: Function) -> Function:
        signature = inspect.signature(with_every_parameter(function))
        DECLARED[function] = Declaration(family, gradients, returns)
        if function.__doc__:  # python -OO has none
            filled = _texts_of(signature, family, gradients, texts)
            function.__doc__ = _completed(parsed(function.__doc__), signature, family, filled)
        return function

    return complete


def _completed(own: Sections, signature: inspect.Signature, family: Family, texts: dict[str, str]) -> str:
    several = bool(texts["fields"])
    result = texts.get("result", "loss")
    results = [result]
    if "return_grad" in signature.parameters:
        results += ["grads" if several else "grad"]
    results += [name for name in ("hessian", "entropy") if f"return_{name}" in signature.parameters]
    shared = {
        "Parameters": (dict(_shared(family.parameters)), list(signature.parameters)),
        "Returns": (dict(_shared(family.returns)), results),
        "Raises": (_shared(family.raises), ["TypeError", "ValueError", "IndexError", "RuntimeError"]),
    }
    if several and "out" in shared["Parameters"][0]:
        for name in ("out", "accumulate"):
            line, text = shared["Parameters"][0][f"{name}_of_several"]
            shared["Parameters"][0][name] = Entry(line.replace("_of_several", "", 1), text)
    if "return_grad" not in signature.parameters and "Returns" in own.lists:
        del shared["Returns"]
        own.lists["Returns"] = [_filled(e, texts) for e in own.lists["Returns"]]
    for title, (entries, names) in shared.items():
        mine = own.lists.get(title, [])
        if title == "Returns":  # the loss may have another name
            line = entries["loss"].line.replace("loss : ", f"{result} : ")
            entries[result] = entries["loss"]._replace(line=line)
        own.lists[title] = [_filled(e, texts) for e in merged(mine, entries, names)]
    own.preamble = _substituted(own.preamble, texts)
    own.texts = {title: _substituted(text, texts) for title, text in own.texts.items()}
    return written(own)
