"""The commands as a person types them, one after another, on both stores."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from builders.models import register
from typer.testing import CliRunner

from lakescore.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


PLAIN = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture
def run() -> Callable[..., str]:
    """Return a caller of a command that must end with 0; it returns what was printed."""

    def call(*words: str, code: int = 0) -> str:
        answer = CliRunner().invoke(app, words, env=PLAIN, prog_name="lakescore")
        assert answer.exit_code == code, answer.output
        assert max(map(len, answer.stdout.splitlines() or [""])) <= 80 or "--json" in words
        return answer.stdout if code == 0 else answer.stderr

    return call


@pytest.mark.usefixtures("store")
def test_a_models_life(run: Callable[..., str], name: str, tmp_path: Path) -> None:
    run_ids = [
        register(
            "trained", run_name=f"run {rmse}", params={"trees": trees}, metrics={"rmse": rmse}
        ).run_id
        for rmse, trees in ((12.5, 40), (11.0, 100))
    ]
    assert run("create", name, "--tag", "team=ops", "--description", "x") == f"created {name}\n"
    for run_id in run_ids:
        run("register", run_id, name, "--tag", "quarter=Q4", "--await")
    assert run("promote", f"{name}/1", "--to", "champion", "--expect", "0") == (
        f"{name}@champion: none -> 1\n"
    )
    assert run(
        "promote", f"{name}/2", "--to", "champion", "--expect", "1", "--evidence", run_ids[1]
    )
    assert "points at version 2, but version 1 was expected" in run(
        "promote", f"{name}/1", "--to", "champion", "--expect", "1", code=7
    )
    assert re.search(rf"{name} +2 +2 +champion=2 +team=ops", run("models", f"{name}*"))
    table = run("versions", name, "--columns", "version,aliases,metrics.*,params.trees")
    assert [line.split() for line in table.splitlines()[-2:]] == [
        ["2", "champion", "11", "100"],
        ["1", "12.5", "40"],
    ]
    shown = run("show", f"{name}@champion")
    assert re.search(r"inputs +dep_delay +double", shown)
    assert "├── MLmodel" in shown
    assert "── requirements.txt  14 B" in run("files", f"{name}/1")
    copied = run("files", f"{name}/1", "MLmodel", "--to", str(tmp_path))
    assert "flavors:" in (tmp_path / "MLmodel").read_text()
    assert "MLmodel" in copied.replace("\n", "")
    assert "compatible: the signatures are equal" in run("diff", f"{name}/1", f"{name}/2").replace(
        "\n", " "
    )
    assert run("tag", f"{name}/2", "a=b") == f"models:/{name}/2: a=b, quarter=Q4\n"
    assert run("untag", f"{name}/2", "a", "quarter") == f"models:/{name}/2: no tags\n"
    assert run("rollback", name, "--alias", "champion", "--reason", "late") == (
        f"{name}@champion: 2 -> 1\n"
    )
    assert run("withdraw", name, "--alias", "champion") == f"{name}@champion: 1 -> none\n"
    assert run("withdraw", name, "--alias", "champion") == (
        f"{name}@champion is no version already\n"
    )
    assert run("rollback", name, "--alias", "champion") == f"{name}@champion: none -> 1\n"
    assert "late" in run("history", name)
    assert run("history", name, "--at", "2999-01-01") == "champion was version 1\n"
    assert run("history", name, "--at", "1999-01-01").startswith("the ledger has no alias")
    assert "2" in run("resolve", name, "--order-by", "metrics.rmse")


MEASURED = (
    *("rmse", "mae", "mape", "r2", "max_error", "median_absolute_error", "bias"),
    *("mean_pinball_loss_0.1", "mean_pinball_loss_0.9", "absolute_error_p90", "absolute_error_p95"),
)


@pytest.mark.usefixtures("store")
def test_a_listing_shows_every_value_whatever_a_comparison_logged(
    run: Callable[..., str], name: str
) -> None:
    every, name = 6, name[:9]
    for version in range(every):
        metrics = {
            f"{metric}{bound}": 1000.0 * version + 10 * n + part
            for n, metric in enumerate(MEASURED, 1)
            for part, bound in enumerate(("", ".low", ".high"))
        }
        params = {"trees": f"{version}00", "objective": "regression_l1"}
        register(name, run_name=f"run {version}", params=params, metrics=metrics)
    asked = ("versions", name, "--order-by", "version")
    for count in (1, 2, every):  # the last are too many to stand side by side
        shown = run(
            *asked, "--limit", str(count), "--columns", "version,aliases,metrics.*,params.*"
        )
        words = shown.split()
        for version in range(count):
            values = [f"{1000 * version + 10 * n:,}" for n in range(1, len(MEASURED) + 1)]
            for text in (str(version + 1), f"{version}00", *values):
                assert text in words, text
            assert f"{1000 * version + 11:,}" not in words  # a bound
        assert words.count("regression_l1") == count
        assert "metrics.mean_pinball_loss_0.1" in words
    for pattern in ("rmse.*", "*.low", "rmse.low"):  # that take bounds, and not their metric
        assert "11" in run(*asked, "--columns", f"version,metrics.{pattern}").split(), pattern
    words = run("diff", *[f"{name}/{n}" for n in range(1, every + 1)]).split()
    for version in range(every):
        assert {f"{1000 * version + 10:,}", f"{1000 * version + 11:,}"} <= set(words)


KEYS_OF_VERSION = {
    *("name", "version", "uri", "status", "description", "created_at", "updated_at", "aliases"),
    *("tags", "run_id", "run_name", "source", "logged_model_id", "params", "metrics"),
    *("measured_on", "flavours"),
    *("formats", "mlflow_version", "python_version", "size", "digest", "signature", "files"),
}


@pytest.mark.usefixtures("store")
def test_every_command_speaks_json_with_keys_that_stay(
    run: Callable[..., str], name: str, tmp_path: Path
) -> None:
    def facts(*words: str) -> Any:
        return json.loads(run(*words, "--json"))

    run_id = register("trained", run_name="one", metrics={"rmse": 12.5}).run_id
    models = {"name", "versions", "latest", "aliases", "tags", "description"}
    assert facts("create", name).keys() == models | {"created_at", "changed_at"}
    assert facts("register", run_id, name, "--alias", "challenger").keys() == KEYS_OF_VERSION
    assert facts("models", name)[0].keys() == models | {"created_at", "changed_at"}
    assert facts("versions", name)[0].keys() == KEYS_OF_VERSION
    assert facts("versions", name, "--columns", "version,metrics.*") == [
        {"version": 1, "metrics.rmse": 12.5}
    ]
    assert facts("versions", name, "--explain") == {
        "server": [f"name = '{name}'"],
        "here": [],
        "files": False,
    }
    assert facts("show", f"{name}/1").keys() == KEYS_OF_VERSION
    assert facts("resolve", f"{name}/1").keys() == KEYS_OF_VERSION | {"reference", "digest_by"}
    assert facts("files", f"{name}/1")[0] == {
        "path": "MLmodel",
        "size": facts("files", f"{name}/1")[0]["size"],
    }
    assert facts("files", f"{name}/1", "MLmodel", "--to", str(tmp_path)).keys() == {"path", "copy"}
    difference = facts("diff", f"{name}/1", f"{name}/1")
    assert difference.keys() == {"versions", "lines", "verdicts"}
    assert difference["verdicts"][0].keys() == {"from", "to", "verdict", "reasons"}
    assert difference["lines"][0].keys() == {"group", "key", "values", "differs"}
    assert facts("diff", f"{name}/1", f"{name}/1", "--changed")["lines"] == []
    assert facts("tag", f"{name}/1", "a=b") == {"of": f"models:/{name}/1", "tags": {"a": "b"}}
    assert facts("tag", name, "a=b", "--model") == {"of": name, "tags": {"a": "b"}}
    assert facts("untag", f"{name}/1", "a") == {"of": f"models:/{name}/1", "tags": {}}
    moved = facts("promote", f"{name}/1", "--to", "champion")
    assert moved.keys() == {"status", "name", "alias", "from", "to", "number"}
    run("register", run_id, name, "--alias", "champion")
    assert facts("rollback", name, "--alias", "champion") == {
        **moved,
        "from": 2,
        "to": 1,
        "number": 4,
    }
    assert facts("history", name)[0].keys() == {
        *("number", "when", "alias", "from", "to", "by", "kind", "reason", "evidence", "done")
    }
    assert facts("history", name, "--at", "2999-01-01") == {"challenger": 1, "champion": 1}
