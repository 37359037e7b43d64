"""What MLflow's registry does unexpectedly, and what lakescore answers then, on both stores."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from builders.models import register as log_and_register

from lakescore import registry
from lakescore.registry import Trust
from lakescore.registry.errors import (
    ArtifactsMissing,
    FileExists,
    ModelExists,
    ModelNotFound,
    NotAModel,
    QueryNotUnique,
    SignatureMissing,
    TagNotFound,
    VersionDeleted,
    VersionNotFound,
)
from lakescore.trust import DigestDiffers, NotTrusted

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Store


def test_searches_forget_aliases(store: Store, name: str) -> None:
    log_and_register(name, run_name="one")
    store.client.set_registered_model_alias(name, "champion", "1")
    store.client.set_registered_model_alias(name, "Champion", "1")  # another one: cases differ
    assert store.client.search_model_versions(f"name = '{name}'")[0].aliases == []
    assert registry.versions(name)[0].aliases == ("Champion", "champion")
    assert [record.aliases for record in registry.versions(name, where="aliases = 'champion'")]


def test_a_version_knows_neither_metrics_nor_params(store: Store, name: str) -> None:
    log_and_register(name, run_name="one", params={"trees": 40}, metrics={"rmse": 16.5})
    theirs = store.client.get_model_version(name, "1")
    assert (theirs.metrics, theirs.params) == (None, None)
    (ours,) = registry.versions(name)
    assert (ours.metrics, ours.params, ours.run_name) == ({"rmse": 16.5}, {"trees": "40"}, "one")


def test_a_metric_logged_later_for_the_model_counts(store: Store, name: str) -> None:
    made = log_and_register(name, run_name="one", metrics={"rmse": 16.5})
    model_id = made.source.removeprefix("models:/")
    other = store.client.create_run(store.client.search_experiments()[0].experiment_id)
    store.client.log_metric(other.info.run_id, "auc", 0.9, model_id=model_id)
    assert registry.versions(name)[0].metrics == {"rmse": 16.5, "auc": 0.9}
    assert registry.describe(f"{name}/1").metrics == {"rmse": 16.5, "auc": 0.9}


def test_a_filter_on_a_tag_keeps_the_versions_without_it(store: Store, name: str) -> None:
    log_and_register(name, run_name="ops", tags={"team": "ops"})
    log_and_register(name, run_name="stores", tags={"team": "stores"})
    log_and_register(name, run_name="nobody's")
    theirs = store.client.search_model_versions(f"name = '{name}' and tags.team != 'ops'")
    assert [int(version.version) for version in theirs] == [2]  # the third one is dropped
    ours = registry.versions(name, where="tags.team != 'ops'")
    assert [record.version for record in ours] == [3, 2]
    assert [record.version for record in registry.versions(name, where="tags.team is null")] == [3]
    assert [record.version for record in registry.versions(name, where="tags.team = 'ops'")] == [1]


def test_a_deleted_version_takes_its_aliases_along(store: Store, name: str) -> None:
    for run_name in ("one", "two", "three"):
        log_and_register(name, run_name=run_name)
    store.client.set_registered_model_alias(name, "champion", "2")
    store.client.delete_model_version(name, "2")
    assert [record.version for record in registry.versions(name)] == [3, 1]
    assert registry.models(name)[0].aliases == {}
    with pytest.raises(VersionDeleted, match=r"version 2 of .* was deleted; there are: 1, 3$"):
        registry.describe(f"{name}/2")
    store.client.delete_model_version(name, "3")
    with pytest.raises(VersionNotFound, match=r"has no version 3; there are: 1$"):
        registry.describe(f"{name}/3")


def test_a_deleted_run_still_tells_its_facts(store: Store, name: str) -> None:
    made = log_and_register(name, run_name="one", metrics={"rmse": 1.5})
    log_and_register(name, run_name="two")
    store.client.delete_run(made.run_id)
    assert [record.run_name for record in registry.versions(name)] == ["two", "one"]
    assert registry.describe(f"{name}/1").metrics == {"rmse": 1.5}


@pytest.mark.parametrize("odd", ["a b's", 'say "x"', 'it\'s "both"', "50% off, _now", "crew@night"])
def test_a_name_with_odd_characters_is_found(name: str, odd: str) -> None:
    odd = f"{odd} {name[:9]}"
    log_and_register(odd, run_name="one")
    for wildcard in "'\"_%":  # wildcards and quotes, as MLflow's filter could read them
        if wildcard in odd:
            log_and_register(odd.replace(wildcard, "x"), run_name="another")
    assert [record.run_name for record in registry.versions(odd)] == ["one"]
    assert registry.describe(f"{odd}/latest").name == odd
    assert [(model.name, model.versions) for model in registry.models(odd)] == [(odd, 1)]


def test_a_version_tells_its_whole_record(store: Store, name: str) -> None:
    made = log_and_register(
        name, run_name="forest", params={"trees": 40}, metrics={"rmse": 16.5}, tags={"team": "ops"}
    )
    store.client.set_registered_model_alias(name, "champion", "1")
    store.client.update_model_version(name, "1", description="the first")
    facts = registry.describe(f"{name}@champion").facts()
    assert datetime.now(UTC) - datetime.fromisoformat(facts.pop("created_at")) < timedelta(hours=1)
    assert facts.pop("updated_at").endswith("+00:00")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", facts.pop("digest"))
    files = {file["path"]: file["size"] for file in facts.pop("files")}
    assert files.keys() == {
        *("MLmodel", "conda.yaml", "model.pkl", "python_env.yaml", "requirements.txt")
    }
    assert facts.pop("size") == sum(files.values()) > 0
    assert re.fullmatch(r"3\.\d+\.\d+", facts.pop("python_version"))
    assert re.fullmatch(r"3\.\d+\.\d+", facts.pop("mlflow_version"))
    signature = facts.pop("signature")
    assert [column["name"] for column in signature["inputs"]] == ["dep_delay", "distance"]
    assert signature["outputs"][0]["type"] == "tensor"
    assert signature["params"] is None
    assert facts == {
        "name": name,
        "version": 1,
        "uri": f"models:/{name}/1",
        "status": "READY",
        "description": "the first",
        "aliases": ["champion"],
        "tags": {"team": "ops"},
        "run_id": made.run_id,
        "run_name": "forest",
        "source": made.source,
        "logged_model_id": made.source.removeprefix("models:/"),
        "params": {"trees": "40"},
        "metrics": {"rmse": 16.5},
        "measured_on": {},  # no dataset was logged with them
        "flavours": ["sklearn"],
        "formats": ["cloudpickle"],
    }
    json.dumps(facts)


def logged_run(**options: Any) -> str:
    """Log a model in a run, and register it as another than the test's; return the run's id."""
    made = log_and_register("elsewhere", run_name="trained", metrics={"rmse": 9.5}, **options)
    return str(made.run_id)


def test_a_run_is_registered_and_its_card_stands_in_listings(name: str) -> None:
    run_id = logged_run()
    made = registry.register(run_id, name, tags={"team": "ops"}, alias="challenger", wait=30)
    assert (made.version, made.aliases, made.tags) == (1, ("challenger",), {"team": "ops"})
    assert (made.run_id, made.metrics) == (run_id, {"rmse": 9.5})
    (listed,) = registry.versions(name)
    assert listed == registry.describe(f"{name}/1")
    assert (listed.flavours, listed.digest) == (("sklearn",), registry.resolve(f"{name}/1").digest)
    assert [move.kind for move in registry.history(name)] == ["promote"]
    again = registry.register(f"runs:/{run_id}/model", name)
    assert (again.version, again.digest, again.source) == (2, made.digest, made.source)


def test_a_folder_is_copied_into_the_store(store: Store, name: str, tmp_path: Path) -> None:
    log_and_register(name, run_name="one")
    for file in registry.files(f"{name}/1"):
        registry.fetch_file(f"{name}/1", file.path, tmp_path / "model")
    made = registry.register(str(tmp_path / "model"), name)
    assert made.version == 2
    assert made.digest == registry.describe(f"{name}/1").digest
    assert registry.resolve(f"{name}/2").digest == made.digest
    assert str(tmp_path / "model") not in store.client.get_model_version_download_uri(name, "2")


def test_a_model_without_a_signature_is_registered_only_if_asked(name: str) -> None:
    run_id = logged_run(signature=None)
    with pytest.raises(SignatureMissing, match=run_id):
        registry.register(run_id, name)
    with pytest.raises(ModelNotFound):
        registry.versions(name)  # nothing was made on the way
    made = registry.register(run_id, name, signed=False)
    assert (made.version, made.signature) == (1, None)


@pytest.mark.parametrize(
    "source",
    [
        "0" * 32,
        f"runs:/{'0' * 32}/model",
        f"models:/m-{'0' * 32}",
        "models:/a/1",
        "runs:/x",
        "/none",
    ],
)
def test_what_is_no_model_is_not_registered(name: str, source: str) -> None:
    with pytest.raises(NotAModel) as refused:
        registry.register(source, name)
    assert refused.value.exit_code == 3


def test_files_that_changed_since_they_were_registered_are_not_loaded(
    store: Store, name: str, tmp_path: Path
) -> None:
    made = registry.register(logged_run(), name)
    (tmp_path / "extra.txt").write_text("added")
    store.client.log_model_artifacts(str(made.logged_model_id), str(tmp_path))
    with pytest.raises(DigestDiffers, match="the ledger says") as refused:
        registry.resolve(f"{name}/1")
    assert refused.value.exit_code == 4


def test_the_policy_is_checked_before_anything_is_fetched(store: Store, name: str) -> None:
    log_and_register(name, run_name="one", tags={"approved": "yes"})
    scheme = store.uri.partition(":")[0]
    place = store.client.get_model_version_download_uri(name, "1").partition(":")[0]
    good = Trust(
        registries=(scheme,),
        sources=(place,),
        flavours=("sklearn",),
        formats=("cloudpickle",),
        tags={"approved": "yes"},
    )
    assert registry.resolve(f"{name}/1", trust=good).version == 1
    for rule, policy in {
        "registries": Trust(registries=("databricks",)),
        "sources": Trust(sources=("s3",)),
        "tags": Trust(tags={"approved": "no"}),
        "aliases": Trust(aliases=("champion",)),
        "digest": Trust(digest="required"),
        "flavours": Trust(flavours=("xgboost",)),
        "formats": Trust(formats=("skops",)),
    }.items():
        with pytest.raises(NotTrusted, match=f"the trust policy's rule '{rule}'"):
            registry.resolve(f"{name}/1", trust=policy)


def test_a_query_names_one_version_or_none(name: str) -> None:
    for rmse in (9.0, 9.0, 12.0):
        log_and_register(name, run_name=f"{rmse}", metrics={"rmse": rmse})
    assert registry.resolve(f"{name}?order_by=metrics.rmse desc").version == 3
    with pytest.raises(QueryNotUnique, match="matches versions 1, 2, but must match exactly one"):
        registry.resolve(f"{name}?order_by=metrics.rmse")


def test_models_are_made_tagged_and_listed(store: Store, name: str) -> None:
    made = registry.create(f"{name}-a", tags={"team": "ops"}, description="for later")
    assert (made.versions, made.latest, made.tags) == (0, None, {"team": "ops"})
    with pytest.raises(ModelExists):
        registry.create(f"{name}-a")
    log_and_register(f"{name}-b", run_name="one")
    store.client.set_registered_model_alias(f"{name}-b", "champion", "1")
    registry.tag(f"{name}-b", {"team": "stores", "x/y": "1"}, of_model=True)
    assert [
        model.facts() | {"created_at": 0, "changed_at": 0} for model in registry.models(f"{name}-*")
    ] == [
        {
            "name": f"{name}-a",
            "versions": 0,
            "latest": None,
            "aliases": {},
            "tags": {"team": "ops"},
            "description": "for later",
            "created_at": 0,
            "changed_at": 0,
        },
        {
            "name": f"{name}-b",
            "versions": 1,
            "latest": 1,
            "aliases": {"champion": 1},
            "tags": {"team": "stores", "x/y": "1"},
            "description": None,
            "created_at": 0,
            "changed_at": 0,
        },
    ]
    assert [model.name for model in registry.models(f"{name}-*", tags={"team": "ops"})] == [
        f"{name}-a"
    ]
    assert [model.name for model in registry.models(f"{name}-*", tags={"x/y": None})] == [
        f"{name}-b"
    ]


def test_tags_of_a_version_are_added_changed_and_removed(store: Store, name: str) -> None:
    log_and_register(name, run_name="one", tags={"team": "ops"})
    registry.tag(f"{name}/1", {"team": "stores", "quarter": "Q4"})
    assert registry.describe(f"{name}/1").tags == {"team": "stores", "quarter": "Q4"}
    with pytest.raises(TagNotFound, match=r"has no tag 'quarte' \(did you mean 'quarter'\?\)"):
        registry.untag(f"{name}/1", ["team", "quarte"])
    assert registry.untag(f"{name}/1", ["team"]).tags == {"quarter": "Q4"}
    assert store.client.get_model_version(name, "1").tags == {"quarter": "Q4"}


def test_one_file_is_fetched_and_no_other_file_is_overwritten(name: str, tmp_path: Path) -> None:
    log_and_register(name, run_name="one")
    copy = registry.fetch_file(f"{name}/1", "requirements.txt", tmp_path / "new")
    assert copy == tmp_path / "new" / "requirements.txt"
    assert (
        copy.stat().st_size
        == {file.path: file.size for file in registry.files(f"{name}/1")}["requirements.txt"]
    )
    with pytest.raises(FileExists, match="exists already"):
        registry.fetch_file(f"{name}/1", "requirements.txt", tmp_path / "new")
    for path in ("../MLmodel", "/etc/passwd", "MLmodel/..", "nosuch", "mlmodel"):
        with pytest.raises(ArtifactsMissing, match="there is no file"):
            registry.fetch_file(f"{name}/1", path, tmp_path / "other")
    assert not (tmp_path / "other").exists()
