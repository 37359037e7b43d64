"""Assignment: which pinned version scores which rows: one for all of them, or one a segment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from lakescore import slicing
from lakescore.config import Segments
from lakescore.errors import (
    BadReference,
    ColumnsMissing,
    RegistryError,
    SegmentsUnfit,
    SegmentsUnresolved,
)
from lakescore.registry import resolve, resolve_all
from lakescore.registry.reference import fill, parse_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.registry import ModelVersion
    from lakescore.snapshots import Snapshot
    from lakescore.trust import Trust

Asked: TypeAlias = str | Segments
"""What a job's file says of a model: a version's reference, or a model a segment."""
COLUMNS = ("model_version", "model_uri", "logged_model_id", "model_run_id", "model_reference")
"""What a row says of the version that scored it, besides the model's name."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which pinned version scores which rows."""

    name: str
    """The registered model's; of segments, their names with the column in braces."""
    reference: str
    """As typed."""
    models: tuple[ModelVersion, ...]
    by: str | None = None
    """The column whose text names a row's segment; without, the one version scores all rows."""
    numbers: Mapping[str | None, int | None] = field(default_factory=dict)
    """By segment, the number of its version in `models`; none where its rows are left out."""
    rows: Mapping[str, Mapping[str | None, int]] = field(default_factory=dict)
    """By slice and segment, how many rows there are."""

    @property
    def uri(self) -> str:
        """What to call it: the version's URI, or the reference of segments as typed."""
        return self.models[0].uri if self.by is None else family_name(self.reference)

    @property
    def pin(self) -> str:
        """What was pinned, for people."""
        if self.by is None:
            return self.models[0].pin
        segments = f"{len(self.numbers)} segments by {self.by}"
        return f"{len(self.models)} versions for {segments}"

    def model_of(self, segment: str | None) -> ModelVersion | None:
        """Return the version that scores the rows of *segment*, or all rows."""
        if self.by is None:
            return self.models[0]
        number = self.numbers[segment]
        return None if number is None else self.models[number]

    def pins(self, slice_name: str) -> list[Any] | dict[str, Any]:
        """Return what decides the predictions of a slice, as plain values, for its fingerprint."""
        if self.by is None:
            return [pin_of(model) for model in self.models]
        of_slice = sorted(self.rows.get(slice_name, {}), key=_order)
        models = [self.model_of(segment) for segment in of_slice]
        pins = [None if model is None else pin_of(model) for model in models]
        return {"by": self.by, "segments": of_slice, "versions": pins}

    def left(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Return the *sizes* of slices without the rows that no version scores."""
        return {name: size - self.skipped(name) for name, size in sizes.items()}

    def skipped(self, slice_name: str) -> int:
        """Return how many rows of a slice no version scores."""
        of_slice = self.rows.get(slice_name, {})
        return sum(rows for segment, rows in of_slice.items() if self.numbers[segment] is None)

    @cached_property
    def sizes(self) -> dict[str | None, int]:
        """How many rows each segment has in all slices."""
        found: Counter[str | None] = Counter()
        for of_slice in self.rows.values():
            found.update(of_slice)
        return dict(sorted(found.items(), key=lambda each: _order(each[0])))

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The segments of all slices as plain values: name, rows, and the version that has them."""
        models = {segment: self.model_of(segment) for segment in self.sizes}
        return [
            {"segment": name, "rows": rows, "uri": model and model.uri,
             "digest": model and model.digest}
            for (name, rows), model in zip(self.sizes.items(), models.values(), strict=True)
        ]  # fmt: skip

    def facts(self, model: ModelVersion | None = None) -> dict[str, Any]:
        """Return what rows say of the version *model* that scored them, by the names of columns."""
        model = self.models[0] if model is None else model
        values = (
            model.version,
            model.uri,
            model.logged_model_id,
            model.run_id,
            model.reference,
        )
        return dict(zip(COLUMNS, values, strict=True))


def family_name(reference: str) -> str:
    """Return what to call a family of versions: its reference, however it is spelled."""
    return reference.removeprefix("models:/")


def pin_of(model: ModelVersion) -> list[Any]:
    """Return what tells a version from others, as plain values."""
    return [model.name, model.version, model.digest]


def _order(segment: str | None) -> tuple[bool, str]:
    return segment is not None, segment or ""


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """What a job's `model` means, as far as it can be told before the input is looked at."""

    asked: Asked
    trust: Trust
    model: ModelVersion | None
    """The version, or the one for segments without their own."""

    @property
    def by(self) -> str | None:
        """The column whose text names a row's segment; none where one version scores all rows."""
        return self.asked.by if isinstance(self.asked, Segments) else None

    @property
    def reference(self) -> str:
        """As typed."""
        return self.asked.name if isinstance(self.asked, Segments) else self.asked

    @property
    def uri(self) -> str:
        """Of the version; of a model a segment, as typed."""
        if isinstance(self.asked, Segments) or not self.model:
            return family_name(self.reference)
        return self.model.uri

    def __str__(self) -> str:
        """Say what was pinned."""
        if not isinstance(self.asked, Segments):
            return f"{self.asked} is {self.model.pin if self.model else None}"
        if self.model is None:
            return f"{self.reference} is a model a segment"
        return f"{self.reference} is a model a segment, and else {self.model.pin}"

    def assign(self, source: Snapshot, slice_by: str | None, slices: Sequence[str]) -> Assignment:
        """Pin the version of each segment that *slices* of *source* hold.

        Raises:
            ColumnsMissing: the table lacks the column.
            InputContractError: it has a type that cannot name segments.
            SegmentsUnfit: values of it cannot be a part of a model's name.
            SegmentsUnresolved: there is no such model, and the job says that this is an error.
            As `registry.resolve` besides.
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
        """Pin the version of each segment that *rows* of the table *address* are of.

        Args:
            address: the table, for messages.
            rows: by slice and segment, how many there are.

        Raises:
            SegmentsUnfit, SegmentsUnresolved: as `assign`.
        """
        if not isinstance(self.asked, Segments):
            assert self.model is not None  # noqa: S101 - narrows for mypy
            return assign_all(self.model)
        segments = {segment for of_slice in rows.values() for segment in of_slice}
        return replace(self._assigned(address, self.asked, segments), rows=rows)

    def _assigned(
        self, address: str, asked: Segments, segments: Iterable[str | None]
    ) -> Assignment:
        references = _references(address, asked, segments)
        found = resolve_all(sorted(filter(None, references.values())), trust=self.trust)
        missing: dict[str | None, RegistryError] = {
            segment: each
            for segment, reference in references.items()
            if isinstance(each := found.get(reference or "", _NULL), RegistryError)
        }
        none = len(missing) == len(references) and asked.missing == "skip"
        if missing and (asked.missing == "fail" or none):
            raise SegmentsUnresolved(asked.by, missing, len(references))
        models = [each for each in found.values() if not isinstance(each, RegistryError)]
        places = {model.reference: n for n, model in enumerate(models)}
        numbers = {segment: places.get(each or "") for segment, each in references.items()}
        if missing and self.model is not None:
            numbers |= dict.fromkeys(missing, len(models))
            models.append(self.model)
        return assign_by_segment(asked, models, numbers)


_NULL = RegistryError("no segment is named in the row")


def _references(
    address: str, asked: Segments, segments: Iterable[str | None]
) -> dict[str | None, str | None]:
    """Return the reference of each segment's model; none of rows that name no segment."""
    references: dict[str | None, str | None] = {}
    unfit = []
    for segment in sorted(segments, key=_order):
        try:
            named = None if segment is None else fill(asked.name, asked.placeholder, segment)
            references[segment] = named
        except BadReference:
            unfit.append(str(segment))
    if unfit:
        raise SegmentsUnfit(address, asked.by, unfit)
    return references


def assign_all(model: ModelVersion) -> Assignment:
    """Return the assignment of all rows to *model*."""
    return Assignment(name=model.name, reference=model.reference, models=(model,))


def assign_by_segment(
    asked: Segments, models: Sequence[ModelVersion], numbers: Mapping[str | None, int | None]
) -> Assignment:
    """Return the assignment of segments to *models*, by their *numbers* among these."""
    return Assignment(
        name=parse_template(asked.name, asked.placeholder).name,
        reference=asked.name,
        models=tuple(models),
        by=asked.by,
        numbers=numbers,
    )


def pin(asked: Asked, *, trust: Trust) -> Pinned:
    """Pin what a job's `model` names before the input is looked at, whose segments name the rest.

    Raises:
        BadReference: it has none of the forms.
        As `registry.resolve` besides.
    """
    if not isinstance(asked, Segments):
        return Pinned(asked=asked, trust=trust, model=resolve(asked, trust=trust))
    parse_template(asked.name, asked.placeholder)
    default = None if isinstance(asked.missing, str) else asked.missing.default
    model = None if default is None else resolve(default, trust=trust)
    return Pinned(asked=asked, trust=trust, model=model)
