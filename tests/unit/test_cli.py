from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from lakescore.cli import app
from lakescore.config import JOBS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    ("name", "arguments"),
    [
        ("help", ["--help"]),
        ("help-resolve", ["resolve", "--help"]),
        ("help-versions", ["versions", "--help"]),
        ("help-schema", ["schema", "--help"]),
        ("help-check", ["check", "--help"]),
    ],
)
def test_the_help_reads_as_agreed(
    cli: Cli, golden: Golden, name: str, arguments: Sequence[str]
) -> None:
    answer = cli(*arguments)
    assert answer.exit_code == 0
    golden(name, answer.stdout)


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
        "for words in ['--help'], ['resolve', '--help'], ['schema', 'score']:\n"
        "    try: app(words)\n"
        "    except SystemExit: pass"
    )
    there = imported(statements)
    assert "lakescore.config" in there  # the schema was printed
    assert there & HEAVY == set()


def test_importing_the_registry_imports_neither_mlflow_nor_spark() -> None:
    there = imported("import lakescore.registry")
    assert "lakescore.registry.store" in there
    assert there & {"mlflow", "pandas", "pyspark"} == set()


def test_a_version_is_resolved_where_spark_is_not_installed(registry: Registry) -> None:
    """MLflow imports Spark where it finds it; nothing of what we do may need it."""
    there = imported(
        "sys.modules |= {'pyspark': None, 'delta': None}\n"
        "from lakescore.registry import resolve\n"
        "assert resolve('flight-delay@champion').version == 3",
        environment={"MLFLOW_TRACKING_URI": registry.uri},
    )
    assert {name for name in there if name.startswith(("pyspark.", "delta."))} == set()


def nested(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every object type within *schema*."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for each in schema.values():
            yield from nested(each)


@pytest.mark.parametrize("job", sorted(JOBS))
def test_the_schema_of_a_job_describes_every_key_and_allows_no_other(cli: Cli, job: str) -> None:
    schema = json.loads(cli("schema", job).stdout)
    assert schema["properties"].keys() == JOBS[job].model_fields.keys()
    objects = list(nested(schema))
    assert {each["title"] for each in objects} == {JOBS[job].__name__, "InputTable", "Table"}
    for each in objects:
        assert each["additionalProperties"] is False
        assert [key for key, field in each["properties"].items() if not field["description"]] == []


def test_a_version_is_told_to_machines(cli: Cli, registry: Registry) -> None:
    stored = registry.client.get_model_version("flight-delay", "3")
    answer = cli("resolve", "flight-delay@champion", "--json")
    assert (answer.exit_code, answer.stderr) == (0, "")
    facts = json.loads(answer.stdout)
    assert facts.pop("created_at").endswith("+00:00")
    assert facts.pop("digest").startswith("sha256:")
    assert facts.pop("signature").keys() == {"inputs", "outputs"}
    assert facts == {
        "name": "flight-delay",
        "version": 3,
        "uri": "models:/flight-delay/3",
        "status": "READY",
        "aliases": ["champion", "stable"],
        "tags": {"kind": "trees"},
        "run_id": stored.run_id,
        "run_name": "boosting",
        "logged_model_id": stored.source.removeprefix("models:/"),
        "params": {"trees": "100"},
        "metrics": {"rmse": 15.75, "mae": 10.5},
        "reference": "flight-delay@champion",
    }


@pytest.mark.usefixtures("registry")
def test_a_version_is_told_to_people(cli: Cli) -> None:
    answer = cli("resolve", "flight-delay@champion", columns=120)
    told = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.strip(" ─"))
    told = {key: value.strip() for key, value in told.items()}
    assert (told["name"], told["version"]) == ("flight-delay", "3")
    assert told["uri"] == "models:/flight-delay/3"
    assert told["aliases"] == "champion, stable"
    assert told["metrics"] == "rmse=15.75, mae=10.5"
    assert told["signature"].startswith("inputs=dep_delay: double, distance: double, outputs=")


@pytest.mark.usefixtures("registry")
def test_versions_are_told_to_people_a_line_each(cli: Cli) -> None:
    answer = cli("versions", "flight-delay", columns=200)
    lines = [line.split() for line in answer.stdout.splitlines() if line.strip(" ─")]
    assert lines[0] == ["version", "aliases", "created", "status", "run", "metrics"]
    assert [line[0] for line in lines[1:]] == ["5", "3", "2", "1"]
    assert lines[2][1:3] == ["champion", "stable"]
    assert lines[2][-3:] == ["boosting", "rmse=15.75,", "mae=10.5"]


@pytest.mark.usefixtures("registry")
def test_versions_are_told_to_machines(cli: Cli) -> None:
    records = json.loads(cli("versions", "flight-delay", "--json").stdout)
    assert [each["version"] for each in records] == [5, 3, 2, 1]
    assert records[1]["aliases"] == ["champion", "stable"]
    assert records[1].keys() == {
        *("name", "version", "uri", "status", "created_at", "aliases", "tags"),
        *("run_id", "run_name", "logged_model_id", "params", "metrics"),
    }


def test_markup_in_a_fact_is_shown_as_it_was_written(cli: Cli, registry: Registry) -> None:
    registry.client.set_model_version_tag("flight-delay", "1", "note", "[red]late[/red] [/x]")
    try:
        told = cli("resolve", "flight-delay/1", columns=200)
    finally:
        registry.client.delete_model_version_tag("flight-delay", "1", "note")
    assert "kind=linear, note=[red]late[/red] [/x]" in told.stdout


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("arguments", "code", "begin"),
    [
        (["resolve", "flight-dely/1"], 3, "error: no registered model 'flight-dely' at sqlite:"),
        (["resolve", "flight-delay"], 3, "error: cannot read the reference 'flight-delay': "),
        (["resolve", "flight-delay/4"], 3, "error: version 4 of 'flight-delay' was deleted; "),
        (["versions", "flight-dely"], 3, "error: no registered model 'flight-dely' at sqlite:"),
        (["schema", "scroe"], 2, "error: there is no job 'scroe' (did you mean 'score'?); jobs: "),
        (["schema", "zebra"], 2, "error: there is no job 'zebra'; jobs: score, compare"),
        (["check", "zebra", "x.yaml"], 2, "error: there is no job 'zebra'; jobs: score, compare"),
        (["check", "score", "none/x.yaml"], 2, "error: there is no job file none/x.yaml; "),
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
    assert answer.stderr.startswith(begin)
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
    answer = cli("check", "score", str(ROOT / "conf" / "score.yaml"))
    assert (answer.exit_code, answer.output) == (0, "")


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ('openjdk version "11.0.2" 2019-01-15', "java is version 11;"),
        ('java version "1.8.0_402"', "java is version 1;"),
        ("Segmentation fault", "java is version unknown;"),
    ],
)
def test_a_job_with_an_older_java_is_told_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str, found: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", java(tmp_path, says))
    answer = cli("check", "score", str(ROOT / "conf" / "score.yaml"))
    assert answer.exit_code == 1
    assert answer.stderr.startswith("error: Spark needs Java 17 or newer, and ")
    assert found in answer.stderr


def test_a_java_home_without_java_is_told_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    answer = cli("check", "score", str(ROOT / "conf" / "score.yaml"))
    assert answer.exit_code == 1
    assert f"{tmp_path}/bin/java does not run" in answer.stderr
