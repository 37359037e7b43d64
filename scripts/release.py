"""Make a release: wheel, sdist, bill of materials, licences, provenance and checksums.

The release is made in a worktree of its own. The branch and the tag move only when all checks have
passed, so a release that fails leaves nothing behind.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / ".venv/share/lakescore/release/bin"
EXTRAS = ("azure", "connect", "gcs", "notebook", "s3", "spark")
"""The extras whose packages users install."""
LICENCES = (
    "Apache", "BSD", "CC0", "ISC", "MIT", "Mozilla Public License 2.0", "PSF", "Python Software",
    "Zlib",
)  # fmt: skip
"""The beginnings and parts of names of licences that ask for no more than to be named. The Mozilla
licence, of certifi, asks only that changed files of certifi stay open."""
REFUSED = ("GPL", "Affero", "EUPL", "SSPL", "CC-BY-SA", "CC-BY-NC", "Proprietary")
UNDECLARED = {"huey": "MIT", "skops": "MIT"}
"""Packages that name their licence only in a file; it was read."""
UNRELEASED = "(unreleased)"


class ReleaseRefused(Exception):
    """The release cannot be made."""


def main() -> None:
    """Make the release, or check that one could be made."""
    parser = argparse.ArgumentParser(prog="release.sh", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("version", nargs="?", help="the new version, such as 0.2.0")
    what.add_argument("--check", action="store_true", help="build and check what is here")
    asked = parser.parse_args()
    try:
        if asked.check:
            with tempfile.TemporaryDirectory(prefix="lakescore-release-") as folder:
                source = copy_source(ROOT, Path(folder) / "source")
                build(source, Path(folder) / "dist", {})
            say("a release can be made")
        else:
            release(ROOT, asked.version)
    except ReleaseRefused as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        command = " ".join(map(str, error.cmd))
        sys.exit(f"error: {command} failed\n{error.stdout or ''}{error.stderr or ''}".rstrip())


def release(root: Path, version: str) -> None:
    """Commit and tag *version* in the repository *root*, and build it in dist/VERSION.

    Raises:
        ReleaseRefused: the version, the repository or a built file is not fit for a release.
    """
    check_version(root, version)
    target = root / "dist" / version
    if target.exists():
        raise ReleaseRefused(f"{target.relative_to(root)} exists; remove it, or give a new version")
    with worktree(root) as source:
        state_version(source, version, datetime.now(UTC).date().isoformat())
        git(source, "commit", "--quiet", "--all", "--message", f"Release {version}")
        commit = git(source, "rev-parse", "HEAD")
        os.environ["SOURCE_DATE_EPOCH"] = git(source, "log", "-1", "--format=%ct")
        with tempfile.TemporaryDirectory(prefix="lakescore-release-") as folder:
            built = Path(folder, "dist")
            build(copy_source(source, Path(folder, "source")), built, {"gitCommit": commit})
            git(root, "merge", "--quiet", "--ff-only", commit)
            git(root, "tag", "--annotate", f"v{version}", "--message", f"Release {version}", commit)
            shutil.copytree(built, target)
    say(f"version {version} is committed, tagged v{version}, and in {target.relative_to(root)}")
    say(f"publish it: git push --follow-tags, and twine upload dist/{version}/lakescore-*")


def check_version(root: Path, version: str) -> None:
    """Check that *version* can follow the version of the repository *root*.

    Raises:
        ReleaseRefused: it cannot.
    """
    current = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    try:
        is_newer = Version(version) >= Version(current) and str(Version(version)) == version
    except InvalidVersion:
        is_newer = False
    if not is_newer:
        raise ReleaseRefused(f"{version!r} cannot follow version {current}; give one like 0.2.0")
    if git(root, "tag", "--list", f"v{version}"):
        raise ReleaseRefused(f"the tag v{version} exists; give a newer version")
    if changed := git(root, "status", "--porcelain", "--untracked-files=no"):
        raise ReleaseRefused(f"files have changes that no commit has; commit them:\n{changed}")
    if UNRELEASED not in (root / "CHANGELOG.md").read_text():
        raise ReleaseRefused(f"CHANGELOG.md has no section {UNRELEASED}; write what users see")


def state_version(source: Path, version: str, day: str) -> None:
    """Write *version* into pyproject.toml, and with its *day* into CHANGELOG.md."""
    project, changes = source / "pyproject.toml", source / "CHANGELOG.md"
    text = project.read_text()
    project.write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', text, count=1))
    text = changes.read_text()
    heading = re.compile(rf"(?m)^## .*{re.escape(UNRELEASED)}$")
    changes.write_text(heading.sub(f"## {version} ({day})", text, count=1))
    git(source, "add", "pyproject.toml", "CHANGELOG.md")


@contextmanager
def worktree(root: Path) -> Iterator[Path]:
    """Yield a worktree of the newest commit of *root*, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="lakescore-release-") as folder:
        source = Path(folder, "source")
        git(root, "worktree", "add", "--quiet", "--detach", str(source))
        try:
            yield source
        finally:
            git(root, "worktree", "remove", "--force", str(source))


def copy_source(root: Path, target: Path) -> Path:
    """Copy the files of *root* that are built from, and return *target*."""
    names = ("lib", "jobs", "conf", "spark-submit.sh", "README.md", "LICENSE", "CHANGELOG.md",
             "pyproject.toml", "requirements.lock", ".gitignore")  # fmt: skip
    target.mkdir(parents=True)
    for name in names:
        if (root / name).is_dir():
            shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("*.pyc"))
        elif (root / name).exists():
            shutil.copy(root / name, target)
    return target


def build(source: Path, target: Path, commit: dict[str, str]) -> None:
    """Build *source* into *target*, and check the result.

    Args:
        source: the folder with pyproject.toml.
        target: the new folder of the wheel, the sdist, `sbom.json` (CycloneDX), `licences.md`,
            `provenance.json` (SLSA) and `SHA256SUMS`.
        commit: the digest of the commit that is built, by its kind; empty if nothing is committed.

    Raises:
        ReleaseRefused: two builds differ, or a package has a licence that is not allowed.
        subprocess.CalledProcessError: a tool found an error.
    """
    target.mkdir(parents=True)
    say("building wheel and sdist, twice")
    wheel, sdist = build_twice(source, target)
    run(TOOLS / "twine", "check", "--strict", wheel, sdist)
    run(TOOLS / "check-wheel-contents", wheel)
    say(f"installing the wheel with {', '.join(EXTRAS)}, for its licences and bill of materials")
    with tempfile.TemporaryDirectory(prefix="lakescore-release-") as folder:
        python = install(wheel, Path(folder, "venv"), source / "requirements.lock")
        (target / "licences.md").write_text(list_licences(python))
        run(TOOLS / "cyclonedx-py", "environment", "--output-reproducible", "--pyproject",
            source / "pyproject.toml", "--output-file", target / "sbom.json", python)  # fmt: skip
    built = [wheel, sdist]
    provenance = state_provenance(source, built, commit)
    (target / "provenance.json").write_text(json.dumps(provenance, indent=1) + "\n")
    lines = [f"{digest(path)}  {path.name}\n" for path in sorted(target.iterdir())]
    (target / "SHA256SUMS").write_text("".join(lines))


def build_twice(source: Path, target: Path) -> tuple[Path, Path]:
    """Build *source* into *target* and again elsewhere; return the wheel and the sdist.

    Raises:
        ReleaseRefused: the two builds differ.
    """
    with tempfile.TemporaryDirectory(prefix="lakescore-release-") as again:
        for folder in (target, Path(again)):
            run(TOOLS / "python", "-m", "build", "--no-isolation", "--outdir", folder, source)
        for path in target.iterdir():
            if digest(path) != digest(Path(again, path.name)):
                raise ReleaseRefused(f"two builds of {path.name} differ")
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def install(wheel: Path, folder: Path, lock: Path) -> Path:
    """Install *wheel* with its extras, at the versions of *lock*; return the Python."""
    uv = ROOT / ".venv/bin/uv"
    tool = uv if uv.exists() else Path("uv")
    run(tool, "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin/python"
    package = f"lakescore[{','.join(EXTRAS)}] @ {wheel.as_uri()}"
    run(tool, "pip", "install", "--quiet", "--python", python, "--constraint", lock, package)
    return python


def list_licences(python: Path) -> str:
    """Return a table of the packages of *python* with their licences.

    Raises:
        ReleaseRefused: a licence is not allowed.
    """
    text = run(TOOLS / "pip-licenses", "--python", python, "--format", "json", "--with-urls",
               "--with-system")  # fmt: skip
    lines, unfit = [], []
    for package in json.loads(text):
        name, licence = package["Name"], package["License"]
        if licence == "UNKNOWN":
            licence = UNDECLARED.get(name, licence)
        is_refused = any(word in licence for word in REFUSED)
        if is_refused or not any(word in licence for word in LICENCES):
            unfit.append(f"{name} ({licence})")
        lines.append(f"| {name} | {package['Version']} | {licence} | {package['URL']} |")
    if unfit:
        raise ReleaseRefused(f"these packages have licences that are not allowed: {unfit}")
    return "\n".join(["| package | version | licence | home |", "|---|---|---|---|", *lines, ""])


def state_provenance(source: Path, built: list[Path], commit: dict[str, str]) -> dict[str, object]:
    """Return the provenance of the *built* files, as a statement of in-toto with SLSA's predicate.

    Source of the formats: the specifications in-toto Statement v1 and SLSA Provenance v1.
    """
    locks = [ROOT / "scripts/release/requirements.lock", source / "requirements.lock"]
    materials: list[dict[str, object]] = [
        {"uri": f"file:{lock.parent.name}/{lock.name}", "digest": {"sha256": digest(lock)}}
        for lock in locks
    ]
    materials += [{"uri": "git+file:.", "digest": commit}] if commit else []
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": p.name, "digest": {"sha256": digest(p)}} for p in built],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:lakescore:scripts/release.sh:1",
                "externalParameters": {"version": version},
                "internalParameters": {"epoch": os.environ.get("SOURCE_DATE_EPOCH")},
                "resolvedDependencies": materials,
            },
            "runDetails": {"builder": {"id": "urn:lakescore:scripts/release.sh"}},
        },
    }


def digest(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git(root: Path, *words: str) -> str:
    """Run a command of git in *root*, and return what it printed."""
    return run("git", "-C", root, *words).strip()


def run(*words: str | Path) -> str:
    """Run a command, and return what it printed."""
    done = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return done.stdout


def say(line: str) -> None:
    """Tell a person what happens."""
    print(f"release: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()
