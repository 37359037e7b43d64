from __future__ import annotations

import dataclasses
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from builders.models import register

from lakescore.errors import IntegrityError, RegistryError
from lakescore.registry import connect, digest_of, experiment, resolve, versions
from lakescore.registry.errors import (
    AliasNotFound,
    ArtifactsMissing,
    BadReference,
    ModelNotFound,
    NoTrackingStore,
    QueryNotUnique,
    RegistryUnavailable,
    SignatureMissing,
    VersionDeleted,
    VersionNotFound,
    VersionNotReady,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Registry


@pytest.fixture
def use(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a setter of the tracking URI; the session's registry is put back afterwards."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(registry.uri)


LITTLE_ROOM = """
import resource, sys
from lakescore.registry.errors import ModelNotCopied
from lakescore.registry import artifacts
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    artifacts.fetch("models:/large/1", sys.argv[1])
except ModelNotCopied as error:
    print(error.exit_code, error)
"""
"""A program in which no file may grow beyond a kilobyte."""


def test_no_room_for_a_models_copy_is_worth_a_retry(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "model.pkl").write_bytes(bytes(4096))
    command = [sys.executable, "-c", LITTLE_ROOM, tmp_path.as_uri()]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert re.match(
        r"75 the files of models:/large/1 cannot be copied to .*File too large", printed
    )


@pytest.fixture
def toy(registry: Registry) -> Iterator[Path]:
    """Register toy/1 for this test alone; yield the folder in which the store keeps its files."""
    register("toy", run_name="toy")
    yield registry.files("toy", 1)
    registry.client.delete_registered_model("toy")


def write_status(registry: Registry, name: str, status: str) -> None:
    with closing(sqlite3.connect(registry.home / "mlflow.db")) as store, store:
        store.execute("UPDATE model_versions SET status = ? WHERE name = ?", (status, name))


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("flight-delay/1", 1),
        ("models:/flight-delay/1", 1),
        ("flight-delay@champion", 3),
        ("models:/flight-delay@challenger", 2),
        ("flight-delay/latest", 5),
        ("models:/flight-delay/latest", 5),
        ("flight-delay?where=version = 2", 2),
        ("flight-delay?where=version = '2'", 2),
        ("flight-delay?where=metrics.rmse > 18", 1),
        ("flight-delay?where=18 < metrics.rmse", 1),
        ("flight-delay?where=metrics.rmse > 16 and not metrics.rmse > 17", 2),
        ("flight-delay?where=(version = 1 or version = 2) and metrics.mae <= 11", 2),
        ("flight-delay?where=version not in (1, 2, 5)", 3),
        ("flight-delay?where=params.trees < 50", 2),  # a param is text, and compares as a number
        ("flight-delay?where=params.alpha = 0.5", 1),
        ("flight-delay?where=params.trees is null", 1),
        ("flight-delay?where=metrics.mae is null", 5),
        ("flight-delay?where=tags.kind != 'trees'", 1),
        ("flight-delay?where=tags.team = 'ops'", 5),
        ("flight-delay?where=tags.`my key` = 'a b'", 2),
        ("flight-delay?where=aliases = 'stable'", 3),
        ("flight-delay?where=aliases in ('challenger', 'none')", 2),
        ("flight-delay?where=run_name = 'ridge'", 1),
        ("flight-delay?where=run_name like 'boosting %'", 5),
        ("flight-delay?where=run_name like 'r_dge'", 1),
        ("flight-delay?where=created_at > '2020-01-01' and version = 1", 1),
        ("flight-delay?order_by=version", 1),
        ("flight-delay?order_by=version desc", 5),
        ("flight-delay?order_by=created_at DESC", 5),
        ("flight-delay?order_by=metrics.mae", 3),  # version 5 has no mae, and never stands first
        ("flight-delay?order_by=metrics.mae desc", 1),
        ("flight-delay?where=metrics.rmse < 17&order_by=metrics.rmse desc", 2),
    ],
)
def test_every_form_names_one_version(reference: str, version: int) -> None:
    model = resolve(reference)
    assert (model.version, model.reference) == (version, reference)
    assert model.uri == f"models:/flight-delay/{version}"


def test_a_logged_model_names_the_version_registered_from_it(registry: Registry) -> None:
    source = registry.client.get_model_version("flight-delay", "2").source
    assert re.fullmatch(r"models:/m-[0-9a-f]{32}", source)
    assert resolve(source).uri == "models:/flight-delay/2"


def test_a_version_says_all_that_is_known_of_it(registry: Registry) -> None:
    stored = registry.client.get_model_version("flight-delay", "3")
    model = resolve("flight-delay@champion")
    assert (model.name, model.version, model.status) == ("flight-delay", 3, "READY")
    assert model.uri == "models:/flight-delay/3"
    assert model.reference == "flight-delay@champion"
    assert model.params == {"trees": "100"}
    assert model.metrics == {"rmse": 15.75, "mae": 10.5}
    assert model.tags == {"kind": "trees"}
    assert model.aliases == ("champion", "stable")
    assert (model.run_id, model.run_name) == (stored.run_id, "boosting")
    assert f"models:/{model.logged_model_id}" == stored.source
    assert model.signature.inputs.input_names() == ["dep_delay", "distance"]
    assert model.signature.outputs is not None
    assert (model.artifacts / "MLmodel").is_file()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", model.digest)
    assert model.created_at.tzinfo is UTC
    assert datetime.now(UTC) - model.created_at < timedelta(hours=1)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("field", ["version", "uri", "digest", "params", "new"])
def test_a_resolved_version_is_frozen(field: str) -> None:
    model = resolve("flight-delay/1")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
        setattr(model, field, "changed")


def test_an_alias_that_moved_is_not_followed(registry: Registry) -> None:
    registry.client.set_registered_model_alias("flight-delay", "moving", "1")
    before = resolve("flight-delay@moving")
    registry.client.set_registered_model_alias("flight-delay", "moving", "2")
    after = resolve("flight-delay@moving")
    registry.client.delete_registered_model_alias("flight-delay", "moving")
    assert (before.uri, after.uri) == ("models:/flight-delay/1", "models:/flight-delay/2")
    assert before.run_name == "ridge"
    assert before.aliases == ("moving",)


@pytest.mark.usefixtures("registry")
def test_two_copies_of_one_version_have_one_digest() -> None:
    first, second = resolve("flight-delay/1"), resolve("models:/flight-delay/1")
    assert first.artifacts != second.artifacts
    assert first.digest == second.digest
    assert first.digest != resolve("flight-delay/2").digest


def test_the_copy_is_private(registry: Registry) -> None:
    folder = resolve("flight-delay/1").artifacts
    assert registry.files("flight-delay", 1) not in (folder, *folder.parents)
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "model.pkl").write_bytes(b"another model"),
        lambda folder: (folder / "extra.txt").write_text(""),
        lambda folder: (folder / "conda.yaml").unlink(),
        lambda folder: (folder / "conda.yaml").rename(folder / "conda.yml"),
        lambda folder: (folder / "sub").mkdir() or (folder / "sub" / "x").write_text("x"),
    ],
    ids=["changed", "added", "removed", "renamed", "added in a folder"],
)
def test_the_digest_tells_a_change_of_any_file(toy: Path, change: Callable[[Path], None]) -> None:
    before = resolve("toy/1")
    change(toy)
    assert resolve("toy/1").digest != before.digest
    assert digest_of(before.artifacts) == before.digest


@pytest.mark.parametrize("target", ["/etc/hostname", "/etc", "../../..", "/nonexistent"])
def test_a_link_that_leads_out_of_the_artifacts_is_not_followed(toy: Path, target: str) -> None:
    (toy / "link").symlink_to(target)
    with pytest.raises(IntegrityError) as refused:
        resolve("toy/1")
    assert refused.value.exit_code == 4


def test_a_folder_with_a_link_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("../MLmodel")
    with pytest.raises(IntegrityError, match="data/link is a symbolic link"):
        digest_of(tmp_path)


def test_artifacts_that_are_gone_are_said_to_be(toy: Path) -> None:
    (toy / "MLmodel").unlink()
    with pytest.raises(ArtifactsMissing, match=r"models:/toy/1 .* no MLmodel file"):
        resolve("toy/1")
    shutil.rmtree(toy)
    with pytest.raises(ArtifactsMissing, match="models:/toy/1") as refused:
        resolve("toy/1")
    assert refused.value.exit_code == 4


@pytest.mark.usefixtures("toy")
@pytest.mark.parametrize("status", ["PENDING_REGISTRATION", "FAILED_REGISTRATION"])
def test_a_version_that_is_not_ready_is_refused(registry: Registry, status: str) -> None:
    write_status(registry, "toy", status)
    with pytest.raises(VersionNotReady, match=f"models:/toy/1 is {status}") as refused:
        resolve("toy/1")
    assert refused.value.exit_code == 3


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("reference", "kind", "sentence"),
    [
        (
            "flight-dely/1",
            ModelNotFound,
            r"at sqlite:.* \(did you mean 'flight-delay'\?\); there are: crew@night, flight-delay",
        ),
        ("zebra@champion", ModelNotFound, "mlflow.db; there are: crew@night"),  # nothing is near
        ("flight-dely/latest", ModelNotFound, "did you mean 'flight-delay'"),
        ("flight-dely?where=version = 1", ModelNotFound, "did you mean 'flight-delay'"),
        ("Flight-Delay/1", ModelNotFound, "no registered model 'Flight-Delay'"),
        ("flight' or '1' = '1/1", ModelNotFound, "no registered model \"flight' or '1' = '1\""),
        (
            "flight-delay@champoin",
            AliasNotFound,
            r"\(did you mean 'champion'\?\); there are: challenger \(version 2\), champion \(ver",
        ),
        ("flight-delay@latest", AliasNotFound, "no alias 'latest'"),
        ("unsigned@champion", AliasNotFound, "there are: none$"),
        ("flight-delay/9", VersionNotFound, "no version 9; there are: 1, 2, 3, 5$"),
        ("flight-delay/0", VersionNotFound, "no version 0; there are: 1, 2, 3, 5$"),
        (
            "flight-delay/4",
            VersionDeleted,
            "version 4 of 'flight-delay' was deleted; there are: 1, 2, 3, 5$",
        ),
        ("unsigned/1", SignatureMissing, "models:/unsigned/1 has no signature"),
        (
            "models:/m-" + "0" * 32,
            QueryNotUnique,
            "matches no version, but must match exactly one; there are: none$",
        ),
    ],
)
def test_what_is_not_there_is_answered_with_what_is(
    reference: str, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as refused:
        resolve(reference)
    assert type(refused.value) is kind
    assert refused.value.exit_code == 3  # type: ignore[attr-defined]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("where=metrics.rmse < 16", "versions 3, 5"),
        ("where=version >= 1", "versions 1, 2, 3, 5"),
        ("order_by=metrics.rmse", "versions 3, 5"),  # a tie is never broken by chance
        ("where=metrics.rmse < 17&order_by=metrics.rmse asc", "versions 3, 5"),
        ("where=metrics.rmse < 1", "no version"),
        ("where=version = 4", "no version"),  # it was deleted
        ("where=metrics.nosuch < 1", "no version"),
        ("where=not metrics.nosuch is null", "no version"),
        ("where=version = 'two'", "no version"),
        ("where=tags.kind > 3", "no version"),  # text that is no number
        ("where=tags.kind in ()", "no version"),
        ("order_by=metrics.nosuch", "no version"),
    ],
)
def test_a_query_must_name_exactly_one_version(query: str, matches: str) -> None:
    with pytest.raises(QueryNotUnique, match=f"matches {matches}, but must match") as refused:
        resolve(f"flight-delay?{query}")
    assert "flight-delay/3 (champion, stable, rmse 15.75, mae 10.5)" in str(refused.value)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "query",
    [
        "where=reflect('java.lang.Runtime', 'getRuntime') = 1",  # Spark would call it
        "where=java_method('java.lang.System', 'exit', '1') = 1",
        "where=version = 1; DROP TABLE model_versions",
        "where=1=1; drop table",
        "where=version = 1 UNION SELECT 1",
        "where=SELECT 1",
        "where=version = (SELECT 1)",
        "where=version IN (SELECT version FROM model_versions)",
        "where=EXISTS (SELECT 1)",
        "where=upper(tags.kind) = 'TREES'",
        "where=version = length('a')",
        "where=CAST(version AS string) = '1'",
        "where=CASE WHEN version = 1 THEN true END",
        "where=version + 0 = 1",
        "where=version || '' = '1'",
        "where=tags['kind'] = 'trees'",
        "where=tags.kind rlike '(a+)+b'",
        "where=__import__('os').system('true')",
        "where=version.__class__ = 1",
        "where=x.metrics.rmse = 1",
        "where=artifacts = 1",  # a field of the record that is no column
        "where=metrics = 1",
        "where=nosuch = 1",
        "where=* = 1",
        "where=version",
        "where=true",
        "where=aliases > 3",
        "where=version = -'x'",
        "where=" + "(" * 900 + "version = 1" + ")" * 40,
        "where=" + "not " * 240 + "version = 1",
        "order_by=aliases",
        "where=version = 1 or",
        "where='unclosed",
        "where=(version = 1",
        "order_by=metrics.rmse, version",
        "order_by=metrics.rmse limit 1",
        "order_by=rand()",
        "order_by=(SELECT 1)",
    ],
)
def test_a_filter_holds_columns_and_comparisons_only(query: str) -> None:
    with pytest.raises(BadReference) as refused:
        resolve(f"flight-delay?{query}")
    assert refused.value.exit_code == 3
    assert str(refused.value).isprintable()


@pytest.mark.usefixtures("registry")
def test_a_misspelt_column_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadReference, match=r"did you mean 'metrics'\?"):
        resolve("flight-delay?where=metric.rmse < 12")


def test_versions_are_listed_newest_first(registry: Registry) -> None:
    records = versions("flight-delay")
    assert [
        (record.version, record.aliases, record.run_name, dict(record.metrics))
        for record in records
    ] == [
        (5, (), "boosting again", {"rmse": 15.75}),
        (3, ("champion", "stable"), "boosting", {"rmse": 15.75, "mae": 10.5}),
        (2, ("challenger",), "forest", {"rmse": 16.5, "mae": 11.0}),
        (1, (), "ridge", {"rmse": 18.25, "mae": 12.0}),
    ]
    assert records[2].tags == {"kind": "trees", "my key": "a b"}
    assert records[3].uri == "models:/flight-delay/1"
    crew = registry.client.get_model_version("crew@night", "1")
    assert [record.run_id for record in versions("crew@night")] == [crew.run_id]


@pytest.mark.usefixtures("registry")
def test_the_versions_of_an_unknown_model_are_answered_with_what_is_there() -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'unsigned'"):
        versions("unsined")


def test_a_model_without_versions_has_none(registry: Registry) -> None:
    registry.client.create_registered_model("empty")
    try:
        assert versions("empty") == []
        with pytest.raises(VersionNotFound, match="'empty' has no version 1; there are: none"):
            resolve("empty/1")
        with pytest.raises(VersionNotFound, match="'empty' has no version at all"):
            resolve("empty/latest")
    finally:
        registry.client.delete_registered_model("empty")


def test_a_version_registered_from_a_folder_needs_no_run(registry: Registry) -> None:
    source = registry.files("flight-delay", 1)
    registry.client.create_registered_model("elsewhere")
    registry.client.create_model_version("elsewhere", str(source))
    try:
        model = resolve("elsewhere/1")
    finally:
        registry.client.delete_registered_model("elsewhere")
    assert (model.run_id, model.run_name, model.logged_model_id) == (None, None, None)
    assert model.params == model.metrics == {}
    assert model.digest == resolve("flight-delay/1").digest


def test_without_a_store_none_is_made(
    use: Callable[[str | None], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoTrackingStore, match=re.escape(f"{tmp_path}/home/mlflow.db")):
        resolve("flight-delay/1")
    with pytest.raises(NoTrackingStore):
        versions("flight-delay")
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_store_and_its_artifacts_lie_in_one_folder(
    use: Callable[[str | None], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = experiment("nightly")
    assert experiment("nightly") == made
    assert (
        connect()
        .get_experiment(made)
        .artifact_location.startswith((tmp_path / "home" / "artifacts").as_uri())
    )
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield the port of a server that accepts and never answers."""
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)  # wakes accept
    accepting.join(timeout=5)
    for connection in held:
        connection.close()


@pytest.mark.parametrize(
    "uri", ["http://user:secret@127.0.0.1:{}", "postgresql://user:secret@127.0.0.1:{}/mlflow"]
)
def test_a_store_that_is_away_is_told_in_seconds_without_its_password(
    use: Callable[[str], None], closed_port: int, uri: str
) -> None:
    use(uri.format(closed_port))
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match=r"(?i)connection refused") as refused:
        resolve("flight-delay/1")
    assert time.monotonic() - began < 10
    assert refused.value.exit_code == 75
    assert "secret" not in str(refused.value)
    assert f"***@127.0.0.1:{closed_port}" in str(refused.value)


def test_a_store_that_never_answers_is_told_in_seconds(
    use: Callable[[str], None], silent_port: int
) -> None:
    use(f"http://127.0.0.1:{silent_port}")
    began = time.monotonic()
    with pytest.raises(RegistryUnavailable, match="timed out"):
        versions("flight-delay")
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("where=metrics.rmse > '18'", 1),  # a number, though it stands in quotes
        ("where=version < '2'", 1),
        ("where=40 >= params.trees", 2),  # '100' is text, and still more than 40
        ("where=params.trees < 50", 2),
        ("where=params.trees is not null&order_by=params.trees", 2),
        ("where=aliases = 'stable'", 3),
        ("where=aliases is null and version > 1", 5),
        ("where=aliases != 'champion' and version > 2", 5),  # 3 is stable too, and champion
        ("where=created_at > '2000-01-01T00:00:00' and version = 2", 2),
        ("order_by=created_at", 1),
    ],
)
def test_values_are_compared_as_what_they_are(query: str, version: int) -> None:
    assert resolve(f"flight-delay?{query}").version == version


def test_a_metric_that_is_no_number_never_stands_first(registry: Registry) -> None:
    for run_name, rmse in (("good", 3.0), ("diverged", float("nan"))):
        register("nans", run_name=run_name, metrics={"rmse": rmse})
    assert resolve("nans?order_by=metrics.rmse").version == 1
    assert resolve("nans?order_by=metrics.rmse desc").version == 1
    registry.client.delete_registered_model("nans")


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("reference", ["crew@night/1", "crew@night@champion", "crew@night/latest"])
def test_a_name_with_an_at_sign_is_resolved(reference: str) -> None:
    model = resolve(reference)
    assert (model.uri, model.run_name) == ("models:/crew@night/1", "crew")


@pytest.mark.parametrize("text", ["", "- a list", "{unclosed", "signature: 5"])
def test_a_damaged_model_file_is_an_integrity_error(toy: Path, text: str) -> None:
    (toy / "MLmodel").write_text(text)
    with pytest.raises((IntegrityError, SignatureMissing)) as refused:
        resolve("toy/1")
    assert refused.value.exit_code in (3, 4)


@pytest.mark.parametrize(
    ("uri", "exit_code"),
    [
        ("postgresql://u:secret@h:abc/x", 3),  # the port is no number
        ("nonsense://x", 3),
        ("file:///none", 3),
    ],
)
def test_a_store_that_cannot_be_one_is_told_in_a_line(
    use: Callable[[str], None], uri: str, exit_code: int
) -> None:
    use(uri)
    with pytest.raises(RegistryError) as refused:
        connect()
    assert refused.value.exit_code == exit_code
    assert "secret" not in str(refused.value)
