"""Sphinx's settings for the documentation site; scripts/make_site.py calls Sphinx with them."""

import os
import re
from typing import Any

project = "lakescore"
version = release = os.environ["LAKESCORE_SITE_VERSION"]
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 6
# A plain --option must not become a dash, nor a quote in a command a curved one.
smartquotes = False

default_role = "code"
nitpicky = True

# Types of other packages, and internal types of ours, have no page.
_PACKAGES = ("collections", "datetime", "lakescore.config", "lakescore.registry", "pandas",
             "pathlib", "pydantic", "pyspark")  # fmt: skip
_CLASSES = ("DataFrame", "Dataset", "MlflowClient", "ModelSignature", "Path", "SparkSession",
            "datetime", "pd.DataFrame")  # fmt: skip
_INTERNAL = ("Compatibility", "Described", "Environments", "R", "Rows", "SplitFilter", "Tagged")
nitpick_ignore = [("py:class", name) for name in (*_CLASSES, *_INTERNAL)]
nitpick_ignore_regex = [("py:class", rf"{re.escape(package)}\..+") for package in _PACKAGES]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 80
# Errors are names here and no links, because one line may name several ("Also the errors of ...").
napoleon_custom_sections = [("Keys", "params_style"), ("Raises", "params_style")]
add_module_names = False

html_theme = "furo"
# The style of light code has the background of the page, where a block has no visible edge.
html_theme_options = {"light_css_variables": {"color-code-background": "#f3f4f6"}}
html_title = f"lakescore {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = html_show_copyright = False
# A page that is opened as a file may not read other files.
html_show_search_summary = False
html_sidebars = {
    "**": [
        "brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
COLON = "\0"
"""Stands for a colon in the text of an attribute, where napoleon would see a type before it."""


def prepare(
    _app: object, what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Put the sentences of a section `Raises:` behind it, and leave its names and reasons there."""
    if what in {"attribute", "property"}:
        lines[:] = [line.replace(":", COLON) for line in lines]
    # name@alias is no address of a person.
    lines[:] = [line if "`" in line else line.replace("@", r"\@") for line in lines]
    if "Raises:" not in lines:
        return
    start = lines.index("Raises:") + 1
    kept: list[str] = []
    sentences: list[str] = []
    current = kept
    for line in lines[start:]:
        if line.startswith("    ") and not line.startswith("     "):
            current = kept if re.match(r"    \w+: ", line) else sentences
        elif not line.startswith(" "):
            current = kept
        current.append(line if current is kept else line.strip())
    lines[start:] = [*kept, "", *sentences] if kept else sentences


def restore(
    _app: object, _what: str, _name: str, _object: object, _options: object, lines: list[str]
) -> None:
    """Put the colons back, after napoleon."""
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Any) -> None:  # noqa: ANN401 - an application of Sphinx, which mypy does not know
    """Connect around napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", prepare, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
