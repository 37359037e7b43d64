"""Candidates: the versions to compare, and the baseline among them.

A candidate is one version, or a family, which has a version for each segment of the holdout.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from lakescore import assignment
from lakescore.comparing import holdout
from lakescore.comparing.errors import HoldoutEmpty
from lakescore.options import family_name
from lakescore.registry import Trust, versions
from lakescore.registry.difference import compare_signatures
from lakescore.registry.errors import AliasNotFound, NothingToCompare
from lakescore.slicing import WHOLE
from lakescore.wording import listed

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
    """The candidates in the requested order, with the baseline among them."""

    assigned: Mapping[str, Assignment]
    """By the URI of a version, or by the name of a family as typed."""
    baseline: str
    """The key of the candidate that the others are compared with."""
    gated: str | None = None
    """The key of the candidate that the gates check, if the job names one."""

    @property
    def sides(self) -> list[Assignment]:
        """The assignment of each candidate, in order: one column of predictions for each."""
        return list(self.assigned.values())

    @property
    def models(self) -> dict[str, ModelVersion]:
        """All versions by URI, with the versions of families among them."""
        return {
            model.uri: model for assigned in self.assigned.values() for model in assigned.models
        }

    @property
    def others(self) -> list[str]:
        """The keys of all candidates except the baseline."""
        return [uri for uri in self.assigned if uri != self.baseline]

    def fit(self, uri: str) -> tuple[str, list[str]]:
        """Return whether a candidate can take the baseline's place, and the reasons.

        The verdict and the reasons are those of `registry.difference.compare_signatures`. Families
        whose segments come from one column are compared segment by segment. Otherwise each version
        of one candidate is compared with each version of the other.
        """
        before, after = self.assigned[self.baseline], self.assigned[uri]
        segments: dict[tuple[str, str], list[str]] = {}
        for names, old, new in _pair_versions(before, after):
            verdict, reasons = _NO_MODEL
            if new is not None:
                verdict, reasons = compare_signatures(old.signature, new.signature)
            for reason in reasons:
                segments.setdefault((verdict, reason), []).extend(names)
        worst = (
            "breaking" if any(verdict == "breaking" for verdict, _ in segments) else "compatible"
        )
        reason_segments = {
            reason: names for (verdict, reason), names in segments.items() if verdict == worst
        }
        return worst, [
            f"{reason} (segments {listed(names)})" if names else reason
            for reason, names in reason_segments.items()
        ]

    @property
    def columns(self) -> list[str]:
        """The columns whose values are the segments of families."""
        return list(
            dict.fromkeys(assigned.by for assigned in self.assigned.values() if assigned.by)
        )


_NO_MODEL: tuple[str, tuple[str, ...]] = ("breaking", ("there is no model",))


def _pair_versions(
    before: Assignment, after: Assignment
) -> Iterator[tuple[list[str], ModelVersion, ModelVersion | None]]:
    """Yield each old version with the version that replaces it, and the name of their segment.

    Segments without an old version are left out. If the segments come from two columns, a version
    of one candidate can replace any version of the other.
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
            for old, new in product(_distinct_signatures(before), _distinct_signatures(after))
        )


def _distinct_signatures(assigned: Assignment) -> list[ModelVersion]:
    """Return one version for each signature."""
    firsts: dict[str, ModelVersion] = {}
    for model in assigned.models:
        firsts.setdefault(str(model.signature.to_dict()), model)
    return list(firsts.values())


@dataclass(frozen=True)
class PinnedCandidates:
    """The candidates that a job's file names, before the job reads the holdout."""

    entries: Mapping[str, Pinned]
    """By the URI of a version, or by the name of a family as typed."""
    baseline: str
    gated: str | None = None

    def assign(
        self, address: str, rows: Selection | DataFrame, label: str, where: str | None = None
    ) -> Candidates:
        """Pin the versions of families: one for each segment of the holdout's labelled *rows*.

        Args:
            address: the holdout's address, for messages.
            rows: the rows that `holdout.select` returns.
            label: the label's column, for messages.
            where: the filter, for messages.

        Raises:
            ColumnsMissing, InputContractError: the values of a column cannot be segments.
            HoldoutEmpty: no row has a label, so the holdout has no segments.
            The errors of `assignment.Pinned.assign`.
        """
        columns = dict.fromkeys(entry.by for entry in self.entries.values() if entry.by is not None)
        segment_rows = {by: holdout.segments(rows, address, by) for by in columns}
        if not all(segment_rows.values()):
            raise HoldoutEmpty(address, label, where)
        assigned = {
            uri: entry.assign_segments(
                address, {} if entry.by is None else {WHOLE: segment_rows[entry.by]}
            )
            for uri, entry in self.entries.items()
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
    """Pin the versions to compare, and add the baseline and the candidate to them.

    Args:
        references: references of versions, or families.
        query: the arguments of `registry.versions`, which adds more versions.
        baseline: a reference, or the name of a family. If it is left out, the baseline is the first
            of *references* if that is a family; otherwise the first model's champion; if the model
            has no champion, the first version.
        candidate: the candidate that the gates check: a reference, or the name of a family.
        trust: the versions that may be loaded.

    Raises:
        NothingToCompare: the query matches no version.
        The errors of `registry.resolve`.
    """
    requested = [*references, *(_query_references(**query) if query else ())]
    entries = [assignment.pin(reference, trust=trust) for reference in requested]
    pinned = {entry.uri: entry for entry in entries}

    def pin_named(reference: str) -> Pinned:
        return pinned.get(family_name(reference)) or assignment.pin(reference, trust=trust)

    baseline_entry = pin_named(baseline) if baseline else _champion(entries, trust)
    pinned.setdefault(baseline_entry.uri, baseline_entry)
    gated_entry = pin_named(candidate) if candidate else None
    if gated_entry is not None:
        pinned.setdefault(gated_entry.uri, gated_entry)
    return PinnedCandidates(pinned, baseline_entry.uri, gated_entry.uri if gated_entry else None)


def _champion(entries: Sequence[Pinned], trust: Trust) -> Pinned:
    """Return the champion of the first entry's model, or the first entry if it has no champion."""
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


def _query_references(name: str, where: str | None = None, **further: Any) -> list[str]:  # noqa: ANN401 - arguments of versions
    records = versions(name, where=where, **further)
    if not records:
        raise NothingToCompare(name, where)
    return [f"{record.name}/{record.version}" for record in records]
