"""Provenance: the columns that explain a prediction, and the record that its commit keeps.

A commit of predictions has a `CommitRecord` as JSON in its `userMetadata`. This module alone writes
and reads that JSON, whose keys are an interface: see docs/reference.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

VERSION_COLUMNS = (
    "model_version",
    "model_uri",
    "logged_model_id",
    "model_run_id",
    "model_reference",
)
"""The columns of a row that name the version that scored it, besides the model's name."""
COLUMNS = (
    "model_name",
    *VERSION_COLUMNS,
    "input_table",
    "input_version",
    "slice",
    "scoring_run_id",
    "scored_at",
)
"""The columns that every prediction carries, after the keys and the prediction itself."""
ERROR_COLUMNS = ("error_type", "error_message")
"""The columns that a quarantined row has in the place of the prediction."""


class Pin(NamedTuple):
    """A version that a run used, for the rows of a segment or for all rows."""

    segment: str | None
    uri: str | None
    """None if no version scored the rows of the segment."""
    digest: str | None


class CommittedSlice(NamedTuple):
    """A slice that a commit published."""

    name: str
    run_id: str
    fingerprint: str | None


@dataclass(frozen=True, kw_only=True)
class CommitRecord:
    """What a commit of predictions says of itself."""

    model_name: str
    model_reference: str | None
    pins: tuple[Pin, ...]
    """One pin of no segment; or one pin a segment of the slices."""
    segment_by: str | None = None
    """The column of the segments; None if one version scored all rows."""
    version: Mapping[str, Any] = field(default_factory=dict)
    """The values of `VERSION_COLUMNS`, if one version scored all rows."""
    input_table: str
    input_version: int
    input_id: str | None
    """The id of the input table: another table at the same address has another id."""
    settings: Mapping[str, Any] | None
    """The job's settings that decide the rows."""
    scored_at: str | None
    slices: tuple[CommittedSlice, ...]
    quarantine: str | None = None
    """The table of quarantined rows, if the job's file names one."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The values that are equal for all slices of a run, besides the pins of segments."""
        pins = self.pins if self.segment_by is None else ()
        source = (self.input_table, self.input_version)
        return (self.model_name, pins, self.segment_by, *source, self.settings)

    @property
    def digests(self) -> dict[str | None, str | None]:
        """The digests of the versions by their URIs."""
        return {pin.uri: pin.digest for pin in self.pins}

    def metadata(self) -> dict[str, Any]:
        """Return the record as plain values for the commit's `userMetadata`."""
        if self.segment_by is None:
            versions = {**self.version, "model_digest": self.pins[0].digest}
        else:
            versions = {
                "model_reference": self.model_reference,
                "segment_by": self.segment_by,
                "segments": [list(pin) for pin in self.pins],
            }
        return {
            "model_name": self.model_name,
            **versions,
            "input_table": self.input_table,
            "input_version": self.input_version,
            "input_id": self.input_id,
            "settings": self.settings,
            "scored_at": self.scored_at,
            "slices": [
                {"slice": part.name, "scoring_run_id": part.run_id, "fingerprint": part.fingerprint}
                for part in self.slices
            ],
            **({} if self.quarantine is None else {"quarantine": self.quarantine}),
        }

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> CommitRecord | None:
        """Return the record in a commit's *metadata*; None if it is not a commit of predictions.

        Other writers can put anything there.
        """
        try:
            by, segments = metadata.get("segment_by"), metadata.get("segments")
            if (by is None) != (segments is None):
                return None
            if segments is None:
                segments = [(None, metadata["model_uri"], metadata.get("model_digest"))]
            record = cls(
                model_name=metadata["model_name"],
                model_reference=metadata.get("model_reference"),
                pins=tuple(Pin(*pin) for pin in segments),
                segment_by=by,
                version={name: metadata.get(name) for name in VERSION_COLUMNS},
                input_table=metadata["input_table"],
                input_version=metadata["input_version"],
                input_id=metadata.get("input_id"),
                settings=metadata.get("settings"),
                scored_at=metadata.get("scored_at"),
                slices=tuple(
                    CommittedSlice(part["slice"], part["scoring_run_id"], part.get("fingerprint"))
                    for part in metadata["slices"]
                ),
                quarantine=metadata.get("quarantine"),
            )
        except (AttributeError, KeyError, TypeError):
            return None
        return record if record._is_sound() else None

    def _is_sound(self) -> bool:
        """Return whether the values have the types that a record has, as far as others use them."""
        texts = [self.model_name, self.input_table]
        texts += [text for part in self.slices for text in part[:2]]
        perhaps = [self.input_id, *[part.fingerprint for part in self.slices]]
        perhaps += [text for pin in self.pins for text in pin]
        return (
            bool(self.pins)
            and all(isinstance(text, str) for text in texts)
            and all(text is None or isinstance(text, str) for text in perhaps)
            and (self.settings is None or isinstance(self.settings, dict))
        )


class SliceCommit(NamedTuple):
    """The commit that published a slice."""

    version: int
    """The version of the table that the commit made."""
    record: CommitRecord
    part: CommittedSlice


def records(commits: Iterable[tuple[int, Mapping[str, Any]]]) -> list[tuple[int, CommitRecord]]:
    """Return the records of those *commits* that published predictions, in the same order."""
    read = [(version, CommitRecord.read(metadata)) for version, metadata in commits]
    return [(version, record) for version, record in read if record is not None]


def newest(
    commits: Iterable[tuple[int, Mapping[str, Any]]],
) -> dict[tuple[str, str], SliceCommit]:
    """Return the newest of *commits* by slice and run.

    Args:
        commits: versions and metadata, the newest first.
    """
    by_slice: dict[tuple[str, str], SliceCommit] = {}
    for version, record in records(commits):
        for part in record.slices:
            by_slice.setdefault((part.name, part.run_id), SliceCommit(version, record, part))
    return by_slice


def name_quarantine(address: str | None) -> dict[str, Any] | None:
    """Return the metadata of the commit that makes a table whose quarantine has an *address*."""
    return None if address is None else {"quarantine": address}


def quarantines(commits: Sequence[tuple[int, Mapping[str, Any]]], usual: str) -> list[str]:
    """Return the addresses of a table's quarantines, the newest first.

    Args:
        commits: versions and metadata, the newest first.
        usual: the address of the quarantine of a job whose file names none.
    """
    named = [str(metadata["quarantine"]) for _, metadata in commits if metadata.get("quarantine")]
    if not named or any(record.quarantine is None for _, record in records(commits)):
        named.append(usual)
    return list(dict.fromkeys(named))
