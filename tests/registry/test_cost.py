"""What a listing costs: requests are counted where the server answers them."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders.models import register
from typer.testing import CliRunner

from lakescore import registry
from lakescore.cli import app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Store

VERSIONS = 200


@pytest.fixture(scope="session")
def many(store: Store) -> str:
    """Make a model of 200 versions, each with a run and a logged model of its own, and tags."""
    import mlflow
    from mlflow.entities import Metric, Param

    database = mlflow.MlflowClient(store.database)  # the same store, without the server between
    template = register("template", run_name="template")
    place = database.get_run(template.run_id).info.experiment_id
    database.create_registered_model("many")
    for n in range(1, VERSIONS + 1):
        run_id = database.create_run(place, run_name=f"run {n}").info.run_id
        database.log_batch(run_id, [Metric("rmse", 100 - n / 10, 0, 0)], [Param("depth", str(n))])
        logged = database.create_logged_model(place, name="model", source_run_id=run_id)
        database.create_model_version(
            "many",
            f"models:/{logged.model_id}",
            run_id,
            {"team": "ops" if n % 2 else "stores"},
            model_id=logged.model_id,
        )
    database.set_registered_model_alias("many", "champion", "150")
    return "many"


@pytest.fixture(scope="session")
def regions(store: Store) -> list[str]:
    """Make 120 models: of each a version 1, of every third a 2 too; the last is its champion."""
    import mlflow

    database = mlflow.MlflowClient(store.database)
    template = register("template of regions", run_name="template")
    place = database.get_run(template.run_id).info.experiment_id
    files = next(store.folder.rglob(f"{template.source.rpartition('/')[2]}/artifacts"))
    names = [f"demand-{n}" for n in range(120)]
    for n, name in enumerate(names):
        database.create_registered_model(name)
        for _ in range(1 + (n % 3 == 0)):
            run_id = database.create_run(place, run_name=name).info.run_id
            logged = database.create_logged_model(place, name="model", source_run_id=run_id)
            shutil.copytree(files, files.parents[1] / logged.model_id / "artifacts")
            made = database.create_model_version(
                name, f"models:/{logged.model_id}", run_id, model_id=logged.model_id
            )
        database.set_registered_model_alias(name, "champion", made.version)
    return names


def counted(store: Store, ask: Callable[[], object]) -> tuple[list[str], float]:
    """Return the requests that *ask* makes of the server, and its seconds."""
    before = len(store.requests())
    began = time.monotonic()
    ask()
    seconds = time.monotonic() - began
    return store.requests()[before:], seconds


def test_200_versions_are_listed_in_a_handful_of_requests(store: Store, many: str) -> None:
    records = registry.versions(many)  # MLflow's first call of a process has much to import
    assert [record.version for record in records] == list(range(VERSIONS, 0, -1))
    assert (records[0].metrics, records[0].params) == ({"rmse": 80.0}, {"depth": "200"})
    assert records[50].aliases == ("champion",)
    assert len({record.run_name for record in records}) == VERSIONS
    if store.kind == "server":
        requests, seconds = counted(store, lambda: registry.versions(many))
        assert len(requests) <= 8, requests
        assert seconds < 5


def test_the_server_is_sent_what_it_can_filter(store: Store, many: str) -> None:
    listed = registry.versions(
        many, where="tags.team = 'ops' and version >= 191 and params.depth < 196"
    )
    assert [record.version for record in listed] == [195, 193, 191]
    if store.kind == "server":
        requests, _ = counted(
            store, lambda: registry.versions(many, where="tags.team = 'ops' and version >= 191")
        )
        assert len(requests) <= 5, requests


def test_a_limit_without_a_filter_of_our_own_is_the_servers(store: Store, many: str) -> None:
    assert [record.version for record in registry.versions(many, limit=3)] == [200, 199, 198]
    listed = registry.versions(many, order_by="metrics.rmse desc", limit=2)
    assert [record.version for record in listed] == [1, 2]
    if store.kind == "server":
        requests, _ = counted(store, lambda: registry.versions(many, limit=3))
        assert len(requests) <= 5, requests


def test_a_list_of_models_costs_two_requests(store: Store, many: str) -> None:
    by_name = {model.name: model for model in registry.models()}
    assert (by_name[many].versions, by_name[many].latest) == (VERSIONS, VERSIONS)
    assert by_name[many].aliases == {"champion": 150}
    if store.kind == "server":
        requests, seconds = counted(store, registry.models)
        assert len(requests) <= 2, requests
        assert seconds < 5


def test_a_version_is_pinned_in_a_handful_of_requests(store: Store) -> None:
    register("pinned", run_name="one")
    registry.resolve("pinned/1")
    if store.kind == "server":
        requests, _ = counted(store, lambda: registry.resolve("pinned/1"))
        of_metadata = [request for request in requests if "artifacts" not in request]
        assert len(of_metadata) <= 9, of_metadata  # three of them are the ledger's


def test_a_report_of_200_versions_costs_what_their_list_costs(
    store: Store, many: str, tmp_path: Path
) -> None:
    def report() -> None:
        asked = ["report", many, "--output", str(tmp_path)]
        answer = CliRunner().invoke(app, asked)
        assert (answer.exit_code, answer.stderr) == (0, "")

    report()
    assert (tmp_path / "report-many.html").exists()
    if store.kind == "server":
        requests, _ = counted(store, report)
        assert len(requests) <= 8, requests


def test_many_references_are_pinned_as_one_is_alone(store: Store, regions: list[str]) -> None:
    source = store.client.get_model_version("demand-7", "1").source
    registry.register(source, "demand-7", alias="champion")  # its digest is on record
    with_quote = "demand-o'hare"
    store.client.create_registered_model(with_quote)
    of_another = store.client.get_model_version("demand-0", "1")
    store.client.create_model_version(
        with_quote, of_another.source, model_id=of_another.source.rpartition("/")[2]
    )
    references = [
        *[f"{name}@champion" for name in regions],
        "demand-3/1",
        "models:/demand-3/2",  # the champion, once more
        "demand-4/latest",
        "demand-6/latest",
        "demand-6?where=version = 1",
        f"{with_quote}/1",
        store.client.get_model_version("demand-5", "1").source,
    ]
    pinned = registry.resolve_all(references)
    assert list(pinned) == references
    for reference in ["demand-7@champion", "demand-99@champion", *references[120:]]:
        alone = registry.resolve(reference)
        together = pinned[reference]
        assert isinstance(together, registry.ModelVersion)
        assert (together.artifacts / "MLmodel").is_file()
        assert replace(together, artifacts=alone.artifacts) == alone, reference
    by_ledger = pinned["demand-7@champion"]
    assert isinstance(by_ledger, registry.ModelVersion)
    assert by_ledger.digest_by is not None


def test_what_is_missing_of_many_references_is_said_of_each(regions: list[str]) -> None:
    answers = registry.resolve_all(
        [
            *[f"{name}@champion" for name in regions],
            "demand-1@challenger",
            "demand-2/2",
            "demand-120/latest",
            "demand-8?where=version = 3",
        ]
    )
    missing = {ref: error for ref, error in answers.items() if isinstance(error, Exception)}
    assert {reference: type(error).__name__ for reference, error in missing.items()} == {
        "demand-1@challenger": "AliasNotFound",
        "demand-2/2": "VersionNotFound",
        "demand-120/latest": "ModelNotFound",
        "demand-8?where=version = 3": "QueryNotUnique",
    }


def test_120_models_are_pinned_in_a_handful_of_requests(store: Store, regions: list[str]) -> None:
    if store.kind == "server":
        requests, _ = counted(
            store, lambda: registry.resolve_all([f"{name}@champion" for name in regions])
        )
        # Requests for artifacts are those for the files.
        asked = [request for request in requests if "mlflow-artifacts" not in request]
        # Ten, and up to four more for the ledger, if earlier tests wrote one to this server.
        assert len(asked) <= 14, asked
