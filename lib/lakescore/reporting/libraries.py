"""The libraries of the page, as their packages ship them: nothing is downloaded."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import vl_convert

_EXPORTED = re.compile(r"export\s*\{[^{}]*?([\w$]+) as default[^{}]*\};?\s*(?=/\*|$)")


@cache
def vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that defines `vegaEmbed`."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub errs
    return bundle


@cache
def datatables() -> str:
    """Return DataTables with its jQuery as a module that defines `DataTable`.

    itables ships it as a module that other modules import. A page of one file cannot import, so the
    module's default export becomes a global variable of the page.
    """
    path = distribution("itables").locate_file("itables/html/dt_bundle.js")
    bundle = Path(str(path)).read_text(encoding="utf-8")
    script, replacements = _EXPORTED.subn(r"globalThis.DataTable=\1;", bundle)
    assert replacements == 1, "itables ships its bundle in another shape"  # noqa: S101 - the lock pins it
    return script
