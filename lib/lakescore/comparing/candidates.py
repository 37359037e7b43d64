"""Candidates: which versions are compared, and which of them the others are held against.

A candidate is one version, or a family that has a version for each segment of the holdout.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from lakescore import assignment
from lakescore.assignment import family_name
from lakescore.comparing import pairing
from lakescore.errors import AliasNotFound, HoldoutEmpty, NothingToCompare, listed
from lakescore.registry import Trust, versions
from lakescore.registry.difference import compare_signatures
from lakescore.slicing import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore.assignment import Asked, Assignment, Pinned
    from lakescore.registry import ModelVersion
    from lakescore.scanning import Selection

CHAMPION = "champion"
_EVERYTHING = Trust()


@dataclass(frozen=True)
class Candidates:
    """What is compared, in the order asked for, the baseline among them."""

    assigned: Mapping[str, Assignment]
    """By the URI of a version, or the name of a family as typed."""
    baseline: str
    """The key of the candidate that the others are held against."""
    gated: str | None = None
    """The key of the candidate that gates are for, where it is given."""

    @property
    def each(self) -> list[Assignment]:
        """What each candidate scores rows with, in their order."""
        return list(self.assigned.values())

    @property
    def models(self) -> dict[str, ModelVersion]:
        """All versions by their URIs, those of families among them."""
        return {model.uri: model for each in self.assigned.values() for model in each.models}

    @property
    def others(self) -> list[str]:
        """The keys of all but the baseline."""
        return [uri for uri in self.assigned if uri != self.baseline]

    def fit(self, uri: str) -> tuple[str, list[str]]:
        """Tell whether what works with the baseline works with a candidate, and what speaks for it.

        As `registry.difference.compare_signatures`; of families segment by segment, where these
        are told by one column, and else of each version with each.
        """
        before, after = self.assigned[self.baseline], self.assigned[uri]
        segments: dict[tuple[str, str], list[str]] = {}
        for segment, old, new in _side_by_side(before, after):
            said, reasons = _NO_MODEL
            if new is not None:
                said, reasons = compare_signatures(old.signature, new.signature)
            for reason in reasons:
                segments.setdefault((said, reason), []).extend(segment)
        worst = "breaking" if any(said == "breaking" for said, _ in segments) else "compatible"
        told = {reason: where for (said, reason), where in segments.items() if said == worst}
        return worst, [
            f"{reason} (segments {listed(where)})" if where else reason
            for reason, where in told.items()
        ]

    @property
    def columns(self) -> list[str]:
        """The columns that tell the segments of families."""
        return list(dict.fromkeys(each.by for each in self.assigned.values() if each.by))


_NO_MODEL: tuple[str, tuple[str, ...]] = ("breaking", ("there is no model",))


def _side_by_side(
    before: Assignment, after: Assignment
) -> Iterator[tuple[list[str], ModelVersion, ModelVersion | None]]:
    """Yield the versions that rows have before and after, with the segment where it is one.

    Segments that have no version before are left out. Where two columns tell the segments, any
    version can take the place of any other one.
    """
    if before.by is None and after.by is None:
        yield [], before.models[0], after.models[0]
    elif before.by is None or after.by is None or before.by == after.by:
        for segment in (before if before.by else after).numbers:
            if (old := before.model_of(segment)) is not None:
                yield [repr(segment)], old, after.model_of(segment)
    else:
        for segment, number in after.numbers.items():
            if number is None:
                yield [f"{after.by} {segment!r}"], before.models[0], None
        yield from (
            ([], old, new)
            for old, new in product(_with_other_signatures(before), _with_other_signatures(after))
        )


def _with_other_signatures(assigned: Assignment) -> list[ModelVersion]:
    """Return a version for each signature that there is."""
    firsts: dict[str, ModelVersion] = {}
    for model in assigned.models:
        firsts.setdefault(str(model.signature.to_dict()), model)
    return list(firsts.values())


@dataclass(frozen=True)
class PinnedCandidates:
    """What a job's file names to be compared, before the holdout is looked at."""

    entries: Mapping[str, Pinned]
    """By the URI of a version, or the name of a family as typed."""
    baseline: str
    gated: str | None = None

    def assign(
        self, address: str, rows: Selection | DataFrame, label: str, where: str | None = None
    ) -> Candidates:
        """Pin the versions of families, one for each segment of the holdout's labelled *rows*.

        Args:
            address: the holdout, for messages.
            rows: what `pairing.select` made.
            label: the label's column, for messages.
            where: the filter, for messages.

        Raises:
            ColumnsMissing, InputContractError: a column cannot tell segments.
            HoldoutEmpty: no row has a label, so there are no segments.
            As `assignment.Pinned.assign` besides.
        """
        columns = dict.fromkeys(each.by for each in self.entries.values() if each.by is not None)
        counted = {by: pairing.segments(rows, address, by) for by in columns}
        if not all(counted.values()):
            raise HoldoutEmpty(address, label, where)
        assigned = {
            uri: each.assign_segments(address, {} if each.by is None else {WHOLE: counted[each.by]})
            for uri, each in self.entries.items()
        }
        return Candidates(assigned, self.baseline, self.gated)


def pin_candidates(
    references: Sequence[Asked],
    *,
    query: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    candidate: str | None = None,
    trust: Trust = _EVERYTHING,
) -> PinnedCandidates:
    """Pin the versions to compare; baseline and candidate join them if they are not among them.

    Args:
        references: of versions, or families of them.
        query: more versions: the arguments of `registry.versions`.
        baseline: a reference, or the name of a family; when left out the first of *references* if
            that is a family, else the first model's champion, and where it has none the first
            version.
        candidate: likewise, where gates are for one candidate.
        trust: which versions may be loaded.

    Raises:
        NothingToCompare: the query names no version.
        As `registry.resolve` besides.
    """
    asked = [*references, *(_found(**query) if query else ())]
    entries = [assignment.pin(each, trust=trust) for each in asked]
    pinned = {entry.uri: entry for entry in entries}

    def named(reference: str) -> Pinned:
        return pinned.get(family_name(reference)) or assignment.pin(reference, trust=trust)

    against = named(baseline) if baseline else _champion(entries, trust)
    pinned.setdefault(against.uri, against)
    chosen = named(candidate) if candidate else None
    if chosen is not None:
        pinned.setdefault(chosen.uri, chosen)
    return PinnedCandidates(pinned, against.uri, chosen.uri if chosen else None)


def _champion(entries: Sequence[Pinned], trust: Trust) -> Pinned:
    """Return the champion of the first entry's model, where it is one version that has one."""
    first = entries[0]
    if first.by is not None or first.model is None:
        return first
    for entry in entries:
        model = entry.model if entry.by is None else None
        if model and model.name == first.model.name and CHAMPION in model.aliases:
            return entry
    try:
        return assignment.pin(f"{first.model.name}@{CHAMPION}", trust=trust)
    except AliasNotFound:
        return first


def _found(name: str, where: str | None = None, **further: Any) -> list[str]:  # noqa: ANN401 - those of versions
    records = versions(name, where=where, **further)
    if not records:
        raise NothingToCompare(name, where)
    return [f"{record.name}/{record.version}" for record in records]
