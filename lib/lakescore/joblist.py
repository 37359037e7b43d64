"""Read several score jobs for one start: files on the command line, or a list in a file."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue

from lakescore.config import ScoreJob, Segments, Strict, is_override, load, read, validate
from lakescore.errors import ConfigError, LakescoreError, TemporaryError
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PLACEHOLDER = re.compile(r"\{([\w.]+)\}")
_MOST_JOBS = 10_000
"""The largest number of jobs in a list: a longer list has a mistake in its matrix."""
_LONGEST_NAME = 200
"""In bytes, since a name can become the name of a file."""


class NotRun(TemporaryError):
    """One of several jobs was never started, because all jobs were stopped."""

    def __init__(self) -> None:
        super().__init__("the job was not started; run the command again")


class Entry(Strict):
    """A job's file with changes; a matrix makes several jobs of it."""

    file: str = Field(
        min_length=1,
        description="a job's file, or a pattern such as stores/*.yaml, relative to this folder",
    )
    set: dict[str, JsonValue] = Field(
        default={},
        description="keys to override, such as output.path; {model} stands for the matrix's value "
        "of model",
    )
    matrix: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(
        default={},
        description="keys, such as model, input.path and slices, each with a list of values; each "
        "combination of values is a job",
    )


def _wrap_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class JobList(Strict):
    """Score jobs that one start runs, several at once."""

    jobs: list[
        Annotated[Entry, BeforeValidator(_wrap_file, json_schema_input_type=str | Entry)]
    ] = Field(min_length=1, description="files of jobs, patterns of files, or files with changes")
    parallel: int | None = Field(
        default=None,
        ge=1,
        description="number of jobs that run at once without Spark; default: the number of cores",
    )
    receipts: Path | None = Field(
        default=None, description="folder for the receipt of each job that does not name its own"
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a list."""

    name: str
    """The name in log lines and in the summary; it can become the name of a file."""
    file: Path
    config: ScoreJob


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The jobs of one command."""

    jobs: tuple[Job, ...]
    parallel: int | None = None
    are_listed: bool = True
    """Whether the command can have several jobs, so that it names each and ends with a summary."""


def is_list(path: Path) -> bool:
    """Return whether the file at *path* contains a list of jobs.

    Raises:
        ConfigError: the file does not exist, or does not contain keys and values.
    """
    return "jobs" in read(path)


def _files_and_overrides(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files and the overrides among a command's *words*; the first word is a file.

    Raises:
        ConfigError: another word is neither a file nor an override.
    """
    first, *others = words
    files = [first, *[word for word in others if not is_override(word)]]
    for word in files[1:]:
        if not word.endswith((".yaml", ".yml")) and not Path(word).exists():
            raise ConfigError(
                f"{word!r} is not an override; write key=value or input.version=3 (it is not a "
                "file either)"
            )
    return [Path(word) for word in files], [word for word in others if is_override(word)]


def jobs_of(words: Sequence[str]) -> Jobs:
    """Return the score jobs for the *words* of a command: files, and overrides for all of them.

    Raises:
        ConfigError: a file, a key or a pattern of files is wrong; two jobs would write the same
            slice of a model or the same file; or one job would read a table that another writes.
    """
    paths, overrides = _files_and_overrides(words)
    if len(paths) == 1 and not is_list(paths[0]):
        return Jobs(jobs=(_load_job(paths[0], overrides),), are_listed=False)
    options = [word for word in overrides if word.partition("=")[0] in {"parallel", "receipts"}]
    overrides = [word for word in overrides if word not in options]
    settings = validate(
        JobList, Path("the command line"), {"jobs": ["-"], **dict(o.split("=", 1) for o in options)}
    )
    jobs: list[Job] = []
    parallel, receipts = settings.parallel, settings.receipts
    for path in paths:
        if not is_list(path):
            jobs.append(_load_job(path, overrides))
            continue
        job_list = load(JobList, path)
        for entry in job_list.jobs:
            jobs += _expand_entry(path, entry, overrides)
        parallel, receipts = parallel or job_list.parallel, receipts or job_list.receipts
        if len(jobs) > _MOST_JOBS:
            raise ConfigError(
                f"{path} has {len(jobs)} jobs, but a list can have at most {_MOST_JOBS}"
            )
    jobs = _add_receipts(_number_names(jobs), receipts)
    _refuse_shared_files(jobs)
    _refuse_chains(jobs)
    _refuse_overlaps(jobs)
    return Jobs(jobs=tuple(jobs), parallel=parallel)


def _load_job(
    file: Path,
    overrides: Sequence[str],
    changes: Mapping[str, object] = MappingProxyType({}),
    values: Sequence[object] = (),
) -> Job:
    """Return the job of a *file*, named after the file and the matrix's *values*."""
    texts = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    name = f"{file.stem}:{','.join(texts)}" if texts else file.stem
    plain = re.sub(r"[^\w.@,:+=-]+", "-", name).encode()[:_LONGEST_NAME]
    name = plain.decode(errors="ignore")
    return Job(name=name, file=file, config=load(ScoreJob, file, overrides, changes))


def _expand_entry(path: Path, entry: Entry, overrides: Sequence[str]) -> Iterator[Job]:
    """Yield the jobs of an *entry* of the list at *path*."""
    try:
        files = _matching_files(path, entry.file)
        jobs = len(files) * math.prod(map(len, entry.matrix.values()))
        if jobs > _MOST_JOBS:
            message = f"{entry.file} has {jobs} jobs, but a list can have at most {_MOST_JOBS}"
            raise ConfigError(message)  # noqa: TRY301 - like those of _matching_files
        for file in files:
            for values in itertools.product(*entry.matrix.values()):
                chosen = dict(zip(entry.matrix, values, strict=True))
                changes = {key: _fill_in(value, chosen) for key, value in entry.set.items()}
                if isinstance(trust := (changes | chosen).get("trust"), str):
                    chosen["trust"] = str(path.parent / trust)
                yield _load_job(file, overrides, changes | chosen, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _matching_files(path: Path, pattern: str) -> list[Path]:
    """Return the files that a *pattern* of the list at *path* matches, without the list itself."""
    folder = path.parent
    files = [folder / pattern]
    if has_magic(pattern):
        names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - it can be absolute
        files = [folder / name for name in sorted(names)]
        files = [file for file in files if file.is_file() and not file.samefile(path)]
    if not files:
        raise ConfigError(f"no file in {folder.absolute()} matches {pattern}")
    if lists := [file for file in files if is_list(file)]:
        raise ConfigError(f"{lists[0]} is a list of jobs itself; name both in one command")
    return files


def _fill_in(value: Any, chosen: Mapping[str, object]) -> Any:  # noqa: ANN401 - any value of a file
    """Return *value*; the matrix's values replace their keys in braces."""
    if isinstance(value, dict):
        return {key: _fill_in(inner, chosen) for key, inner in value.items()}
    if isinstance(value, list):
        return [_fill_in(inner, chosen) for inner in value]
    if not isinstance(value, str) or not chosen:  # without a matrix, braces are plain text
        return value

    def chosen_text(match: re.Match[str]) -> str:
        if not isinstance(text := chosen.get(match[1]), str):
            texts = [key for key, value in chosen.items() if isinstance(value, str)]
            raise ConfigError(f"{match[0]} is not a text of the matrix; it has: {listed(texts)}")
        return text

    return _PLACEHOLDER.sub(chosen_text, value)


def _number_names(jobs: Sequence[Job]) -> list[Job]:
    """Return *jobs* with a number in each name that several jobs have."""
    shared = {name for name, count in Counter(job.name for job in jobs).items() if count > 1}
    counts: Counter[str] = Counter()
    named = []
    for job in jobs:
        counts[job.name] += 1
        number = f"#{counts[job.name]}" if job.name in shared else ""
        named.append(replace(job, name=job.name + number))
    return named


def _add_receipts(jobs: Sequence[Job], folder: Path | None) -> list[Job]:
    """Return *jobs*; with a *folder*, each job that names no receipt gets one there."""
    if folder is None:
        return list(jobs)
    return [
        job
        if job.config.receipt
        else replace(
            job, config=job.config.model_copy(update={"receipt": folder / f"{job.name}.json"})
        )
        for job in jobs
    ]


def _refuse_shared_files(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would write the same file."""
    writers: dict[Path, Job] = {}
    for key in ("receipt", "prometheus"):
        for job in jobs:
            path = getattr(job.config, key)
            if path is None:
                continue
            if (other := writers.setdefault(Path(os.path.abspath(path)), job)) is not job:  # noqa: PTH100 - does not follow links
                raise ConfigError(
                    f"{other.name} and {job.name} would both write {path}; give {key} different "
                    "names, for example with a key of the matrix in braces"
                )


def _refuse_chains(jobs: Sequence[Job]) -> None:
    """Refuse a job that reads a table that another job writes: their order is not defined."""
    writers: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        for address in (job.config.output.address, job.config.quarantine_address):
            writers[same_place(address)].append(job)
    for job in jobs:
        if job.config.input.version is not None:
            continue
        for writer in writers[same_place(job.config.input.address)]:
            if writer is job:
                continue
            raise ConfigError(
                f"{job.name} reads {job.config.input.address}, which {writer.name} writes; run one "
                "after the other, each with its own command"
            )


def _refuse_overlaps(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would write the same slice of a model to the same table.

    Refuse also a job whose quarantine is the output of another job.
    """
    outputs = {same_place(job.config.output.address): job for job in jobs}
    sharing: dict[tuple[str, str], list[Job]] = defaultdict(list)
    addresses: dict[str, str] = {}
    for job in jobs:
        if (other := outputs.get(same_place(job.config.quarantine_address))) is not None:
            raise ConfigError(
                f"{job.name} writes its quarantine to {job.config.quarantine_address}, where "
                f"{other.name} writes predictions; set quarantine to another table"
            )
        model = _model_name(job)
        for address in (job.config.output.address, job.config.quarantine_address):
            place = same_place(address)
            sharing[place, model].append(job)
            addresses[place] = address
    for (place, model), writers in sharing.items():
        slices: dict[str, Job] = {}
        for job in writers:
            if job.config.due and len(writers) > 1:
                other = next(writer for writer in writers if writer is not job)
                message = _overlap_message(job, other, f"due slices of {model}", addresses[place])
                raise ConfigError(message)
            for name in job.config.slice_names:
                if (other := slices.setdefault(name, job)) is not job:
                    what = f"slice {name} of {model}"
                    raise ConfigError(_overlap_message(job, other, what, addresses[place]))


def _overlap_message(job: Job, other: Job, what: str, address: str) -> str:
    return (
        f"{other.name} and {job.name} would both write {what} in {address}; give them different "
        "tables or slices"
    )


def same_place(address: str) -> str:
    """Return *address* in a normal form, which is the same for all spellings of the address."""
    path = re.sub(r"^file:/*(?=/)", "", address)
    if path.startswith("/"):
        return os.path.normpath("/" + path.lstrip("/"))
    if "/" not in address:
        return address.lower()  # a name of a catalog
    scheme, _, rest = address.partition(":")
    scheme = {"s3": "s3a", "s3n": "s3a"}.get(scheme.lower(), scheme.lower())
    return f"{scheme}:/{os.path.normpath('/' + rest.strip('/'))}"


def _model_name(job: Job) -> str:
    """Return the name of the registered model of a *job*, or the id of its logged model."""
    from lakescore.registry.reference import (  # noqa: PLC0415 - --help does not need it
        ByLoggedModel,
        parse,
        parse_template,
    )

    model = job.config.model
    try:
        if isinstance(model, Segments):
            return parse_template(model.name, model.placeholder).name
        form = parse(model)
    except LakescoreError as error:
        raise ConfigError(f"{job.file}: model: {error}") from None
    return form.logged_model_id if isinstance(form, ByLoggedModel) else form.name
