"""The page: one file of HTML with its data, styles and scripts in it."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lakescore.reporting import libraries
from lakescore.reporting.templating import environment, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPLATES = environment("page")
_ORDER = (
    "elements", "values", "filters", "downloads", "state", "theme", "sources", "charts", "details",
    "facts", "list", "comparison", "app",
)  # fmt: skip
_PARTS = (
    ("versions", "Versions"), ("comparison", "Comparison"), ("metrics", "Metrics"),
    ("slices", "Slices"), ("differences", "Differences"), ("lineage", "Lineage"),
    ("repeat", "Repeat"),
)  # fmt: skip
_ENDS_A_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Script:
    """A script of the page; the page's policy lets none run but these."""

    text: str
    module: bool = False
    """Modules run when the page is there, in their order, and after all that are none."""

    @property
    def digest(self) -> str:
        """What the policy knows it by."""
        hashed = hashlib.sha256(self.text.encode()).digest()
        return f"'sha256-{base64.b64encode(hashed).decode()}'"


def page(
    document: Mapping[str, Any],
    *,
    scripts: Sequence[Script] = (),
    styles: Sequence[str] = (),
    connect: str = "'none'",
) -> str:
    """Return the page.

    Args:
        document: as `comparing.document` or `registry_document` gives it.
        scripts: more of them, that run after the page's own. They can use those by name
            (`state`, `elements`), and listen for the window's events `lakescore:started` and
            `lakescore:details`.
        styles: sheets that come after the page's own.
        connect: what these may talk to, as a policy says it: `'self'` for a server's page.
    """
    every = [*_scripts(), *scripts]
    return _TEMPLATES.get_template("page.html.j2").render(
        document=document,
        title=_title(document),
        parts=_parts(document),
        policy=_policy(every, connect),
        style="\n".join([style(), *styles]),
        data=json.dumps(document, allow_nan=False).translate(_ENDS_A_SCRIPT),
        scripts=every,
        short=short,
    )


def policy(scripts: Sequence[Script], connect: str) -> str:
    """Return the policy of the page that `page` makes with the same arguments."""
    return _policy([*_scripts(), *scripts], connect)


def style() -> str:
    """Return the page's style sheet, for other pages that shall look like it."""
    return _read("page.css")


def part(name: str) -> Script:
    """Return one of the page's own scripts, for other pages that use it, such as `elements`."""
    return Script(_read(f"{name}.js"))


@cache
def _scripts() -> tuple[Script, ...]:
    own = [part(name) for name in _ORDER]
    tables = Script(libraries.datatables(), module=True)
    return (Script(libraries.vega()), tables, *own, Script("app.start();", module=True))


def _policy(scripts: Sequence[Script], connect: str) -> str:
    """Let these scripts run and no others; what a name says can be no script, whatever it says."""
    allowed = " ".join(script.digest for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (files("lakescore.reporting") / "page" / name).read_text(encoding="utf-8")


def _parts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parts that the document has data for."""
    lacking = set() if any(each["slice_by"] for each in document["metrics"]) else {"slices"}
    return [(part, name) for part, name in _PARTS if part not in lacking]


def _title(document: Mapping[str, Any]) -> str:
    """Return the names of the models, at most three."""
    names = list(dict.fromkeys(version["name"] for version in document["versions"]))
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")  # noqa: PLR2004
