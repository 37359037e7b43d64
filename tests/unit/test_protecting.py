"""Losses by slice: what is worse, what is safe, what is not known, and in which words."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from scipy import stats

from lakescore.comparing import stating
from lakescore.comparing.evaluating import Part
from lakescore.comparing.formulas import Rate, group_rates
from lakescore.comparing.grouping import Group, RateCheck, rate_checks
from lakescore.comparing.protecting import SliceCheck, SliceLoss, slice_losses
from lakescore.comparing.ranking import Interval, Standing, one_sided
from lakescore.errors import ConfigError
from lakescore.options import CompareOptions

if TYPE_CHECKING:
    from lakescore.comparing.comparison import Comparison

OLD, NEW, OTHER = "models:/m/1", "models:/m/2", "models:/m/3"
NOISE = np.random.default_rng(5).normal(size=(6, 400))
NONE = (math.nan, math.nan)


def part(
    value: str | None, rows: int, metric: str, *, more: bool = False, scored: Any = None, **by: Any
) -> Part:
    """Return a slice; *by* has the vectors of the versions `old`, `new` and `other`."""
    vectors = {uri: by[name] for uri, name in ((OLD, "old"), (NEW, "new"), (OTHER, "other"))
               if name in by}  # fmt: skip
    estimates = {uri: Interval(float(v[0]), *NONE) for uri, v in vectors.items()}
    return Part(
        "region", value, "common", dict.fromkeys(vectors, rows),
        {metric: Standing(estimates, {}, more, (), {}, 2.0)},
        scored or dict.fromkeys(vectors, rows), {metric: vectors},
    )  # fmt: skip


def losses(*parts: Part, metric: str = "rmse", gated: str | None = NEW, **options: Any) -> Any:
    """Return the losses of version 2 by slice."""
    others = [uri for uri in next(iter(parts)).rows if uri != OLD]
    comparison = SimpleNamespace(
        candidates=SimpleNamespace(baseline=OLD, gated=gated, others=others),
        options=CompareOptions(label="y", protected=(metric,), **options),
        evaluation=SimpleNamespace(parts=parts),
    )
    found = slice_losses(cast("Comparison", comparison), NEW)[metric]
    return {loss.slice.removeprefix("region="): loss for loss in found}


def vector(value: float, noise: float = 0.0, row: int = 0) -> Any:
    return np.append(value, value + noise * NOISE[row % len(NOISE)])


def check(*found: SliceLoss, limit: float = 0.5, **facts: Any) -> SliceCheck:
    kept = {"metric": "rmse", "is_relative": False, "greater_is_better": False}
    return SliceCheck(limit=limit, losses=found, **(kept | facts))


def loss(name: str, value: float, low: float, high: float, **facts: Any) -> SliceLoss:
    kept = {"slice_by": "region", "slice": f"region={name}", "rows": 900, "baseline": 10.0}
    return SliceLoss(loss=Interval(value, low, high), **(kept | facts))


A, B = loss("a", 3.1, 1.2, 5.0), loss("b", 0.9, 0.6, 1.2)
SAFE, OPEN = loss("c", -1.0, -2.0, 0.1), loss("d", 0.3, -0.4, 1.0)
FEW = loss("e", 7.0, *NONE, rows=29, is_small=True, reason="fewer than 100 rows")
UNSCORED = loss("f", -1.0, -2.0, 0.1, unscored=12)


SENTENCES = {
    "it is safe in the only slice": ((SAFE,), "fail", True),
    (
        "in 2 of 3 slices it does: region=a by 3.1 (1.2 to 5.0), region=b by 0.90 (0.60 to 1.20); "
        "it is safe in 1 of 3 slices"
    ): ((A, B, SAFE), "pass", False),
    (
        "it is safe in 1 of 3 slices; 2 are not known (1 because of few rows), where the largest "
        "estimate is a rise of 7.0 (region=e, 29 rows)"
    ): ((FEW, OPEN, SAFE), "pass", True),
    (
        "it is safe in 1 of 2 slices; 1 is not known, and unknown_slices is fail"
    ): ((OPEN, SAFE), "fail", False),
    (
        "1 of 1 slice is not known because of few rows, where the largest estimate is a rise of "
        "7.0 (region=e, 29 rows), so nobody knows"
    ): ((FEW,), "pass", False),
    (
        "in 1 of 2 slices it does: region=f (it could not score 12 rows of the slice); it is safe "
        "in 1 of 2 slices"
    ): ((UNSCORED, SAFE), "pass", False),
}  # fmt: skip


@pytest.mark.parametrize("words", SENTENCES)
def test_a_check_says_which_slices_are_worse_and_how_many_are_not_known(words: str) -> None:
    found, unknown, passed = SENTENCES[words]
    checked = check(*found)
    assert checked.passes(unknown) is passed
    said = stating.slices(checked, unknown)
    assert said == f"rmse must not rise by more than 0.5 in any slice: {words}"


def test_a_relative_limit_is_a_share_of_the_baselines_value_in_the_slice() -> None:
    high, low = loss("a", 3.0, 2.0, 4.0, baseline=100.0), loss("b", 3.0, 2.0, 4.0, baseline=-10.0)
    checked = check(high, low, limit=0.05, is_relative=True, greater_is_better=True)
    assert [checked.verdict(found) for found in (high, low)] == ["safe", "worse"]
    assert [fact["max_loss"] for fact in checked.facts()] == [5.0, 0.5]
    assert checked.largest == 0.2
    assert stating.slices(checked, "pass") == (
        "rmse must not fall by more than 5 % in any slice: in 1 of 2 slices it does: region=b by "
        "30 % (20 to 40 %); it is safe in 1 of 2 slices"
    )


def test_no_loss_at_all_can_be_asked_for() -> None:
    none = check(loss("a", 0.0, 0.0, 0.0), limit=0.0)
    assert none.passes("fail")
    assert stating.slices(none, "fail").startswith("rmse must not rise in any slice: it is safe")


def test_losses_are_positive_where_the_candidate_is_worse() -> None:
    errors = losses(part("a", 1000, "rmse", old=vector(4, 0.1), new=vector(5, 0.1, 1)))
    assert errors["a"].loss.value == 1.0
    assert 0 < errors["a"].loss.low < 1.0 < errors["a"].loss.high
    shares = losses(
        part("a", 1000, "r2", more=True, old=vector(0.4, 0.1), new=vector(0.5, 0.1, 1)),
        metric="r2",
    )
    assert shares["a"].loss.value == pytest.approx(-0.1)


def test_bounds_hold_for_all_slices_and_all_versions_that_could_be_chosen() -> None:
    three = [
        part(name, 5000, "rmse", old=vector(4), new=vector(4, 1, n), other=vector(4, 1, n + 3))
        for n, name in enumerate("abc")
    ]
    width = {
        "one slice": losses(three[0])["a"].loss.high,
        "three slices": losses(*three)["a"].loss.high,
        "and three versions": losses(*three, gated=None)["a"].loss.high,
    }
    drawn = np.abs(NOISE - NOISE.mean(axis=1, keepdims=True)) / NOISE.std(axis=1, keepdims=True)
    for name, rows in {"one slice": [0], "three slices": [0, 1, 2],
                       "and three versions": [0, 1, 2, 3, 4, 5]}.items():  # fmt: skip
        expected = np.quantile(drawn[rows].max(axis=0), 0.9) * NOISE[0].std()
        assert width[name] == pytest.approx(expected, rel=0.06), name


def test_one_value_has_the_one_sided_interval_of_student() -> None:
    """Of the normal distribution, the mean of 30 groups has 29 degrees of freedom."""
    spread = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    ((interval,), _) = one_sided([np.append(0.0, spread)], 0.95, [30.0])
    expected = stats.t.ppf(0.95, 29) * math.sqrt(30 / 29)
    assert (-interval.low, interval.high) == pytest.approx((expected, expected), rel=0.005)


def test_small_slices_and_bootstraps_without_a_value_are_not_known() -> None:
    odd = vector(5, 0.1)
    odd[7] = math.nan
    found = losses(
        part("few", 99, "rmse", old=vector(4), new=vector(50)),
        part("odd", 1000, "rmse", old=vector(4), new=odd),
        part("fine", 100, "rmse", old=vector(4), new=vector(5, 0.1)),
        part(None, 0, "mae", old=vector(4), new=vector(5)),
    )
    assert {name: found[name].reason for name in found} == {
        "few": "fewer than 100 rows",
        "odd": "no value in some bootstraps",
        "fine": "",
        "region is null": "fewer than 100 rows",
    }
    assert next(iter(found)) == "few"  # the largest loss first, and what has none last
    assert list(found)[-1] == "region is null"
    assert [check(found[name]).verdict(found[name]) for name in ("few", "odd", "fine")] == [
        "not known", "not known", "worse",
    ]  # fmt: skip


def test_equal_errors_are_safe_and_equal_shares_are_not_certain() -> None:
    same = {"old": vector(0.8), "new": vector(0.8)}
    assert losses(part("a", 150, "rmse", **same))["a"].loss == Interval(0.0, 0.0, 0.0)
    found = losses(
        part("a", 150, "accuracy", more=True, **same),
        part("b", 15_000, "accuracy", more=True, **same),
        metric="accuracy",
    )
    # No row of n is decided differently: by Clopper and Pearson, each of two with half of 5 %.
    for name, rows in (("a", 150), ("b", 15_000)):
        most = float(stats.beta.ppf(1 - 0.05 / 2, 1, rows))
        assert found[name].loss.high == pytest.approx(most, rel=1e-9)
        assert found[name].loss.low == pytest.approx(-most, rel=1e-9)
    weighted = losses(part("a", 150, "accuracy", **same), metric="accuracy", weight="w")
    assert weighted["a"].reason == "the same value in all bootstraps"
    recall = losses(part("a", 15_000, "recall", **same), metric="recall")
    assert recall["a"].reason == "the same value in all bootstraps"
    mine = losses(part("a", 150, "rmse", **same), custom_metrics={"rmse": "a:b"})
    assert mine["a"].reason == "the same value in all bootstraps"


def test_a_difference_of_rounding_is_none() -> None:
    new = vector(4.0) * (1 + 1e-15 * np.random.default_rng(1).integers(-3, 4, 401))
    found = losses(part("a", 1000, "rmse", old=vector(4.0), new=new))
    assert found["a"].loss == Interval(0.0, 0.0, 0.0)


def test_rows_that_the_candidate_alone_could_not_score_are_a_loss() -> None:
    better = {"old": vector(4, 0.1), "new": vector(1, 0.1, 1)}
    found = losses(
        part("a", 1000, "rmse", scored={OLD: 1500, NEW: 1000}, **better),
        part("b", 1000, "rmse", scored={OLD: 1000, NEW: 1500}, **better),
    )
    assert [found[name].unscored for name in "ab"] == [500, 0]
    checked = check(*found.values())
    assert [checked.verdict(found[name]) for name in "ab"] == ["worse", "safe"]


def rated(*rates: tuple[str, float, float, int]) -> Any:
    """Return parts of the version 2 whose selection rates have a noise of their own."""
    return [
        Part(
            "region", name, "common", {OLD: rows, NEW: rows}, {}, {},
            rates={NEW: {"selection_rate": Rate(vector(value, noise, n), rows)}},
        )
        for n, (name, value, noise, rows) in enumerate(rates)
    ]  # fmt: skip


def check_of(parts: Any, limit: float = 0.1) -> RateCheck:
    comparison = SimpleNamespace(
        candidates=SimpleNamespace(baseline=OLD, gated=NEW, others=[NEW]),
        options=CompareOptions(label="y", grouped=("region",)),
        evaluation=SimpleNamespace(parts=parts),
    )
    (found,) = rate_checks(cast("Comparison", comparison), NEW, {"selection_rate": limit})
    return found


def test_the_rates_of_a_group_count_predictions_and_labels() -> None:
    sums = {
        "n": [10.0], "w": [10.0], "support\x1f1": [4.0], "predicted\x1f1": [5.0],
        "hits\x1f1": [3.0],
    }  # fmt: skip
    rates = group_rates({name: np.array(values) for name, values in sums.items()}, "1")
    assert {name: (rate.vector[0], rate.rows) for name, rate in rates.items()} == {
        "selection_rate": (0.5, 10.0),
        "true_positive_rate": (0.75, 4.0),
        "false_positive_rate": (pytest.approx(2 / 6), 6.0),
    }
    none = group_rates({"n": np.array([2.0]), "w": np.array([2.0])}, "1")
    assert math.isnan(none["true_positive_rate"].vector[0])
    assert none["selection_rate"].vector[0] == 0


def test_groups_are_far_apart_near_or_not_known() -> None:
    far = check_of(rated(("a", 0.5, 0.01, 900), ("b", 0.3, 0.01, 900), ("c", 0.4, 0.01, 900)))
    assert (far.verdict, far.passes("pass")) == ("worse", False)
    assert far.widest is not None
    assert far.widest[0] == ("region=a", "region=b")
    assert far.difference == pytest.approx(0.2)
    assert stating.rates(far, "pass").startswith(
        "selection_rate must not differ by more than 0.1 between the groups of region: it is 0.50"
    )
    near = check_of(rated(("a", 0.31, 0.01, 900), ("b", 0.3, 0.01, 900)))
    assert (near.verdict, near.passes("fail")) == ("safe", True)
    wide = check_of(rated(("a", 0.35, 0.1, 900), ("b", 0.3, 0.1, 900)))
    assert (wide.verdict, wide.passes("pass"), wide.passes("fail")) == ("not known", True, False)
    assert stating.rates(wide, "fail").endswith("is not known, and unknown_slices is fail")
    few = check_of(rated(("a", 0.31, 0.01, 900), ("b", 0.3, 0.01, 900), ("c", 0.9, 0.01, 99)))
    assert (few.verdict, few.difference) == ("not known", pytest.approx(0.6))
    assert "; 1 group of few rows cannot be compared; whether" in stating.rates(few, "pass")
    alone = check_of(rated(("a", 0.31, 0.01, 900), ("c", 0.9, 0.01, 99)))
    assert not alone.passes("pass")
    assert stating.rates(alone, "pass").endswith("so nobody knows")


def test_a_group_of_which_nobody_is_chosen_is_compared_with_the_others() -> None:
    none = check_of(rated(("a", 0.5, 0.01, 900), ("b", 0.0, 0.0, 900)))
    assert none.verdict == "worse"
    two = check_of(rated(("a", 0.0, 0.0, 150), ("b", 0.0, 0.0, 200)), limit=0.01)
    assert two.verdict == "not known"  # 2 % of either may be chosen
    found = two.pairs["region=a", "region=b"]
    # By Clopper and Pearson: each of two pairs with half of 5 %.
    most = sum(float(stats.beta.ppf(1 - 0.05 / 2, 1, rows)) for rows in (150, 200))
    assert (-found.low, found.high) == pytest.approx((most, most), rel=1e-9)


def test_too_many_groups_and_no_positive_class_are_refused() -> None:
    many = rated(*[(f"g{n}", 0.5, 0.0, 900) for n in range(51)])
    with pytest.raises(ConfigError, match="column 'region' has 51 groups, and at most 50"):
        check_of(many)
    without = [Part("region", "a", "common", {OLD: 900, NEW: 900}, {})]
    with pytest.raises(ConfigError, match="set positive_class"):
        check_of(without)


def test_a_group_without_a_rate_in_some_bootstraps_is_not_compared() -> None:
    parts = rated(("a", 0.31, 0.01, 900), ("b", 0.3, 0.01, 900), ("c", 0.3, 0.01, 900))
    parts[2].rates[NEW]["selection_rate"].vector[5] = math.nan
    (unknown,) = check_of(parts).unknown
    assert unknown == Group(
        name="region=c", rows=900, rate=0.3, reason="no value in some bootstraps"
    )
