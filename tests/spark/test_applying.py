"""lakescore apply: what it proposes, what it asks, and that its texts score as it says."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import yaml
from builders.models import constant_model, delay_model, flights
from builders.tables import make_table, rows_of, schema_of
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array
from pyspark.sql import functions
from pyspark.sql.pandas.types import from_arrow_schema
from sklearn.linear_model import LinearRegression
from typer.testing import CliRunner

import lakescore
from lakescore import applying, loading, registry, sql
from lakescore.applying import Choices, ColumnsOpen, Keys, KeysOpen, Request, Source
from lakescore.cli import app
from lakescore.config import ScoreJob, load
from lakescore.errors import ColumnsMissing, ConfigError
from lakescore.registry.errors import SignatureMissing
from lakescore.signature import (
    CaseDiffers,
    FeatureRequired,
    FeaturesMiscounted,
    FeaturesNamed,
    FeaturesUnknown,
    TypesDiffer,
)
from lakescore.storage import TableNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from click.testing import Result
    from pyspark.sql import SparkSession

FEATURES = ["dep_delay", "distance"]
needs_sql = pytest.mark.skipif(
    not hasattr(functions, "arrow_udf"), reason="PREDICT in SQL needs Spark 4.1"
)


@pytest.fixture(scope="module", autouse=True)
def versions(register: Any) -> None:
    """Version 1 of flight-delay is a fitted model; version 2 gives 7 for every row."""
    register("flight-delay", alias="champion")
    register("flight-delay", constant_model(7.0), flights()[FEATURES])
    register("unsigned", delay_model(), signature=None)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path))
    return tmp_path


def rows(count: int = 40) -> list[tuple[int, float, float]]:
    return [(n, float(n), 100.0 * n) for n in range(count)]


def truth(count: int = 40) -> list[float]:
    frame = pd.DataFrame([row[1:] for row in rows(count)], columns=FEATURES)
    return list(delay_model().predict(frame).tolist())


def signature_of(*inputs: ColSpec | TensorSpec, outputs: Any = None) -> ModelSignature:
    return ModelSignature(Schema(list(inputs)), outputs or Schema([ColSpec("double")]))


def request_of(signed: ModelSignature, columns: str) -> Request:
    """Return the request of a version with this signature, for a table with these *columns*."""
    model = registry.resolve("flight-delay/1")
    model = replace(model, card=replace(model.card, signature=signed))
    source = Source("/lake/t", 3, from_arrow_schema(schema_of(columns)))
    loadable = replace(loading.prepare(registry.resolve("flight-delay/1")), model=model)
    return Request(loadable=loadable, source=source, input="lake/t", output="lake/p")


DELAY = ColSpec("double", "dep_delay")
OPTIONAL = ColSpec("double", "dep_delay", required=False)


@pytest.mark.parametrize(
    ("signed", "columns", "chosen", "expected"),
    [
        # the same name
        ([DELAY], "id int, dep_delay double", {}, {"dep_delay": "dep_delay"}),
        # the same name comes before a name that is only alike
        ([DELAY], "DepDelay double, dep_delay double", {}, {"dep_delay": "dep_delay"}),
        # alike but for case and underscores
        ([DELAY], "DEPDELAY double", {}, {"dep_delay": "DEPDELAY"}),
        # no such name, although one column would fit: a person must say so
        ([DELAY], "delay double", {}, {"dep_delay": None}),
        # two columns are alike
        ([DELAY], "DepDelay double, dep__delay double", {}, {"dep_delay": None}),
        # one column is alike to two features
        (
            [DELAY, ColSpec("double", "depdelay")],
            "DepDelay double",
            {},
            {"dep_delay": None, "depdelay": None},
        ),
        # the column has the name of one feature, and is alike to another
        (
            [DELAY, ColSpec("double", "DepDelay")],
            "dep_delay double",
            {},
            {"dep_delay": "dep_delay", "DepDelay": None},
        ),
        # a person gave the column to another feature
        (
            [DELAY, ColSpec("double", "other")],
            "DepDelay double",
            {"other": "DepDelay"},
            {"dep_delay": None, "other": "DepDelay"},
        ),
        # a type that loses no value
        ([DELAY], "dep_delay int", {}, {"dep_delay": "dep_delay"}),
        # types that lose values, with the same name and with a name alike: never by itself
        ([DELAY], "dep_delay bigint", {}, {"dep_delay": None}),
        ([DELAY], "DepDelay string", {}, {"dep_delay": None}),
        # the same name has another type, and a name alike fits: not taken by itself
        ([DELAY], "dep_delay string, DepDelay double", {}, {"dep_delay": None}),
        ([DELAY], "delay double", {"dep_delay": "delay"}, {"dep_delay": "delay"}),
        # an optional feature without a column is left out; with one it is read
        ([OPTIONAL], "delay double", {}, {"dep_delay": ""}),
        ([OPTIONAL], "DepDelay double", {}, {"dep_delay": "DepDelay"}),
        ([OPTIONAL], "dep_delay string", {}, {"dep_delay": None}),
        ([OPTIONAL], "DepDelay double, dep__delay double", {"dep_delay": ""}, {"dep_delay": ""}),
        # any type, an array, and a name that is a number
        ([ColSpec(AnyType(), "x")], "X map<string,int>", {}, {"x": "X"}),
        ([ColSpec(Array("double"), "x")], "x array<float>", {}, {"x": "x"}),
        ([ColSpec(Array("double"), "x")], "x double", {}, {"x": None}),
        ([ColSpec("double", "0")], "`0` double", {}, {"0": "0"}),
    ],
)  # fmt: skip
def test_a_column_is_taken_only_if_it_is_certain(
    signed: Sequence[ColSpec],
    columns: str,
    chosen: Mapping[str, str],
    expected: Mapping[str, str | None],
) -> None:
    proposal = request_of(signature_of(*signed), columns).propose(Choices(columns=chosen))
    answers = {"matched": lambda m: m.column, "left out": lambda _: "", "open": lambda _: None}
    assert {m.feature: answers[m.status](m) for m in proposal.matches} == expected
    assert all(match.reason for match in proposal.matches)
    assert proposal.job_file is proposal.python is proposal.sql is None  # no id column
    with pytest.raises(ColumnsOpen if proposal.open else KeysOpen):
        proposal.check()


@pytest.mark.parametrize(
    ("signed", "columns", "choices", "error"),
    [
        ([DELAY], "id int", Choices(columns={"dep_delay": "none"}), ColumnsMissing),
        ([DELAY], "id int", Choices(columns={"dep": "id"}), FeaturesUnknown),
        ([DELAY], "id bigint", Choices(columns={"dep_delay": "id"}), TypesDiffer),
        ([DELAY], "id int", Choices(columns={"dep_delay": ""}), FeatureRequired),
        # a job reads a column with the name of an optional feature
        ([OPTIONAL], "dep_delay string", Choices(columns={"dep_delay": ""}), FeatureRequired),
        ([DELAY], "id int", Choices(features=("id",)), FeaturesNamed),
        ([DELAY], "dep_delay int", Choices(id_columns=("none",)), ColumnsMissing),
        ([ColSpec("double")], "x double", Choices(features=("y",)), ColumnsMissing),
        ([ColSpec("double")], "x double, y int", Choices(features=("x", "y")), FeaturesMiscounted),
        ([ColSpec("double")], "x double", Choices(columns={"0": "x"}), ConfigError),
        # what only the binding of a job sees
        (
            [OPTIONAL],
            "id int, Dep_Delay double",
            Choices(columns={"dep_delay": ""}, id_columns=("id",)),
            CaseDiffers,
        ),
    ],
)  # fmt: skip
def test_a_choice_that_does_not_fit_is_refused(
    signed: Sequence[ColSpec], columns: str, choices: Choices, error: type[Exception]
) -> None:
    with pytest.raises(error):
        request_of(signature_of(*signed), columns).propose(choices)


@pytest.mark.parametrize(
    ("signed", "features", "count"),
    [
        (signature_of(ColSpec("double"), ColSpec("double")), ("y", "x"), 2),
        (signature_of(TensorSpec(np.dtype("float64"), (-1, 2))), ("y", "x"), 2),
        (signature_of(TensorSpec(np.dtype("float64"), (-1, 2))), ("block",), 2),  # one of arrays
    ],
)
def test_the_order_of_a_signature_without_names_is_asked(
    signed: ModelSignature, features: tuple[str, ...], count: int
) -> None:
    request = request_of(signed, "id int, x double, y double, block array<double>")
    proposal = request.propose(Choices(id_columns=("id",)))
    assert [match.status for match in proposal.matches] == ["open"] * count
    with pytest.raises(ColumnsOpen, match=" ".join(["--feature COLUMN"] * count)):
        proposal.check()
    answered = request.propose(Choices(features=features, id_columns=("id",)))
    assert answered.job is not None
    assert answered.job["features"] == list(features)
    assert answered.contract is not None
    assert list(answered.contract.sources.values()) == list(features)
    assert answered.sql is None
    assert "no names" in answered.sql_reason


@pytest.mark.parametrize(
    ("unique", "ids"),
    [(("id",), ("id",)), ((), ()), (("id", "code"), ())],  # of two, a person chooses
)
def test_a_key_is_proposed_only_if_it_is_the_only_one(
    unique: tuple[str, ...], ids: tuple[str, ...]
) -> None:
    request = request_of(signature_of(DELAY), "id int, code string, dep_delay double")
    proposal = request.propose(Choices(), Keys(unique, "checked"))
    assert proposal.id_columns == ids
    assert (proposal.contract is not None) == bool(ids)


@pytest.mark.parametrize(
    ("parts", "unique"),
    [
        ([[(1, "a"), (2, "a")]], ("id",)),
        ([[(1, "a")], [(2, "b")], [(1, "c")]], ("code",)),  # unique in each file alone
        ([[(1, "a"), (2, "b")]], ("id", "code")),
        ([[(None, "a"), (2, "b")]], ("code",)),  # a null identifies nothing
        ([[]], ()),  # nothing was checked
    ],
)
def test_keys_are_looked_for_in_the_whole_table(
    home: Path, parts: Sequence[Sequence[Any]], unique: tuple[str, ...]
) -> None:
    for part in parts:
        make_table(home / "t", part, "id int, code string", mode="append")
    assert applying.read_source(str(home / "t")).find_keys([]).columns == unique


def test_a_large_table_is_not_searched_for_a_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(home / "t", [(1, "a"), (2, "b")], "id int, code string")
    monkeypatch.setattr("lakescore.applying.source.MOST_ROWS", 1)
    keys = applying.read_source(str(home / "t")).find_keys([])
    assert keys.columns == ()
    assert "2 rows were not read" in keys.reason


def test_what_is_not_there_is_said(home: Path) -> None:
    with pytest.raises(TableNotFound):
        applying.request("flight-delay/1", "lake/none", "lake/p")
    with pytest.raises(ConfigError, match="a name in a catalog, which only Spark can read"):
        applying.request("flight-delay/1", "departures", "lake/p")
    make_table(home / "lake/t", [(1,)], "id int")
    with pytest.raises(SignatureMissing):
        applying.request("unsigned/1", "lake/t", "lake/p")


def propose(reference: str, output: str, **choices: Any) -> applying.Proposal:
    request = applying.request(reference, "lake/t", output)
    first = request.propose(Choices(**choices))
    return request.propose(Choices(**choices), request.find_keys(first))


def predictions(home: Path, name: str, *columns: str) -> list[Any]:
    return [row[1:] for row in rows_of(home / "lake" / name, "id", *columns)]


def score_by_texts(home: Path, reference: str, *columns: str, **choices: Any) -> list[Any]:
    """Return the predictions of the job's file and of the lines of Python, which must be equal."""
    file = home / "conf" / "job.yaml"
    file.parent.mkdir()
    propose(reference, "lake/by_file", **choices).write(file)
    receipt = lakescore.score(file, runner="local")
    lines = propose(reference, "lake/by_python", **choices).python
    exec(str(lines), {})  # noqa: S102 - the lines that a person copies
    assert receipt["rows_quarantined"] == 0
    by_file = predictions(home, "by_file", *columns)
    assert by_file == predictions(home, "by_python", *columns)
    return by_file


def answer(spark: SparkSession, reference: str, query: str | None) -> list[Any]:
    """Return the predictions of the SQL in the order of id."""
    session = spark.newSession()
    version = registry.resolve(reference)
    sql.register(session, f"{version.name}/{version.version}")
    return [row["prediction"] for row in session.sql(str(query)).orderBy("id").collect()]


@needs_sql
def test_the_texts_score_as_the_model_does(spark: SparkSession, home: Path) -> None:
    make_table(home / "lake/t", rows(), "id bigint, DepDelay double, distance float")
    proposal = propose("flight-delay@champion", "lake/p")
    assert proposal.contract is not None
    assert proposal.contract.sources == {"dep_delay": "DepDelay", "distance": "distance"}
    assert proposal.contract.casts == {"distance": ("float", "double")}
    assert proposal.id_columns == ("id",)
    assert score_by_texts(home, "flight-delay@champion", "prediction") == [(v,) for v in truth()]
    assert answer(spark, "flight-delay@champion", proposal.sql) == truth()


def test_the_texts_keep_the_version_when_the_alias_moves(home: Path) -> None:
    import mlflow

    make_table(home / "lake/t", rows(), "id bigint, dep_delay double, distance double")
    proposal = propose("flight-delay@champion", "lake/p")
    assert proposal.job is not None
    assert proposal.job["model"] == "flight-delay/1"
    for text in (proposal.job_file, proposal.python, proposal.sql):
        assert '"flight-delay@champion" names version 1 now' in str(text)
    assert "names version" not in str(propose("models:/flight-delay/1", "lake/p").job_file)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("flight-delay", "champion", "2")
    try:
        proposal.write(home / "job.yaml")
        lakescore.score(home / "job.yaml", runner="local")
    finally:
        client.set_registered_model_alias("flight-delay", "champion", "1")
    assert predictions(home, "p", "prediction") == [(value,) for value in truth()]


HOSTILE = {  # by feature, the column
    "it's": "it's_other", 'say "x"': '"', "</script><b>": "<b>&lt", "a => b": "--",
    "# x: y": "#:", "null": "~", "=": "!", "[1, 2]": "[1]", "*a": "&a", "%s": "%20", "a\\n": "\\n",
    "é\u202e": "é", "${x}": "$x", "x`y": "0x1", "'; DROP TABLE t; --": "'--'",
}  # fmt: skip


def test_names_stay_data_in_every_text(spark: SparkSession, home: Path, register: Any) -> None:
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(30, len(HOSTILE))), columns=list(HOSTILE)
    )
    weights = np.arange(1, len(HOSTILE) + 1)
    model = LinearRegression().fit(frame, frame.to_numpy() @ weights)
    register("hostile", model, frame)
    table = pd.DataFrame({c: frame[f] for f, c in HOSTILE.items()}).assign(id=range(len(frame)))
    home.joinpath("lake").mkdir()
    spark.createDataFrame(table).write.format("delta").save(str(home / "lake/t"))
    expected = model.predict(frame)
    scored = score_by_texts(home, "hostile/1", "prediction", columns=HOSTILE)
    assert np.allclose([v for (v,) in scored], expected, rtol=1e-12)
    proposal = propose("hostile/1", "lake/p", columns=HOSTILE)
    config = load(ScoreJob, home / "conf/job.yaml")
    assert dict(config.columns) == HOSTILE
    words = [word for f, c in HOSTILE.items() for word in ("--column", f"{f}={c}")]
    told = command("hostile/1", "--input", "lake/t", "--output", "lake/p", *words, "--json")
    assert json.loads(told.stdout)["job"] == proposal.job
    assert proposal.sql is None  # PREDICT takes no such name
    assert "a name cannot hold a backtick" in proposal.sql_reason


@needs_sql
def test_names_stay_data_in_sql(spark: SparkSession, home: Path, register: Any) -> None:
    seen = {f: c for f, c in HOSTILE.items() if f.isprintable() and not {"`", "$"} & set(f)}
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, len(seen))), columns=list(seen))
    model = LinearRegression().fit(frame, frame.to_numpy() @ np.arange(1, len(seen) + 1))
    version = register("hostile's", model, frame)
    table = pd.DataFrame({c: frame[f] for f, c in seen.items()}).assign(id=range(len(frame)))
    place = home / "lake's `own` $x"
    spark.createDataFrame(table).write.format("delta").save(str(place))
    request = applying.request(f"hostile's/{version}", str(place), "lake/p")
    proposal = request.propose(Choices(columns=seen, id_columns=("id",)))
    scored = answer(spark, f"hostile's/{version}", proposal.sql)
    assert np.allclose(scored, model.predict(frame), rtol=1e-12)


def test_a_query_does_not_have_what_spark_replaces() -> None:
    request = request_of(signature_of(DELAY), "id int, `${env:HOME}` double")
    choices = Choices(columns={"dep_delay": "${env:HOME}"}, id_columns=("id",))
    proposal = request.propose(choices)
    assert proposal.job_file is not None
    assert proposal.sql is None
    assert "Spark replaces ${...}" in proposal.sql_reason


def test_columns_that_only_spark_names_are_asked_for_a_key(
    spark: SparkSession, home: Path, register: Any
) -> None:
    frame = pd.DataFrame({"a\nb": [1.0, 2.0, 3.0], "c; d": [3.0, 1.0, 2.0]})
    model = LinearRegression().fit(frame, [1.0, 5.0, 2.0])
    register("broken", model, frame)
    path = home / "lake/t"
    frame.assign(id=[0, 1, 2]).pipe(spark.createDataFrame).write.format("delta").option(
        "delta.columnMapping.mode", "name"
    ).save(str(path))
    with pytest.raises(KeysOpen, match="other names in the files"):
        propose("broken/1", "lake/p").check()
    proposal = propose("broken/1", "lake/p", id_columns=("id",))
    assert "cannot be seen" in proposal.sql_reason  # a line break would end the name's line
    scored = score_by_texts(home, "broken/1", "prediction", id_columns=("id",))
    assert np.allclose([v for (v,) in scored], model.predict(frame), rtol=1e-12)


def test_the_texts_of_other_signatures_score_as_the_model_does(home: Path, register: Any) -> None:
    block = np.array([[n, 2.0 * n + 1, n % 3] for n in range(20)], dtype=float)
    model = LinearRegression().fit(block, block @ [1.0, 2.0, 3.0])
    register("block", model, block)
    make_table(
        home / "lake/t",
        [(n, *map(float, row), list(row)) for n, row in enumerate(block.tolist())],
        "id int, c double, b double, a double, all array<double>",
    )
    expected = model.predict(block)
    for n, features in enumerate([("c", "b", "a"), ("all",)]):
        folder = home / "texts"
        propose("block/1", f"lake/p{n}", features=features, id_columns=("id",)).write(
            home / f"{n}.yaml"
        )
        lakescore.score(home / f"{n}.yaml", runner="local")
        scored = [value for (value,) in predictions(home, f"p{n}", "prediction")]
        assert np.allclose(scored, expected, rtol=1e-12), folder


def test_several_outputs_and_a_feature_that_is_left_out(home: Path, register: Any) -> None:
    inputs = flights()[FEATURES]
    model = LinearRegression().fit(inputs, np.column_stack([flights().arr_delay, inputs.distance]))
    outputs = Schema([ColSpec("double", "late"), ColSpec("double", "far")])
    signed = ModelSignature(
        Schema([*[ColSpec("double", name) for name in FEATURES],
                ColSpec("string", "note", required=False)]), outputs,
    )  # fmt: skip
    register("two", model, signature=signed)
    make_table(home / "lake/t", rows(), "id int, dep_delay double, distance double")
    proposal = propose("two/1", "lake/p")
    assert proposal.contract is not None
    assert proposal.contract.left_out == ("note",)
    assert proposal.facts()["predictions"] == ["late", "far"]
    assert proposal.sql is None
    assert "'note' is left out" in proposal.sql_reason
    scored = score_by_texts(home, "two/1", "late", "far")
    frame = pd.DataFrame([row[1:] for row in rows()], columns=FEATURES)
    assert np.allclose(scored, model.predict(frame), rtol=1e-12)


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["apply", *words], env={"COLUMNS": "80"})


def test_the_command_says_what_to_give(home: Path) -> None:
    make_table(home / "lake/t", [(1, 2.0), (1, 3.0)], "id int, delay double")
    given = ("flight-delay/1", "--input", "lake/t", "--output", "lake/p")
    first = command(*given, "--write", str(home / "job.yaml"))
    assert (first.exit_code, first.stdout) == (5, "")
    assert first.stderr.count("\n") == 1
    advice = "give --column dep_delay=COLUMN --column distance=COLUMN --id COLUMN"
    assert first.stderr.endswith(f"{advice}\n")
    columns = ("--column", "dep_delay=delay", "--column", "distance=id")
    second = command(*given, *columns, "--write", str(home / "job.yaml"))
    assert (second.exit_code, second.stdout) == (2, "")
    assert "give --id COLUMN" in second.stderr
    assert list(home.glob("*.yaml")) == []
    third = command(*given, *columns, "--id", "id", "--write", str(home / "job.yaml"))
    assert (third.exit_code, third.stderr) == (0, "")
    written = (home / "job.yaml").read_text()
    again = command(*given, "--column", "dep_delay=delay", "--column", "distance=delay",
                    "--id", "id", "--write", str(home / "job.yaml"))  # fmt: skip
    assert again.exit_code == 2
    assert "exists already and was not changed" in again.stderr
    assert (home / "job.yaml").read_text() == written
    assert yaml.safe_load(written)["columns"] == {"dep_delay": "delay", "distance": "id"}


def test_programs_get_facts_also_if_something_is_open(home: Path) -> None:
    make_table(home / "lake/t", rows(), "id int, DepDelay double, miles double")
    given = ("flight-delay@champion", "--input", "lake/t", "--output", "lake/p", "--json")
    told = command(*given)
    assert told.exit_code == 5
    facts = json.loads(told.stdout)
    assert facts["complete"] is False
    assert facts["job_file"] is None
    keys = ("feature", "column", "status", "candidates")
    assert [tuple(feature[key] for key in keys) for feature in facts["features"]] == [
        ("dep_delay", "DepDelay", "matched", []),
        ("distance", None, "open", ["id", "DepDelay", "miles"]),
    ]  # fmt: skip
    told = command(*given, "--column", "distance=miles")
    facts = json.loads(told.stdout)
    assert (told.exit_code, facts["complete"], facts["id_columns"]) == (0, True, ["id"])
    assert yaml.safe_load(facts["job_file"]) == facts["job"]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (["--column", "dep_delay"], 2, "is not FEATURE=COLUMN"),
        (["--column", "=x"], 2, "is not FEATURE=COLUMN"),
        (["--column", "dep_delay=delay", "--column", "dep_delay=id"], 2, "twice"),
        (["--column", "dep_dely=delay"], 2, "did you mean 'dep_delay'?"),
        (["--column", "dep_delay=dely"], 5, "did you mean 'delay'?"),
        (["--column", "dep_delay=text"], 5, "'text' is string, not double"),
        (["--id", "none"], 5, "lacks the columns 'none'"),
        (["--feature", "delay"], 2, "features is only for signatures without names"),
    ],
)
def test_a_wrong_option_ends_in_one_line(
    home: Path, words: Sequence[str], code: int, part: str
) -> None:
    make_table(home / "lake/t", [(1, 2.0, "a")], "id int, delay double, text string")
    told = command("flight-delay/1", "--input", "lake/t", "--output", "lake/p", *words)
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (code, "", 1)
    assert part in told.stderr


def test_a_word_that_can_be_read_in_two_ways_is_refused(home: Path, register: Any) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "a=b": [2.0, 1.0]})
    register("equals", LinearRegression().fit(frame, [1.0, 2.0]), frame)
    make_table(home / "lake/t", [(1, 1.0, 2.0)], "id int, `b=c` double, c double")
    given = ("equals/1", "--input", "lake/t", "--output", "lake/p", "--id", "id", "--json")
    told = command(*given, "--column", "a=b=c", "--column", "a=b=b=c")
    assert told.exit_code == 2
    assert "can be read in 2 ways" in told.stderr
    told = command(*given, "--column", "a=c", "--column", "a=b=b=c")
    assert json.loads(told.stdout)["job"]["columns"] == {"a": "c", "a=b": "b=c"}


def test_without_pyspark_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakescore.jars.find_spec", lambda _: None)
    told = command("flight-delay/1", "--input", "lake/t", "--output", "lake/p")
    assert (told.exit_code, told.stderr) == (
        2, "error: PySpark is not installed: pip install 'lakescore[spark]'\n"
    )  # fmt: skip


def test_at_a_terminal_the_command_asks(home: Path, registry: str) -> None:
    make_table(home / "lake/t", [(1, 2.0, "a"), (1, 3.0, "b")], "id int, delay double, code string")
    ours, terminal = pty.openpty()
    code = "from lakescore.cli import app; app()"
    words = ["apply", "flight-delay/1", "--input", "lake/t", "--output", "lake/p"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words, "--write", str(home / "job.yaml")],
        stdin=terminal,
        stderr=terminal,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAKESCORE_HOME": str(home), "MLFLOW_TRACKING_URI": registry,
             "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(terminal)
    # a column that does not fit is asked again; the key is proposed, because only code is unique
    os.write(ours, b"code\ndelay\nid\n")
    stdout, _ = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0
    assert "Python:" in stdout
    job = yaml.safe_load((home / "job.yaml").read_text())
    assert job["columns"] == {"dep_delay": "delay", "distance": "id"}
    assert job["id_columns"] == ["code"]
