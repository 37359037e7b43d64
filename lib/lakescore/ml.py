"""A transformer of Spark ML that applies one pinned model version, as Fabric's PREDICT has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.ml import Transformer
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasInputCols, HasOutputCol
from pyspark.ml.util import DefaultParamsReadable, DefaultParamsWritable

from lakescore import console, loading, scoring, signature
from lakescore.config import Prediction, arguments, policy
from lakescore.errors import ConfigError, InputContractError, IntegrityError
from lakescore.interface.predicting import check_frame, explained, plan
from lakescore.job import warn_without_policy
from lakescore.registry import ModelVersion, resolve
from lakescore.signature import plain_name
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from lakescore.signature import Contract

_NAME = "MLFlowTransformer"


class InputColsUnfit(InputContractError):
    """The columns of inputCols are not the features of the version."""

    def __init__(self, uri: str, columns: Sequence[str], features: Sequence[str]) -> None:
        super().__init__(
            f"inputCols {listed(columns)} do not fit {uri}, which reads {listed(features)}: give "
            "columns with these names, or as many columns with other names, in this order"
        )


class InputColsIncomplete(InputContractError):
    """The version would read a column that inputCols leave out."""

    def __init__(self, uri: str, missing: Sequence[str]) -> None:
        super().__init__(
            f"{uri} also reads {listed(map(repr, missing))}, which the DataFrame has and inputCols "
            "leave out; add them to inputCols, or drop them from the DataFrame"
        )


class MLFlowTransformer(
    Transformer,
    HasInputCols,
    HasOutputCol,
    DefaultParamsReadable["MLFlowTransformer"],
    DefaultParamsWritable,
):
    """Adds the predictions of one pinned model version to a DataFrame.

    The version is pinned when the object is made. `modelVersion` then holds its number, and
    `modelDigest` the digest of its files. A saved and loaded transformer applies these very files.

    Args:
        inputCols: the columns that the model reads. They are bound by name if they hold the names
            of the signature, and otherwise by the order of the signature.
        outputCol: the name of the new column. It is a struct if the version has several outputs.
        modelName: the name of the registered model.
        modelVersion: the number of the version.
        alias: an alias of the model, instead of *modelVersion*.
        reference: any reference of lakescore, instead of *modelName*.

    Raises:
        ConfigError: the arguments do not name exactly one version.
        Also the errors of `registry.resolve`.
    """

    modelName: Param[str] = Param(  # noqa: N815 - Spark ML's form of names
        Params._dummy(),  # noqa: SLF001 - how Spark ML itself declares parameters
        "modelName",
        "name of the registered model",
        typeConverter=TypeConverters.toString,
    )
    modelVersion: Param[int] = Param(  # noqa: N815 - Spark ML's form of names
        Params._dummy(),  # noqa: SLF001 - likewise
        "modelVersion",
        "number of the pinned version",
        typeConverter=TypeConverters.toInt,
    )
    modelDigest: Param[str] = Param(  # noqa: N815 - Spark ML's form of names
        Params._dummy(),  # noqa: SLF001 - likewise
        "modelDigest",
        "digest of the files of the pinned version",
        typeConverter=TypeConverters.toString,
    )
    reference: Param[str] = Param(
        Params._dummy(),  # noqa: SLF001 - likewise
        "reference",
        "reference that named the version when it was pinned",
        typeConverter=TypeConverters.toString,
    )

    def __init__(  # noqa: PLR0913 - all by name, and those of Fabric
        self,
        *,
        inputCols: Sequence[str] | None = None,  # noqa: N803 - Spark ML's names
        outputCol: str = "predictions",  # noqa: N803 - likewise
        modelName: str | None = None,  # noqa: N803 - likewise
        modelVersion: int | None = None,  # noqa: N803 - likewise
        alias: str | None = None,
        reference: str | None = None,
    ) -> None:
        super().__init__()
        self._model: ModelVersion | None = None
        self._setDefault(outputCol="predictions")
        given = (inputCols, modelName, modelVersion, alias, reference)
        if all(value is None for value in given):  # Spark ML makes such an object, then fills it
            return
        with explained():
            wanted = _reference(modelName, modelVersion, alias, reference)
            if not inputCols:
                raise ConfigError(f"{_NAME}: give inputCols, the columns that the model reads")
            warn_without_policy(policy())
            self._model = resolve(wanted, trust=policy())
        console.stage(f"{_NAME}: {wanted} is {self._model.pin}")
        self._set(
            inputCols=list(inputCols),
            outputCol=outputCol,
            modelName=self._model.name,
            modelVersion=self._model.version,
            modelDigest=self._model.digest,
            reference=wanted,
        )

    def setInputCols(self, value: Sequence[str]) -> MLFlowTransformer:  # noqa: N802 - Spark ML's name
        """Set the columns that the model reads."""
        return self._set(inputCols=list(value))

    def setOutputCol(self, value: str) -> MLFlowTransformer:  # noqa: N802 - likewise
        """Set the name of the new column."""
        return self._set(outputCol=value)

    def getModelName(self) -> str:  # noqa: N802 - likewise
        """Return the name of the registered model."""
        return str(self.getOrDefault(self.modelName))

    def getModelVersion(self) -> int:  # noqa: N802 - likewise
        """Return the number of the pinned version."""
        return int(self.getOrDefault(self.modelVersion))

    def getModelDigest(self) -> str:  # noqa: N802 - likewise
        """Return the digest of the files of the pinned version."""
        return str(self.getOrDefault(self.modelDigest))

    def getReference(self) -> str:  # noqa: N802 - likewise
        """Return the reference that named the version when it was pinned."""
        return str(self.getOrDefault(self.reference))

    def _transform(self, dataset: DataFrame) -> DataFrame:
        with explained():
            check_frame(dataset)
            model, columns = self._pinned(), self.getInputCols()
            planned = plan(dataset, model, _settings(model, columns))
            _check_complete(planned.contract, columns)
            return scoring.score(planned, into=self.getOutputCol())

    def _pinned(self) -> ModelVersion:
        """Return the version of the parameters, with the files that were pinned.

        Raises:
            ConfigError: the parameters name no version.
            IntegrityError: the parameters now name other files.
        """
        if not self.isDefined(self.modelDigest):
            raise ConfigError(f"this {_NAME} names no version; make one with modelName")
        name, version, digest = self.getModelName(), self.getModelVersion(), self.getModelDigest()
        model = self._model
        if model is None or (model.name, model.version) != (name, version):
            model = resolve(f"{name}/{version}", trust=policy())
        if model.digest != digest:
            raise IntegrityError(
                f"{model.uri} has files with the digest {model.digest}, but this {_NAME} was "
                f"pinned to files with the digest {digest}; make a new {_NAME} for them"
            )
        self._model = model
        return model


def _reference(
    name: str | None, version: int | None, alias: str | None, reference: str | None
) -> str:
    """Return the reference that the arguments of a transformer name.

    Raises:
        ConfigError: they name no version, or more than one.
    """
    if reference is not None and (name, version, alias) == (None, None, None):
        return reference
    if reference is not None or name is None or (version is None) == (alias is None):
        raise ConfigError(
            f"{_NAME}: give modelName with either modelVersion or alias, or reference alone"
        )
    if version is None:
        return f"{name}@{alias}"
    if isinstance(version, bool) or not isinstance(version, int):
        raise ConfigError(f"{_NAME}: modelVersion is {version!r}, which is not a whole number")
    return f"{name}/{version}"


def _settings(model: ModelVersion, columns: Sequence[str]) -> Prediction:
    """Return the settings that bind *columns* to the features of the version.

    Raises:
        InputColsUnfit: the columns have neither the names nor the number of the features.
    """
    loadable = loading.prepare(model)
    settings: dict[str, object] = {"model": model.uri}
    if signature.lacks_names(loadable):
        return arguments(Prediction, _NAME, {**settings, "features": list(columns)})
    features = signature.feature_names(loadable)
    if not {plain_name(name) for name in features} & {plain_name(name) for name in columns}:
        if len(columns) != len(features):
            raise InputColsUnfit(model.uri, columns, features)
        pairs = dict(zip(features, columns, strict=True))
        console.stage(
            f"{_NAME}: {counted(len(pairs), 'column')} in the order of the signature: "
            + listed(f"{column} is {feature}" for feature, column in pairs.items())
        )
        return arguments(Prediction, _NAME, {**settings, "columns": pairs})
    return arguments(Prediction, _NAME, settings)


def _check_complete(contract: Contract, columns: Sequence[str]) -> None:
    """Check that the version reads no other column than *columns*."""
    missing = [column for column in contract.sources.values() if column not in columns]
    if missing:
        raise InputColsIncomplete(contract.loadable.model.uri, missing)
