from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyspark.sql.types import DoubleType

import lakescore
from lakescore import errors
from lakescore.applying import ColumnsOpen, JobFileExists, KeysOpen, NameNotRead
from lakescore.assignment import SegmentsUnfit, SegmentsUnresolved
from lakescore.comparing.errors import (
    BadCondition,
    GateFailed,
    HoldoutEmpty,
    MetricUndefined,
    TooManySlices,
    WeightsInvalid,
)
from lakescore.engines.expecting import RowsUnexpected
from lakescore.engines.failures import FeaturesLeftOut, ResultUnfit
from lakescore.engines.plan import EngineRefused
from lakescore.engines.rowwise import PipelineUnfit
from lakescore.engines.spark_ml import RowsDropped
from lakescore.environments import ModuleMissing, ModuleNotAsked
from lakescore.environments.errors import (
    ArchiveNotWritten,
    DiskFull,
    EnvironmentChanged,
    EnvironmentNotMade,
    IndexRefused,
    IndexUnavailable,
    NeedsUnknown,
    PackagesOffline,
    PythonMissing,
    PythonUnsupported,
    RequirementRefused,
    WheelsDiffer,
    WheelsMissing,
)
from lakescore.errors import (
    ColumnsMissing,
    ConfigError,
    ConflictError,
    InputContractError,
    IntegrityError,
    LakescoreError,
    RegistryError,
    RequirementNotMet,
    ScoringFailed,
    Stopped,
    TemporaryError,
)
from lakescore.explaining import KeyUnreadable, RowNotFound, TableNotAtPath
from lakescore.filing import FilesUnwritten, WrittenFilesMissing
from lakescore.flights import FlightsMissing
from lakescore.interface.predicting import ZoneDiffers
from lakescore.jars import JarsNotFetched
from lakescore.java import JavaMissing
from lakescore.job import TimedOut
from lakescore.joblist import NotRun
from lakescore.loading import (
    FlavorMissing,
    OptionUnknown,
    OptionUnreadable,
    PipelineNotShared,
    UnsupportedSignature,
)
from lakescore.logs import AnotherRunWon
from lakescore.metering import MetricsNotWritten
from lakescore.ml import InputColsIncomplete, InputColsUnfit
from lakescore.monitoring.errors import (
    ArrivalUnfit,
    BaselineUnfit,
    DriftNotAccepted,
    InputReplaced,
    KeysInSlices,
    KeysUnfit,
    KindsDiffer,
    LabelsRepeated,
    LabelsUnfit,
    LineageMissing,
    ModelUnclear,
    NothingScored,
    NothingToMonitor,
    RowsNotCounted,
    SegmentsTooMany,
)
from lakescore.projects import ProjectExists
from lakescore.publishing import RowsLost, RunIdReused, TooManyErrors
from lakescore.publishing.counting import NullsUnexpected
from lakescore.registry.errors import (
    AliasMoved,
    AliasMoving,
    AliasNotFound,
    ArtifactsMissing,
    BadColumn,
    BadFilter,
    BadName,
    BadReference,
    EditedMeanwhile,
    FileExists,
    LedgerLost,
    ModelExists,
    ModelNotCopied,
    ModelNotFound,
    NotAModel,
    NothingToCompare,
    NothingToRollBack,
    NoTrackingStore,
    QueryNotUnique,
    RegistryRefused,
    RegistryUnavailable,
    RunNotFound,
    SignatureMissing,
    TagNotFound,
    VersionDeleted,
    VersionNotFound,
    VersionNotReady,
)
from lakescore.replaying import KeysNotPublished, ReplayDiffers, RunNotOne, RunNotPublished
from lakescore.reporting.files import ReportNotWritten
from lakescore.runner import DeltaMissing, PythonUnfit, RunnerRefused
from lakescore.scanning import FilesGone, FileUnreadable
from lakescore.serving.api import NotServed
from lakescore.serving.proposing import TableTooWide
from lakescore.serving.tables import TableNotServed
from lakescore.session import ConnectUnavailable, ForeignSession
from lakescore.signature import (
    CaseDiffers,
    ColumnsCollide,
    ColumnsUnfit,
    FeatureRequired,
    FeaturesMiscounted,
    FeaturesNamed,
    FeaturesUnknown,
    OutputsCollide,
    OutputsDiffer,
    ThresholdUndefined,
    TypesDiffer,
)
from lakescore.signature.expecting import RuleUnfit
from lakescore.slicing import (
    AgeUndefined,
    DuplicateKeys,
    InputTooOld,
    KeysInTwoSlices,
    NullsFound,
    RowCountUnexpected,
)
from lakescore.snapshots import NotADeltaTable, SnapshotNotFound, ViewNotPinned
from lakescore.sql import PredictUnfit
from lakescore.storage import (
    BucketMissing,
    FolderRefused,
    StorageFull,
    StorageRefused,
    StorageUnavailable,
    StorageUnsupported,
    TableNotFound,
)
from lakescore.supervising import JobLost
from lakescore.tables import SchemaDrift, TableAppendOnly, TableNotMade
from lakescore.trust import DigestDiffers, NotTrusted
from lakescore.wording import counted, listed, nearest, redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Golden

DOCS = Path(__file__).parents[2] / "docs"
INSTANCES = [
    LakescoreError("something else went wrong"),
    JavaMissing("/opt/java/bin/java is version 11"),
    JarsNotFetched("io.delta:delta-storage:4.4.0 has the SHA-256 None, not 1f2e"),
    ScoringFailed("models:/flight-delay/3", "slices 2013-12-01", "ValueError: NaN"),
    ConfigError("conf/score.yaml: unknown key 'modle' (did you mean 'model'?)"),
    EngineRefused("arrow", "it does not take the columns at (timestamp)"),
    RunnerRefused("write_mode merge needs Spark"),
    DeltaMissing("Delta's jars"),
    PythonUnfit("/usr/bin/python3", "/venv/bin/python"),
    FlightsMissing(),
    ForeignSession("4.0.1"),
    PredictUnfit("models:/digits/1", "its signature has no names; use lakescore.predict"),
    RunIdReused("nightly-7", "2013-12-01"),
    RegistryError("the MLflow store at sqlite:////lake/mlflow.db refused: no such table"),
    BadCondition("reflect('x')", "reflect is not allowed"),
    NothingToCompare("flight-delay", "metrics.rmse < 1"),
    WrittenFilesMissing("/lake/predictions", "part-1.snappy.parquet"),
    FilesUnwritten("/lake/predictions", "[Errno 13] Permission denied"),
    ModelNotCopied("models:/flight-delay/3", "/scratch", "[Errno 27] File too large"),
    FolderRefused("/lake/predictions", "Permission denied"),
    FileUnreadable("/lake/departures/f.parquet", "column [at] is INT64, not timestamp"),
    ViewNotPinned("lake.recent"),
    TableAppendOnly("/lake/predictions", default=True),
    ConnectUnavailable("sc://localhost:15002"),
    MetricsNotWritten(Path("/metrics/score.prom"), "Permission denied"),
    ReportNotWritten("/lake/reports", "Permission denied"),
    TooManySlices("tailnum", 200),
    NoTrackingStore("/lake/.lakescore/mlflow.db"),
    OptionUnknown("params", "temperatur", "models:/flight-delay/3", ["temperature"]),
    OptionUnreadable("temperature", "hot", "models:/flight-delay/3", "not a number"),
    PipelineNotShared("models:/flight-delay/3", Path("/model/sparkml"), "no such file"),
    FeaturesMiscounted("models:/flight-delay/3", ["dep_delay"], 2),
    FeaturesNamed("models:/flight-delay/3", ["dep_delay", "distance"]),
    FeaturesUnknown("models:/flight-delay/3", ["distanc"], ["distance", "hour"]),
    FeatureRequired("models:/flight-delay/3", "distance", "the signature requires it"),
    ColumnsOpen(
        "/lake/departures",
        "models:/flight-delay/3",
        ["'distance' (double): the table has no such column"],
        ["--column distance=COLUMN", "--id COLUMN"],
    ),
    KeysOpen("/lake/departures", "the table has no rows", ["id", "miles"]),
    NameNotRead("departures"),
    JobFileExists("conf/score.yaml"),
    ThresholdUndefined("models:/flight-delay/3", "struct<p_a:double>", 3),
    FileExists("copies/MLmodel"),
    ProjectExists(Path("scoring/conf/score.yaml")),
    BadReference("flight-delay", "it names no version and no alias"),
    BadFilter("metrics.rmse <", "a value or a condition is missing", 13),
    BadColumn("metric.rmse", ["version", "metrics.<key>"]),
    BadName("an alias", "cham\x1bpion", "it holds characters other than letters, digits, _ and -"),
    ModelNotFound(
        "flight-dely",
        ["flight-delay", "crew@night"],
        "postgresql://user:secret@registry.example/mlflow",
    ),
    VersionNotFound("flight-delay", 9, [3, 1, 2]),
    VersionDeleted("flight-delay", 4, range(5, 17)),
    AliasNotFound("flight-delay", "champ", {"challenger": 2, "champion": 3}),
    SegmentsUnresolved(
        "region",
        {"north": ModelNotFound("demand-north", ["demand-south"], "sqlite:////lake/m.db")},
        12,
    ),
    SegmentsUnfit("/lake/orders", "region", ["a/b", "north@champion"]),
    OutputsDiffer(
        ("models:/demand-north/3", "prediction double"),
        ("models:/demand-south/1", "prediction bigint"),
    ),
    QueryNotUnique(
        "flight-delay?where=metrics.rmse < 16",
        [5, 3],
        ["flight-delay/5 (rmse 15.75)", "flight-delay/3 (champion, rmse 15.75)"],
    ),
    ModelExists("flight-delay"),
    TagNotFound("models:/flight-delay/3", "quarte", ["team", "quarter"]),
    RunNotFound("0123"),
    NotAModel("runs:/0123/model", "there is no such run"),
    NothingToRollBack("flight-delay", "champion", "no earlier version is known"),
    LedgerLost("flight-delay", "mlflow runs restore --run-id 0123"),
    VersionNotReady("models:/flight-delay/3", "PENDING_REGISTRATION"),
    SignatureMissing("models:/flight-delay/3"),
    RegistryRefused("https://registry.example"),
    RegistryUnavailable("http://user:secret@registry.example:5000", "connection refused"),
    IntegrityError("the artifact data/link is a symbolic link; links are not followed"),
    ArtifactsMissing("models:/flight-delay/3", "there is no MLmodel file among them"),
    NotTrusted(
        "models:/flight-delay/3",
        "sources",
        "its files lie at s3://user:secret@bucket/x",
        ["file", "s3://models/prod"],
    ),
    DigestDiffers(
        "models:/flight-delay/3", "sha256:" + "0" * 64, "sha256:" + "1" * 64, "the ledger"
    ),
    RequirementNotMet("of 987 rows, 12 failed, but only 9 may fail"),
    ConflictError("someone else wrote the slice 2013-12-01"),
    TemporaryError("the store does not answer; run it again"),
    Stopped(),
    JobLost(-9),
    NotRun(),
    TimedOut(3600.0),
    StorageFull("/lake/tables/predictions"),
    StorageUnavailable("s3a://lake/predictions", "connection refused"),
    StorageUnsupported("s3a://lake/predictions", "s3a"),
    StorageRefused("s3a://lake/predictions", "InvalidAccessKeyId"),
    BucketMissing("s3a://lake/predictions"),
    RowsLost("2013-12-01", 987, 985, 1),
    ReplayDiffers(
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
    InputContractError("slice_by names a column of another type"),
    TableNotFound("/lake/tables/departures"),
    NotADeltaTable("/lake/tables/departures"),
    SnapshotNotFound("/lake/tables/departures", 7, 2),
    RunNotPublished("/lake/tables/predictions", "0f3b"),
    RunNotOne("nightly", ["2013-12-01"], ["2013-12-02"]),
    KeysNotPublished("/lake/tables/predictions", "0f3b"),
    RowNotFound("/lake/tables/predictions", {"id": "123"}),
    KeyUnreadable("id", "first", "int32"),
    ColumnsMissing("/lake/tables/departures", ["dep_delya", "wind"], ["dep_delay", "distance"]),
    TypesDiffer("/lake/tables/departures", {"distance": ("string", "double")}),
    NullsFound("/lake/tables/departures", {"dep_delay": 12, "distance": 1}),
    NullsUnexpected([("2013-12-31", "temp", 1.0, 0.05)]),
    RowsUnexpected("spark_udf", {"distance": (12, "between 50 and 6000")}),
    RowCountUnexpected("/lake/tables/departures", ["2013-12-02 has 1 row, and 950 are usual"]),
    InputTooOld("/lake/tables/departures", "time_hour", "2013-12-01 05:00:00 (2 days ago)", "36 h"),
    AgeUndefined("/lake/tables/departures", "distance", "double"),
    RuleUnfit(
        "/lake/tables/departures",
        "distance",
        DoubleType(),
        "= 'far'",
        "it cannot be compared with 'far'",
    ),
    DuplicateKeys("/lake/tables/departures", ["day", "flight"], 4, ["2013-12-01, 11"]),
    KeysInTwoSlices("/lake/tables/departures", ["flight"], 4, ["11"]),
    ColumnsCollide("output", ["prediction", "slice"]),
    ColumnsUnfit("/lake/tables/departures", ["a`b"], "a name cannot hold a backtick"),
    TableNotAtPath("/lake/lake.predictions", "lake.predictions"),
    TableNotMade("nowhere.predictions", "the schema nowhere cannot be found"),
    FilesGone("file:/lake/tables/departures/part-0.parquet"),
    CaseDiffers("/lake/tables/flights", "Distance", "distance"),
    OutputsCollide(
        "models:/flight-delay/3", "classes", ["a b", "a_b"], "they would share the column 'p_a_b'"
    ),
    FlavorMissing("models:/names/1", ["spacy"]),
    ModuleMissing("models:/names/1", "acme_features", ["acme-features==1.0"]),
    ModuleNotAsked("models:/names/1", "acme_features"),
    RequirementRefused("models:/names/1", "its files ask for '--pre'"),
    NeedsUnknown("models:/names/1", "its files name no version of Python, but 'any'"),
    PythonMissing("models:/names/1", "3.12", ["3.11.2", "3.11.7"]),
    PythonUnsupported("models:/names/1", "3.8", ["3.11", "3.12", "3.13"]),
    WheelsMissing(
        "models:/names/1", "3.12", "Because there is no version of six==99.1 and you require it"
    ),
    WheelsDiffer("models:/names/1", "Hash mismatch for six==1.16.0"),
    PackagesOffline("models:/names/1", ["six"]),
    IndexUnavailable(
        "models:/names/1", ["https://packages.example.org/simple"], "Connection refused"
    ),
    IndexRefused("models:/names/1", ["https://packages.example.org/simple"]),
    EnvironmentNotMade(
        "models:/names/1", Path("/lake/environments"), "[Errno 13] Permission denied"
    ),
    DiskFull("models:/names/1", Path("/lake/environments")),
    EnvironmentChanged(
        "models:/names/1", Path("/lake/environments/1f2e"), "six.py has other content"
    ),
    ArchiveNotWritten(Path("out/environment.tar.gz"), "No space left on device"),
    ResultUnfit("models:/flight-delay/3", "the signature says long and the model gives 1.25"),
    PipelineUnfit("models:/flight-delay/3", "Spark's plan of its pipeline has the step 'Join'"),
    RowsDropped("models:/flight-delay/3", 2, 1000, "id=7"),
    FeaturesLeftOut("models:/flight-delay/3", ["b"], "ValueError: b is missing"),
    ZoneDiffers("at", "Asia/Tokyo"),
    InputColsUnfit("models:/flight-delay/3", ["id"], ["dep_delay", "distance"]),
    InputColsIncomplete("models:/flight-delay/3", ["distance"]),
    UnsupportedSignature("models:/digits/1", "it takes a tensor of shape (-1, 8, 8)"),
    MetricUndefined("roc_auc", "the label has one class"),
    HoldoutEmpty("tables/holdout", "arr_delay", "month >= 10"),
    WeightsInvalid(3, 1000),
    SchemaDrift("/lake/tables/predictions", "it has no column 'prediction'"),
    TooManyErrors(
        "models:/flight-delay/3",
        ["2013-12-01", "2013-12-02"],
        (12, 987, 9),
        ["ValueError: a negative distance"],
        "/lake/tables/predictions_quarantine",
        "scoring_run_id is 0f3b",
    ),
    AnotherRunWon("/lake/tables/predictions", "slice '2013-12-01'"),
    GateFailed(
        "models:/flight-delay/4",
        ["rmse must be at most 15: it is 16 (15.8 to 16.2), missed by 1.2"],
        {},
    ),
    ModelUnclear("/lake/tables/predictions", "delay", ["flight-delay", "taxi-out"]),
    NothingScored("/lake/tables/predictions", ["2013-12-24"], ["2013-12-25"]),
    LineageMissing("/lake/tables/predictions", ["2013-12-24"]),
    SegmentsTooMany("/lake/tables/departures", "tailnum", 200),
    BaselineUnfit("/lake/tables/training", "has no rows; name a table or slices with rows"),
    KindsDiffer("/lake/tables/departures", "seats", "number", "category"),
    InputReplaced("/lake/tables/departures", "2013-12-24"),
    RowsNotCounted("/lake/tables/departures", "2013-12-24", 0, 752),
    LabelsRepeated("/lake/tables/arrivals", ["flight", "day"], 3, ["11, 2013-12-01"]),
    KeysUnfit("/lake/tables/arrivals", "flight", "string", "int"),
    KeysInSlices(["customer"]),
    ArrivalUnfit("/lake/tables/arrivals", "arrived", "string"),
    LabelsUnfit(
        "/lake/tables/predictions", "it is not clear which output has labels", ["low", "high"]
    ),
    NothingToMonitor({"embedding": "it is array<double>"}),
    DriftNotAccepted(["temp of 2013-12-24 has psi 0.31, above 0.25"], {}),
    AliasMoved("flight-delay", "champion", 3, 4),
    EditedMeanwhile("the tag 'team' of models:/flight-delay/3", "ops", None),
    NotServed("crew@night", ["flight-delay"]),
    TableNotServed("../departures", Path("/srv/lake")),
    TableTooWide("/srv/lake/departures", "12,000 columns", "5,000"),
    AliasMoving("flight-delay", "champion", 4, "ann@laptop", 12),
]


def subclasses(kind: type[LakescoreError]) -> Iterator[type[LakescoreError]]:
    yield kind
    for subclass in kind.__subclasses__():
        yield from subclasses(subclass)


def test_every_error_reads_as_agreed(golden: Golden) -> None:
    golden(
        "errors",
        "".join(
            f"{type(error).__name__} ({error.exit_code}, {error.code})\n    {error}\n"
            for error in INSTANCES
        ),
    )


def test_every_error_is_among_the_instances() -> None:
    for module in pkgutil.walk_packages(lakescore.__path__, "lakescore."):
        importlib.import_module(module.name)
    ours = set(subclasses(LakescoreError))
    assert ours == {type(error) for error in INSTANCES}
    assert len(INSTANCES) == len(ours)


@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
def test_every_error_is_one_line_without_credentials(error: LakescoreError) -> None:
    assert str(error).isprintable()
    assert "secret" not in str(error)


def test_a_reason_of_several_lines_becomes_one() -> None:
    reason = "File link\n  /a/b\r\n\n\tno such file\n"
    assert str(ArtifactsMissing("models:/a/1", reason)).endswith(
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
    assert {int(code) for code in promised} == {error.exit_code for error in INSTANCES}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (LakescoreError, 1),
        (ConfigError, 2),
        (RegistryError, 3),
        (IntegrityError, 4),
        (InputContractError, 5),
        (RequirementNotMet, 6),
        (TooManyErrors, 6),
        (GateFailed, 6),
        (ConflictError, 7),
        (AnotherRunWon, 7),
        (TemporaryError, 75),
        (RegistryUnavailable, 75),  # sysexits' EX_TEMPFAIL
    ],
)
def test_an_exit_code_never_changes(kind: type[LakescoreError], code: int) -> None:
    assert kind.exit_code == code


@pytest.mark.parametrize("error", INSTANCES, ids=lambda error: type(error).__name__)
def test_an_exit_code_has_one_general_class_that_programs_can_catch(error: LakescoreError) -> None:
    general = [
        LakescoreError,
        ConfigError,
        RegistryError,
        IntegrityError,
        InputContractError,
        RequirementNotMet,
        ConflictError,
        TemporaryError,
        Stopped,
    ]
    kind = next(kind for kind in general if kind.exit_code == error.exit_code)
    assert isinstance(error, kind)
    assert kind.__module__ == "lakescore.errors"


def test_a_code_is_the_name_of_a_class_in_snake_case() -> None:
    assert LakescoreError("a module of Java is missing").code == "unexpected"
    assert NotADeltaTable("/lake/departures").code == "not_a_delta_table"


def test_the_documentation_lists_the_codes_of_each_exit_code() -> None:
    section = (DOCS / "reference.md").read_text().partition("### Codes of errors")[2]
    rows = re.findall(r"^\| (\d+) \| (`.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    documented = [(int(exit_code), re.findall(r"`(\w+)`", codes)) for exit_code, codes in rows]
    of_classes: dict[int, list[str]] = {}
    for error in INSTANCES:
        of_classes.setdefault(error.exit_code, []).append(error.code)
    codes = [code for code_list in of_classes.values() for code in code_list]
    assert len(set(codes)) == len(codes)
    assert documented == [
        (exit_code, sorted(codes)) for exit_code, codes in sorted(of_classes.items())
    ]


def test_what_is_near_is_suggested_and_what_is_far_is_not() -> None:
    assert nearest("champin", ["challenger", "champion"]) == " (did you mean 'champion'?)"
    assert nearest("zebra", ["challenger", "champion"]) == ""
    assert nearest("zebra", []) == ""


def test_a_long_list_is_cut_and_says_by_how_many() -> None:
    assert listed([]) == "none"
    assert listed([3, 1]) == "3, 1"
    assert listed(range(4), most=4) == "0, 1, 2, 3"
    assert listed(range(6), most=4) == "0, 1, 2, 3 and 2 more"


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]


def test_what_hits_every_row_is_told_once_and_is_not_the_rows_fault() -> None:
    reasons = ["ValueError: the categories differ"]
    told = TooManyErrors("models:/m/1", ["all"], (40, 40, 0), reasons, "aside", "run_id is x")
    assert str(told) == (
        "models:/m/1 could not score any of 40 rows, all for one reason: ValueError: the "
        "categories differ; no prediction of all was published; the failed rows are in aside where "
        "run_id is x; "
        "fix the cause in the table or in the model: until then, no row can be scored"
    )


def test_lost_rows_do_not_lead_to_an_engine_that_would_be_refused() -> None:
    told = str(RowsLost("all", 10, 9, 0, engine="spark_ml"))
    assert told.endswith("the slice was not published; report this error")
