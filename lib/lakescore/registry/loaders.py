"""Predict from MLmodel which files MLflow would read to load a model; nothing is loaded here.

MLmodel can declare one thing while MLflow reads another. A loader reads only its own flavour's
keys, follows `data` into a folder with a second MLmodel, and imports the module that MLmodel names.
So a model is understood only if `_LOADERS` has its flavour, loader module and format together. The
source of these loaders was checked: each reads only the file that it names. All else that a model
does is a doubt, and a policy about flavours or formats refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_PYFUNC = "python_function"
_OWN_MODEL = "mlflow.pyfunc.model"
_UNKNOWN = "unknown"
_METHODS = [
    "predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score",
    "decision_function", "transform",
]  # fmt: skip
"""The allowed values of `predict_fn`, which could name any other attribute."""


class _NotUnderstood(Exception):
    """The reason why none of the listed loaders would read a model in the known way."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a model would be loaded."""

    flavours: tuple[str, ...]
    """The flavours of MLmodel, and the loader module if it belongs to no flavour."""
    formats: tuple[str, ...]
    """The formats of the files that are read; `code` if Python files are among them."""
    files: tuple[str, ...]
    """The files, or folders, in the model's folder that are read."""
    doubts: tuple[str, ...]
    """The reasons why MLflow could read other files too; empty if it certainly does not."""


@dataclass(frozen=True, kw_only=True)
class _Loader:
    """The way in which one of MLflow's loaders, `mlflow.<flavour>`, finds its file."""

    key: str
    """The flavour's key that names the file."""
    default: str | None = None
    """The file if that key is missing."""
    needs_data: bool
    """Whether `python_function.data` must name the file; without it, another file is read."""
    path_key: str | None = None
    """The key of `python_function` that also names the file, if `data` does not."""
    format: Callable[[Mapping[str, Any], str], str]
    """A function of the flavour's settings and the file's name; it returns the format."""
    is_folder: bool = False


def _pickle_or_skops_format(settings: Mapping[str, Any], default: str) -> str:
    declared = settings.get("serialization_format", default)
    if declared not in ("pickle", "cloudpickle", "skops"):
        raise _NotUnderstood("its serialization_format is unknown to scikit-learn's loader")
    return str(declared)


def _lightgbm_format(settings: Mapping[str, Any], _file: str) -> str:
    if settings.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        return "lgb"
    return _pickle_or_skops_format(settings, "cloudpickle")


_XGBOOST_CLASSES = [
    "xgboost.core.Booster",
    *(
        f"xgboost.sklearn.XGB{name}"
        for name in ("Model", "Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")
    ),
]


def _xgboost_format(settings: Mapping[str, Any], file: str) -> str:
    if settings.get("model_class", "xgboost.core.Booster") not in _XGBOOST_CLASSES:
        raise _NotUnderstood("its model_class is not a class of XGBoost")
    return _format_by_suffix(file, ("json", "ubj", "xgb"))


def _catboost_format(settings: Mapping[str, Any], _file: str) -> str:
    if settings.get("save_format") not in ("cbm", "json"):
        raise _NotUnderstood("its save_format is neither cbm nor json")
    return str(settings["save_format"])


def _onnx_format(settings: Mapping[str, Any], _file: str) -> str:
    """Return `onnx`; providers other than these two load the libraries that their options name."""
    providers = settings.get("providers") or []
    known = {"CPUExecutionProvider", "CUDAExecutionProvider"}
    if not isinstance(providers, list) or not all(
        isinstance(provider, str) and provider in known for provider in providers
    ):
        raise _NotUnderstood("its providers are not only CPU and CUDA")
    options = settings.get("onnx_session_options") or {}
    if not isinstance(options, dict) or options.get("extra_session_config"):
        raise _NotUnderstood("its session has an extra_session_config")
    return "onnx"


def _format_by_suffix(file: str, known: tuple[str, ...]) -> str:
    suffix = PurePosixPath(file).suffix.lstrip(".")
    if suffix not in known:
        raise _NotUnderstood(f"its file {file!r} has none of the suffixes {', '.join(known)}")
    return suffix


_LOADERS = {
    "sklearn": _Loader(
        key="pickled_model",
        needs_data=False,
        path_key="model_path",
        format=lambda settings, _file: _pickle_or_skops_format(settings, "pickle"),
    ),
    "lightgbm": _Loader(key="data", needs_data=False, format=_lightgbm_format),
    "xgboost": _Loader(key="data", needs_data=False, format=_xgboost_format),
    "catboost": _Loader(key="data", default="model.cb", needs_data=True, format=_catboost_format),
    "onnx": _Loader(key="data", needs_data=True, format=_onnx_format),
    "statsmodels": _Loader(
        key="data",
        default="model.statsmodels",
        needs_data=True,
        format=lambda _settings, _file: "pickle",
    ),
    # Its files name the classes that Spark creates from them.
    "spark": _Loader(
        key="model_data",
        needs_data=True,
        format=lambda _settings, _file: "sparkml",
        is_folder=True,
    ),
}


def read(model: Mapping[str, Any], folder: Path) -> Reading:
    """Return how MLflow would load the model from *folder*; *model* holds the values of MLmodel."""
    flavours = settings_of(model)
    wrapper = flavours.get(_PYFUNC, {})
    native = sorted(name for name in flavours if name != _PYFUNC)
    loader = wrapper.get("loader_module")
    flavour_names, doubts = list(native), list(_doubts(model))
    formats: set[str] = set()
    files: list[str] = []
    if loader == _OWN_MODEL:
        flavour_names.append(_PYFUNC)
        formats.add("code" if "model_code_path" in wrapper else "cloudpickle")
        files += [str(wrapper.get("python_model"))]
    elif loader not in [f"mlflow.{name}" for name in native]:
        flavour_names += [loader if isinstance(loader, str) else _UNKNOWN] if loader else []
        formats.add(_UNKNOWN)
        doubts.append(
            f"it is loaded by {_quote(loader)}, which is not the loader of any of its flavours"
        )
    for name in native:
        try:
            format_, file = _native_format(
                name, flavours[name], wrapper, loads=loader == f"mlflow.{name}"
            )
            formats.add(format_)
            if format_ == "skops" and flavours[name].get("skops_trusted_types"):
                formats.add("skops-trusted-types")  # only the model's own file says so
            files.append(file)
            path = folder / file
            if not (path.is_dir() if _LOADERS[name].is_folder else path.is_file()):
                doubts.append(f"there is no {file!r}, which {name} names")
        except _NotUnderstood as error:
            formats.add(_UNKNOWN)
            doubts.append(str(error))
    for settings in flavours.values():
        if settings.get("code"):
            formats.add("code")
            files.append(str(settings["code"]))
    return Reading(
        flavours=tuple(flavour_names),
        formats=tuple(sorted(formats)),
        files=tuple(files),
        doubts=tuple(doubts),
    )


def _native_format(
    name: str, settings: Mapping[str, Any], wrapper: Mapping[str, Any], *, loads: bool
) -> tuple[str, str]:
    """Return the format and file of a flavour; *loads* is true if python_function loads it."""
    known = _LOADERS.get(name)
    if known is None:
        raise _NotUnderstood(f"lakescore does not know which files MLflow's loader of {name} reads")
    file = settings.get(known.key, known.default)
    if not _is_plain(file):
        raise _NotUnderstood(
            f"the {known.key} of {name} does not name a file directly in the model's folder"
        )
    if loads:
        loaded_file = wrapper.get("data")
        if loaded_file is None and known.needs_data:
            raise _NotUnderstood(f"python_function does not name the file of {name}")
        if loaded_file is None and known.path_key is not None:
            loaded_file = wrapper.get(known.path_key)
            if loaded_file is None:
                raise _NotUnderstood(f"python_function does not name the file of {name}")
        if loaded_file not in (None, file):
            raise _NotUnderstood(
                f"python_function reads {_quote(loaded_file)}, and {name} names {file!r}"
            )
        if known.path_key is not None and wrapper.get(known.path_key, file) != file:
            raise _NotUnderstood(
                f"{known.path_key} of python_function is not the file that {name} names"
            )
    return known.format(settings, file), file


def _doubts(model: Mapping[str, Any]) -> Iterator[str]:
    flavours = model.get("flavors")
    if not isinstance(flavours, dict) or not all(
        isinstance(name, str) and isinstance(settings, dict) for name, settings in flavours.items()
    ):
        yield "its flavors are not a mapping of names to settings"
        return
    if _PYFUNC not in flavours:
        yield "it has no flavour python_function"
    wrapper = flavours.get(_PYFUNC, {})
    if wrapper.get("predict_fn", "predict") not in _METHODS:
        yield f"its predict_fn is {_quote(wrapper['predict_fn'])}"
    if not isinstance(wrapper.get("config") or {}, dict):
        yield "its config is not a mapping"
    for key, path in _paths(model):
        if path is not None and not isinstance(path, str):
            yield f"its {key} is not a text"


def _is_plain(file: object) -> bool:
    """Return whether *file* is a plain name, without a folder.

    A loader looks for MLmodel beside its file: in a sub-folder that would be another MLmodel.
    """
    return isinstance(file, str) and file not in {"", ".", ".."} and "/" not in file


def _quote(value: object) -> str:
    return repr(value[:100]) if isinstance(value, str) else "a value that is not a text"


def settings_of(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of each flavour; values that are not a mapping are left out."""
    flavours = model.get("flavors")
    items = flavours.items() if isinstance(flavours, dict) else ()
    return {
        name: value for name, value in items if isinstance(name, str) and isinstance(value, dict)
    }


def leads_out(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first key of MLmodel, with its value, whose path leaves the model's folder."""
    for key, path in _paths(model):
        if isinstance(path, str) and (path.startswith("/") or ".." in PurePosixPath(path).parts):
            return key, path
    return None


def _paths(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each value that MLflow reads as a path below the model's folder, after its key.

    MLflow reads only the last part of `model_code_path`.
    """
    for name, settings in settings_of(model).items():
        for key in ("data", "model_path", "pickled_model", "model_data", "python_model", "code"):
            if settings.get(key):
                yield f"{name}.{key}", settings[key]
        environment = settings.get("env")
        paths = environment.values() if isinstance(environment, dict) else [environment]
        yield from ((f"{name}.env", path) for path in paths)
        artifacts = settings.get("artifacts")
        for artifact in artifacts.values() if isinstance(artifacts, dict) else ():
            if isinstance(artifact, dict):
                yield f"{name}.artifacts", artifact.get("path")
    example = model.get("saved_input_example_info")
    if isinstance(example, dict):
        for key in ("artifact_path", "serving_input_path"):
            yield f"saved_input_example_info.{key}", example.get(key)
