"""The record of a commit: written and read by one module, and never trusted blindly."""

from __future__ import annotations

from typing import Any

import pytest

from lakescore import provenance
from lakescore.provenance import CommitRecord, CommittedSlice, Pin

ONE_VERSION = CommitRecord(
    model_name="demand",
    model_reference="demand@champion",
    pins=(Pin(None, "models:/demand/3", "sha256:ab"),),
    version={
        "model_version": 3,
        "model_uri": "models:/demand/3",
        "logged_model_id": "m-1",
        "model_run_id": "r-1",
        "model_reference": "demand@champion",
    },
    input_table="/lake/orders",
    input_version=7,
    input_id="table-1",
    settings={"id_columns": ["id"]},
    scored_at="2013-12-01T00:00:00+00:00",
    slices=(
        CommittedSlice("2013-12-01", "run-1", "f-1"),
        CommittedSlice("2013-12-02", "run-1", None),
    ),
)
A_SEGMENT_A_VERSION = CommitRecord(
    model_name="demand-{region}",
    model_reference="demand-{region}@champion",
    pins=(
        Pin("north", "models:/demand-north/1", "sha256:cd"),
        Pin(None, None, None),  # rows of no segment were left out
    ),
    segment_by="region",
    version={},
    input_table="lake.orders",
    input_version=0,
    input_id="table-2",
    settings={},
    scored_at="2013-12-01T00:00:00+00:00",
    slices=(CommittedSlice("all", "run-2", "f-2"),),
    quarantine="/lake/bad_rows",
)


@pytest.mark.parametrize("record", [ONE_VERSION, A_SEGMENT_A_VERSION])
def test_a_record_is_read_as_it_was_written(record: CommitRecord) -> None:
    read = CommitRecord.read(record.metadata())
    assert read is not None
    assert read.metadata() == record.metadata()
    assert (read.pins, read.inputs, read.slices) == (record.pins, record.inputs, record.slices)


def test_the_keys_of_the_metadata_are_an_interface() -> None:
    assert ONE_VERSION.metadata() == {
        "model_name": "demand",
        "model_version": 3,
        "model_uri": "models:/demand/3",
        "logged_model_id": "m-1",
        "model_run_id": "r-1",
        "model_reference": "demand@champion",
        "model_digest": "sha256:ab",
        "input_table": "/lake/orders",
        "input_version": 7,
        "input_id": "table-1",
        "settings": {"id_columns": ["id"]},
        "scored_at": "2013-12-01T00:00:00+00:00",
        "slices": [
            {"slice": "2013-12-01", "scoring_run_id": "run-1", "fingerprint": "f-1"},
            {"slice": "2013-12-02", "scoring_run_id": "run-1", "fingerprint": None},
        ],
    }
    of_segments = A_SEGMENT_A_VERSION.metadata()
    assert of_segments["segments"] == [
        ["north", "models:/demand-north/1", "sha256:cd"],
        [None, None, None],
    ]
    assert (of_segments["segment_by"], of_segments["quarantine"]) == ("region", "/lake/bad_rows")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"slices": []},  # a quarantine that was cleared
        {"slices": "all"},  # another writer's word
        {"slices": [{"slice": "all"}], "model_uri": "m", "model_name": "n"},
        {**ONE_VERSION.metadata(), "slices": [None]},
        {**A_SEGMENT_A_VERSION.metadata(), "segments": [["north"]]},
        {**A_SEGMENT_A_VERSION.metadata(), "segments": 3},
        {**A_SEGMENT_A_VERSION.metadata(), "segments": []},
        {**A_SEGMENT_A_VERSION.metadata(), "segment_by": None},
        {**ONE_VERSION.metadata(), "slices": [{"slice": {}, "scoring_run_id": "run-1"}]},
        {**ONE_VERSION.metadata(), "slices": [{"slice": "all", "scoring_run_id": ["run-1"]}]},
        {**ONE_VERSION.metadata(), "model_uri": ["models:/demand/3"]},
        {**ONE_VERSION.metadata(), "settings": "none"},
    ],
)
def test_what_others_write_is_no_record(metadata: dict[str, Any]) -> None:
    assert CommitRecord.read(metadata) is None
    assert provenance.newest([(1, metadata)]) == {}


def test_the_newest_commit_of_a_slice_and_run_counts() -> None:
    commits = [(9, ONE_VERSION.metadata()), (8, {"note": "compacted"}), (7, ONE_VERSION.metadata())]
    newest = provenance.newest(commits)
    assert {key: commit.version for key, commit in newest.items()} == {
        ("2013-12-01", "run-1"): 9,
        ("2013-12-02", "run-1"): 9,
    }


def test_the_quarantine_is_the_one_that_commits_name_or_lies_beside_the_table() -> None:
    named = (3, A_SEGMENT_A_VERSION.metadata())
    made = (0, provenance.name_quarantine("/lake/bad_rows") or {})
    unnamed = (2, ONE_VERSION.metadata())
    usual = "/lake/predictions_quarantine"
    assert provenance.quarantines([named, made], usual) == ["/lake/bad_rows"]
    assert provenance.quarantines([named, unnamed], usual) == ["/lake/bad_rows", usual]
    assert provenance.quarantines([], usual) == [usual]
