"""A version's files: their card, a private copy, and the digest of the copy that will be loaded.

Nothing here loads a model: this module reads MLmodel as YAML, and all other files as bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from lakescore.encoding import parsed
from lakescore.errors import IntegrityError, LakescoreError
from lakescore.home import scratch
from lakescore.registry import loaders
from lakescore.registry.errors import ArtifactsMissing, ModelNotCopied
from lakescore.registry.record import Card, File, signature_facts
from lakescore.storage import StorageRefused, StorageUnavailable, explain_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from lakescore.registry.loaders import Reading

# MLflow adds this file to a copy that it fetches by a registered version's URI. The file is not
# part of the model and differs between copies. `fetch` deletes it: a digest covers all files.
_ADDED_BY_MLFLOW = "registered_model_meta"
_MODEL_FILE = "MLmodel"
_NO_ROOM = re.compile("|".join(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))))
_LARGEST_MODEL_FILE = 20_000_000
"""Bytes; YAML of more than five million characters is refused."""
_LONGEST_CARD = 90_000  # characters; a tag of a version in MLflow holds 100,000
_TEXTS = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "constraints.txt"}
"""The text files that MLflow writes beside each model; some begin as a pickle could."""
_MODULES = {".py", ".pyc", ".pyo", ".pyw", ".pyd", ".so", ".dll", ".dylib", ".pth", ".whl", ".egg"}


def fetch(uri: str, source: str) -> Path:
    """Copy the artifacts of the pinned *uri* from *source* into a private folder and return it.

    Raises:
        ArtifactsMissing: the files do not exist, or include no MLmodel.
        ModelNotCopied: there is no space for the copy.
        StorageUnavailable, StorageRefused: an object store does not return the files.
    """
    target = Path(tempfile.mkdtemp(dir=scratch()))
    with _artifact_errors(uri):
        fetched = _copy_folder(source, target)
    if not (fetched / _MODEL_FILE).is_file():
        raise ArtifactsMissing(uri, "there is no MLmodel file among them")
    fetched.chmod(0o700)
    (fetched / _ADDED_BY_MLFLOW).unlink(missing_ok=True)
    return fetched


def _copy_folder(source: str, target: Path) -> Path:
    """Copy the folder *source* into *target*, and return the copy.

    Local files are copied here, since MLflow would start threads for them.
    """
    import mlflow  # noqa: PLC0415 - seconds of import that --help must not pay

    parts = urlsplit(source)
    if parts.scheme != "file" or parts.netloc:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(target)))
    folder = Path(unquote(parts.path))
    copy = target / (folder.name or "artifacts")
    # A link stays a link, and `digest_of` refuses it.
    shutil.copytree(folder, copy, symlinks=True, copy_function=shutil.copy)
    for path in copy.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)  # the process cannot remove a read-only folder at its end
    return copy


def fetch_file(uri: str, source: str, path: str) -> Path:
    """Copy the file *path* at *source* into a private folder and return the copy.

    Raises:
        ArtifactsMissing: the file does not exist.
    """
    with _artifact_errors(uri):
        folder = tempfile.mkdtemp(dir=scratch())
        return Path(_repository(source).download_artifacts(path, folder))  # type: ignore[no-untyped-call]


def list_files(uri: str, source: str) -> tuple[File, ...]:
    """Return the files at *source*, sorted by path: one request per folder.

    Raises:
        ArtifactsMissing: there are no files.
    """
    listed: list[File] = []
    folders: list[str | None] = [None]
    with _artifact_errors(uri):
        repository = _repository(source)
        while folders:
            for entry in repository.list_artifacts(folders.pop()):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    listed.append(File(entry.path, int(entry.file_size or 0)))
    if not listed:
        raise ArtifactsMissing(uri, "there are no files")
    return tuple(sorted(listed, key=lambda file: file.path))


def _repository(source: str) -> ArtifactRepository:
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
        get_artifact_repository,
    )

    return get_artifact_repository(source)


@contextmanager
def _artifact_errors(uri: str) -> Iterator[None]:
    """Raise the errors of a store's client as errors of lakescore."""
    try:
        yield
    except LakescoreError:
        raise
    except Exception as error:  # each store's client has its own: no library, no such scheme
        if _NO_ROOM.search(str(error)):
            raise ModelNotCopied(uri, tempfile.gettempdir(), str(error)) from error
        explained = explain_error(error, f"the artifacts of {uri}")
        if isinstance(explained, (StorageUnavailable, StorageRefused)):
            raise explained from error
        raise ArtifactsMissing(uri, str(error)) from error


def digest_of(folder: Path) -> str:
    """Return `sha256:<hex>` over the sorted (SHA-256, size, path) of all files in *folder*.

    All copies of one model have the same digest, even from different sources.

    Raises:
        IntegrityError: *folder* contains a symbolic link, which could lead out of the folder.
    """
    lines = []
    for file in _files_in(folder):
        with (folder / file.path).open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines.append(f"{digest} {file.size} {file.path}\n")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _files_in(folder: Path) -> list[File]:
    files = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(
                f"the artifact {relative} is a symbolic link; links are not followed"
            )
        if path.is_file():
            files.append(File(relative, path.stat().st_size))
    return files


def card_of(uri: str, folder: Path) -> Card:
    """Read the card of the pinned *uri* from its copy in *folder*, with the copy's digest.

    Raises:
        IntegrityError: a file is a symbolic link, or MLmodel cannot be read.
    """
    return _card(uri, folder, _files_in(folder), digest_of(folder))


def read_card(uri: str, source: str, *, digest_up_to: int = 0) -> Card:
    """Read the card of the pinned *uri* from its files at *source*.

    Args:
        uri: the version, for messages.
        source: the URI of the files.
        digest_up_to: bytes; if the files are larger in total, they are not fetched for a digest.

    Raises:
        ArtifactsMissing: there are no files, or no MLmodel among them.
        IntegrityError: MLmodel cannot be read.
    """
    files = list_files(uri, source)
    if 0 < sum(file.size for file in files) <= digest_up_to:
        return card_of(uri, fetch(uri, source))
    return _card(uri, fetch_file(uri, source, _MODEL_FILE).parent, files, None)


def read_model_file(uri: str, source: str) -> tuple[Card, dict[str, Any]]:
    """Return what the MLmodel file of the pinned *uri* says; no other file at *source* is read.

    The card has no files and no digest. A file on this machine is read at its place.

    Returns:
        The card, and the values of the file.

    Raises:
        ArtifactsMissing: there is no such file.
        IntegrityError: it is a link, is too large, or cannot be read.
    """
    with _artifact_errors(uri), _folder_of_model_file(uri, source) as folder:
        return _read_card(uri, folder, (), None)


@contextmanager
def _folder_of_model_file(uri: str, source: str) -> Iterator[Path]:
    """Yield a folder with the MLmodel file at *source*."""
    parts = urlsplit(source)
    if parts.scheme in {"", "file"} and not parts.netloc:
        folder = Path(unquote(parts.path) if parts.scheme else source)
        path = folder / _MODEL_FILE
        if path.is_symlink():
            raise IntegrityError(f"the MLmodel file of {uri} is a link; links are not followed")
        if not path.is_file():
            raise ArtifactsMissing(uri, "there is no MLmodel file among them")
        _check_size(uri, path.stat().st_size)
        yield folder
        return
    repository = _repository(source)
    for entry in repository.list_artifacts(None):
        if entry.path == _MODEL_FILE:
            _check_size(uri, int(entry.file_size or 0))
    with tempfile.TemporaryDirectory(dir=scratch()) as target:
        repository.download_artifacts(_MODEL_FILE, target)  # type: ignore[no-untyped-call]
        yield Path(target)


def _check_size(uri: str, size: int) -> None:
    if size > _LARGEST_MODEL_FILE:
        limit = f"{_LARGEST_MODEL_FILE:,} bytes"
        raise IntegrityError(f"the MLmodel file of {uri} has more than {limit}")


def _card(uri: str, folder: Path, files: Sequence[File], digest: str | None) -> Card:
    return _read_card(uri, folder, files, digest)[0]


def _read_card(
    uri: str, folder: Path, files: Sequence[File], digest: str | None
) -> tuple[Card, dict[str, Any]]:
    """Return the card, and the values of MLmodel."""
    from mlflow.models import Model  # noqa: PLC0415

    try:
        values = _model_file(folder)
        model = Model.from_dict(values)
        signature = model.signature
        if signature:
            signature_facts(signature)  # fails if the signature cannot be written as JSON
        reading = loaders.read(values, folder)
        wrapper = loaders.settings_of(values).get("python_function", {})
        card = Card(
            signature=signature,
            flavours=reading.flavours,
            formats=reading.formats,
            mlflow_version=_text(model.mlflow_version),
            python_version=_text(wrapper.get("python_version")),
            files=tuple(files),
            size=sum(file.size for file in files),
            digest=digest,
        )
    except IntegrityError:
        raise
    except Exception as error:  # MLflow's parser raises many types for a damaged file
        raise IntegrityError(f"the MLmodel file of {uri} cannot be read: {error}") from error
    return card, values


def _model_file(folder: Path) -> dict[str, Any]:
    """Return the values of MLmodel.

    Raises:
        IntegrityError: MLmodel names a file outside *folder*, which no digest covers.
    """
    values = parsed((folder / _MODEL_FILE).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError("it is not a mapping of keys to values")
    if (outside := loaders.leads_out(values)) is not None:
        key, path = outside
        raise IntegrityError(f"the {key} of MLmodel is {path!r}, which leads out of its folder")
    return values


def reading_of(uri: str, folder: Path) -> Reading:
    """Return how MLflow would load the copy of the pinned *uri* in *folder*.

    Raises:
        IntegrityError: MLmodel cannot be read, or names a file outside *folder*.
    """
    try:
        reading = loaders.read(_model_file(folder), folder)
        if not (folder / _MODEL_FILE).read_bytes().isascii():  # MLflow writes only ASCII
            doubt = "its MLmodel has characters that some machines would read in another way"
            return replace(reading, doubts=(*reading.doubts, doubt))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise IntegrityError(f"the MLmodel file of {uri} cannot be read: {error}") from error
    return reading


def pickles_in(folder: Path, skipped: Sequence[str]) -> list[str]:
    """Return the files in *folder* that contain a pickle with an import, sorted.

    Args:
        folder: a private copy.
        skipped: files and folders to skip.
    """
    return [file for file in _remaining_files(folder, skipped) if _is_pickle(folder, file)]


def modules_in(folder: Path, skipped: Sequence[str]) -> list[str]:
    """Return the files in *folder* that Python could import or run, sorted.

    Args:
        folder: a private copy.
        skipped: as in `pickles_in`.
    """
    remaining = _remaining_files(folder, skipped)
    return [file for file in remaining if PurePosixPath(file).suffix.lower() in _MODULES]


def _remaining_files(folder: Path, skipped: Sequence[str]) -> list[str]:
    return [
        file.path
        for file in _files_in(folder)
        if not any(file.path == path or file.path.startswith(f"{path}/") for path in skipped)
    ]


def _is_pickle(folder: Path, file: str) -> bool:
    from picklescan.scanner import scan_file_path  # noqa: PLC0415 - only some policies need it

    path = folder / file
    if not path.stat().st_size:
        return False
    # picklescan logs each file that is not a pickle.
    logging.getLogger("picklescan").setLevel(logging.CRITICAL)
    try:
        scan = scan_file_path(str(path))
    except Exception:  # noqa: BLE001 - it raises many types for invalid opcodes
        return True
    if scan.issues_count or not scan.globals:
        return bool(scan.issues_count)
    return not (scan.scan_err and (file in _TEXTS or _is_text(path)))


def _is_text(path: Path) -> bool:
    try:
        return "\0" not in path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, (str, int, float)) else None


def card_tag(card: Card) -> str:
    """Return *card* as the JSON that `register` records; without files if there are too many."""
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
    text = json.dumps({**facts, "files": files})
    return text if len(text) <= _LONGEST_CARD else json.dumps({**facts, "files": None})


def recorded_card(tag: str | None) -> Card | None:
    """Return the card that *tag* records; None if *tag* is not a valid card."""
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
