"""Models that would run code of their own when they are loaded, and the policies that refuse them.

Each is a real skops model that was tampered with. Its payload makes a folder, the marker. That a
payload is alive is shown first, without a policy; with one, nothing may ever make the marker.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from builders.models import delay_model, flights
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakescore import environments, errors, loading
from lakescore import registry as library
from lakescore.config import ScoreJob, load
from lakescore.errors import IntegrityError, LakescoreError
from lakescore.options import LoadOptions
from lakescore.registry import Trust, artifacts
from lakescore.registry.journal import Journal
from lakescore.trust import DigestDiffers, NotTrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from conftest import Registry

STRICT = Trust(flavours=("sklearn",), formats=("skops",))
BY_FORMATS = Trust(formats=("skops", "json", "lgb", "ubj"))
BY_FLAVOURS = Trust(flavours=("sklearn",))
ALL = (STRICT, BY_FORMATS, BY_FLAVOURS)
EXAMPLES = int(os.environ.get("LAKESCORE_EXAMPLES", "25"))
URI = "models:/hostile/1"


class Payload:
    """Makes the marker as soon as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._marker,)


@dataclass
class Folder:
    """A model's folder that is being tampered with."""

    path: Path
    marker: Path

    @property
    def model(self) -> dict[str, Any]:
        """What MLmodel says."""
        return dict(yaml.safe_load((self.path / "MLmodel").read_text()))

    def say(self, model: Mapping[str, Any]) -> None:
        """Write MLmodel."""
        (self.path / "MLmodel").write_text(yaml.safe_dump(dict(model), sort_keys=False))

    def change(self, flavour: str, **values: Any) -> None:
        """Change keys of a flavour, which is added where it is missing; None removes a key."""
        model = self.model
        kept = {**model["flavors"].get(flavour, {}), **values}
        model["flavors"][flavour] = {key: v for key, v in kept.items() if v is not None}
        self.say(model)

    def drop(self, flavour: str) -> None:
        """Take a flavour away."""
        model = self.model
        del model["flavors"][flavour]
        self.say(model)

    def pickle(self, file: str, protocol: int = 4) -> str:
        """Write the payload into *file*, and return its name."""
        path = self.path / file
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(pickle.dumps(Payload(self.marker), protocol))
        return file

    def module(self, file: str) -> None:
        """Write Python that makes the marker when it is imported."""
        path = self.path / file
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(f"import os\nos.mkdir({str(self.marker)!r})\n")


def skops_model(path: Path) -> None:
    """Save an honest scikit-learn model by skops."""
    import mlflow
    from mlflow.models import infer_signature

    rows = flights()[["dep_delay", "distance"]]
    model = delay_model()
    mlflow.sklearn.save_model(
        model,
        path,
        signature=infer_signature(rows, model.predict(rows)),
        serialization_format="skops",
        pip_requirements=["scikit-learn==1.0"],
    )


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an honest model."""
    path = tmp_path_factory.mktemp("honest") / "model"
    skops_model(path)
    return path


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Folder:
    """Return a copy of the honest model to tamper with."""
    shutil.copytree(honest, tmp_path / "model")
    return Folder(tmp_path / "model", tmp_path / "marker")


def held(folder: Path, trust: Trust) -> None:
    """Check a copy by a policy, as `resolve` does."""
    artifacts.card_of(URI, folder)
    way = artifacts.reading_of(URI, folder)
    trust.check_files(
        URI,
        flavours=way.flavours,
        formats=way.formats,
        doubts=way.doubts,
        pickles=lambda: artifacts.pickles_in(folder, way.files),
        modules=lambda: artifacts.modules_in(folder, way.files),
    )


def loaded(folder: Path) -> None:
    """Load a copy in all ways that lakescore and MLflow have, and ignore what comes of it."""
    import mlflow

    for load_model in (mlflow.pyfunc.load_model, mlflow.sklearn.load_model):
        with unchanged_modules(), contextlib.suppress(Exception):
            load_model(str(folder))


@contextlib.contextmanager
def unchanged_modules() -> Iterator[None]:
    """Put back what a model's `code` does to the process."""
    import sys

    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if name.startswith("evil"):
                del sys.modules[name]


# --- the list: what is done to the model, and how


def data_in_a_folder(folder: Folder) -> None:
    folder.change("python_function", data=folder.pickle("sub/model.pkl"))


def data_with_an_mlmodel_of_its_own(folder: Folder) -> None:
    folder.pickle("sub/model.pkl")
    own = folder.model
    own["flavors"]["sklearn"]["serialization_format"] = "pickle"
    own["flavors"]["python_function"]["model_path"] = "model.pkl"
    (folder.path / "sub" / "MLmodel").write_text(yaml.safe_dump(own))
    folder.change("python_function", data="sub")


def the_flavour_names_that_folder_too(folder: Folder) -> None:
    data_with_an_mlmodel_of_its_own(folder)
    folder.change("sklearn", pickled_model="sub")


def two_files_one_for_each_reader(folder: Folder) -> None:
    folder.pickle("other.pkl")
    own = folder.model["flavors"]["sklearn"]
    folder.change("python_function", model_path="other.pkl")
    folder.change("sklearn", serialization_format=None, pickled_model=own["pickled_model"])


def no_format_is_a_pickle(folder: Folder) -> None:
    folder.pickle("model.skops")
    folder.change("sklearn", serialization_format=None)


def the_foreign_loader_of_pmdarima(folder: Folder) -> None:
    data = folder.pickle("evil.pkl")
    folder.change("python_function", loader_module="mlflow.pmdarima", data=data)


def pmdarima_with_a_pickle_called_json(folder: Folder) -> None:
    data = folder.pickle("model.json")
    folder.drop("sklearn")
    folder.change("pmdarima", data=data)
    folder.change("python_function", loader_module="mlflow.pmdarima", data=data, model_path=None)


def lightgbm_with_a_pickle_called_json(folder: Folder) -> None:
    data = folder.pickle("model.json")
    folder.drop("sklearn")
    folder.change("lightgbm", data=data, model_class="lightgbm.sklearn.LGBMRegressor")
    folder.change("python_function", loader_module="mlflow.lightgbm", data=data, model_path=None)


def a_loader_of_its_own(folder: Folder) -> None:
    folder.module("code/evil_loader.py")
    folder.change("python_function", loader_module="evil_loader", code="code")


def code_in_the_place_of_a_library(folder: Folder) -> None:
    folder.module("code/evil_library.py")
    (folder.path / "code" / "mlflow").mkdir()
    folder.change("python_function", loader_module="evil_library", code="code")
    folder.change("sklearn", code="code")


def a_python_model(folder: Folder) -> None:
    file = folder.pickle("python_model.pkl")
    folder.change("python_function", loader_module="mlflow.pyfunc.model", python_model=file)


def a_model_from_code(folder: Folder) -> None:
    folder.module("evil_model.py")
    folder.change(
        "python_function", loader_module="mlflow.pyfunc.model", model_code_path="evil_model.py"
    )


def a_chat_model(folder: Folder) -> None:
    file = folder.pickle("python_model.pkl")
    folder.change(
        "python_function", loader_module="mlflow.pyfunc.loaders.chat_model", python_model=file
    )


def keys_that_stand_twice(folder: Folder) -> None:
    """The last key wins in YAML, and it is the hostile one."""
    folder.pickle("evil.pkl")
    again = {"loader_module": "mlflow.pmdarima", "data": "evil.pkl", "python_version": "3.11.7"}
    model = folder.model
    text = yaml.safe_dump({"flavors": model.pop("flavors")}, sort_keys=False)
    text += f"  python_function: {again}\n" + yaml.safe_dump(model)
    (folder.path / "MLmodel").write_text(text)


LIVE: list[Callable[[Folder], None]] = [
    data_in_a_folder,
    data_with_an_mlmodel_of_its_own,
    the_flavour_names_that_folder_too,
    two_files_one_for_each_reader,
    the_foreign_loader_of_pmdarima,
    pmdarima_with_a_pickle_called_json,
    lightgbm_with_a_pickle_called_json,
    a_loader_of_its_own,
    code_in_the_place_of_a_library,
    a_python_model,
    a_model_from_code,
    a_chat_model,
    keys_that_stand_twice,
]


@pytest.mark.parametrize("tamper", LIVE, ids=lambda tamper: tamper.__name__)
def test_code_that_runs_without_a_policy_runs_under_none_of_them(
    folder: Folder, tamper: Callable[[Folder], None]
) -> None:
    tamper(folder)
    for trust in ALL:
        with pytest.raises(NotTrusted) as refused:
            held(folder.path, trust)
        assert refused.value.exit_code == 4
        assert str(refused.value).isprintable()
        assert not folder.marker.exists()
    loaded(folder.path)
    assert folder.marker.exists()  # or the case would show nothing


def test_a_pickle_is_refused_by_its_format_and_allowed_by_its_flavour_alone(
    folder: Folder,
) -> None:
    """A policy that names flavours alone lets their pickles run, as the documentation says."""
    no_format_is_a_pickle(folder)
    for trust in (STRICT, BY_FORMATS):
        with pytest.raises(NotTrusted, match="rule 'formats': it has pickle"):
            held(folder.path, trust)
    held(folder.path, BY_FLAVOURS)
    assert not folder.marker.exists()


@pytest.mark.parametrize(
    ("flavour", "changes", "rules", "reason"),
    [
        # A format that is no text, or an unknown text, is known to no loader.
        ("sklearn", {"serialization_format": ["skops"]}, ALL, "it has unknown|unknown to scikit"),
        ("sklearn", {"serialization_format": "SKOPS"}, ALL, "it has unknown|unknown to scikit"),
        (
            "sklearn",
            {"serialization_format": {"skops": 1}},
            ALL,
            "it has unknown|unknown to scikit",
        ),
        ("sklearn", {"pickled_model": 5}, ALL, "it has unknown|does not name a file|is not a text"),
        ("sklearn", {"pickled_model": "gone.skops"}, ALL, "it has unknown|gone.skops"),
        # The file itself lists the types that skops shall trust.
        (
            "sklearn",
            {"skops_trusted_types": ["os.system"]},
            (STRICT, BY_FORMATS),
            "it has skops-trusted-types",
        ),
        ("python_function", {"loader_module": ["mlflow.sklearn"]}, ALL, "unknown|not a text"),
        (
            "python_function",
            {"loader_module": "mlflow.sklearn.evil"},
            ALL,
            "mlflow.sklearn.evil|unk",
        ),
        ("python_function", {"predict_fn": "__class__"}, ALL, "its predict_fn is '__class__'"),
        ("python_function", {"config": "config.yaml"}, ALL, "its config is not a mapping"),
        ("python_function", {"data": ""}, ALL, "unknown|reads ''"),
        ("python_function", {"data": "./model.skops"}, ALL, "unknown|reads './model.skops'"),
        ("python_function", {"code": "code"}, (STRICT, BY_FORMATS), "it has code"),
        # A second flavour that lakescore does not know, or whose file it does not read.
        ("keras", {"data": "model.skops"}, ALL, "keras|unknown"),
        (
            "onnx",
            {"data": "model.skops", "providers": [["X", {"library": "a.so"}]]},
            ALL,
            "onnx|unk",
        ),
        ("xgboost", {"data": "model.json", "model_class": "os.system"}, ALL, "xgboost|unknown"),
    ],
)
def test_what_no_known_loader_reads_in_a_known_way_is_refused(
    folder: Folder,
    flavour: str,
    changes: dict[str, Any],
    rules: tuple[Trust, ...],
    reason: str,
) -> None:
    folder.change(flavour, **changes)
    for trust in rules:
        with pytest.raises(NotTrusted, match=reason):
            held(folder.path, trust)


@pytest.mark.parametrize(
    ("flavour", "key", "value"),
    [
        ("sklearn", "pickled_model", "../../evil.pkl"),
        ("sklearn", "pickled_model", "sub/../../evil.pkl"),
        ("python_function", "model_path", "/tmp/evil.pkl"),  # noqa: S108 - never read
        ("python_function", "data", "../evil.pkl"),
        ("python_function", "code", "../code"),
        ("python_function", "python_model", "../python_model.pkl"),
        ("python_function", "env", {"virtualenv": "../python_env.yaml"}),
        ("python_function", "artifacts", {"a": {"path": "../../etc", "uri": "file:///a"}}),
        ("spark", "model_data", "../sparkml"),
    ],
)
def test_a_path_that_leads_out_of_the_copy_is_refused_by_all(
    folder: Folder, flavour: str, key: str, value: object
) -> None:
    """No digest covers what lies elsewhere, so this needs no policy."""
    folder.change(flavour, **{key: value})
    with pytest.raises(IntegrityError, match=f"the {flavour}.{key} of MLmodel is .* leads out"):
        artifacts.card_of(URI, folder.path)


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (lambda it: it.pickle("notes.txt", 0), "a pickle, 'notes.txt'"),
        (lambda it: it.pickle("input_example.json", 2), "a pickle, 'input_example.json'"),
        (lambda it: it.pickle("conda.yaml", 4), "a pickle, 'conda.yaml'"),
        (lambda it: it.pickle("sub/deep/anything", 5), "a pickle, 'sub/deep/anything'"),
        (lambda it: it.module("helper.py"), "a module, 'helper.py'"),
        (lambda it: (it.path / "fast.so").write_bytes(b"\x7fELF"), "a module, 'fast.so'"),
    ],
)
def test_what_lies_beside_the_model_is_no_pickle_and_no_module(
    folder: Folder, plant: Callable[[Folder], object], reason: str
) -> None:
    plant(folder)
    for trust in (STRICT, BY_FORMATS):
        with pytest.raises(NotTrusted, match=f"its folder also has {reason}"):
            held(folder.path, trust)


def test_what_mlflow_and_people_put_beside_a_model_is_none(folder: Folder) -> None:
    """Some begin with bytes that a pickle could begin with: `conda.yaml` with its c, a picture."""
    (folder.path / "readme.md").write_text("comparison of models\non two days\n")
    (folder.path / "carriers.csv").write_text("carrier,flights\nAA,1\n")
    (folder.path / "chart.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (folder.path / "empty").write_bytes(b"")
    assert (folder.path / "conda.yaml").read_text().startswith("channels")
    held(folder.path, STRICT)


def test_a_model_that_other_machines_read_otherwise_is_refused(folder: Folder) -> None:
    """In Latin-1 the second byte of this letter ends the line, and what follows is a key."""
    text = (folder.path / "MLmodel").read_text()
    (folder.path / "MLmodel").write_text(f"run_id: Å\n{text}", encoding="utf-8")
    for trust in ALL:
        with pytest.raises(NotTrusted, match="characters that some machines would read"):
            held(folder.path, trust)


# --- a registry with a hostile model in it


@pytest.fixture
def name(registry: Registry, folder: Folder, request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield the name of a registered model whose version 1 is the honest one."""
    name = request.node.originalname[:60]
    library.register(str(folder.path), name)
    yield name
    registry.client.delete_registered_model(name)


def stored(registry: Registry, name: str, folder: Folder) -> Folder:
    """Return version 1 as the store keeps it."""
    return Folder(registry.files(name, 1), folder.marker)


def test_a_job_ends_with_4_before_spark_starts(
    registry: Registry, folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from score import run

    data_in_a_folder(folder)
    library.register(str(folder.path), "hostile-job")
    monkeypatch.setattr("score.choose", None)  # a call would be an error of another kind
    (tmp_path / "job.yaml").write_text(
        "model: hostile-job/1\ninput: {path: x}\noutput: {path: y}\nid_columns: [id]\n"
        "trust: {flavours: [sklearn], formats: [skops]}\n"
    )
    for engine in ("auto", "arrow", "spark_udf"):
        with pytest.raises(NotTrusted, match=r"sub/model\.pkl|unknown"):
            run(load(ScoreJob, tmp_path / "job.yaml", [f"engine={engine}"]))
    assert not folder.marker.exists()
    registry.client.delete_registered_model("hostile-job")


def test_the_file_that_mlflow_adds_to_copies_cannot_be_the_model(
    registry: Registry, folder: Folder
) -> None:
    """It was left out of the digest: reviewed as skops, pinned, then swapped for a pickle."""
    (folder.path / "model.skops").rename(folder.path / "registered_model_meta")
    folder.change("sklearn", pickled_model="registered_model_meta")
    folder.change("python_function", model_path="registered_model_meta")
    made = library.register(str(folder.path), "meta")
    kept = stored(registry, "meta", folder)
    kept.pickle("registered_model_meta")
    pinned = Trust(digest="required", digests={"meta/1": str(made.digest)})
    model = library.resolve("meta/1", trust=pinned)  # its digest is that of the files that are left
    assert not (model.artifacts / "registered_model_meta").exists()
    loaded(model.artifacts)
    assert not folder.marker.exists()
    for trust in ALL:
        with pytest.raises(NotTrusted, match="there is no 'registered_model_meta'"):
            library.resolve("meta/1", trust=trust)
    registry.client.delete_registered_model("meta")


def test_a_digest_is_believed_from_the_ledger_or_the_policy(name: str) -> None:
    made = library.describe(f"{name}/1")
    plain = library.resolve(f"{name}/1")
    required = library.resolve(f"{name}/1", trust=Trust(digest="required"))
    pinned = Trust(digest="required", digests={f"{name}/1": str(made.digest)})
    assert plain.digest_by == required.digest_by == "the ledger"
    assert library.resolve(f"{name}/1", trust=pinned).digest_by == "the trust policy"
    assert required.facts()["digest_by"] == "the ledger"


def test_a_tag_is_no_evidence(registry: Registry, folder: Folder) -> None:
    import mlflow

    with mlflow.start_run():
        logged = mlflow.sklearn.log_model(
            delay_model(), name="m", serialization_format="skops", pip_requirements=[]
        )
    registry.client.create_registered_model("tagged")
    registry.client.create_model_version("tagged", logged.model_uri, model_id=logged.model_id)
    shutil.copytree(folder.path, registry.files("tagged", 1), dirs_exist_ok=True)
    card = artifacts.card_of(URI, artifacts.fetch(URI, str(registry.files("tagged", 1))))
    registry.client.set_model_version_tag("tagged", "1", "lakescore.card", artifacts.card_tag(card))
    with pytest.raises(NotTrusted, match=r"rule 'digest': the ledger has no digest .*not evidence"):
        library.resolve("tagged/1", trust=Trust(digest="required"))
    assert library.resolve("tagged/1").digest_by is None
    registry.client.delete_registered_model("tagged")


def test_files_that_changed_are_told_by_the_ledger_whatever_the_tag_says(
    registry: Registry, name: str, folder: Folder
) -> None:
    kept = stored(registry, name, folder)
    (kept.path / "added.txt").write_text("since")
    registry.client.delete_model_version_tag(name, "1", "lakescore.card")
    with pytest.raises(DigestDiffers, match="the ledger says sha256:"):
        library.resolve(f"{name}/1")
    card = artifacts.card_of(URI, kept.path)
    registry.client.set_model_version_tag(name, "1", "lakescore.card", artifacts.card_tag(card))
    with pytest.raises(DigestDiffers, match="the ledger says sha256:"):
        library.resolve(f"{name}/1")


def test_the_ledger_takes_one_digest_of_a_version(registry: Registry, name: str) -> None:
    record = library.describe(f"{name}/1")
    journal = Journal.opened(registry.client, name)
    other = {"digest": "sha256:" + "0" * 64}
    assert not journal.record_digest(1, record.created_at, other)
    assert journal.digest(1, record.created_at) == record.digest
    assert list(library.history(name)) == []  # no move of an alias


def test_a_model_made_again_under_its_name_inherits_no_digest(
    registry: Registry, name: str, folder: Folder
) -> None:
    before = library.describe(f"{name}/1")
    source = str(before.source)
    registry.client.delete_registered_model(name)
    registry.client.create_registered_model(name)
    time.sleep(0.01)  # a version is told from another of its number by the millisecond
    registry.client.create_model_version(name, source)
    with pytest.raises(NotTrusted, match="rule 'digest'"):
        library.resolve(f"{name}/1", trust=Trust(digest="required"))
    registry.client.delete_registered_model(name)
    again = library.register(str(folder.path), name)
    assert library.resolve(f"{name}/1", trust=Trust(digest="required")).version == again.version


# --- YAML that stands for more than it says


def bomb(levels: int = 9) -> str:
    """Return a list in a few hundred bytes that stands for 9 to the power of *levels* texts."""
    first = "&a0 [x, x, x, x, x, x, x, x, x]"
    rows = [f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "[" + ", ".join([first, *rows]) + "]"


@pytest.mark.parametrize("key", ["serialization_format", "pickled_model", "loader_module"])
def test_a_yaml_bomb_in_mlmodel_costs_no_time(
    registry: Registry, name: str, folder: Folder, key: str
) -> None:
    kept = stored(registry, name, folder)
    text = (kept.path / "MLmodel").read_text()
    line = next(line for line in text.splitlines() if f" {key}:" in line)
    indent = line[: len(line) - len(line.lstrip())]
    (kept.path / "MLmodel").write_text(text.replace(line, f"{indent}{key}: {bomb()}"))
    registry.client.delete_model_version_tag(name, "1", "lakescore.card")
    asked: list[Callable[[], object]] = [
        lambda: library.describe(f"{name}/1"),
        lambda: library.resolve(f"{name}/1"),
        lambda: library.diff([f"{name}/1", f"{name}/1"]),
        lambda: library.register(str(kept.path), name),
    ]
    began = time.monotonic()
    for ask in asked:
        with pytest.raises(LakescoreError, match="aliases stand for more than 5,000,000"):
            ask()
    (listed,) = library.versions(name, whole=True)
    assert listed.card is None
    assert time.monotonic() - began < 10


def test_a_small_alias_in_mlmodel_is_what_it_stands_for(folder: Folder) -> None:
    """MLflow itself writes aliases where one list stands in two places."""
    shared = ["a", "b"]
    folder.say({**folder.model, "metadata": {"one": shared, "two": shared}})
    assert "*id001" in (folder.path / "MLmodel").read_text()
    held(folder.path, STRICT)


@pytest.mark.parametrize(
    "lines",
    [
        f"pyfunc: {{params: {{x: {bomb()}}}}}",
        "trust: &rules {flavours: [sklearn]}",
        "slices: &days [a]\npassthrough: *days",
        "slices: &loop [*loop]",
    ],
)
def test_anchors_and_aliases_in_a_job_end_it_with_2(tmp_path: Path, lines: str) -> None:
    job = "model: a/1\ninput: {path: x}\noutput: {path: y}\nid_columns: [id]\n"
    (tmp_path / "job.yaml").write_text(f"{job}{lines}\n")
    (tmp_path / "plain.yaml").write_text(job)
    began = time.monotonic()
    asked: list[tuple[str, list[str]]] = [("job.yaml", [])]
    asked.append(("plain.yaml", [f"pyfunc.params.x={bomb()}"]))
    for file, overrides in asked:
        with pytest.raises(
            errors.ConfigError, match=r"anchors .* and aliases .* are not"
        ) as refused:
            load(ScoreJob, tmp_path / file, overrides)
        assert refused.value.exit_code == 2
    assert time.monotonic() - began < 2


# --- environments that a model's files ask for

PLAIN = "scikit-learn==1.0"


def environment_of(
    folder: Folder, rule: Trust, env_manager: Any = "uv", environment: Any = "auto"
) -> loading.Loadable:
    """Register the folder, resolve it under a rule and prepare it with an environment."""
    library.register(str(folder.path), "wants")
    newest = library.versions("wants")[0]
    model = library.resolve(f"wants/{newest.version}", trust=rule)
    options = LoadOptions(env_manager=env_manager, environment=environment)
    return loading.prepare(model, options=options)


@pytest.mark.parametrize("env_manager", ["uv", "virtualenv", "conda"])
def test_a_policy_lets_no_environment_be_made_unless_it_says_so(
    registry: Registry,  # noqa: ARG001 - where it is registered
    folder: Folder,
    env_manager: str,
) -> None:
    with pytest.raises(NotTrusted, match=f"rule 'environments': env_manager {env_manager}"):
        environment_of(folder, STRICT, env_manager)
    with pytest.raises(NotTrusted, match="rule 'environments': its own environment"):
        environment_of(folder, STRICT, "local", "own")
    assert environment_of(folder, STRICT, "local", "shared").env_manager == "local"
    assert environment_of(folder, Trust(), env_manager).folder  # no policy, no rule


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("requirements.txt", "./package", "asks for './package'"),
        ("requirements.txt", "evil @ file:///tmp/evil", "asks for 'evil @"),
        ("requirements.txt", "git+https://evil.example/x", "asks for 'git"),
        ("requirements.txt", "https://evil.example/x-1-py3-none-any.whl", "asks for 'https"),
        ("requirements.txt", "--index-url https://evil.example", "asks for '--index-url"),
        ("requirements.txt", "-r other.txt", "asks for '-r other.txt'"),
        ("requirements.txt", "--no-binary :all:", "asks for '--no-binary"),
        ("requirements.txt", "numpy>=1", "asks for 'numpy>=1'"),
        ("requirements.txt", "numpy", "asks for 'numpy'"),
        ("requirements.txt", "numpy==1.*", "asks for"),
        ("requirements.txt", "numpy===1", "asks for"),
        ("requirements.txt", f"{PLAIN}\\\n--pre", "asks for"),
        ("requirements.txt", b"caf\xe9==1", "cannot be read"),
        ("python_env.yaml", "python: 3.11.7\ndependencies: [./package]", "does not leave"),
        ("python_env.yaml", "python: 3.11.7", "does not leave"),
        (
            "python_env.yaml",
            "python: 3.11.7\nbuild_dependencies: [./x]\ndependencies: [-r requirements.txt]",
            "asks for './x'",
        ),
        (
            "python_env.yaml",
            "python: /evil/python\ndependencies: [-r requirements.txt]",
            "names no version",
        ),
        ("uv.lock", "version = 1", "uv.lock can name any source"),
    ],
)
def test_wheels_are_plain_and_pinned(
    folder: Folder, file: str, text: str | bytes, reason: str
) -> None:
    of_pyfunc = folder.model["flavors"]["python_function"]
    assert environments.wheels(folder.path, of_pyfunc, "uv").keys()
    (folder.path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=reason):
        environments.wheels(folder.path, of_pyfunc, "uv")


def test_conda_and_other_files_are_no_wheels(folder: Folder) -> None:
    of_pyfunc = folder.model["flavors"]["python_function"]
    with pytest.raises(ValueError, match="conda installs more than wheels"):
        environments.wheels(folder.path, of_pyfunc, "conda")
    with pytest.raises(ValueError, match=r"does not name python_env\.yaml"):
        environments.wheels(folder.path, {"env": {"virtualenv": "other.yaml"}}, "uv")


def test_nothing_is_built_for_an_environment_of_wheels(
    registry: Registry,  # noqa: ARG001 - where it is registered
    folder: Folder,
    tmp_path: Path,
) -> None:
    """The index has the package as a source alone, whose build makes the marker."""
    import sys
    import tarfile

    source = tmp_path / "evil-1.0"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0"\n'
    )
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (source / "backend.py").write_text(
        f"import os\nos.makedirs({str(folder.marker)!r}, exist_ok=True)\n"
    )
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(source, "evil-1.0")
    (folder.path / "requirements.txt").write_text("evil==1.0  # as asked\n")

    def install(requirements: Path) -> int:
        uv = [sys.executable, "-m", "uv", "pip", "install", "--no-cache"]
        where = ["--target", str(tmp_path / "target"), "--no-index"]
        index = ["--find-links", str(tmp_path / "index"), "-r", str(requirements)]
        return subprocess.run([*uv, *where, *index], capture_output=True, check=False).returncode

    ready = environment_of(folder, Trust(digest="required", environments="wheels"))
    assert install(ready.folder / "requirements.txt") != 0
    assert not folder.marker.exists()
    install(folder.path / "requirements.txt")
    assert folder.marker.exists()  # the source is alive
    assert ready.key != environment_of(folder, Trust()).key
    assert "--only-binary :all:" in (ready.folder / "python_env.yaml").read_text()


def test_requirements_that_are_no_utf_8_are_read_as_far_as_they_can_be(folder: Folder) -> None:
    (folder.path / "requirements.txt").write_bytes(b"# caf\xe9\ncaf\xe9==1\nscikit-learn==0.1\n")
    (difference,) = environments.differences(folder.path)
    assert (difference["package"], difference["asked"]) == ("scikit-learn", "scikit-learn==0.1")


# --- honest models, whose policies must let them in


def test_honest_models_are_let_in_by_the_policies_that_name_them(
    honest: Path, tmp_path: Path
) -> None:
    import mlflow

    held(honest, STRICT)
    held(honest, BY_FLAVOURS)
    rows = flights()[["dep_delay", "distance"]]
    for kind in ("cloudpickle", "pickle"):
        mlflow.sklearn.save_model(
            delay_model(), tmp_path / kind, serialization_format=kind, pip_requirements=[]
        )
        held(tmp_path / kind, Trust(flavours=("sklearn",), formats=(kind,)))
    mlflow.pyfunc.save_model(
        tmp_path / "own",
        python_model=lambda model_input: model_input,
        artifacts={"table": (honest / "requirements.txt").as_uri()},
        code_paths=[__file__],
        input_example=rows,
        pip_requirements=[],
    )
    own = Trust(flavours=("python_function",), formats=("cloudpickle", "code"))
    held(tmp_path / "own", own)
    with pytest.raises(NotTrusted, match="it has code"):
        held(tmp_path / "own", Trust(formats=("cloudpickle",)))


def test_an_honest_lightgbm_is_let_in(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    import mlflow

    rows = flights()
    model = lightgbm.LGBMRegressor(n_estimators=2, min_child_samples=1).fit(
        rows[["dep_delay"]], rows["arr_delay"]
    )
    mlflow.lightgbm.save_model(model.booster_, tmp_path / "booster", pip_requirements=[])
    held(tmp_path / "booster", Trust(flavours=("lightgbm",), formats=("lgb",)))
    for kind in ("skops", "cloudpickle"):
        mlflow.lightgbm.save_model(
            model, tmp_path / kind, serialization_format=kind, pip_requirements=[]
        )
    held(tmp_path / "cloudpickle", Trust(flavours=("lightgbm",), formats=("cloudpickle",)))
    # MLflow names LightGBM's own types in the file, which skops alone would refuse.
    held(tmp_path / "skops", Trust(formats=("skops", "skops-trusted-types")))


def test_an_honest_xgboost_is_let_in(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    import mlflow

    rows = flights()
    model = xgboost.XGBRegressor(n_estimators=2).fit(rows[["dep_delay"]], rows["arr_delay"])
    for kind in ("json", "ubj"):
        mlflow.xgboost.save_model(model, tmp_path / kind, model_format=kind, pip_requirements=[])
        held(tmp_path / kind, Trust(flavours=("xgboost",), formats=(kind,)))


def test_an_honest_catboost_is_let_in(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost")
    import mlflow

    rows = flights()
    model = catboost.CatBoostRegressor(iterations=2, verbose=False, allow_writing_files=False)
    model.fit(rows[["dep_delay"]], rows["arr_delay"])
    mlflow.catboost.save_model(model, tmp_path / "model", pip_requirements=[])
    held(tmp_path / "model", Trust(flavours=("catboost",), formats=("cbm",)))


def test_an_honest_onnx_is_let_in(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    import mlflow

    of = onnx.helper
    x, y = (of.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None, 1]) for n in "xy")
    graph = of.make_graph([of.make_node("Neg", ["x"], ["y"])], "graph", [x], [y])
    mlflow.onnx.save_model(of.make_model(graph), tmp_path / "model", pip_requirements=[])
    held(tmp_path / "model", Trust(flavours=("onnx",), formats=("onnx",)))


def test_an_honest_statsmodels_is_let_in(tmp_path: Path) -> None:
    api = pytest.importorskip("statsmodels.api")
    import mlflow

    rows = flights()
    model = api.OLS(rows["arr_delay"], rows[["dep_delay"]]).fit()
    mlflow.statsmodels.save_model(model, tmp_path / "model", pip_requirements=[])
    held(tmp_path / "model", Trust(flavours=("statsmodels",), formats=("pickle",)))


# --- a generator of hostile models

PATHS = st.sampled_from(
    ["model.skops", "evil.pkl", "evil.json", "evil.txt", "sub", "sub/model.pkl", "sub/model.skops",
     "./evil.pkl", "../evil.pkl", "", ".", "MLmodel", "registered_model_meta", 7, None,
     ["evil.pkl"], {"evil.pkl": 1}]
)  # fmt: skip
LOADERS = st.sampled_from(
    ["mlflow.sklearn", "mlflow.pmdarima", "mlflow.lightgbm", "mlflow.statsmodels",
     "mlflow.catboost", "mlflow.pyfunc.model", "mlflow.pyfunc.loaders.chat_model",
     "mlflow.xgboost", "mlflow.onnx", "mlflow.prophet", "evil_module", "mlflow", "", 5, None,
     ["mlflow.sklearn"]]
)  # fmt: skip
FORMATS = st.sampled_from(
    ["skops", "pickle", "cloudpickle", "SKOPS", "json", "", None, 1, ["skops"], {"a": 1}]
)
FLAVOURS = ["sklearn", "python_function", "lightgbm", "pmdarima", "statsmodels", "xgboost"]
CLASSES = st.sampled_from(
    ["lightgbm.basic.Booster", "lightgbm.sklearn.LGBMRegressor", "xgboost.core.Booster",
     "evil_module.Evil", "builtins.object", None]
)  # fmt: skip
NATIVE = st.sampled_from(["lightgbm", "pmdarima", "statsmodels", "xgboost", "catboost", "onnx"])
ONE = st.one_of(
    st.tuples(
        st.sampled_from(FLAVOURS),
        st.sampled_from(["data", "pickled_model", "model_path", "python_model", "model_code_path"]),
        PATHS,
    ),
    st.tuples(st.just("python_function"), st.just("loader_module"), LOADERS),
    st.tuples(st.sampled_from(FLAVOURS), st.just("serialization_format"), FORMATS),
    st.tuples(st.sampled_from(["lightgbm", "xgboost"]), st.just("model_class"), CLASSES),
    st.tuples(st.sampled_from(FLAVOURS), st.just("code"), st.sampled_from(["code", "", None, 1])),
    st.tuples(st.just("sklearn"), st.just("skops_trusted_types"), st.just(["os.mkdir"])),
    st.tuples(st.sampled_from(FLAVOURS), st.just(""), st.just("gone")),
    st.tuples(st.sampled_from(FLAVOURS), st.just(""), st.sampled_from([None, "text", []])),
)
SEVERAL = st.one_of(  # changes that belong together, so that more of the models can be loaded
    st.builds(
        lambda loader, file: [
            ("python_function", "loader_module", f"mlflow.{loader}"),
            ("python_function", "data", file),
            (loader, "data", file),
        ],
        NATIVE,
        PATHS,
    ),
    st.builds(
        lambda kind, file: [
            ("sklearn", "serialization_format", kind),
            ("sklearn", "pickled_model", file),
            ("python_function", "model_path", file),
        ],
        FORMATS,
        PATHS,
    ),
    st.builds(
        lambda file: [
            ("python_function", "loader_module", "mlflow.pyfunc.model"),
            ("python_function", "python_model", file),
        ],
        PATHS,
    ),
)
CHANGES = st.builds(
    lambda some, more: [*(change for group in some for change in group), *more],
    st.lists(SEVERAL, max_size=2),
    st.lists(ONE, max_size=3),
)
HARMLESS = ("skops", "json", "lgb", "ubj", "xgb", "cbm", "onnx")
POLICIES = st.sampled_from(
    [Trust(flavours=("sklearn",), formats=("skops",)), Trust(formats=HARMLESS)]
)


@pytest.fixture(scope="module")
def planted(honest: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Return the honest model with payloads wherever MLmodel can point."""
    base = tmp_path_factory.mktemp("planted")
    shutil.copytree(honest, base / "model")
    folder = Folder(base / "model", base / "marker")
    for file in ("evil.pkl", "evil.json", "evil.txt", "sub/model.pkl", "../evil.pkl",
                 "registered_model_meta", "python_model.pkl"):  # fmt: skip
        folder.pickle(file)
    folder.module("code/evil_module.py")
    own = folder.model
    own["flavors"]["sklearn"]["serialization_format"] = "pickle"
    (folder.path / "sub" / "MLmodel").write_text(yaml.safe_dump(own))
    shutil.copy(folder.path / "model.skops", folder.path / "sub" / "model.skops")
    return folder


def test_whatever_mlmodel_says_no_payload_runs_once_a_policy_let_it_in(planted: Folder) -> None:
    """The list of loaders alone decides here: what lies beside the model is not looked at."""
    plain, count = planted.model, {"let in": 0, "alive": 0, "all": 0}

    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES == 25,
        suppress_health_check=list(HealthCheck),
    )
    @given(CHANGES, POLICIES)
    @example([], STRICT)
    @example([("python_function", "python_version", "3.9.0")], STRICT)  # it is let in
    @example([("python_function", "data", "sub/model.pkl")], STRICT)
    def hold(changes: list[tuple[str, str, Any]], trust: Trust) -> None:
        model = yaml.safe_load(yaml.safe_dump(plain))
        for flavour, key, value in changes:
            if not key:
                model["flavors"].pop(flavour, None)
                if value != "gone":
                    model["flavors"][flavour] = value
            elif isinstance(settings_ := model["flavors"].setdefault(flavour, {}), dict):
                settings_[key] = value
        planted.say(model)
        count["all"] += 1
        try:
            artifacts.card_of(URI, planted.path)
            way = artifacts.reading_of(URI, planted.path)
            trust.check_files(URI, flavours=way.flavours, formats=way.formats, doubts=way.doubts)
        except IntegrityError:
            assert not planted.marker.exists()
            loaded(planted.path)  # to know that such models are dangerous at all
            count["alive"] += planted.marker.exists()
            shutil.rmtree(planted.marker, ignore_errors=True)
            return
        count["let in"] += bool(changes)
        loaded(planted.path)
        assert not planted.marker.exists(), model

    try:
        hold()
    finally:
        planted.say(plain)
    print(count)  # noqa: T201 - pytest -s shows it
    assert count["let in"]
    assert count["alive"]
