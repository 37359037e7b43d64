"""The templates, and how numbers and names stand in them."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

_WHOLE, _HUGE = 1e5, 1e12
"""Numbers between these are written without a fraction, in full."""


def environment(folder: str, package: str = "lakescore.reporting") -> Environment:
    """Return the templates of a package's folder, which escape what they are given."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def short(uri: str) -> str:
    """Return `name/3` of `models:/name/3`."""
    return uri.removeprefix("models:/")


def number(value: float | None) -> str:
    """Return a number with five digits that matter; a dash for none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if _WHOLE <= abs(value) < _HUGE else f"{value:,.5g}"
