"""The libraries that the page is made from, as their packages ship them: nothing is downloaded."""

from __future__ import annotations

import re
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import vl_convert

_EXPORTED = re.compile(r"export\s*\{[^{}]*?([\w$]+) as default[^{}]*\};?\s*(?=/\*|$)")


@cache
def vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, which defines `vegaEmbed`."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub errs
    return bundle


@cache
def datatables() -> str:
    """Return DataTables with its jQuery as a module, which defines `DataTable`.

    itables ships it as a module that others import; a page of one file has nothing to import from,
    so what the module gives by default is given to the page instead.
    """
    path = distribution("itables").locate_file("itables/html/dt_bundle.js")
    bundle = Path(str(path)).read_text(encoding="utf-8")
    made, times = _EXPORTED.subn(r"globalThis.DataTable=\1;", bundle)
    assert times == 1, "itables ships its bundle in another shape"  # noqa: S101 - the lock pins it
    return made
