"""The page of a registered model: what its stored metrics tell, and what they cannot."""

from __future__ import annotations

from datetime import UTC, datetime

import documents
import pytest

from lakescore import reporting
from lakescore.registry.record import Dataset, VersionRecord

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def version(number: int, *, digest: str | None = None, **metrics: float) -> VersionRecord:
    data = Dataset("holdout@v3", digest) if digest else None
    return VersionRecord(
        name="flight-delay", version=number, status="READY", description=None, created_at=TIME,
        updated_at=TIME, run_id=f"{number:032x}", run_name="run", source=None, logged_model_id=None,
        params={}, metrics=metrics, tags={}, aliases=("champion",) if number == 1 else (),
        measured_on=dict.fromkeys(metrics, data) if data else {},
    )  # fmt: skip


def verdict(*records: VersionRecord, order_by: str | None = None) -> str:
    document = reporting.registry_document("flight-delay", records, order_by=order_by)
    return str(document["verdict"])


def test_values_of_one_dataset_are_held_against_one_another() -> None:
    assert verdict(
        version(1, digest="5eed", **{"rmse": 12.0, "rmse.low": 11.0, "rmse.high": 13.0}),
        version(2, digest="5eed", **{"rmse": 10.0, "rmse.low": 9.0, "rmse.high": 11.0}),
    ) == (
        "flight-delay/2 has the best stored rmse: 10.0 (9.0 to 11.0), before the champion "
        "flight-delay/1 with 12.0 (11.0 to 13.0); all 2 values are from holdout@v3, and compare "
        "decides whether it is better."
    )


@pytest.mark.parametrize(
    ("digests", "end"),
    [
        (("5eed", "c0de"), "are from different data, so this is not a comparison."),
        (("5eed", None), "are from different data, so this is not a comparison."),
        ((None, None), "they may be from different data, because no data was recorded."),
    ],
)
def test_values_of_other_data_are_said_to_be_so(digests: tuple[str | None, ...], end: str) -> None:
    records = [version(n, digest=digest, rmse=10.0 + n) for n, digest in enumerate(digests, 1)]
    assert verdict(*records).endswith(end)


def test_a_champion_is_named_before_a_version_that_is_second() -> None:
    records = [
        version(n, digest="5eed", rmse=value) for n, value in ((1, 12.0), (2, 10.0), (3, 11.0))
    ]
    assert verdict(*records).startswith(
        "flight-delay/2 has the best stored rmse: 10, before the champion flight-delay/1 with 12;"
    )
    records[0] = version(1, digest="5eed", rmse=9.0)
    assert verdict(*records) == (
        "The champion flight-delay/1 has the best stored rmse: 9, before flight-delay/2 with 10; "
        "all 3 values are from holdout@v3."
    )


def test_the_metric_is_the_one_that_was_sorted_by() -> None:
    records = [version(1, rmse=12.0, latency=3.0), version(2, rmse=10.0, latency=5.0)]
    assert verdict(*records).startswith("flight-delay/2 has the best stored rmse: 10")
    assert verdict(*records, order_by="metrics.latency").startswith(
        "The champion flight-delay/1 has the least stored latency: 3"
    )
    assert verdict(*records, order_by="metrics.latency desc").startswith(
        "flight-delay/2 has the best stored latency: 5"
    )


def test_without_a_metric_nothing_is_said_to_be_best() -> None:
    nothing = "No stored metric tells which version of flight-delay is best."
    assert verdict(version(1), version(2)) == nothing
    assert verdict(version(1, steps=3.0)) == nothing
    assert verdict(version(1, auc=0.9), version(2)).endswith("; no other version has one.")


def test_the_document_has_the_keys_of_a_comparisons() -> None:
    stored = reporting.registry_document("flight-delay", [version(1)])
    assert documents.of_regression().keys() <= stored.keys()


def test_bounds_are_the_interval_of_their_metric() -> None:
    record = version(1, digest="5eed", **{"auc": 0.9, "auc.low": 0.8, "auc.high": 0.95, "x.low": 1})
    (auc, other) = reporting.registry_document("flight-delay", [record])["metrics"]
    assert (auc["metric"], auc["value"], auc["low"], auc["high"]) == ("auc", 0.9, 0.8, 0.95)
    assert (auc["dataset"], auc["digest"], auc["scope"]) == ("holdout@v3", "5eed", "stored")
    assert (other["metric"], other["low"]) == ("x.low", None)


def test_a_stored_metric_that_labels_near_zero_decide_is_left_out() -> None:
    near = version(1, rmse=15.0, mae=11.0, r2=0.77, mape=8e14)
    document = reporting.registry_document("flight-delay", [version(2, mape=8e14), near])
    assert document["left_out"] == {
        "mape": "some labels are near zero, and errors relative to them decide it (8e14 for "
        "flight-delay/1)"
    }
    far = version(1, rmse=15.0, mae=11.0, r2=0.77, mape=0.3)
    assert reporting.registry_document("flight-delay", [far])["left_out"] == {}
