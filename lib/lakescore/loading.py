"""Loading: with which options a pinned version is loaded and called, whatever the engine.

The options are written into a private copy of the version's `MLmodel`, so that MLflow's own loader
honours them everywhere: handed to `spark_udf` instead, `model_config` is dropped on a cluster.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import yaml

from lakescore import environment, executor
from lakescore.encoding import parsed, spelt
from lakescore.errors import (
    FlavorMissing,
    NotTrusted,
    OptionUnknown,
    OptionUnreadable,
    ScoringFailed,
    UnsupportedSignature,
    listed,
    nearest,
)
from lakescore.home import scratch
from lakescore.isolation import own_code

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.registry import ModelVersion
    from lakescore.runner import Runner

EnvManager = Literal["local", "virtualenv", "uv", "conda"]
OutputName = Literal["prediction", "proba"]
_PROBA = "predict_proba"
_Reader = Callable[[Any], Any]
"""Turns a value of the job's file, whose scalars are texts, into what a model declares."""


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """A pinned version with its options."""

    model: ModelVersion
    folder: Path
    """The artifacts, with the options in `MLmodel`."""
    key: str
    """Equal for equal artifacts with equal options."""
    flavors: Mapping[str, Any]
    params: Mapping[str, Any] | None
    env_manager: EnvManager
    own_code: str | None = None
    """What of its code is its own, so that it is applied in a process of its own."""
    classes: tuple[Any, ...] = ()
    """Of a classifier that gives probabilities, in its own order and type."""

    @property
    def pyfunc(self) -> executor.Version:
        """The version as MLflow's PyFuncModel, still without features and outputs."""
        return executor.Version(
            uri=self.model.uri,
            key=self.key,
            folder=str(self.folder),
            mode="pyfunc",
            pickled=None,
            features=(),
            outputs=pa.schema([]),
            params=self.params,
            names=self._names,
            size=self.model.size or 0,
            program=_program() if self.own_code and self.env_manager == "local" else None,
        )

    @property
    def _names(self) -> tuple[Any, ...] | None:
        """How the signature names the outputs, unless they are probabilities."""
        schema: Any = self.model.signature.outputs  # MLflow's specs are a union no check narrows
        if self.classes or schema is None:
            return None
        return tuple(schema.input_names()) if schema.has_input_names() else None

    @property
    def native(self) -> executor.Version:
        """The version as the scikit-learn model that it is, likewise."""
        flavor = self.flavors["sklearn"]
        readable = flavor.get("serialization_format") in {"pickle", "cloudpickle"}
        method = self.flavors["python_function"].get("predict_fn", "predict")
        pickled = flavor["pickled_model"] if readable else None
        return replace(self.pyfunc, mode="frame", pickled=pickled, method=method)

    @property
    def is_native(self) -> bool:
        """Whether `native` gives what MLflow's wrapper around it gives."""
        plain = not self.flavors.get("python_function", {}).get("code") and self.params is None
        return "sklearn" in self.flavors and plain


def prepare(  # noqa: PLR0913 - all but the first two by name
    model: ModelVersion,
    runner: Runner | None = None,
    *,
    output: OutputName = "prediction",
    params: Mapping[str, Any] | None = None,
    model_config: Mapping[str, Any] | None = None,
    env_manager: EnvManager = "local",
) -> Loadable:
    """Return *model* with options, its files in a folder of its own where they had to change.

    Args:
        model: the pinned version.
        runner: whose worker looks at a classifier; the driver without.
        output: `proba` calls a classifier's `predict_proba`.
        params: for `predict`: texts, and lists and mappings of them; the signature says of which
            types they are.
        model_config: for the model's context, likewise; the configuration that it was logged with
            says of which types they are, and YAML where it does not.
        env_manager: whose packages it runs with; all but `local` are MLflow's own, and install
            what the model's files ask for.

    Raises:
        OptionUnknown: the model declares no such parameter or configuration.
        OptionUnreadable: a value is not of the type that it was declared with.
        UnsupportedSignature: probabilities of a model that has none.
        NotTrusted: the trust policy lets *env_manager* not install what the model asks for.
    """
    card = parsed((model.artifacts / "MLmodel").read_text(encoding="utf-8"))
    loader = card["flavors"].get("python_function")
    if loader is None:
        raise FlavorMissing(model.uri, card["flavors"])
    changed = dict(loader)
    if model_config:
        changed["config"] = _config(model, loader.get("config") or {}, model_config)
    if output == "proba":
        if "sklearn" not in card["flavors"]:
            flavors = ", ".join(card["flavors"])
            raise UnsupportedSignature(model.uri, f"only scikit-learn has {_PROBA}, not {flavors}")
        changed["predict_fn"] = _PROBA
    files = _of_environment(model, loader, env_manager)
    folder, key = model.artifacts, model.digest
    if changed != loader or files:
        card["flavors"]["python_function"] = changed
        files["MLmodel"] = yaml.safe_dump(card, sort_keys=False)
        folder = _copied(model, files)
        difference = json.dumps([changed, files], sort_keys=True, default=str).encode()
        key = f"{key}+{hashlib.sha256(difference).hexdigest()[:16]}"
    loadable = Loadable(
        model=model,
        folder=folder,
        key=key,
        flavors=card["flavors"],
        params=_params(model, params) if params else None,
        env_manager=env_manager,
        own_code=own_code(card["flavors"], folder),
    )
    if output != "proba":
        return loadable
    return replace(loadable, classes=_classes(loadable, runner))


@cache
def _program() -> bytes:
    return executor.program(executor.answer)


def _of_environment(
    model: ModelVersion, settings: Mapping[str, Any], env_manager: EnvManager
) -> dict[str, str]:
    """Return the files, by name, that *env_manager* reads in the place of the model's own."""
    if env_manager == "local" or model.installing is None:
        return {}
    if model.installing == "none":
        asked = ["env_manager: local", "environments: wheels in the policy"]
        has = f"env_manager {env_manager} installs what its files ask for"
        raise NotTrusted(model.uri, "environments", has, asked)
    try:
        return environment.wheels(model.artifacts, settings, env_manager)
    except ValueError as error:
        asked = ["name==version in requirements.txt", "env_manager uv or virtualenv"]
        raise NotTrusted(model.uri, "environments", str(error), asked) from None


def _copied(model: ModelVersion, files: Mapping[str, str]) -> Path:
    """Return a private copy of the artifacts with other *files*, which are texts by name."""
    folder = Path(tempfile.mkdtemp(dir=scratch())) / model.artifacts.name
    shutil.copytree(model.artifacts, folder)
    folder.chmod(0o700)
    for name, text in files.items():
        (folder / name).unlink()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _classes(loadable: Loadable, runner: Runner | None) -> tuple[Any, ...]:
    uri = loadable.model.uri
    try:
        if runner is None:
            estimator = executor.describe(loadable.native)
        else:
            estimator = runner.call(executor.describe, loadable.native)
    except ModuleNotFoundError as error:
        raise environment.missing(uri, loadable.folder, error) from error
    except executor.ModelFailed as error:
        raise ScoringFailed(uri, "any row", str(error)) from error
    classes = estimator.classes
    if classes is None or _PROBA not in estimator.methods:
        raise UnsupportedSignature(uri, f"its {estimator.kind} has no {_PROBA}")
    if getattr(classes, "ndim", 1) != 1 or isinstance(classes, list):
        raise UnsupportedSignature(uri, "it has several labels a row")
    return tuple(each.item() if hasattr(each, "item") else each for each in classes)


def _config(
    model: ModelVersion, declared: Mapping[str, Any], asked: Mapping[str, Any]
) -> dict[str, Any]:
    _check("model_config", model, asked, list(declared))
    read = {name: _read(model, name, given, _like(declared[name])) for name, given in asked.items()}
    return {**declared, **read}


def _params(model: ModelVersion, asked: Mapping[str, Any]) -> dict[str, Any]:
    specs = {spec.name: spec for spec in (model.signature.params or [])}
    _check("params", model, asked, list(specs))
    readers = {}
    for name in asked:
        one = _of_type(specs[name].to_dict())
        readers[name] = _listing(one) if specs[name].shape is not None else one
    return {name: _read(model, name, given, readers[name]) for name, given in asked.items()}


def _check(what: str, model: ModelVersion, asked: Mapping[str, Any], known: list[str]) -> None:
    for name in asked:
        if name not in known:
            raise OptionUnknown(what, name, model.uri, known)


def _read(model: ModelVersion, name: str, given: Any, reader: _Reader) -> Any:  # noqa: ANN401 - a value of any type
    try:
        return reader(given)
    except (ValueError, yaml.YAMLError) as error:
        raise OptionUnreadable(name, given, model.uri, str(error).splitlines()[0]) from None


def _like(declared: object) -> _Reader:
    """Return the reader of what is of the type of the value *declared*."""
    if isinstance(declared, list):
        kinds = {type(each) for each in declared}
        return _listing(_like(declared[0])) if len(kinds) == 1 else _any
    if isinstance(declared, dict):
        return _mapping({name: _like(each) for name, each in declared.items()}, others=_any)
    return _one(_READERS[type(declared)]) if type(declared) in _READERS else _any


def _of_type(kind: Mapping[str, Any]) -> _Reader:
    """Return the reader of a type of MLflow's signatures."""
    match kind["type"]:
        case "array":
            return _listing(_of_type(kind["items"]))
        case "object":
            fields = kind["properties"]
            required = [name for name, each in fields.items() if each.get("required")]
            return _mapping({n: _of_type(each) for n, each in fields.items()}, required=required)
        case "map":
            return _mapping({}, others=_of_type(kind["values"]))
        case name:
            return _one(_KINDS[name]) if name in _KINDS else _any


def _flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("true or false is asked for")
    return text.lower() == "true"


def _any(given: Any) -> Any:  # noqa: ANN401 - a value of any type
    """Read texts as YAML does: nothing says of which type they are."""
    if isinstance(given, list):
        return [_any(each) for each in given]
    if isinstance(given, dict):
        return {name: _any(each) for name, each in given.items()}
    return parsed(given) if isinstance(given, str) else given


def _one(reader: Callable[[str], Any]) -> _Reader:
    def read(given: Any) -> Any:  # noqa: ANN401 - likewise
        if given is None or isinstance(given, (list, dict)):
            raise ValueError("one value is asked for")
        return reader(str(given))

    return read


def _listing(reader: _Reader) -> _Reader:
    def read(given: Any) -> list[Any]:  # noqa: ANN401 - likewise
        values = _parsed(given)
        if not isinstance(values, list):
            raise ValueError("a list is asked for")  # noqa: TRY004 - a value in a file
        return [reader(each) for each in values]

    return read


def _mapping(
    readers: Mapping[str, _Reader],
    *,
    others: _Reader | None = None,
    required: Sequence[str] = (),
) -> _Reader:
    def read(given: Any) -> dict[str, Any]:  # noqa: ANN401 - likewise
        values = _parsed(given)
        if not isinstance(values, dict):
            raise ValueError("a mapping is asked for")  # noqa: TRY004 - likewise
        for name in values if others is None else ():
            if name not in readers:
                raise ValueError(f"it has no {name!r}{nearest(name, readers)}")
        if lacks := [name for name in required if name not in values]:
            raise ValueError(f"it lacks {listed(lacks)}")
        return {name: readers.get(name, others or _any)(each) for name, each in values.items()}

    return read


def _parsed(given: Any) -> Any:  # noqa: ANN401 - likewise
    """Return a list or a mapping, which may be given as YAML in a text, with texts in it."""
    return spelt(given) if isinstance(given, str) else given


_READERS: dict[type, Callable[[str], Any]] = {bool: _flag, int: int, float: float, str: str}
_KINDS: dict[str, Callable[[str], Any]] = {
    "boolean": _flag,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
}
