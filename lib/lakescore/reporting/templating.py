"""The templates, and how they write names, numbers and times."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from lakescore import notation


def environment(folder: str, package: str = "lakescore.reporting") -> Environment:
    """Return the templates of a package's folder; they escape the values that they insert."""
    templates = Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"notation": notation, "short": short}
    return templates


def short(uri: str) -> str:
    """Return `name/3` of `models:/name/3`."""
    return uri.removeprefix("models:/")
