"""The live page's API on both stores: what it does, and what it refuses."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders.models import register
from builders.tables import make_table
from served import COMMAND, PORT, TOKEN, client, refusal, serving
from starlette.testclient import TestClient
from stores import free_port

from lakescore import registry
from lakescore.serving import Guard, application

if TYPE_CHECKING:
    from conftest import Store

HERE = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def api(store: Store) -> TestClient:  # noqa: ARG001 - where it reads and writes
    return client()


ASKED = [
    ("GET", "/api/models"),
    ("POST", "/api/models"),
    ("GET", "/api/models/x/page"),
    ("GET", "/api/models/x/document"),
    ("GET", "/api/models/x/history"),
    ("POST", "/api/models/x/versions"),
    ("PATCH", "/api/models/x/tags"),
    ("PATCH", "/api/models/x/versions/1/tags"),
    ("POST", "/api/models/x/versions/1/proposal"),
    ("PUT", "/api/models/x/description"),
    ("PUT", "/api/models/x/aliases/champion"),
    ("POST", "/api/models/x/aliases/champion/rollback"),
    ("POST", "/api/models/x/aliases/champion/withdraw"),
    ("GET", "/api/logged-models"),
    ("POST", "/"),
    ("GET", "/docs"),
    ("GET", "/models/x/../../api/models"),
    ("GET", "/models/x%2F..%2Fy"),
]


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer t0kem", "Basic t0ken", "Bearer é"])
@pytest.mark.parametrize(("method", "path"), ASKED)
def test_nothing_but_the_doors_opens_without_the_token(
    method: str, path: str, given: str | None
) -> None:
    asking = client()
    del asking.headers["authorization"]
    headers = {} if given is None else {"authorization": given.encode()}
    answer = asking.request(method, path, headers=headers)
    assert refusal(answer, 401).startswith("TokenMissing: open the address that")


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", "127.0.0.1:81", f"[::1]:{PORT}", ""],
)
@pytest.mark.parametrize("path", ["/", "/models/x", "/api/models"])
def test_a_name_that_was_made_to_point_here_reaches_nothing(host: str, path: str) -> None:
    answer = client().get(path, headers={"host": host})
    assert refusal(answer, 403) == f"ForeignHost: this server answers only at 127.0.0.1:{PORT}"


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:81", f"https://127.0.0.1:{PORT}"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_another_origin_is_refused_even_with_the_token(origin: str, method: str) -> None:
    answer = client().request(method, "/api/models", headers={"origin": origin})
    assert refusal(answer, 403).startswith("ForeignOrigin")
    assert not {name for name in answer.headers if name.startswith("access-control")}


@pytest.mark.parametrize("path", ["/", "/models/x"])
def test_a_door_holds_no_data_and_runs_no_script_but_its_own(path: str) -> None:
    asking = client()
    del asking.headers["authorization"]
    answer = asking.get(path)
    assert answer.status_code == 200
    assert TOKEN not in answer.text
    policy = dict(
        directive.split(maxsplit=1)
        for directive in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert all(source.startswith("'sha256-") for source in policy["script-src"].split())
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


def test_a_models_name_in_an_address_is_text() -> None:
    answer = client().get("/models/%3Cscript%3Ealert(1)%3C%2Fscript%3E".replace("%2F", ""))
    assert "<script>alert(1)" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text


def test_a_models_life_by_the_api(api: TestClient, name: str) -> None:
    logged = [
        register("trained", run_name=f"run {rmse}", metrics={"rmse": rmse}).source.removeprefix(
            "models:/"
        )
        for rmse in (12.5, 11.0)
    ]
    made = api.post("/api/models", json={"name": name, "description": "x", "tags": {"team": "ops"}})
    assert made.status_code == 201
    assert made.json()["tags"] == {"team": "ops"}
    assert "There is no version yet." in api.get(f"/api/models/{name}/page").text
    listed = api.get("/api/logged-models").json()
    assert {model["logged_model_id"] for model in listed} >= set(logged)
    for number, model_id in enumerate(logged, 1):
        version = api.post(
            f"/api/models/{name}/versions",
            json={"logged_model_id": model_id, "tags": {"quarter": "Q4"}},
        )
        assert version.status_code == 201
        assert version.json()["version"] == number
        assert version.json()["digest"].startswith("sha256:")
    to = f"/api/models/{name}/aliases/champion"
    first = api.put(to, json={"version": 1, "expected": 0, "reason": "the first"})
    assert (first.json()["from"], first.json()["to"]) == (None, 1)
    evidence = registry.describe(f"{name}/2").run_id
    api.put(to, json={"version": 2, "expected": 1, "reason": "better", "evidence": evidence})
    document = api.get(f"/api/models/{name}/document").json()
    assert [version["aliases"] for version in document["versions"]] == [["champion"], []]
    assert "has the best stored rmse" in api.get(f"/api/models/{name}/page").text
    assert api.post(f"{to}/rollback", json={"expected": 2, "reason": "late"}).json()["to"] == 1
    assert api.post(f"{to}/withdraw", json={"expected": 1, "reason": "unfit"}).json()["to"] is None
    assert registry.models(name)[0].aliases == {}
    assert api.post(f"{to}/rollback", json={"expected": 0}).json()["to"] == 1
    moves = api.get(f"/api/models/{name}/history").json()
    assert [(move["kind"], move["to"], move["reason"], move["evidence"]) for move in moves] == [
        ("promote", 1, "the first", None),
        ("promote", 2, "better", evidence),
        ("rollback", 1, "late", None),
        ("withdraw", None, "unfit", None),
        ("rollback", 1, None, None),
    ]
    assert registry.resolve(f"{name}@champion").version == 1


def test_tags_are_added_changed_and_removed(api: TestClient, name: str) -> None:
    register(name, run_name="one", tags={"team": "ops"})
    for to, tags in (
        (f"/api/models/{name}/versions/1/tags", {"team": "ops"}),
        (f"/api/models/{name}/tags", {}),
    ):
        added = api.patch(to, json={"key": "a/b: c", "value": "1", "expected": None})
        assert added.json()["tags"] == tags | {"a/b: c": "1"}
        changed = api.patch(to, json={"key": "a/b: c", "value": "", "expected": "1"})
        assert changed.json()["tags"] == tags | {"a/b: c": ""}
        removed = api.patch(to, json={"key": "a/b: c", "value": None, "expected": ""})
        assert removed.json()["tags"] == tags


def test_descriptions_are_set_and_removed(api: TestClient, name: str) -> None:
    register(name, run_name="one")
    for to in (f"/api/models/{name}/versions/1/description", f"/api/models/{name}/description"):
        assert (
            api.put(to, json={"description": "two\nlines", "expected": ""}).json()["description"]
            == "two\nlines"
        )
        assert "is 'two" in refusal(api.put(to, json={"description": "x", "expected": ""}), 409)
        assert (
            api.put(to, json={"description": "", "expected": "two\nlines"}).json()["description"]
            is None
        )


def test_what_another_one_changed_is_not_overwritten(api: TestClient, name: str) -> None:
    register(name, run_name="one", tags={"team": "ops"})
    register(name, run_name="two")
    registry.tag(f"{name}/1", {"team": "theirs"})
    registry.promote(f"{name}/1", to="champion")
    tags = f"/api/models/{name}/versions/1/tags"
    for value in ("mine", None):
        answer = api.patch(tags, json={"key": "team", "value": value, "expected": "ops"})
        assert "EditedMeanwhile: the tag 'team' of " in refusal(answer, 409)
        assert "is 'theirs' now, but 'ops' was expected" in refusal(answer, 409)
    answer = api.put(f"/api/models/{name}/aliases/champion", json={"version": 2, "expected": 0})
    assert f"AliasMoved: {name}@champion points at version 1, but no version" in refusal(
        answer, 409
    )
    back = api.post(f"/api/models/{name}/aliases/champion/rollback", json={"expected": 2})
    assert "points at version 1, but version 2" in refusal(back, 409)
    assert registry.describe(f"{name}/1").tags == {"team": "theirs"}
    assert registry.resolve(f"{name}@champion").version == 1


def test_of_those_who_edit_at_once_one_wins(api: TestClient, name: str) -> None:
    register(name, run_name="one", tags={"team": "ops"})

    def edit(number: int) -> int:
        facts = {"key": "team", "value": f"team {number}", "expected": "ops"}
        return api.patch(f"/api/models/{name}/versions/1/tags", json=facts).status_code

    with ThreadPoolExecutor(6) as readers:
        statuses = list(readers.map(edit, range(6)))
    assert sorted(statuses) == [200, 409, 409, 409, 409, 409]
    assert registry.describe(f"{name}/1").tags == {"team": f"team {statuses.index(200)}"}


HOSTILE = [
    "</script><script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "🛩 'quoted' \"too\"",
    "x" * 5000,
]


def test_hostile_values_are_kept_as_they_are_and_are_no_markup(api: TestClient, name: str) -> None:
    register(name, run_name="one")
    hostile = {f"note {number}": value for number, value in enumerate(HOSTILE)}
    hostile["__proto__"] = hostile["constructor"] = HOSTILE[0]
    for key, value in hostile.items():
        facts = {"key": key, "value": value, "expected": None}
        assert api.patch(f"/api/models/{name}/versions/1/tags", json=facts).status_code == 200
    assert registry.describe(f"{name}/1").tags == hostile
    page = api.get(f"/api/models/{name}/page").text
    assert "note 0" in page
    assert "<script>alert(1)" not in page


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("", "x"),
        ("a\nb", "x"),
        ("../x", "x"),
        ("a", "b\x1b[2J"),
        ("a", "\u202eb"),
        ("a", "x" * 5001),
        ("lakescore.card", "{}"),
    ],
)
def test_tags_that_the_command_line_refuses_are_refused(
    api: TestClient, name: str, key: str, value: str
) -> None:
    register(name, run_name="one")
    facts = {"key": key, "value": value, "expected": None}
    answer = api.patch(f"/api/models/{name}/versions/1/tags", json=facts)
    assert refusal(answer, 400).startswith("BadName: cannot use")


@pytest.mark.parametrize(
    "source",
    [
        "/etc",
        "file:///etc",
        "runs:/" + "0" * 32 + "/model",
        "http://evil.example/",
        "m-" + "0" * 32 + "\n",
    ],
)
def test_paths_and_addresses_cannot_be_registered(api: TestClient, name: str, source: str) -> None:
    answer = api.post(f"/api/models/{name}/versions", json={"logged_model_id": source})
    assert refusal(answer, 400).startswith("BadRequest: body.logged_model_id")


MISSING = "no-such-model-here"
NO_MODEL = {"logged_model_id": "m-" + "0" * 32}
TAG = {"key": "a", "value": "b", "expected": None}
TO = "/api/models/x/aliases/x"


@pytest.mark.parametrize(
    ("asked", "facts", "refused"),
    [
        (
            f"GET /api/models/{MISSING}/page",
            None,
            "404 ModelNotFound: there is no registered model",
        ),
        (f"GET /api/models/{MISSING}/history", None, "404 ModelNotFound"),
        (f"PATCH /api/models/{MISSING}/tags", TAG, "404 ModelNotFound"),
        (
            f"PUT /api/models/{MISSING}/aliases/x",
            {"version": 1, "expected": 0},
            "404 ModelNotFound",
        ),
        (f"POST /api/models/{MISSING}/versions", NO_MODEL, "422 NotAModel"),
        ("POST /api/models", {"name": "a/b"}, "400 BadName"),
        ("POST /api/models", {"name": "a", "shell": "x"}, "400 BadRequest: body.shell"),
        ("POST /api/models", {}, "400 BadRequest: body.name"),
        (f"PUT {TO}", {"version": "1", "expected": 0}, "400 BadRequest: body.version"),
        (f"PUT {TO}", {"version": 1}, "400 BadRequest: body.expected"),
        ("GET /api/logged-models?limit=9999", None, "400 BadRequest: query.limit"),
        ("GET /api/nothing", None, "404 NotFound: GET /api/nothing"),
        ("DELETE /api/models", None, "405 MethodNotAllowed"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    api: TestClient, asked: str, facts: Any, refused: str
) -> None:
    method, path = asked.split()
    status, line = refused.split(maxsplit=1)
    assert refusal(api.request(method, path, json=facts), int(status)).startswith(line)


def test_a_model_is_not_created_twice(api: TestClient, name: str) -> None:
    registry.create(name)
    assert "ModelExists" in refusal(api.post("/api/models", json={"name": name}), 409)


def test_requests_are_bounded() -> None:
    asking = client()
    assert "TooLarge" in refusal(asking.post("/api/models", content=b"x" * 100_001), 413)
    assert "LengthMissing" in refusal(asking.post("/api/models", content=iter([b"{}"])), 411)
    assert "BadRequest" in refusal(
        asking.post("/api/models", content=b"{", headers={"content-type": "application/json"}), 400
    )
    form = {"content-type": "text/plain"}  # a foreign page may send this
    assert "BadRequest" in refusal(
        asking.post("/api/models", content=b'{"name": "x"}', headers=form), 400
    )


@pytest.mark.usefixtures("store")
def test_only_the_models_that_it_was_started_for_are_served(name: str) -> None:
    register(name, run_name="one")
    register(f"{name}-other", run_name="one")
    asking = client(name)
    assert [model["name"] for model in asking.get("/api/models").json()] == [name]
    assert asking.get(f"/api/models/{name}/document").status_code == 200
    answer = asking.get(f"/api/models/{name}-other/document")
    assert f"is not among the models that this server shows: {name}" in refusal(answer, 403)
    assert "NotServed" in refusal(asking.post("/api/models", json={"name": "another"}), 403)


def test_a_registry_that_went_away_is_said_in_one_line(store: Store, api: TestClient) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    try:
        answer = api.get("/api/models")
    finally:
        mlflow.set_tracking_uri(store.uri)
    assert "does not answer (connection refused)" in refusal(answer, 503)
    assert api.get("/api/models").status_code == 200


def test_a_surprise_tells_the_client_nothing() -> None:
    app = application([])

    def fails() -> None:
        raise RuntimeError("s3cret")

    app.add_api_route("/api/fails", fails)
    asking = TestClient(
        Guard(app, token=TOKEN, port=PORT),
        base_url=HERE,
        headers={"authorization": f"Bearer {TOKEN}"},
        raise_server_exceptions=False,
    )
    answer = asking.get("/api/fails")
    assert "an unexpected error occurred" in refusal(answer, 500)
    assert "s3cret" not in answer.text


# --- a process of its own, as a person starts it

embedded = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@embedded
def test_a_server_serves_until_it_is_told_to_stop(store: Store, name: str, tmp_path: Path) -> None:
    register(name, run_name="one")
    make_table(tmp_path / "t", [], "id int, dep_delay double, distance double")
    words = ["--no-open", "--tables", str(tmp_path)]
    with serving(name, *words, environment=store.environment) as served:
        assert re.fullmatch(
            rf"http://127\.0\.0\.1:\d+/models/{name}#token=[\w-]{{43}}", served.address
        )
        tags = f"/api/models/{name}/versions/1/tags"
        assert served.ask("PATCH", tags, {"key": "a", "value": "b", "expected": None})[0] == 200
        assert registry.describe(f"{name}/1").tags == {"a": "b"}
        applied = {"input": "t", "output": "p", "id_columns": ["id"]}
        to = f"/api/models/{name}/versions/1/proposal"
        status, proposal = served.ask("POST", to, applied)
        assert (status, proposal["job"]["input"]) == (200, {"path": f"{tmp_path}/t"})
        asked = [
            ({"Origin": f"http://127.0.0.1:{served.port}"}, 200),
            ({"Authorization": "Bearer x"}, 401),
            ({"Host": "evil.example"}, 403),
            ({"Origin": "http://evil.example"}, 403),
        ]
        for headers, status in asked:
            assert served.ask("GET", "/api/models", headers=headers)[0] == status
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", served.port), timeout=5)
        printed = served.stop()
    assert served.process.returncode == 0
    assert served.token not in printed
    assert "GET" not in printed


@embedded
def test_ctrl_c_ends_it_in_order(store: Store) -> None:
    with serving("--no-open", environment=store.environment) as served:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{43}", served.address)
        assert "Traceback" not in served.stop(signal.SIGINT)
    assert served.process.returncode == 0


PATIENT = """
from lakescore.serving import serve
def announce(address): print(address, flush=True)
serve([], port=0, announce=announce, browse=False, patience=1)
"""


@embedded
def test_who_sends_or_reads_too_slowly_is_cut_off(store: Store) -> None:
    """A client that sends a byte now and then loses its connection: a request must end in time."""
    server = store.start(PATIENT)
    assert server.stdout is not None
    address = server.stdout.readline()
    port, token = int(re.findall(r":(\d+)/", address)[0]), address.strip().partition("token=")[2]
    head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
    whole = f"GET /api/models HTTP/1.1\r\n{head}\r\n"
    body = "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"

    def kept(sent: str, more: bytes = b"") -> tuple[float, bytes]:
        """Return for how many seconds a connection lived that sends on and on, and its answer."""
        began, answer = time.monotonic(), b""
        with socket.create_connection(("127.0.0.1", port), timeout=0.2) as connection:
            connection.sendall(sent.encode())
            while time.monotonic() - began < 30:
                try:
                    piece = connection.recv(65536)
                except TimeoutError:
                    connection.sendall(more)
                except ConnectionError:
                    break
                else:
                    if not piece:
                        break
                    answer += piece
        return time.monotonic() - began, answer

    try:
        for sent, more in (
            ("", b""),
            ("GET /api/mod", b""),
            (f"GET /api/models HTTP/1.1\r\n{head}", b"X"),
            (f"POST /api/models HTTP/1.1\r\n{head}{body}", b" "),
        ):
            seconds, answer = kept(sent, more)
            assert (seconds < 4, answer) == (True, b"")
        assert kept(whole)[1].startswith(b"HTTP/1.1 200 OK")
        seconds, answer = kept(f"{whole}GET /api/mod", b"")  # a second one that never ends
        assert seconds < 10
        assert answer.startswith(b"HTTP/1.1 200 OK")
    finally:
        server.terminate()
        assert server.communicate()[1] == ""


@embedded
def test_a_browser_is_shown_the_way_by_a_file_that_only_its_user_reads(
    store: Store, tmp_path: Path
) -> None:
    opened, arguments = tmp_path / "opened", tmp_path / "arguments"
    browser = tmp_path / "browser"
    browser.write_text(
        "#!/bin/sh\n"
        f'echo "$1" > {arguments}\n'
        f'stat -c %a "$(dirname "${{1#file://}}")" > {opened}.new\n'
        f'cat "${{1#file://}}" >> {opened}.new\n'
        f"mv {opened}.new {opened}\n"
    )
    browser.chmod(0o755)
    environment = store.environment | {"BROWSER": f"{browser} %s &"}
    with serving("--open", environment=environment) as served:
        deadline = time.monotonic() + 30
        while not opened.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        mode, page = opened.read_text().split("\n", maxsplit=1)
        served.stop()
    assert mode == "700"
    assert served.address in page
    shown = arguments.read_text().strip()
    assert served.token not in shown
    assert not Path(shown.removeprefix("file://")).exists()


@embedded
@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["no-such-model-here"], 3, "error: there is no registered model 'no-such-model-here'"),
        (["--port", "TAKEN"], 2, "error: cannot listen on port"),
        (["--tables", "/no/such/folder"], 2, "error: there is no folder /no/such/folder"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_one_line(
    store: Store, words: list[str], code: int, line: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        asked = [port if word == "TAKEN" else word for word in words]
        done = subprocess.run(
            [COMMAND, "serve", "--no-open", *asked],
            env=store.environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == code
    assert done.stderr.startswith(line)
    assert done.stdout == ""
