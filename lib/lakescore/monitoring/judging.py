"""Judging: which columns of a unit differ from the baseline by more than chance explains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lakescore.monitoring import chance, distances
from lakescore.monitoring.errors import BaselineUnfit
from lakescore.monitoring.measuring import Measured, beyond, compared, measure, tested, values
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.monitoring.columns import Column
    from lakescore.monitoring.profiles import Cell, Group, Profile
    from lakescore.monitoring.units import Unit
    from lakescore.options import ChanceName

    Floats = np.ndarray[Any, np.dtype[np.float64]]

Chance = Literal["rows", "slices"]
_ENOUGH_SLICES = 40
"""With so many slices in the baseline, a slice can differ from them at the level of 2.5 %."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One column of one group of a unit, compared with the baseline."""

    column: Column
    group: Group
    rows: int
    baseline_rows: int
    measures: Mapping[str, Measured]
    p: float
    """The chance to differ at least so much if nothing has changed, of this cell alone."""
    adjusted: float
    """The chance that any cell of the unit differs at least so much."""
    alarm: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """All cells of one unit."""

    unit: Unit
    cells: Sequence[Judged]
    new: Sequence[Group]
    """Segments that the baseline does not have."""
    gone: Sequence[Group]
    """Segments of the baseline that the unit does not have."""

    @property
    def alarms(self) -> list[Judged]:
        """The cells that alarm, the clearest first."""
        alarming = [cell for cell in self.cells if cell.alarm]
        return sorted(
            alarming, key=lambda cell: (cell.adjusted, -cell.measures["jensen_shannon"].value)
        )


class Reference:
    """The baseline: its profile by slice, and what its slices show.

    Args:
        profile: the profile by slice; of one unit, if the baseline has no slices.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile, self.total = profile, profile.total()
        self.slices = sorted({group.unit for cells in profile.cells.values() for group in cells})
        self._usual: dict[tuple[str, Group], dict[str, float]] = {}

    def explain(self, asked: ChanceName, level: float, name: str) -> tuple[Chance, str]:
        """Return what explains differences, and why.

        Args:
            asked: what the job's file says.
            level: the part of slices that alarm although nothing has changed.
            name: the baseline, for errors.

        Raises:
            BaselineUnfit: slices are to explain the differences, but are so few that no slice could
                alarm at that level.
        """
        slices, fewest = counted(len(self.slices), "slice"), math.ceil(1 / level) - 1
        if asked == "slices" and len(self.slices) < fewest:
            raise BaselineUnfit(
                name,
                f"has {slices}, but with chance: slices and level: {level} no slice can alarm "
                f"unless it has {fewest}; name a longer baseline, or give chance: rows",
            )
        if asked != "auto":
            return asked, "the job's file says so"
        enough = max(_ENOUGH_SLICES, 2 * fewest)
        if len(self.slices) >= enough:
            return "slices", f"the {slices} of the baseline show how slices differ"
        return "rows", f"the baseline has {slices}, and {enough} show how slices differ"

    def usual(self, column: str, group: Group) -> dict[str, float]:
        """Return the values of measures that 95 % of the baseline's slices reach at most."""
        if (column, group) not in self._usual:
            bins, whole = self.profile.bins[column], self.total.cells[column][group]
            reached: dict[str, list[float]] = {}
            for name in self.slices:
                cell = self.profile.of(column, group._replace(unit=name))
                for measure_name, value in values(whole, cell, bins).items() if cell else ():
                    reached.setdefault(measure_name, []).append(value)
            self._usual[column, group] = {
                name: float(np.quantile(all_values, 0.95)) for name, all_values in reached.items()
            }
        return self._usual[column, group]


def judge(  # noqa: PLR0913 - options by name
    unit: Unit,
    current: Profile,
    reference: Reference,
    columns: Sequence[Column],
    *,
    explained_by: Chance,
    level: float,
) -> Verdict:
    """Compare all columns of a unit, and of its segments, with the baseline.

    Args:
        unit: the unit.
        current: its profile, with the unit's slice and run as the unit `""`.
        reference: the baseline.
        columns: the monitored columns.
        explained_by: what explains differences.
        level: the part of units that alarm although nothing has changed.
    """
    pairs = [
        (column, group, before, now)
        for column in columns
        for group, now in current.cells.get(column.name, {}).items()
        if (before := reference.total.of(column.name, group)) is not None
    ]
    if explained_by == "rows":
        p_values = np.array(
            [_p_of_rows(current, *pair, n) for n, pair in enumerate(pairs)] or np.empty(0)
        )
        adjusted = chance.holm(p_values)
    else:
        p_values, adjusted = _p_among_slices(current, reference, pairs)
    cells = []
    for (column, group, before, now), p, joint in zip(pairs, p_values, adjusted, strict=True):
        bins = current.bins[column.name]
        measures = measure(before, now, bins)
        if explained_by == "slices":
            usual = reference.usual(column.name, group)
            measures = {
                name: replace(measured, chance=usual[name]) for name, measured in measures.items()
            }
        cells.append(
            Judged(
                column=column,
                group=group,
                rows=now.rows,
                baseline_rows=before.rows,
                measures=measures,
                p=float(p),
                adjusted=float(joint),
                alarm=bool(joint <= level),
            )
        )
    known, present = set(reference.total.groups("")), set(current.groups(""))
    return Verdict(
        unit=unit,
        cells=cells,
        new=sorted(present - known, key=str),
        gone=sorted(known - present, key=str),
    )


def _p_of_rows(
    current: Profile, column: Column, _: Group, before: Cell, now: Cell, seed: int
) -> float:
    bins = current.bins[column.name]
    p = chance.p_value(tested(before.counts, bins), tested(now.counts, bins), (seed,))
    return chance.joined(p, beyond(before, now, bins))


def _p_among_slices(
    current: Profile, reference: Reference, pairs: Sequence[tuple[Column, Group, Cell, Cell]]
) -> tuple[Floats, Floats]:
    """Return p-values of cells alone and of all cells together, among the baseline's slices."""
    if not pairs:
        return np.empty(0), np.empty(0)
    slices = reference.slices
    apart = np.full((len(slices) + 1, len(pairs)), np.nan)
    for n, (column, group, before, now) in enumerate(pairs):
        bins = current.bins[column.name]
        pool = distances.shares(compared(before.counts + now.counts, bins))
        cells = [reference.profile.of(column.name, group._replace(unit=name)) for name in slices]
        places = [place for place, cell in enumerate(cells) if cell is not None]
        counts = np.array([cell.counts for cell in cells if cell is not None] + [now.counts])
        apart[[*places, -1], n] = distances.jensen_shannon(
            pool, distances.shares(compared(counts, bins))
        )
    adjusted = chance.among_slices(apart)
    alone = np.array([chance.among_slices(apart[:, [n]])[0] for n in range(len(pairs))])
    return alone, adjusted
