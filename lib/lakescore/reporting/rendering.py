"""The page: one HTML file that contains its data, styles and scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lakescore.reporting import libraries
from lakescore.reporting.markdown import summary
from lakescore.reporting.templating import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TEMPLATES = environment("page")
_ORDER = (
    "notation", "elements", "values", "filters", "downloads", "state", "theme", "folding",
    "sharing", "sources", "charts", "details", "facts", "list", "comparison", "app",
)  # fmt: skip
_PARTS = (
    ("versions", "Versions"), ("comparison", "Comparison"), ("metrics", "Metrics"),
    ("slices", "Slices"), ("differences", "Differences"), ("lineage", "Lineage"),
    ("repeat", "Repeat"),
)  # fmt: skip
_ENDS_A_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Script:
    """A script of the page; the page's policy lets no other scripts run."""

    text: str
    module: bool = False
    """Modules run in their order when the page is loaded, after all other scripts."""

    @property
    def digest(self) -> str:
        """The script's digest, as the policy writes it."""
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
        document: the result of `comparing.document` or `registry_document`.
        scripts: more scripts, which run after the page's scripts. They can use the page's scripts
            by name (`state`, `elements`), and listen for the window's events `lakescore:started`
            and `lakescore:details`.
        styles: more style sheets, which come after the page's sheet.
        connect: the addresses that the scripts can connect to, in the policy's words: `'self'` for
            a server's page.
    """
    all_scripts = [*_scripts(), *scripts]
    return _TEMPLATES.get_template("page.html.j2").render(
        document=document,
        title=_title(document),
        parts=_parts(document),
        policy=_policy(all_scripts, connect),
        style="\n".join([style(), *styles]),
        data=_embedded(document),
        summary=_embedded(summary(document)) if document["source"] == "compare" else None,
        scripts=all_scripts,
    )


def _embedded(value: object) -> str:
    """Return a value as JSON that can stand in a script's element."""
    return json.dumps(value, allow_nan=False).translate(_ENDS_A_SCRIPT)


def policy(scripts: Sequence[Script], connect: str) -> str:
    """Return the policy of the page that `page` makes with the same arguments."""
    return _policy([*_scripts(), *scripts], connect)


def style() -> str:
    """Return the page's style sheet, for other pages that should look like it."""
    return _read("page.css")


def part(name: str) -> Script:
    """Return one of the page's scripts, such as `elements`, for other pages that use it."""
    return Script(_read(f"{name}.js"))


@cache
def _scripts() -> tuple[Script, ...]:
    page_scripts = [part(name) for name in _ORDER]
    tables = Script(libraries.datatables(), module=True)
    return (Script(libraries.vega()), tables, *page_scripts, Script("app.start();", module=True))


def _policy(scripts: Sequence[Script], connect: str) -> str:
    """Return the policy that lets only these scripts run, so that no text of a name is a script."""
    allowed = " ".join(script.digest for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return (files("lakescore.reporting") / "page" / name).read_text(encoding="utf-8")


def _parts(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parts of the page that the document has data for."""
    empty_parts = set() if any(line["slice_by"] for line in document["metrics"]) else {"slices"}
    return [(part, name) for part, name in _PARTS if part not in empty_parts]


def _title(document: Mapping[str, Any]) -> str:
    """Return the names of the models, at most three."""
    names = list(dict.fromkeys(version["name"] for version in document["versions"]))
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "")  # noqa: PLR2004
