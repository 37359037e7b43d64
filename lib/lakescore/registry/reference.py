"""Parse the references and names that people type, and refuse hostile ones.

MLflow itself accepts names with control characters, `%2f`, `?` or `#`, and aliases that end with a
line break.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakescore.registry.errors import BadName, BadReference

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]{32})")
OWN_TAGS = "lakescore."
"""The prefix of the tags that lakescore writes for itself."""
_TAG = re.compile(r"[/\w.\- :]*")  # MLflow's own rule
_PART_OF_QUERY = re.compile(r"&(?=(?:where|order_by)=)")
_PATH = re.compile(r"\.\.|[/\\:]|^\.?$")
_URI_PART = re.compile(r"[?#]|%[0-9a-f]{2}", re.IGNORECASE)
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)
_LONGEST = 1000
_LONGEST_NAME = 250
_LONGEST_VALUE = 5000
_BREAKS = str.maketrans("", "", "\n\t")


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
    """`name?where=FILTER&order_by=COLUMN [desc]`: the only version that matches."""

    name: str
    where: str | None
    order_by: str | None


Named = ByVersion | ByAlias | Latest
Reference = Named | ByLoggedModel | Query


def parse(reference: str) -> Reference:
    """Parse *reference*.

    A model's name can contain `@` (MLflow allows it), so an alias begins after the last `@`.

    Raises:
        BadReference: *reference* has none of the forms, or contains control characters or path
            tricks.
    """
    if len(reference) > _LONGEST:
        raise BadReference(reference[:80] + "...", f"it is longer than {_LONGEST} characters")
    if not reference.isprintable():
        raise BadReference(reference, "it holds characters that cannot be seen")
    if match := _LOGGED_MODEL.fullmatch(reference):
        return ByLoggedModel(match["id"])
    text, question, query = reference.removeprefix("models:/").partition("?")
    if question:
        return _parse_query(reference, text, query)
    name, slash, version = text.partition("/")
    if slash:
        return _parse_version(reference, name, version)
    name, _, alias = text.rpartition("@")
    if not name.strip():
        raise BadReference(reference, "it names no version and no alias")
    if not re.fullmatch(r"[\w-]+", alias):
        raise BadReference(reference, f"{alias!r} cannot be an alias")
    return ByAlias(_check_model_name(reference, name), alias)


def parse_template(template: str, placeholder: str) -> Named | Query:
    """Parse a reference in which *placeholder*, in braces, is a part of the name or alias.

    Raises:
        BadReference: as `parse`; or *template* names no model.
    """
    try:
        form = parse(template)
    except BadReference:  # an alias cannot contain braces
        form = parse(template.replace(placeholder, "x"))
    if isinstance(form, ByLoggedModel):
        raise BadReference(template, "it names no model")
    return form


def fill(template: str, placeholder: str, value: str) -> str:
    """Replace *placeholder* with *value* in the reference *template*.

    Raises:
        BadReference: *value* could mean more than a part of a name.
    """
    reference = template.replace(placeholder, value)
    if reason := _name_fault(value):
        raise BadReference(reference, f"{value!r} cannot be a part of a name: {reason}")
    if set("@{}\ufffd") & set(unicodedata.normalize("NFKC", value)):
        raise BadReference(reference, f"{value!r} cannot be a part of a name")
    if type(parse(reference)) is not type(parse_template(template, placeholder)):
        raise BadReference(reference, f"{value!r} would make it another kind of reference")
    return reference


def check_name(name: str) -> str:
    """Return *name* if a registered model can have it.

    Raises:
        BadName: *name* is empty or too long, or contains characters that cannot be seen, or parts
            of a path or URI.
    """
    return _check_text("a model's name", name)


def check_alias(alias: str) -> str:
    """Return *alias* if a version can have it.

    Raises:
        BadName: *alias* is not valid, or MLflow reserves it.
    """
    if not re.fullmatch(r"[\w-]{1,250}", alias):
        raise BadName("an alias", alias, "it holds characters other than letters, digits, _ and -")
    if _RESERVED_ALIAS.fullmatch(alias):
        raise BadName("an alias", alias, "MLflow reserves latest, and v1, v2, ...")
    return alias


def check_tag(key: str, value: str = "") -> None:
    """Check that a version or a registered model can have the tag.

    Raises:
        BadName: the key is not valid, or reserved for lakescore; or the value contains characters
            that cannot be seen.
    """
    if key.startswith(OWN_TAGS):
        raise BadName("a tag", key, f"tags that begin with {OWN_TAGS} are reserved for lakescore")
    _check_text("a tag", key.replace("/", "").replace(":", ""))
    if not _TAG.fullmatch(key):
        raise BadName(
            "a tag", key, "it holds characters other than letters, digits, spaces and / _ - . :"
        )
    if not value.isprintable():
        raise BadName(f"the value of tag {key!r}", value, "it holds characters that cannot be seen")
    if len(value) > _LONGEST_VALUE:
        raise BadName(f"the value of tag {key!r}", value, f"it is over {_LONGEST_VALUE} characters")


def check_tags(tags: Mapping[str, str]) -> None:
    """Check that a version or a registered model can have all *tags*.

    Raises:
        BadName: as `check_tag`.
    """
    for key, value in tags.items():
        check_tag(key, value)


def check_description(description: str | None) -> None:
    """Check that a version or a registered model can have the description, of one or more lines.

    Raises:
        BadName: *description* is too long, or contains characters that cannot be seen.
    """
    if description is None:
        return
    if not description.translate(_BREAKS).isprintable():
        raise BadName("a description", description, "it holds characters that cannot be seen")
    if len(description) > _LONGEST_VALUE:
        raise BadName("a description", description, f"it is over {_LONGEST_VALUE} characters")


def _check_text(kind: str, name: str) -> str:
    reason = _name_fault(name)
    if reason:
        raise BadName(kind, name, reason)
    return name


def _check_model_name(reference: str, name: str) -> str:
    reason = _name_fault(name)
    if reason:
        raise BadReference(reference, f"{name!r} cannot be a model's name: {reason}")
    return name


def _name_fault(name: str) -> str | None:
    """Return the fault of a name, or of the form that other programs can turn it into; or None."""
    folded = unicodedata.normalize("NFKC", name)
    faults = {
        "it holds characters that cannot be seen": not name.isprintable(),
        "it is empty, or begins or ends with a space": name != name.strip() or not name,
        f"it is longer than {_LONGEST_NAME} characters": len(name) > _LONGEST_NAME,
        "it holds parts of a path": _PATH.search(folded),
        "it holds parts of a URI": _URI_PART.search(folded),
        "it reads as a logged model's id": _LOGGED_MODEL.fullmatch(f"models:/{name}"),
    }
    return next((fault for fault, is_present in faults.items() if is_present), None)


def _parse_query(reference: str, name: str, query: str) -> Query:
    pairs = [part.partition("=")[::2] for part in _PART_OF_QUERY.split(query)]
    parts = {key: value.strip() for key, value in pairs}
    if not name.strip() or "/" in name:
        raise BadReference(reference, "a query follows only a model's name")
    _check_model_name(reference, name)
    if len(parts) < len(pairs) or not all(parts.values()) or parts.keys() - {"where", "order_by"}:
        raise BadReference(reference, "a query has where=, order_by= or both, each once")
    return Query(name, parts.get("where"), parts.get("order_by"))


def _parse_version(reference: str, name: str, version: str) -> ByVersion | Latest:
    if not name.strip():
        raise BadReference(reference, "the model's name is empty")
    _check_model_name(reference, name)
    if version == "latest":
        return Latest(name)
    if re.fullmatch(r"[0-9]{1,9}", version):
        return ByVersion(name, int(version))
    raise BadReference(reference, f"{version!r} is neither a version number nor 'latest'")
