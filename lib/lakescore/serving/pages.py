"""The pages: the report's page with editors, and two pages without data, which fetch it.

A browser sends no token when it opens an address. So the answer is a door: a page with a script
that takes the token from the address, sends it to the API, and shows the result.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from lakescore import reporting
from lakescore.reporting import Script
from lakescore.reporting.templating import environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

router = APIRouter()
_TEMPLATES = environment("page", "lakescore.serving")
_SELF = "'self'"
_LOADING = "Loading from the registry …"


def live(name: str, document: Mapping[str, Any]) -> str:
    """Return the page of a model's versions, with the scripts that edit them.

    Args:
        name: the registered model's name.
        document: the result of `reporting.registry_document`.
    """
    if document["versions"]:
        styles = [_read("live.css")]
        return reporting.page(document, scripts=_editing_scripts(), styles=styles, connect=_SELF)
    return _shell(name, "There is no version yet.", _empty_editing_scripts())


@router.get("/")
def _list() -> HTMLResponse:
    scripts = [*_parts(), *_read_scripts("session", "notices", "forms", "models")]
    return _door([*scripts, Script("models.begin();")])


@router.get("/models/{name}")
def _model(name: str) -> HTMLResponse:
    # In a block, since the page that replaces this one declares `session` again.
    return _door([Script(f"{{\n{_read('session.js')}{_read('door.js')}door.open();\n}}")], name)


def _door(scripts: Sequence[Script], title: str = "Registered models") -> HTMLResponse:
    """Return a page without data; its policy also allows the scripts of the next page."""
    policy = reporting.policy([*scripts, *_empty_editing_scripts()], _SELF)
    return HTMLResponse(
        _shell(title, _LOADING, scripts),
        headers={"content-security-policy": f"{policy}; frame-ancestors 'none'"},
    )


def _shell(title: str, message: str, scripts: Sequence[Script]) -> str:
    return _TEMPLATES.get_template("shell.html.j2").render(
        title=title,
        said=message,
        style=f"{reporting.style()}\n{_read('live.css')}",
        scripts=scripts,
    )


@cache
def _editing_scripts() -> tuple[Script, ...]:
    return _read_scripts("session", "notices", "forms", "applying", "editing")


@cache
def _empty_editing_scripts() -> tuple[Script, ...]:
    start = Script("editing.begin({ versions: [] });")
    return (*_parts(), *_editing_scripts(), start)


def _parts() -> tuple[Script, ...]:
    """Return the scripts of the report's page that the other pages use."""
    return reporting.part("notation"), reporting.part("elements")


def _read_scripts(*names: str) -> tuple[Script, ...]:
    return tuple(Script(_read(f"{name}.js")) for name in names)


@cache
def _read(name: str) -> str:
    return (files("lakescore.serving") / "page" / name).read_text(encoding="utf-8")
