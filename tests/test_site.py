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


def public() -> dict[str, set[str]]:
    """The public names of each package."""
    return {
        "fastloss": set(fastloss.__all__),
        "fastloss.torch": set(fastloss.torch.__all__),
        "fastloss.boosting": {*boosting.__all__, *boosting._ESTIMATORS},
    }


def test_every_public_name_has_a_page(reference: dict[str, Any]) -> None:
    pages = reference["pages"]()
    documented = {
        match[1] for text in pages.values() for match in re.finditer(r"^\.\. auto\w+:: (\S+)$", text, re.M)
    }
    assert documented == {f"{package}.{name}" for package, names in public().items() for name in names}
    assert all(f".. auto{kind}:: {name}" in pages[f"{name}.md"] for name, kind in KINDS.items())


KINDS = {
    "fastloss.mse_loss": "function",
    "fastloss.torch.MSELoss": "class",
    "fastloss.boosting.LGBMRegressor": "class",
}


def test_every_public_name_is_in_the_overview_of_its_package(reference: dict[str, Any]) -> None:
    pages = reference["pages"]()
    for package, names in public().items():
        overview = pages[f"of-{package.rpartition('.')[2]}.rst"]
        tables, _, navigation = overview.partition(".. toctree::")
        listed = [
            name
            for table in re.findall(
                r"^\.\. autosummary::\n   :nosignatures:\n\n((?:   \w+\n)+)", tables, re.MULTILINE
            )
            for name in table.split()
        ]
        assert sorted(listed) == sorted(names)
        assert re.findall(r"^   (\w+) <", navigation, re.MULTILINE) == sorted(names)


def test_a_page_leads_to_its_section_of_the_guide(reference: dict[str, Any]) -> None:
    pages = reference["pages"]()
    assert "(../../which-loss.md#mse_loss)" in pages["fastloss.mse_loss.md"]
    assert "which-loss" not in pages["fastloss.show_config.md"] + pages["fastloss.torch.mse_loss.md"]


def test_the_members_of_classes_are_documented(reference: dict[str, Any]) -> None:
    text = reference["pages"]()["fastloss.Perplexity.md"]
    assert {"update", "merge", "compute", "state_dict"} <= set(
        re.findall(r"\w+", text.partition("members:")[2])
    )


def test_pages_are_written_only_if_they_have_changed(reference: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "fastloss.old_loss.md").touch()
    reference["write"](tmp_path)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert first.keys() == reference["pages"]().keys()
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
