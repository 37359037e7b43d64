"""Preparing: a version's options are written into a private copy of its `MLmodel`.

So MLflow's own loader applies them everywhere. `spark_udf` also takes `model_config`, but drops it
on a cluster.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pyspark.sql import SparkSession

from lakescore import environments, executor
from lakescore.encoding import parsed
from lakescore.errors import ScoringFailed
from lakescore.home import scratch
from lakescore.isolation import find_code, is_pipeline
from lakescore.loading import pipelines
from lakescore.loading.errors import FlavorMissing, UnsupportedSignature
from lakescore.loading.loadable import (
    BOOSTING,
    PROBA,
    XGBOOST_BOOSTER,
    Loadable,
    find_library,
)
from lakescore.loading.options import parse_config, parse_params
from lakescore.options import LoadOptions
from lakescore.trust import NotTrusted
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakescore.environments import Environment
    from lakescore.isolation import Code
    from lakescore.options import EnvManager
    from lakescore.registry import ModelVersion, Outline
    from lakescore.runner import Runner

_AS_LOGGED = LoadOptions()
_ONLY_MLFLOW = "pyfunc.params or the version's own code"
_SHARED_FROM = 256 * 2**20
"""The bytes of a version's files from which the workers of a machine share one loaded model. It
costs a process, and a copy of each batch between two processes."""
_SHARED_LOADERS = ("mlflow.sklearn", "mlflow.statsmodels")
"""Modules of MLflow whose models start no threads when they are loaded: a fork has no threads."""
_MAY_BE_CATEGORIES = {"string", "integer", "long"}
"""The types of features that a boosting library can have been trained on as categories."""


def _say_nothing(text: str) -> None:
    """Take what `prepare` says."""


def prepare(
    model: ModelVersion,
    runner: Runner | None = None,
    options: LoadOptions = _AS_LOGGED,
    say: Callable[[str], None] = _say_nothing,
) -> Loadable:
    """Return *model* with its options, in a separate folder if its files have to change.

    Args:
        model: the pinned version.
        runner: the runner whose worker inspects a classifier; None for the driver.
        options: how it is loaded and called.
        say: gets a line at each step that takes seconds.

    Raises:
        OptionUnknown: the model does not declare this parameter or configuration.
        OptionUnreadable: a value does not have the declared type.
        FlavorMissing: the model has no `python_function` flavour.
        UnsupportedSignature: the model has no probabilities, or MLflow alone can call it as asked
            and would not pass on its probabilities or categories; or it is a pipeline that Spark
            cannot apply as asked.
        PipelineNotShared, RunnerRefused: Spark cannot load the pipeline whose classes are needed.
        RequirementRefused, NeedsUnknown, PythonMissing, PythonUnsupported, WheelsMissing,
        PackagesOffline, IndexUnavailable, DiskFull, EnvironmentNotMade, EnvironmentChanged: the
            version's own environment cannot be made.
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
        changed["config"] = parse_config(model, configured, options.model_config)
    proba, library = options.output == "proba", find_library(card["flavors"])
    if proba and library is None and not is_pipeline(card["flavors"]):
        flavors, libraries = ", ".join(card["flavors"]), listed(["sklearn", *BOOSTING, "spark"])
        raise UnsupportedSignature(model.uri, f"only {libraries} have {PROBA}, not {flavors}")
    if proba and library == "sklearn":
        changed["predict_fn"] = PROBA
    files = _environment_files(model, loader, options.env_manager)
    folder, key = model.artifacts, model.digest
    if changed != loader or files:
        card["flavors"]["python_function"] = changed
        files["MLmodel"] = yaml.safe_dump(card, sort_keys=False)
        folder = _copy_artifacts(model, files)
        difference = json.dumps([changed, files], sort_keys=True, default=str).encode()
        key = f"{key}+{hashlib.sha256(difference).hexdigest()[:16]}"
    code = find_code(card["flavors"], folder)
    own, reason = _choose_environment(model, card["flavors"], code, options, say)
    loadable = Loadable(
        model=model,
        folder=folder,
        key=key,
        flavors=card["flavors"],
        params=parse_params(model, options.params) if options.params else None,
        environment=own,
        environment_reason=reason,
        env_manager=options.env_manager,
        own_code=code.own,
        is_shared=_is_shared(model, card["flavors"], code),
        proba=proba,
        takes_records=_takes_records(model, card),
    )
    if loadable.is_pipeline:
        return _inspect_pipeline(loadable, runner)
    return _inspect(loadable, runner)


def outline(version: Outline) -> Loadable:
    """Return what `prepare` does, as far as the MLmodel file of *version* alone says it.

    So nothing is known of code or of categories in its other files.

    Raises:
        FlavorMissing, UnsupportedSignature: as `prepare`.
    """
    model, card = version.model, version.model_file
    if "python_function" not in card["flavors"]:
        raise FlavorMissing(model.uri, card["flavors"])
    loadable = Loadable(
        model=model,
        folder=model.artifacts,
        key="",
        flavors=card["flavors"],
        params=None,
        env_manager="local",
        takes_records=_takes_records(model, card),
    )
    if loadable.is_pipeline:
        pipelines.check(loadable)
    return loadable


def _is_shared(model: ModelVersion, flavors: Mapping[str, Any], code: Code) -> bool:
    """Return whether the workers of a machine share one loaded model of this version."""
    return (
        sys.platform == "linux"  # libraries of macOS do not support a fork
        and (model.size or 0) >= _SHARED_FROM
        and flavors["python_function"].get("loader_module") in _SHARED_LOADERS
        and code.own is None
        and code.libraries.isdisjoint(BOOSTING)
    )


def _takes_records(model: ModelVersion, card: Mapping[str, Any]) -> bool:
    inputs: Any = model.signature.inputs  # MLflow's specs are a union no check narrows
    if not card.get("is_signature_from_type_hint") or inputs is None or len(inputs.inputs) > 1:
        return False
    return bool(inputs.inputs[0].to_dict()["type"] == "object")


def _inspect_pipeline(loadable: Loadable, runner: Runner | None) -> Loadable:
    """Return *loadable* with the classes of its pipeline, if it gives their probabilities."""
    pipelines.check(loadable)
    if not loadable.proba:
        return loadable
    uri = loadable.model.uri
    spark = SparkSession.active() if runner is None else runner.start(pipelines.describe([uri]))
    pipeline = pipelines.load(spark, loadable)
    labels = pipelines.class_labels(uri, pipeline)
    return replace(loadable, classes=labels, pipeline=pipeline)


def _inspect(loadable: Loadable, runner: Runner | None) -> Loadable:
    """Return *loadable* with the facts that only its loaded model has, if they are needed."""
    uri, proba = loadable.model.uri, loadable.proba
    library = find_library(loadable.flavors)
    if proba and library in BOOSTING and loadable.library is None:
        reason = f"MLflow has no {PROBA} of {library}, and only MLflow passes on {_ONLY_MLFLOW}"
        raise UnsupportedSignature(uri, reason)
    if not proba and not _may_have_categories(loadable):
        return loadable
    try:
        estimator = _describe(loadable, runner)
    except (environments.ModuleMissing, ScoringFailed):
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


def _may_have_categories(loadable: Loadable) -> bool:
    inputs: Any = loadable.model.signature.inputs  # MLflow's specs are a union no check narrows
    library = find_library(loadable.flavors)
    if library not in {"lightgbm", "xgboost"}:
        return False
    model_class = loadable.flavors[library].get("model_class", XGBOOST_BOOSTER)
    if library == "xgboost" and model_class == XGBOOST_BOOSTER:
        return True  # MLflow would pass any numbers on as codes of categories
    if loadable.library is None or inputs is None or inputs.is_tensor_spec():
        return False
    return any(getattr(spec.type, "name", "") in _MAY_BE_CATEGORIES for spec in inputs)


def _choose_environment(
    model: ModelVersion,
    flavors: Mapping[str, Any],
    code: Code,
    options: LoadOptions,
    say: Callable[[str], None],
) -> tuple[Environment | None, str]:
    """Return the version's own environment, if it runs in one, and the reason."""
    if options.environment == "own" and is_pipeline(flavors):
        raise UnsupportedSignature(
            model.uri, "Spark itself applies it, and has one environment; leave environment out"
        )
    if options.environment == "shared" or options.env_manager != "local" or is_pipeline(flavors):
        return None, ""
    reason = "asked for"
    if options.environment == "auto":
        libraries = environments.find_libraries(flavors, code)
        differences = environments.find_differences(model.artifacts, libraries)
        chosen, reason = environments.choose(differences)
        if chosen == "shared":
            return None, reason if differences else ""

    def begin_step(text: str, done: int, _total: int) -> None:
        if done == 0:
            say(f"the environment of {model.uri}: {text}")

    own = environments.own_environment(
        model.uri,
        model.artifacts,
        flavors["python_function"],
        allowed=model.installing,
        indexes=model.indexes,
        progress=begin_step,
    )
    return own, reason


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
        return environments.wheels(model.artifacts, settings, env_manager)
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
        raise loadable.explain_missing(error) from error
    except executor.ModelFailed as error:
        raise ScoringFailed(uri, "any row", str(error)) from error


def _class_labels(uri: str, estimator: executor.Description) -> tuple[Any, ...]:
    if estimator.has_several_labels and PROBA in estimator.methods:
        raise UnsupportedSignature(uri, "it has several labels per row")
    if estimator.classes is None or PROBA not in estimator.methods:
        raise UnsupportedSignature(uri, f"its {estimator.kind} has no {PROBA}")
    return estimator.classes
