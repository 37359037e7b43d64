"""The door of the jobs: whatever is wrong ends in one line, an exit code, and nothing written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import score
from builders.tables import make_table
from sklearn.linear_model import LinearRegression

from lakescore.config import ScoreJob
from lakescore.job import main

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")
X = pd.DataFrame({"x": [0.0, 1.0, 2.0]})
NO_POLICY = (
    "lakescore: no trust policy: code in a model from a stranger would run; name a policy with "
    "trust: or LAKESCORE_TRUST (docs/registry.md)\n"
)


@pytest.fixture(scope="module", autouse=True)
def _model(register: Any) -> None:
    register("door", LinearRegression().fit(X, 2 * X["x"]), X, alias="champion")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A job's file for a table of three trips; each test breaks one thing of it."""
    rows = [(1, 1.0, "a"), (2, 2.0, "a"), (3, 3.0, "b")]
    trips = make_table(tmp_path / "trips", rows, "id int, x double, kind string")
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.table({"id": [0, 1, 2]}), tmp_path / "parquet/part.parquet")
    path = tmp_path / "score.yaml"
    path.write_text(
        f"model: door@champion\n"
        f"input: {{path: {trips}}}\n"
        f"output: {{path: {tmp_path}/predictions}}\n"
        f"id_columns: [id]\n"
        f"receipt: {tmp_path}/receipt.json\n"
    )
    return path


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(ScoreJob, score.run, [str(argument) for argument in arguments])
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("override", "code", "sentence"),
    [
        ("modle=door/1", 2, "unknown key 'modle' (did you mean 'model'?)"),
        ("model=dor@champion", 3, "there is no registered model 'dor'"),
        ("model=door@champoin", 3, "has no alias 'champoin' (did you mean 'champion'?)"),
        ("model=door/7", 3, "'door' has no version 7; there are: 1"),
        ("model=door", 3, "it names no version and no alias"),
        ("input.path=HERE/nothing", 5, "there is no table at"),
        ("input.path=HERE/parquet", 5, "parquet is not a Delta table"),
        ("input.version=9", 5, "has no version 9 to read; the newest is 0"),
        ("input.table=no_such_table", 5, "there is no table at no_such_table"),
        ("output.path=HERE/parquet", 5, "parquet is not a Delta table"),
        ("output.path=HERE/trips", 5, "it lacks input_table"),  # the input itself
        ("id_columns=[idd]", 5, "lacks the columns 'idd' (did you mean 'id'?)"),
        ("passthrough=[id]", 5, "would have the columns 'id' twice"),
    ],
)
def test_bad_input_is_told_in_one_line_with_its_code_and_nothing_is_written(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    override: str,
    code: int,
    sentence: str,
) -> None:
    here = str(file.parent)
    before = sorted(file.parent.iterdir())
    assert exit_code(file, override.replace("HERE", here)) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    error = printed.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert "Traceback" not in printed.err
    written = set(file.parent.iterdir()) - set(before)
    # A job's file that cannot be read names no receipt.
    assert written <= {file.parent / "receipt.json"}
    if written:
        receipt = json.loads((file.parent / "receipt.json").read_text())
        assert (receipt["status"], receipt["exit_code"]) == ("failed", code)


def test_an_empty_slice_is_an_outcome_and_no_error(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(file, "slice_by=kind", "slices=[c]") == 0
    receipt = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (receipt["status"], receipt["rows_in"]) == ("empty", 0)
    assert not (file.parent / "predictions").exists()


@pytest.mark.parametrize("name", ["01", "+1", "1.0", " 1"])
def test_a_slice_has_one_name(file: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Were 01 a name of slice 1 too, its rows would be published twice."""
    assert exit_code(file, "slice_by=id", f"slices={name}") == 5
    assert f"slice {name!r}" in capsys.readouterr().err


def test_a_finished_run_ends_with_its_receipt(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(file, "slice_by=kind", "slices=[a, b]") == 0
    printed = capsys.readouterr()
    receipt = json.loads(printed.out.splitlines()[-1])
    assert receipt == json.loads((file.parent / "receipt.json").read_text())
    assert (receipt["job"], receipt["status"], receipt["rows_scored"]) == ("score", "scored", 3)
    assert receipt["seconds"]["total"] > 0
    assert all(line.startswith("lakescore: ") for line in printed.err.splitlines())


def test_verbose_adds_the_trace_and_keeps_the_line(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKESCORE_VERBOSE", "")  # the door sets it; this puts it back
    assert exit_code(file, "model=door/7", "-v") == 3
    *trace, line = capsys.readouterr().err.splitlines()
    assert any(text.startswith("Traceback") for text in trace)
    assert line.startswith("error: 'door' has no version 7")


def test_what_nobody_foresaw_is_one_line_too(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: ScoreJob) -> dict[str, Any]:
        raise RuntimeError(f"first line of {config.model}\nsecond line")

    with pytest.raises(SystemExit) as ended:
        main(ScoreJob, run, [str(file)])
    assert ended.value.code == 1
    error = "error: RuntimeError: first line of door@champion (-v shows the full traceback)\n"
    assert capsys.readouterr().err == f"{NO_POLICY}{error}"


def test_what_java_said_is_the_line_where_nobody_foresaw_that(
    file: Path, spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    jvm: Any = spark._jvm  # noqa: SLF001 - there is no other way to have Java raise

    def run(_: ScoreJob) -> dict[str, Any]:
        jvm.java.lang.Class.forName("no.such.Class")
        return {}

    with pytest.raises(SystemExit) as ended:
        main(ScoreJob, run, [str(file)])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"{NO_POLICY}error: Py4JJavaError: java.lang.ClassNotFoundException: no.such.Class "
        "(-v shows the full traceback)\n"
    )
