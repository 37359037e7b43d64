"""Change the tags and descriptions of versions and registered models."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lakescore.registry import reading
from lakescore.registry.errors import EditedMeanwhile, TagNotFound
from lakescore.registry.finding import find
from lakescore.registry.record import clean
from lakescore.registry.reference import check_description, check_name, check_tags
from lakescore.registry.store import answering, connect
from lakescore.registry.table import Shown
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from mlflow import MlflowClient  # noqa: TID251 - a type


@dataclass(frozen=True)
class Described(Shown):
    """A version or a registered model, after a change of its description."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    description: str | None

    def facts(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {"of": self.of, "description": clean(self.description)}


@dataclass(frozen=True)
class Tagged(Shown):
    """A version or a registered model, after a change of its tags."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    tags: Mapping[str, str]
    """All present tags."""

    def facts(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {"of": self.of, "tags": clean(dict(sorted(self.tags.items())))}


def tag(
    reference: str,
    tags: Mapping[str, str],
    *,
    of_model: bool = False,
    expect: Mapping[str, str | None] | None = None,
) -> Tagged:
    """Add or change tags of a version, or of a registered model, after a check of all tags.

    Return the version or model, with all of its present tags.

    Args:
        reference: as in `resolve`, or the registered model's name.
        tags: the tags.
        of_model: whether *reference* is the name of a registered model.
        expect: the values that tags must have now, as `facts` shows them; None for no such tag.
            They are checked just before the change, since MLflow itself cannot compare and set.

    Raises:
        BadName: a tag is not valid, or reserved for lakescore.
        EditedMeanwhile: a tag does not have the value in *expect*; no tag was set.
        Also all that `describe` raises, for *reference*.
    """
    check_tags(tags)
    client = connect()
    with answering():
        edited = _open_for_edit(client, reference, of_model=of_model)
        _check_expected(edited, expect)
        for key, value in tags.items():
            edited.set_tag(key, value)
        return Tagged(edited.of, {**edited.tags, **tags})


def untag(
    reference: str,
    keys: Collection[str],
    *,
    of_model: bool = False,
    expect: Mapping[str, str | None] | None = None,
) -> Tagged:
    """Remove tags of a version, or of a registered model, after a check of all keys.

    Return the version or model, with all of its present tags.

    Args:
        reference: as in `resolve`, or the registered model's name.
        keys: the tags' keys.
        of_model: whether *reference* is the name of a registered model.
        expect: as in `tag`.

    Raises:
        EditedMeanwhile: a tag does not have the value in *expect*; no tag was removed.
        TagNotFound: there is no such tag.
        BadName: a key is not valid, or reserved for lakescore.
        Also all that `describe` raises, for *reference*.
    """
    check_tags(dict.fromkeys(keys, ""))
    client = connect()
    with answering():
        edited = _open_for_edit(client, reference, of_model=of_model)
        _check_expected(edited, expect)
        _check_tags_exist(edited, keys)
        for key in keys:
            edited.delete_tag(key)
        remaining = {key: value for key, value in edited.tags.items() if key not in keys}
        return Tagged(edited.of, remaining)


def describe_as(
    reference: str, description: str, *, of_model: bool = False, expect: str | None = None
) -> Described:
    """Set the description of a version, or of a registered model; an empty one removes it.

    Args:
        reference: as in `resolve`, or the registered model's name.
        description: the text for people.
        of_model: whether *reference* is the name of a registered model.
        expect: the present description, as `facts` shows it, empty for none; None for no check.

    Raises:
        BadName: the description is too long, or contains characters that cannot be seen.
        EditedMeanwhile: the present description is not *expect*; nothing was set.
        Also all that `describe` raises, for *reference*.
    """
    check_description(description)
    client = connect()
    with answering():
        edited = _open_for_edit(client, reference, of_model=of_model)
        current = edited.description
        if expect is not None and expect != redact(current or ""):
            field = f"the description of {edited.owner}"
            raise EditedMeanwhile(field, expect or None, current or None)
        edited.describe(description)
        return Described(edited.of, description or None)


@dataclass(frozen=True, kw_only=True)
class _Edited:
    """A version or a registered model as it was read, with the functions that change it."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    owner: str
    """The name for messages."""
    tags: Mapping[str, str]
    description: str | None
    set_tag: Callable[[str, str], object]
    delete_tag: Callable[[str], object]
    describe: Callable[[str], object]


def _open_for_edit(client: MlflowClient, reference: str, *, of_model: bool) -> _Edited:
    if of_model:
        model = reading.model_named(client, check_name(reference))
        return _Edited(
            of=model.name,
            owner=repr(model.name),
            tags=model.tags,
            description=model.description,
            set_tag=partial(client.set_registered_model_tag, model.name),
            delete_tag=partial(client.delete_registered_model_tag, model.name),
            describe=partial(client.update_registered_model, model.name),
        )
    record = find(client, reference)
    version = record.name, str(record.version)
    return _Edited(
        of=record.uri,
        owner=record.uri,
        tags=record.tags,
        description=record.description,
        set_tag=partial(client.set_model_version_tag, *version),
        delete_tag=partial(client.delete_model_version_tag, *version),
        describe=partial(client.update_model_version, *version),
    )


def _check_expected(edited: _Edited, expect: Mapping[str, str | None] | None) -> None:
    """Compare tags with the values that a reader saw, which have no credentials."""
    for key, expected in (expect or {}).items():
        current = redact(edited.tags[key]) if key in edited.tags else None
        if current != expected:
            raise EditedMeanwhile(f"the tag {key!r} of {edited.owner}", expected, current)


def _check_tags_exist(edited: _Edited, keys: Iterable[str]) -> None:
    for key in keys:
        if key not in edited.tags:
            raise TagNotFound(edited.owner, key, edited.tags)
