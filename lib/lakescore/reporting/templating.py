"""The templates, and the format of numbers and names in them."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

_NO_FRACTION_FROM, _HUGE = 1e5, 1e12
"""Numbers between these are written in full, without a fraction."""


def environment(folder: str, package: str = "lakescore.reporting") -> Environment:
    """Return the templates of a package's folder; they escape the values that they insert."""
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
    """Return a number with five significant digits; a dash for None."""
    if value is None:
        return "-"
    value += 0.0  # of -0.0, this makes 0.0
    return f"{value:,.0f}" if _NO_FRACTION_FROM <= abs(value) < _HUGE else f"{value:,.5g}"
