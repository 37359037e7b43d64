"""Profiles: the counts of columns in bins, by unit and segment, which tasks count."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import executor, scanning
from lakescore.arrow import collected, struct
from lakescore.errors import ColumnsMissing
from lakescore.logs import NotEligible
from lakescore.monitoring.errors import SegmentsTooMany
from lakescore.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from lakescore.executor import Bins
    from lakescore.monitoring.columns import Column
    from lakescore.scanning import Selection

    Floats = np.ndarray[Any, np.dtype[np.float64]]

SECONDS_A_VALUE = 6e-8
"""About the seconds in which a worker reads a value and counts it."""
_SAMPLE = 50_000
"""About the number of rows of the sample from which bins are chosen."""
_QUANTILES = (0.01, 0.05, *(n / 10 for n in range(1, 10)), 0.95, 0.99)
_MOST_LISTED = 50
_FEW_VALUES = 20
"""So few values all have bins."""
_FEWEST_LISTED = 20
"""A value with fewer rows in the baseline shares a bin with others: by chance, a sample has some
values that another sample of the same distribution does not have."""


class Group(NamedTuple):
    """A unit, or a segment of it."""

    unit: str
    by: str | None = None
    """The column that divides the unit into segments; None for the whole unit."""
    value: str | None = None


@dataclass(frozen=True)
class Cell:
    """The counts of one column in one group."""

    counts: Floats
    """Rows, by bin."""
    sums: Floats
    """By bin of finite numbers: the sum of the numbers, less the origin of the bins."""
    squares: Floats
    """The sum of the squares of the finite numbers less the origin."""

    def __add__(self, other: Cell) -> Cell:
        return Cell(
            self.counts + other.counts, self.sums + other.sums, self.squares + other.squares
        )

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Profile:
    """The counts of several columns."""

    bins: Mapping[str, Bins]
    """By column."""
    cells: Mapping[str, Mapping[Group, Cell]] = field(default_factory=dict)
    """By column and group."""

    def of(self, column: str, group: Group) -> Cell | None:
        """Return the counts of a column in a group, if it has rows."""
        return self.cells.get(column, {}).get(group)

    def groups(self, unit: str) -> list[Group]:
        """Return the groups of a unit, the whole unit first."""
        names = {group: None for cells in self.cells.values() for group in cells}
        return sorted(
            (group for group in names if group.unit == unit),
            key=lambda group: (group.by or "", group.value is None, group.value or ""),
        )

    def total(self) -> Profile:
        """Return the profile with all units added up, as the unit `""`."""
        cells: dict[str, dict[Group, Cell]] = {}
        for column, by_group in self.cells.items():
            sums = cells.setdefault(column, {})
            for group, cell in by_group.items():
                _add(sums, group._replace(unit=""), cell)
        return Profile(self.bins, cells)

    def renamed(self, names: Mapping[str, str]) -> Profile:
        """Return the profile of the units in *names*, by their new names."""
        return Profile(
            self.bins,
            {
                column: {
                    group._replace(unit=names[group.unit]): cell
                    for group, cell in cells.items()
                    if group.unit in names
                }
                for column, cells in self.cells.items()
            },
        )

    def by_unit(self) -> dict[str, Profile]:
        """Return the profile of each unit, with the unit as `""`."""
        cells: dict[str, dict[str, dict[Group, Cell]]] = {}
        for column, by_group in self.cells.items():
            for group, cell in by_group.items():
                of_unit = cells.setdefault(group.unit, {})
                of_unit.setdefault(column, {})[group._replace(unit="")] = cell
        return {unit: Profile(self.bins, of_unit) for unit, of_unit in cells.items()}

    def joined(self, other: Profile) -> Profile:
        """Return the profile of the columns of both."""
        return Profile({**self.bins, **other.bins}, {**self.cells, **other.cells})


def _add(cells: dict[Group, Cell], group: Group, cell: Cell) -> None:
    known = cells.get(group)
    cells[group] = cell if known is None else known + cell


def add_up(profiles: Iterable[Profile]) -> Profile:
    """Return profiles of the same columns, of different rows, as one."""
    cells: dict[str, dict[Group, Cell]] = {}
    bins: dict[str, Bins] = {}
    for profile in profiles:
        bins.update(profile.bins)
        for column, by_group in profile.cells.items():
            sums = cells.setdefault(column, {})
            for group, cell in by_group.items():
                _add(sums, group, cell)
    return Profile(bins, cells)


def take(  # noqa: PLR0913 - options by name
    selection: Selection,
    columns: Sequence[Column],
    bins: Mapping[str, Bins],
    *,
    units: Sequence[str] = (),
    by: Sequence[str] = (),
    scan: str = "direct",
) -> Profile:
    """Count the rows of a selection in bins.

    Args:
        selection: the rows.
        columns: the columns to count.
        bins: their bins.
        units: the columns whose texts together, separated by `executor.SEPARATOR`, name a unit.
        by: the columns that divide a unit into segments.
        scan: `spark` lets Spark read in any case.

    Raises:
        ColumnsMissing: the rows lack a column of *by*.
        SegmentsTooMany: a column of *by* has too many values.
    """
    address = address_of(selection)
    if missing := [name for name in by if name not in selection.schema.names]:
        raise ColumnsMissing(address, missing, selection.schema.names)

    places = _places([*units, *by, *[column.source for column in columns]])
    spec = executor.ProfileSpec(
        units=tuple(places[name] for name in units),
        by=tuple(places[name] for name in by),
        columns=tuple((places[c.source], bins[c.name]) for c in columns),
    )
    rows = _run(
        selection,
        places,
        scan,
        lambda planned: partial(executor.profile, planned, spec),
        executor.profile_rows(spec),
        executor.PROFILE,
    )
    cells: dict[str, dict[Group, Cell]] = {column.name: {} for column in columns}
    for number, unit, by_place, value, *vectors in zip(*rows.to_pydict().values(), strict=True):
        if number < 0:
            raise SegmentsTooMany(address, by[by_place], executor.MOST_GROUPS)
        group = Group(unit, None if by_place < 0 else by[by_place], value)
        counts, sums, squares = vectors
        cell = Cell(
            np.frombuffer(counts, np.int64).astype(np.float64),
            np.frombuffer(sums),
            np.frombuffer(squares),
        )
        _add(cells[columns[number].name], group, cell)
    for column in by:  # a task sees only a part of the rows
        values = {g.value for groups in cells.values() for g in groups if g.by == column}
        if len(values) > executor.MOST_GROUPS:
            raise SegmentsTooMany(address, column, executor.MOST_GROUPS)
    return Profile({column.name: bins[column.name] for column in columns}, cells)


def choose_bins(
    selections: Sequence[Selection],
    columns: Sequence[Sequence[Column]],
    rows: int,
    scan: str = "direct",
) -> tuple[dict[str, Bins], dict[str, str]]:
    """Return bins for the baseline's columns, and the reason for columns that have none.

    The bins of numbers lie between quantiles of a sample of the rows, and outside of their range.

    Args:
        selections: the rows of the baseline.
        columns: for each selection, the columns; the same names in the same order.
        rows: about the number of rows.
        scan: as in `take`.
    """
    every = max(1, rows // _SAMPLE)
    known: dict[str, list[Any]] = {column.name: [] for column in columns[0]}
    for selection, names in zip(selections, columns, strict=True):
        for name, facts in _sketch(selection, names, every, scan):
            known[name].append(facts)
    bins: dict[str, Bins] = {}
    left_out: dict[str, str] = {}
    for column in columns[0]:
        if column.kind == "time":
            bins[column.name] = executor.TimeBins()
        elif column.kind == "number":
            bins[column.name] = _number_bins(known[column.name])
        elif (chosen := _category_bins(known[column.name])) is None:
            left_out[column.name] = (
                "most of its values are rare in the baseline, so they name rows, not groups of rows"
            )
        else:
            bins[column.name] = chosen
    return bins, left_out


def _sketch(
    selection: Selection, columns: Sequence[Column], every: int, scan: str
) -> list[tuple[str, Any]]:
    """Return the facts of a sketch, by the name of the column."""
    chosen = [column for column in columns if column.kind != "time"]
    if not chosen:
        return []
    places = _places(column.source for column in chosen)
    numbers, texts = (
        tuple(places[column.source] for column in chosen if column.kind == kind)
        for kind in ("number", "category")
    )
    rows = _run(
        selection,
        places,
        scan,
        lambda planned: partial(executor.sketch, planned, numbers, texts, every),
        executor.sketch_rows(numbers, texts, every),
        executor.SKETCH,
    ).to_pylist()
    return [
        (column.name, row)
        for column in chosen
        for row in rows
        if row["column"] == places[column.source]
    ]


def _places(names: Iterable[str]) -> dict[str, int]:
    """Return the places of columns in the batches of a task that reads *names*."""
    return {name: n for n, name in enumerate(dict.fromkeys(names))}


def _run(  # noqa: PLR0913, PLR0917 - the two ways to read
    selection: Selection,
    places: Mapping[str, int],
    scan: str,
    make_task: Callable[[executor.Scan], Callable[[], executor.Task]],
    map_rows: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]],
    schema: pa.Schema,
) -> pa.Table:
    """Return what tasks say of columns; workers read them themselves, or Spark reads for them.

    Args:
        selection: the rows.
        places: the columns to read, with their places in the batches.
        scan: `spark` lets Spark read in any case.
        make_task: makes the task for a scan.
        map_rows: the function for batches that Spark reads.
        schema: the rows that both return.
    """
    wanted, runner = list(places), selection.runner
    try:
        if scan == "spark":
            raise NotEligible("scan: spark")  # noqa: TRY301 - as all others
        planned = scanning.direct(
            selection, wanted, (), seconds_a_row=SECONDS_A_VALUE * len(wanted)
        )
    except NotEligible as not_eligible:
        runner.start(f"Spark reads the rows: {not_eligible}")
        rows = selection.rows.select(*[F.col(f"`{name}`") for name in wanted])
        mapped = rows.mapInArrow(map_rows, struct(schema))
        if isinstance(selection.snapshot, Snapshot):
            with scanning.reading(selection.snapshot):
                return collected(mapped)
        return collected(mapped)
    return runner.run(make_task(planned.scan), len(planned.scan.tasks), schema)


def _number_bins(sketches: Sequence[Mapping[str, Any]]) -> executor.NumberBins:
    samples = [np.frombuffer(sketch["sample"]) for sketch in sketches]
    known = [sketch for sketch in sketches if sketch["rows"]]
    if not known:
        return executor.NumberBins(edges=(0.0,), origin=0.0)
    low, high = min(s["low"] for s in known), max(s["high"] for s in known)
    sample = np.concatenate([*samples, [low, high]])
    values = np.unique(sample)
    if len(values) > len(_QUANTILES) + 1:
        values = np.unique(np.quantile(sample, _QUANTILES, method="inverted_cdf"))
    inner = [float(value) for value in values if low <= value < high]
    edges = (float(np.nextafter(low, -np.inf)), *inner, float(high))
    return executor.NumberBins(edges=edges, origin=float(np.median(sample)))


def _category_bins(sketches: Sequence[Mapping[str, Any]]) -> executor.CategoryBins | None:
    counts: dict[str, int] = {}
    for sketch in sketches:
        if sketch["value"] is None:
            return None
        counts[sketch["value"]] = counts.get(sketch["value"], 0) + sketch["rows"]
    if len(counts) > executor.MOST_VALUES:
        return None
    ordered = sorted(counts, key=lambda value: (-counts[value], value))
    fewest = 1 if len(counts) <= _FEW_VALUES else _FEWEST_LISTED
    listed = [value for value in ordered if counts[value] >= fewest][:_MOST_LISTED]
    if 2 * sum(counts[value] for value in listed) < sum(counts.values()):
        return None
    return executor.CategoryBins(
        listed=tuple(listed),
        others=frozenset(counts) - {*listed},
        singles=sum(count == 1 for count in counts.values()),
    )


def address_of(selection: Selection) -> str:
    """Return the address of the table that holds a selection."""
    snapshot = selection.snapshot
    return snapshot.address if isinstance(snapshot, Snapshot) else "the frame"
