"""Assignment: which pinned version scores which rows: one version for all, or one a segment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from lakescore import slicing
from lakescore.config import Segments
from lakescore.errors import ColumnsMissing, InputContractError, RegistryError
from lakescore.options import family_name
from lakescore.provenance import VERSION_COLUMNS
from lakescore.registry import resolve, resolve_all
from lakescore.registry.errors import BadReference
from lakescore.registry.reference import fill, parse_template
from lakescore.wording import counted, listed, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import ModelVersion
    from lakescore.snapshots import Snapshot
    from lakescore.trust import Trust

Asked: TypeAlias = str | Segments
"""The value of `model` in a job's file: a version's reference, or one model per segment."""


class SegmentsUnresolved(RegistryError):
    """Some segments have no model."""

    def __init__(
        self, column: str, missing: Mapping[str | None, RegistryError], segments: int
    ) -> None:
        named = [item for item in missing.items() if item[0] is not None]
        segment, error = next(iter(named or missing.items()))
        super().__init__(
            f"no model for {len(missing)} of {counted(segments, 'segment')} by {column}: "
            f"{listed(map(repr, missing), most=20)}; for {segment!r}: {error}; register models for "
            "these segments, or set missing: {default: REFERENCE}, or missing: skip if other "
            "segments have a model"
        )
        self.facts = {"segments_without_model": list(missing)}


class SegmentsUnfit(InputContractError):
    """Values of the segment column cannot be a part of a model's name."""

    def __init__(self, address: str, column: str, values: Iterable[str]) -> None:
        super().__init__(
            f"column {column!r} of {address} has segments that cannot be a part of a model's name: "
            f"{listed(map(shortened, values))}; nothing was scored; fix these rows, or remove "
            "them"
        )


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which pinned version scores which rows."""

    name: str
    """The name of the registered model; for segments, the template with the column in braces."""
    reference: str
    """The reference as typed."""
    models: tuple[ModelVersion, ...]
    by: str | None = None
    """The column whose text names a row's segment; None if one version scores all rows."""
    numbers: Mapping[str | None, int | None] = field(default_factory=dict)
    """By segment, the number of its version in `models`; None if no version scores its rows."""
    rows: Mapping[str, Mapping[str | None, int]] = field(default_factory=dict)
    """By slice and segment, the number of rows."""

    @property
    def uri(self) -> str:
        """The name for messages: the version's URI, or the name of the family."""
        return self.models[0].uri if self.by is None else family_name(self.reference)

    @property
    def pin(self) -> str:
        """The pinned versions, for people."""
        if self.by is None:
            return self.models[0].pin
        segments = f"{counted(len(self.numbers), 'segment')} by {self.by}"
        return f"{counted(len(self.models), 'version')} for {segments}"

    def model_of(self, segment: str | None) -> ModelVersion | None:
        """Return the version that scores the rows of *segment*, or all rows."""
        if self.by is None:
            return self.models[0]
        number = self.numbers[segment]
        return None if number is None else self.models[number]

    def pins(self, slice_name: str) -> list[Any] | dict[str, Any]:
        """Return the pins of a slice's predictions, as plain values for its fingerprint."""
        if self.by is None:
            return [pin_of(model) for model in self.models]
        segments = sorted(self.rows.get(slice_name, {}), key=_sort_key)
        models = [self.model_of(segment) for segment in segments]
        pins = [None if model is None else pin_of(model) for model in models]
        return {"by": self.by, "segments": segments, "versions": pins}

    def left(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the *sizes* of slices minus the rows that no version scores."""
        return {name: size - self.skipped(name) for name, size in sizes.items()}

    def skipped(self, slice_name: str) -> int:
        """Return how many rows of a slice no version scores."""
        counts = self.rows.get(slice_name, {})
        return sum(rows for segment, rows in counts.items() if self.numbers[segment] is None)

    @cached_property
    def sizes(self) -> dict[str | None, int]:
        """The number of rows of each segment in all slices."""
        totals: Counter[str | None] = Counter()
        for counts in self.rows.values():
            totals.update(counts)
        return dict(sorted(totals.items(), key=lambda item: _sort_key(item[0])))

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The segments of all slices as plain values: name, rows, URI and digest of the version."""
        models = [(name, rows, self.model_of(name)) for name, rows in self.sizes.items()]
        return [
            {"segment": name, "rows": rows, "uri": model and model.uri,
             "digest": model and model.digest}
            for name, rows, model in models
        ]  # fmt: skip

    def facts(self, model: ModelVersion | None = None) -> dict[str, Any]:
        """Return the values of `VERSION_COLUMNS` in rows that the version *model* scored."""
        model = self.models[0] if model is None else model
        values = (
            model.version,
            model.uri,
            model.logged_model_id,
            model.run_id,
            model.reference,
        )
        return dict(zip(VERSION_COLUMNS, values, strict=True))


def pin_of(model: ModelVersion) -> list[Any]:
    """Return the plain values that identify a version."""
    return [model.name, model.version, model.digest]


def _sort_key(segment: str | None) -> tuple[bool, str]:
    return segment is not None, segment or ""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """The pinned meaning of a job's `model`, as far as it is known before the input is read."""

    asked: Asked
    trust: Trust
    model: ModelVersion | None
    """The version, or the default for segments that have no version."""

    @property
    def by(self) -> str | None:
        """The column whose text names a row's segment; None if one version scores all rows."""
        return self.asked.by if isinstance(self.asked, Segments) else None

    @property
    def reference(self) -> str:
        """The reference as typed."""
        return self.asked.name if isinstance(self.asked, Segments) else self.asked

    @property
    def uri(self) -> str:
        """The version's URI; for one model per segment, the name of the family."""
        if isinstance(self.asked, Segments) or not self.model:
            return family_name(self.reference)
        return self.model.uri

    def __str__(self) -> str:
        """Return a sentence that names the pinned version."""
        if not isinstance(self.asked, Segments):
            return f"{self.asked} is {self.model.pin if self.model else None}"
        if self.model is None:
            return f"{self.reference} is one model per segment"
        return f"{self.reference} is one model per segment, otherwise {self.model.pin}"

    def assign(self, source: Snapshot, slice_by: str | None, slices: Sequence[str]) -> Assignment:
        """Pin the version of each segment in the *slices* of *source*.

        Raises:
            ColumnsMissing: the table lacks the column.
            InputContractError: the column has a type that cannot name segments.
            SegmentsUnfit: values of the column cannot be a part of a model's name.
            SegmentsUnresolved: segments have no model, and the job treats that as an error.
            Also the errors of `registry.resolve`.
        """
        if (by := self.by) is None:
            return self.assign_segments(source.address, {})
        missing = [name for name in (slice_by, by) if name and name not in source.schema.names]
        if missing:
            raise ColumnsMissing(source.address, missing, source.schema.names)
        rows = slicing.segments(slicing.select(source, slice_by, slices), by) if slices else {}
        return self.assign_segments(source.address, rows)

    def assign_segments(
        self, address: str, rows: Mapping[str, Mapping[str | None, int]]
    ) -> Assignment:
        """Pin the version of each segment that *rows* names.

        Args:
            address: the table, for messages.
            rows: by slice and segment, the number of rows.

        Raises:
            SegmentsUnfit, SegmentsUnresolved: as `assign`.
        """
        if not isinstance(self.asked, Segments):
            assert self.model is not None  # noqa: S101 - narrows for mypy
            return assign_all(self.model)
        segments = {segment for counts in rows.values() for segment in counts}
        return replace(self._assign(address, self.asked, segments), rows=rows)

    def _assign(
        self, address: str, requested: Segments, segments: Iterable[str | None]
    ) -> Assignment:
        references = _references(address, requested, segments)
        resolved = resolve_all(sorted(filter(None, references.values())), trust=self.trust)
        missing: dict[str | None, RegistryError] = {
            segment: error
            for segment, reference in references.items()
            if isinstance(error := resolved.get(reference or "", _NO_SEGMENT), RegistryError)
        }
        skips_all = len(missing) == len(references) and requested.missing == "skip"
        if missing and (requested.missing == "fail" or skips_all):
            raise SegmentsUnresolved(requested.by, missing, len(references))
        models = [model for model in resolved.values() if not isinstance(model, RegistryError)]
        places = {model.reference: n for n, model in enumerate(models)}
        numbers = {
            segment: places.get(reference or "") for segment, reference in references.items()
        }
        if missing and self.model is not None:
            numbers |= dict.fromkeys(missing, len(models))
            models.append(self.model)
        return assign_by_segment(requested, models, numbers)


_NO_SEGMENT = RegistryError("the row names no segment")


def _references(
    address: str, requested: Segments, segments: Iterable[str | None]
) -> dict[str | None, str | None]:
    """Return the reference of each segment's model; None for rows that name no segment."""
    references: dict[str | None, str | None] = {}
    unfit = []
    for segment in sorted(segments, key=_sort_key):
        try:
            reference = (
                None if segment is None else fill(requested.name, requested.placeholder, segment)
            )
            references[segment] = reference
        except BadReference:
            unfit.append(str(segment))
    if unfit:
        raise SegmentsUnfit(address, requested.by, unfit)
    return references


def assign_all(model: ModelVersion) -> Assignment:
    """Return the assignment of all rows to *model*."""
    return Assignment(name=model.name, reference=model.reference, models=(model,))


def assign_by_segment(
    requested: Segments, models: Sequence[ModelVersion], numbers: Mapping[str | None, int | None]
) -> Assignment:
    """Return the assignment of segments to *models*; *numbers* has the place of each version."""
    return Assignment(
        name=parse_template(requested.name, requested.placeholder).name,
        reference=requested.name,
        models=tuple(models),
        by=requested.by,
        numbers=numbers,
    )


def pin(asked: Asked, *, trust: Trust) -> Pinned:
    """Pin the version that a job's `model` names; the segments of the input name further ones.

    Raises:
        BadReference: the reference has none of the known forms.
        Also the errors of `registry.resolve`.
    """
    if not isinstance(asked, Segments):
        return Pinned(asked=asked, trust=trust, model=resolve(asked, trust=trust))
    parse_template(asked.name, asked.placeholder)
    default = None if isinstance(asked.missing, str) else asked.missing.default
    model = None if default is None else resolve(default, trust=trust)
    return Pinned(asked=asked, trust=trust, model=model)
