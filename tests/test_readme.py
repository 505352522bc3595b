"""The Python blocks of README.md and docs/ run, and their links lead to files and headings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# A comment before a block says that it is a fragment; the doctests of which-loss.md run in test_docs.py.
BLOCK = re.compile(r"(<!-- fragment -->\n)?```python\n(?!>>>)(.*?)```", re.DOTALL)
PROGRAMS = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (fragment, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), 1)
    if not fragment
]
OPTIONAL = {"fastloss.torch": "torch", "fastloss.boosting": "lightgbm"}


@pytest.mark.parametrize("code", PROGRAMS)
def test_a_block_is_a_program(code: str) -> None:
    """Each block runs in a process of its own."""
    for module, package in OPTIONAL.items():
        if module in code:
            pytest.importorskip(package)
            if package == "lightgbm":
                pytest.importorskip("sklearn")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    assert len(re.findall(r"^python3 -m venv", text, re.MULTILINE)) == 2


def test_every_page_is_linked_from_the_readme() -> None:
    text = README.read_text(encoding="utf-8")
    for page in PAGES:
        assert page == README or f"({page.relative_to(ROOT).as_posix()})" in text, page
