"""The function PREDICT for SQL, as Fabric has it, which applies pinned versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.types import DataType, StructType

from lakescore import console, executor, loading, signature
from lakescore.arrow import arrow_type
from lakescore.config import policy
from lakescore.engines.equality import reference_version
from lakescore.engines.probing import find_refusal
from lakescore.engines.shipping import ship, ship_environments
from lakescore.errors import ConfigError
from lakescore.interface.predicting import explained
from lakescore.job import warn_without_policy
from lakescore.registry import resolve
from lakescore.runner import Runner

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakescore.registry import ModelVersion


class PredictUnfit(ConfigError):
    """PREDICT cannot apply a version."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"PREDICT cannot apply {uri}: {reason}")


class _Registered:
    """The versions that a function of a session applies, and the type of their predictions."""

    def __init__(self, result: DataType) -> None:
        self.result = result
        self.versions: dict[str, executor.Queried] = {}


_FUNCTIONS: WeakKeyDictionary[SparkSession, dict[str, _Registered]] = WeakKeyDictionary()


def register(spark: SparkSession, *references: str, name: str = "PREDICT") -> None:
    """Pin versions, and let the SQL of a session apply them by the function PREDICT.

    A query names one of *references*, or the number of a version that they name, as in
    `PREDICT('flight-delay/3', dep_delay, distance)`. Another call adds versions.

    Args:
        spark: the session.
        references: the versions, each as any reference. An alias that moves afterwards changes
            nothing.
        name: the name of the function. Versions with results of another type need another name.

    Raises:
        PredictUnfit: a version cannot be applied, or its result has another type.
        ConfigError: no reference is given, or Spark is too old.
        PythonUnfit: the workers of Spark run a Python that cannot apply models.
        Also the errors of `registry.resolve`.
    """
    with explained():
        if not references:
            raise ConfigError(
                "lakescore.sql.register: name the versions for PREDICT, as in "
                "register(spark, 'flight-delay/3'): they are pinned before a query runs"
            )
        if not hasattr(F, "arrow_udf"):
            raise ConfigError(
                f"PREDICT in SQL needs Spark 4.1 or newer, and this is {spark.version}"
            )
        warn_without_policy(policy())
        functions = _FUNCTIONS.setdefault(spark, {})
        registered = functions.get(name.lower())
        added: dict[str, executor.Queried] = {}
        for reference in references:
            model = resolve(reference, trust=policy())
            queried, result = _prepare(spark, model)
            registered = registered or _Registered(result)
            if result != registered.result:
                raise PredictUnfit(
                    model.uri,
                    f"it gives {result.simpleString()}, but {name} gives "
                    f"{registered.result.simpleString()}; register it with another name=",
                )
            console.stage(f"{name}: {reference} is {model.pin}")
            added |= {reference: queried, f"{model.name}/{model.version}": queried}
        assert registered is not None  # noqa: S101 - there are references
        registered.versions |= added
        functions[name.lower()] = registered
        function = executor.query(dict(registered.versions), arrow_type(registered.result))
        spark.udf.register(name, F.arrow_udf(function, registered.result).asNondeterministic())


def _prepare(spark: SparkSession, model: ModelVersion) -> tuple[executor.Queried, DataType]:
    """Return a version as workers call it from SQL, and the type of its predictions."""
    loadable = loading.prepare(model)
    if reason := signature.refuse_query(loadable):
        raise PredictUnfit(model.uri, reason)
    features = StructType(signature.features_of(loadable))
    runner = Runner.of(spark)
    runner.check_python()
    if refusal := find_refusal(runner, list(features)):
        raise PredictUnfit(model.uri, refusal)
    contract = signature.bind_query(features, loadable)
    places = tuple((contract.names[field.name], n) for n, field in enumerate(features))
    version = reference_version(contract, places)
    (folder,) = ship(runner, [version])
    shipped = ship_environments(runner, [loadable])
    environment = shipped.get(version.environment, version.environment)
    kinds = [field.dataType for field in features]
    outputs = contract.outputs
    return executor.Queried(
        version=replace(version, folder=folder, environment=environment),
        names=tuple(features.names),
        kinds=tuple(arrow_type(kind) for kind in kinds),
        lossless=tuple(
            frozenset(
                str(arrow_type(has))
                for has in signature.SCALARS
                if signature.is_lossless(has, kind)
            )
            for kind in kinds
        ),
    ), (outputs[0].dataType if len(outputs) == 1 else outputs)
