from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders.tables import make_table
from typer.testing import CliRunner

from lakescore.cli import app
from lakescore.config import JOBS, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result
    from conftest import Golden, Registry

ROOT = Path(__file__).parents[2]
PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
HEAVY = {"mlflow", "pandas", "pyspark", "numpy", "sklearn", "rich.table", "sqlglot"}
Cli = Callable[..., "Result"]


@pytest.fixture
def cli() -> Cli:
    """Return a caller of the command in this process, which has imported MLflow already."""

    def call(*arguments: str, columns: int = 80) -> Result:
        environment = PLAIN | {"COLUMNS": str(columns)}
        return CliRunner().invoke(app, arguments, env=environment, prog_name="lakescore")

    return call


def imported(statements: str, *, environment: dict[str, str] | None = None) -> set[str]:
    """Return the modules that a new process holds after *statements*."""
    code = f"import sys\n{statements}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | PLAIN | (environment or {}),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "command",
    [
        *(
            "",
            "explain",
            "models",
            "versions",
            "show",
            "files",
            "diff",
            "report",
            "serve",
            "resolve",
            "environment",
        ),
        *(
            "create",
            "register",
            "tag",
            "untag",
            "promote",
            "rollback",
            "withdraw",
            "history",
            "schema",
            "check",
            "schedule",
            "apply",
        ),
    ],
)
def test_the_help_reads_as_agreed(cli: Cli, golden: Golden, command: str) -> None:
    answer = cli(*command.split(), "--help")
    assert answer.exit_code == 0
    assert "Exit codes: 0 done" in answer.stdout
    options = answer.stdout.partition("\nOptions:\n")[2]
    assert re.findall(r"--[a-z-]+ <[^>]+>", options) == []  # one style: words in capitals
    golden(f"help-{command}".rstrip("-"), answer.stdout)


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_help_of_a_job_reads_as_agreed(golden: Golden, job: str) -> None:
    done = subprocess.run(
        [ROOT / "spark-submit.sh", job, "--help"],
        env=os.environ | PLAIN,
        capture_output=True,
        text=True,
        check=True,
    )
    golden(f"help-job-{job}", done.stdout)
    assert done.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    statements = (
        "from lakescore.cli import app\n"
        "for words in ['--help'], ['promote', '--help'], ['schema', 'score']:\n"
        "    try: app(words)\n"
        "    except SystemExit: pass"
    )
    modules = imported(statements)
    assert "lakescore.config" in modules  # the schema was printed
    assert modules & HEAVY == set()


def test_importing_the_registry_imports_neither_mlflow_nor_spark() -> None:
    modules = imported("import lakescore.registry")
    assert "lakescore.registry.store" in modules
    assert modules & {"mlflow", "pandas", "pyspark"} == set()


def test_a_version_is_resolved_where_spark_is_not_installed(registry: Registry) -> None:
    """MLflow imports Spark if it is installed; lakescore may not need it here."""
    modules = imported(
        "sys.modules |= {'pyspark': None, 'delta': None}\n"
        "from lakescore.registry import resolve\n"
        "assert resolve('flight-delay@champion').version == 3",
        environment={"MLFLOW_TRACKING_URI": registry.uri},
    )
    assert {name for name in modules if name.startswith(("pyspark.", "delta."))} == set()


def nested(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object type within *schema*."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from nested(part)


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_schema_of_a_job_describes_every_key_and_allows_no_other(cli: Cli, job: str) -> None:
    schema = json.loads(cli("schema", job).stdout)
    assert schema["properties"].keys() == JOBS[job].model_fields.keys()
    objects = list(nested(schema))
    scored = {"Table", "InputTable", "Pyfunc", "Segments", "Otherwise"}
    compared = {*scored, "VersionQuery", "Slices", "Disagreements", "Gates", "Gate"}
    compared |= {"SliceGate", "Groups", "RateGate"}
    monitored = {"Table", "Baseline", "DriftGates", "Labels"}
    expected = {*scored, "Expectations", "RowCount", "Newest"}
    within = {"score": expected, "compare": compared, "replay": {"Table"}, "monitor": monitored}[
        job
    ]
    names = {JOBS[job].__name__, "Trust", *within}
    assert {kind["title"] for kind in objects} == names
    for kind in objects:
        assert kind["additionalProperties"] is False
        assert [key for key, field in kind["properties"].items() if not field["description"]] == []


def test_a_version_is_told_to_machines(cli: Cli, registry: Registry) -> None:
    stored = registry.client.get_model_version("flight-delay", "3")
    answer = cli("resolve", "flight-delay@champion", "--json")
    assert (answer.exit_code, answer.stderr) == (0, "")
    facts = json.loads(answer.stdout)
    assert facts.pop("created_at").endswith("+00:00")
    assert facts.pop("updated_at").endswith("+00:00")
    assert facts.pop("digest").startswith("sha256:")
    assert facts.pop("signature").keys() == {"inputs", "outputs", "params"}
    assert [file["path"] for file in facts.pop("files")][:2] == ["MLmodel", "conda.yaml"]
    for varying in ("size", "mlflow_version", "python_version"):
        assert facts.pop(varying)
    assert facts == {
        "name": "flight-delay",
        "version": 3,
        "uri": "models:/flight-delay/3",
        "status": "READY",
        "description": None,
        "aliases": ["champion", "stable"],
        "source": stored.source,
        "flavours": ["sklearn"],
        "formats": ["cloudpickle"],
        "tags": {"kind": "trees"},
        "run_id": stored.run_id,
        "run_name": "boosting",
        "logged_model_id": stored.source.removeprefix("models:/"),
        "params": {"trees": "100"},
        "metrics": {"rmse": 15.75, "mae": 10.5},
        "measured_on": {},
        "reference": "flight-delay@champion",
        "digest_by": None,
    }


@pytest.mark.usefixtures("registry")
def test_a_version_is_told_to_people_in_80_columns(cli: Cli) -> None:
    answer = cli("show", "flight-delay@champion")
    lines = answer.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    told = {line.split()[0]: line.split()[1:] for line in lines if len(line.split()) > 1}
    assert told["version"] == ["3"]
    assert told["uri"] == ["models:/flight-delay/3"]
    assert told["aliases"] == ["champion,", "stable"]
    assert told["rmse"] == ["15.75"]
    assert told["inputs"] == ["distance", "double"]
    assert told["outputs"] == ["-", "tensor(float64,", "[-1])"]
    assert told["└──"][0] == "requirements.txt"


@pytest.mark.usefixtures("registry")
def test_versions_are_told_to_people(cli: Cli) -> None:
    answer = cli("versions", "flight-delay", columns=120)
    lines = [line.split() for line in answer.stdout.splitlines() if line.strip(" ─")]
    assert lines[0] == ["version", "aliases", "created_at", "run_name", "metrics"]
    assert [line[0] for line in lines[1:]] == ["5", "3", "2", "1"]
    assert lines[2][1:3] == ["champion,", "stable"]
    assert lines[2][-3:] == ["boosting", "rmse=15.75,", "mae=10.5"]


@pytest.mark.usefixtures("registry")
def test_columns_are_chosen_by_name_and_pattern(cli: Cli) -> None:
    columns = "version,metrics.rmse,params.*,tags.`my key`,tags.k*"
    answer = cli("versions", "flight-delay", "--columns", columns)
    assert [line.split() for line in answer.stdout.splitlines()] == [
        ["metrics", "params", "params", "tags", "tags"],
        ["version", "rmse", "trees", "alpha", "my", "key", "kind"],
        ["─" * 80]
        if answer.stdout.splitlines()[2] == "─" * 80
        else [answer.stdout.splitlines()[2]],
        ["5", "15.75", "100", "trees"],
        ["3", "15.75", "100", "trees"],
        ["2", "16.5", "40", "a", "b", "trees"],
        ["1", "18.25", "0.5", "linear"],
    ]


@pytest.mark.usefixtures("registry")
def test_the_plan_of_a_filter_is_told(cli: Cli) -> None:
    where = "metrics.rmse < 17 and tags.kind = 'trees' and (size > 10 or version = 1)"
    assert cli("versions", "flight-delay", "--where", where, "--explain").stdout.splitlines() == [
        "server: name = 'flight-delay'",
        "server: tags.`kind` = 'trees'",
        "here:   metrics.rmse < 17",
        "here:   size > 10 OR version = 1",
        "files:  read for each version that lakescore register did not register",
    ]


@pytest.mark.usefixtures("registry")
def test_only_what_is_there_is_told(cli: Cli) -> None:
    nothing = cli("versions", "flight-delay", "--where", "version = 4")
    assert (nothing.exit_code, nothing.stdout) == (0, "flight-delay has no such versions\n")
    assert cli("models", "zebra-*").stdout == "no registered models\n"
    assert cli("history", "unsigned").stdout == "no alias of unsigned was ever moved\n"


def test_markup_in_a_fact_is_shown_as_it_was_written(cli: Cli, registry: Registry) -> None:
    registry.client.set_model_version_tag("flight-delay", "1", "note", "[red]late[/red] [/x]")
    try:
        told = cli("show", "flight-delay/1")
    finally:
        registry.client.delete_model_version_tag("flight-delay", "1", "note")
    assert "note   [red]late[/red] [/x]" in told.stdout


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("arguments", "code", "begin"),
    [
        (["resolve", "flight-dely/1"], 3, "error: there is no registered model 'flight-dely' at "),
        (["resolve", "flight-delay"], 3, "error: cannot read the reference 'flight-delay': "),
        (["resolve", "flight-delay/4"], 3, "error: version 4 of 'flight-delay' was deleted; "),
        (
            ["versions", "flight-delay", "--where", "rmse <"],
            3,
            "error: cannot read the filter 'rms",
        ),
        (["versions", "flight-delay", "--columns", "x"], 2, "error: there is no column 'x'; colum"),
        (["diff", "flight-delay/1"], 2, "error: give two versions or more: "),
        (["tag", "flight-delay/1", "x"], 2, "error: 'x' is not a tag; write key=value"),
        (["tag", "flight-delay/1", "lakescore.card=x"], 3, "error: cannot use 'lakescore.card' as"),
        (["files", "flight-delay/1", "MLmodel"], 2, "error: to copy one file give both: PATH and "),
        (
            ["history", "flight-delay", "--at", "noon"],
            2,
            "error: 'noon' is not a time; write 2026-",
        ),
        (["resolve", "flight-delay/1", "--where", "version = 1"], 3, "error: cannot read the refe"),
        (
            ["resolve", "flight-delay/1", "--trust", "none.yaml"],
            2,
            "error: there is no file no",
        ),
        (
            ["rollback", "flight-delay", "--alias", "champion"],
            3,
            "error: cannot roll back flight-delay@c",
        ),
        (["versions", "flight-dely"], 3, "error: there is no registered model 'flight-dely' at "),
        (["schema", "scroe"], 2, "error: there is no job 'scroe' (did you mean 'score'?); jobs: "),
        (
            ["schema", "zebra"],
            2,
            "error: there is no job 'zebra'; jobs: compare, monitor, replay, score",
        ),
        (
            ["check", "zebra", "x.yaml"],
            2,
            "error: there is no job 'zebra'; jobs: compare, monitor, replay, score",
        ),
        (["check", "score", "none/x.yaml"], 2, "error: there is no file none/x.yaml; "),
        (["check", "score", "conf/score.yaml", "x"], 2, "error: 'x' is not an override; "),
    ],
)
def test_an_error_is_one_line_on_standard_error(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, begin: str
) -> None:
    monkeypatch.chdir(ROOT)
    answer = cli(*arguments)
    assert answer.exit_code == code
    assert answer.stdout == ""
    assert answer.stderr.startswith(begin), answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["resolve"], ["reslove", "x/1"], ["versions", "--jsn", "x"]])
def test_a_usage_error_ends_with_2(cli: Cli, arguments: list[str]) -> None:
    answer = cli(*arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")


def java(folder: Path, says: str) -> str:
    """Return a JAVA_HOME whose java says *says* of its version."""
    file = folder / "bin" / "java"
    file.parent.mkdir(parents=True)
    file.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\n")
    file.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    "says",
    [
        'openjdk version "17.0.15" 2025-04-15',
        'openjdk version "21" 2023-09-19',
        'java version "25.0.1" 2025-10-21 LTS',
        'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.15" 2025-04-15',
    ],
)
def test_a_job_with_java_17_or_newer_can_start(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, says))
    path = str(ROOT / "conf" / "score.yaml")
    answer = cli("check", "score", path, "--files")
    line = f"{path}: every key is known, and every value fits; Java: found\n"
    assert (answer.exit_code, answer.output) == (0, line)


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "java is version 11;"),
        ('java version "1.8.0_402"', "java is version 1;"),
        ("Segmentation fault", "java is version unknown;"),
    ],
)
def test_a_job_with_an_older_java_is_told_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, complaint: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, says))
    answer = cli("check", "score", str(ROOT / "conf" / "score.yaml"))
    assert answer.exit_code == 1
    assert answer.stderr.startswith("error: Spark needs Java 17 or newer, but ")
    assert complaint in answer.stderr


def test_a_java_home_without_java_is_told_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    answer = cli("check", "score", str(ROOT / "conf" / "score.yaml"))
    assert answer.exit_code == 1
    assert f"{tmp_path}/bin/java does not run" in answer.stderr


CHECKED = "model: {model}\ninput: {{path: {table}}}\noutput: {{path: out}}\nid_columns: [id]\n"


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("model", "table", "place", "code", "line"),
    [
        ("flight-delay@champion", "trips", "local", 0, "model flight-delay@champion: models:/"),
        ("flight-delay@champion", "trips", "local", 0, "trips: version 0\n"),
        ("flight-delay/99", "trips", "local", 3, "'flight-delay' has no version 99"),
        ("flight-delay@champion", "nothing", "local", 5, "error: there is no table at "),
        ("flight-delay@champion", "trips", "moon", 2, "error: there is no place 'moon'"),
    ],
)
def test_a_check_looks_at_the_model_the_table_and_the_place(  # noqa: PLR0913, PLR0917
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, table: str, place: str,
    code: int, line: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, 'openjdk version "17.0.15" 2025-04-15'))
    monkeypatch.setenv("PLACE", place)
    make_table(tmp_path / "trips", [(1,)], "id int")
    path = tmp_path / "score.yaml"
    path.write_text(CHECKED.format(model=model, table=tmp_path / table))
    answer = cli("check", "score", str(path))
    assert answer.exit_code == code
    assert line in answer.output


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_commented_file_of_a_job_works(cli: Cli, tmp_path: Path, job: str) -> None:
    answer = cli("schema", job, "--yaml")
    assert answer.exit_code == 0
    (tmp_path / "trust.yaml").write_text("trust: {digest: optional}\n")
    lines = answer.stdout.splitlines()
    keys = [line.removeprefix("# ").partition(":")[0] for line in lines]
    assert [name for name in JOBS[job].model_fields if name not in keys] == []
    for number, line in enumerate(lines):
        if keys[number] in JOBS[job].model_fields:  # also without its #, if it has one
            text = "\n".join([*lines[:number], line.removeprefix("# "), *lines[number + 1 :]])
            (tmp_path / "job.yaml").write_text(text)
            load(JOBS[job], tmp_path / "job.yaml")


@pytest.mark.usefixtures("registry")
def test_a_report_is_written_and_says_where(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for output, file in {
        None: "report-flight-delay.html", "made/anew": "made/anew/report-flight-delay.html",
        "page.html": "page.html",
    }.items():  # fmt: skip
        asked = ["--output", output] if output else []
        answer = cli("report", "flight-delay", "--where", "metrics.rmse > 0", *asked)
        assert (answer.exit_code, answer.stdout.strip()) == (0, str(tmp_path / file))
        assert "has the best stored" in Path(file).read_text(encoding="utf-8")


@pytest.mark.usefixtures("registry")
def test_the_document_is_told_to_machines_and_no_page_is_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = cli("report", "flight-delay", "--json", "--order-by", "metrics.rmse", "--limit", "2")
    document: dict[str, Any] = json.loads(answer.stdout)
    assert document["format"] == "lakescore-report/1"
    assert [version["name"] for version in document["versions"]] == ["flight-delay"] * 2
    assert document["versions"][0]["signature"]["inputs"]
    assert document["repeat"][0]["command"] == (
        "lakescore report flight-delay --order-by metrics.rmse --limit 2"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("registry")
def test_a_model_without_such_versions_is_an_error(cli: Cli) -> None:
    answer = cli("report", "flight-delay", "--where", "metrics.rmse < 0")
    assert answer.exit_code == 2
    assert "has no version that matches 'metrics.rmse < 0'" in answer.stderr
