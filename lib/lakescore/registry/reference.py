"""What a person types, read: references and names, and what is hostile in them refused.

MLflow itself lets through names with control characters, `%2f`, `?` or `#`, and aliases that end
in a line break.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from lakescore.errors import BadName, BadReference

_LOGGED_MODEL = re.compile(r"models:/(?P<id>m-[0-9a-f]{32})")
OWN_TAGS = "lakescore."
"""How the tags begin that lakescore notes for itself."""
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
    """`name?where=FILTER&order_by=COLUMN [desc]`: the one version that answers."""

    name: str
    where: str | None
    order_by: str | None


Named = ByVersion | ByAlias | Latest
Reference = Named | ByLoggedModel | Query


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
    return ByAlias(_named(reference, name), alias)


def parse_template(template: str, placeholder: str) -> Named | Query:
    """Read a reference in which *placeholder*, in braces, stands for a part of the name or alias.

    Raises:
        BadReference: as `parse`, or it names no model.
    """
    try:
        form = parse(template)
    except BadReference:  # an alias holds no braces
        form = parse(template.replace(placeholder, "x"))
    if isinstance(form, ByLoggedModel):
        raise BadReference(template, "it names no model")
    return form


def fill(template: str, placeholder: str, value: str) -> str:
    """Return the reference *template* with *value* in the place of *placeholder*.

    Raises:
        BadReference: *value* could be taken for more than a part of a name.
    """
    reference = template.replace(placeholder, value)
    if reason := _wrong(value):
        raise BadReference(reference, f"{value!r} cannot be a part of a name: {reason}")
    if set("@{}\ufffd") & set(unicodedata.normalize("NFKC", value)):
        raise BadReference(reference, f"{value!r} cannot be a part of a name")
    if type(parse(reference)) is not type(parse_template(template, placeholder)):
        raise BadReference(reference, f"{value!r} would make it another kind of reference")
    return reference


def check_name(name: str) -> str:
    """Return *name* where it can be a registered model's.

    Raises:
        BadName: it is empty or too long, or holds what cannot be seen, or parts of a path or URI.
    """
    return _checked("a model's name", name)


def check_alias(alias: str) -> str:
    """Return *alias* where a version can be given it.

    Raises:
        BadName: it is none, or one that MLflow reserves.
    """
    if not re.fullmatch(r"[\w-]{1,250}", alias):
        raise BadName("an alias", alias, "it holds other than letters, digits, _ and -")
    if _RESERVED_ALIAS.fullmatch(alias):
        raise BadName("an alias", alias, "MLflow reserves latest, and v1, v2, ...")
    return alias


def check_tag(key: str, value: str = "") -> None:
    """Check that a version or a registered model can be given the tag.

    Raises:
        BadName: the key is none, or lakescore's own; or the value holds what cannot be seen.
    """
    if key.startswith(OWN_TAGS):
        raise BadName("a tag", key, f"what begins with {OWN_TAGS} lakescore writes itself")
    _checked("a tag", key.replace("/", "").replace(":", ""))
    if not _TAG.fullmatch(key):
        raise BadName("a tag", key, "it holds other than letters, digits, blanks and / _ - . :")
    if not value.isprintable():
        raise BadName(f"the value of tag {key!r}", value, "it holds characters that cannot be seen")
    if len(value) > _LONGEST_VALUE:
        raise BadName(f"the value of tag {key!r}", value, f"it is over {_LONGEST_VALUE} characters")


def check_description(description: str | None) -> None:
    """Check that a version or a registered model can be described so, in several lines.

    Raises:
        BadName: it is too long, or holds what cannot be seen.
    """
    if description is None:
        return
    if not description.translate(_BREAKS).isprintable():
        raise BadName("a description", description, "it holds characters that cannot be seen")
    if len(description) > _LONGEST_VALUE:
        raise BadName("a description", description, f"it is over {_LONGEST_VALUE} characters")


def _checked(what: str, name: str) -> str:
    reason = _wrong(name)
    if reason:
        raise BadName(what, name, reason)
    return name


def _named(reference: str, name: str) -> str:
    reason = _wrong(name)
    if reason:
        raise BadReference(reference, f"{name!r} cannot be a model's name: {reason}")
    return name


def _wrong(name: str) -> str | None:
    """Return what is wrong with a name: also in the form that other programs may turn it into."""
    folded = unicodedata.normalize("NFKC", name)
    faults = {
        "it holds characters that cannot be seen": not name.isprintable(),
        "it is empty, or begins or ends with a space": name != name.strip() or not name,
        f"it is longer than {_LONGEST_NAME} characters": len(name) > _LONGEST_NAME,
        "it holds parts of a path": _PATH.search(folded),
        "it holds parts of a URI": _URI_PART.search(folded),
        "it reads as a logged model's id": _LOGGED_MODEL.fullmatch(f"models:/{name}"),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _query(reference: str, name: str, query: str) -> Query:
    given = [part.partition("=")[::2] for part in _PART_OF_QUERY.split(query)]
    parts = {key: value.strip() for key, value in given}
    if not name.strip() or "/" in name:
        raise BadReference(reference, "a query stands after the model's name alone")
    _named(reference, name)
    if len(parts) < len(given) or not all(parts.values()) or parts.keys() - {"where", "order_by"}:
        raise BadReference(reference, "a query holds where=, order_by= or both, each once")
    return Query(name, parts.get("where"), parts.get("order_by"))


def _by_version(reference: str, name: str, version: str) -> ByVersion | Latest:
    if not name.strip():
        raise BadReference(reference, "the model's name is empty")
    _named(reference, name)
    if version == "latest":
        return Latest(name)
    if re.fullmatch(r"[0-9]{1,9}", version):
        return ByVersion(name, int(version))
    raise BadReference(reference, f"{version!r} is neither a version number nor 'latest'")
