"""Rows are found by keys of any type, as people write them."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, write_deltalake

from lakescore.errors import ConfigError
from lakescore.explaining import RowNotFound, explain
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from pathlib import Path

LINEAGE = (
    "model_name", "model_uri", "model_reference", "model_run_id", "logged_model_id",
    "input_table", "slice", "scoring_run_id",
)  # fmt: skip
KEYS = pa.table(
    {
        "id": pa.array([7, 8], pa.int64()),
        "at": pa.array([datetime(2013, 12, 1, hour, tzinfo=UTC) for hour in (10, 11)]),
        "day": [date(2013, 12, 1), date(2013, 12, 2)],
        "price": pa.array([Decimal("1.50"), Decimal("2.00")], pa.decimal128(10, 2)),
        "name": ["50% off", "a=b"],
        "flag": [True, False],
        "ratio": [float("nan"), 1.0],
        "single": pa.array([0.1, 0.2], pa.float32()),
        "latin": pa.array([b"R\xc9U", b"R"], pa.binary()).view(pa.string()),
    }
)


def put(path: Path, keys: pa.Table, facts: dict[str, Any] | None = None) -> str:
    """Write a table of predictions, or a quarantine, whose commit has *facts*."""
    rows = keys
    for name in LINEAGE:
        rows = rows.append_column(name, pa.array(["x"] * len(keys)))
    for name in ("model_version", "input_version"):
        rows = rows.append_column(name, pa.array([1] * len(keys)))
    properties = CommitProperties(custom_metadata={"userMetadata": json.dumps(facts)})
    write_deltalake(str(path), rows, commit_properties=properties if facts else None)
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "predictions"
    put(path, KEYS.append_column("scored_at", KEYS.column("at")))
    return path


@pytest.mark.parametrize(
    "name", ["a=b%20c", "feature%2Fbranch", "50%", "pred[2024-01]", "p*", "q?", "h#1", "{a,b}"]
)
def test_a_folder_may_be_called_as_it_likes(table: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(table, tmp_path / name / "predictions")
    shutil.copytree(table, tmp_path / name / "predictions_quarantine")
    for address in (f"{tmp_path / name}/predictions", f"file:{tmp_path / name}/predictions"):
        assert len(explain(address, {"id": "7"})) == 2
    with pytest.raises(TableNotFound):
        explain(f"{tmp_path / name}/none", {"id": "7"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", "7"),
        ("at", "2013-12-01 10:00:00"),  # UTC by default
        ("at", "2013-12-01T10:00:00Z"),
        ("at", "2013-12-01T11:00:00+01:00"),
        ("day", "2013-12-01"),
        ("price", "1.50"),
        ("name", "50% off"),
        ("flag", "true"),
        ("ratio", "nan"),
        ("single", "0.1"),
        ("latin", r"R\xc9U"),  # as it is shown
        ("latin", b"R\xc9U".decode(errors="surrogateescape")),  # as a shell passes it
    ],
)
def test_a_value_is_read_as_its_columns_type(table: Path, key: str, value: str) -> None:
    (explained,) = explain(str(table), {key: value})
    assert explained["row"]["id"] == 7


def test_all_keys_must_hold_at_once(table: Path) -> None:
    (explained,) = explain(str(table), {"name": "a=b", "flag": "false"})
    assert explained["row"]["id"] == 8


def aside(path: Path, key: int) -> None:
    bad = {"id": [key], "scored_at": [datetime.now(UTC)]}
    put(path, pa.table(bad | {"error_type": ["ValueError"], "error_message": ["no"]}))


@pytest.mark.parametrize(
    ("named", "readable", "lost"),
    [
        # The quarantine that the commit names is read, and not one with the usual name.
        ({"slices": [], "quarantine": "{}/own"}, ["8"], ["9"]),
        ({"quarantine": "{}/own"}, ["8"], ["9"]),  # of a run that published nothing
        ({"slices": []}, ["9"], ["8"]),
        (None, ["9"], ["8"]),
    ],
)
def test_a_bad_row_is_found_in_the_quarantine_that_the_commit_names(
    tmp_path: Path, named: dict[str, Any] | None, readable: list[str], lost: list[str]
) -> None:
    facts = named and {key: str(tmp_path / "own") if value else [] for key, value in named.items()}
    published = pa.table({"id": [7], "scored_at": [datetime.now(UTC)]})
    path = put(tmp_path / "predictions", published, facts)
    aside(tmp_path / "own", 8)
    aside(tmp_path / "predictions_quarantine", 9)
    assert [explain(path, {"id": key})[0]["status"] for key in readable] == ["quarantined"]
    for key in lost:
        with pytest.raises(RowNotFound):
            explain(path, {"id": key})


def test_a_quarantine_that_spark_alone_can_open_is_named(tmp_path: Path) -> None:
    published = pa.table({"id": [7], "scored_at": [datetime.now(UTC)]})
    path = put(tmp_path / "predictions", published, {"slices": [], "quarantine": "lake.bad"})
    with pytest.raises(RowNotFound, match=r"quarantine lake\.bad was not read: only Spark"):
        explain(path, {"id": "8"})


def test_a_relative_folder_is_found_here_and_in_the_data_folder_but_never_guessed(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, data = tmp_path / "here", tmp_path / "data"
    here.mkdir()
    shutil.copytree(table, here / "lake" / "predictions")
    monkeypatch.chdir(here)
    monkeypatch.setenv("LAKESCORE_HOME", str(data))
    assert len(explain("lake/predictions", {"id": "7"})) == 1
    shutil.copytree(table, data / "lake" / "predictions")
    with pytest.raises(ConfigError, match=r"lake/predictions is two tables: .*give the whole path"):
        explain("lake/predictions", {"id": "7"})
    shutil.rmtree(here / "lake")
    assert len(explain("lake/predictions", {"id": "7"})) == 1
