"""Java, which Spark needs: checked before a JVM is started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from lakescore import assets
from lakescore.errors import LakescoreError

VERBOSE = ("-Dlakescore.log.level=info", "-Dlakescore.log.tasks=info")
"""The options of a JVM whose log shows what Spark does."""
_OLDEST = 17


class JavaMissing(LakescoreError):
    """Spark cannot start without Java."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"Spark needs Java 17 or newer, but {problem}; install a JRE (on Debian: apt-get "
            "install default-jre-headless) or point JAVA_HOME at one"
        )


def sharing() -> list[str]:
    """Return the options of a JVM that shares the classes in the archive of the set-up, if any.

    Java ignores an archive of another Java or for other jars; the options silence its warning.
    """
    archive = assets.class_archive()
    if not archive.is_file() or " " in str(archive):  # Spark ends an option at a space
        return []
    return [f"-XX:SharedArchiveFile={archive}", "-Xlog:disable", "-Xlog:all=error:stderr"]


def require() -> None:
    """Check that JAVA_HOME or the PATH has Java 17 or newer, where Spark's launcher looks for it.

    Raises:
        JavaMissing: no Java is found, or it is older.
    """
    java_home = os.environ.get("JAVA_HOME")
    java = str(Path(java_home) / "bin" / "java") if java_home else shutil.which("java")
    if java is None:
        raise JavaMissing("no java is on the PATH")
    try:
        result = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise JavaMissing(f"{java} does not run") from error
    version = re.search(r'version "(\d+)', result.stderr)
    if version is None or int(version[1]) < _OLDEST:
        raise JavaMissing(f"{java} is version {version[1] if version else 'unknown'}")
