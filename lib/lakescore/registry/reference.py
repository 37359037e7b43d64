"""What a person types, read: `name/3`, `name@alias`, `name/latest`, a URI, or a query."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakescore.errors import BadReference

_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]{32})")
_QUERY = re.compile(
    r"(?P<name>[^/:?]+)\?(?:where=(?P<where>.+?))?(?:(?:^|&|(?<=\?))order_by=(?P<order_by>.+))?"
)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|\.\.|%2e|%2f", re.IGNORECASE)


@dataclass(frozen=True)
class ByVersion:
    """`name/3`."""

    name: str
    version: int


@dataclass(frozen=True)
class ByAlias:
    """`name@champion`."""

    name: str
    alias: str


@dataclass(frozen=True)
class Latest:
    """`name/latest`: the highest version number."""

    name: str


@dataclass(frozen=True)
class ByLoggedModel:
    """`models:/m-<32 hex digits>`: the version that was registered from this logged model."""

    logged_model_id: str


@dataclass(frozen=True)
class Query:
    """`name?where=FILTER&order_by=COLUMN [desc]`: the one version that answers."""

    name: str
    where: str | None
    order_by: str | None


Reference = ByVersion | ByAlias | Latest | ByLoggedModel | Query


def parse(reference: str) -> Reference:
    """Read *reference*.

    A model's name may hold `@` (MLflow allows it), so an alias begins at the last one.

    Raises:
        BadReference: it has none of the forms, or holds control characters or path tricks.
    """
    if _UNSAFE.search(reference):
        raise BadReference(reference, "it holds control characters or parts of a path")
    if found := _LOGGED_MODEL.fullmatch(reference):
        return ByLoggedModel(found["id"])
    text = reference.removeprefix("models:/")
    if (found := _QUERY.fullmatch(text)) and (found["where"] or found["order_by"]):
        return Query(found["name"], found["where"], found["order_by"])
    if ":" in text:
        raise BadReference(reference, "only models:/ URIs are accepted")
    name, slash, version = text.partition("/")
    if slash:
        return _by_version(reference, name, version)
    name, _, alias = text.rpartition("@")
    if not name:
        raise BadReference(reference, "it names no version and no alias")
    if not re.fullmatch(r"[\w-]+", alias):
        raise BadReference(reference, f"{alias!r} cannot be an alias")
    return ByAlias(name, alias)


def _by_version(reference: str, name: str, version: str) -> ByVersion | Latest:
    if not name:
        raise BadReference(reference, "the model's name is empty")
    if version == "latest":
        return Latest(name)
    if re.fullmatch(r"[0-9]{1,9}", version):
        return ByVersion(name, int(version))
    raise BadReference(reference, f"{version!r} is neither a version number nor 'latest'")
