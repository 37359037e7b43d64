"""Entrants: which versions are compared, and which of them the others are held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore.errors import AliasNotFound, NothingToCompare
from lakescore.registry import Trust, resolve, versions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.registry import ModelVersion

CHAMPION = "champion"
_EVERYTHING = Trust()


@dataclass(frozen=True)
class Entrants:
    """Pinned versions by URI, in the order asked for, the baseline among them."""

    models: Mapping[str, ModelVersion]
    baseline: str
    """The URI of the version that the others are held against."""
    candidate: str | None = None
    """The URI of the version that gates are for, where it is given."""

    @property
    def others(self) -> list[str]:
        """The URIs of all but the baseline."""
        return [uri for uri in self.models if uri != self.baseline]


def enter(
    references: Sequence[str],
    *,
    query: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    candidate: str | None = None,
    trust: Trust = _EVERYTHING,
) -> Entrants:
    """Pin the versions to compare; baseline and candidate join them if they are not among them.

    Args:
        references: of versions.
        query: more of them: the arguments of `registry.versions`.
        baseline: a reference; the model's champion when left out, and where it has none the first
            of the versions.
        candidate: a reference, where gates are for one version.
        trust: which versions may be loaded.

    Raises:
        NothingToCompare: the query names no version.
        As `registry.resolve` besides.
    """
    asked = [*references, *(_found(**query) if query else ())]
    models = {model.uri: model for model in (resolve(each, trust=trust) for each in asked)}
    first = next(iter(models.values()))
    against = resolve(baseline, trust=trust) if baseline else _champion(first, models, trust)
    models.setdefault(against.uri, against)
    chosen = resolve(candidate, trust=trust) if candidate else None
    if chosen is not None:
        models.setdefault(chosen.uri, chosen)
    return Entrants(models, against.uri, chosen.uri if chosen else None)


def _champion(
    first: ModelVersion, models: Mapping[str, ModelVersion], trust: Trust
) -> ModelVersion:
    for model in models.values():
        if model.name == first.name and CHAMPION in model.aliases:
            return model
    try:
        return resolve(f"{first.name}@{CHAMPION}", trust=trust)
    except AliasNotFound:
        return first


def _found(name: str, where: str | None = None, **further: Any) -> list[str]:  # noqa: ANN401 - those of versions
    records = versions(name, where=where, **further)
    if not records:
        raise NothingToCompare(name, where)
    return [f"{record.name}/{record.version}" for record in records]
