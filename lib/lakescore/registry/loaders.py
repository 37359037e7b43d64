"""What MLflow would read to load a model, told from its MLmodel alone: nothing is loaded here.

MLmodel may declare one thing and be read in another way. A loader takes its own flavour's keys and
no others, follows `data` into a folder with an MLmodel of its own, and imports the module that it
is told to. So a model is understood only where its flavour, loader module and format stand together
in `_LOADERS`: loaders whose source was read, and which read the one file that they name. Whatever
else a model does is a doubt, and a policy about flavours or formats refuses it.
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
"""What `predict_fn` may call: any other attribute could be named there."""


class _Odd(Exception):
    """Why a model is not read as the listed loaders read theirs."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a model would be loaded."""

    flavours: tuple[str, ...]
    """MLmodel's, and the module that would load it where that is none of theirs."""
    formats: tuple[str, ...]
    """Of the files that are read; `code` where there are Python files among them."""
    files: tuple[str, ...]
    """What is read: files, or folders, of the model's folder."""
    doubts: tuple[str, ...]
    """Why it is not known that nothing else is read; none where it is."""


@dataclass(frozen=True, kw_only=True)
class _Loader:
    """How one of MLflow's loaders, `mlflow.<flavour>`, finds its file."""

    key: str
    """The flavour's own key that names the file."""
    default: str | None = None
    """The file where that key is left out."""
    needs_data: bool
    """Whether the loader is handed the file by `python_function.data`, and else goes astray."""
    path_key: str | None = None
    """The key of `python_function` that names the file too, where `data` does not."""
    format: Callable[[Mapping[str, Any], str], str]
    """The format by the flavour's settings and the file's name."""
    is_folder: bool = False


def _pickled_or_skops(settings: Mapping[str, Any], default: str) -> str:
    declared = settings.get("serialization_format", default)
    if declared not in ("pickle", "cloudpickle", "skops"):
        raise _Odd("its serialization_format is none of scikit-learn's loader")
    return str(declared)


def _lightgbm(settings: Mapping[str, Any], _file: str) -> str:
    if settings.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        return "lgb"
    return _pickled_or_skops(settings, "cloudpickle")


_XGBOOST_CLASSES = [
    "xgboost.core.Booster",
    *(
        f"xgboost.sklearn.XGB{name}"
        for name in ("Model", "Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")
    ),
]


def _xgboost(settings: Mapping[str, Any], file: str) -> str:
    if settings.get("model_class", "xgboost.core.Booster") not in _XGBOOST_CLASSES:
        raise _Odd("its model_class is none of XGBoost's own")
    return _by_ending(file, ("json", "ubj", "xgb"))


def _catboost(settings: Mapping[str, Any], _file: str) -> str:
    if settings.get("save_format") not in ("cbm", "json"):
        raise _Odd("its save_format is neither cbm nor json")
    return str(settings["save_format"])


def _onnx(settings: Mapping[str, Any], _file: str) -> str:
    """Return `onnx`; other providers than these two load libraries that their options name."""
    providers = settings.get("providers") or []
    known = {"CPUExecutionProvider", "CUDAExecutionProvider"}
    if not isinstance(providers, list) or not all(
        isinstance(each, str) and each in known for each in providers
    ):
        raise _Odd("its providers are not those of CPU and CUDA")
    options = settings.get("onnx_session_options") or {}
    if not isinstance(options, dict) or options.get("extra_session_config"):
        raise _Odd("its session has a configuration of its own")
    return "onnx"


def _by_ending(file: str, known: tuple[str, ...]) -> str:
    ending = PurePosixPath(file).suffix.lstrip(".")
    if ending not in known:
        raise _Odd(f"its file {file!r} does not end as one of {', '.join(known)}")
    return ending


_LOADERS = {
    "sklearn": _Loader(
        key="pickled_model",
        needs_data=False,
        path_key="model_path",
        format=lambda settings, _file: _pickled_or_skops(settings, "pickle"),
    ),
    "lightgbm": _Loader(key="data", needs_data=False, format=_lightgbm),
    "xgboost": _Loader(key="data", needs_data=False, format=_xgboost),
    "catboost": _Loader(key="data", default="model.cb", needs_data=True, format=_catboost),
    "onnx": _Loader(key="data", needs_data=True, format=_onnx),
    "statsmodels": _Loader(
        key="data",
        default="model.statsmodels",
        needs_data=True,
        format=lambda _settings, _file: "pickle",
    ),
    # Its files name the classes that are made of them.
    "spark": _Loader(
        key="model_data",
        needs_data=True,
        format=lambda _settings, _file: "sparkml",
        is_folder=True,
    ),
}


def read(model: Mapping[str, Any], folder: Path) -> Reading:
    """Return how the model with this MLmodel, as plain values, would be loaded from *folder*."""
    flavours = settings_of(model)
    wrapper = flavours.get(_PYFUNC, {})
    native = sorted(name for name in flavours if name != _PYFUNC)
    loader = wrapper.get("loader_module")
    named, doubts = list(native), list(_doubts(model))
    formats: set[str] = set()
    files: list[str] = []
    if loader == _OWN_MODEL:
        named.append(_PYFUNC)
        formats.add("code" if "model_code_path" in wrapper else "cloudpickle")
        files += [str(wrapper.get("python_model"))]
    elif loader not in [f"mlflow.{name}" for name in native]:
        named += [loader if isinstance(loader, str) else _UNKNOWN] if loader else []
        formats.add(_UNKNOWN)
        doubts.append(f"it is loaded by {_told(loader)}, which is none of its flavours' loaders")
    for name in native:
        try:
            kind, file = _native(name, flavours[name], wrapper, loads=loader == f"mlflow.{name}")
            formats.add(kind)
            if kind == "skops" and flavours[name].get("skops_trusted_types"):
                formats.add("skops-trusted-types")  # the model's own file alone says so
            files.append(file)
            there = folder / file
            if not (there.is_dir() if _LOADERS[name].is_folder else there.is_file()):
                doubts.append(f"there is no {file!r}, which {name} names")
        except _Odd as odd:
            formats.add(_UNKNOWN)
            doubts.append(str(odd))
    for settings in flavours.values():
        if settings.get("code"):
            formats.add("code")
            files.append(str(settings["code"]))
    return Reading(
        flavours=tuple(named),
        formats=tuple(sorted(formats)),
        files=tuple(files),
        doubts=tuple(doubts),
    )


def _native(
    name: str, settings: Mapping[str, Any], wrapper: Mapping[str, Any], *, loads: bool
) -> tuple[str, str]:
    """Return the format and the file of a flavour, which the pyfunc loader *loads* or not."""
    known = _LOADERS.get(name)
    if known is None:
        raise _Odd(f"what MLflow's loader of {name} reads is not known to lakescore")
    file = settings.get(known.key, known.default)
    if not _is_plain(file):
        raise _Odd(f"the {known.key} of {name} names no file of the model's own folder")
    if loads:
        handed = wrapper.get("data")
        if handed is None and known.needs_data:
            raise _Odd(f"python_function does not name the file of {name}")
        if handed is None and known.path_key is not None:
            handed = wrapper.get(known.path_key)
            if handed is None:
                raise _Odd(f"python_function does not name the file of {name}")
        if handed not in (None, file):
            raise _Odd(f"python_function reads {_told(handed)}, and {name} names {file!r}")
        if known.path_key is not None and wrapper.get(known.path_key, file) != file:
            raise _Odd(f"{known.path_key} of python_function is not the file that {name} names")
    return known.format(settings, file), file


def _doubts(model: Mapping[str, Any]) -> Iterator[str]:
    flavours = model.get("flavors")
    if not isinstance(flavours, dict) or not all(
        isinstance(name, str) and isinstance(each, dict) for name, each in flavours.items()
    ):
        yield "its flavors are no mapping of names to settings"
        return
    if _PYFUNC not in flavours:
        yield "it has no flavour python_function"
    wrapper = flavours.get(_PYFUNC, {})
    if wrapper.get("predict_fn", "predict") not in _METHODS:
        yield f"its predict_fn is {_told(wrapper['predict_fn'])}"
    if not isinstance(wrapper.get("config") or {}, dict):
        yield "its config is no mapping"
    for key, path in _paths(model):
        if path is not None and not isinstance(path, str):
            yield f"its {key} is no text"


def _is_plain(file: object) -> bool:
    """Tell whether *file* is the name of something right in a folder.

    A loader looks for MLmodel beside the file that it is handed: in a sub-folder that is another.
    """
    return isinstance(file, str) and file not in {"", ".", ".."} and "/" not in file


def _told(value: object) -> str:
    return repr(value[:100]) if isinstance(value, str) else "what is no text"


def settings_of(model: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of each flavour; what is no such mapping is left out."""
    flavours = model.get("flavors")
    there = flavours.items() if isinstance(flavours, dict) else ()
    return {name: each for name, each in there if isinstance(name, str) and isinstance(each, dict)}


def leads_out(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the first key of MLmodel, with its value, whose path leaves the model's folder."""
    for key, path in _paths(model):
        if isinstance(path, str) and (path.startswith("/") or ".." in PurePosixPath(path).parts):
            return key, path
    return None


def _paths(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what MLflow takes for a path below the model's folder, with the key's name.

    Of `model_code_path` it takes the last part alone.
    """
    for name, settings in settings_of(model).items():
        for key in ("data", "model_path", "pickled_model", "model_data", "python_model", "code"):
            if settings.get(key):
                yield f"{name}.{key}", settings[key]
        environment = settings.get("env")
        named = environment.values() if isinstance(environment, dict) else [environment]
        yield from ((f"{name}.env", each) for each in named)
        artifacts = settings.get("artifacts")
        for artifact in artifacts.values() if isinstance(artifacts, dict) else ():
            if isinstance(artifact, dict):
                yield f"{name}.artifacts", artifact.get("path")
    example = model.get("saved_input_example_info")
    if isinstance(example, dict):
        for key in ("artifact_path", "serving_input_path"):
            yield f"saved_input_example_info.{key}", example.get(key)
