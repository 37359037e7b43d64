"""Pipelines: versions of MLflow's flavour spark, which Spark itself loads and applies.

Spark loads the pipeline from the private copy of the version's files, which its digest covers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import classic
from lakescore.errors import ConfigError, ScoringFailed
from lakescore.loading.errors import UnsupportedSignature
from lakescore.storage import plain_path
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pyspark.ml import PipelineModel

    from lakescore.loading.loadable import Loadable

_LOADED: WeakKeyDictionary[SparkSession, WeakValueDictionary[str, PipelineModel]] = (
    WeakKeyDictionary()
)
"""By session, the pipelines that are in use."""


class PipelineNotShared(ConfigError):
    """Spark's executors do not see the files of a pipeline."""

    def __init__(self, uri: str, folder: Path, reason: str) -> None:
        super().__init__(
            f"Spark cannot read the files of {uri} in {folder}: {reason}; Spark loads a pipeline "
            "from a folder that all its machines see: start the job with TMPDIR in such a folder"
        )


def describe(uris: Sequence[str]) -> str:
    """Return the sentence that versions are pipelines, as the reason why Spark applies them."""
    kind = "is a pipeline" if len(uris) == 1 else "are pipelines"
    return f"{listed(uris)} {kind} of Spark ML, which only Spark itself applies"


def check(loadable: Loadable) -> None:
    """Check that Spark can apply the pipeline without code or settings of Python.

    Raises:
        UnsupportedSignature: the version brings code, has parameters, or names two folders.
    """
    uri, flavors = loadable.model.uri, loadable.flavors
    if loadable.own_code:
        reason = f"its pipeline needs code that is not Spark's ({loadable.own_code})"
        where = "Spark would run it in the driver, beside other versions"
        raise UnsupportedSignature(uri, f"{reason}, and {where}; log a pipeline of Spark's stages")
    if loadable.params is not None:
        reason = "Spark passes no pyfunc.params to a pipeline of Spark ML; leave them out"
        raise UnsupportedSignature(uri, reason)
    folders = {flavors["python_function"].get("data"), flavors["spark"].get("model_data")}
    if len(folders) > 1 or None in folders:
        reason = f"its MLmodel does not name one folder of a pipeline, but {listed(folders)}"
        raise UnsupportedSignature(uri, f"{reason}; log it again")


def load(spark: SparkSession, loadable: Loadable) -> PipelineModel:
    """Return the pipeline of *loadable*, loaded by Spark.

    Raises:
        PipelineNotShared: the executors, or the server of Spark Connect, see other files, or none.
        ScoringFailed: Spark cannot load the pipeline.
    """
    from pyspark.ml import PipelineModel  # noqa: PLC0415 - a second of import

    loaded = _LOADED.setdefault(spark, WeakValueDictionary())
    if (known := loaded.get(loadable.key)) is not None:
        return known
    uri, folder = loadable.model.uri, loadable.folder / loadable.flavors["spark"]["model_data"]
    if not classic.is_local(spark):
        _check_shared(spark, uri, folder)
    try:
        pipeline = PipelineModel.load(_address(folder))
    except Exception as error:  # a class of a stage can raise any type
        reason = f"Spark cannot load its pipeline: {classic.reason(error)}"
        raise ScoringFailed(uri, "any row", reason) from error
    loaded[loadable.key] = pipeline
    return pipeline


def _address(folder: Path) -> str:
    """Return the URI of a local folder, which is not on Hadoop's default file system."""
    return f"file://{plain_path(str(folder))}"


def _check_shared(spark: SparkSession, uri: str, folder: Path) -> None:
    """Check that Spark's machines read the bytes that this process read for the digest.

    Raises:
        PipelineNotShared: they do not.
    """
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", "true")
    try:
        rows = reader.load(_address(folder)).select("length", F.sha2("content", 256)).collect()
    except classic.FAILURES as error:
        raise PipelineNotShared(uri, folder, classic.reason(error)) from error
    if Counter(row[1] for row in rows if row[0]) != Counter(_digests(folder)):
        raise PipelineNotShared(uri, folder, "there are other files than here")


def _digests(folder: Path) -> Iterator[str]:
    """Yield the digest of each file that Spark lists and that is not empty."""
    for path in folder.rglob("*"):
        is_hidden = any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
        if path.is_file() and not is_hidden and path.stat().st_size:
            with path.open("rb") as content:
                yield hashlib.file_digest(content, "sha256").hexdigest()


def list_stages(model: Any) -> list[Any]:  # noqa: ANN401 - stages have no common type
    """Return the models in *model*: stages of pipelines, and the best one of a tuned model."""
    inner = [*getattr(model, "stages", ()), getattr(model, "bestModel", None)]
    parts = [part for part in inner if part is not None]
    return [stage for part in parts for stage in list_stages(part)] if parts else [model]


def find_classifier(uri: str, pipeline: PipelineModel) -> Any:  # noqa: ANN401 - one of many classes
    """Return the only stage that gives the probabilities of classes.

    Raises:
        UnsupportedSignature: there is no such stage, or more than one.
    """
    from pyspark.ml.classification import ProbabilisticClassificationModel  # noqa: PLC0415

    classifiers = [
        stage
        for stage in list_stages(pipeline)
        if isinstance(stage, ProbabilisticClassificationModel) and stage.getProbabilityCol()
    ]
    if len(classifiers) != 1:
        number = counted(len(classifiers), "stage")
        raise UnsupportedSignature(uri, f"its pipeline has {number} with probabilities, not one")
    return classifiers[0]


def class_labels(uri: str, pipeline: PipelineModel) -> tuple[Any, ...]:
    """Return the classes of the pipeline's classifier, in the order of its probabilities.

    They are the labels that a stage of the pipeline turned into indices, or the indices 0, 1, ....

    Raises:
        UnsupportedSignature: there is no single classifier, or its labels are not certain.
    """
    classifier = find_classifier(uri, pipeline)
    number, column = classifier.numClasses, classifier.getLabelCol()
    known = {*_indexed_labels(pipeline, column), *_restored_labels(pipeline, classifier)}
    if not known:
        return tuple(range(number))
    labels = known.pop()
    if known or len(labels) != number:
        reason = f"nothing shows for certain which labels its {number} classes have"
        raise UnsupportedSignature(uri, f"{reason}; leave out prediction: proba")
    return labels


def _indexed_labels(pipeline: PipelineModel, column: str) -> Iterator[tuple[str, ...]]:
    """Yield the labels of each stage that writes their indices into *column*."""
    from pyspark.ml.feature import StringIndexerModel  # noqa: PLC0415

    for stage in list_stages(pipeline):
        if isinstance(stage, StringIndexerModel):
            has_several = stage.isSet("outputCols")
            outputs = stage.getOutputCols() if has_several else [stage.getOutputCol()]
            pairs = zip(outputs, stage.labelsArray, strict=True)
            yield from (tuple(labels) for output, labels in pairs if output == column)


def _restored_labels(
    pipeline: PipelineModel,
    classifier: Any,  # noqa: ANN401 - see find_classifier
) -> Iterator[tuple[str, ...]]:
    """Yield the labels of each stage that restores them from the predicted indices."""
    from pyspark.ml.feature import IndexToString  # noqa: PLC0415

    for stage in list_stages(pipeline):
        is_converter = isinstance(stage, IndexToString)
        if is_converter and stage.getInputCol() == classifier.getPredictionCol():
            yield tuple(stage.getLabels()) if stage.isDefined("labels") else ()
