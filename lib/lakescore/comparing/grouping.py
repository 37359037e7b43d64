"""Grouping: whether rates of a classifier differ between groups of rows, and by how much.

The rates and their differences (the greatest rate minus the least) are those of fairlearn:
demographic parity is about `selection_rate`, equal opportunity about `true_positive_rate`. The
differences between all groups are bounded at once, as the losses of slices are (`protecting`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np

from lakescore.comparing.bootstrapping import groups_of
from lakescore.comparing.ranking import ROUNDING, Interval, one_sided
from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part
    from lakescore.comparing.formulas import Rate
    from lakescore.comparing.protecting import Verdict
    from lakescore.options import UnknownRule

MOST_GROUPS = 50
"""The most groups of a column; the pairs of more would take too much memory."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A rate of one group."""

    name: str
    """Such as `origin=JFK`, as in the document."""
    rows: int
    """The number of rows that count: all, or those of one class."""
    rate: float
    reason: str = ""
    """Why it is not compared with other groups; empty if it is."""


@dataclass(frozen=True, kw_only=True)
class RateCheck:
    """The differences of one rate between the groups of one column, and the allowed one."""

    rate: str
    by: str
    limit: float
    groups: Sequence[Group]
    """The greatest rate first; groups without a rate last."""
    pairs: Mapping[tuple[str, str], Interval]
    """By two groups, the rate of the first minus that of the second. The bounds hold for all pairs
    at once."""

    @property
    def difference(self) -> float:
        """The greatest rate minus the least, of all groups that have a rate."""
        rates = [group.rate for group in self.groups if not math.isnan(group.rate)]
        return max(rates) - min(rates) if rates else math.nan

    @property
    def widest(self) -> tuple[tuple[str, str], Interval] | None:
        """The pair whose difference is the largest for sure; None if no pair has bounds."""
        return max(self.pairs.items(), key=lambda pair: pair[1].low, default=None)

    @property
    def unknown(self) -> list[Group]:
        """The groups that are not compared with others."""
        return [group for group in self.groups if group.reason]

    @property
    def verdict(self) -> Verdict:
        """`worse` if some pair differs by more than the limit, `safe` if none can."""
        if any(pair.low > self.limit for pair in self.pairs.values()):
            return "worse"
        is_safe = all(pair.high <= self.limit for pair in self.pairs.values())
        return "safe" if self.pairs and is_safe and not self.unknown else "not known"

    def passes(self, unknown: UnknownRule) -> bool:
        """Return whether no pair differs by more, and what is not known may pass."""
        if self.verdict == "worse" or not self.pairs:
            return False
        return unknown == "pass" or self.verdict == "safe"

    def facts(self) -> dict[str, Any]:
        """Return the groups as plain JSON values."""
        return {
            "by": self.by,
            "verdict": self.verdict,
            "low": None if self.widest is None else self.widest[1].low,
            "high": None if self.widest is None else self.widest[1].high,
            "groups": [
                {
                    "group": group.name,
                    "rows": group.rows,
                    "rate": None if math.isnan(group.rate) else group.rate,
                    "reason": group.reason or None,
                }
                for group in self.groups
            ],
        }


@dataclass(frozen=True, eq=False)
class _Cell:
    """One rate of one version in one group."""

    part: Part
    uri: str
    rate: str
    known: Rate | None
    reason: str


def rate_checks(
    comparison: Comparison, candidate: str, limits: Mapping[str, float]
) -> list[RateCheck]:
    """Return a check for each rate and each column of groups.

    Args:
        comparison: the comparison; its options name the columns.
        candidate: the version that is checked. If the job's file does not name it, the rows chose
            it among all versions, and the bounds hold for all versions at once.
        limits: by rate, the allowed difference.

    Raises:
        ConfigError: the problem does not have two classes, or a column has too many groups.
    """
    options, candidates = comparison.options, comparison.candidates
    versions = candidates.others if candidates.gated is None else [candidate]
    families: dict[tuple[str, str, str], list[_Cell]] = defaultdict(list)
    for part in comparison.evaluation.parts:
        if part.by in options.grouped:
            for uri in versions:
                for rate in limits:
                    cell = _cell(part, uri, rate, options.small)
                    families[str(part.by), rate, uri].append(cell)
    _check_families(families)
    if not any(cell.known for cells in families.values() for cell in cells):
        raise ConfigError(
            "gates.groups: rates need labels of two classes, one of which is the positive class; "
            "set positive_class, or leave gates.groups out"
        )
    bounds = _bounds(families, options.confidence)
    return [
        RateCheck(
            rate=rate,
            by=by,
            limit=limits[rate],
            groups=sorted(map(_group, cells), key=_greatest_first),
            pairs=bounds[by, rate, uri],
        )
        for (by, rate, uri), cells in families.items()
        if uri == candidate
    ]


def _cell(part: Part, uri: str, rate: str, small: int) -> _Cell:
    known = part.rates.get(uri, {}).get(rate)
    reason = ""
    if known is None or known.rows < small:
        reason = f"fewer than {small} rows count"
    elif not np.isfinite(known.vector).all():
        reason = "no value in some bootstraps"
    return _Cell(part, uri, rate, known, reason)


def _check_families(families: Mapping[tuple[str, str, str], Sequence[_Cell]]) -> None:
    for (by, _, _), cells in families.items():
        if len(cells) > MOST_GROUPS:
            raise ConfigError(
                f"gates.groups: column {by!r} has {len(cells)} groups, and at most {MOST_GROUPS} "
                "can be compared; group by a column with fewer values"
            )


def _bounds(
    families: Mapping[tuple[str, str, str], Sequence[_Cell]], level: float
) -> dict[tuple[str, str, str], dict[tuple[str, str], Interval]]:
    """Return by family and pair of groups the difference of the rates."""
    pairs = [
        (key, one, one.known, other, other.known)
        for key, cells in families.items()
        for one, other in permutations([cell for cell in cells if not cell.reason], 2)
        if one.known and other.known
    ]
    intervals, _ = one_sided(
        [a.vector - b.vector for _, _, a, _, b in pairs],
        level,
        [groups_of(min(a.rows, b.rows)) for _, _, a, _, b in pairs],
    )
    share = (1.0 - level) / max(len(pairs), 1)
    bounds: dict[tuple[str, str, str], dict[tuple[str, str], Interval]] = {
        key: {} for key in families
    }
    for (key, one, a, other, b), bounded in zip(pairs, intervals, strict=True):
        reach = _beyond(a, share) + _beyond(b, share)
        interval = Interval(bounded.value, bounded.low - reach, bounded.high + reach)
        bounds[key][one.part.text, other.part.text] = interval
    return bounds


def _beyond(rate: Rate, share: float) -> float:
    """Return how far a rate can be from 0 or 1 if it is that in all bootstraps; otherwise 0."""
    if np.ptp(rate.vector) > ROUNDING:
        return 0.0
    return float(1.0 - share ** (1 / rate.rows))


def _group(cell: _Cell) -> Group:
    rows, rate = (0, math.nan) if cell.known is None else (cell.known.rows, cell.known.vector[0])
    return Group(name=cell.part.text, rows=int(rows), rate=float(rate), reason=cell.reason)


def _greatest_first(group: Group) -> tuple[bool, float]:
    return (math.isnan(group.rate), -group.rate)
