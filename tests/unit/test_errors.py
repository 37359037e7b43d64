from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lakescore import errors
from lakescore.errors import LakescoreError, listed, nearest, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Golden

INSTANCES = [
    LakescoreError("something else went wrong"),
    errors.JavaMissing("/opt/java/bin/java is version 11"),
    errors.ScoringFailed("models:/flight-delay/3", "slices 2013-12-01", "ValueError: NaN"),
    errors.ConfigError("conf/score.yaml: unknown key 'modle' (did you mean 'model'?)"),
    errors.EngineRefused("arrow", "it does not take the columns at (timestamp)"),
    errors.RunnerRefused("write_mode merge needs Spark"),
    errors.RunIdReused("nightly-7", "2013-12-01"),
    errors.RegistryError("the MLflow store at sqlite:////lake/mlflow.db refused: no such table"),
    errors.BadCondition("reflect('x')", "anonymous is not allowed in it"),
    errors.NothingToCompare("flight-delay", "metrics.rmse < 1"),
    errors.WrittenFilesMissing("/lake/predictions", "part-1.snappy.parquet"),
    errors.FilesUnwritten("/lake/predictions", "[Errno 13] Permission denied"),
    errors.ModelNotCopied("models:/flight-delay/3", "/scratch", "[Errno 27] File too large"),
    errors.FolderRefused("/lake/predictions", "Permission denied"),
    errors.FileUnreadable("/lake/departures/f.parquet", "column [at] is INT64, not timestamp"),
    errors.ViewNotPinned("lake.recent"),
    errors.TableAppendOnly("/lake/predictions", default=True),
    errors.ConnectUnavailable("sc://localhost:15002"),
    errors.MetricsNotWritten(Path("/metrics/score.prom"), "Permission denied"),
    errors.ReportNotWritten("/lake/reports", "Permission denied"),
    errors.TooManySlices("tailnum", 200),
    errors.NoTrackingStore("/lake/.lakescore/mlflow.db"),
    errors.OptionUnknown("params", "temperatur", "models:/flight-delay/3", ["temperature"]),
    errors.OptionUnreadable("temperature", "hot", "models:/flight-delay/3", "not a number"),
    errors.FeaturesUnknown("models:/flight-delay/3", ["distanc"], ["distance", "hour"]),
    errors.ThresholdUndefined("models:/flight-delay/3", "struct<p_a:double>", 3),
    errors.FileExists("copies/MLmodel"),
    errors.BadReference("flight-delay", "it names no version and no alias"),
    errors.BadFilter("metrics.rmse <", "a value or a condition is missing", 13),
    errors.BadColumn("metric.rmse", ["version", "metrics.<key>"]),
    errors.BadName(
        "an alias", "cham\x1bpion", "it holds characters other than letters, digits, _ and -"
    ),
    errors.ModelNotFound(
        "flight-dely",
        ["flight-delay", "crew@night"],
        "postgresql://user:secret@registry.example/mlflow",
    ),
    errors.VersionNotFound("flight-delay", 9, [3, 1, 2]),
    errors.VersionDeleted("flight-delay", 4, range(5, 17)),
    errors.AliasNotFound("flight-delay", "champ", {"challenger": 2, "champion": 3}),
    errors.SegmentsUnresolved(
        "region",
        {"north": errors.ModelNotFound("demand-north", ["demand-south"], "sqlite:////lake/m.db")},
        12,
    ),
    errors.SegmentsUnfit("/lake/orders", "region", ["a/b", "north@champion"]),
    errors.OutputsDiffer(
        ("models:/demand-north/3", "prediction double"),
        ("models:/demand-south/1", "prediction bigint"),
    ),
    errors.QueryNotUnique(
        "flight-delay?where=metrics.rmse < 16",
        [5, 3],
        ["flight-delay/5 (rmse 15.75)", "flight-delay/3 (champion, rmse 15.75)"],
    ),
    errors.ModelExists("flight-delay"),
    errors.TagNotFound("models:/flight-delay/3", "quarte", ["team", "quarter"]),
    errors.RunNotFound("0123"),
    errors.NotAModel("runs:/0123/model", "there is no such run"),
    errors.NothingToRollBack("flight-delay", "champion", "no earlier version is known"),
    errors.LedgerLost("flight-delay", "mlflow runs restore --run-id 0123"),
    errors.VersionNotReady("models:/flight-delay/3", "PENDING_REGISTRATION"),
    errors.SignatureMissing("models:/flight-delay/3"),
    errors.RegistryRefused("https://registry.example"),
    errors.RegistryUnavailable("http://user:secret@registry.example:5000", "connection refused"),
    errors.IntegrityError("the artifact data/link is a symbolic link; links are not followed"),
    errors.ArtifactsMissing("models:/flight-delay/3", "there is no MLmodel file among them"),
    errors.NotTrusted(
        "models:/flight-delay/3",
        "sources",
        "its files lie at s3://user:secret@bucket/x",
        ["file", "s3://models/prod"],
    ),
    errors.DigestDiffers(
        "models:/flight-delay/3", "sha256:" + "0" * 64, "sha256:" + "1" * 64, "its tag"
    ),
    errors.Stopped(),
    errors.JobLost(-9),
    errors.NotRun(),
    errors.TimedOut(3600.0),
    errors.StorageFull("/lake/tables/predictions"),
    errors.StorageUnavailable("s3a://lake/predictions", "connection refused"),
    errors.StorageUnsupported("s3a://lake/predictions", "s3a"),
    errors.StorageRefused("s3a://lake/predictions", "InvalidAccessKeyId"),
    errors.BucketMissing("s3a://lake/predictions"),
    errors.RowsLost("2013-12-01", 987, 985, 1),
    errors.ReplayDiffers(
        "0f3b",
        {
            "rows": 9,
            "same": 8,
            "different": 1,
            "only_published": 0,
            "only_replayed": 0,
            "examples": [{"published": 1.5, "replayed": 1.25}],
        },
    ),
    errors.InputContractError("slice_by names a column of another type"),
    errors.TableNotFound("/lake/tables/departures"),
    errors.NotADeltaTable("/lake/tables/departures"),
    errors.SnapshotNotFound("/lake/tables/departures", 7, 2),
    errors.RunNotPublished("/lake/tables/predictions", "0f3b"),
    errors.RunNotOne("nightly", ["2013-12-01"], ["2013-12-02"]),
    errors.KeysNotPublished("/lake/tables/predictions", "0f3b"),
    errors.RowNotFound("/lake/tables/predictions", {"id": "123"}),
    errors.KeyUnreadable("id", "first", "int32"),
    errors.ColumnsMissing(
        "/lake/tables/departures", ["dep_delya", "wind"], ["dep_delay", "distance"]
    ),
    errors.TypesDiffer("/lake/tables/departures", {"distance": ("string", "double")}),
    errors.NullsFound("/lake/tables/departures", {"dep_delay": 12, "distance": 1}),
    errors.DuplicateKeys("/lake/tables/departures", ["day", "flight"], 4, ["2013-12-01, 11"]),
    errors.KeysInTwoSlices("/lake/tables/departures", ["flight"], 4, ["11"]),
    errors.ColumnsCollide("output", ["prediction", "slice"]),
    errors.ColumnsUnfit("/lake/tables/departures", ["a`b"], "a name cannot hold a backtick"),
    errors.TableNotAtPath("/lake/lake.predictions", "lake.predictions"),
    errors.TableNotMade("nowhere.predictions", "the schema nowhere cannot be found"),
    errors.FilesGone("file:/lake/tables/departures/part-0.parquet"),
    errors.CaseDiffers("/lake/tables/flights", "Distance", "distance"),
    errors.OutputsCollide(
        "models:/flight-delay/3", "classes", ["a b", "a_b"], "they would share the column 'p_a_b'"
    ),
    errors.FlavorMissing("models:/names/1", ["spacy"]),
    errors.ModuleMissing("models:/names/1", "acme_features", ["acme-features==1.0"]),
    errors.ResultUnfit(
        "models:/flight-delay/3", "the signature says long and the model gives 1.25"
    ),
    errors.FeaturesLeftOut("models:/flight-delay/3", ["b"], "ValueError: b is missing"),
    errors.UnsupportedSignature("models:/digits/1", "it takes a tensor of shape (-1, 8, 8)"),
    errors.MetricUndefined("roc_auc", "the label has one class"),
    errors.HoldoutEmpty("tables/holdout", "arr_delay", "month >= 10"),
    errors.WeightsInvalid(3, 1000),
    errors.SchemaDrift("/lake/tables/predictions", "it has no column 'prediction'"),
    errors.TooManyErrors(
        "models:/flight-delay/3",
        ["2013-12-01", "2013-12-02"],
        (12, 987, 9),
        ["ValueError: a negative distance"],
        "/lake/tables/predictions_quarantine",
        "scoring_run_id is 0f3b",
    ),
    errors.AnotherRunWon("/lake/tables/predictions", "slice '2013-12-01'"),
    errors.GateFailed(
        "models:/flight-delay/4", ["rmse is at most 16.2 (asked 15, short by 1.2)"], {}
    ),
    errors.AliasMoved("flight-delay", "champion", 3, 4),
    errors.EditedMeanwhile("the tag 'team' of models:/flight-delay/3", "ops", None),
    errors.NotServed("crew@night", ["flight-delay"]),
    errors.AliasMoving("flight-delay", "champion", 4, "ann@laptop", 12),
]


def subclasses(kind: type[LakescoreError]) -> Iterator[type[LakescoreError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from subclasses(each)


def test_every_error_reads_as_agreed(golden: Golden) -> None:
    golden(
        "errors",
        "".join(f"{type(each).__name__} ({each.exit_code})\n    {each}\n" for each in INSTANCES),
    )


def test_every_error_is_among_the_instances() -> None:
    ours = set(subclasses(LakescoreError))
    assert ours == {type(each) for each in INSTANCES}
    assert len(INSTANCES) == len(ours)


@pytest.mark.parametrize("error", INSTANCES, ids=lambda each: type(each).__name__)
def test_every_error_is_one_line_without_credentials(error: LakescoreError) -> None:
    assert str(error).isprintable()
    assert "secret" not in str(error)


def test_a_reason_of_several_lines_becomes_one() -> None:
    reason = "File link\n  /a/b\r\n\n\tno such file\n"
    assert str(errors.ArtifactsMissing("models:/a/1", reason)).endswith(
        "cannot be fetched: File link /a/b no such file"
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:secret@host:5432/x", "postgresql://***@host:5432/x"),
        ("postgresql+psycopg2://user:secret@/x", "postgresql+psycopg2://***@/x"),
        ("postgresql://user:sec/ret@host:5432/x", "postgresql://***@host:5432/x"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),  # a port, and a path
        ("https://token@host and http://u:p@other", "https://***@host and http://***@other"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),  # an @ in a path is no credential
        ("crew@night@champion", "crew@night@champion"),
        ("models:/crew@night", "models:/crew@night"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
    ],
)
def test_what_stands_before_a_host_is_redacted(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_exit_codes_are_those_that_the_module_promises() -> None:
    promised = re.findall(r"(?:interface: |, )(\d+) ", " ".join(inspect.getdoc(errors).split()))  # type: ignore[union-attr]
    assert {int(code) for code in promised} == {each.exit_code for each in INSTANCES}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.LakescoreError, 1),
        (errors.ConfigError, 2),
        (errors.RegistryError, 3),
        (errors.IntegrityError, 4),
        (errors.InputContractError, 5),
        (errors.TooManyErrors, 6),
        (errors.GateFailed, 6),
        (errors.AnotherRunWon, 7),
        (errors.RegistryUnavailable, 75),  # sysexits' EX_TEMPFAIL
    ],
)
def test_an_exit_code_never_changes(kind: type[LakescoreError], code: int) -> None:
    assert kind.exit_code == code


def test_what_is_near_is_suggested_and_what_is_far_is_not() -> None:
    assert nearest("champin", ["challenger", "champion"]) == " (did you mean 'champion'?)"
    assert nearest("zebra", ["challenger", "champion"]) == ""
    assert nearest("zebra", []) == ""


def test_a_long_list_is_cut_and_says_by_how_many() -> None:
    assert listed([]) == "none"
    assert listed([3, 1]) == "3, 1"
    assert listed(range(4), most=4) == "0, 1, 2, 3"
    assert listed(range(6), most=4) == "0, 1, 2, 3 and 2 more"


def test_what_hits_every_row_is_told_once_and_is_not_the_rows_fault() -> None:
    reasons = ["ValueError: the categories differ"]
    told = errors.TooManyErrors(
        "models:/m/1", ["all"], (40, 40, 0), reasons, "aside", "run_id is x"
    )
    assert str(told) == (
        "models:/m/1 could not score any of 40 rows, all for one reason: ValueError: the "
        "categories differ; no prediction of all was published; the rows are in aside where "
        "run_id is x; "
        "mend that in the table or in the model: no row can be scored before"
    )
