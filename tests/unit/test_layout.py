from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from lakescore import session
from lakescore.errors import ConfigError
from lakescore.session import ConnectUnavailable

ROOT = Path(__file__).parents[2]
JOBS = sorted((ROOT / "jobs").glob("*.py"))
PLACES = sorted((ROOT / "conf" / "spark").glob("*.conf"))


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.stem)
def test_the_functions_of_a_job_are_read_in_one_glance(job: Path) -> None:
    tree = ast.parse(job.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    lines = job.read_text().splitlines()
    sizes = {
        node.name: sum(bool(line) for line in lines[node.lineno - 1 : node.end_lineno])
        for node in functions
    }
    assert {name: size for name, size in sizes.items() if size > 35} == {}
    several = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple)
    ]
    assert several == []  # two statements in one


@pytest.mark.parametrize(
    ("spark", "jars", "warning"),
    [
        ("4.2.0", "/jars/io.delta_delta-spark_4.2_2.13-4.4.0.jar,/jars/other-1.0.0.jar", ""),
        ("3.5.9", "io.delta:delta-spark_2.12:3.3.2", ""),
        ("4.0.5", "", ""),  # a platform has its own Delta
        ("4.2.0", "io.delta:delta-spark_4.2_2.13:5.0.0", "Spark 4.2.0 with Delta 5.0.0 was not"),
        ("4.3.0", "", "Spark 4.3.0 was not tested with lakescore; these were: Spark 3.5 with"),
    ],
)
def test_versions_that_nobody_tested_are_named(spark: str, jars: str, warning: str) -> None:
    complaint = session.untested_versions(spark, jars)
    assert complaint.startswith(warning)
    assert bool(complaint) == bool(warning)


def test_the_tested_versions_are_those_of_the_matrix() -> None:
    matrix = (ROOT / "scripts/matrix.sh").read_text()
    rows = re.findall(r"^\S+ +3\.\d+ +([\d.]+) +([\d.]+) +3", matrix, re.MULTILINE)
    assert len(rows) >= 4
    for spark, delta in rows:
        assert session.untested_versions(spark, f"delta-spark_2.13-{delta}.jar") == ""


def test_jobs_are_files_and_no_package() -> None:
    assert {path.stem for path in JOBS} >= {"score", "compare"}
    assert "__init__" not in {path.stem for path in JOBS}


def test_the_jars_are_those_of_the_installed_delta() -> None:
    lines = (ROOT / "conf" / "spark" / "jars.lock").read_text().splitlines()
    locked = dict(line.split() for line in lines if not line.startswith("#"))
    spark = version("pyspark").rpartition(".")[0]
    assert locked.keys() == {
        f"io.delta:delta-spark_{spark}_2.13:{version('delta-spark')}",
        f"io.delta:delta-storage:{version('delta-spark')}",
    }
    assert {len(bytes.fromhex(digest)) for digest in locked.values()} == {32}


def properties(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert len({key for key, _ in pairs}) == len(pairs), "the last of two would win silently"
    return {key: value for key, value in pairs}  # noqa: C416 - a pair is a list


@pytest.mark.parametrize("place", PLACES, ids=lambda path: path.stem)
def test_a_place_sets_properties_of_spark_that_delta_needs(place: Path) -> None:
    given = properties(place)
    assert [key for key in given if not key.startswith("spark.")] == []
    if "spark.remote" in given:
        return  # Delta is the server's
    assert "io.delta.sql.DeltaSparkSessionExtension" in given["spark.sql.extensions"]
    assert given["spark.sql.catalog.spark_catalog"].endswith(".DeltaCatalog")
    assert given["spark.sql.session.timeZone"] == "UTC"


def test_local_mode_tries_a_task_again_as_a_cluster_does() -> None:
    given = properties(ROOT / "conf" / "spark" / "local.conf")
    assert given["spark.master"] == "local[*,4]"


def test_the_wheel_holds_the_package_with_jobs_and_places_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == f"lakescore-{version('lakescore')}-py3-none-any.whl"
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"lakescore", f"lakescore-{version('lakescore')}.dist-info"}
    source = ROOT / "lib"
    ours = {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    ours |= {f"lakescore/project/jobs/{path.name}" for path in (ROOT / "jobs").glob("*.py")}
    assert {"lakescore/registry/__init__.py", "lakescore/py.typed"} <= names
    assert {"lakescore/project/conf/score.yaml", "lakescore/project/conf/spark/jars.lock"} <= names
    assert {name for name in names if name.endswith(".py")} == ours


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("lib/lakescore/new.py", False),  # GitHub's stock list for Python hides lib/
        ("lib/lakescore/registry/new.py", False),
        ("tests/unit/golden/new.txt", False),
        ("conf/spark/new.conf", False),
        (".lakescore/mlflow.db", True),
        ("lib/lakescore/__pycache__/new.pyc", True),
    ],
)
def test_git_ignores_what_is_made_and_nothing_that_is_written(path: str, *, ignored: bool) -> None:
    done = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=ROOT, check=False)
    assert done.returncode == (0 if ignored else 1)


def test_the_image_takes_what_is_there() -> None:
    lines = (ROOT / "conf/spark/Dockerfile").read_text().replace("\\\n", " ").splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert copied == ["conf"]  # the image installs the package
    assert [source for source in copied if not (ROOT / source).exists()] == []
    kubernetes = (ROOT / "conf/spark/kubernetes.conf").read_text()
    workdir = next(line.split()[1] for line in lines if line.startswith("WORKDIR"))
    assert f"{workdir}/.venv/bin/python" in kubernetes


def test_properties_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file .*local.conf"):
        session.start("never", properties=tmp_path / "local.conf")


def test_a_connect_server_is_asked_where_the_place_or_the_environment_names_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def connected(remote: str, settings: dict[str, str]) -> None:
        asked.append((remote, settings))
        raise ConnectUnavailable(remote)

    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    monkeypatch.setattr(session, "_active_session", lambda: None)  # other tests' session may be
    monkeypatch.setattr(session, "_connect", connected)
    place = tmp_path / "connect.conf"
    place.write_text("spark.remote sc://localhost:15002\nspark.sql.session.timeZone UTC\n")
    with pytest.raises(ConnectUnavailable):
        session.start("never", properties=place)
    monkeypatch.setenv("SPARK_REMOTE", "sc://elsewhere")
    with pytest.raises(ConnectUnavailable):
        session.start("never")
    utc = {"spark.sql.session.timeZone": "UTC"}
    assert asked == [("sc://localhost:15002", utc), ("sc://elsewhere", {})]


_PRIVATE = re.compile(r"\b(_jvm|_jdf|_jsparkSession|_jsc|_jconf|_gateway)\b")
_OF_A_DRIVER = re.compile(r"\bsparkContext\b|\.rdd\b|\baccumulator\(")


@pytest.mark.parametrize("folder", ["lib", "jobs"])
def test_nothing_needs_more_of_spark_than_it_offers_to_everybody(folder: str) -> None:
    sources = {path: path.read_text() for path in (ROOT / folder).rglob("*.py")}
    assert [path for path, text in sources.items() if _PRIVATE.search(text)] == []
    drivers = [path.name for path, text in sources.items() if _OF_A_DRIVER.search(text)]
    assert set(drivers) <= {"classic.py"}  # what a client of Spark Connect does without


def test_the_architecture_shows_the_layers_that_imports_are_checked_against() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## The layers")[2]
    lines = text.split("```")[1].splitlines()
    rows = [re.split(r" {2,}", line, maxsplit=1) for line in lines if line and line[0] != " "]
    assert all(len(row) == 2 for row in rows)  # names, and what they do
    assert [set(names.split(" | ")) for names, _ in rows] == [
        set(layer.split(" | ")) for layer in layers
    ]
