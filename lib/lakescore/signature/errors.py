"""The errors of a model and a table that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import ConfigError, InputContractError
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class TypesDiffer(InputContractError):
    """Columns cannot be converted to the types of the signature without loss."""

    def __init__(self, address: str, differing: Mapping[str, tuple[str, str]]) -> None:
        pairs = [f"{name!r} is {has}, not {asks}" for name, (has, asks) in differing.items()]
        super().__init__(
            f"{address} does not fit the model's signature: {listed(pairs)}; cast the columns in "
            "the table, or log the model with the types of the table"
        )


class ColumnsCollide(InputContractError):
    """Two columns of the output, of its quarantine or of a result would have the same name."""

    def __init__(self, what: str, names: Iterable[str]) -> None:
        keys = {"output": "id_columns and passthrough", "result": "keep"}
        chosen = keys.get(what, "id_columns and quarantine_columns")
        super().__init__(
            f"the {what} would have the columns {listed(repr(name) for name in names)} twice; "
            f"rename the input's column, or leave it out of {chosen}"
        )


class CaseDiffers(InputContractError):
    """The input has the name of an optional feature in another case."""

    def __init__(self, address: str, column: str, feature: str) -> None:
        super().__init__(
            f"{address} has the column {column!r}, but the model's optional feature is called "
            f"{feature!r}; rename the column, or set columns: {{{feature}: {column}}}"
        )


class OutputsCollide(InputContractError):
    """Outputs or classes of a model cannot become columns of one table."""

    def __init__(self, uri: str, what: str, names: Iterable[object], reason: str) -> None:
        super().__init__(
            f"{uri} gives the {what} {listed(repr(name) for name in names)}, but {reason}; log the "
            "model with other names for them"
        )


class ColumnsUnfit(InputContractError):
    """The input has columns whose names cannot be used."""

    def __init__(self, address: str, names: Iterable[str], reason: str) -> None:
        super().__init__(
            f"{address} has the columns {listed(repr(name) for name in names)}, but {reason}; "
            "rename them in the table"
        )


class FeaturesMiscounted(ConfigError):
    """The job's file lists another number of features than the model takes."""

    def __init__(self, uri: str, given: Sequence[str], takes: int) -> None:
        super().__init__(
            f"features lists {listed(given)} ({len(given)} in all), but {uri} takes {takes}; list "
            "the table's columns in the order of the training data"
        )


class FeaturesNamed(ConfigError):
    """The job's file lists features, but the model's signature names them itself."""

    def __init__(self, uri: str, known: Sequence[str]) -> None:
        super().__init__(
            f"features is only for signatures without names, but {uri} names its features: "
            f"{listed(known)}; leave features out, or map names with columns: {{feature: column}}"
        )


class FeaturesUnknown(ConfigError):
    """The job's file names features that the model does not take."""

    def __init__(self, uri: str, unknown: Sequence[str], known: Sequence[str]) -> None:
        names = listed(f"{name!r}{nearest(name, known)}" for name in unknown)
        super().__init__(
            f"columns or nulls name {names}, which {uri} does not take; it takes: {listed(known)}"
        )


class ThresholdUndefined(ConfigError):
    """A threshold is set, but the model does not give exactly one score."""

    def __init__(self, uri: str, outputs: str, classes: int) -> None:
        result = f"{classes} classes" if classes else outputs
        super().__init__(
            f"threshold needs one score, but {uri} gives {result}; leave threshold out, or set "
            "prediction: proba for a classifier of two classes"
        )


class OutputsDiffer(InputContractError):
    """Versions that write to one table give different columns."""

    def __init__(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        super().__init__(
            f"{one[0]} gives {one[1]}, but {other[0]} gives {other[1]}; the models of all segments "
            "must give the same columns"
        )
