"""Gates: what a candidate must reach before anything is done with it, on the interval's bound.

The words are those of MLflow's `MetricThreshold`. MLflow holds points against them; here the bound
of the interval that speaks against the candidate counts, so that luck does not pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lakescore.comparing import metrics
from lakescore.comparing.candidates import CHAMPION
from lakescore.errors import ConfigError, GateFailed, listed, nearest, visible
from lakescore.registry import promote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.evaluating import Part

Mode = Literal["disabled", "dry_run", "enforce"]
_PROMOTE = "promote"
_SET_ALIAS = "set alias "
_LONGEST_REASON = 2000
_LEAST_CHANGE = 1e-10
"""What a relative change over 0 must be: MLflow's own figure."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What one metric must reach; each part that is given."""

    greater_is_better: bool
    threshold: float | None = None
    min_absolute_change: float | None = None
    min_relative_change: float | None = None


@dataclass(frozen=True, kw_only=True)
class GateCheck:
    """One gate, held against the candidate."""

    gate: str
    """`threshold`, `min_absolute_change`, `min_relative_change` or `signature`."""
    metric: str | None
    asked: float | str
    found: float | str
    """The bound, or the verdict on the signature."""
    passed: bool
    sentence: str

    def facts(self) -> dict[str, Any]:
        """Return the check as plain JSON values."""
        found = (
            None if isinstance(self.found, float) and not math.isfinite(self.found) else self.found
        )
        return {
            "gate": self.gate,
            "metric": self.metric,
            "asked": self.asked,
            "found": found,
            "passed": self.passed,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """All gates, held against one candidate."""

    mode: Mode
    candidate: str
    baseline: str
    checks: Sequence[GateCheck]
    on_pass: str | None

    @property
    def passed(self) -> bool:
        """Whether every gate is met."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> list[str]:
        """What is not met, and by how much."""
        return [check.sentence for check in self.checks if not check.passed]

    def __str__(self) -> str:
        """Say in a sentence whether the candidate passes, or what it lacks."""
        name = self.candidate.removeprefix("models:/")
        if self.passed:
            return f"{name} passes the gates."
        return f"{name} does not pass the gates ({self.mode}): {listed(self.failures, most=20)}."

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


def evaluate_gates(
    comparison: Comparison,
    thresholds: Mapping[str, Mapping[str, Any]],
    *,
    mode: Mode = "enforce",
    signature: bool = True,
    on_pass: str | None = None,
) -> GateResult | None:
    """Hold the candidate against the gates; none where they are disabled.

    The candidate is the one that was named among the candidates, else the best but the baseline.
    Metrics are those over the rows that every version could score.

    Args:
        comparison: what was found; changes are measured from its baseline.
        thresholds: by metric, the parts of a `Threshold`.
        mode: `disabled`, `dry_run` or `enforce`.
        signature: whether what works with the baseline must work with the candidate.
        on_pass: `promote`, `set alias NAME`, or nothing.

    Raises:
        ConfigError: a gate's metric is none, or has another direction; there is no candidate; an
            alias is to be moved where versions differ by segment.
    """
    if mode == "disabled":
        return None
    candidates, whole = comparison.candidates, comparison.evaluation.whole
    ordered = [uri for uri in comparison.ordered if uri != candidates.baseline]
    chosen = candidates.gated or next(iter(ordered), None)
    if chosen is None or chosen == candidates.baseline:
        raise ConfigError(
            f"gates need a candidate beside the baseline {candidates.baseline}; name another "
            "version"
        )
    families = [
        uri for uri in (candidates.baseline, chosen) if candidates.assigned[uri].by is not None
    ]
    if on_pass is not None and families:
        raise ConfigError(
            f"gates: on_pass moves the alias of one version, and {families[0]} is a model a "
            "segment; leave it out"
        )
    checks: list[GateCheck] = []
    for metric, parts in thresholds.items():
        threshold = Threshold(**parts)
        _check_direction(metric, threshold, list(whole.standings))
        checks += _of_metric(whole, chosen, candidates.baseline, metric, threshold)
    if signature:
        checks.append(_of_signature(candidates, chosen))
    return GateResult(
        mode=mode, candidate=chosen, baseline=candidates.baseline, checks=checks, on_pass=on_pass
    )


def act_on_gates(
    verdict: GateResult | None, candidates: Candidates, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Do what is to be done after the gates: raise, or move an alias through the ledger.

    Args:
        verdict: what `evaluate_gates` found.
        candidates: the versions.
        report: the receipt so far; the MLflow run in it is the ledger's evidence.

    Returns:
        `moved`: the move's facts; nothing where no alias is to be moved.

    Raises:
        GateFailed: a gate is not met, and gates are enforced.
        AliasMoved: the alias was the baseline's, and another one moved it since.
        As `registry.promote` besides.
    """
    if verdict is None or verdict.mode != "enforce":
        return {}
    if not verdict.passed:
        raise GateFailed(verdict.candidate, verdict.failures, report)
    if verdict.on_pass is None:
        return {}
    alias = CHAMPION if verdict.on_pass == _PROMOTE else verdict.on_pass.removeprefix(_SET_ALIAS)
    baseline, candidate = candidates.models[verdict.baseline], candidates.models[verdict.candidate]
    reason = "; ".join(check.sentence for check in verdict.checks) or "no gates"
    is_its_place = alias in baseline.aliases and baseline.name == candidate.name
    moved = promote(
        f"{candidate.name}/{candidate.version}",
        to=alias,
        expect=baseline.version if is_its_place else None,
        reason=visible(reason)[:_LONGEST_REASON],
        evidence=report.get("tracking_run_id"),
    )
    return {"moved": moved.facts()}


def _check_direction(metric: str, threshold: Threshold, there: Sequence[str]) -> None:
    if metric not in there:
        raise ConfigError(
            f"gates: there is no metric {metric!r}{nearest(metric, there)}; there are: "
            f"{listed(there, most=40)}"
        )
    known = metrics.greater_is_better(metric)
    if known is not None and known != threshold.greater_is_better:
        raise ConfigError(
            f"gates: {metric} is better {'greater' if known else 'smaller'}; write "
            f"greater_is_better: {str(known).lower()}"
        )


def _of_metric(
    whole: Part, candidate: str, baseline: str, metric: str, threshold: Threshold
) -> list[GateCheck]:
    standing, high = whole.standings[metric], threshold.greater_is_better
    own, change = standing.estimates[candidate], standing.differences[candidate, baseline]
    bound = own.low if high else own.high
    better = change.low if high else -change.high
    checks = []
    if threshold.threshold is not None:
        short = threshold.threshold - bound if high else bound - threshold.threshold
        most = "at least" if high else "at most"
        said = f"{metric} is {most} {bound:.6g} (asked {threshold.threshold:.6g}"
        checks.append(_check("threshold", metric, threshold.threshold, bound, said, short))
    if threshold.min_absolute_change is not None:
        asked = threshold.min_absolute_change
        said = f"{metric} is better than the baseline's by at least {better:.6g} (asked {asked:.6g}"
        checks.append(_check("min_absolute_change", metric, asked, better, said, asked - better))
    if threshold.min_relative_change is not None:
        asked, base = threshold.min_relative_change, abs(standing.estimates[baseline].value)
        if base:
            relative, short = better / base, asked - better / base
        else:
            relative, short = better, _LEAST_CHANGE - better
        said = (
            f"{metric} is better than the baseline's by at least {relative:.4%} (asked {asked:.4%}"
        )
        checks.append(_check("min_relative_change", metric, asked, relative, said, short))
    return checks


def _check(  # noqa: PLR0913, PLR0917 - a check's facts
    gate: str, metric: str, asked: float, found: float, said: str, short: float
) -> GateCheck:
    passed = short <= 0  # false for NaN: what is not known does not pass
    by = "" if passed else f", short by {short:.6g}"
    return GateCheck(
        gate=gate, metric=metric, asked=asked, found=found, passed=passed, sentence=f"{said}{by})"
    )


def _of_signature(candidates: Candidates, candidate: str) -> GateCheck:
    said, reasons = candidates.fit(candidate)
    return GateCheck(
        gate="signature",
        metric=None,
        asked="compatible",
        found=said,
        passed=said == "compatible",
        sentence=f"the signature is {said} with the baseline's ({listed(reasons)})",
    )
