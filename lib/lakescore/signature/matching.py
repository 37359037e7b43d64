"""Matching: the columns of a table that can be the features of a version, and why.

This only proposes. `bind` decides, with the columns that the matches name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql.types import NullType

from lakescore.errors import ColumnsMissing, ConfigError
from lakescore.signature.arrays import array_input
from lakescore.signature.features import (
    check_features,
    feature_of,
    find_casts,
    input_specs,
    lacks_names,
    width,
)
from lakescore.signature.naming import plain_name
from lakescore.signature.types import column_types, is_lossless
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.types import DataType, StructType

    from lakescore.loading import Loadable
    from lakescore.options import BindOptions


@dataclass(frozen=True, kw_only=True)
class Match:
    """A feature of a version, and the column of a table that it is read from."""

    feature: str
    """Its name; the number of its place if the signature has no names."""
    asks: str
    """Its type."""
    required: bool
    status: Literal["matched", "left out", "open"]
    """`open` if a person has to choose."""
    column: str | None = None
    reason: str
    """Why it has this status."""
    candidates: tuple[str, ...] = ()
    """The columns of the table that can be it, if it is open."""


class FeatureRequired(ConfigError):
    """A feature is to be left out, but the model is always given it."""

    def __init__(self, uri: str, feature: str, reason: str) -> None:
        super().__init__(
            f"the feature {feature!r} of {uri} cannot be left out: {reason}; choose a column for it"
        )


def match_columns(
    address: str, schema: StructType, loadable: Loadable, options: BindOptions
) -> list[Match]:
    """Return for each feature of the version the column that it is read from, if that is certain.

    A column with the feature's name is certain, and so is a single column whose name differs only
    by case and underscores. But such a column is left open if it can be another feature too. A
    column whose type would lose values is never certain.

    Args:
        address: the table, for messages.
        schema: its columns.
        loadable: the version.
        options: what a person chose: `columns`, where an empty name leaves an optional feature
            out, and `features`.

    Raises:
        FeaturesUnknown, FeaturesMiscounted, FeaturesNamed: the choices do not fit the signature.
        FeatureRequired: a feature that the version needs is to be left out.
        ColumnsMissing: the table lacks a chosen column.
        TypesDiffer: the type of a chosen column would lose values.
        UnsupportedSignature: no column of a table can hold a feature.
    """
    fitting = _Fitting(schema, loadable)
    if lacks_names(loadable) and not options.features:
        if options.columns:
            raise ConfigError(
                f"{loadable.model.uri} has a signature without names; name its columns in the "
                "order of the training data, not by feature"
            )
        return _open_places(loadable, fitting)
    check_features([loadable], options)
    specs = input_specs(loadable, options.features)
    columns = dict(options.columns) | {name: name for name in options.features}
    chosen = [column for column in columns.values() if column]
    if missing := [column for column in chosen if column not in schema.names]:
        raise ColumnsMissing(address, missing, schema.names)
    names = [str(spec.name) for spec in specs]
    matcher = _Matcher(address, fitting, names, columns)
    return [matcher.match(spec) for spec in specs]


def fitting_columns(schema: StructType, loadable: Loadable) -> list[tuple[str, ...]]:
    """Return for each feature the columns that can be it, in the order of the signature.

    For a signature without names these are the columns for each place. If one column of arrays can
    fill all places, the last element has such columns.
    """
    fitting = _Fitting(schema, loadable)
    if not lacks_names(loadable):
        return [fitting.columns(spec) for spec in input_specs(loadable)]
    columns = [fitting.columns(spec) for spec in input_specs(loadable, _places(loadable))]
    if len(columns) > 1 and array_input(loadable) is not None:
        columns.append(fitting.columns(input_specs(loadable, ["arrays"])[0]))
    return columns


def _places(loadable: Loadable) -> list[str]:
    """Return the numbers of the features of a signature without names."""
    return [f"{n + 1}" for n in range(width(loadable))]


def _open_places(loadable: Loadable, fitting: _Fitting) -> list[Match]:
    """Return the places of a signature without names: its order tells nothing about a table."""
    places = _places(loadable)
    specs = input_specs(loadable, places)  # refuses a signature without columns
    if array_input(loadable) is not None and len(places) > 1:
        more = ", or name one column of arrays for all of them"
    else:
        more = ""
    reason = f"the signature has no names; name the columns in the order of the training data{more}"
    matches = []
    for place, spec in zip(places, specs, strict=True):
        asks = _type_word(loadable, spec)
        matches.append(
            Match(
                feature=place,
                asks=asks,
                required=True,
                status="open",
                reason=reason,
                candidates=fitting.columns(spec),
            )
        )
    return matches


class _Matcher:
    """Matches the features of one version with the columns of one table."""

    def __init__(
        self, address: str, fitting: _Fitting, features: Sequence[str], chosen: Mapping[str, str]
    ) -> None:
        self._address, self._fitting, self._chosen = address, fitting, chosen
        self._schema, self._loadable = fitting.schema, fitting.loadable
        self._types = column_types(self._schema)
        self._features = _by_plain_name(features)
        self._columns = _by_plain_name(self._schema.names)

    def match(self, spec: Any) -> Match:  # noqa: ANN401 - of MLflow
        """Return the match of one feature."""
        name = str(spec.name)
        if name in self._chosen:
            return self._match_chosen(spec, self._chosen[name])
        if name in self._types:
            return self._match_column(spec, name, "the same name")
        if alike := self._columns.get(plain_name(name)):
            return self._match_alike(spec, alike)
        if not spec.required:
            return self._make(spec, "left out", "optional, and the table has no such column")
        fitting = self._fitting.columns(spec)
        return self._make(spec, "open", "the table has no such column", candidates=fitting)

    def _match_alike(self, spec: Any, alike: Sequence[str]) -> Match:  # noqa: ANN401 - of MLflow
        """Return the match with one of the columns whose names differ by case and underscores."""
        if len(alike) > 1:
            reason = f"{listed(map(repr, alike))} have this name but for case and underscores"
            return self._make(spec, "open", reason, candidates=tuple(alike))
        (column,) = alike
        if others := self._rivals(str(spec.name), column):
            reason = f"the column {column!r} can be {listed(map(repr, others))} too"
            return self._make(spec, "open", reason, candidates=(column,))
        return self._match_column(spec, column, "the same name but for case and underscores")

    def _rivals(self, name: str, column: str) -> list[str]:
        """Return the other features that *column* can be."""
        taken = [feature for feature, source in self._chosen.items() if source == column]
        alike = self._features.get(plain_name(column), [])
        return [feature for feature in dict.fromkeys([*alike, *taken]) if feature != name]

    def _match_chosen(self, spec: Any, column: str) -> Match:  # noqa: ANN401 - of MLflow
        name = str(spec.name)
        if column:
            kind = feature_of(self._loadable, spec, self._types[column]).dataType
            find_casts(self._address, self._schema, [(column, kind)])
            return self._make(spec, "matched", "chosen", column)
        if spec.required:
            reason = "the signature requires it"
        elif name in self._types:
            reason = "the table has a column of this name, which a job always reads"
        else:
            return self._make(spec, "left out", "chosen")
        raise FeatureRequired(self._loadable.model.uri, name, reason)

    def _match_column(self, spec: Any, column: str, reason: str) -> Match:  # noqa: ANN401 - of MLflow
        """Return the match with *column*, which is open if the column's type would lose values."""
        has = self._types[column]
        kind = feature_of(self._loadable, spec, has).dataType
        if is_lossless(has, kind):
            return self._make(spec, "matched", reason, column)
        problem = (
            f"the column {column!r} is {has.simpleString()}, which would lose values as "
            f"{kind.simpleString()}; cast it in the table, or choose another column"
        )
        fitting = self._fitting.columns(spec)
        return self._make(spec, "open", problem, candidates=fitting)

    def _make(
        self,
        spec: Any,  # noqa: ANN401 - of MLflow
        status: Literal["matched", "left out", "open"],
        reason: str,
        column: str | None = None,
        candidates: tuple[str, ...] = (),
    ) -> Match:
        return Match(
            feature=str(spec.name),
            asks=_type_word(self._loadable, spec),
            required=bool(spec.required),
            status=status,
            column=column,
            reason=reason,
            candidates=candidates,
        )


def _type_word(loadable: Loadable, spec: Any) -> str:  # noqa: ANN401 - of MLflow
    kind = feature_of(loadable, spec, NullType()).dataType
    return "any" if isinstance(kind, NullType) else kind.simpleString()


def _by_plain_name(names: Sequence[str]) -> dict[str, list[str]]:
    by_plain_name: dict[str, list[str]] = {}
    for name in names:
        by_plain_name.setdefault(plain_name(name), []).append(name)
    return by_plain_name


class _Fitting:
    """The columns of a table that can be a feature, found once for each type of feature."""

    def __init__(self, schema: StructType, loadable: Loadable) -> None:
        self.schema, self.loadable = schema, loadable
        self._known: dict[str, tuple[str, ...]] = {}

    def columns(self, spec: Any) -> tuple[str, ...]:  # noqa: ANN401 - of MLflow
        """Return the columns whose values are all values of the feature's type."""
        facts = spec.to_dict()
        kind = json.dumps([facts[key] for key in sorted(facts.keys() - {"name", "required"})])
        if kind not in self._known:
            self._known[kind] = tuple(
                field.name
                for field in self.schema
                if is_lossless(field.dataType, self._type_for(spec, field.dataType))
            )
        return self._known[kind]

    def _type_for(self, spec: Any, has: DataType) -> DataType:  # noqa: ANN401 - of MLflow
        return feature_of(self.loadable, spec, has).dataType
