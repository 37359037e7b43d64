"""The keys that several kinds of jobs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from lakescore.config.strict import Strict
from lakescore.config.trusting import policy, read_policy
from lakescore.options import (
    ENGINES,
    ENVIRONMENTS,
    FAMILY_ENGINES,
    NULL_RULES,
    BindOptions,
    EngineName,
    EnvironmentName,
    EnvManager,
    LoadOptions,
    NullRule,
    OutputName,
    RunnerName,
    ScanName,
)
from lakescore.trust import Trust
from lakescore.wording import described, either, listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from lakescore.config.models import Segments

RunId = Annotated[str, Field(pattern=r"^[\w.:+-]{1,200}$")]


Engine = Annotated[
    EngineName,
    Field(
        description=f"how to apply models: {', '.join(described(ENGINES))}, or auto, which uses "
        "spark_ml for such pipelines, and arrow if a probe with real rows shows equal predictions",
    ),
]
Policy = Annotated[
    Trust,
    BeforeValidator(read_policy, json_schema_input_type=str | Trust),
    Field(
        default_factory=policy,
        description="file of the trust policy, relative to this file's folder, or its rules; "
        "default: the file that LAKESCORE_TRUST names",
    ),
]

JOBS: dict[str, type[Job]] = {}
"""The kinds of jobs by name: each subclass of `Job` that has a `job_name`."""


class Job(Strict):
    """The keys of every job."""

    job_name: ClassVar[str]
    """The name of the kind of job, and of its file in `jobs/`."""

    scan: ScanName = Field(
        default="direct",
        description="who reads the table, if the arrow engine or no engine needs it: direct (the "
        "workers, if they read exactly what Spark reads), or spark (always Spark)",
    )
    runner: RunnerName = Field(
        default="auto",
        description="what runs the tasks: spark, local (processes of this machine, without Spark), "
        "or auto, which uses these processes if PLACE is local and the rows take less time than "
        "the start of Spark",
    )
    experiment: str = Field(
        default="lakescore", min_length=1, description="MLflow experiment for the run"
    )
    run_id: RunId | None = Field(
        default=None, description="id of the run; default: derived from its inputs"
    )
    receipt: Path | None = Field(
        default=None, description="file for the receipt, which is also the last line of the output"
    )
    prometheus: Path | None = Field(
        default=None,
        description="file for the counts of the run, written at its end in the format of "
        "Prometheus, for node_exporter's textfile collector",
    )
    timeout_seconds: float | None = Field(
        default=None, gt=0, description="stop the run after this many seconds; default: never"
    )
    trust: Policy

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:  # noqa: ANN401 - as in pydantic
        super().__pydantic_init_subclass__(**options)
        if "job_name" in vars(cls):
            JOBS[cls.job_name] = cls


class Predicting(Job):
    """The keys of a job that predicts."""

    engine: Engine = "auto"


class Pyfunc(Strict):
    """The arguments for MLflow's loader and for `predict`; the model declares which it has."""

    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="parameters of the model's signature, for `predict`"
    )
    config: dict[str, JsonValue] = Field(
        default_factory=dict,
        alias="model_config",  # pydantic reserves this name
        description="values that override the configuration that the model was logged with",
    )


class Usage(Strict):
    """The keys for the use of a model: its inputs and outputs, and how it is loaded."""

    features: tuple[str, ...] = Field(
        default=(),
        description="the table's columns that the model reads, in the order of its training data; "
        "only for a model whose signature has no names (it was inferred from an array)",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="for each feature that has another name in the table, its column there",
    )
    nulls: dict[str, NullRule] = Field(
        default_factory=dict,
        description="for each feature, how to treat a row that has a null there: "
        f"{either(described(NULL_RULES), last=', or ')}; default: model, but quarantine for "
        "integers and booleans, whose nulls cannot be passed to a model",
    )
    prediction: OutputName = Field(
        default="prediction",
        description="what to write or compare: prediction (the model's own), or proba (a "
        "classifier's probabilities, as p_<class>)",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="minimum score for a decision (of two classes: minimum probability of the "
        "second); predictions get a column for it, and a comparison counts it as the label",
    )
    pyfunc: Pyfunc = Field(
        default_factory=Pyfunc, description="params and model_config of the model"
    )
    environment: EnvironmentName = Field(
        default="auto",
        description="packages that a model runs with: "
        + ", ".join(f"{name} ({meaning})" for name, meaning in ENVIRONMENTS.items()),
    )
    env_manager: EnvManager = Field(
        default="local",
        description="packages that a model runs with: local (the packages installed here), or "
        "virtualenv, uv or conda (MLflow's spark_udf creates the environment that the model was "
        "logged with)",
    )

    @property
    def loading(self) -> LoadOptions:
        """How a version is loaded and called."""
        return LoadOptions(
            output=self.prediction,
            params=self.pyfunc.params,
            model_config=self.pyfunc.config,
            environment=self.environment,
            env_manager=self.env_manager,
        )

    def _bind_options(self, read: Sequence[str]) -> BindOptions:
        return BindOptions(
            read=tuple(read),
            features=self.features,
            columns=self.columns,
            nulls=self.nulls,
            threshold=self.threshold,
        )

    @model_validator(mode="after")
    def _check_environment(self) -> Self:
        if self.environment == "own" and self.env_manager != "local":
            raise ValueError(
                "environment: own and env_manager exclude each other; leave env_manager out"
            )
        return self

    @field_validator("features")
    @classmethod
    def _check_features(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        repeated = [name for n, name in enumerate(features) if name in features[:n]]
        if repeated:
            raise ValueError(f"names {listed(map(repr, repeated))} twice")
        return features


class Applying(Usage, Predicting):
    """The keys of a job that applies models."""


def check_families(job: Applying, families: Sequence[Segments]) -> None:
    """Check that *job* can apply one model per segment, if its file has such *families*."""
    if families and job.engine not in FAMILY_ENGINES:
        raise ValueError(f"one model per segment needs engine: {either(FAMILY_ENGINES)}")
    if families and job.env_manager != "local":
        raise ValueError("one model per segment needs env_manager: local")
