"""The Python of README.md and of the pages under docs/ runs as it stands, and their links lead to files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fastloss

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block after the comment is left out: it shows a part of a program.
BLOCK = re.compile(r"(<!-- fragment -->\s+)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = {
    "torch": r"\btorch\b",
    "lightgbm": "lightgbm|LGBM",
    "xgboost": "xgboost|XGB",
    "sklearn": "sklearn|LGBM|XGB[CR]",
}


def programs() -> Iterator[Any]:
    """Each block of the README by itself; all blocks of another page, one after the other."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = [m for m in BLOCK.finditer(text) if not m[1] and not m[2].startswith(">>>")]
        # Lines keep their numbers.
        blocks = ["\n" * text.count("\n", 0, m.start(2)) + m[2] for m in found]
        for k, run in enumerate([[b] for b in blocks] if page.name == "README.md" else [blocks]):
            yield pytest.param(page, run, id=f"{page.name}-{k}")


@pytest.mark.parametrize(("page", "blocks"), [*programs()])
def test_the_code_runs(page: Path, blocks: list[str]) -> None:
    for module, words in NEEDS.items():
        if re.search(words, "".join(blocks)):
            pytest.importorskip(module)
    threads, variables = fastloss.get_num_threads(), {"__name__": "__main__"}
    try:
        for block in blocks:
            exec(compile(block, str(page), "exec"), variables)
    finally:
        fastloss.set_num_threads(threads)
        if "fastloss.torch" in "".join(blocks):
            fastloss.torch.uninstall(all=True)


@pytest.mark.parametrize("page", [*PAGES, *ROOT.glob("C*.md")], ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).is_file(), target
