"""The report's first sentence: shall the champion be replaced, by what, by how much, how sure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn import metrics

from lakescore.comparing.deciding import Decision, Question, answer, left_out
from lakescore.comparing.gates import GateCheck, GateResult
from lakescore.comparing.ranking import stand

if TYPE_CHECKING:
    from lakescore.comparing.ranking import Standing

ONE, TWO, THREE = (f"models:/flight-delay/{n}" for n in (1, 2, 3))
ONLY = (
    "There is only flight-delay/3, so nothing is compared: its rmse is 12.00 (11.80 to 12.20) on "
    "9,000 rows."
)
CHANCE = np.random.default_rng(0).normal(size=400)


def standing(*, better_high: bool = False, noise: float = 0.1, **values: float) -> Standing:
    """Return the standing of versions by their values; each has a noise of its own."""
    vectors = {
        f"models:/flight-delay/{name.removeprefix('v')}": np.append(
            value, value + noise * np.random.default_rng(n).normal(size=400)
        )
        for n, (name, value) in enumerate(values.items())
    }
    return stand(vectors, better_high=better_high, bounds=(-np.inf, np.inf), level=0.95)


def ask(known: Standing, **facts: Any) -> Decision:
    """Return the answer where version 3 is the champion and the baseline."""
    question = {
        "metric": "rmse", "rows": 9000, "baseline": THREE, "champion": THREE,
        "movable": list(known.estimates),
    }  # fmt: skip
    return answer(Question(standing=known, **(question | facts)))


def gates(candidate: str = ONE, *, passed: bool, **facts: Any) -> GateResult:
    check = GateCheck(
        gate="threshold", metric="rmse", asked=1.0, found=2.0, passed=passed, sentence="a gate"
    )
    kept = {"mode": "enforce", "on_pass": None}
    return GateResult(candidate=candidate, baseline=THREE, checks=[check], **(kept | facts))


def test_a_challenger_that_is_surely_better_is_promoted() -> None:
    decision = ask(standing(v1=10, v2=11, v3=12))
    assert decision.action == "promote"
    found = re.fullmatch(
        r"flight-delay/1 beats the champion \(version 3\) by 2\.00 rmse \((1\.\d+) to (2\.\d+)\): "
        r"promote it\.", decision.sentence,
    )  # fmt: skip
    assert found
    assert float(found[1]) < 2 < float(found[2])
    assert decision.further[0].startswith("rmse is 10.00 (")
    assert "for flight-delay/1 and 12.00" in decision.further[0]
    assert decision.further[0].endswith(
        "for the champion (version 3), on 9,000 rows, with 95 % confidence."
    )
    assert re.match(
        r"flight-delay/1 is first; second is flight-delay/2, 1\.00 rmse behind \(0\.\d+ to 1\.",
        decision.further[1],
    )


def test_more_is_better_for_a_metric_that_says_so() -> None:
    by_accuracy = {"metric": "accuracy"}
    decision = ask(standing(better_high=True, noise=0.001, v1=0.9, v3=0.8), **by_accuracy)
    assert decision.sentence.startswith(
        "flight-delay/1 beats the champion (version 3) by 0.1000 acc"
    )
    decision = ask(standing(better_high=True, noise=0.001, v1=0.7, v3=0.8), **by_accuracy)
    assert decision.action == "keep"
    assert decision.sentence.startswith(
        "Keep the champion (version 3): flight-delay/1 is worse by 0.1000 accuracy (0.0"
    )


def test_a_champion_that_is_best_stays() -> None:
    decision = ask(standing(v1=13, v2=14, v3=12))
    assert decision.action == "keep"
    assert decision.sentence.startswith(
        "Keep the champion (version 3): flight-delay/1 is worse by 1.00 rmse (0."
    )


@pytest.mark.parametrize(("value", "has"), [(11.9, "0.10 less"), (12.1, "0.10 more")])
def test_a_difference_that_can_be_chance_promotes_nothing(value: float, has: str) -> None:
    decision = ask(standing(v1=value, v3=12))
    assert decision.action == "keep"
    assert decision.sentence.startswith(
        f"Keep the champion (version 3) for now: flight-delay/1 has {has} rmse, but it can be "
        "chance (from 0."
    )
    assert re.search(r"\(from 0\.\d+ more to 0\.\d+ less\)", decision.sentence)


def test_a_chance_difference_is_told_in_the_direction_of_the_metric() -> None:
    decision = ask(standing(better_high=True, v1=12.1, v3=12), metric="r2")
    assert "has 0.10 more r2, but it can be chance (from 0." in decision.sentence
    assert re.search(r"\(from 0\.\d+ less to 0\.\d+ more\)", decision.sentence)


def test_equal_versions_are_equal() -> None:
    known = stand(
        {uri: np.append(12.0, 12 + CHANCE) for uri in (ONE, THREE)},
        better_high=False, bounds=(0, np.inf), level=0.95,
    )  # fmt: skip
    assert ask(known).sentence == (
        "Keep the champion (version 3) for now: flight-delay/1 has the same rmse on these rows."
    )


def test_an_unknown_interval_promotes_nothing() -> None:
    known = stand(
        {ONE: np.append(1.0, [np.nan] * 400), THREE: np.append(12.0, [np.nan] * 400)},
        better_high=False, bounds=(0, np.inf), level=0.95,
    )  # fmt: skip
    decision = ask(known)
    assert decision.action == "keep"
    assert "too few bootstraps have a value to say how sure this is" in decision.sentence


def test_a_version_that_fails_its_gates_is_not_promoted() -> None:
    decision = ask(standing(v1=10, v3=12), candidate=ONE, gates=gates(passed=False))
    assert decision.action == "keep"
    assert decision.sentence.endswith(
        ", but does not pass the gates: keep the champion (version 3) for now."
    )


@pytest.mark.parametrize("value", [11.99, 13.0])
def test_gates_that_pass_do_not_promote_what_is_not_surely_better(value: float) -> None:
    passing = gates(passed=True, on_pass="promote")  # noqa: S106 - no password
    decision = ask(standing(v1=value, v3=12), candidate=ONE, gates=passing)
    assert decision.action == "keep"
    assert decision.sentence.startswith("Keep the champion (version 3)")
    assert decision.further[-1] == (
        "The job moves the alias champion to flight-delay/1 after this report all the same, "
        "because its gates pass."
    )


@pytest.mark.parametrize(
    ("facts", "moves"),
    [({"mode": "dry_run", "on_pass": "promote"}, None), ({"on_pass": "set alias next"}, "next")],
)
def test_only_a_job_that_moves_an_alias_says_so(facts: Any, moves: str | None) -> None:
    decision = ask(standing(v1=10, v3=12), candidate=ONE, gates=gates(passed=True, **facts))
    said = [text for text in decision.further if "moves the alias" in text]
    expected = f"The job moves the alias {moves} to flight-delay/1 after this report."
    assert said == ([expected] if moves else [])


def test_the_candidate_of_the_gates_is_judged_though_another_one_is_better() -> None:
    decision = ask(standing(v1=11, v2=10, v3=12), candidate=ONE, gates=gates(passed=True))
    assert decision.sentence.startswith("flight-delay/1 beats the champion (version 3) by 1.00")
    assert "The candidate of the job is flight-delay/1, not flight-delay/2." in decision.further


def test_a_doubt_keeps_the_champion_and_another_version_is_promoted_if_it_can_be() -> None:
    doubts = {ONE: ["does not fit in its place (input 'w' is new and required)", "is slow"]}
    decision = ask(standing(v1=10, v3=12), doubts=doubts)
    assert decision.action == "keep"
    assert decision.sentence.endswith(
        ", but does not fit in its place (input 'w' is new and required): keep the champion "
        "(version 3) for now."
    )
    assert "flight-delay/1 is slow." in decision.further
    decision = ask(standing(v1=10, v2=11, v3=12), doubts=doubts)
    assert decision.sentence.startswith(
        "flight-delay/2 beats the champion (version 3) by 1.00 rmse"
    )
    assert decision.action == "promote"
    assert "flight-delay/1 does not fit in its place" in decision.further[2]


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"rows": 99}, "was compared on 99 rows only, too few to be sure"),
        ({"rows": 1}, "was compared on 1 row only, too few to be sure"),
        ({"confidence": 0.5}, "was compared with 50 % confidence only"),
        ({"metric": "max_error"}, "was ranked by max_error, which one new row can change"),
    ],
)
def test_what_intervals_cannot_tell_promotes_nothing(facts: Any, reason: str) -> None:
    decision = ask(standing(v1=10, v3=12), **facts)
    assert decision.action == "keep"
    assert f", but {reason}: keep the champion" in decision.sentence


@pytest.mark.parametrize(
    ("facts", "last"),
    [
        ({"champion": None}, "None of the versions is the champion."),
        ({"champion": TWO}, "The champion is flight-delay/2, and not the baseline."),
    ],
)
def test_a_baseline_that_is_no_champion_is_not_replaced(facts: Any, last: str) -> None:
    decision = ask(standing(v1=10, v2=11, v3=12), **facts)
    assert decision.action == "prefer"
    assert decision.sentence.startswith("flight-delay/1 beats the baseline (version 3) by 2.00")
    assert decision.sentence.endswith(": prefer it.")
    assert "promote" not in " ".join([decision.sentence, *decision.further])
    assert decision.further[-1] == last


def test_a_version_of_another_model_does_not_take_the_alias() -> None:
    decision = ask(standing(v1=10, v3=12), movable=[THREE])
    assert decision.action == "prefer"
    assert "promote" not in decision.sentence


@pytest.mark.parametrize(
    ("known", "facts", "sentence"),
    [
        (
            standing(v3=12), {},
            ONLY,
        ),
        (
            standing(v1=10, v3=12), {"rows": 0},
            "No row was scored by every version, so nothing can be compared.",
        ),
        (
            standing(v1=10, v2=11, v3=np.nan), {},
            "flight-delay/3 has no rmse on these rows, so nothing can be compared.",
        ),
        (
            standing(v1=np.nan, v3=12), {},
            "flight-delay/1 has no rmse on these rows, so nothing can be compared.",
        ),
        (
            standing(v1=np.nan, v2=11, v3=12), {"candidate": ONE},
            "flight-delay/1 has no rmse on these rows, so nothing can be compared.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_said(known: Standing, facts: Any, sentence: str) -> None:
    decision = ask(known, **facts)
    assert (decision.action, decision.candidate) == ("none", None)
    assert re.sub(r"1[12]\.[12789]\d", "~", decision.sentence) == re.sub(
        r"1[12]\.[12789]\d", "~", sentence
    )


def test_a_lead_that_is_sure_is_never_written_as_one_that_can_be_nothing() -> None:
    """The interval from 0.0004 to 0.63 must not read `0.00 to 0.63`."""
    reach = np.append(0.315, 0.315 + 0.1606 * CHANCE / CHANCE.std(ddof=1))
    vectors = {ONE: np.zeros(401), THREE: reach}
    decision = ask(stand(vectors, better_high=False, bounds=(-9, 9), level=0.95))
    low = re.search(r"\((\S+) to", decision.sentence)
    assert low
    assert (float(low[1]) > 0) == (decision.action == "promote")
    assert float(low[1]) != 0


def test_the_best_of_many_names_those_that_may_be_as_good() -> None:
    decision = ask(standing(v1=10, v2=10.01, v4=10.02, v5=10.03, v3=12))
    assert "second is flight-delay/2, 0.01" in decision.further[1]
    assert "and may be as good" in decision.further[1]
    assert decision.further[2] == "As good may also be flight-delay/4, flight-delay/5."


def of_labels(labels: Any) -> dict[str, Standing]:
    """Return the standings of the four metrics that tell whether labels are near zero."""
    predicted = labels + np.random.default_rng(0).normal(size=len(labels))
    values = {
        "rmse": metrics.root_mean_squared_error(labels, predicted),
        "mae": metrics.mean_absolute_error(labels, predicted),
        "mape": metrics.mean_absolute_percentage_error(labels, predicted),
        "r2": metrics.r2_score(labels, predicted),
    }
    return {name: standing(v1=value) for name, value in values.items()}


def test_relative_errors_are_left_out_where_labels_are_near_zero_only() -> None:
    far = np.random.default_rng(1).normal(1000, 10, 500)
    near = np.append(np.random.default_rng(1).normal(10, 30, 499), 0.0)
    assert left_out(of_labels(far)) == {}
    assert left_out(of_labels(far / 1000 * 3)) == {}
    assert list(left_out(of_labels(near))) == ["mape"]
    assert "some labels are near zero" in left_out(of_labels(near))["mape"]
