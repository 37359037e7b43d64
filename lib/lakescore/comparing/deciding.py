"""Deciding: whether a version should replace the baseline, in a sentence with the numbers.

The sentence says `promote` only if the baseline is the champion, the whole interval of the
difference is on the better side, the gates pass, and nothing else speaks against the version.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from lakescore import metrics
from lakescore.comparing.candidates import CHAMPION
from lakescore.comparing.ranking import Interval
from lakescore.notation import bounds, count, interval, number, percent
from lakescore.wording import either, listed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from lakescore.comparing.candidates import Candidates
    from lakescore.comparing.comparison import Comparison
    from lakescore.comparing.gates import GateResult
    from lakescore.comparing.ranking import Standing

Action: TypeAlias = Literal["promote", "prefer", "keep", "none"]

_FEW_ROWS = 100
"""Intervals on fewer rows are too narrow (docs/compare.md)."""
_LEAST_CONFIDENCE = 0.9
_UNBOUNDED = "max_error"
"""Its bootstraps do not show how large the error of a new row can be."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is known when the question is asked whether to replace the baseline."""

    metric: str
    standing: Standing
    """Of all versions by *metric*, on the rows that every version could score."""
    rows: int
    baseline: str
    confidence: float = 0.95
    """Of the intervals."""
    champion: str | None = None
    """The version with the alias `champion` among those compared."""
    candidate: str | None = None
    """The version that the gates check; without it, the best version but the baseline."""
    gates: GateResult | None = None
    doubts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By version, what speaks against it besides its metric."""
    movable: Collection[str] = ()
    """The versions that can take the baseline's alias: they are of the same model."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The answer to a question."""

    action: Action
    """`prefer` if the baseline is not the champion; `none` if nothing can be compared."""
    candidate: str | None
    sentence: str
    further: Sequence[str] = ()
    """More sentences: values, the second version, all that speaks against the candidate."""

    def facts(self) -> dict[str, Any]:
        """Return the answer as plain JSON values."""
        return {
            "action": self.action, "candidate": self.candidate, "sentence": self.sentence,
            "further": list(self.further),
        }  # fmt: skip


def decide(comparison: Comparison, gates: GateResult | None) -> Decision:
    """Return whether a version should replace the baseline of a comparison."""
    candidates, evaluation = comparison.candidates, comparison.evaluation
    baseline, assigned = candidates.baseline, candidates.assigned
    champions = [uri for uri in (baseline, *assigned) if _is_champion(candidates, uri)]
    return answer(
        Question(
            metric=comparison.rank_by,
            standing=evaluation.whole.standings[comparison.rank_by],
            rows=max(evaluation.whole.rows.values(), default=0),
            baseline=baseline,
            confidence=comparison.options.confidence,
            champion=next(iter(champions), None),
            candidate=gates.candidate if gates else candidates.gated,
            gates=gates,
            doubts={uri: _doubts(comparison, uri) for uri in candidates.others},
            movable=[
                uri
                for uri, side in assigned.items()
                if side.by is None and side.name == assigned[baseline].name
            ],
        )
    )


def left_out(standings: Mapping[str, Standing]) -> dict[str, str]:
    """Return the metrics that mean nothing on these labels, with the reason."""
    uris = next(iter(standings.values())).estimates if standings else ()
    return metrics.left_out(
        {
            _short(uri): {
                name: standing.estimates[uri].value for name, standing in standings.items()
            }
            for uri in uris
        }
    )


def answer(question: Question) -> Decision:
    """Return the answer to a question."""
    if nothing := _nothing_to_compare(question):
        return Decision(action="none", candidate=None, sentence=nothing)
    named = question.candidate if question.candidate != question.baseline else None
    candidate = named or _best_challenger(question)
    gain = _gain(question.standing, candidate, question.baseline)
    doubts = _all_doubts(question, candidate)
    action, sentence = _judge(question, candidate, gain, doubts)
    further_doubts = doubts[1:] if gain.low > 0 else doubts
    further = [
        _values(question, candidate),
        *_others(question, candidate),
        *(_against(question, uri) for uri in _better_ones(question, candidate)),
        *([f"{_short(candidate)} {_joined(further_doubts)}."] if further_doubts else []),
        *_aliases(question, candidate, action),
    ]
    return Decision(action=action, candidate=candidate, sentence=sentence, further=further)


def _best_challenger(question: Question) -> str:
    """Return the best version that can be promoted; if none can, the best one."""
    others = [uri for uri in question.standing.ordered if uri != question.baseline]
    sure = (
        uri
        for uri in others
        if _gain(question.standing, uri, question.baseline).low > 0
        and not _all_doubts(question, uri)
    )
    return next(sure, others[0])


def _better_ones(question: Question, candidate: str) -> list[str]:
    """Return the versions with a better value than the candidate that something speaks against."""
    ordered = list(question.standing.ordered)
    return [
        uri
        for uri in ordered[: ordered.index(candidate)]
        if uri != question.baseline and question.doubts.get(uri)
    ]


def _against(question: Question, uri: str) -> str:
    return f"{_short(uri)} {_joined(question.doubts[uri])}."


def _judge(
    question: Question, candidate: str, gain: Interval, doubts: Sequence[str]
) -> tuple[Action, str]:
    """Return the action, and the sentence about the candidate."""
    name, baseline, metric = _short(candidate), _role(question, candidate), question.metric
    if gain.low > 0:
        beats = (
            f"{name} beats {baseline} by {_amount(gain)} {metric} ({bounds(gain.low, gain.high)})"
        )
        if doubts:
            return "keep", f"{beats}, but {doubts[0]}: keep {baseline} for now."
        action: Action = "promote" if _can_promote(question, candidate) else "prefer"
        return action, f"{beats}: {action} it."
    if gain.high < 0:
        worse = Interval(-gain.value, -gain.high, -gain.low)
        return "keep", (
            f"Keep {baseline}: {name} is worse by {_amount(worse)} {metric} "
            f"({bounds(worse.low, worse.high)})."
        )
    return "keep", f"Keep {baseline} for now: {_undecided(question, name, gain)}."


def _undecided(question: Question, name: str, gain: Interval) -> str:
    metric, is_high = question.metric, bool(question.standing.better_high)
    good, bad = ("more", "less") if is_high else ("less", "more")
    if math.isnan(gain.low) or math.isnan(gain.high):
        return (
            f"{name} differs by {number(abs(gain.value))} {metric}, and too few bootstraps have a "
            "value to say how sure this is"
        )
    if gain.value == 0 and gain.high == gain.low:
        return f"{name} has the same {metric} on these rows"
    width = gain.high - gain.low
    way = good if gain.value > 0 else bad
    has = f"{number(abs(gain.value), width)} {way} {metric}" if gain.value else f"the same {metric}"
    return (
        f"{name} has {has}, but it can be chance (from {number(-gain.low, width)} {bad} to "
        f"{number(gain.high, width)} {good})"
    )


def _nothing_to_compare(question: Question) -> str:
    """Return why no version can be compared with the baseline; empty if one can."""
    standing, ordered = question.standing, question.standing.ordered
    names = list(standing.estimates)
    if not question.rows:
        return "No row was scored by every version, so nothing can be compared."
    if len(names) == 1:
        estimate = standing.estimates[names[0]]
        value = interval(estimate.value, estimate.low, estimate.high)
        return (
            f"There is only {_short(names[0])}, so nothing is compared: its {question.metric} is "
            f"{value} on {_rows(question.rows)}."
        )
    needed = [question.baseline, *([question.candidate] if question.candidate else [])]
    missing = [uri for uri in needed if uri not in ordered]
    if not missing and len(ordered) > 1:
        return ""
    who = [_short(uri) for uri in missing or names if uri not in ordered]
    return (
        f"{_joined(who)} {'has' if len(who) == 1 else 'have'} no {question.metric} on these rows, "
        "so nothing can be compared."
    )


def _all_doubts(question: Question, candidate: str) -> list[str]:
    """Return all that speaks against a version besides its metric, the gravest first."""
    doubts = []
    if question.gates is not None and not question.gates.passed:
        worse = question.gates.worse_slices
        where = f" (it is worse in {listed(worse, most=3)})" if worse else ""
        doubts.append(f"does not pass the gates{where}")
    doubts += question.doubts.get(candidate, [])
    if question.rows < _FEW_ROWS:
        doubts.append(f"was compared on {_rows(question.rows)} only, too few to be sure")
    if question.confidence < _LEAST_CONFIDENCE:
        doubts.append(f"was compared with {percent(question.confidence)} confidence only")
    if question.metric == _UNBOUNDED:
        doubts.append(f"was ranked by {_UNBOUNDED}, which one new row can change")
    return doubts


def _doubts(comparison: Comparison, uri: str) -> list[str]:
    candidates, evaluation = comparison.candidates, comparison.evaluation
    verdict, reasons = candidates.fit(uri)
    doubts = []
    if verdict != "compatible":
        doubts.append(f"does not fit in its place ({listed(reasons, most=3)})")
    failed, before = (
        evaluation.rows - evaluation.own.rows[key] for key in (uri, candidates.baseline)
    )
    if failed > before:
        doubts.append(
            f"could not score {count(failed)} of {_rows(evaluation.rows)} "
            f"({_short(candidates.baseline)}: {count(before)})"
        )
    if comparison.rank_by in left_out(evaluation.whole.standings):
        doubts.append(f"was ranked by {comparison.rank_by}, which labels near zero decide")
    return doubts


def _values(question: Question, candidate: str) -> str:
    """Return the values of the candidate and of the baseline."""
    estimates = question.standing.estimates
    new, old = (
        interval(estimates[uri].value, estimates[uri].low, estimates[uri].high)
        for uri in (candidate, question.baseline)
    )
    return (
        f"{question.metric} is {new} for {_short(candidate)} and {old} for "
        f"{_role(question, candidate)}, on {_rows(question.rows)}, with "
        f"{percent(question.confidence)} confidence."
    )


def _others(question: Question, candidate: str) -> list[str]:
    """Return who is second, and which versions may be as good as the best."""
    standing, metric = question.standing, question.metric
    first, second = standing.ordered[:2]
    if {first, second} == {candidate, question.baseline} and len(standing.ordered) == 2:  # noqa: PLR2004
        return []
    gap = _gain(standing, first, second)
    behind = f"{_amount(gap)} {metric} behind"
    if gap.low > 0:
        place = f"{behind} ({bounds(gap.low, gap.high)})"
    elif math.isnan(gap.low):
        place = f"{behind}, and may be as good"
    else:
        width = gap.high - gap.low
        place = (
            f"{behind} (from {number(-gap.low, width)} ahead to {number(gap.high, width)} behind), "
            "and may be as good"
        )
    sentences = [f"{_short(first)} is first; second is {_short(second)}, {place}."]
    alike = [uri for uri in standing.ordered[2:] if standing.ranks[uri] == 1]
    if alike:
        sentences.append(f"As good may also be {listed(map(_short, alike), most=5)}.")
    if question.candidate and first not in {candidate, question.baseline}:
        sentences.append(f"The candidate of the job is {_short(candidate)}, not {_short(first)}.")
    return sentences


def _aliases(question: Question, candidate: str, action: Action) -> list[str]:
    """Return what the aliases add: which version is the champion, and whether the job moves it."""
    sentences = []
    if question.champion is None:
        sentences.append("None of the versions is the champion.")
    elif question.champion != question.baseline:
        sentences.append(f"The champion is {_short(question.champion)}, and not the baseline.")
    if question.gates is not None and question.gates.alias is not None:
        although = "" if action == "promote" else " all the same, because its gates pass"
        sentences.append(
            f"The job moves the alias {question.gates.alias} to {_short(candidate)} after this "
            f"report{although}."
        )
    return sentences


def _gain(standing: Standing, version: str, other: str) -> Interval:
    """Return by how much a version is better than another; a positive number is better."""
    change = standing.differences[version, other]
    return change if standing.better_high else Interval(-change.value, -change.high, -change.low)


def _can_promote(question: Question, candidate: str) -> bool:
    movable = {candidate, question.baseline} <= set(question.movable)
    return movable and question.champion == question.baseline


def _role(question: Question, candidate: str) -> str:
    """Return what to call the baseline: `the champion (version 3)`."""
    role = "champion" if question.champion == question.baseline else "baseline"
    (name, _, version), other = _short(question.baseline).rpartition("/"), _short(candidate)
    if name and version.isdigit() and other.rpartition("/")[0] == name:
        return f"the {role} (version {version})"
    return f"the {role} {_short(question.baseline)}"


def _is_champion(candidates: Candidates, uri: str) -> bool:
    assigned = candidates.assigned[uri]
    return assigned.by is None and CHAMPION in assigned.models[0].aliases


def _amount(gain: Interval) -> str:
    return number(gain.value, gain.high - gain.low)


def _rows(rows: int) -> str:
    return "1 row" if rows == 1 else f"{count(rows)} rows"


def _joined(texts: Sequence[str]) -> str:
    return either(texts, last=" and ")


def _short(uri: str) -> str:
    return uri.removeprefix("models:/")
