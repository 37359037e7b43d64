"""The pages: the report's own, with what edits it, and two that hold no data and ask for it.

A browser sends no token when it opens an address. So what it gets there is a door: a script that
takes the token from the address, asks the API with it, and shows what comes back.
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
_ASKING = "Asking the registry …"


def live(name: str, document: Mapping[str, Any]) -> str:
    """Return the page of a model's versions, with the scripts that edit it.

    Args:
        name: the registered model's.
        document: as `reporting.registry_document` gives it.
    """
    if document["versions"]:
        styles = [_read("live.css")]
        return reporting.page(document, scripts=_editing(), styles=styles, connect=_SELF)
    return _shell(name, "There is no version yet.", _editing_nothing())


@router.get("/")
def _list() -> HTMLResponse:
    scripts = [reporting.part("elements"), *_named("session", "notices", "forms", "models")]
    return _door([*scripts, Script("models.begin();")])


@router.get("/models/{name}")
def _model(name: str) -> HTMLResponse:
    # In a block, since the page that takes this one's place has a session of its own.
    return _door([Script(f"{{\n{_read('session.js')}{_read('door.js')}door.open();\n}}")], name)


def _door(scripts: Sequence[Script], title: str = "Registered models") -> HTMLResponse:
    """Return a page that holds no data; its policy is that of what will be shown in it, too."""
    policy = reporting.policy([*scripts, *_editing_nothing()], _SELF)
    return HTMLResponse(
        _shell(title, _ASKING, scripts),
        headers={"content-security-policy": f"{policy}; frame-ancestors 'none'"},
    )


def _shell(title: str, said: str, scripts: Sequence[Script]) -> str:
    return _TEMPLATES.get_template("shell.html.j2").render(
        title=title,
        said=said,
        style=f"{reporting.style()}\n{_read('live.css')}",
        scripts=scripts,
    )


@cache
def _editing() -> tuple[Script, ...]:
    return _named("session", "notices", "forms", "editing")


@cache
def _editing_nothing() -> tuple[Script, ...]:
    start = Script("editing.begin({ versions: [] });")
    return (reporting.part("elements"), *_editing(), start)


def _named(*names: str) -> tuple[Script, ...]:
    return tuple(Script(_read(f"{name}.js")) for name in names)


@cache
def _read(name: str) -> str:
    return (files("lakescore.serving") / "page" / name).read_text(encoding="utf-8")
