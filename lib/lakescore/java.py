"""Java, without which Spark does not start: found before a JVM is asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lakescore.errors import JavaMissing

_OLDEST = 17


def sharing() -> list[str]:
    """Return the options of a JVM that shares the classes which the set-up kept, if it did.

    Java takes no archive of another Java, or for other jars, and need not say so.
    """
    archive = Path(sys.prefix) / "share" / "lakescore" / "classes.jsa"
    if not archive.is_file() or " " in str(archive):  # where Spark ends the option
        return []
    return [f"-XX:SharedArchiveFile={archive}", "-Xlog:disable", "-Xlog:all=error:stderr"]


def require() -> None:
    """Find Java 17 or newer, by JAVA_HOME or on the PATH, as Spark's launcher will.

    Raises:
        JavaMissing: there is none, or an older one.
    """
    java_home = os.environ.get("JAVA_HOME")
    java = str(Path(java_home) / "bin" / "java") if java_home else shutil.which("java")
    if java is None:
        raise JavaMissing("there is none on the PATH")
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise JavaMissing(f"{java} does not run") from error
    found = re.search(r'version "(\d+)', done.stderr)
    if found is None or int(found[1]) < _OLDEST:
        raise JavaMissing(f"{java} is version {found[1] if found else 'unknown'}")
