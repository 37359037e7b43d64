"""Workers of one machine share a loaded model: one process loads it, and its forks answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from lakescore.executor import ModelFailed, ModelProcess, holding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from lakescore.executor.holding import Holder

WORKER = """
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from lakescore.executor import ModelProcess, holding
program, tag = Path(sys.argv[1]).read_bytes(), sys.argv[2]
process = ModelProcess(holding.Holder("model", program, ("loads.txt", 0.5, True)))
print(process.ask(("who",))["holder"], process.ask((tag,))["request"], flush=True)
sys.stdin.read()
"""
"""A worker with a fork of the holder, which it keeps until its standard input is closed."""


def make_begin() -> Callable[[Connection], None]:
    """Return the program of a holder whose model writes a line when it is loaded."""

    def begin(connection: Connection) -> None:
        import os
        import sys
        import time
        from pathlib import Path

        from lakescore.executor import holding

        kept: dict[str, Any] = {}

        def load(log: str, seconds: float, is_good: bool) -> None:  # noqa: FBT001
            with Path(log).open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(seconds)
            if not is_good:
                raise ValueError("a bad model")
            kept["model"] = os.getpid()

        def answer(request: str) -> dict[str, Any]:
            if request == "print":
                sys.stdout.write("printed by the fork\n")
                sys.stdout.flush()
            return {"request": request, "holder": kept["model"], "pid": os.getpid()}

        holding.hold(connection, load, answer)

    return begin


@pytest.fixture(scope="module")
def program() -> bytes:
    return b"import pickle; pickle.loads(%r)(connection)" % cloudpickle.dumps(make_begin())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let workers meet in a folder of the test, and work there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list[ModelProcess]]:
    """Close the processes of a test."""
    opened: list[ModelProcess] = []
    yield opened
    for process in opened:
        process.close()


def holder(program: bytes, *, seconds: float = 0.0, is_good: bool = True) -> Holder:
    return holding.Holder("model", program, ("loads.txt", seconds, is_good))


def loads() -> list[int]:
    """Return the processes that loaded the model."""
    return [int(line) for line in Path("loads.txt").read_text().split()]


def test_workers_that_come_at_once_share_one_loaded_model(program: bytes) -> None:
    Path("program").write_bytes(program)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, "program", f"worker {n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    lines = []
    for worker in workers:
        assert worker.stdout is not None
        lines.append(worker.stdout.readline().strip())
    (loader,) = loads()
    assert lines == [f"{loader} worker {n}" for n in range(4)]  # each got its own answer
    for worker in workers:
        worker.communicate("")
        assert worker.returncode == 0


def test_a_worker_that_comes_later_finds_the_model(
    program: bytes, processes: list[ModelProcess]
) -> None:
    processes += [ModelProcess(holder(program)) for _ in range(3)]
    answers = [process.ask(("who",)) for process in processes]
    assert len(loads()) == 1
    assert {answer["holder"] for answer in answers} == set(loads())
    assert len({answer["pid"] for answer in answers}) == 3
    assert [process.pids for process in processes] == [
        {answer["pid"], answer["holder"]} for answer in answers
    ]


def test_a_fork_that_is_killed_is_an_error_that_says_how_and_is_replaced(
    program: bytes, processes: list[ModelProcess]
) -> None:
    forks = holder(program)
    process = ModelProcess(forks)
    process.kill()
    with pytest.raises(ModelFailed, match="the process of the model was ended by SIGKILL"):
        process.ask(("who",))
    processes.append(ModelProcess(forks))
    assert processes[0].ask(("who",))["holder"] == loads()[0]
    assert len(loads()) == 1


def test_a_holder_that_is_killed_is_replaced_and_its_forks_go_on(
    program: bytes, processes: list[ModelProcess]
) -> None:
    processes.append(ModelProcess(holder(program)))
    (first,) = loads()
    os.kill(first, signal.SIGKILL)
    wait_for_end(first)
    assert processes[0].ask(("who",))["holder"] == first
    processes.append(ModelProcess(holder(program)))
    assert processes[1].ask(("who",))["holder"] == loads()[1] != first


def test_a_holder_that_dies_while_it_loads_is_an_error(program: bytes) -> None:
    def kill() -> None:
        while not (Path("loads.txt").exists() and loads()):
            time.sleep(0.01)
        os.kill(loads()[0], signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(ModelFailed, match="the process that holds the model ended"):
        ModelProcess(holder(program, seconds=60))


def test_a_model_that_cannot_be_loaded_is_an_error_of_each_request(
    program: bytes, processes: list[ModelProcess]
) -> None:
    processes.append(ModelProcess(holder(program, is_good=False)))
    with pytest.raises(ModelFailed, match="KeyError"):  # the fork has no model
        processes[0].ask(("who",))


def test_a_holder_without_workers_ends_and_leaves_no_socket(program: bytes, folder: Path) -> None:
    process = ModelProcess(holder(program))
    (loader,) = loads()
    process.close()
    wait_for_end(loader)
    (meeting,) = folder.glob("lakescore-*")
    assert [path.name for path in meeting.iterdir()] == ["lock"]


def test_a_folder_that_others_can_open_is_refused(program: bytes, folder: Path) -> None:
    (folder / f"lakescore-{os.getuid()}").mkdir(mode=0o755)
    with pytest.raises(ModelFailed, match=r"cannot share the model: .* is open to other users"):
        ModelProcess(holder(program))
    assert not Path("loads.txt").exists()


def test_a_link_in_place_of_the_folder_is_refused(program: bytes, folder: Path) -> None:
    (folder / "elsewhere").mkdir(mode=0o700)
    (folder / f"lakescore-{os.getuid()}").symlink_to(folder / "elsewhere")
    with pytest.raises(ModelFailed, match="cannot share the model"):
        ModelProcess(holder(program))


def test_a_fork_prints_where_its_worker_prints_and_the_holder_nowhere(
    program: bytes, processes: list[ModelProcess], capfd: pytest.CaptureFixture[str]
) -> None:
    processes.append(ModelProcess(holder(program)))
    processes[0].ask(("print",))
    assert capfd.readouterr().err.strip() == "printed by the fork"
    assert Path(f"/proc/{loads()[0]}/fd/2").readlink() == Path(os.devnull)


def wait_for_end(pid: int) -> None:
    while Path(f"/proc/{pid}").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.05)
