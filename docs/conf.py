"""Configuration of the documentation's site: ``python -m sphinx -W -b html docs build/site``.

The pages are the Markdown files of this folder. The pages of the reference are written by `reference_pages`
from the public names of the package, and the gallery by sphinx-gallery from the scripts in ``gallery``; both
go to ``generated``, which is not under version control.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# The settings of docs/settings.md, for the times in the gallery. They are read when NumPy is imported.
os.environ.update(OMP_WAIT_POLICY="passive", OPENBLAS_THREAD_TIMEOUT="4")

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))

import reference_pages  # noqa: E402
from docutils import nodes  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402
from sphinx.util.docutils import SphinxRole  # noqa: E402

import fastloss  # noqa: E402

project = "fastloss"
author = "the authors of fastloss"
copyright = author
version = release = fastloss.__version__
language = "en"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "**/sg_execution_times.rst"]
nitpicky = True
default_role = "name"
show_warning_types = True

# Markdown, as GitHub shows it.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings. Types are in the descriptions of the parameters.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "download_all_examples": False,
    "min_reported_time": 1e9,  # seconds: times of the machine that builds are no part of a page
    "write_computation_times": False,
    "remove_config_comments": True,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = f"fastloss {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {"index": [], "changelog": []}
html_theme_options = {
    "navbar_align": "left",
    "navigation_depth": 2,
    "show_nav_level": 1,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
linkcheck_timeout = 20


class NameRole(SphinxRole):
    """The role of text in single backticks: a link where it is a public name, else emphasis."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Link full names, and those of the module or class at hand."""
        module, owner = (self.env.ref_context.get(f"py:{kind}") for kind in ("module", "class"))
        full = [self.text, *(f"{scope}.{self.text}" for scope in (f"{module}.{owner}", module, "fastloss"))]
        target = next((name for name in full if name in reference_pages.NAMES), None)
        if target is None:
            return [nodes.emphasis(self.rawtext, self.text)], []
        role = self.env.domains["py"].role("obj")
        text = f"{self.text} <{target}>"
        return role("py:obj", self.rawtext, text, self.lineno, self.inliner)  # type: ignore[misc]


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages of the reference, and register the role."""
    reference_pages.write(DOCS / "generated" / "reference")
    app.add_role("name", NameRole())
    return {"parallel_read_safe": True}
