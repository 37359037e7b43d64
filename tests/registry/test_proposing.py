"""The live page's proposal for a version and a table: the command's, from two files alone."""

from __future__ import annotations

import ast
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlglot
import yaml
from builders.models import delay_model, register, stored_artifacts
from builders.tables import column, make_table, write_log
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType, Array, Object, Property
from served import client, refusal
from sqlglot import exp
from typer.testing import CliRunner

from lakescore import applying, registry
from lakescore.cli import app
from lakescore.home import scratch
from lakescore.serving import proposing
from lakescore.signature import TypesDiffer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from conftest import Store
    from starlette.testclient import TestClient

embedded = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
FEATURES = ["dep_delay", "distance"]
ONLY_OF_THE_PAGE = {"ordered", "fits", "fitting", "writes"}


def signed(*inputs: ColSpec | TensorSpec) -> ModelSignature:
    return ModelSignature(Schema(list(inputs)), Schema([ColSpec("double")]))


def doubles(*names: str) -> ModelSignature:
    return signed(*(ColSpec("double", name) for name in names))


@pytest.fixture
def api(store: Store) -> TestClient:  # noqa: ARG001 - where it reads
    return client()


@pytest.fixture
def table(store: Store, name: str) -> Path:
    """Return the folder of a table below LAKESCORE_HOME, which the test makes."""
    return store.folder / "tables" / name


def asked(table: Path, **more: Any) -> dict[str, Any]:
    return {"input": f"tables/{table.name}", "output": "tables/predictions", **more}


def propose(api: TestClient, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=facts)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# --- as the command


NAMED = signed(*(ColSpec("double", name) for name in FEATURES))
OPTIONAL = signed(
    ColSpec("double", "dep_delay"), ColSpec("double", "note", required=False), ColSpec("long", "n")
)
BLOCK = signed(TensorSpec(np.dtype("float64"), (-1, 2)))
CASES: list[tuple[ModelSignature, str, dict[str, Any]]] = [
    (NAMED, "id int, DepDelay double, distance float", {}),
    (NAMED, "id int, DepDelay double, miles double", {}),  # open
    (NAMED, "id int, DepDelay double, miles double", {"columns": {"distance": "miles"}}),
    (NAMED, "id int, dep_delay bigint, distance double", {}),  # would lose values
    (NAMED, "id int, DepDelay double, dep__delay double, distance float", {}),
    (OPTIONAL, "id int, dep_delay double, n int", {}),
    (OPTIONAL, "id int, dep_delay double, n int, Note float", {}),
    (OPTIONAL, "id int, dep_delay double, n int, note_ int, _NOTE int", {"columns": {"note": ""}}),
    (OPTIONAL, "id int, dep_delay double, n int, NOTE int", {"columns": {"note": ""}}),  # refused
    (NAMED, "id int, dep_delay double, distance float", {"columns": {"distance": "miles"}}),
    (NAMED, "id int, dep_delay double, distance float", {"columns": {"distance": ""}}),
    (NAMED, "id int, dep_delay double, distance float", {"id_columns": ["ID"]}),
    (NAMED, "id int, dep_delay double, distance float", {"id_columns": ["id", "id"]}),
    (NAMED, "id int, dep_delay double, distance float, prediction int", {}),
    (NAMED, "id int, dep_delay double, prediction int", {"id_columns": ["prediction"]}),
    (BLOCK, "id int, x double, y float, all array<double>", {"features": ["x", "y", "all"]}),
    (BLOCK, "id int, x double, y float, all array<double>", {}),
    (BLOCK, "id int, x double, y float, all array<double>", {"features": ["y", "x"]}),
    (BLOCK, "id int, x double, y float, all array<double>", {"features": ["all"]}),
    (NAMED, "id int, dep_delay double, distance double", {"id_columns": []}),
]


@embedded
@pytest.mark.parametrize("case", CASES)
def test_the_page_proposes_what_the_command_proposes(
    api: TestClient, name: str, table: Path, case: tuple[ModelSignature, str, dict[str, Any]]
) -> None:
    signature, columns, choices = case
    number = register(name, delay_model(), signature=signature).version
    table = table.with_name(f"{name}-{number}")
    row = [[0.5, 1.5] if "array" in kind else 1 for kind in columns.split(", ")]
    make_table(table, [row, row], columns)  # no column identifies a row
    facts = {"id_columns": ["id"], **choices}
    answer = api.post(f"/api/models/{name}/versions/{number}/proposal", json=asked(table, **facts))
    page = answer.json()
    words = [f"--id={key}" for key in facts["id_columns"]]
    words += [f"--column={f}={c}" for f, c in facts.get("columns", {}).items()]
    words += [f"--feature={c}" for c in facts.get("features", [])]
    given = ["--input", f"tables/{table.name}", "--output", "tables/predictions"]
    told = CliRunner().invoke(app, ["apply", f"{name}/{number}", *given, *words, "--json"])
    if not told.stdout:
        assert told.stderr == f"error: {page['error']['message']}\n"
        return
    command = json.loads(told.stdout)
    keys = command.pop("unique")
    assert keys is None or keys["columns"] == []
    assert page.pop("unique") is None  # it reads no rows to find keys
    fits = [page["fits"][place] for place in page["fitting"]]
    names = [field["name"] for field in command["input"]["columns"]]
    for feature, places in zip(command["features"], fits, strict=False):
        fitting = [names[place] for place in places]
        assert set(feature.pop("candidates")) <= set(fitting)
        assert feature["column"] is None or page["ordered"] or feature["column"] in fitting
    assert {key: value for key, value in page.items() if key not in ONLY_OF_THE_PAGE} == command


def nested(depth: int) -> Any:
    kind: Any = "double"
    for _ in range(depth):
        kind = {"type": "array", "elementType": kind, "containsNull": True}
    return kind


def accepts(request: applying.Request, feature: str, column: str) -> bool:
    try:
        request.propose(applying.Choices(columns={feature: column}))
    except TypesDiffer:
        return False
    return True


@embedded
def test_a_select_has_exactly_the_columns_that_the_command_accepts(
    api: TestClient, name: str, table: Path
) -> None:
    kinds = ["double", "float", "long", "integer", "string", "boolean", "binary", "datetime"]
    register(
        name,
        delay_model(),
        signature=signed(
            *(ColSpec(kind, f"f_{kind}", required=n % 2 == 0) for n, kind in enumerate(kinds)),
            ColSpec(Array("double"), "f_doubles"),
            ColSpec(Array("long"), "f_longs"),
            ColSpec(Object([Property("a", "double")]), "f_object"),
            ColSpec(Object([Property("b", "double")]), "f_other_object"),
            ColSpec(AnyType(), "f_any"),
        ),
    )
    types: list[Any] = [
        "double", "float", "long", "integer", "short", "byte", "string", "boolean", "binary",
        "date", "timestamp", "decimal(9,2)", "decimal(9,0)", "decimal(30,0)", nested(1), nested(2),
        {"type": "struct", "fields": [column("a")]},
        {"type": "struct", "fields": [column("b", "float")]},
    ]  # fmt: skip
    write_log(table, [column(f"c{n}", kind) for n, kind in enumerate(types)])
    page = propose(api, name, asked(table))
    request = applying.request(f"{name}/1", f"tables/{name}", "tables/predictions")
    for feature, fit in zip(page["features"], page["fitting"], strict=True):
        accepted = [n for n in range(len(types)) if accepts(request, feature["feature"], f"c{n}")]
        assert page["fits"][fit] == accepted, feature


def test_both_kinds_of_store_say_what_mlmodel_says(
    api: TestClient, name: str, table: Path, store: Store
) -> None:
    """A signature in a tag is no evidence: anyone who can write tags can set it."""
    made = register(name, delay_model(), signature=doubles("dep_delay", "distance"))
    registry.register(made.source, name)  # writes the tag of version 2
    tags = store.client.get_model_version(name, "2").tags
    false = tags["lakescore.card"].replace("distance", "elevation")
    store.client.set_model_version_tag(name, "1", "lakescore.card", false)
    shown = registry.describe(f"{name}/1").signature
    assert shown is not None
    assert "elevation" in str(shown)
    make_table(table, [], "id int, dep_delay double, distance double")
    proposal = propose(api, name, asked(table, id_columns=["id"]))
    assert [feature["feature"] for feature in proposal["features"]] == FEATURES
    assert yaml.safe_load(proposal["job_file"]) == {
        "model": f"{name}/1",
        "input": {"path": f"tables/{name}"},
        "output": {"path": "tables/predictions"},
        "id_columns": ["id"],
    }
    assert proposal["writes"] == str(store.folder / "tables/predictions")


# --- from two files alone


EVENTS: list[tuple[str, tuple[Any, ...]]] | None = None


def note(event: str, values: tuple[Any, ...]) -> None:
    if EVENTS is not None and event in {"open", "pickle.find_class", "os.mkdir", "os.symlink"}:
        EVENTS.append((event, values))


@embedded
def test_no_row_and_no_model_is_read_and_nothing_is_written(
    api: TestClient, name: str, table: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(name, delay_model(), signature=doubles("dep_delay", "distance"))
    make_table(table, [(1, 2.0, 3.0)], "id int, dep_delay double, distance double")
    for file in table.glob("*.parquet"):
        file.unlink()
    folder = stored_artifacts(store.client, name, 1)
    for file in folder.rglob("*"):
        if file.is_file() and file.name != "MLmodel":
            file.unlink()
    propose(api, name, asked(table))  # imports what it needs
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    copies = list(scratch().rglob("*"))
    sys.addaudithook(note)
    monkeypatch.setattr(sys.modules[__name__], "EVENTS", [])
    proposal = propose(api, name, asked(table, id_columns=["id"]))
    events, _ = EVENTS or [], monkeypatch.undo()
    assert proposal["complete"]
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before
    assert list(scratch().rglob("*")) == copies
    assert [event for event, _ in events if event != "open"] == []
    opened = [(os.fspath(v[0]), v[2]) for _, v in events if not isinstance(v[0], int)]
    assert [path for path, flags in opened if flags & (os.O_WRONLY | os.O_RDWR)] == []
    below = [path for path, _ in opened if str(path).startswith(str(folder))]
    assert set(below) == {str(folder / "MLmodel")}


@embedded
def test_a_model_file_that_is_a_link_is_not_followed(
    api: TestClient, name: str, table: Path, store: Store, tmp_path: Path
) -> None:
    register(name, delay_model(), signature=doubles("dep_delay"))
    make_table(table, [], "id int, dep_delay double")
    file = stored_artifacts(store.client, name, 1) / "MLmodel"
    (tmp_path / "secret").write_text("secret: [")
    file.unlink()
    file.symlink_to(tmp_path / "secret")
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(table))
    assert "is a link; links are not followed" in refusal(answer, 422)
    assert "secret" not in answer.text


@embedded
def test_versions_that_cannot_score_and_models_that_are_not_shown_are_refused(
    api: TestClient, name: str, table: Path
) -> None:
    register(name, delay_model(), signature=None)
    make_table(table, [], "id int, dep_delay double")
    to = f"/api/models/{name}/versions/1/proposal"
    assert "SignatureMissing" in refusal(api.post(to, json=asked(table)), 422)
    assert "VersionNotFound" in refusal(api.post(to.replace("/1/", "/7/"), json=asked(table)), 404)
    assert "NotServed" in refusal(client("other").post(to, json=asked(table)), 403)
    facts = asked(table, path="x")
    assert "BadRequest: body.path" in refusal(api.post(to, json=facts), 400)


@embedded
def test_a_policy_that_refuses_the_command_refuses_the_page(
    api: TestClient, name: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(name, delay_model(), signature=doubles("dep_delay"))
    make_table(table, [], "id int, dep_delay double")
    given = ["--input", f"tables/{name}", "--output", "tables/p", "--id=id"]
    for rule in ("flavours: [xgboost]", "formats: [skops]", "tags: {reviewed: null}"):
        (tmp_path / "trust.yaml").write_text(f"trust: {{{rule}}}")
        monkeypatch.setenv("LAKESCORE_TRUST", str(tmp_path / "trust.yaml"))
        answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(table))
        line = refusal(answer, 422)
        told = CliRunner().invoke(app, ["apply", f"{name}/1", *given])
        assert told.stderr == f"error: {line.removeprefix('NotTrusted: ')}\n"


@embedded
def test_without_pyspark_one_line_says_what_to_install(
    api: TestClient, name: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakescore.jars.find_spec", lambda _: None)
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(table))
    assert "PySpark is not installed" in refusal(answer, 400)


# --- only tables below one folder

ELSEWHERE = [
    "", ".", "..", "./", "tables/..", "../outside/t", "tables/../../outside/t", "OUTSIDE/t",
    "/OUTSIDE/t", "//OUTSIDE/t", "file:OUTSIDE/t", "file://OUTSIDE/t", "~/t", "./~/t", "~root/t",
    "%2e%2e/outside/t", "..%2foutside/t", "a%20b/t", "s3a://bucket/t", "https://evil.example/t",
    "main.db.table", "linked", "folder/t", "log", "entry", "loop", "loop/t", "pipe", "mlflow.db",
    "artifacts", "tables", "t\0", "t\n", "x" * 5000, "x/" * 3000, "no/such/table",
]  # fmt: skip


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a table that no name must reach, and links to it in a folder of tables."""
    base = tmp_path_factory.mktemp("below")
    root, outside = base / "root", base / "outside"
    make_table(outside / "t", [(1, 2.0)], "id int, secret_column double")
    make_table(root / "tables/t", [(1, 2.0)], "id int, dep_delay double")
    (root / "linked").symlink_to(outside / "t")
    (root / "folder").symlink_to(outside)
    for name in ("log", "entry", "pipe"):
        (root / name).mkdir()
    log = outside / "t/_delta_log"
    (root / "log/_delta_log").symlink_to(log)
    for name in ("entry", "pipe"):
        (root / name / "_delta_log").mkdir()
    (root / f"entry/_delta_log/{0:020}.json").symlink_to(log / f"{0:020}.json")
    os.mkfifo(root / f"pipe/_delta_log/{0:020}.json")
    (root / "loop").symlink_to(root / "loop")
    (root / "mlflow.db").write_bytes(b"SQLite format 3\0")
    (root / "artifacts").mkdir()
    make_table(root / "a b/t", [], "id int")
    return outside


@embedded
@pytest.mark.parametrize("given", ["home", "tables"])
def test_tables_that_are_elsewhere_and_none_at_all_get_one_answer(
    outside: Path, store: Store, name: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not registry.models(name):
        register(name, delay_model(), signature=doubles("dep_delay"))
    root = outside.parent / "root"
    monkeypatch.setenv("HOME", str(outside))
    if given == "home":
        monkeypatch.setenv("LAKESCORE_HOME", str(root))
    else:
        make_table(store.folder / "only_in_home", [], "id int, dep_delay double", mode="overwrite")
    api = client(tables=root if given == "tables" else None)
    names = [text.replace("OUTSIDE", str(outside)) for text in [*ELSEWHERE, "only_in_home"]]
    answers = set()
    for each in names:
        facts = {"input": each, "output": "p", "id_columns": ["id"]}
        answer = api.post(f"/api/models/{name}/versions/1/proposal", json=facts)
        line = refusal(answer, 404)
        assert "secret_column" not in answer.text, each
        assert line.startswith("TableNotServed: "), (each, line)
        answers.add((line.rpartition("is no table")[2], answer.json()["error"]["code"]))
    assert len(answers) == 1
    assert str(root) in next(iter(answers))[0]
    proposal = propose(api, name, {"input": "tables/t", "output": "p", "id_columns": ["id"]})
    place = "tables/t" if given == "home" else f"{root}/tables/t"
    target = "./p" if given == "home" else f"{root}/p"
    assert proposal["job"]["input"] == {"path": place}
    assert proposal["job"]["output"] == {"path": target}
    assert proposal["input"]["table"] == f"{root}/tables/t"
    assert proposal["writes"] == f"{root}/p"


@embedded
@pytest.mark.parametrize("output", ["../p", "/etc/p", "s3a://b/p", "~/p", "", "a/../../p", "a%20b"])
def test_an_output_elsewhere_is_refused(
    api: TestClient, name: str, table: Path, output: str
) -> None:
    if not registry.models(name):
        register(name, delay_model(), signature=doubles("dep_delay"))
    make_table(table, [], "id int, dep_delay double", mode="overwrite")
    facts = {**asked(table, id_columns=["id"]), "output": output}
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=facts)
    assert f"TableNotServed: {output!r} is no table" in refusal(answer, 404)


# --- tables of strangers

HOSTILE = [
    "it's", 'say "x"', "</script><script>window.ran=1</script>", "<img src=x onerror=ran=1>",
    "a => b", "--", "# x: y", "null", "~", "=", "[1, 2]", "*a", "&a", "%s", "%20", "a\\n", "$x",
    "{{ 7*7 }}", "'; DROP TABLE t; --", "/* */", "- x", "? y", " z ", "yes", "1", "01", "0x1F",
    "1e3", "2013-12-01", "<<", "!!python/object/apply:os.system [id]", "key: |", "@x", "é", "日本",
    "__proto__", "constructor", "toString", "a,b;{}()", "x" * 250,
]  # fmt: skip
UNSEEN = ["a\nb", "ab\u202e", "\ufeff", "a\u200bb", "\x1b[2J", "a\r", "c\u2028d", "${env:HOME}"]


def check_texts(proposal: Mapping[str, Any], columns: Mapping[str, str], key: str) -> None:
    """Check that the job's file and the lines of Python hold exactly these names."""
    expected = {"columns": dict(columns), "id_columns": [key]}
    job = yaml.safe_load(proposal["job_file"])
    assert job == proposal["job"]
    assert {name: job[name] for name in expected} == expected
    tree = ast.parse(proposal["python"])
    assert [type(statement) for statement in tree.body] == [ast.Import, ast.Assign]
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {k.arg: ast.literal_eval(k.value) for k in call.keywords} == job


@embedded
def test_hostile_names_stay_names_in_all_texts(api: TestClient, name: str, table: Path) -> None:
    features = {f"f{number}": column for number, column in enumerate(HOSTILE)}
    register(name, delay_model(), signature=doubles(*features))
    write_log(table, [column(each) for each in HOSTILE])
    facts = asked(table, columns=features, id_columns=[HOSTILE[2]])
    proposal = propose(api, name, facts)
    assert [field["name"] for field in proposal["input"]["columns"]] == HOSTILE
    check_texts(proposal, features, HOSTILE[2])
    # sqlglot knows another function PREDICT, of three arguments
    query = proposal["sql"].replace(", PREDICT(", ", F(")
    (tree,) = sqlglot.parse(query, dialect="spark")
    assert tree is not None
    assert [node.this for node in tree.find_all(exp.Literal)] == [f"{name}/1"]
    (source,) = tree.find_all(exp.Table)
    assert source.name == str(table)
    read = [node.name for node in tree.find_all(exp.Column)]
    assert sorted(read) == sorted([HOSTILE[2], *HOSTILE])


@embedded
def test_names_that_cannot_be_seen_are_escaped_and_have_no_sql(
    api: TestClient, name: str, table: Path
) -> None:
    features = {f"f{number}": column for number, column in enumerate(UNSEEN)}
    register(name, delay_model(), signature=doubles(*features))
    write_log(table, [column(each) for each in UNSEEN])
    proposal = propose(api, name, asked(table, columns=features, id_columns=[UNSEEN[0]]))
    check_texts(proposal, features, UNSEEN[0])
    assert proposal["job_file"].replace("\n", "").isprintable()
    assert proposal["python"].replace("\n", "").isprintable()
    assert proposal["sql"] is None
    assert "cannot be seen" in proposal["sql_reason"]


@embedded
def test_thousands_of_columns_take_seconds_and_more_are_refused(
    api: TestClient, name: str, table: Path
) -> None:
    most = proposing.MOST_COLUMNS
    register(name, delay_model(), signature=doubles(*(f"feature_{n}" for n in range(most - 1))))
    columns = [column("id", "integer"), *(column(f"Feature{n}") for n in range(most - 1))]
    write_log(table, columns)
    began = time.process_time()
    proposal = propose(api, name, asked(table, id_columns=["id"]))
    assert time.process_time() - began < 30
    assert len(yaml.safe_load(proposal["job_file"])["columns"]) == most - 1
    assert proposal["fitting"] == [0] * (most - 1)  # one list for all features
    wide = table.with_name(f"{name}-wide")
    write_log(wide, [*columns, column("more")])
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(wide))
    assert f"has {most + 1:,} columns, and the page shows at most" in refusal(answer, 422)
    long = table.with_name(f"{name}-long")
    inner = [column(f"a rather long name of a field {n}") for n in range(2000)]
    struct = {"type": "struct", "fields": inner}
    write_log(long, [column(f"c{n}", struct) for n in range(30)])
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(long))
    assert "a schema of" in refusal(answer, 422)


def struct(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "struct", "fields": fields})


BROKEN: list[tuple[str, int]] = [
    ("{", 422),
    (json.dumps("double"), 422),
    (struct(), 422),
    (struct(column("a", "geometry")), 422),
    (struct(column("a", "variant")), 422),
    (struct(column("a", "decimal(99,2)")), 422),
    (struct(column("a", nested(500))), 422),
    (struct(column("a", nested(40))), 200),
    (struct(column("a", "interval year")), 200),
    (struct(column("a"), column("a")), 422),
]


@embedded
@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_strange_schema_is_shown_or_refused_in_one_line(
    api: TestClient, name: str, table: Path, number: int
) -> None:
    if not registry.models(name):
        register(name, delay_model(), signature=doubles("dep_delay"))
    schema, status = BROKEN[number]
    table = table.with_name(f"{name}-{number}")
    write_log(table, schema)
    answer = api.post(f"/api/models/{name}/versions/1/proposal", json=asked(table))
    if status == 200:
        assert answer.json()["features"][0]["status"] == "open"
    else:
        assert "cannot be read without Spark" in refusal(answer, status)
