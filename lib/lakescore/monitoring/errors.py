"""The errors of monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import ConfigError, InputContractError, IntegrityError, RequirementNotMet
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ModelUnclear(ConfigError):
    """The table has predictions of several models, and the job's file names none, or another."""

    def __init__(self, address: str, asked: str | None, models: Sequence[str]) -> None:
        what = f"no predictions of {asked!r}" if asked else "predictions of several models"
        super().__init__(f"{address} has {what}; give model, one of: {listed(models)}")


class NothingScored(InputContractError):
    """The table has no predictions of slices that the job's file names."""

    def __init__(self, address: str, slices: Sequence[str], existing: Sequence[str]) -> None:
        super().__init__(
            f"{address} has no predictions of the slices {listed(slices)}; score them first; there "
            f"are: {listed(existing)}"
        )


class LineageMissing(InputContractError):
    """The log of a table of predictions does not say how a slice was scored."""

    def __init__(self, address: str, slices: Sequence[str]) -> None:
        super().__init__(
            f"the log of {address} has no commit of a score job for the rows of the slices "
            f"{listed(slices)}, so their input is not known; score them again, or keep the log "
            "longer (delta.logRetentionDuration)"
        )


class SegmentsTooMany(InputContractError):
    """A column divides a slice into too many segments."""

    def __init__(self, address: str, column: str, most: int) -> None:
        super().__init__(
            f"column {column!r} of {address} has more than {most} values, but by divides a slice "
            f"into at most {most} segments; name another column"
        )


class BaselineUnfit(InputContractError):
    """The baseline cannot be compared with the slices."""

    def __init__(self, baseline: str, reason: str) -> None:
        super().__init__(f"the baseline {baseline} {reason}")


class KindsDiffer(InputContractError):
    """A column has another kind of values than in the baseline."""

    def __init__(self, address: str, column: str, expected: str, actual: str) -> None:
        super().__init__(
            f"column {column!r} of {address} is a {actual}, but a {expected} in the baseline; name "
            "a baseline with the same types, or leave the column out of columns"
        )


class InputReplaced(InputContractError):
    """Another table is at the address of the input that was scored."""

    def __init__(self, address: str, name: str) -> None:
        super().__init__(
            f"{address} is another table than the one that slice {name!r} was scored from; score "
            "the slice again"
        )


class LabelsRepeated(InputContractError):
    """The table of labels has several labels for one key."""

    def __init__(
        self, address: str, keys: Sequence[str], repeated: int, examples: Sequence[str]
    ) -> None:
        super().__init__(
            f"{address} has several labels for {counted(repeated, 'key')} ({listed(keys)}), such "
            f"as {listed(examples)}; keep one row for each key, or name more keys in labels.keys"
        )


class KeysUnfit(InputContractError):
    """A key of the labels has a type that does not fit the key of the predictions."""

    def __init__(self, address: str, column: str, has: str, asks: str) -> None:
        super().__init__(
            f"{address} has the key {column!r} as {has}, but the predictions have it as {asks}; "
            "cast it in the table of labels"
        )


class KeysInSlices(InputContractError):
    """Predictions of several slices share a key, so a label could belong to any of them."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(
            f"predictions of several slices share their {listed(keys)}, so a label could belong to "
            "any of them; name in labels.slice_by the column of the labels that has the slice"
        )


class ArrivalUnfit(InputContractError):
    """The column with the arrival of labels holds no dates or times."""

    def __init__(self, address: str, column: str, kind: str) -> None:
        super().__init__(
            f"labels.arrived_at names the column {column!r} of {address}, which is {kind}; name a "
            "column with dates or times"
        )


class LabelsUnfit(InputContractError):
    """The table of predictions has no column that can be compared with the labels."""

    def __init__(self, address: str, problem: str, outputs: Sequence[str]) -> None:
        super().__init__(
            f"the labels cannot be compared with {address}: {problem}; its outputs are "
            f"{listed(outputs)}; name one of them in labels.prediction"
        )


class RowsNotCounted(IntegrityError):
    """A table has other rows of a slice than a run published."""

    def __init__(self, address: str, name: str, counted_rows: int, published: int) -> None:
        super().__init__(
            f"{address} has {counted(counted_rows, 'row')} of slice {name!r}, but the run "
            f"published {counted(published, 'prediction')}; nothing was written; score the slice "
            "again"
        )


class NothingToMonitor(InputContractError):
    """None of the columns can be monitored."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        why = listed(f"{name} ({reason})" for name, reason in reasons.items())
        super().__init__(f"no column can be monitored: {why}; name numbers, texts or booleans")


class DriftNotAccepted(RequirementNotMet):
    """A monitored slice does not meet the gates."""

    def __init__(self, failures: Sequence[str], report: Mapping[str, object]) -> None:
        super().__init__(
            f"{counted(len(failures), 'gate')} not met: {listed(failures, most=5)}; the tables "
            "of the job have all measures"
        )
        self.facts = {**report, "status": "drifted"}
