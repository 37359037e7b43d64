"""The API of the pages: each request calls the registry library, and follows its rules.

Names are in the path, all other values in JSON. No request accepts a URI, or loads a model. One
accepts the path of a table, below the folder that the server was started with.
"""

from __future__ import annotations

from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation

from lakescore import registry, reporting
from lakescore.errors import (
    ConfigError,
    ConflictError,
    InputContractError,
    IntegrityError,
    LakescoreError,
    RegistryError,
)
from lakescore.registry.errors import (
    AliasNotFound,
    BadName,
    BadReference,
    ModelExists,
    ModelNotFound,
    NothingToRollBack,
    NoTrackingStore,
    RegistryUnavailable,
    TagNotFound,
    VersionNotFound,
)
from lakescore.serving import pages, proposing
from lakescore.serving.guarding import refuse
from lakescore.serving.tables import TableNotServed, Tables
from lakescore.wording import listed, redact, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastapi.telemetry import TelemetryConfig
    from starlette.responses import Response


class NotServed(RegistryError):
    """The server shows other models only."""

    def __init__(self, name: str, served: Iterable[str]) -> None:
        super().__init__(
            f"{name!r} is not among the models that this server shows: {listed(sorted(served))}; "
            "start it with that name too, or without names to show all models"
        )


_STATUS = {
    (RegistryUnavailable, NoTrackingStore): 503,
    (NotServed,): 403,
    (ModelNotFound, VersionNotFound, AliasNotFound, TagNotFound, TableNotServed): 404,
    (ModelExists, NothingToRollBack, ConflictError): 409,
    (ConfigError, BadName, BadReference): 400,
    (RegistryError, IntegrityError, InputContractError): 422,
}
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False, "metrics": False, "logs": False, "auto_configure": False,
}  # fmt: skip
_edit_lock = Lock()
"""Held from the check of the present value to the write, so that edits here do not overlap."""
_router = APIRouter(prefix="/api")


def application(names: Sequence[str], tables: Tables | None = None) -> FastAPI:
    """Return the application, without its guard.

    Args:
        names: the registered models that can be viewed and changed; empty for all.
        tables: the tables that a version can be applied to; None for those of `LAKESCORE_HOME`.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY)
    app.state.names = frozenset(names)
    app.state.tables = tables or Tables()
    app.include_router(_router)
    app.include_router(pages.router)
    app.exception_handler(LakescoreError)(_answer_error)
    app.exception_handler(RequestValidationError)(_answer_invalid)
    app.exception_handler(HTTPException)(_answer_http_error)
    app.exception_handler(Exception)(_answer_unexpected)
    return app


def _check_served(name: str, request: Request) -> str:
    names = request.app.state.names
    if names and name not in names:
        raise NotServed(name, names)
    return name


Name = Annotated[str, Depends(_check_served)]
Version = Annotated[int, Path(ge=1, lt=10**9)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NewModel(_Body):
    """A registered model to create."""

    name: str
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class NewVersion(_Body):
    """A logged model to register; only by its id, since a path or URI could name any file."""

    logged_model_id: Annotated[str, Field(pattern=r"^m-[0-9a-f]{32}$")]
    description: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)


class Tag(_Body):
    """A tag to set, or to remove if its value is null."""

    key: str
    value: str | None
    expected: str | None
    """The value that the reader saw; null for no such tag."""


class Description(_Body):
    """A description to set; an empty one removes the description."""

    description: str
    expected: str
    """The description that the reader saw; empty for none."""


class Promotion(_Body):
    """The version that an alias must point at."""

    version: Annotated[int, Field(ge=1, lt=10**9)]
    expected: Annotated[int, Field(ge=0)]
    """The version that the reader saw; 0 for none."""
    reason: str | None = None
    evidence: str | None = None


class Return(_Body):
    """The request to roll back or withdraw an alias."""

    expected: Annotated[int, Field(ge=0)]
    """The version that the reader saw; 0 for none."""
    reason: str | None = None


class ProposalRequest(_Body):
    """A table to apply a version to, and the columns that the reader chose."""

    input: str
    output: str
    columns: dict[str, str] = Field(default_factory=dict)
    """By feature, the column; empty to leave the feature out."""
    features: list[str] = Field(default_factory=list)
    id_columns: list[str] = Field(default_factory=list)


@_router.get("/models")
def _models(request: Request) -> list[dict[str, Any]]:
    names = request.app.state.names
    return [model.facts() for model in registry.models() if not names or model.name in names]


@_router.post("/models", status_code=201)
def _create(new: NewModel, request: Request) -> dict[str, Any]:
    _check_served(new.name, request)
    return registry.create(new.name, tags=new.tags, description=new.description).facts()


@_router.get("/models/{name}/document")
def _document(name: Name) -> dict[str, Any]:
    records = registry.versions(name, whole=None)
    return reporting.registry_document(name, records)


@_router.get("/models/{name}/page")
def _page(name: Name) -> HTMLResponse:
    return HTMLResponse(pages.live(name, _document(name)))


@_router.post("/models/{name}/versions", status_code=201)
def _register(name: Name, new: NewVersion) -> dict[str, Any]:
    source = f"models:/{new.logged_model_id}"
    return registry.register(source, name, tags=new.tags, description=new.description).facts()


@_router.post("/models/{name}/versions/{version}/proposal")
def _propose(
    name: Name, version: Version, asked: ProposalRequest, request: Request
) -> JSONResponse:
    facts = proposing.propose(
        f"{name}/{version}",
        request.app.state.tables,
        asked.input,
        asked.output,
        columns=asked.columns,
        features=asked.features,
        id_columns=asked.id_columns,
    )
    return JSONResponse(facts)


@_router.patch("/models/{name}/tags")
def _tag_model(name: Name, tag: Tag) -> dict[str, Any]:
    return _tag(name, tag, of_model=True)


@_router.patch("/models/{name}/versions/{version}/tags")
def _tag_version(name: Name, version: Version, tag: Tag) -> dict[str, Any]:
    return _tag(f"{name}/{version}", tag, of_model=False)


def _tag(reference: str, tag: Tag, *, of_model: bool) -> dict[str, Any]:
    expect = {tag.key: tag.expected}
    with _edit_lock:
        if tag.value is None:
            changed = registry.untag(reference, [tag.key], of_model=of_model, expect=expect)
        else:
            tags = {tag.key: tag.value}
            changed = registry.tag(reference, tags, of_model=of_model, expect=expect)
    return changed.facts()


@_router.put("/models/{name}/description")
def _describe_model(name: Name, new: Description) -> dict[str, Any]:
    with _edit_lock:
        return registry.describe_as(
            name, new.description, of_model=True, expect=new.expected
        ).facts()


@_router.put("/models/{name}/versions/{version}/description")
def _describe_version(name: Name, version: Version, new: Description) -> dict[str, Any]:
    with _edit_lock:
        return registry.describe_as(
            f"{name}/{version}", new.description, expect=new.expected
        ).facts()


@_router.put("/models/{name}/aliases/{alias}")
def _promote(name: Name, alias: str, to: Promotion) -> dict[str, Any]:
    return registry.promote(
        f"{name}/{to.version}",
        to=alias,
        expect=to.expected,
        reason=to.reason,
        evidence=to.evidence,
    ).facts()


@_router.post("/models/{name}/aliases/{alias}/rollback")
def _rollback(name: Name, alias: str, back: Return) -> dict[str, Any]:
    return registry.rollback(name, alias=alias, expect=back.expected, reason=back.reason).facts()


@_router.post("/models/{name}/aliases/{alias}/withdraw")
def _withdraw(name: Name, alias: str, back: Return) -> dict[str, Any]:
    return registry.withdraw(name, alias=alias, expect=back.expected, reason=back.reason).facts()


@_router.get("/models/{name}/history")
def _history(name: Name) -> list[dict[str, Any]]:
    return [move.facts() for move in registry.history(name)]


@_router.get("/logged-models")
def _logged_models(limit: Annotated[int, Query(ge=1, le=100)] = 50) -> list[dict[str, Any]]:
    return [model.facts() for model in registry.logged_models(limit=limit)]


def _answer_error(_: Request, error: Exception) -> Response:
    status = next((code for kinds, code in _STATUS.items() if isinstance(error, kinds)), 500)
    code = error.code if isinstance(error, LakescoreError) else LakescoreError.code
    return refuse(status, type(error).__name__, str(error), code=code)


def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - narrows for mypy
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return refuse(400, "BadRequest", visible(redact(f"{place}: {first['msg']}")))


def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - narrows for mypy
    phrase = HTTPStatus(error.status_code).phrase
    requested = visible(redact(f"{request.method} {request.url.path}"))
    return refuse(error.status_code, phrase.replace(" ", ""), f"{requested}: {phrase.lower()}")


def _answer_unexpected(_: Request, __: Exception) -> Response:
    message = "an unexpected error occurred; the server's terminal shows it"
    return refuse(500, "Surprise", message, code=LakescoreError.code)
