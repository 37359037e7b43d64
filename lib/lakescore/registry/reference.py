"""What a person types, read: `name/3`, `name@alias`, `name/latest`, a URI, or a query."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakescore.errors import BadReference

_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]{32})")
_PART_OF_QUERY = re.compile(r"&(?=(?:where|order_by)=)")
_PATH = re.compile(r"\.\.|%2e|%2f", re.IGNORECASE)
_LONGEST = 1000


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
    if len(reference) > _LONGEST:
        raise BadReference(reference[:80] + "...", f"it is longer than {_LONGEST} characters")
    if not reference.isprintable():
        raise BadReference(reference, "it holds characters that cannot be seen")
    if found := _LOGGED_MODEL.fullmatch(reference):
        return ByLoggedModel(found["id"])
    text, question, query = reference.removeprefix("models:/").partition("?")
    if ":" in text or _PATH.search(text):
        raise BadReference(reference, "a model's name holds no ':' and no parts of a path")
    if question:
        return _query(reference, text, query)
    name, slash, version = text.partition("/")
    if slash:
        return _by_version(reference, name, version)
    name, _, alias = text.rpartition("@")
    if not name.strip():
        raise BadReference(reference, "it names no version and no alias")
    if not re.fullmatch(r"[\w-]+", alias):
        raise BadReference(reference, f"{alias!r} cannot be an alias")
    return ByAlias(name, alias)


def _query(reference: str, name: str, query: str) -> Query:
    given = [part.partition("=")[::2] for part in _PART_OF_QUERY.split(query)]
    parts = {key: value.strip() for key, value in given}
    if not name.strip() or "/" in name:
        raise BadReference(reference, "a query stands after the model's name alone")
    if len(parts) < len(given) or not all(parts.values()) or parts.keys() - {"where", "order_by"}:
        raise BadReference(reference, "a query holds where=, order_by= or both, each once")
    return Query(name, parts.get("where"), parts.get("order_by"))


def _by_version(reference: str, name: str, version: str) -> ByVersion | Latest:
    if not name.strip():
        raise BadReference(reference, "the model's name is empty")
    if version == "latest":
        return Latest(name)
    if re.fullmatch(r"[0-9]{1,9}", version):
        return ByVersion(name, int(version))
    raise BadReference(reference, f"{version!r} is neither a version number nor 'latest'")
