"""A version's files: what they say, a private copy, and the digest of the very copy to be loaded.

Nothing here loads a model: MLmodel is read as YAML, all other files as bytes.
"""

from __future__ import annotations

import atexit
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lakescore.errors import (
    ArtifactsMissing,
    IntegrityError,
    LakescoreError,
    ModelNotCopied,
    StorageAway,
    StorageRefused,
)
from lakescore.registry.record import Card, File, signature_facts
from lakescore.storage import trouble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow.store.artifact.artifact_repo import ArtifactRepository

# MLflow adds it to a copy that was fetched by a registered version's URI: no part of the model.
_ADDED_BY_MLFLOW = "registered_model_meta"
_MODEL_FILE = "MLmodel"
_NO_ROOM = re.compile("|".join(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))))
_LONGEST_CARD = 90_000  # characters; MLflow's tags of versions hold 100,000
_FORMAT_KEYS = ("serialization_format", "model_format", "save_format")
_FILE_KEYS = ("pickled_model", "model_file", "model_path", "model_data", "data")
_PICKLED = {"pickle", "cloudpickle", "joblib"}
_FORMATS = {"pkl": "pickle", "pickle": "pickle", "joblib": "pickle", "pth": "pickle"}


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lakescore-"))  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fetch(uri: str, source: str) -> Path:
    """Copy the artifacts of the pinned *uri* from *source* into a private folder and return it.

    Raises:
        ArtifactsMissing: the files are not there, or hold no MLmodel.
        ModelNotCopied: there is no room for the copy.
        StorageAway, StorageRefused: an object store does not give them.
    """
    import mlflow  # noqa: PLC0415 - seconds of import that --help must not pay

    target = tempfile.mkdtemp(dir=_scratch())
    with _there(uri):
        fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=target))
    if not (fetched / _MODEL_FILE).is_file():
        raise ArtifactsMissing(uri, "there is no MLmodel file among them")
    fetched.chmod(0o700)
    return fetched


def fetch_file(uri: str, source: str, path: str) -> Path:
    """Copy the one file *path* of those at *source* into a private folder and return the copy.

    Raises:
        ArtifactsMissing: it is not there.
    """
    with _there(uri):
        folder = tempfile.mkdtemp(dir=_scratch())
        return Path(_repository(source).download_artifacts(path, folder))  # type: ignore[no-untyped-call]


def list_files(uri: str, source: str) -> tuple[File, ...]:
    """Return the files at *source*, sorted by path: a request a folder.

    Raises:
        ArtifactsMissing: there are none.
    """
    found: list[File] = []
    folders: list[str | None] = [None]
    with _there(uri):
        repository = _repository(source)
        while folders:
            for each in repository.list_artifacts(folders.pop()):
                if each.is_dir:
                    folders.append(each.path)
                else:
                    found.append(File(each.path, int(each.file_size or 0)))
    if not found:
        raise ArtifactsMissing(uri, "there are no files")
    return tuple(sorted(found, key=lambda file: file.path))


def _repository(source: str) -> ArtifactRepository:
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )

    return get_artifact_repository(source)


@contextmanager
def _there(uri: str) -> Iterator[None]:
    try:
        yield
    except LakescoreError:
        raise
    except Exception as error:  # stores raise what their clients do: no library, no such scheme
        if _NO_ROOM.search(str(error)):
            raise ModelNotCopied(uri, tempfile.gettempdir(), str(error)) from error
        known = trouble(error, f"the artifacts of {uri}")
        if isinstance(known, (StorageAway, StorageRefused)):
            raise known from error
        raise ArtifactsMissing(uri, str(error)) from error


def digest_of(folder: Path) -> str:
    """Return `sha256:<hex>` over the sorted (SHA-256, size, path) of all files in *folder*.

    Two copies of one model have one digest, wherever they were fetched from.

    Raises:
        IntegrityError: *folder* holds a symbolic link, which could lead out of it.
    """
    lines = []
    for file in _files_in(folder):
        with (folder / file.path).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines.append(f"{digest} {file.size} {file.path}\n")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _files_in(folder: Path) -> list[File]:
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(f"the artifact {relative} is a symbolic link; none is followed")
        if path.is_file() and relative != _ADDED_BY_MLFLOW:
            found.append(File(relative, path.stat().st_size))
    return found


def card_of(uri: str, folder: Path) -> Card:
    """Read the card of the pinned *uri* from its copy in *folder*, with the copy's digest.

    Raises:
        IntegrityError: there is a symbolic link, or MLmodel cannot be read.
    """
    return _card(uri, folder, _files_in(folder), digest_of(folder))


def read_card(uri: str, source: str, *, digest_up_to: int = 0) -> Card:
    """Read the card of the pinned *uri* from *source*, where its files lie.

    Args:
        uri: the version, for messages.
        source: the URI of the files.
        digest_up_to: bytes; files that are larger in all are not fetched for their digest.

    Raises:
        ArtifactsMissing: there are no files, or no MLmodel among them.
        IntegrityError: MLmodel cannot be read.
    """
    files = list_files(uri, source)
    if 0 < sum(file.size for file in files) <= digest_up_to:
        return card_of(uri, fetch(uri, source))
    return _card(uri, fetch_file(uri, source, _MODEL_FILE).parent, files, None)


def _card(uri: str, folder: Path, files: Sequence[File], digest: str | None) -> Card:
    from mlflow.models import Model  # noqa: PLC0415

    try:
        model = Model.load(str(folder))
        flavours = {name: dict(settings) for name, settings in model.flavors.items()}
        signature = model.signature
        if signature:
            signature_facts(signature)  # whether it can be told again
        return Card(
            signature=signature,
            flavours=tuple(_flavours(flavours)),
            formats=tuple(_formats(flavours)),
            mlflow_version=_text(model.mlflow_version),
            python_version=_text(flavours.get("python_function", {}).get("python_version")),
            files=tuple(files),
            size=sum(file.size for file in files),
            digest=digest,
        )
    except Exception as error:  # whatever MLflow's parsing of a damaged file raises
        raise IntegrityError(f"the MLmodel file of {uri} cannot be read: {error}") from error


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _flavours(flavours: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the flavours, and of what would really load the model.

    `python_function` wraps every flavour; its loader is named apart where it is none of theirs, so
    that a file which says sklearn and loads by another module says so.
    """
    native = sorted(name for name in flavours if name != "python_function")
    loader = str(flavours.get("python_function", {}).get("loader_module") or "")
    if loader == "mlflow.pyfunc.model":
        return [*native, "python_function"]
    loads = [name for name in native if loader == f"mlflow.{name}"]
    return native if loads or not loader else [*native, loader]


def _formats(flavours: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how the model is serialised; `code` where it brings Python files of its own.

    A loader reads only its own flavour's key, so no other is believed: scikit-learn's takes a file
    for a pickle unless `serialization_format` says otherwise. Types that a skops file says are to
    be trusted are named too, since the file alone says so.
    """
    found: set[str] = set()
    for name, settings in flavours.items():
        if settings.get("code") or settings.get("model_code_path"):
            found.add("code")
        if settings.get("skops_trusted_types"):
            found.add("skops-trusted-types")
        if name == "python_function":
            found.update({"cloudpickle"} if "python_model" in settings else ())
            continue
        keys = ("serialization_format",) if name == "sklearn" else _FORMAT_KEYS
        declared = {str(settings[key]) for key in keys if settings.get(key)}
        held = {_format_of(str(settings[key])) for key in _FILE_KEYS if settings.get(key)}
        if name == "sklearn":
            held = set() if declared else {"pickle"}
        found |= declared or held
        found |= held & {"pickle"} if not declared & _PICKLED else set()
    return sorted(found) or ["unknown"]


def _format_of(file: str) -> str:
    ending = PurePosixPath(file).suffix.lstrip(".").lower()
    return _FORMATS.get(ending, ending) or "unknown"


def card_tag(card: Card) -> str:
    """Return *card* as the JSON that `register` records; without files where they are too many."""
    facts = {
        "signature": card.signature.to_dict() if card.signature else None,
        "flavours": card.flavours,
        "formats": card.formats,
        "mlflow_version": card.mlflow_version,
        "python_version": card.python_version,
        "size": card.size,
        "digest": card.digest,
    }
    files = [[file.path, file.size] for file in card.files or ()]
    whole = json.dumps({**facts, "files": files})
    return whole if len(whole) <= _LONGEST_CARD else json.dumps({**facts, "files": None})


def recorded_card(tag: str | None) -> Card | None:
    """Return the card that was recorded as *tag*, or nothing where that is none."""
    from mlflow.models import ModelSignature  # noqa: PLC0415

    try:
        facts = json.loads(tag or "null")
        signature, files = facts["signature"], facts["files"]
        return Card(
            signature=ModelSignature.from_dict(signature) if signature else None,
            flavours=tuple(map(str, facts["flavours"])),
            formats=tuple(map(str, facts["formats"])),
            mlflow_version=_text(facts["mlflow_version"]),
            python_version=_text(facts["python_version"]),
            files=files and tuple(File(str(path), int(size)) for path, size in files),
            size=int(facts["size"]),
            digest=_text(facts["digest"]),
        )
    except Exception:  # noqa: BLE001 - anyone can write tags, and a listing must not fail for one
        return None
