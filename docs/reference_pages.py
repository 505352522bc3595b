"""The pages of the reference: one for each public name, and one for each package that lists them by topic.

The names come from the packages themselves. A new function is in the reference without a change here.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import fastloss
import fastloss.torch
from fastloss import boosting


class Topic(NamedTuple):
    """Names under one heading."""

    title: str
    text: str
    names: list[str]


def _title(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].replace("_", " ").capitalize()


def _summary(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _topics_of_arrays() -> list[Topic]:
    """Return a topic for each module of the package."""
    found = [
        Topic(_title(module), _summary(module), [name for name in module.__all__ if name in fastloss.__all__])
        for module in fastloss._MODULES
    ]
    return [topic for topic in found if topic.names]


def _is_module_of_torch(name: str) -> bool:
    value = getattr(fastloss.torch, name)
    return inspect.isclass(value) and issubclass(value, torch.nn.Module)


def _topics_of_tensors() -> list[Topic]:
    """Return the topics of the functions of arrays, the modules, and what only programs with torch need."""
    names = fastloss.torch.__all__
    found = [
        Topic(title, text, [name for name in of_arrays if name in names])
        for title, text, of_arrays in _topics_of_arrays()
    ]
    modules = [name for name in names if _is_module_of_torch(name)]
    others = [name for name in names if name not in {*fastloss.__all__, *modules}]
    found.append(Topic("Modules", "The losses as subclasses of `torch.nn.Module`.", modules))
    found.append(
        Topic("Programs", "Whole programs, several processes, and functions of torch alone.", others)
    )
    return [topic for topic in found if topic.names]


def _topics_of_boosting() -> list[Topic]:
    estimators = sorted(boosting._ESTIMATORS)
    return [
        Topic("Objectives", "The losses as callable objects.", sorted(boosting.__all__)),
        Topic("Estimators", "Those of the libraries, which also take these objectives.", estimators),
    ]


TOPICS = {
    "fastloss": _topics_of_arrays(),
    "fastloss.torch": _topics_of_tensors(),
    "fastloss.boosting": _topics_of_boosting(),
}
PACKAGES = {"fastloss": fastloss, "fastloss.torch": fastloss.torch, "fastloss.boosting": boosting}


def _members(name: str, value: Any) -> list[str]:
    """Return the public members of a class that the package itself defines and describes."""
    if not inspect.isclass(value) or issubclass(value, torch.nn.Module) or name in boosting._ESTIMATORS:
        return []
    fields = getattr(value, "_fields", ())  # of a named tuple: the class describes them
    return [n for n, member in vars(value).items() if n[0] != "_" and n not in fields and _summary(member)]


def _values() -> dict[str, Any]:
    return {
        f"{package}.{name}": getattr(PACKAGES[package], name)
        for package, topics in TOPICS.items()
        for topic in topics
        for name in topic.names
    }


VALUES = _values()
# Every name that text in backticks may link to.
NAMES = {
    *PACKAGES,
    *VALUES,
    *(f"{full}.{m}" for full, value in VALUES.items() for m in _members(full.rpartition(".")[2], value)),
}

# The losses that the guide has a section on.
GUIDE = re.findall(
    r"^### `(\w+)`$", (Path(__file__).parent / "which-loss.md").read_text("utf-8"), re.MULTILINE
)


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n\n"


def page_of(full: str) -> str:
    """Return the page of a public name, in Markdown: its links to headings are checked."""
    value = VALUES[full]
    name = full.rpartition(".")[2]
    lines = [f"# {full}", "", "```{eval-rst}"]
    lines.append(f".. auto{'class' if inspect.isclass(value) else 'function'}:: {full}")
    members = _members(name, value)
    if members:
        lines.append(f"   :members: {', '.join(members)}")
    lines += ["```", ""]
    if full == f"fastloss.{name}" and name in GUIDE:
        lines += [f"[When to choose it, with a picture](../../which-loss.md#{name})", ""]
    return "\n".join(lines)


def overview_of(package: str) -> str:
    """Return the page that lists the names of a package by topic."""
    parts = [
        _heading(package, "="),
        f".. py:module:: {package}\n\n",
        (inspect.getdoc(PACKAGES[package]) or "").partition("\n")[2].strip(),
        "\n\n",
    ]
    for topic in TOPICS[package]:
        table = "\n".join(f"   {name}" for name in topic.names)
        parts += [
            _heading(topic.title, "-"),
            f"{topic.text}\n\n",
            f".. autosummary::\n   :nosignatures:\n\n{table}\n\n",
        ]
    names = sorted(name for topic in TOPICS[package] for name in topic.names)
    parts.append(".. toctree::\n   :hidden:\n\n" + "".join(f"   {n} <{package}.{n}>\n" for n in names))
    return "".join(parts)


def pages() -> dict[str, str]:
    """Return the text of each page, by the name of its file."""
    overviews = {f"of-{package.rpartition('.')[2]}.rst": overview_of(package) for package in PACKAGES}
    return {**overviews, **{f"{full}.md": page_of(full) for full in VALUES}}


def write(folder: Path) -> None:
    """Write the pages that have changed, so that Sphinx reads no others, and remove those of old names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for old in folder.iterdir():
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
