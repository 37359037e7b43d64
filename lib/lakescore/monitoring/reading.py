"""Reading: profiles of the baseline and of the units, from their tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakescore import registry, slicing, tables
from lakescore.errors import ColumnsMissing
from lakescore.executor import SEPARATOR, CategoryBins, NumberBins, TimeBins
from lakescore.monitoring import profiles
from lakescore.monitoring.columns import Column, features, kind_of, outputs, require_some
from lakescore.monitoring.errors import BaselineUnfit, InputReplaced, KindsDiffer, RowsNotCounted
from lakescore.monitoring.judging import Reference
from lakescore.monitoring.profiles import Group, Profile
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.config import MonitorJob
    from lakescore.executor import Bins
    from lakescore.monitoring.units import Unit
    from lakescore.scanning import Selection
    from lakescore.snapshots import Snapshot
    from lakescore.trust import Trust


@dataclass(frozen=True, kw_only=True)
class Source:
    """Rows of one table that belong to units, with the monitored columns."""

    selection: Selection
    columns: tuple[Column, ...]
    names: tuple[str, ...]
    """The columns whose texts name a unit, joined by `executor.SEPARATOR`; none for one unit."""
    units: Mapping[str, tuple[Unit, ...] | str]
    """By these texts, the units that have these rows, or the slice of a baseline's table."""
    rows: int


class Inputs:
    """The tables that units come from: the predictions, and their inputs at the scored version.

    Args:
        predictions: the table of predictions.
        config: the job.
    """

    def __init__(self, predictions: Snapshot, config: MonitorJob) -> None:
        self._predictions, self._config = predictions, config
        self._snapshots: dict[tuple[str, int], Snapshot] = {}
        self._features: dict[str, tuple[str, ...]] = {}
        self.left_out: dict[str, str] = {}
        """The reason for each column that is not monitored."""

    def input_of(self, unit: Unit) -> Snapshot:
        """Return the input of a unit at the version that was scored.

        Raises:
            InputReplaced: another table is at its address now.
            SnapshotNotFound: the table no longer has this version.
        """
        if unit.input not in self._snapshots:
            self._snapshots[unit.input] = tables.snapshot(self._predictions.runner, *unit.input)
        snapshot = self._snapshots[unit.input]
        if unit.record.input_id not in {None, snapshot.table_id}:
            raise InputReplaced(snapshot.address, unit.slice)
        return snapshot

    def features_of(self, unit: Unit, trust: Trust) -> tuple[str, ...]:
        """Return the names of the features of the version that scored a unit."""
        if self._config.columns:
            return self._config.columns
        if given := unit.settings.get("features"):
            return tuple(given)
        uri = next(pin.uri for pin in unit.record.pins if pin.uri is not None)
        if uri not in self._features:
            signature = registry.outline(uri, trust=trust).model.signature
            self._features[uri] = tuple(map(str, signature.inputs.input_names()))
        return self._features[uri]

    def sources(self, units: Sequence[Unit]) -> list[Source]:
        """Return where the columns of *units* are: inputs, then predictions.

        Raises:
            ColumnsMissing: an input lacks a column that the job's file names.
            NothingToMonitor: no column can be monitored.
        """
        groups: dict[tuple[Any, ...], list[Unit]] = {}
        for unit in units:
            names = self.features_of(unit, self._config.trust)
            renamed = json.dumps(unit.settings.get("columns") or {}, sort_keys=True)
            groups.setdefault((unit.input, unit.slice_by, names, renamed), []).append(unit)
        made = [self._input_source(members, names) for (_, _, names, _), members in groups.items()]
        made.append(self._prediction_source(units))
        require_some([column for source in made for column in source.columns], self.left_out)
        return made

    def _input_source(self, units: Sequence[Unit], names: Sequence[str]) -> Source:
        unit, snapshot = units[0], self.input_of(units[0])
        columns, left_out = features(
            unit, snapshot.schema, snapshot.address, names, asked=bool(self._config.columns)
        )
        self.left_out.update(left_out)
        slices = list(dict.fromkeys(unit.slice for unit in units))
        return Source(
            selection=slicing.select(snapshot, unit.slice_by, slices),
            columns=tuple(columns),
            names=() if unit.slice_by is None else (unit.slice_by,),
            units={
                name if unit.slice_by else "": tuple(u for u in units if u.slice == name)
                for name in slices
            },
            rows=sum(unit.rows for unit in units),
        )

    def _prediction_source(self, units: Sequence[Unit]) -> Source:
        predictions = self._predictions
        columns, left_out = outputs(predictions.schema, self.input_of(units[0]).schema)
        self.left_out.update(left_out)
        slices = list(dict.fromkeys(unit.slice for unit in units))
        chosen = slicing.select(predictions, "slice", slices)
        return Source(
            selection=replace(chosen, within={"model_name": (units[0].model,)}),
            columns=tuple(columns),
            names=("model_name", "slice", "scoring_run_id"),
            units={
                SEPARATOR.join([unit.model, unit.slice, unit.run_id]): (unit,) for unit in units
            },
            rows=sum(unit.rows for unit in units),
        )


def profile_units(
    sources: Sequence[Source], bins: Mapping[str, Bins], by: Sequence[str], scan: str
) -> dict[Unit, Profile]:
    """Return the profile of each unit in *sources*, with the unit as `""`.

    Columns without *bins* are left out. Rows that belong to none of the units, such as those of a
    run that is not monitored, are not counted.

    Raises:
        RowsNotCounted: a table has other rows of a unit than were published.
    """
    profiled: dict[Unit, Profile] = {}
    for source in sources:
        if (taken := _take(source, bins, by, scan)) is not None:
            parts = taken.by_unit()
            for text, units in source.units.items():
                part = parts.get(text, Profile(taken.bins))
                for unit in units if not isinstance(units, str) else ():
                    _check_count(source, part, unit)
                    known = profiled.get(unit)
                    profiled[unit] = part if known is None else known.joined(part)
    return profiled


def _check_count(source: Source, part: Profile, unit: Unit) -> None:
    """Check that the rows of a unit were counted: all predictions, and at least as many inputs."""
    whole = next((cells.get(Group("")) for cells in part.cells.values()), None)
    rows, is_input = whole.rows if whole else 0, "scoring_run_id" not in source.names
    if rows < unit.rows or (rows > unit.rows and not is_input):
        raise RowsNotCounted(profiles.address_of(source.selection), unit.slice, rows, unit.rows)


def _take(source: Source, bins: Mapping[str, Bins], by: Sequence[str], scan: str) -> Profile | None:
    columns = [column for column in source.columns if column.name in bins]
    _check_kinds(source, columns, bins)
    if not columns:
        return None
    return profiles.take(source.selection, columns, bins, units=source.names, by=by, scan=scan)


def _check_kinds(source: Source, columns: Sequence[Column], bins: Mapping[str, Bins]) -> None:
    kinds = {NumberBins: "number", CategoryBins: "category", TimeBins: "time"}
    for column in columns:
        if (kind := kinds[type(bins[column.name])]) != column.kind:
            raise KindsDiffer(profiles.address_of(source.selection), column.name, kind, column.kind)


def read_baseline(
    table: Snapshot | None,
    inputs: Inputs,
    config: MonitorJob,
    units: Sequence[Unit],
    earlier: Sequence[Unit],
) -> tuple[Reference, list[Column], str]:
    """Return the baseline, the columns that it can be compared by, and its name.

    Args:
        table: the baseline's table; None if the baseline is slices of the predictions.
        inputs: the tables of the units.
        config: the job.
        units: the units that are compared with the baseline: the baseline has their columns.
        earlier: the units of the baseline's slices, if it is slices of the predictions.

    Raises:
        BaselineUnfit: the table has other types, or no rows.
        ColumnsMissing: the table lacks a column.
    """
    if table is None:
        sources = inputs.sources(earlier)
        name = f"the slices {listed(dict.fromkeys(unit.slice for unit in earlier), most=3)}"
    else:
        sources = [_table_source(table, inputs, config, units)]
        name = f"{table.address} at version {table.version}"
    bins = _choose_bins(sources, inputs, config.scan)
    taken = []
    for source in sources:
        names = {text: _name(text, units) for text, units in source.units.items()}
        if (part := _take(source, bins, config.by, config.scan)) is not None:
            taken.append(part.renamed(names))
    total = profiles.add_up(taken)
    if not any(total.cells.values()):
        raise BaselineUnfit(name, "has no rows; name a table or slices with rows")
    columns = {c.name: c for source in sources for c in source.columns if c.name in total.bins}
    return Reference(total), list(columns.values()), name


def _choose_bins(sources: Sequence[Source], inputs: Inputs, scan: str) -> dict[str, Bins]:
    """Return the bins of all columns of *sources*; sources with the same columns share them."""
    alike: dict[tuple[str, ...], list[Source]] = {}
    for source in sources:
        alike.setdefault(tuple(column.name for column in source.columns), []).append(source)
    bins: dict[str, Bins] = {}
    for members in alike.values():
        chosen, left_out = profiles.choose_bins(
            [source.selection for source in members],
            [source.columns for source in members],
            sum(source.rows for source in members),
            scan,
        )
        bins = {**chosen, **bins}
        inputs.left_out.update(left_out)
    return bins


def _name(text: str, units: Sequence[Unit] | str) -> str:
    """Return the name of a slice of the baseline: the same for features and predictions."""
    return text if isinstance(units, str) else f"{units[0].slice}{SEPARATOR}{units[0].run_id}"


def _table_source(
    snapshot: Snapshot, inputs: Inputs, config: MonitorJob, units: Sequence[Unit]
) -> Source:
    """Return the rows of the baseline's table, with the columns of the inputs of *units*."""
    schema, like = snapshot.schema, units[0]
    expected: dict[str, Column] = {}
    for unit in units:
        columns_of_unit, _ = features(
            unit,
            inputs.input_of(unit).schema,
            unit.input[0],
            inputs.features_of(unit, config.trust),
            asked=bool(config.columns),
        )
        expected = {column.name: column for column in columns_of_unit} | expected
    columns = []
    for column in expected.values():
        source = column.source if column.source in schema.names else column.name
        if source not in schema.names:
            raise ColumnsMissing(snapshot.address, [column.source], schema.names)
        if kind_of(schema[source].dataType) != column.kind:
            actual = schema[source].dataType.simpleString()
            raise BaselineUnfit(
                snapshot.address,
                f"has {column.name!r} as {actual}, but the input of the predictions has it as a "
                f"{column.kind}; name a table with the same types",
            )
        columns.append(replace(column, source=source))
    slice_by = config.baseline.slice_by or (
        like.slice_by if like.slice_by in schema.names else None
    )
    if slice_by is None and config.baseline.slice_names is not None:
        raise BaselineUnfit(
            snapshot.address, "has slices in the job's file, but no column for them; give slice_by"
        )
    wanted = config.baseline.slice_names or slicing.names(snapshot, slice_by)
    selection = slicing.select(snapshot, slice_by, wanted)
    sizes = slicing.sizes(selection)
    return Source(
        selection=selection,
        columns=tuple(columns),
        names=() if slice_by is None else (slice_by,),
        units={name if slice_by else "": name for name in wanted},
        rows=sum(sizes.values()),
    )
