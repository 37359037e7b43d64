from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import types
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import packages
import pytest
import yaml
from builders.models import delay_model, flights
from typer.testing import CliRunner

from lakescore import environments
from lakescore import registry as library
from lakescore.cli import app
from lakescore.environments import (
    Difference,
    Environment,
    find_differences,
    kept_environment,
    own_environment,
    pack,
)
from lakescore.environments.errors import (
    ArchiveNotWritten,
    DiskFull,
    EnvironmentChanged,
    EnvironmentNotMade,
    IndexRefused,
    IndexUnavailable,
    NeedsUnknown,
    PackagesOffline,
    PythonMissing,
    PythonUnsupported,
    RequirementRefused,
    WheelsDiffer,
    WheelsMissing,
)
from lakescore.environments.interpreters import find_interpreter
from lakescore.environments.keeping import environments_folder
from lakescore.errors import ConfigError
from lakescore.isolation import find_code
from lakescore.trust import NotTrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result
    from conftest import Registry

URI = "models:/flight-delay/3"
HERE = platform.python_version()
MINOR = ".".join(HERE.split(".")[:2])
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="archives are made on Linux")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[packages.Index]:
    """Yield the index that this machine is set up for, with an empty cache and home."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_", "LAKESCORE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path / "home"))
    with packages.serve() as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{index.url}/simple")
        index.add("six", "1.16.0")
        index.add("six", "1.17.0")
        yield index


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the folder of a version that asks for six 1.16.0."""
    return asks(tmp_path / "model", "six==1.16.0")


def asks(folder: Path, *lines: str, python: str = HERE, logged: str = "2024-10-02") -> Path:
    """Write the files of a version as MLflow does."""
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text("\n".join(lines))
    (folder / "python_env.yaml").write_text(
        f"python: {python}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n"
    )
    (folder / "MLmodel").write_text(f"utc_time_created: '{logged} 10:00:00.000'\n")
    return folder


SETTINGS = {"env": {"virtualenv": "python_env.yaml"}}


def own(folder: Path, **options: Any) -> Environment:
    return own_environment(URI, folder, SETTINGS, **{"allowed": None, **options})


def answer(environment: Environment, code: str) -> str:
    """Return what *code* prints in an environment, as a worker starts it."""
    python = json.loads((environment.folder / "environment.json").read_text())["python"]
    start = f"import site; site.addsitedir({str(environment.folder / 'packages')!r})\n"
    command = [python, "-I", "-S", "-c", start + code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def other_process(folder: Path, body: str) -> subprocess.Popen[str]:
    """Start a process that calls `own(show)` for the version in *folder*."""
    code = f"""
import os, signal, sys
from pathlib import Path
from lakescore.environments import own_environment
def own(show=None):
    folder, settings = Path({str(folder)!r}), {SETTINGS!r}
    return own_environment({URI!r}, folder, settings, allowed=None, progress=show)
{body}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    STARTED.append(process)
    return process


STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def end_processes() -> Iterator[None]:
    """End the processes that a test started, also if it fails."""
    yield
    while STARTED:
        process = STARTED.pop()
        process.kill()
        process.wait()


# --- what differs, and whether it matters

PYTEST = version("pytest")
MAJOR, MINOR_OF_PYTEST = map(int, PYTEST.split(".")[:2])
PANDAS = int(version("pandas").split(".")[0])


@pytest.mark.parametrize(
    ("line", "libraries", "matters"),
    [
        (f"pytest=={MAJOR}.{MINOR_OF_PYTEST}.99", ["pytest"], False),
        (f"pytest=={MAJOR}.{MINOR_OF_PYTEST + 1}.0", ["pytest"], True),
        (f"pytest=={MAJOR + 1}.{MINOR_OF_PYTEST}.0", ["pytest"], True),
        (f"pytest=={MAJOR + 1}.0", ["other"], False),
        (f"pytest=={MAJOR + 1}.0", [], True),  # any of its requirements can calculate it
        (f"pytest<{MAJOR}", ["PyTest"], True),
        (f"pytest<{MAJOR}.{MINOR_OF_PYTEST}", ["pytest"], True),
        (f"pytest<{MAJOR + 1},>={MAJOR}.{MINOR_OF_PYTEST}.99", ["pytest"], False),
        (f"pytest=={MAJOR}.{MINOR_OF_PYTEST}.99rc1", ["pytest"], False),
        (f"pytest=={MAJOR - 1}.*", ["pytest"], True),
        (f"pytest>{MAJOR}.{MINOR_OF_PYTEST}.98", ["pytest"], False),
        ("no-such-package==1.0", ["no-such-package"], True),
        ("no-such-package==1.0", ["other"], False),  # the model loads without it, or fails loudly
        ("mlflow==1.0", ["mlflow"], False),
        ("cloudpickle==0.1", [], False),
        (f"pandas=={PANDAS}.999.0", ["pandas"], False),
        (f"pandas=={PANDAS - 1}.5.0", [], True),
        ("numpy==0.9", [], True),
        (f"pandas<{PANDAS}", [], True),
    ],
)
def test_a_difference_matters_if_the_model_can_calculate_otherwise(
    tmp_path: Path, line: str, libraries: list[str], *, matters: bool
) -> None:
    (found,) = find_differences(asks(tmp_path / "model", line), libraries)
    assert (found.asked, found.matters) == (line, matters)


@pytest.mark.parametrize(
    "line",
    [f"pytest=={PYTEST}", f"pytest>={MAJOR}", "pytest", 'six==0.1; sys_platform == "win32"'],
)
def test_what_is_met_is_no_difference(tmp_path: Path, line: str) -> None:
    assert find_differences(asks(tmp_path / "model", line), ["pytest", "six"]) == []


def test_another_minor_version_of_python_matters_and_another_patch_does_not(
    tmp_path: Path,
) -> None:
    (found,) = find_differences(asks(tmp_path / "model", python="3.9.18"), [])
    assert found == Difference(package="python", asked="python==3.9.18", here=HERE, matters=True)
    assert find_differences(asks(tmp_path / "model", python=f"{MINOR}.99"), []) == []


def test_the_python_of_an_older_version_is_in_mlmodel(tmp_path: Path) -> None:
    folder = asks(tmp_path / "model")
    (folder / "python_env.yaml").unlink()
    flavors = {"python_function": {"python_version": "3.8.1"}}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors}))
    (found,) = find_differences(folder, [])
    assert found.asked == "python==3.8.1"


def test_auto_takes_own_packages_only_if_a_difference_matters(tmp_path: Path) -> None:
    folder = asks(tmp_path / "model", f"pytest=={MAJOR + 1}.0")
    chosen = environments.choose(find_differences(folder, ["pytest"]))
    assert chosen == ("own", f"it asks for pytest=={MAJOR + 1}.0 (here {PYTEST})")
    chosen = environments.choose(find_differences(folder, ["other"]))
    assert chosen == ("shared", f"no difference matters: pytest=={MAJOR + 1}.0 (here {PYTEST})")
    assert environments.choose([]) == ("shared", "this machine meets its requirements")


def test_a_build_of_another_name_meets_a_requirement_and_a_missing_package_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_here = types.ModuleType("made_here")  # as a notebook does: it has no specification
    monkeypatch.setitem(sys.modules, "made_here", made_here)
    folder = asks(tmp_path / "model", "yaml>=5", "absent==1.0", "made-here==1.0")  # yaml: PyYAML
    missing = [(found.package, found.here) for found in find_differences(folder, [])]
    assert missing == [("absent", None), ("made-here", None)]


def test_the_libraries_of_a_model_are_named_as_they_are_installed(tmp_path: Path) -> None:
    flavors = {"sklearn": {}, "python_function": {"loader_module": "mlflow.sklearn"}}
    assert environments.find_libraries(flavors, find_code(flavors, tmp_path)) == {"scikit-learn"}
    own_code = {"python_function": {"loader_module": "mlflow.pyfunc.model"}}
    assert {"scikit-learn", "xgboost"} < environments.find_libraries(
        own_code, find_code(own_code, tmp_path)
    )


# --- making it once


def test_an_environment_has_exactly_the_packages_of_its_lock(
    index: packages.Index, model: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    made = own(model, progress=lambda *step: steps.append(step))
    assert made.packages == {
        "cloudpickle": "18.0.0",
        "numpy": "18.0.0",
        "pandas": "18.0.0",
        "pyarrow": "18.0.0",
        "six": "1.16.0",
    }
    assert (made.python, made.folder.parent) == (HERE, environments_folder())
    assert made.folder.name == made.digest.removeprefix("sha256:")[:32]
    assert answer(made, "import six; print(six.__version__)") == "1.16.0"
    assert [steps[0], steps[-1]] == [("locks the packages", 0, 1), ("is complete", 7, 7)]
    asked = len(index.asked)
    assert own(model) == made
    assert kept_environment(URI, model, SETTINGS, allowed=None) == made
    assert len(index.asked) == asked  # it is resolved and fetched once


def test_nothing_is_made_where_one_only_looks(index: packages.Index, model: Path) -> None:
    assert kept_environment(URI, model, SETTINGS, allowed=None) is None
    assert index.asked == []
    assert not environments_folder().exists()


def test_two_versions_that_ask_for_the_same_share_an_environment(
    index: packages.Index,  # noqa: ARG001 - where uv finds packages
    tmp_path: Path,
    model: Path,
) -> None:
    other = asks(tmp_path / "other", "# the same", "six == 1.16.0", logged="2024-10-30")
    assert own(other) == own(model)


def test_packages_without_a_version_are_those_of_the_month_of_the_model(
    index: packages.Index, tmp_path: Path
) -> None:
    index.add("six", "1.17.0", day="2024-10-20")
    index.add("six", "1.18.0", day="2024-11-20")
    folder = asks(tmp_path / "model", "six", logged="2024-10-02")
    assert own(folder).packages["six"] == "1.17.0"
    index.dates.clear()  # an index that does not know days: the newest
    later = asks(tmp_path / "later", "six", logged="2024-12-31")
    assert own(later).packages["six"] == "1.18.0"


def test_what_scoring_needs_is_not_added_to_what_the_version_pins(
    index: packages.Index, tmp_path: Path
) -> None:
    index.add("pyarrow", "14.0.0")
    index.add("pyarrow", "16.0.0")
    index.add("numpy", "1.26.4")
    folder = asks(tmp_path / "model", "pyarrow==16.0.0", "numpy<2")
    made = own(folder).packages
    assert (made["pyarrow"], made["numpy"]) == ("16.0.0", "1.26.4")
    old = asks(tmp_path / "old", "pyarrow==14.0.0")
    with pytest.raises(WheelsMissing, match=r"not together with .*pyarrow>=15.*scoring needs"):
        own(old)


def test_versions_that_no_index_has_are_named_in_one_line(
    index: packages.Index,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    folder = asks(tmp_path / "model", "six==99.1")
    with pytest.raises(WheelsMissing, match=r"Because there is no version of six==99\.1") as e:
        own(folder)
    assert e.value.exit_code == 5
    assert not list(environments_folder().glob("*/environment.json"))


# --- what a stranger's files may ask for


@pytest.mark.parametrize(
    "line",
    [
        "./package",
        "/evil-1-py3-none-any.whl",
        "evil @ file:///tmp/evil",
        "evil @ git+https://evil.example/x",
        "git+https://evil.example/x",
        "https://evil.example/x-1-py3-none-any.whl",
        "-e ./package",
        "--editable=./package",
        "--index-url https://evil.example",
        "--extra-index-url=https://evil.example",
        "-f https://evil.example",
        "--no-binary :all:",
        "-r other.txt",
        "-c other.txt",
        "--pre",
        "six==1.16.0 --hash=sha256:00",
        "six==1.16.0 \\",
        "six==${VERSION}",
        "${PACKAGE}",
        "six===1.16.0",
        "six==1.16.0; platform_node == '$(id)' --pre",
    ],
)
def test_what_is_no_package_of_an_index_is_refused_before_uv_runs(
    index: packages.Index, tmp_path: Path, line: str
) -> None:
    folder = asks(tmp_path / "model", "six==1.16.0", line)
    with pytest.raises(RequirementRefused, match="its files ask for") as refused:
        own(folder)
    assert refused.value.exit_code == 4
    assert index.asked == []
    assert not environments_folder().exists()


def test_packages_that_python_env_itself_lists_are_held_to_the_same(
    index: packages.Index,  # noqa: ARG001
    model: Path,
) -> None:
    (model / "python_env.yaml").write_text(f"python: {HERE}\ndependencies: [./package]\n")
    with pytest.raises(RequirementRefused, match=r"'\./package'"):
        own(model)
    (model / "python_env.yaml").write_text(
        f"python: {HERE}\ndependencies: [-r requirements.txt, six]\n"
    )
    assert own(model).packages["six"] == "1.16.0"


def test_ranges_and_extras_are_locked_where_no_policy_forbids_it(
    index: packages.Index, tmp_path: Path
) -> None:
    index.add("wheelhouse", "1.0", requires='six<1.17; extra == "more"')
    folder = asks(tmp_path / "model", "wheelhouse[more]>=0.5", "numpy")
    assert own(folder).packages["six"] == "1.16.0"
    with pytest.raises(NotTrusted, match=r"'wheelhouse\[more\]>=0.5'.*not a plain name==version"):
        own(folder, allowed="wheels")


def test_a_policy_allows_plain_packages_or_nothing(index: packages.Index, model: Path) -> None:
    with pytest.raises(NotTrusted, match="rule 'environments'") as refused:
        own(model, allowed="none")
    assert (refused.value.exit_code, index.asked) == (4, [])
    assert own(model, allowed="wheels").packages["six"] == "1.16.0"


def test_a_policy_names_the_indexes(
    index: packages.Index, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        NotTrusted, match=r"rule 'indexes'.*127\.0\.0\.1.*allowed: https"
    ) as refused:
        own(model, indexes=("https",))
    assert (refused.value.exit_code, index.asked) == (4, [])
    assert own(model, indexes=(index.url,)).packages["six"] == "1.16.0"
    monkeypatch.setenv("UV_INDEX", "https://user:secret@evil.example/simple")
    with pytest.raises(NotTrusted, match=r"evil\.example") as refused:
        own(model, indexes=(index.url,))  # a kept environment is no way around the rule
    assert "secret" not in str(refused.value)


def test_the_index_of_pip_is_asked_where_uv_has_none(
    index: packages.Index, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {index.url}/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    assert own(model, indexes=(index.url,)).packages["six"] == "1.16.0"
    assert "six-1.16.0-py3-none-any.whl" in index.fetched


def test_files_of_other_projects_do_not_configure_uv(
    index: packages.Index, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for place in (tmp_path, tmp_path / "work"):
        (place / "uv.toml").write_text('[[index]]\nurl = "http://127.0.0.1:9/"\ndefault = true\n')
    monkeypatch.setenv("UV_OVERRIDE", str(tmp_path / "none"))
    monkeypatch.setenv("UV_NO_BINARY", "1")
    assert own(model, indexes=(index.url,)).packages["six"] == "1.16.0"


def test_nothing_is_built(index: packages.Index, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    index.files["evil-1.0.tar.gz"] = packages.source(
        "evil", "1.0", f"import os\nos.mkdir({str(marker)!r})\n"
    )
    with pytest.raises(WheelsMissing, match=r"evil==1\.0 has no usable wheels"):
        own(asks(tmp_path / "model", "evil==1.0"))
    assert not marker.exists()
    index.add("calls", "1.0", requires="evil")
    with pytest.raises(WheelsMissing, match="evil"):
        own(asks(tmp_path / "model", "calls==1.0"))
    assert not marker.exists()


@pytest.mark.parametrize("address", ["file://{}", "http://127.0.0.1:9/{}"])
def test_a_package_brings_no_addresses_of_others(
    index: packages.Index, tmp_path: Path, address: str
) -> None:
    wheel = tmp_path / "evil-1.0-py3-none-any.whl"
    wheel.write_bytes(packages.wheel("evil", "1.0"))
    index.add("calls", "1.0", requires=f"evil @ {address.format(wheel)}")
    with pytest.raises((WheelsMissing, RequirementRefused), match="evil"):
        own(asks(tmp_path / "model", "calls==1.0"))
    assert not list(environments_folder().glob("locks/*.json"))


def test_a_wheel_that_changed_after_the_lock_is_refused(
    index: packages.Index, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = own(model)
    shutil.rmtree(made.folder)
    index.add("six", "1.16.0", code="evil = True")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another"))
    with pytest.raises(WheelsDiffer, match="six") as refused:
        own(model)
    assert refused.value.exit_code == 4
    assert not made.folder.exists()


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("requirements.txt", None, "cannot be read"),
        ("requirements.txt", b"caf\xe9==1", "cannot be read"),
        ("python_env.yaml", b"[", "cannot be read"),
        ("python_env.yaml", b"just text", "no mapping"),
        ("python_env.yaml", b"python: /evil/python", "name no version of Python"),
    ],
)
def test_files_that_say_nothing_end_in_one_line(
    index: packages.Index, model: Path, file: str, content: bytes | None, match: str
) -> None:
    (model / file).unlink() if content is None else (model / file).write_bytes(content)
    with pytest.raises(NeedsUnknown, match=match):
        own(model)
    assert index.asked == []


# --- interpreters


def test_an_interpreter_is_found_where_a_place_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pythons" / "mine" / "bin").mkdir(parents=True)
    (tmp_path / "pythons" / "mine" / "bin" / f"python{MINOR}").symlink_to(sys.executable)
    (tmp_path / "pythons" / "broken" / "bin").mkdir(parents=True)
    (tmp_path / "pythons" / "broken" / "bin" / f"python{MINOR}").write_text("not a program")
    found = find_interpreter(URI, MINOR)
    assert (found.version, found.minor) == (HERE, MINOR)
    assert find_interpreter(URI, f"{MINOR}.99", [str(tmp_path / "pythons")]) == found
    monkeypatch.setenv("LAKESCORE_PYTHONS", f"{tmp_path / 'none'}{os.pathsep}{sys.executable}")
    assert find_interpreter(URI, HERE) == found


def test_a_python_that_is_not_here_is_named_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = "3.13" if MINOR != "3.13" else "3.12"
    monkeypatch.delenv("LAKESCORE_PYTHONS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path))
    with pytest.raises(PythonMissing, match=f"needs Python {other}.*there are: .*{HERE}") as e:
        find_interpreter(URI, f"{other}.1")
    assert e.value.exit_code == 2
    with pytest.raises(PythonUnsupported, match=r"needs Python 3\.8, .* 3\.11, 3\.12, 3\.13"):
        find_interpreter(URI, "3.8.18")


# --- faults


def test_two_runs_at_once_make_one_environment(
    index: packages.Index,  # noqa: ARG001
    tmp_path: Path,
    model: Path,
) -> None:
    go = tmp_path / "go"
    body = f"""
import time
import types
def show(text, done, total):
    print(text, flush=True)
    while text.startswith("installs") and not Path({str(go)!r}).exists():
        time.sleep(0.01)
print(own(show).digest)
"""
    first = other_process(model, body)
    assert first.stdout is not None
    lines = iter(first.stdout.readline, "")
    assert any(line.startswith("installs") for line in lines)
    second = other_process(model, body)
    assert second.stdout is not None
    assert second.stdout.readline() == "waits for the run that makes the environment\n"
    go.touch()
    said = [process.communicate()[0].splitlines() for process in (first, second)]
    digest = own(model).digest
    assert said[0][-2:] == ["is complete", digest]
    assert said[1] == [digest]  # it installs nothing itself


@pytest.mark.parametrize("step", ["installs", "checks"])
def test_what_a_killed_run_left_is_removed_and_made_anew(
    index: packages.Index,  # noqa: ARG001
    tmp_path: Path,
    model: Path,
    step: str,
) -> None:
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    body = f"own(lambda text, *_: {kill} if text.startswith({step!r}) else None)"
    for folder in (model, asks(tmp_path / "other", "six==1.17.0")):
        assert other_process(folder, body).wait() == -signal.SIGKILL
    assert len(list(environments_folder().glob("*.part"))) == 2
    assert kept_environment(URI, model, SETTINGS, allowed=None) is None
    made = own(model)
    assert answer(made, "import six; print(six.__version__)") == "1.16.0"
    assert list(environments_folder().glob("*.part")) == []


def test_the_environments_used_longest_ago_go_and_those_in_use_stay(
    index: packages.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKESCORE_ENVIRONMENTS_GB", "0.000002")  # 2,000 bytes: each has more
    for n in range(4):
        index.add("six", f"2.{n}")
    folders = [asks(tmp_path / str(n), f"six==2.{n}") for n in range(4)]
    user = other_process(folders[0], "print(own().folder, flush=True); sys.stdin.read()")
    assert user.stdout is not None
    in_use = Path(user.stdout.readline().strip())
    for folder in folders[1:3]:  # each process ends, and uses its environment no longer
        assert other_process(folder, "own()").wait() == 0
    own(folders[3])
    kept = [kept_environment(URI, folder, SETTINGS, allowed=None) is not None for folder in folders]
    assert kept == [True, False, False, True]
    assert in_use.is_dir()
    user.communicate()
    monkeypatch.setenv("LAKESCORE_ENVIRONMENTS_GB", "many")
    with pytest.raises(ConfigError, match=r"'many'.*not a number of gigabytes"):
        own(folders[1])


def test_within_the_bound_the_oldest_use_goes_first(
    index: packages.Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [asks(tmp_path / str(n), f"six==2.{n}") for n in range(3)]
    for n in range(3):
        index.add("six", f"2.{n}")
    for n in (0, 1, 0):  # the first is used again
        assert other_process(folders[n], "own()").wait() == 0
        time.sleep(0.02)
    sizes = [
        json.loads(file.read_text())["size"]
        for file in environments_folder().glob("*/environment.json")
    ]
    monkeypatch.setenv("LAKESCORE_ENVIRONMENTS_GB", str((sum(sizes) + 100) / 10**9))
    own(folders[2])
    kept = [kept_environment(URI, f, SETTINGS, allowed=None) is not None for f in folders]
    assert kept == [True, False, True]


def test_a_full_disk_ends_in_one_line(
    index: packages.Index, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk needs root, and mount to be permitted")
    try:
        index.add("six", "1.16.0", code=f"text = {'x' * 400_000!r}\n")
        monkeypatch.setenv("LAKESCORE_HOME", str(disk))
        with pytest.raises(DiskFull, match="no space left on device") as full:
            own(model)
        assert full.value.exit_code == 75
        assert [path.suffix for path in (disk / "environments").iterdir() if path.is_file()] == [
            ".lock"
        ]
        assert list((disk / "environments").glob("*.part")) == []
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_without_a_network_what_is_missing_is_named(
    index: packages.Index,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own(asks(tmp_path / "warm", "numpy"))  # the cache has what scoring needs
    asked = len(index.asked)
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(PackagesOffline, match="lacks six, and UV_OFFLINE") as offline:
        own(model)
    assert (offline.value.exit_code, len(index.asked)) == (2, asked)


def test_an_environment_that_is_locked_needs_its_wheels_when_offline(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = own(model)
    monkeypatch.setenv("UV_OFFLINE", "1")
    assert own(model) == made
    shutil.rmtree(made.folder)
    assert own(model) == made  # from uv's cache
    shutil.rmtree(made.folder)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another"))
    with pytest.raises(PackagesOffline, match=r"lacks \w+, and UV_OFFLINE"):
        own(model)


def test_an_index_that_does_not_answer_is_worth_a_retry(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(IndexUnavailable, match=r"127\.0\.0\.1:9.*Connection refused") as away:
        own(model)
    assert away.value.exit_code == 75
    assert "secret" not in str(away.value)


def test_an_index_that_asks_for_a_password_is_worth_none(
    index: packages.Index, model: Path
) -> None:
    index.is_private = True
    with pytest.raises(IndexRefused, match="refuses the credentials, or needs some") as refused:
        own(model)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda packages: (packages / "six.py").write_text("x"), r"six\.py has other content"),
        (lambda packages: (packages / "six.py").unlink(), r"six\.py is missing"),
        (lambda packages: (packages / "evil.pth").write_text("import os"), "no package"),
        (
            lambda packages: (packages / "six-1.16.0.dist-info" / "RECORD").write_text(""),
            "lists other files",
        ),
        (lambda packages: (packages.parent / "environment.json").write_text("{"), "cannot be read"),
    ],
)
def test_a_changed_package_is_refused_at_the_next_use(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    change: Any,
    match: str,
) -> None:
    made = own(model)
    change(made.folder / "packages")
    for _ in range(2):
        with pytest.raises(EnvironmentChanged, match=match) as refused:
            own(model)
        assert refused.value.exit_code == 4


def test_a_change_of_the_same_size_is_found(
    index: packages.Index,  # noqa: ARG001
    model: Path,
) -> None:
    made = own(model)
    module = made.folder / "packages" / "six.py"
    module.write_text(module.read_text().replace("1.16.0", "1.16.1"))
    with pytest.raises(EnvironmentChanged, match=r"six\.py has other content"):
        own(model)


def test_a_folder_that_was_restored_with_other_times_is_read_once(
    index: packages.Index,  # noqa: ARG001
    model: Path,
) -> None:
    made = own(model)
    facts = made.folder / "environment.json"
    before = json.loads(facts.read_text())
    os.utime(made.folder / "packages" / "six.py", (1, 1))
    assert own(model) == made
    after = json.loads(facts.read_text())
    assert before.pop("quick") != after.pop("quick")
    assert before == after


def test_an_environment_goes_on_with_another_interpreter_of_its_minor_version(
    index: packages.Index,  # noqa: ARG001
    model: Path,
) -> None:
    made = own(model)
    facts = made.folder / "environment.json"
    facts.write_text(facts.read_text().replace(find_interpreter(URI, HERE).executable, "/gone"))
    assert own(model) == made
    assert answer(made, "print(1)") == "1"


def test_a_folder_that_is_not_complete_is_made_anew(
    index: packages.Index,  # noqa: ARG001
    model: Path,
) -> None:
    made = own(model)
    (made.folder / "environment.json").unlink()
    assert own(model) == made
    assert answer(made, "import six; print(six.__version__)") == "1.16.0"


def test_a_home_that_cannot_be_written_to_ends_in_one_line(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path / "file"))
    with pytest.raises(EnvironmentNotMade, match="Not a directory"):
        own(model)


# --- archives


def test_uv_that_outlives_a_killed_run_is_waited_for(
    index: packages.Index, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own(asks(tmp_path / "other", "six==1.17.0"))
    index.slow = "six-1.16.0-py3-none-any.whl"
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "another"))
    body = "own(lambda text, *_: print(text, flush=True))"
    first = other_process(model, body)
    assert first.stdout is not None
    assert any(line.startswith("installs") for line in iter(first.stdout.readline, ""))
    while index.fetched.count(index.slow) < 2:  # to resolve, and to install
        time.sleep(0.01)
    first.kill()
    first.wait()
    steps: list[str] = []
    made = own(model, progress=lambda text, *_: steps.append(text))
    assert "waits for the run that makes the environment" in steps
    assert answer(made, "import six; print(six.__version__)") == "1.16.0"


@LINUX
def test_an_archive_runs_in_another_folder_without_the_python_of_the_machine(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    tmp_path: Path,
) -> None:
    python = copied_python(tmp_path / "python")
    made = own(model, pythons=[str(python)])
    assert json.loads((made.folder / "environment.json").read_text())["python"].startswith(
        str(tmp_path)
    )
    pack(made, tmp_path / "a.tar.gz")
    shutil.rmtree(python)
    elsewhere = tmp_path / "else where"
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(elsewhere, filter="tar")
    code = (
        "import site, sys; site.addsitedir('packages')\n"
        "import bz2, ctypes, lzma, multiprocessing, six, sqlite3, ssl, zlib\n"
        "places = {line.split(maxsplit=5)[-1].strip() for line in open('/proc/self/maps')}\n"
        "print(six.__version__, sys.prefix, *(p for p in places if 'libpython' in p), sep='|')"
    )
    command = ["python/bin/python3", "-I", "-S", "-c", code]
    done = subprocess.run(
        command, cwd=elsewhere, env={}, capture_output=True, text=True, check=True
    )
    version, *places = done.stdout.strip().split("|")
    assert version == "1.16.0"
    assert all(Path(place).is_relative_to(elsewhere) for place in places)
    assert not list(elsewhere.rglob("test_*.py"))


def copied_python(folder: Path) -> Path:
    """Copy the Python of this process, so that it can be taken away."""
    this = find_interpreter(URI, HERE)
    library = Path(this.library)
    binary = folder / "bin" / f"python{MINOR}"
    binary.parent.mkdir(parents=True)
    shutil.copy2(this.executable, binary)
    skip = shutil.ignore_patterns(
        "test", "site-packages", "dist-packages", "__pycache__", "config-*"
    )
    shutil.copytree(library, folder / "lib" / library.name, ignore=skip, dirs_exist_ok=True)
    return folder


@LINUX
def test_an_archive_that_cannot_be_written_leaves_nothing(
    index: packages.Index,  # noqa: ARG001
    model: Path,
    tmp_path: Path,
) -> None:
    made = own(model)
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveNotWritten, match="cannot write the archive"):
        pack(made, tmp_path / "file" / "a.tar.gz")
    (made.folder / "lock.txt").unlink()
    with pytest.raises(ArchiveNotWritten, match="No such file"):
        pack(made, tmp_path / "out" / "a.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []


# --- the command


@pytest.fixture
def run() -> Callable[..., Result]:
    """Return a caller of `lakescore environment`."""

    def call(*words: str, code: int = 0) -> Result:
        plain = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
        said = CliRunner().invoke(app, ["environment", *words], env=plain, prog_name="lakescore")
        assert said.exit_code == code, said.output
        return said

    return call


@pytest.fixture
def version_of_six(registry: Registry, tmp_path: Path) -> str:  # noqa: ARG001 - where it is kept
    """Register a version that asks for six 1.16.0 and an old pytest, and return its reference."""
    import mlflow
    from mlflow.models import infer_signature

    rows = flights()[["dep_delay", "distance"]]
    folder = tmp_path / "logged"
    mlflow.sklearn.save_model(
        delay_model(),
        folder,
        signature=infer_signature(rows, delay_model().predict(rows)),
        pip_requirements=[],
    )
    (folder / "requirements.txt").write_text("six==1.16.0\npytest==1.0\n")  # without MLflow
    return f"six/{library.register(str(folder), 'six').version}"


def test_the_command_says_that_spark_itself_applies_its_pipelines(
    registry: Registry,  # noqa: ARG001 - where it is kept
    tmp_path: Path,
    run: Callable[..., Result],
) -> None:
    from mlflow.models import Model, infer_signature

    folder = asks(tmp_path / "logged", "pyspark==3.0.0")  # of which a difference would matter
    loader = {"loader_module": "mlflow.spark", "python_version": HERE}
    flavors = {"spark": {"model_class": "pyspark.ml.pipeline.PipelineModel"}}
    rows = flights()
    signature = infer_signature(rows, rows["arr_delay"])
    Model(flavors={**flavors, "python_function": loader}, signature=signature).save(
        str(folder / "MLmodel")
    )
    number = library.register(str(folder), "pipeline").version
    facts = json.loads(run(f"pipeline/{number}", "--json").stdout)
    assert [d["matters"] for d in facts["differences"]] == [True]
    assert (facts["auto"], facts["reason"]) == ("shared", "Spark itself applies it")


def test_the_command_shows_what_is_needed_and_makes_it(
    version_of_six: str,
    index: packages.Index,
    run: Callable[..., Result],
    tmp_path: Path,
) -> None:
    index.add("pytest", "1.0")
    shown = run(version_of_six).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "pytest    pytest==1.0" in shown
    assert "not made; --build makes it" in shown
    assert index.asked == []
    built = run(version_of_six, "--build").stdout
    assert f"Python {HERE}, 6 packages" in built
    facts = json.loads(run(version_of_six, "--json").stdout)
    assert facts["environment"]["packages"]["six"] == "1.16.0"
    assert facts["needs"] == {"python": HERE, "requirements": ["six==1.16.0", "pytest==1.0"]}
    assert [d["matters"] for d in facts["differences"] if d["package"] == "pytest"] == [False]
    assert (facts["problem"], facts["archive"]) == (None, None)
    refused = run(version_of_six, "--archive", "six.zip", code=2)
    assert "six.zip needs a name that ends in .tar.gz or .tgz" in refused.stderr
    archive = tmp_path / "out" / "six.tar.gz"
    packed = json.loads(run(version_of_six, "--archive", str(archive), "--json").stdout)
    assert packed["archive"] == {"path": str(archive), "size": archive.stat().st_size}
    with tarfile.open(archive) as content:
        assert {"environment.json", "packages/six.py"} < set(content.getnames())


def test_the_command_tells_what_a_policy_refuses(
    version_of_six: str, index: packages.Index, run: Callable[..., Result], tmp_path: Path
) -> None:
    policy = tmp_path / "trust.yaml"
    policy.write_text("trust:\n  environments: wheels\n  indexes: [https]\n")
    words = [version_of_six, "--trust", str(policy)]
    facts = json.loads(run(*words, "--json").stdout)
    assert "refused by the trust policy's rule 'indexes'" in facts["problem"]
    refused = run(*words, "--build", code=4)
    assert "rule 'indexes'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert index.asked == []
