"""The site: every public name is in its reference, every page in its navigation, and its gallery runs.

The build itself checks links and references: ``python -m sphinx -W -b html docs build/site``.
"""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import fastloss
from fastloss import boosting

DOCS = Path(__file__).parents[1] / "docs"
GALLERY = sorted((DOCS / "gallery").glob("*.py"))


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    """The names in docs/reference_pages.py."""
    for needed in ("torch", "lightgbm", "xgboost", "sklearn"):
        pytest.importorskip(needed)
    return runpy.run_path(str(DOCS / "reference_pages.py"))


@pytest.fixture(scope="module")
def pages(reference: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = reference["pages"]()
    return found


def public() -> dict[str, set[str]]:
    """The public names of each package."""
    return {
        "fastloss": set(fastloss.__all__),
        "fastloss.torch": set(fastloss.torch.__all__),
        "fastloss.boosting": {*boosting.__all__, *boosting._ESTIMATORS},
    }


def test_every_public_name_has_a_page(pages: dict[str, str]) -> None:
    documented = re.findall(r"^\.\. auto\w+:: (\S+)$", "\n".join(pages.values()), re.MULTILINE)
    assert set(documented) == {f"{package}.{name}" for package, names in public().items() for name in names}
    for name, kind in (
        ("mse_loss", "function"),
        ("torch.MSELoss", "class"),
        ("boosting.LGBMRegressor", "class"),
    ):
        assert f".. auto{kind}:: fastloss.{name}" in pages[f"fastloss.{name}.md"]


def test_every_public_name_is_in_the_overview_of_its_package(pages: dict[str, str]) -> None:
    for package, names in public().items():
        overview = pages[f"of-{package.rpartition('.')[2]}.rst"]
        tables, _, navigation = overview.partition(".. toctree::")
        table = r"^\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)"
        listed = " ".join(re.findall(table, tables, re.MULTILINE)).split()
        assert sorted(listed) == sorted(names)
        assert re.findall(r"^   (\w+) <", navigation, re.MULTILINE) == sorted(names)


def test_a_page_leads_to_its_section_of_the_guide(pages: dict[str, str]) -> None:
    assert "(../../which-loss.md#mse_loss)" in pages["fastloss.mse_loss.md"]
    assert "which-loss" not in pages["fastloss.show_config.md"] + pages["fastloss.torch.mse_loss.md"]


def test_the_members_of_classes_are_documented(pages: dict[str, str]) -> None:
    members = pages["fastloss.Perplexity.md"].partition("members:")[2]
    assert {"update", "merge", "compute", "state_dict"} <= set(re.findall(r"\w+", members))


def test_pages_are_written_only_if_they_have_changed(
    reference: dict[str, Any], pages: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "fastloss.old_loss.md").touch()
    reference["write"](tmp_path)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert first.keys() == pages.keys()
    reference["write"](tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first


def test_every_page_is_in_the_navigation_once() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```$", "\n".join(pages.values()), re.MULTILINE | re.DOTALL)
    entries = [line for tree in trees for line in tree.split("\n") if line and not line.startswith(":")]
    assert sorted(e for e in entries if not e.startswith("generated/")) == sorted({*pages} - {"index"})


@pytest.mark.parametrize("script", GALLERY, ids=lambda script: script.stem)
def test_a_program_of_the_gallery_draws_its_picture(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib").use("agg")
    pyplot = pytest.importorskip("matplotlib.pyplot")
    shown: list[int] = []
    monkeypatch.setattr(pyplot, "show", lambda: shown.extend(pyplot.get_fignums()))
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        pyplot.close("all")
    assert len(shown) == 1
