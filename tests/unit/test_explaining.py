"""Rows are found by keys of any type, as people write them."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakescore.errors import TableNotFound
from lakescore.explaining import explain

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
    }
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "predictions"
    rows = KEYS
    for name in LINEAGE:
        rows = rows.append_column(name, pa.array(["x", "x"]))
    for name in ("model_version", "input_version"):
        rows = rows.append_column(name, pa.array([1, 1]))
    write_deltalake(str(path), rows.append_column("scored_at", rows.column("at")))
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
        ("at", "2013-12-01 10:00:00"),  # UTC where nothing else is said
        ("at", "2013-12-01T10:00:00Z"),
        ("at", "2013-12-01T11:00:00+01:00"),
        ("day", "2013-12-01"),
        ("price", "1.50"),
        ("name", "50% off"),
        ("flag", "true"),
    ],
)
def test_a_value_is_read_as_its_columns_type(table: Path, key: str, value: str) -> None:
    (found,) = explain(str(table), {key: value})
    assert found["row"]["id"] == 7


def test_all_keys_must_hold_at_once(table: Path) -> None:
    (found,) = explain(str(table), {"name": "a=b", "flag": "false"})
    assert found["row"]["id"] == 8
