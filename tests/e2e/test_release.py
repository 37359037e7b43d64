"""A release is one command, which leaves nothing behind if it fails."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location("release", ROOT / "scripts/release.py")
assert _SPEC is not None
assert _SPEC.loader is not None
making: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(making)
pytestmark = pytest.mark.skipif(
    not making.TOOLS.exists(), reason="scripts/tools.sh release installs the tools of a release"
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository of what is built here, in one commit."""
    root: Path = making.copy_source(ROOT, tmp_path / "repository")
    making.git(root, "init", "--quiet", "--initial-branch", "main")
    for key, value in (("name", "A maintainer"), ("email", "maintainer@lakescore.invalid")):
        making.git(root, "config", f"user.{key}", value)
    making.git(root, "add", "--all")
    making.git(root, "commit", "--quiet", "--message", "Begin")
    return root


@pytest.mark.wide  # it builds twice
def test_a_release_is_committed_tagged_and_built_with_all_that_tells_what_it_is(
    repository: Path,
) -> None:
    making.release(repository, "7.0.0")
    commit = making.git(repository, "rev-parse", "v7.0.0^{commit}")
    assert commit == making.git(repository, "rev-parse", "main")
    assert making.git(repository, "log", "-1", "--format=%s") == "Release 7.0.0"
    assert making.git(repository, "status", "--porcelain", "--untracked-files=no") == ""
    assert making.git(repository, "worktree", "list").count("\n") == 0
    assert making.UNRELEASED not in (repository / "CHANGELOG.md").read_text()

    built = repository / "dist/7.0.0"
    wheel, sdist = built / "lakescore-7.0.0-py3-none-any.whl", built / "lakescore-7.0.0.tar.gz"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert b"\nVersion: 7.0.0\n" in archive.read("lakescore-7.0.0.dist-info/METADATA")
    assert {"lakescore/cli/app.py", "lakescore/project/jobs/score.py"} <= set(names)
    with tarfile.open(sdist) as archive:
        assert "lakescore-7.0.0/lib/lakescore/cli/app.py" in archive.getnames()

    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=built, check=True)
    assert {path.name for path in built.iterdir()} == {
        wheel.name, sdist.name, "sbom.json", "licences.md", "provenance.json", "SHA256SUMS",
    }  # fmt: skip
    bill = json.loads((built / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["metadata"]["component"]["version"]) == ("CycloneDX", "7.0.0")
    listed = {component["name"] for component in bill["components"]}
    assert {"mlflow", "pyspark", "deltalake", "scikit-learn"} <= listed
    assert not {"pytest", "moto", "psycopg"} & listed  # no user installs them
    lines = (built / "licences.md").read_text().splitlines()[2:]
    assert {line.split(" | ")[0].removeprefix("| ") for line in lines} == listed | {"lakescore"}

    told = json.loads((built / "provenance.json").read_text())
    assert {file["name"]: file["digest"]["sha256"] for file in told["subject"]} == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, sdist)
    }
    materials = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {"gitCommit": commit} in [material["digest"] for material in materials]


def test_a_version_that_cannot_follow_is_refused(repository: Path) -> None:
    making.git(repository, "tag", "v7.0.0")
    for version, reason in (
        ("0.0.1", "'0.0.1' cannot follow version"),
        ("seven", "'seven' cannot follow version"),
        ("07.0", "'07.0' cannot follow version"),  # not as it would be written
        ("7.0.0", r"the tag v7\.0\.0 exists"),
    ):
        with pytest.raises(making.ReleaseRefused, match=reason):
            making.release(repository, version)


def test_changes_without_a_commit_or_without_a_word_for_users_are_refused(
    repository: Path,
) -> None:
    changes = repository / "CHANGELOG.md"
    changes.write_text("# Changelog\n")
    with pytest.raises(making.ReleaseRefused, match=r"no commit has; commit them:\n.*CHANGELOG"):
        making.release(repository, "7.0.0")
    making.git(repository, "commit", "--quiet", "--all", "--message", "Forget")
    with pytest.raises(making.ReleaseRefused, match="has no section"):
        making.release(repository, "7.0.0")


def test_a_release_that_cannot_be_built_leaves_nothing_behind(repository: Path) -> None:
    making.git(repository, "rm", "--quiet", "README.md")
    making.git(repository, "commit", "--quiet", "--message", "Lose")
    before = making.git(repository, "rev-parse", "HEAD")
    with pytest.raises(subprocess.CalledProcessError):
        making.release(repository, "7.0.0")
    assert making.git(repository, "rev-parse", "HEAD") == before
    assert making.git(repository, "tag", "--list") == ""
    assert making.git(repository, "worktree", "list").count("\n") == 0
    assert not (repository / "dist").exists()


def test_a_licence_with_copyleft_is_refused() -> None:
    with pytest.raises(making.ReleaseRefused, match=r"not allowed: .*psycopg .*LGPL"):
        making.list_licences(Path(sys.executable))  # of the developers, who test with PostgreSQL
