"""The installer: uv, run so that only the owner of this machine tells it what to do.

It runs in an empty folder, reads no settings of projects, and gets a list of variables of the
environment. It never downloads a Python.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uv

from lakescore.home import scratch
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PASSED_ON = re.compile(
    r"HOME|PATH|TMPDIR|LANG|LC_ALL|NETRC|XDG_CACHE_HOME|XDG_DATA_HOME"
    r"|SSL_CERT_FILE|SSL_CERT_DIR|SSL_CLIENT_CERT|(?i:https?_proxy|all_proxy|no_proxy)"
    r"|UV_CACHE_DIR|UV_OFFLINE|UV_NATIVE_TLS|UV_SYSTEM_CERTS|UV_INSECURE_HOST|UV_KEYRING_PROVIDER"
    r"|UV_HTTP_\w+|UV_CONCURRENT_\w+|UV_PYTHON_INSTALL_DIR"
    r"|UV_DEFAULT_INDEX|UV_INDEX|UV_INDEX_URL|UV_EXTRA_INDEX_URL|UV_FIND_LINKS|UV_INDEX_STRATEGY"
    r"|UV_NO_INDEX|UV_INDEX_\w+_(USERNAME|PASSWORD)"
)
"""The variables of this process that uv gets: where it keeps files, how it reaches indexes."""
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_OF_PIP = {
    "index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
}  # fmt: skip
"""The settings of pip that name indexes, and the variables that tell uv the same."""
_OPTIONS = ("--index-url ", "--extra-index-url ", "--find-links ")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a run of uv ended with."""

    code: int
    output: str
    messages: str


def run_uv(
    arguments: Sequence[str],
    *,
    text: str = "",
    show: Callable[[str], None] | None = None,
    held: Sequence[int] = (),
) -> Done:
    """Run uv and return what it said.

    Args:
        arguments: the command of uv.
        text: its standard input.
        show: is called with each line of its messages.
        held: the descriptors of locks that stay held until uv ends, even if this process is killed.
    """
    with tempfile.TemporaryDirectory(dir=scratch()) as empty, tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - uv itself, with arguments of this package
            [uv.find_uv_bin(), *_settings(), "--no-python-downloads", "--color=never", *arguments],
            cwd=empty,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
            pass_fds=held,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            messages = list(_converse(process, text, show))
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        result = output.read().decode("utf-8", errors="replace")
    return Done(code=process.returncode, output=result, messages=redact("".join(messages)))


def _converse(
    process: subprocess.Popen[str], text: str, show: Callable[[str], None] | None
) -> Iterator[str]:
    assert process.stdin is not None  # noqa: S101 - narrows for mypy
    assert process.stderr is not None  # noqa: S101 - likewise
    with contextlib.suppress(BrokenPipeError):  # it ended before, and its messages say why
        process.stdin.write(text)
        process.stdin.close()
    for line in process.stderr:
        if show is not None:
            show(line.strip())
        yield line
    process.wait()


def find_indexes() -> tuple[str, ...]:
    """Return the indexes, and the folders of packages, that uv reads on this machine."""
    asked = ["pip", "compile", "-", "--emit-index-url", "--emit-find-links", "--no-header", "-q"]
    lines = run_uv([*asked, f"--python={sys.executable}"]).output.splitlines()
    return tuple(
        line.removeprefix(option).strip()
        for line in lines
        for option in _OPTIONS
        if line.startswith(option)
    )


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if _PASSED_ON.fullmatch(key)}
    if not any(kept.get(key) for key in _INDEXES) and _settings() == ["--no-config"]:
        kept |= _indexes_of_pip()
    return kept


def _settings() -> list[str]:
    """Return the option that names the owner's settings of uv, or none."""
    chosen = os.environ.get("UV_CONFIG_FILE")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in [Path(chosen)] if chosen else [config / "uv/uv.toml", Path("/etc/uv/uv.toml")]:
        if path.is_file():
            return ["--config-file", str(path.absolute())]
    return ["--no-config"]


def _indexes_of_pip() -> dict[str, str]:
    """Return the indexes that pip is set up for, as variables of uv.

    A machine whose pip reads a private index must not ask a public one for the same names.
    """
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", config / "pip/pip.conf"]
    places.append(Path(sys.prefix) / "pip.conf")
    if chosen := os.environ.get("PIP_CONFIG_FILE"):
        places.append(Path(chosen))
    parser = configparser.RawConfigParser(strict=False)
    parser.read(places, encoding="utf-8")
    found = {}
    for name, variable in _OF_PIP.items():
        by_variable = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
        values = [parser.get(part, name, fallback="") for part in ("install", "global")]
        words = next(filter(None, [by_variable, *values]), "").split()
        if name == "find-links":  # pip ignores a folder that is not there, uv ends
            words = [word for word in words if "://" in word or Path(word).is_dir()]
        if words:
            found[variable] = ("," if name == "find-links" else " ").join(words)
    return found
