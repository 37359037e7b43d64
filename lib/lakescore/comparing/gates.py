"""Gates: limits that a candidate must reach before a job acts on it.

The words are those of MLflow's `MetricThreshold`. MLflow compares the value with the limit. Here
the less favourable bound of the interval must reach the limit, so that luck does not pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakescore.comparing import stating
from lakescore.comparing.candidates import CHAMPION
from lakescore.comparing.errors import GateFailed
from lakescore.comparing.grouping import rate_checks
from lakescore.comparing.protecting import SliceCheck, slice_losses
from lakescore.comparing.ranking import Interval
from lakescore.errors import ConfigError
from lakescore.registry import promote
from lakescore.wording import listed, nearest, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part
    from lakescore.comparing.ranking import Standing
    from lakescore.options import GateMode, GateOptions, Threshold, UnknownRule

_PROMOTE = "promote"
_SET_ALIAS = "set alias "
_LONGEST_REASON = 2000
_LEAST_CHANGE_OVER_ZERO = 1e-10
"""The least change if the baseline's value is 0: the number that MLflow uses."""


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One gate, checked for the candidate."""

    gate: str
    """`threshold`, `min_absolute_change`, `min_relative_change`, `max_loss`, `max_relative_loss`,
    `max_difference` or `signature`."""
    metric: str | None
    asked: float | str
    found: float | str
    """The bound, or the verdict on the signature."""
    passed: bool
    sentence: str
    slices: Sequence[Mapping[str, Any]] | None = None
    """For a check of every slice, the facts of each."""
    groups: Mapping[str, Any] | None = None
    """For a check of a rate, the facts of the groups."""

    @property
    def worse_slices(self) -> list[str]:
        """The slices in which the candidate is worse than it may be, the worst first."""
        return [facts["slice"] for facts in self.slices or () if facts["verdict"] == "worse"]

    def facts(self) -> dict[str, Any]:
        """Return the check as plain JSON values."""
        value = (
            None if isinstance(self.found, float) and not math.isfinite(self.found) else self.found
        )
        by_slice = {} if self.slices is None else {"slices": list(self.slices)}
        by_group = {} if self.groups is None else {"groups": dict(self.groups)}
        return {
            "gate": self.gate,
            "metric": self.metric,
            "asked": self.asked,
            "found": value,
            "passed": self.passed,
            "sentence": self.sentence,
            **by_slice,
            **by_group,
        }


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """All gates, checked for one candidate."""

    mode: GateMode
    candidate: str
    baseline: str
    checks: Sequence[GateCheck]
    on_pass: str | None

    @property
    def passed(self) -> bool:
        """Whether the candidate meets every gate."""
        return all(check.passed for check in self.checks)

    @property
    def alias(self) -> str | None:
        """The alias that the job moves to the candidate; None if it moves none."""
        if self.on_pass is None or self.mode != "enforce" or not self.passed:
            return None
        return CHAMPION if self.on_pass == _PROMOTE else self.on_pass.removeprefix(_SET_ALIAS)

    @property
    def failures(self) -> list[str]:
        """The sentences of the gates that the candidate does not meet, with the shortfall."""
        return [check.sentence for check in self.checks if not check.passed]

    @property
    def worse_slices(self) -> list[str]:
        """The slices in which the candidate is worse than it may be by some metric."""
        return list(dict.fromkeys(name for check in self.checks for name in check.worse_slices))

    def facts(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {
            "mode": self.mode,
            "candidate": self.candidate,
            "baseline": self.baseline,
            "passed": self.passed,
            "checks": [check.facts() for check in self.checks],
            "on_pass": self.on_pass,
        }


def evaluate_gates(comparison: Comparison, options: GateOptions) -> GateResult | None:
    """Check the candidate against the gates; return None if the gates are disabled.

    The candidate is the one that the job names. If the job names none, it is the best version that
    is not the baseline. The metrics are those over the rows that every version could score. The
    conditions for slices hold for the slices of the comparison.

    Args:
        comparison: the comparison; changes are measured from its baseline.
        options: the conditions, and the action if the candidate meets them.

    Raises:
        ConfigError: a gate's metric does not exist, or has another direction; there is no
            candidate; an alias should move, but the baseline or the candidate is a family.
    """
    if options.mode == "disabled":
        return None
    candidates, common = comparison.candidates, comparison.evaluation.whole
    ordered = [uri for uri in comparison.ordered if uri != candidates.baseline]
    candidate = candidates.gated or next(iter(ordered), None)
    if candidate is None or candidate == candidates.baseline:
        raise ConfigError(
            f"gates need a candidate other than the baseline {candidates.baseline}; name another "
            "version"
        )
    families = [
        uri for uri in (candidates.baseline, candidate) if candidates.assigned[uri].by is not None
    ]
    if options.on_pass is not None and families:
        raise ConfigError(
            f"gates: on_pass moves the alias of one version, but {families[0]} is one model "
            "per segment; leave on_pass out"
        )
    checks: list[GateCheck] = []
    for metric, threshold in options.thresholds.items():
        _check_direction(metric, threshold, common.standings)
        checks += _metric_checks(common, candidate, candidates.baseline, metric, threshold)
    checks += _slice_checks(comparison, candidate, options)
    checks += _rate_checks(comparison, candidate, options)
    if options.signature:
        checks.append(_signature_check(candidates, candidate))
    return GateResult(
        mode=options.mode,
        candidate=candidate,
        baseline=candidates.baseline,
        checks=checks,
        on_pass=options.on_pass,
    )


def act_on_gates(
    verdict: GateResult | None, candidates: Candidates, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Act on the result of the gates: raise an error, or move an alias through the ledger.

    Args:
        verdict: the result of `evaluate_gates`.
        candidates: the candidates.
        report: the receipt so far; its MLflow run is the evidence in the ledger.

    Returns:
        `moved`: the facts of the move; an empty mapping if no alias moves.

    Raises:
        GateFailed: the candidate does not meet a gate, and the mode is `enforce`.
        AliasMoved: the alias pointed at the baseline, and it has moved since.
        The errors of `registry.promote`.
    """
    if verdict is None or verdict.mode != "enforce":
        return {}
    if not verdict.passed:
        raise GateFailed(verdict.candidate, verdict.failures, report)
    if verdict.alias is None:
        return {}
    alias = verdict.alias
    baseline, candidate = candidates.models[verdict.baseline], candidates.models[verdict.candidate]
    reason = "; ".join(check.sentence for check in verdict.checks) or "no gates"
    is_from_baseline = alias in baseline.aliases and baseline.name == candidate.name
    moved = promote(
        f"{candidate.name}/{candidate.version}",
        to=alias,
        expect=baseline.version if is_from_baseline else None,
        reason=visible(reason)[:_LONGEST_REASON],
        evidence=report.get("tracking_run_id"),
    )
    return {"moved": moved.facts()}


def _check_known(metric: str, standings: Mapping[str, Standing]) -> None:
    if metric not in standings:
        raise ConfigError(
            f"gates: there is no metric {metric!r}{nearest(metric, list(standings))}; there are: "
            f"{listed(standings, most=40)}"
        )


def _check_direction(metric: str, threshold: Threshold, standings: Mapping[str, Standing]) -> None:
    _check_known(metric, standings)
    known = standings[metric].better_high
    if known is not None and known != threshold.greater_is_better:
        raise ConfigError(
            f"gates: {metric} is better {'greater' if known else 'smaller'}; write "
            f"greater_is_better: {str(known).lower()}"
        )


def _metric_checks(
    common: Part, candidate: str, baseline: str, metric: str, threshold: Threshold
) -> list[GateCheck]:
    standing, high = common.standings[metric], threshold.greater_is_better
    estimate, change = standing.estimates[candidate], standing.differences[candidate, baseline]
    gain = change if high else Interval(-change.value, -change.high, -change.low)
    checks = []
    if (limit := threshold.threshold) is not None:
        bound = estimate.low if high else estimate.high
        shortfall = limit - bound if high else bound - limit
        words = stating.threshold(metric, limit, estimate, shortfall, greater_is_better=high)
        checks.append(_check("threshold", metric, limit, bound, words, shortfall))
    if (limit := threshold.min_absolute_change) is not None:
        shortfall = limit - gain.low
        words = stating.change(metric, limit, gain, shortfall, greater_is_better=high)
        checks.append(_check("min_absolute_change", metric, limit, gain.low, words, shortfall))
    if (limit := threshold.min_relative_change) is not None:
        base = abs(standing.estimates[baseline].value)
        relative = gain.low / base if base else gain.low
        shortfall = (limit if base else _LEAST_CHANGE_OVER_ZERO) - relative
        words = stating.relative_change(
            metric, limit, gain, base=base, shortfall=shortfall, greater_is_better=high
        )
        checks.append(_check("min_relative_change", metric, limit, relative, words, shortfall))
    return checks


def _check(  # noqa: PLR0913, PLR0917 - a check's facts
    gate: str, metric: str, requested: float, bound: float, sentence: str, shortfall: float
) -> GateCheck:
    passed = shortfall <= 0  # false for NaN: an unknown value does not pass
    return GateCheck(
        gate=gate, metric=metric, asked=requested, found=bound, passed=passed, sentence=sentence
    )


def _slice_checks(comparison: Comparison, candidate: str, options: GateOptions) -> list[GateCheck]:
    standings = comparison.evaluation.whole.standings
    for metric in options.slices:
        _check_known(metric, standings)
    losses = slice_losses(comparison, candidate) if options.slices else {}
    return [
        _slice_check(
            SliceCheck(
                metric=metric, limit=limit, is_relative=gate == "max_relative_loss",
                greater_is_better=bool(standings[metric].better_high), losses=losses[metric],
            ),
            gate, options.unknown_slices,
        )
        for metric, limits in options.slices.items()
        for gate, limit in limits.given.items()
    ]  # fmt: skip


def _slice_check(check: SliceCheck, gate: str, unknown: UnknownRule) -> GateCheck:
    return GateCheck(
        gate=gate,
        metric=check.metric,
        asked=check.limit,
        found=check.largest,
        passed=check.passes(unknown),
        sentence=stating.slices(check, unknown),
        slices=check.facts(),
    )


def _rate_checks(comparison: Comparison, candidate: str, options: GateOptions) -> list[GateCheck]:
    checks = rate_checks(comparison, candidate, options.rates) if options.rates else []
    return [
        GateCheck(
            gate="max_difference",
            metric=check.rate,
            asked=check.limit,
            found=check.difference,
            passed=check.passes(options.unknown_slices),
            sentence=stating.rates(check, options.unknown_slices),
            groups=check.facts(),
        )
        for check in checks
    ]


def _signature_check(candidates: Candidates, candidate: str) -> GateCheck:
    verdict, reasons = candidates.fit(candidate)
    return GateCheck(
        gate="signature",
        metric=None,
        asked="compatible",
        found=verdict,
        passed=verdict == "compatible",
        sentence=stating.signature(verdict, reasons),
    )
