"""Real stores for tests: PostgreSQL and `mlflow server`, each a process on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE = 300.0  # seconds; a machine may be busy
_ALONE = ("flock", "/tmp/lakescore-apt.lock")  # noqa: S108 - the scripts that run apt-get lock it too


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """Start a PostgreSQL of our own, yield the URI of an empty database, and stop it.

    Its log goes to *folder*. Its data may not: as root we run it as another user, from whom each
    pytest that starts locks all of pytest's folders. Debian's package is installed where that may
    be done; else the test is skipped.
    """
    binaries = _postgresql_binaries()
    with tempfile.TemporaryDirectory(prefix="lakescore-postgresql-") as home:
        as_user = _unprivileged(Path(home))
        data, port = Path(home, "data"), free_port()
        initialise = [binaries / "initdb", "-D", data, "-U", "lakescore", "-A", "trust"]
        command = [*as_user, *map(str, initialise), "-E", "UTF8"]
        subprocess.run(command, check=True, capture_output=True, cwd=home)
        options = ["-D", data, "-p", port, "-k", home, "-c", "listen_addresses=127.0.0.1"]
        quick = ["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=50"]
        command = [*as_user, *map(str, [binaries / "postgres", *options, *quick])]
        with _running(command, folder / "postgresql.log", Path(home)):
            _wait_for_port(port)
            yield f"postgresql+psycopg://lakescore@127.0.0.1:{port}/postgres"


def _postgresql_binaries() -> Path:
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not servers and shutil.which("apt-get") and os.geteuid() == 0:
        install = "apt-get update && apt-get install -y --no-install-recommends postgresql"
        subprocess.run([*_ALONE, "sh", "-c", install], check=False, capture_output=True)
        servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not servers:
        pytest.skip("PostgreSQL is missing: as root, apt-get install postgresql")
    return servers[-1].parent


def _unprivileged(folder: Path) -> list[str]:
    """Return what runs a command as the user who owns *folder* then: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "nobody")
    return ["runuser", "-u", "nobody", "--"]


@contextmanager
def mlflow_server(
    store: str, folder: Path, *, port: int | None = None, admin_password: str | None = None
) -> Iterator[str]:
    """Start `mlflow server`, which serves artifacts too; yield its URI, and stop it.

    Args:
        store: the URI of its database.
        folder: for artifacts and its log.
        port: a free one if left out.
        admin_password: of the user `admin`; given, the server asks everyone for a password.
    """
    port = port or free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store),
        *("--artifacts-destination", str(folder / "artifacts"), "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    # Its own jobs are eight processes more at every start, and nothing here needs them.
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if admin_password:
        users = folder / "basic_auth.ini"
        users.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users-{port}.db\n"
            f"admin_username = admin\nadmin_password = {admin_password}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        command += ["--app-name", "basic-auth"]
        variables |= {
            "MLFLOW_AUTH_CONFIG_PATH": str(users),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of tests",
        }
    with _running(command, folder / "server.log", folder, variables):
        _wait_for_answer(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """Start moto's S3, which takes any credentials; yield its endpoint, and stop it.

    While there is a file `meet` in *folder*, two commits to a table wait for each other.
    """
    port = free_port()
    program = Path(__file__).with_name("storage") / "meeting.py"
    command = [sys.executable, str(program), str(port), str(folder / "meet")]
    with _running(command, folder / "s3.log", folder):
        _wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
"""Those that Microsoft's emulator always has; they open nothing else."""


@contextmanager
def azure(folder: Path) -> Iterator[str]:
    """Start Azurite, Microsoft's emulator of Azure's blobs; yield its endpoint, and stop it.

    npm installs it into this environment, by its lock file.
    """
    lock = Path(__file__).with_name("storage") / "azurite"
    home = Path(sys.prefix) / "share" / "lakescore" / "azurite"
    program = home / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if not program.is_file():
        if shutil.which("npm") is None and shutil.which("apt-get") and os.geteuid() == 0:
            install = "apt-get update && apt-get install -y --no-install-recommends nodejs npm"
            subprocess.run([*_ALONE, "sh", "-c", install], check=True, capture_output=True)
        shutil.copytree(lock, home, dirs_exist_ok=True)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=home, check=True, capture_output=True)
    port = free_port()
    options = ["--blobPort", str(port), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    command = ["node", str(program), *options, "--location", str(folder / "blobs")]
    with _running(command, folder / "azurite.log", folder):
        _wait_for_port(port)
        yield f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"


@contextmanager
def _running(
    command: Sequence[str], log: Path, folder: Path, variables: Mapping[str, str] | None = None
) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **(variables or {})},
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=_PATIENCE)


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _wait_for_answer(url: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - our own server
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
