"""An index of small packages on this machine, as uv reads it, for tests of environments."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_SCORING = ("cloudpickle", "numpy", "pandas", "pyarrow")


def wheel(name: str, version: str, *, code: str = "", requires: str = "") -> bytes:
    """Return a wheel with one module that has the *code*, beside its own version."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {
        f"{name}.py": f"__version__ = {version!r}\n{code}",
        f"{info}/METADATA": metadata + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return content.getvalue()


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def source(name: str, version: str, build: str) -> bytes:
    """Return a source archive; to build it runs the code *build*."""
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
        f'backend-path = ["."]\n[project]\nname = "{name}"\nversion = "{version}"\n',
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "backend.py": build,
    }
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(f"{name}-{version}/{path}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@dataclass
class Index:
    """A running index."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """The files by name."""
    dates: dict[str, str] = field(default_factory=dict)
    """The days on which files came, by name; files without one have none."""
    is_private: bool = False
    """Whether it asks for a password."""
    slow: str = ""
    """A file that takes two seconds, except for the first time."""
    asked: list[str] = field(default_factory=list)
    """The paths that were asked for."""

    def add(
        self,
        name: str,
        version: str,
        *,
        code: str = "",
        requires: str = "",
        day: str = "2024-01-01",
    ) -> None:
        """Add a wheel."""
        file = f"{name}-{version}-py3-none-any.whl"
        self.files[file] = wheel(name, version, code=code, requires=requires)
        self.dates[file] = f"{day}T12:00:00Z"

    @property
    def fetched(self) -> list[str]:
        """The wheels that were fetched."""
        return [path.rpartition("/")[2] for path in self.asked if path.startswith("/files/")]

    def page(self, project: str) -> bytes | None:
        """Return what the index says about a project."""
        named = {n: c for n, c in self.files.items() if n.startswith(f"{project}-")}
        files = [
            {
                "filename": name,
                "url": f"{self.url}/files/{name}",
                "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                **({"upload-time": self.dates[name]} if name in self.dates else {}),
            }
            for name, content in named.items()
        ]
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
        return json.dumps(page).encode() if files else None


@contextlib.contextmanager
def serve() -> Iterator[Index]:
    """Yield an index that has what a worker needs to score."""
    index = Index()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            index.asked.append(self.path)
            if index.fetched.count(index.slow) > 1:
                time.sleep(2)
            self.wfile.write(self.answer())

        def answer(self) -> bytes:
            parts = self.path.strip("/").split("/")
            is_page = parts[0] == "simple"
            body = index.page(parts[-1]) if is_page else index.files.get(parts[-1])
            refused = index.is_private and "Authorization" not in self.headers
            self.send_response(401 if refused else 404 if body is None else 200)
            if is_page:
                self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            return body or b""

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.url = f"http://127.0.0.1:{server.server_port}"
    for name in FOR_SCORING:
        index.add(name, "18.0.0")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
