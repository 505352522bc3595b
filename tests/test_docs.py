"""docs/which-loss.md has a section and a picture for every loss, and the pictures can be drawn.

So has docs/reading-a-loss.md for everything that a curve can show.
"""

import doctest
import importlib.util
import inspect
import re
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

import fastloss

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "which-loss.md").read_text(encoding="utf-8")
LOSSES = sorted(
    n for n in fastloss.__all__ if re.search("_loss$|_penalty$|^(binary_|generalized_)?cross_entropy", n)
)
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def loaded(script: str) -> ModuleType:
    """A script that draws pictures; it imports matplotlib only to draw."""
    spec = importlib.util.spec_from_file_location(script, DOCS / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


PLOTS, CURVES = loaded("plot_losses"), loaded("plot_curves")


def test_every_loss_has_its_section() -> None:
    assert set(LOSSES) <= set(SECTIONS) <= set(fastloss.__all__)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_section_is_complete(loss: str) -> None:
    section = SECTIONS[loss]
    for part in ("$$", f"](images/{loss}", "\n- `mean` divides", "gradient", "\n- Elsewhere: "):
        assert part in section, part


def test_the_guide_names_every_loss() -> None:
    guide = PAGE.partition("\n## ")[0]
    assert set(re.findall(r"\[`(\w+)`\]\(#\1\)", guide)) == set(SECTIONS)


def test_the_losses_with_second_derivatives_are_named() -> None:
    paragraph = re.search(r"^\*\*Second derivatives\*\*.+?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    named = set(re.findall(r"`(\w+)`", paragraph[0]))
    have = {n for n in SECTIONS if "return_hessian" in inspect.signature(getattr(fastloss, n)).parameters}
    assert named == have


def test_formulas_are_safe_from_markdown() -> None:
    """GitHub reads Markdown before formulas: escapes such as that of a thin space would be lost."""
    for formula in re.findall(r"\$\$(.+?)\$\$", PAGE, re.DOTALL):
        assert not re.search(r"\\[^A-Za-z]|[^\w]_|<|\*|\n[-+>=] ", formula), formula


def test_every_loss_has_its_picture() -> None:
    assert PLOTS.undrawn() == []
    files = Counter(picture.file for picture in PLOTS.PICTURES)
    assert max(files.values()) == 1
    assert set(files) == {path.name for path in (DOCS / "images").glob("*.svg")}
    assert {f"images/{file}" for file in files} == set(re.findall(r"\]\((images/[^)]+)\)", PAGE))


def test_a_loss_without_a_picture_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fastloss, "__all__", [*fastloss.__all__, "new_loss"])
    monkeypatch.setattr(sys, "argv", ["plot_losses.py", "--out", str(tmp_path / "images")])
    with pytest.raises(SystemExit, match="new_loss: no row in PICTURES"):
        PLOTS.main()
    assert not (tmp_path / "images").exists()


def test_the_code_of_the_page_runs() -> None:
    assert doctest.testfile(str(DOCS / "which-loss.md"), module_relative=False).failed == 0


@pytest.mark.parametrize("file", ["l1_loss.svg", "gaussian_nll_loss_var.svg", "multi_margin_loss.svg"])
def test_drawing_twice_gives_the_same_bytes(tmp_path: Path, file: str) -> None:
    pytest.importorskip("matplotlib")
    (picture,) = (picture for picture in PLOTS.PICTURES if picture.file == file)
    first = PLOTS.draw(picture, tmp_path).read_bytes()
    assert first.startswith(b"<?xml") and picture.loss.encode() in first
    assert PLOTS.draw(picture, tmp_path).read_bytes() == first


# Reading a loss

READING = (DOCS / "reading-a-loss.md").read_text(encoding="utf-8")
FINDINGS = re.findall(r"^\| \[`(\w+)`\]\(#\1\) \| (act|note)", READING, re.MULTILINE)


def test_every_finding_has_its_section_and_its_picture() -> None:
    sections = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##)", READING, re.MULTILINE | re.DOTALL))
    assert set(dict(FINDINGS)) == set(sections) == set(CURVES.PICTURES)
    for kind, section in sections.items():
        assert f"](images/curve_{kind}.png)" in section, kind
    files = sorted((DOCS / "images").glob("*.png"))
    assert [file.stem for file in files] == sorted(f"curve_{kind}" for kind in sections)
    assert all(file.stat().st_size < 60_000 for file in files)


@pytest.mark.parametrize(("kind", "severity"), FINDINGS)
def test_the_log_of_a_picture_shows_the_finding(kind: str, severity: str) -> None:
    (finding,) = (found for found in CURVES.curve_of(kind).diagnose() if found.kind == kind)
    assert finding.severity == severity


def test_the_table_of_losses_is_right() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) % \| ([\d.,]+) \| ([\d.]+) \|$", READING, re.MULTILINE)
    assert len(rows) == 9
    for loss, *others in rows:
        found = fastloss.interpret(float(loss))
        percent, perplexity, bits = (float(other.replace(",", "")) for other in others)
        expected = (100 * found.probability, found.perplexity, found.bits_per_token)
        assert (percent, perplexity, bits) == pytest.approx(expected, rel=0.005)


def test_a_curve_drawn_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first = CURVES.draw("leak", tmp_path).read_bytes()
    assert first.startswith(b"\x89PNG") and CURVES.draw("leak", tmp_path).read_bytes() == first
