"""Loading: the options with which every engine loads and calls a pinned version.

The options are written into a private copy of the version's `MLmodel`, so that MLflow's own loader
applies them everywhere. `spark_udf` also takes `model_config`, but drops it on a cluster.
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
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml

from lakescore import environment, executor
from lakescore.encoding import parsed, spelt
from lakescore.errors import ConfigError, InputContractError, ScoringFailed
from lakescore.home import scratch
from lakescore.isolation import own_code
from lakescore.options import LoadOptions
from lakescore.trust import NotTrusted
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakescore.options import EnvManager
    from lakescore.registry import ModelVersion
    from lakescore.runner import Runner

_AS_LOGGED = LoadOptions()
_PROBA = "predict_proba"
_BOOSTING = ("lightgbm", "xgboost", "catboost")
"""The libraries, besides scikit-learn, whose models workers can call without MLflow."""
_XGBOOST_BOOSTER = "xgboost.core.Booster"
_ONLY_MLFLOW = "pyfunc.params or the version's own code"
_MAY_BE_CATEGORIES = {"string", "integer", "long"}
"""The types of features that a boosting library can have been trained on as categories."""
_Reader = Callable[[Any], Any]
"""Turns a value of the job's file, whose scalars are texts, into the type that a model declares."""


class OptionUnknown(ConfigError):
    """The model does not declare this parameter or this key of its configuration."""

    def __init__(self, what: str, name: str, uri: str, known: Sequence[str]) -> None:
        declared = f"it declares {listed(known)}" if known else "it declares none"
        super().__init__(
            f"pyfunc.{what}: {uri} does not know {name!r}{nearest(name, known)}; {declared} (in "
            "its signature, or in the configuration that it was logged with)"
        )


class OptionUnreadable(ConfigError):
    """A value of a parameter or of the configuration does not have the declared type."""

    def __init__(self, name: str, text: object, uri: str, reason: str) -> None:
        super().__init__(f"pyfunc: {name}={text} does not fit the declaration of {uri}: {reason}")


class UnsupportedSignature(InputContractError):
    """The signature needs a type that a table's column cannot have."""

    def __init__(self, uri: str, what: str) -> None:
        super().__init__(f"{uri} cannot score a table: {what}")


class FlavorMissing(InputContractError):
    """The version has no flavour that MLflow can apply to rows."""

    def __init__(self, uri: str, flavors: Iterable[str]) -> None:
        super().__init__(
            f"{uri} lacks the flavour python_function, which scoring a table needs; it has: "
            f"{listed(flavors)}; wrap it in a PythonModel, and log that with "
            "mlflow.pyfunc.log_model"
        )


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """A pinned version with its options."""

    model: ModelVersion
    folder: Path
    """The folder of the artifacts, with the options in `MLmodel`."""
    key: str
    """Equal for equal artifacts with equal options."""
    flavors: Mapping[str, Any]
    params: Mapping[str, Any] | None
    env_manager: EnvManager
    own_code: str | None = None
    """The code that the version brings, if any. Such a version runs in a separate process."""
    proba: bool = False
    """Whether the model gives the probabilities of classes."""
    classes: tuple[Any, ...] = ()
    """The classes of a classifier that gives probabilities, in its order and type."""
    has_categories: bool = False
    """Whether the model was trained on pandas categories, which tables and MLflow do not have."""

    @property
    def pyfunc(self) -> executor.Version:
        """The version as MLflow's PyFuncModel, without features and outputs so far."""
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
            program=_dump_program() if self.own_code and self.env_manager == "local" else None,
        )

    @property
    def _names(self) -> tuple[Any, ...] | None:
        """The names of the outputs in the signature, unless the outputs are probabilities."""
        schema: Any = self.model.signature.outputs  # MLflow's specs are a union no check narrows
        if self.classes or schema is None:
            return None
        return tuple(schema.input_names()) if schema.has_input_names() else None

    @property
    def reference(self) -> executor.Version:
        """The version whose values all engines give, without features and outputs so far.

        It is MLflow's PyFuncModel. But MLflow does not pass on probabilities or categories of a
        boosting library; then it is the library's own model.
        """
        return self.native if self.is_library_reference else self.pyfunc

    @property
    def is_library_reference(self) -> bool:
        """Whether `reference` is the library's own model."""
        return self.library in _BOOSTING and (self.proba or self.has_categories)

    @property
    def native(self) -> executor.Version:
        """The version as a model of its library, without features and outputs so far."""
        if (library := _find_library(self.flavors)) in _BOOSTING:
            settings, method = self.flavors[library], _PROBA if self.proba else "predict"
            return replace(
                self.pyfunc, mode="frame", library=library, settings=settings, method=method
            )
        flavor = self.flavors["sklearn"]
        readable = flavor.get("serialization_format") in {"pickle", "cloudpickle"}
        method = self.flavors["python_function"].get("predict_fn", "predict")
        pickled = flavor["pickled_model"] if readable else None
        return replace(self.pyfunc, mode="frame", pickled=pickled, method=method)

    @property
    def library(self) -> str | None:
        """The library whose model can be called itself; None if only MLflow can call the version.

        MLflow also runs the code that the version brings, and passes on parameters.
        """
        loader = self.flavors.get("python_function", {})
        if loader.get("code") or self.params is not None:
            return None
        return _find_library(self.flavors)


def prepare(
    model: ModelVersion, runner: Runner | None = None, options: LoadOptions = _AS_LOGGED
) -> Loadable:
    """Return *model* with its options, in a separate folder if its files have to change.

    Args:
        model: the pinned version.
        runner: the runner whose worker inspects a classifier; None for the driver.
        options: how it is loaded and called.

    Raises:
        OptionUnknown: the model does not declare this parameter or configuration.
        OptionUnreadable: a value does not have the declared type.
        FlavorMissing: the model has no `python_function` flavour.
        UnsupportedSignature: the model has no probabilities, or MLflow alone can call it as asked
            and would not pass on its probabilities or categories.
        NotTrusted: the trust policy does not let the environment's manager install the model's
            packages.
    """
    card = parsed((model.artifacts / "MLmodel").read_text(encoding="utf-8"))
    loader = card["flavors"].get("python_function")
    if loader is None:
        raise FlavorMissing(model.uri, card["flavors"])
    changed = dict(loader)
    if options.model_config:
        configured = loader.get("config") or {}
        changed["config"] = _parse_config(model, configured, options.model_config)
    proba, library = options.output == "proba", _find_library(card["flavors"])
    if proba and library is None:
        flavors, libraries = ", ".join(card["flavors"]), listed(["sklearn", *_BOOSTING])
        raise UnsupportedSignature(model.uri, f"only {libraries} have {_PROBA}, not {flavors}")
    if proba and library == "sklearn":
        changed["predict_fn"] = _PROBA
    files = _environment_files(model, loader, options.env_manager)
    folder, key = model.artifacts, model.digest
    if changed != loader or files:
        card["flavors"]["python_function"] = changed
        files["MLmodel"] = yaml.safe_dump(card, sort_keys=False)
        folder = _copy_artifacts(model, files)
        difference = json.dumps([changed, files], sort_keys=True, default=str).encode()
        key = f"{key}+{hashlib.sha256(difference).hexdigest()[:16]}"
    loadable = Loadable(
        model=model,
        folder=folder,
        key=key,
        flavors=card["flavors"],
        params=_parse_params(model, options.params) if options.params else None,
        env_manager=options.env_manager,
        own_code=own_code(card["flavors"], folder),
        proba=proba,
    )
    return _inspect(loadable, runner)


def _inspect(loadable: Loadable, runner: Runner | None) -> Loadable:
    """Return *loadable* with the facts that only its loaded model has, if they are needed."""
    uri, proba = loadable.model.uri, loadable.proba
    library = _find_library(loadable.flavors)
    if proba and library in _BOOSTING and loadable.library is None:
        reason = f"MLflow has no {_PROBA} of {library}, and only MLflow passes on {_ONLY_MLFLOW}"
        raise UnsupportedSignature(uri, reason)
    if not proba and not _may_have_categories(loadable):
        return loadable
    try:
        estimator = _describe(loadable, runner)
    except (environment.ModuleMissing, ScoringFailed):
        if proba or loadable.env_manager == "local":
            raise
        return loadable  # the environment that MLflow makes can have what this one lacks
    if estimator.categories and loadable.library is None:
        reason = f"it was trained on pandas categories, which cannot be used with {_ONLY_MLFLOW}"
        raise UnsupportedSignature(uri, reason)
    return replace(
        loadable,
        classes=_class_labels(uri, estimator) if proba else (),
        has_categories=bool(estimator.categories),
    )


def _find_library(flavors: Mapping[str, Any]) -> str | None:
    """Return the library of the model that MLflow's `python_function` loads, if it is known."""
    if "sklearn" in flavors:
        return "sklearn"
    loader = flavors["python_function"]
    for name in _BOOSTING:
        settings = flavors.get(name, {})
        is_loaded = loader.get("loader_module") == f"mlflow.{name}"
        if is_loaded and settings.get("data") == loader.get("data") is not None:
            return name if _is_known_class(name, settings) else None
    return None


def _is_known_class(library: str, settings: Mapping[str, Any]) -> bool:
    """Return whether workers can load a model of this class and format as MLflow does.

    CatBoost reads other formats too, but then gives other probabilities.
    """
    if library == "xgboost":
        module, _, name = str(settings.get("model_class", _XGBOOST_BOOSTER)).rpartition(".")
        return module in {"xgboost.core", "xgboost.sklearn"} and name.isidentifier()
    if library == "catboost":
        is_known = str(settings.get("model_type")).startswith("CatBoost")
        return is_known and settings.get("save_format") in {"cbm", "json"}
    return True


def _may_have_categories(loadable: Loadable) -> bool:
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    library = _find_library(loadable.flavors)
    if library not in {"lightgbm", "xgboost"}:
        return False
    model_class = loadable.flavors[library].get("model_class", _XGBOOST_BOOSTER)
    if library == "xgboost" and model_class == _XGBOOST_BOOSTER:
        return True  # MLflow would pass any numbers on as codes of categories
    if loadable.library is None or inputs is None or inputs.is_tensor_spec():
        return False
    return any(getattr(spec.type, "name", "") in _MAY_BE_CATEGORIES for spec in inputs)


@cache
def _dump_program() -> bytes:
    return executor.program(executor.answer)


def _environment_files(
    model: ModelVersion, settings: Mapping[str, Any], env_manager: EnvManager
) -> dict[str, str]:
    """Return the files, by name, that *env_manager* reads instead of the model's."""
    if env_manager == "local" or model.installing is None:
        return {}
    if model.installing == "none":
        allowed = ["env_manager: local", "environments: wheels in the policy"]
        reason = f"env_manager {env_manager} installs what its files ask for"
        raise NotTrusted(model.uri, "environments", reason, allowed)
    try:
        return environment.wheels(model.artifacts, settings, env_manager)
    except ValueError as error:
        allowed = ["name==version in requirements.txt", "env_manager uv or virtualenv"]
        raise NotTrusted(model.uri, "environments", str(error), allowed) from None


def _copy_artifacts(model: ModelVersion, files: Mapping[str, str]) -> Path:
    """Return a private copy of the artifacts, with *files* (texts by name) in place of the old."""
    folder = Path(tempfile.mkdtemp(dir=scratch())) / model.artifacts.name
    shutil.copytree(model.artifacts, folder)
    folder.chmod(0o700)
    for name, text in files.items():
        (folder / name).unlink()
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def _describe(loadable: Loadable, runner: Runner | None) -> executor.Description:
    uri = loadable.model.uri
    try:
        if runner is None:
            return executor.describe(loadable.native)
        return runner.call(executor.describe, loadable.native)
    except ModuleNotFoundError as error:
        raise environment.missing(uri, loadable.folder, error) from error
    except executor.ModelFailed as error:
        raise ScoringFailed(uri, "any row", str(error)) from error


def _class_labels(uri: str, estimator: executor.Description) -> tuple[Any, ...]:
    classes = estimator.classes
    if classes is None or _PROBA not in estimator.methods:
        raise UnsupportedSignature(uri, f"its {estimator.kind} has no {_PROBA}")
    if getattr(classes, "ndim", 1) != 1 or isinstance(classes, list):
        raise UnsupportedSignature(uri, "it has several labels per row")
    return tuple(label.item() if hasattr(label, "item") else label for label in classes)


def _parse_config(
    model: ModelVersion, declared: Mapping[str, Any], requested: Mapping[str, Any]
) -> dict[str, Any]:
    _check_names("model_config", model, requested, list(declared))
    overrides = {
        name: _parse_option(model, name, value, _reader_like(declared[name]))
        for name, value in requested.items()
    }
    return {**declared, **overrides}


def _parse_params(model: ModelVersion, requested: Mapping[str, Any]) -> dict[str, Any]:
    specs = {spec.name: spec for spec in (model.signature.params or [])}
    _check_names("params", model, requested, list(specs))
    readers = {}
    for name in requested:
        reader = _reader_of_type(specs[name].to_dict())
        readers[name] = _list_reader(reader) if specs[name].shape is not None else reader
    return {
        name: _parse_option(model, name, value, readers[name]) for name, value in requested.items()
    }


def _check_names(
    option: str, model: ModelVersion, requested: Mapping[str, Any], known: list[str]
) -> None:
    for name in requested:
        if name not in known:
            raise OptionUnknown(option, name, model.uri, known)


def _parse_option(model: ModelVersion, name: str, value: Any, reader: _Reader) -> Any:  # noqa: ANN401 - a value of any type
    try:
        return reader(value)
    except (ValueError, yaml.YAMLError) as error:
        raise OptionUnreadable(name, value, model.uri, str(error).splitlines()[0]) from None


def _reader_like(declared: object) -> _Reader:
    """Return a reader of values that have the type of the value *declared*."""
    if isinstance(declared, list):
        kinds = {type(value) for value in declared}
        return _list_reader(_reader_like(declared[0])) if len(kinds) == 1 else _parse_any
    if isinstance(declared, dict):
        return _mapping_reader(
            {name: _reader_like(value) for name, value in declared.items()}, others=_parse_any
        )
    return _scalar_reader(_READERS[type(declared)]) if type(declared) in _READERS else _parse_any


def _reader_of_type(kind: Mapping[str, Any]) -> _Reader:
    """Return a reader of values of a type in MLflow's signatures."""
    match kind["type"]:
        case "array":
            return _list_reader(_reader_of_type(kind["items"]))
        case "object":
            fields = kind["properties"]
            required = [name for name, field in fields.items() if field.get("required")]
            return _mapping_reader(
                {n: _reader_of_type(field) for n, field in fields.items()}, required=required
            )
        case "map":
            return _mapping_reader({}, others=_reader_of_type(kind["values"]))
        case name:
            return _scalar_reader(_KINDS[name]) if name in _KINDS else _parse_any


def _parse_flag(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("write true or false")
    return text.lower() == "true"


def _parse_any(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    """Parse texts as YAML, since their type is not declared."""
    if isinstance(value, list):
        return [_parse_any(item) for item in value]
    if isinstance(value, dict):
        return {name: _parse_any(item) for name, item in value.items()}
    return parsed(value) if isinstance(value, str) else value


def _scalar_reader(reader: Callable[[str], Any]) -> _Reader:
    def read(value: Any) -> Any:  # noqa: ANN401 - a value of any type
        if value is None or isinstance(value, (list, dict)):
            raise ValueError("write one value")
        return reader(str(value))

    return read


def _list_reader(reader: _Reader) -> _Reader:
    def read(value: Any) -> list[Any]:  # noqa: ANN401 - a value of any type
        values = _parse_text(value)
        if not isinstance(values, list):
            raise ValueError("write a list")  # noqa: TRY004 - a value in a file
        return [reader(item) for item in values]

    return read


def _mapping_reader(
    readers: Mapping[str, _Reader],
    *,
    others: _Reader | None = None,
    required: Sequence[str] = (),
) -> _Reader:
    def read(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a value of any type
        values = _parse_text(value)
        if not isinstance(values, dict):
            raise ValueError("write a mapping")  # noqa: TRY004 - a value in a file
        for name in values if others is None else ():
            if name not in readers:
                raise ValueError(f"it has no {name!r}{nearest(name, readers)}")
        if lacks := [name for name in required if name not in values]:
            raise ValueError(f"it lacks {listed(lacks)}")
        return {
            name: readers.get(name, others or _parse_any)(item) for name, item in values.items()
        }

    return read


def _parse_text(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    """Return a list or a mapping of texts; *value* can also be YAML in one text."""
    return spelt(value) if isinstance(value, str) else value


_READERS: dict[type, Callable[[str], Any]] = {bool: _parse_flag, int: int, float: float, str: str}
_KINDS: dict[str, Callable[[str], Any]] = {
    "boolean": _parse_flag,
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
}
