"""Loadable: a pinned version with the options with which every engine loads and calls it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakescore import environments, executor
from lakescore.isolation import is_pipeline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyspark.ml import PipelineModel

    from lakescore.environments import Environment
    from lakescore.errors import LakescoreError
    from lakescore.options import EnvManager
    from lakescore.registry import ModelVersion

PROBA = "predict_proba"
BOOSTING = ("lightgbm", "xgboost", "catboost")
"""The libraries, besides scikit-learn, whose models workers can call without MLflow."""
XGBOOST_BOOSTER = "xgboost.core.Booster"
VECTOR = "sparkml_vector"
"""The signature's word for a vector of Spark ML."""


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
    environment: Environment | None = None
    """The version's own environment, if it runs in one. Such a version runs in a separate process,
    by the Python and the packages that it was logged with."""
    environment_reason: str = ""
    """Why the version runs in its own environment, or in the shared one though its requirements are
    not all met there; empty if they are, or if the job's file says it."""
    own_code: str | None = None
    """The code that the version brings, if any. Such a version runs in a separate process."""
    is_shared: bool = False
    """Whether the workers of a machine share one loaded model, because it is large."""
    proba: bool = False
    """Whether the model gives the probabilities of classes."""
    classes: tuple[Any, ...] = ()
    """The classes of a classifier that gives probabilities, in its order and type."""
    has_categories: bool = False
    """Whether the model was trained on pandas categories, which tables and MLflow do not have."""
    pipeline: PipelineModel | None = field(default=None, repr=False, compare=False)
    """The loaded pipeline of Spark ML, if its classes were needed."""
    takes_records: bool = False
    """Whether the model takes a list of records: its signature is an object without a name, which
    MLflow inferred from a type hint."""

    @property
    def pyfunc(self) -> executor.Version:
        """The version as MLflow's PyFuncModel, without features and outputs so far."""
        return executor.Version(
            uri=self.model.uri,
            key=self.key if self.environment is None else f"{self.key}@{self.environment.digest}",
            folder=str(self.folder),
            mode="pyfunc",
            pickled=None,
            features=(),
            outputs=pa.schema([]),
            params=self.params,
            names=self._names,
            size=self.model.size or 0,
            program=self._program,
            environment="" if self.environment is None else str(self.environment.folder),
            meeting=_meeting() if self.is_shared else "",
        )

    @property
    def _program(self) -> bytes | None:
        if self.env_manager != "local":
            return None
        if self.is_shared:
            return executor.program("run_holder")
        is_alone = self.own_code is not None or self.environment is not None
        return executor.program("run_starter") if is_alone else None

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
        boosting library, and the version's own environment can lack MLflow; then it is the
        library's own model.
        """
        return self.native if self.is_library_reference else self.pyfunc

    @property
    def is_library_reference(self) -> bool:
        """Whether `reference` is the library's own model."""
        if self.library is not None and self.environment is not None:
            return "mlflow" not in self.environment.packages
        return self.library in BOOSTING and (self.proba or self.has_categories)

    @property
    def native(self) -> executor.Version:
        """The version as a model of its library, without features and outputs so far."""
        if (library := find_library(self.flavors)) in BOOSTING:
            settings, method = self.flavors[library], PROBA if self.proba else "predict"
            return replace(
                self.pyfunc, mode="frame", library=library, settings=settings, method=method
            )
        flavor = self.flavors["sklearn"]
        readable = flavor.get("serialization_format") in {"pickle", "cloudpickle"}
        method = self.flavors["python_function"].get("predict_fn", "predict")
        pickled = flavor["pickled_model"] if readable else None
        return replace(self.pyfunc, mode="frame", pickled=pickled, method=method)

    @property
    def is_pipeline(self) -> bool:
        """Whether the version is a pipeline of Spark ML, which only Spark itself applies."""
        return is_pipeline(self.flavors)

    @property
    def vectors(self) -> frozenset[str]:
        """The features that are vectors of Spark ML."""
        inputs: Any = self.model.signature.inputs  # MLflow's specs are a union no check narrows
        specs = () if inputs.is_tensor_spec() else inputs.inputs
        return frozenset(str(s.name) for s in specs if s.to_dict()["type"] == VECTOR)

    @property
    def library(self) -> str | None:
        """The library whose model can be called itself; None if only MLflow can call the version.

        MLflow also runs the code that the version brings, and passes on parameters.
        """
        loader = self.flavors.get("python_function", {})
        if loader.get("code") or self.params is not None:
            return None
        return find_library(self.flavors)

    def explain_missing(self, error: ModuleNotFoundError) -> LakescoreError:
        """Return the error of a module that the model imports and that is not where it runs."""
        if self.environment is not None:
            return environments.ModuleNotAsked(self.model.uri, error.name or str(error))
        return environments.missing(self.model.uri, self.folder, error)


def find_library(flavors: Mapping[str, Any]) -> str | None:
    """Return the library of the model that MLflow's `python_function` loads, if it is known."""
    if "sklearn" in flavors:
        return "sklearn"
    loader = flavors["python_function"]
    for name in BOOSTING:
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
        module, _, name = str(settings.get("model_class", XGBOOST_BOOSTER)).rpartition(".")
        return module in {"xgboost.core", "xgboost.sklearn"} and name.isidentifier()
    if library == "catboost":
        is_known = str(settings.get("model_type")).startswith("CatBoost")
        return is_known and settings.get("save_format") in {"cbm", "json"}
    return True


@cache
def _meeting() -> str:
    """Return a text that the workers of this process have in common, and no others."""
    return secrets.token_hex(16)
