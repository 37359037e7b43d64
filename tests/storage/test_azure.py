"""Tables on Azure, as its emulator speaks it: `./scripts/test.sh --azure tests/storage`.

Spark has no client of Azure here: workers read and write the files, and delta-rs commits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from builders.models import register, tracking_store
from clusters import LOCAL, SMALL, finish, write_place
from deltalake import DeltaTable, write_deltalake
from stores import AZURITE_ACCOUNT, AZURITE_KEY, azure, free_port

from lakescore.logs import AnotherRunWon, Log, NewFile
from lakescore.places import read_properties
from lakescore.storage import folder

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
LAKE = f"abfss://lake@{AZURITE_ACCOUNT}.dfs.core.windows.net"
DAYS = ("2013-12-01", "2013-12-02")


@dataclass(frozen=True)
class Lake:
    """A container with a table, a model of its rows, and where jobs run."""

    home: Path
    variables: dict[str, str]
    """The environment by which all clients find the store."""
    rows: pd.DataFrame

    def score(self, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run the job that scores the container's table."""
        usual = {
            "model": "doubling/1", "input": {"path": f"{LAKE}/trips"},
            "output": {"path": f"{LAKE}/predictions"}, "slice_by": "day", "slices": list(DAYS),
            "id_columns": ["id"], "nulls": {"x": "quarantine"}, "max_errors": 1,
        }  # fmt: skip
        file = self.home / f"score-{uuid4()}.json"
        file.write_text(json.dumps(usual | settings))
        return self.run(ROOT / "spark-submit.sh", "score", file)

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        place = write_place(
            self.home / "place.conf",
            read_properties(ROOT / "conf/spark/local.conf") | SMALL | LOCAL,
        )
        own = {"LAKESCORE_HOME": str(self.home), "PLACE": str(place)}
        return finish(*words, variables=own | self.variables, folder=self.home)

    def read(self, name: str) -> pd.DataFrame:
        """Return a table of the container, as delta-rs alone reads it."""
        known = folder(f"{LAKE}/{name}")
        assert known is not None
        table = DeltaTable(known.uri, storage_options=dict(known.options))
        return table.to_pandas().sort_values("id").reset_index(drop=True)


@pytest.fixture(scope="module")
def lake(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lake]:
    if not request.config.getoption("--azure"):
        pytest.skip("give --azure: npm installs the emulator")
    home = tmp_path_factory.mktemp("azure")
    with azure(home) as endpoint, pytest.MonkeyPatch.context() as patch:
        variables = {
            "AZURE_STORAGE_ENDPOINT": endpoint,
            "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        place = folder(f"{LAKE}/trips")
        assert place is not None
        place.store.system.create_dir("lake")
        rows = pd.DataFrame({"id": range(1_000), "day": [DAYS[n % 2] for n in range(1_000)]})
        rows["x"] = np.random.default_rng(7).normal(size=1_000)
        rows["x"] = rows["x"].astype(object).where(rows["id"] != 7, None).astype("Float64")
        for part in (rows[:500], rows[500:]):
            write_deltalake(place.uri, part, mode="append", storage_options=dict(place.options))
        _register(home)
        yield Lake(home, variables, rows)


def _register(home: Path) -> None:
    import mlflow
    from sklearn.linear_model import LinearRegression

    before = mlflow.get_tracking_uri()
    try:
        tracking_store(home, "models", "lakescore")
        x = pd.DataFrame({"x": [0.0, 1.0]})
        register("doubling", LinearRegression().fit(x, [0.0, 2.0]), x)
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def scored(lake: Lake) -> dict[str, Any]:
    """Score the table; return the receipt."""
    done = lake.score()
    assert done.returncode == 0, done.stderr
    receipt: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return receipt


def test_workers_read_and_write_the_files(lake: Lake, scored: dict[str, Any]) -> None:
    assert (scored["rows_scored"], scored["rows_quarantined"]) == (999, 1)
    assert (scored["engine"]["scan"], scored["output"]["write"]) == ("direct", "direct")
    published, good = lake.read("predictions"), lake.rows[lake.rows["id"] != 7]
    assert published["id"].tolist() == good["id"].tolist()
    assert published["prediction"].to_numpy() == pytest.approx(2 * good["x"].to_numpy(float))
    assert set(published["model_version"]) == {1}
    assert lake.read("predictions_quarantine")["id"].tolist() == [7]


@pytest.mark.usefixtures("scored")
def test_a_rerun_does_nothing_and_a_row_is_explained(lake: Lake) -> None:
    again = lake.score()
    assert json.loads(again.stdout.splitlines()[-1])["status"] == "unchanged", again.stderr
    command = Path(sys.executable).with_name("lakescore")
    told = lake.run(command, "explain", f"{LAKE}/predictions", "--key", "id=3", "--json")
    (row,) = json.loads(told.stdout)
    assert row["status"] == "published"
    assert row["row"]["prediction"] == pytest.approx(2 * float(lake.rows["x"][3]))


def _signed() -> str:
    """Return a token of the account, signed as Microsoft describes shared access signatures."""
    given = {"sv": "2020-12-06", "ss": "b", "srt": "sco", "sp": "rwdlac", "se": "2099-01-01"}
    parts = [AZURITE_ACCOUNT, given["sp"], given["ss"], given["srt"], "", given["se"], "", ""]
    text = "\n".join([*parts, given["sv"], "", ""])
    digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    return urlencode(given | {"sig": base64.b64encode(digest).decode()})


def test_a_token_is_as_good_as_the_key(lake: Lake) -> None:
    endpoint = lake.variables["AZURE_STORAGE_ENDPOINT"]
    token = {"AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_STORAGE_SAS_TOKEN": _signed()}
    by_token = replace(lake, variables=token)
    done = by_token.score(output={"path": f"{LAKE}/by_token"}, slices=[DAYS[0]], max_errors=0)
    assert done.returncode == 0, done.stderr
    assert token["AZURE_STORAGE_SAS_TOKEN"] not in done.stdout + done.stderr
    assert len(lake.read("by_token")) == 500


@pytest.mark.parametrize(
    ("changed", "path", "code", "sentence"),
    [
        ({"AZURE_STORAGE_ACCOUNT_KEY": "QUJD"}, LAKE, 2, "refuses"),
        ({}, LAKE.replace("lake@", "none@"), 5, "no bucket"),
        ({}, f"{LAKE}/none", 5, "there is no table"),
        ({"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:{}/x"}, LAKE, 75, "does not answer"),
    ],
)
def test_what_keeps_the_table_away_is_said_in_one_line(
    lake: Lake, changed: dict[str, str], path: str, code: int, sentence: str
) -> None:
    changed = {name: value.format(free_port()) for name, value in changed.items()}
    away = replace(lake, variables=lake.variables | changed)
    done = away.score(input={"path": f"{path}/trips"})
    assert done.returncode == code, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert sentence in line
    assert f"{path}/trips" in line


@pytest.mark.usefixtures("lake")
def test_of_two_writers_at_once_one_wins_each_round() -> None:
    place = folder(f"{LAKE}/raced")
    assert place is not None
    first = pd.DataFrame({"id": [0], "slice": ["a"]})
    options = dict(place.options)
    write_deltalake(place.uri, first, partition_by=["slice"], storage_options=options)
    for number in range(1, 11):
        logs = [Log(f"{LAKE}/raced") for _ in range(4)]

        def publishes(log: Log, number: int = number) -> bool:
            name = f"{uuid4()}.parquet"
            system = log.folder.store.system
            rows = pd.DataFrame({"id": [number]})
            with system.open_output_stream(f"{log.folder.path}/{name}") as file:
                rows.to_parquet(file)
            with system.open_input_file(f"{log.folder.path}/{name}") as file:
                assert pq.ParquetFile(file).metadata.num_rows == 1
            size = log.folder.store.size(f"{log.folder.path}/{name}")
            assert size is not None
            new = NewFile(name, {"slice": "a"}, 1, size, json.dumps({"numRecords": 1}))
            try:
                log.commit([new], {"slice": ["a"]}, append=False, metadata="{}", what="a")
            except AnotherRunWon:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(publishes, logs)) == 1
    table = DeltaTable(place.uri, storage_options=options)
    assert table.version() == 10
    assert table.to_pandas()["id"].tolist() == [10]
