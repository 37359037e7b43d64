"""Several score jobs in one start: files on the command line, or a list of jobs in a file."""

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
from lakescore.errors import ConfigError, LakescoreError, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PLACEHOLDER = re.compile(r"\{([\w.]+)\}")
_MOST_JOBS = 10_000
"""Of a list: a longer one is a mistake in its matrix."""
_LONGEST_NAME = 200
"""In bytes: it may be the name of a file."""


class Entry(Strict):
    """A job's file with changes, once or for each value of a matrix."""

    file: str = Field(
        min_length=1,
        description="a job's file, or a pattern such as stores/*.yaml, from this folder",
    )
    set: dict[str, JsonValue] = Field(
        default={},
        description="keys to override, such as output.path; {model} stands for the matrix's model",
    )
    matrix: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(
        default={},
        description="keys, such as model, input.path and slices, and their values: a job for each "
        "combination",
    )


def _with_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


class JobList(Strict):
    """Score jobs that run in one start, several at once."""

    jobs: list[
        Annotated[Entry, BeforeValidator(_with_file, json_schema_input_type=str | Entry)]
    ] = Field(min_length=1, description="files of jobs, patterns of them, or files with changes")
    parallel: int | None = Field(
        default=None,
        ge=1,
        description="so many jobs run at once without Spark; as many as there are cores, left out",
    )
    receipts: Path | None = Field(
        default=None, description="folder that gets a receipt for each job without its own"
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job of a list."""

    name: str
    """What it is called in lines and in the summary; it may be the name of a file."""
    file: Path
    config: ScoreJob


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """What a command runs."""

    jobs: tuple[Job, ...]
    parallel: int | None = None
    are_listed: bool = True
    """Whether there may be several, so that each is named and a summary ends them."""


def is_list(path: Path) -> bool:
    """Tell whether the file at *path* holds a list of jobs.

    Raises:
        ConfigError: there is no such file, or none with keys and values.
    """
    return "jobs" in read(path)


def _files_and_overrides(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Return the files and the overrides among a command's *words*, whose first is a file.

    Raises:
        ConfigError: a further word is neither.
    """
    first, *others = words
    named = [first, *[word for word in others if not is_override(word)]]
    for word in named[1:]:
        if not word.endswith((".yaml", ".yml")) and not Path(word).exists():
            raise ConfigError(
                f"{word!r} is not an override; write key=value or input.version=3 (and it is no "
                "further file)"
            )
    return [Path(word) for word in named], [word for word in others if is_override(word)]


def jobs_of(words: Sequence[str]) -> Jobs:
    """Return the score jobs that the *words* of a command mean: files, and overrides for all.

    Raises:
        ConfigError: a file, a key or a pattern of files is wrong; or two jobs would write the same
            slice of a model, or one file; or one would read what another one writes.
    """
    paths, overrides = _files_and_overrides(words)
    if len(paths) == 1 and not is_list(paths[0]):
        return Jobs(jobs=(_job(paths[0], overrides),), are_listed=False)
    options = [word for word in overrides if word.partition("=")[0] in {"parallel", "receipts"}]
    overrides = [word for word in overrides if word not in options]
    given = validate(
        JobList, Path("the command line"), {"jobs": ["-"], **dict(o.split("=", 1) for o in options)}
    )
    jobs: list[Job] = []
    parallel, receipts = given.parallel, given.receipts
    for path in paths:
        if not is_list(path):
            jobs.append(_job(path, overrides))
            continue
        asked = load(JobList, path)
        for entry in asked.jobs:
            jobs += _expanded(path, entry, overrides)
        parallel, receipts = parallel or asked.parallel, receipts or asked.receipts
        if len(jobs) > _MOST_JOBS:
            raise ConfigError(f"{path} is {len(jobs)} jobs, and a list may have {_MOST_JOBS}")
    jobs = _with_receipts(_with_unique_names(jobs), receipts)
    _refuse_shared_files(jobs)
    _refuse_chains(jobs)
    _refuse_overlaps(jobs)
    return Jobs(jobs=tuple(jobs), parallel=parallel)


def _job(
    file: Path,
    overrides: Sequence[str],
    changes: Mapping[str, object] = MappingProxyType({}),
    values: Sequence[object] = (),
) -> Job:
    """Return the job of a *file* that is called by it, and by the matrix's *values*."""
    texts = [v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values]
    name = f"{file.stem}:{','.join(texts)}" if texts else file.stem
    plain = re.sub(r"[^\w.@,:+=-]+", "-", name).encode()[:_LONGEST_NAME]
    name = plain.decode(errors="ignore")
    return Job(name=name, file=file, config=load(ScoreJob, file, overrides, changes))


def _expanded(path: Path, entry: Entry, overrides: Sequence[str]) -> Iterator[Job]:
    """Give the jobs of an *entry* of the list at *path*."""
    try:
        files = _matching(path, entry.file)
        jobs = len(files) * math.prod(map(len, entry.matrix.values()))
        if jobs > _MOST_JOBS:
            raise ConfigError(f"{entry.file} is {jobs} jobs, and a list may have {_MOST_JOBS}")  # noqa: TRY301 - as of _matching
        for file in files:
            for values in itertools.product(*entry.matrix.values()):
                chosen = dict(zip(entry.matrix, values, strict=True))
                changes = {key: _filled(value, chosen) for key, value in entry.set.items()}
                if isinstance(trust := (changes | chosen).get("trust"), str):
                    chosen["trust"] = str(path.parent / trust)
                yield _job(file, overrides, changes | chosen, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _matching(path: Path, pattern: str) -> list[Path]:
    """Return the files that a *pattern* of the list at *path* means, without the list itself."""
    folder = path.parent
    found = [folder / pattern]
    if has_magic(pattern):
        names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 - it may be absolute
        found = [folder / name for name in sorted(names)]
        found = [each for each in found if each.is_file() and not each.samefile(path)]
    if not found:
        raise ConfigError(f"no file is called like {pattern} in {folder.absolute()}")
    if lists := [each for each in found if is_list(each)]:
        raise ConfigError(f"{lists[0]} is a list of jobs itself; name both on one command")
    return found


def _filled(value: Any, chosen: Mapping[str, object]) -> Any:  # noqa: ANN401 - whatever a file holds
    """Return *value* with the matrix's values in the place of their keys in braces."""
    if isinstance(value, dict):
        return {key: _filled(inner, chosen) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, chosen) for inner in value]
    if not isinstance(value, str) or not chosen:  # without a matrix, braces are braces
        return value

    def text_of(found: re.Match[str]) -> str:
        if not isinstance(text := chosen.get(found[1]), str):
            texts = [key for key, value in chosen.items() if isinstance(value, str)]
            raise ConfigError(f"{found[0]} is no text of the matrix; it has: {listed(texts)}")
        return text

    return _PLACEHOLDER.sub(text_of, value)


def _with_unique_names(jobs: Sequence[Job]) -> list[Job]:
    """Return *jobs* with a number in the names that several have."""
    several = {name for name, count in Counter(job.name for job in jobs).items() if count > 1}
    counts: Counter[str] = Counter()
    named = []
    for job in jobs:
        counts[job.name] += 1
        number = f"#{counts[job.name]}" if job.name in several else ""
        named.append(replace(job, name=job.name + number))
    return named


def _with_receipts(jobs: Sequence[Job], folder: Path | None) -> list[Job]:
    """Return *jobs*, with a receipt in *folder*, if that is given, where one has none."""
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
            if (other := writers.setdefault(Path(os.path.abspath(path)), job)) is not job:  # noqa: PTH100 - without links
                raise ConfigError(
                    f"{other.name} and {job.name} would both write {path}; give {key} a name that "
                    "differs, such as with a key of the matrix in braces"
                )


def _refuse_chains(jobs: Sequence[Job]) -> None:
    """Refuse a job that reads what another one writes: nobody knows which is first."""
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
                "after the other, by a command for each"
            )


def _refuse_overlaps(jobs: Sequence[Job]) -> None:
    """Refuse jobs that would write the same slice of a model in the same table.

    Nor may what is a quarantine for one be the output of another.
    """
    outputs = {same_place(job.config.output.address): job for job in jobs}
    sharing: dict[tuple[str, str], list[Job]] = defaultdict(list)
    addresses: dict[str, str] = {}
    for job in jobs:
        if (other := outputs.get(same_place(job.config.quarantine_address))) is not None:
            raise ConfigError(
                f"{job.name} sets rows aside in {job.config.quarantine_address}, where "
                f"{other.name} writes predictions; give quarantine another table"
            )
        model = _model(job)
        for address in (job.config.output.address, job.config.quarantine_address):
            place = same_place(address)
            sharing[place, model].append(job)
            addresses[place] = address
    for (place, model), writers in sharing.items():
        slices: dict[str, Job] = {}
        for job in writers:
            if job.config.due and len(writers) > 1:
                other = next(one for one in writers if one is not job)
                raise ConfigError(_overlap(job, other, f"due slices of {model}", addresses[place]))
            for name in job.config.slice_names:
                if (other := slices.setdefault(name, job)) is not job:
                    what = f"slice {name} of {model}"
                    raise ConfigError(_overlap(job, other, what, addresses[place]))


def _overlap(job: Job, other: Job, what: str, address: str) -> str:
    return (
        f"{other.name} and {job.name} would both write {what} in {address}; give them tables of "
        "their own, or other slices"
    )


def same_place(address: str) -> str:
    """Return *address* in one of the ways to write it, the same for all of them."""
    path = re.sub(r"^file:/*(?=/)", "", address)
    if path.startswith("/"):
        return os.path.normpath("/" + path.lstrip("/"))
    if "/" not in address:
        return address.lower()  # a name of a catalog
    scheme, _, rest = address.partition(":")
    scheme = {"s3": "s3a", "s3n": "s3a"}.get(scheme.lower(), scheme.lower())
    return f"{scheme}:/{os.path.normpath('/' + rest.strip('/'))}"


def _model(job: Job) -> str:
    """Return the name of the registered model that a *job* applies, as far as it says."""
    from lakescore.registry.reference import (  # noqa: PLC0415 - not for --help
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
