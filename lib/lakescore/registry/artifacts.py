"""A version's files: a private copy, and the digest of the very copy that is loaded."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from functools import cache
from pathlib import Path

from lakescore.errors import ArtifactsMissing, IntegrityError

# MLflow adds it to a copy that was fetched by a registered version's URI: no part of the model.
_ADDED_BY_MLFLOW = "registered_model_meta"


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lakescore-"))  # mode 0700
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def fetch(uri: str, source: str) -> Path:
    """Copy the artifacts of the pinned *uri* from *source* into a private folder and return it.

    Raises:
        ArtifactsMissing: the files are not there, or hold no MLmodel.
    """
    import mlflow  # noqa: PLC0415 - seconds of import that --help must not pay

    target = Path(tempfile.mkdtemp(dir=_scratch()))
    try:
        fetched = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(target))
        )
    except (mlflow.MlflowException, OSError) as error:
        raise ArtifactsMissing(uri, str(error)) from error
    if not (fetched / "MLmodel").is_file():
        raise ArtifactsMissing(uri, "there is no MLmodel file among them")
    return fetched


def digest_of(folder: Path) -> str:
    """Return `sha256:<hex>` over the sorted (SHA-256, size, path) of all files in *folder*.

    Two copies of one model have one digest, wherever they were fetched from.

    Raises:
        IntegrityError: *folder* holds a symbolic link, which could lead out of it.
    """
    lines = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(f"the artifact {relative} is a symbolic link; none is followed")
        if path.is_file() and relative != _ADDED_BY_MLFLOW:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{content} {path.stat().st_size} {relative}\n")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
