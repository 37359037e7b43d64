"""The live page in a real Chromium, on a real server and store: edited, and kept from strangers."""

from __future__ import annotations

import http.server
import json
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import documents
import numpy as np
import pytest
import yaml
from builders.models import delay_model, own_home, register, tracking_store
from builders.tables import column, make_table, write_log
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from playwright.sync_api import expect
from served import serving

from lakescore import registry
from lakescore.home import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Violations
    from playwright.sync_api import Browser, Page, Route
    from served import Served

NAME = "flight-delay"
SCRIPT = "</script><script>window.ran=1</script>"
_COMPLAINTS_OF_REFUSALS = "Failed to load resource: the server responded with a status of 4"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start a server on a store of its own, which is this process's store too."""
    folder = tmp_path_factory.mktemp("live")
    with own_home(folder):
        uri = tracking_store(folder)
        for number in (1, 2):
            register(NAME, run_name=f"run {number}", metrics={"rmse": 12.5 - number})
        with serving("--no-open", environment={"MLFLOW_TRACKING_URI": uri}) as server:
            yield server


@pytest.fixture
def version(served: Served) -> Iterator[str]:  # noqa: ARG001 - where it is
    """Return a version with two tags of a model of this test's own."""
    made = f"own-{len(registry.models()) + 1}"
    register(made, run_name="one", metrics={"rmse": 9.0}, tags={"team": "ops", "note": SCRIPT})
    return f"{made}/1"


@pytest.fixture
def opening(browser: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    """Open a page of the server; afterwards nothing else was asked, and nothing complained."""
    contexts, complaints, strangers = [], [], []

    def open_page(path: str = "", **context: Any) -> Page:
        opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        opened.set_default_timeout(20_000)
        contexts.append(opened)
        page = opened.new_page()

        def refuse(route: Route) -> None:
            if not route.request.url.startswith(
                (f"http://127.0.0.1:{served.port}/", "data:", "blob:")
            ):
                strangers.append(route.request.url)
            route.continue_()

        page.route("**/*", refuse)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                message.type == "error"
                and not message.text.startswith(_COMPLAINTS_OF_REFUSALS)
                and complaints.append(message.text)
            ),
        )
        page.goto(f"http://127.0.0.1:{served.port}/{path}#token={served.token}")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            page.wait_for_function("() => window.ran === undefined")  # a reload may be under way
        context.close()
    assert complaints == []
    assert strangers == []


def opened(page: Page, number: int = 1) -> None:
    """Open the dialog of a version, with its editors."""
    page.get_by_role("button", name=f"details of version v{number}").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_role("button", name="Edit", exact=True).click()


def test_tags_are_added_changed_and_removed_in_the_page(
    opening: Callable[..., Page], version: str
) -> None:
    page = opening(f"models/{version[:-2]}")
    opened(page)
    page.get_by_label("New tag").fill("quarter")
    page.get_by_label("Value", exact=True).fill("Q4 <b>")
    page.get_by_role("button", name="Add tag").click()
    expect(page.get_by_text("Tag quarter saved.")).to_be_visible()
    page.get_by_label("value of team").fill("crew")
    page.get_by_role("button", name="Save team").click()
    expect(page.get_by_text("Tag team saved.")).to_be_visible()
    assert registry.describe(version).tags == {"team": "crew", "note": SCRIPT, "quarter": "Q4 <b>"}
    page.get_by_role("button", name="Remove note").click()
    expect(page.get_by_text("Tag note removed.")).to_be_visible()
    assert registry.describe(version).tags == {"team": "crew", "quarter": "Q4 <b>"}
    page.get_by_role("button", name="Close").click()
    expect(
        page.get_by_role("status").filter(has_text="The page shows the current state of")
    ).to_be_visible()
    opened(page)
    expect(page.get_by_label("value of quarter")).to_have_value("Q4 <b>")


def test_the_keyboard_alone_edits_a_tag(opening: Callable[..., Page], version: str) -> None:
    page = opening(f"models/{version[:-2]}")
    page.get_by_role("button", name="details of version v1").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Edit", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("value of note")).to_be_focused()
    page.keyboard.press("Tab")  # to its Remove
    page.keyboard.press("Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("crew")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Tag team saved.")).to_be_visible()
    expect(page.get_by_label("value of team")).to_be_focused()
    assert registry.describe(version).tags["team"] == "crew"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_what_another_one_changed_is_shown_and_not_overwritten(
    opening: Callable[..., Page], version: str
) -> None:
    page = opening(f"models/{version[:-2]}")
    opened(page)
    registry.tag(version, {"team": "theirs"})
    page.get_by_label("value of team").fill("mine")
    page.keyboard.press("Enter")
    expect(page.get_by_text("is 'theirs' now, but 'ops' was expected")).to_be_visible()
    expect(page.get_by_label("value of team")).to_have_value("theirs")
    assert registry.describe(version).tags["team"] == "theirs"


def test_hostile_tags_are_values_like_any_other(opening: Callable[..., Page], version: str) -> None:
    name = version[:-2]
    page = opening(f"models/{name}")
    opened(page)
    hostile = [value for value in documents.HOSTILE if value.isprintable()]
    for number, value in enumerate(hostile):
        page.get_by_label("New tag").fill(f"t{number}")
        page.get_by_label("Value", exact=True).fill(value)
        page.get_by_role("button", name="Add tag").click()
        expect(page.get_by_text(f"Tag t{number} saved.")).to_be_visible()
    for key in ("__proto__", "constructor"):
        page.get_by_label("New tag").fill(key)
        page.get_by_role("button", name="Add tag").click()
        expect(page.get_by_text(f"Tag {key} saved.")).to_be_visible()
    tags = registry.describe(version).tags
    assert [tags[f"t{number}"] for number in range(len(hostile))] == hostile
    assert {"__proto__", "constructor"} <= tags.keys()
    page.get_by_label("New tag").fill("a$b")
    page.get_by_role("button", name="Add tag").click()
    expect(page.get_by_text("cannot use 'a$b' as a tag")).to_be_visible()
    page.reload()
    opened(page)
    for number, value in enumerate(hostile):
        expect(page.get_by_label(f"value of t{number}", exact=True)).to_have_value(value)


def test_an_alias_is_promoted_rolled_back_and_withdrawn_through_the_ledger(
    opening: Callable[..., Page],
) -> None:
    page = opening(f"models/{NAME}")
    for number in (1, 2):
        opened(page, number)
        page.get_by_role("combobox", name="Alias").fill("champion")
        page.get_by_role("textbox", name="Reason").fill(f"reason {number}")
        page.get_by_role("button", name=f"Promote version {number}").click()
        expect(page.get_by_role("alertdialog")).to_contain_text(
            f"Jobs that read {NAME}@champion use version {number} from their next run."
        )
        page.get_by_role("button", name="Move champion").click()
        expect(page.get_by_role("status").get_by_text(f"to version {number}.")).to_be_visible()
        page.get_by_role("button", name="Close").click()
        expect(
            page.get_by_role("status").filter(has_text="The page shows the current state of")
        ).to_be_visible()
    assert registry.resolve(f"{NAME}@champion").version == 2
    page.get_by_role("button", name="History of aliases").click()
    expect(page.get_by_role("dialog").get_by_text("reason 2")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    opened(page, 2)
    page.get_by_role("textbox", name="Reason").fill("too slow")
    page.get_by_role("button", name="Roll back champion").click()
    page.get_by_role("button", name="Move champion").click()
    expect(page.get_by_text("champion moved from version 2 to version 1.")).to_be_visible()
    page.get_by_role("button", name="Close").click()
    opened(page, 1)
    page.get_by_role("button", name="Withdraw champion").click()
    expect(page.get_by_role("alertdialog")).to_contain_text("end with an error")
    page.get_by_role("button", name="Move champion").click()
    expect(page.get_by_text("champion moved from version 1 to no version.")).to_be_visible()
    moves = [(move.kind, move.origin, move.target, move.reason) for move in registry.history(NAME)]
    assert moves == [
        ("promote", None, 1, "reason 1"),
        ("promote", 1, 2, "reason 2"),
        ("rollback", 2, 1, "too slow"),
        ("withdraw", 1, None, None),
    ]


def test_facts_come_first_and_nothing_typed_is_lost_by_escape_or_close(
    opening: Callable[..., Page], version: str
) -> None:
    page = opening(f"models/{version[:-2]}")
    page.get_by_role("button", name="details of version v1").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("team")
    expect(page.get_by_label("value of team")).to_have_count(0)
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_label("description", exact=True).fill("half a sentence")
    page.get_by_label("value of team").fill("crew")
    for leave in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.keyboard.press("Escape"),
        lambda: page.get_by_role("button", name="Close").click(),
        lambda: page.mouse.click(5, 5),
    ):
        leave()
        question = page.get_by_role("alertdialog", name="Not saved: value of team, description.")
        expect(question).to_be_visible()
        page.get_by_role("button", name="Keep editing").click()
        expect(page.get_by_label("description", exact=True)).to_have_value("half a sentence")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Discard").click()
    expect(dialog).to_have_count(0)
    assert registry.describe(version).tags["team"] == "ops"
    assert registry.describe(version).description in {None, ""}


def test_a_production_alias_moves_after_one_question_and_moves_back(
    opening: Callable[..., Page], version: str
) -> None:
    name = version[:-2]
    register(name, run_name="two")
    registry.promote(f"{name}/1", to="champion")
    page = opening(f"models/{name}")
    opened(page, 2)
    alias = page.get_by_role("combobox", name="Alias")
    alias.fill("champion")
    page.get_by_role("button", name="Promote version 2").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.get_by_role("button", name="Cancel").click()
    assert registry.models(name)[0].aliases == {"champion": 1}
    expect(alias).to_have_value("champion")
    page.get_by_role("button", name="Promote version 2").click()
    page.get_by_role("button", name="Move champion").click()
    expect(page.get_by_text("champion moved from version 1 to version 2.")).to_be_visible()
    assert registry.models(name)[0].aliases == {"champion": 2}
    page.get_by_role("button", name="Undo the move of champion").click()
    expect(page.get_by_text("champion moved from version 2 to version 1.")).to_be_visible()
    assert registry.models(name)[0].aliases == {"champion": 1}
    alias.fill("candidate")
    page.get_by_role("button", name="Promote version 2").click()
    expect(page.get_by_text("candidate moved from no version to version 2.")).to_be_visible()
    page.get_by_role("button", name="Undo the move of candidate").click()
    expect(page.get_by_text("candidate moved from version 2 to no version.")).to_be_visible()
    assert [move.reason for move in registry.history(name)] == [None, None, "undo", None, "undo"]
    assert registry.models(name)[0].aliases == {"champion": 1}


def test_an_alias_that_another_one_moved_is_left_where_it_is(
    opening: Callable[..., Page], version: str
) -> None:
    name = version[:-2]
    register(name, run_name="two")
    page = opening(f"models/{name}")
    opened(page, 2)
    registry.promote(f"{name}/1", to="challenger")
    page.get_by_role("combobox", name="Alias").fill("challenger")
    page.get_by_role("button", name="Promote version 2").click()
    expect(page.get_by_text("points at version 1, but no version was expected")).to_be_visible()
    assert registry.models(name)[0].aliases == {"challenger": 1}


def test_a_model_is_created_and_a_runs_model_registered(opening: Callable[..., Page]) -> None:
    register("elsewhere", run_name="chosen one")
    page = opening()
    page.get_by_role("button", name="Create a model").click()
    page.get_by_label("Name").fill("made/here")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("it holds parts of a path")).to_be_visible()
    page.get_by_label("Name").fill("made here")
    page.get_by_label("Tags").fill("team=ops\nnote=a=b")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(page.get_by_text("Created made here.")).to_be_visible()
    assert registry.models("made here")[0].tags == {"team": "ops", "note": "a=b"}
    page.get_by_role("link", name="made here").click()
    expect(page.get_by_text("There is no version yet.")).to_be_visible()
    page.get_by_role("button", name="Register a version").click()
    page.get_by_label("model of run chosen one").check()
    page.get_by_label("Description").fill("from the page")
    page.get_by_role("button", name="Register", exact=True).click()
    expect(page.get_by_text("Registered as version 1 of made here.")).to_be_visible()
    expect(page.get_by_role("button", name="details of version v1")).to_be_visible()
    made = registry.describe("made here/1")
    assert (made.run_name, made.description) == ("chosen one", "from the page")


def test_a_models_own_tags_and_description_are_edited_in_the_list(
    opening: Callable[..., Page],
) -> None:
    registry.create("edited")
    page = opening()
    page.get_by_role("button", name="Edit edited").click()
    page.get_by_label("New tag").fill("team")
    page.get_by_label("Value", exact=True).fill("ops")
    page.get_by_role("button", name="Add tag").click()
    expect(page.get_by_text("Tag team saved.")).to_be_visible()
    page.get_by_label("description", exact=True).fill("two\nlines")
    page.get_by_role("button", name="Save description").click()
    expect(page.get_by_text("Description saved.")).to_be_visible()
    (model,) = registry.models("edited")
    assert (model.tags, model.description) == ({"team": "ops"}, "two\nlines")


def test_the_token_leaves_the_address_and_other_tabs_need_not_bring_it(
    opening: Callable[..., Page], served: Served
) -> None:
    page = opening(f"models/{NAME}")
    expect(page.get_by_role("button", name="details of version v1")).to_be_visible()
    assert served.token not in page.url
    assert page.context.cookies() == []
    second = page.context.new_page()
    second.goto(f"http://127.0.0.1:{served.port}/models/{NAME}")
    expect(second.get_by_role("button", name="details of version v1")).to_be_visible()


def test_who_lacks_the_token_is_told_where_it_stands(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    for path in ("", f"models/{NAME}"):
        page.goto(f"http://127.0.0.1:{served.port}/{path}")
        expect(page.get_by_text("open the address that lakescore serve printed")).to_be_visible()
    assert "rmse" not in page.content()
    page.close()


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[str]:
    """Yield the origin of another server on loopback, whose pages may be hostile."""
    (tmp_path / "index.html").write_text("<!doctype html><title>stranger</title>")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_foreign_page_changes_and_reads_nothing_though_it_knew_the_token(
    opening: Callable[..., Page], served: Served, stranger: str, version: str
) -> None:
    reader = opening(f"models/{version[:-2]}")  # whose browser is used by the stranger, too
    expect(reader.get_by_role("button", name="details of version v1")).to_be_visible()
    page = reader.context.new_page()
    page.goto(stranger)
    to = f"http://127.0.0.1:{served.port}/api/models/{version[:-2]}/versions/1/tags"
    asks = """async ([to, token, mode, type]) => {
        const headers = { "content-type": type };
        if (token) headers.authorization = `Bearer ${token}`;
        const method = mode === "cors" ? "PATCH" : "POST";
        const body = JSON.stringify({ key: "team", value: "stranger", expected: "ops" });
        try {
            const answer = await fetch(to, { method, mode, headers, body });
            return `${answer.type} ${answer.status}`;
        } catch (error) { return "refused"; }
    }"""
    assert page.evaluate(asks, [to, served.token, "cors", "application/json"]) == "refused"
    assert page.evaluate(asks, [to, "", "cors", "application/json"]) == "refused"
    assert page.evaluate(asks, [to, "", "no-cors", "text/plain"]) == "refused"
    assert page.evaluate("localStorage.length") == 0
    frame = f"http://127.0.0.1:{served.port}/models/{version[:-2]}"
    page.evaluate(
        """(to) => new Promise((done) => {
            const frame = document.createElement("iframe");
            frame.src = to; frame.onload = done; document.body.append(frame);
        })""",
        frame,
    )
    assert "rmse" not in page.frames[-1].content()
    assert registry.describe(version).tags["team"] == "ops"


def test_a_name_that_points_here_reaches_nothing(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    answer = page.goto(f"http://rebound.localhost:{served.port}/#token={served.token}")
    assert answer is not None
    assert answer.status == 403
    assert json.loads(page.inner_text("body"))["error"]["kind"] == "ForeignHost"
    page.close()


# --- a version is applied to a table


def signed(*inputs: ColSpec | TensorSpec) -> ModelSignature:
    return ModelSignature(Schema(list(inputs)), Schema([ColSpec("double")]))


def table_named(name: str) -> Path:
    return home() / "tables" / name


@pytest.fixture
def applying(opening: Callable[..., Page]) -> Callable[..., Page]:
    """Open the form that applies version 1 of a model to a table, and look at the table."""

    def open_form(name: str, table: str, **context: Any) -> Page:
        page = opening(f"models/{name}", **context)
        opened(page)
        page.get_by_role("button", name="Apply this version").click()
        page.get_by_label("Input table").fill(f"tables/{table}")
        page.get_by_label("Output table").fill("tables/predictions")
        page.get_by_role("button", name="Look at the table").click()
        return page

    return open_form


def shown(page: Page, title: str) -> str:
    """Return the text that the page shows to copy."""
    return str(page.get_by_role("region", name=title, exact=True).text_content())


def test_the_keyboard_alone_maps_a_table_and_copies_its_texts(
    opening: Callable[..., Page], served: Served, version: str
) -> None:
    name = version[:-2]
    make_table(table_named(name), [(1, 2.0, 3.0)], "id int, DepDelay double, miles float")
    page = opening(f"models/{name}", permissions=["clipboard-read", "clipboard-write"])
    press, type_ = page.keyboard.press, page.keyboard.type
    page.get_by_role("button", name="details of version v1").focus()
    press("Enter")
    page.get_by_role("button", name="Apply this version").focus()
    press("Enter")
    expect(page.get_by_label("Input table")).to_be_focused()
    type_(f"tables/{name}")
    press("Tab")
    type_("tables/predictions")
    press("Enter")
    expect(page.get_by_text("3 columns at version 0.")).to_be_visible()
    expect(page.get_by_label("dep_delay double")).to_have_value("1")
    expect(page.get_by_text("the table has no such column")).to_be_visible()
    for _ in range(3):  # to the button, to the first feature, and to the second
        press("Tab")
    expect(page.get_by_label("distance double")).to_be_focused()
    type_("miles")
    press("Tab")
    expect(page.get_by_label("Key column 1")).to_be_focused()
    type_("id")
    press("Tab")
    expect(page.get_by_label("Key column 2")).to_be_focused()
    press("Tab")
    press("Enter")
    expect(page.get_by_text("The texts are below. Nothing was run.")).to_be_visible()
    facts = {"input": f"tables/{name}", "output": "tables/predictions"}
    facts |= {"columns": {"distance": "miles"}, "id_columns": ["id"]}
    status, proposal = served.ask("POST", f"/api/models/{name}/versions/1/proposal", facts)
    assert status == 200
    assert yaml.safe_load(proposal["job_file"])["columns"] == {
        "dep_delay": "DepDelay", "distance": "miles"
    }  # fmt: skip
    for title, key in (("Job's file", "job_file"), ("Python", "python"), ("SQL", "sql")):
        page.get_by_role("button", name=f"Copy {title}").focus()
        press("Enter")
        expect(page.get_by_text(f"{title} copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == proposal[key]
        assert shown(page, title) == proposal[key]
    press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(1)  # the version's own


def test_texts_go_when_the_form_changes(
    applying: Callable[..., Page], version: str, served: Served
) -> None:
    name = version[:-2]
    make_table(table_named(name), [(1, 2.0, 3.0)], "id int, dep_delay double, distance double")
    page = applying(name, name)
    write = page.get_by_role("button", name="Write the texts")
    texts = page.get_by_role("region", name="Job's file")
    key, distance = page.get_by_label("Key column 1"), page.get_by_label("distance double")
    write.click()
    expect(page.get_by_text("Choose the key.", exact=True)).to_be_visible()
    key.select_option("0")
    write.click()
    expect(texts).to_be_visible()
    distance.select_option("1")
    expect(texts).to_have_count(0)
    write.click()
    expect(texts).to_contain_text("distance: dep_delay")
    distance.select_option("")  # as the names say
    write.click()
    expect(texts).to_be_visible()
    expect(texts).not_to_contain_text("distance")
    expect(distance).to_have_value("2")
    page.get_by_label("Output table").fill("tables/others")
    expect(texts).to_have_count(0)

    proposals = f"http://127.0.0.1:{served.port}/api/**/proposal"

    def answer_late(route: Route) -> None:
        distance.select_option("1")  # before the request arrives, and so before the answer
        route.continue_()

    page.route(proposals, answer_late, times=1)
    write.click()
    expect(page.get_by_text("the form changed meanwhile; send it again")).to_be_visible()
    expect(texts).to_have_count(0)

    def look_again(route: Route) -> None:
        page.get_by_role("button", name="Look at the table").click()
        route.continue_()

    distance.select_option("")
    page.route(proposals, look_again, times=1)
    write.click()
    expect(page.get_by_text("the form changed meanwhile; send it again")).to_be_visible()
    expect(key).to_have_value("")  # of the table as it was looked at again
    expect(texts).to_have_count(0)
    make_table(table_named(name), [], "id int, dep_delay double", mode="overwrite")
    write.click()
    expect(page.get_by_text("has other columns now; look at the table again")).to_be_visible()
    expect(distance).to_have_count(0)
    page.get_by_label("Input table").fill("tables/none")
    page.get_by_role("button", name="Look at the table").click()
    expect(page.get_by_text("'tables/none' is no table that this server shows")).to_be_visible()


def test_columns_with_hostile_names_are_chosen_as_they_are(
    applying: Callable[..., Page], version: str
) -> None:
    name = version[:-2]
    columns = [
        SCRIPT,
        "a\nb",
        "ab",
        " ab",
        '"><img src=x onerror="window.ran=1">',
        "__proto__",
        "0",
    ]
    write_log(table_named(name), [column(each) for each in columns])
    features = [*[f"f{n}" for n in range(len(columns) - 2)], "__proto__", "</select>"]
    signature = signed(*(ColSpec("double", each) for each in features))
    register(f"{name}-hostile", delay_model(), signature=signature, metrics={"rmse": 1.0})
    page = applying(f"{name}-hostile", name)
    for number in range(len(columns)):
        page.locator(f"#feature-{number}").select_option(str(number))
    page.get_by_label("Key column 1").select_option("1")
    page.get_by_role("button", name="Write the texts").click()
    job = yaml.safe_load(shown(page, "Job's file"))
    expected = {f: c for f, c in zip(features, columns, strict=True) if f != c}
    assert job["columns"] == expected
    assert job["id_columns"] == ["a\nb"]
    expect(page.get_by_text("None: a name has characters that cannot be seen")).to_be_visible()


def test_the_order_of_a_signature_without_names_is_chosen(
    applying: Callable[..., Page], version: str
) -> None:
    name = version[:-2]
    signature = signed(TensorSpec(np.dtype("float64"), (-1, 2)))
    register(f"{name}-block", delay_model(), signature=signature, metrics={"rmse": 1.0})
    make_table(table_named(name), [], "id int, x double, y double, block array<double>")
    page = applying(f"{name}-block", name)
    write = page.get_by_role("button", name="Write the texts")
    page.get_by_label("Key column 1").select_option("0")
    page.get_by_label("1 double", exact=True).select_option("2")
    write.click()
    expect(page.get_by_text("Choose columns for 2 features.")).to_be_visible()
    page.get_by_label("2 double", exact=True).select_option("1")
    write.click()
    expect(page.get_by_role("region", name="Job's file")).to_be_visible()
    assert yaml.safe_load(shown(page, "Job's file"))["features"] == ["y", "x"]
    block = page.get_by_label("all, as one column of arrays")
    block.select_option("3")
    write.click()
    expect(page.get_by_text("takes 2")).to_be_visible()
    for number in ("1", "2"):
        page.get_by_label(f"{number} double", exact=True).select_option("")
    write.click()
    expect(page.get_by_role("region", name="Job's file")).to_be_visible()
    assert yaml.safe_load(shown(page, "Job's file"))["features"] == ["block"]


def test_a_table_of_thousands_of_columns_is_mapped(
    applying: Callable[..., Page], version: str
) -> None:
    name = version[:-2]
    signature = signed(*(ColSpec("double", f"feature_{n}") for n in range(300)))
    register(f"{name}-wide", delay_model(), signature=signature, metrics={"rmse": 1.0})
    columns = [column("id", "long"), *(column(f"Feature{n}") for n in range(1, 5000))]
    write_log(table_named(name), columns)
    page = applying(f"{name}-wide", name)
    expect(page.get_by_text("Choose a column for one feature and the key.")).to_be_visible()
    first = page.get_by_label("feature_0 double")
    first.focus()
    assert page.locator("#feature-0 option").count() == 5000  # and one for no column
    assert page.locator("#feature-1 option").count() == 2
    first.select_option("4999")
    page.get_by_label("Key column 1").focus()
    page.get_by_label("Key column 1").select_option("0")
    page.get_by_role("button", name="Write the texts").click()
    expect(page.get_by_role("region", name="Job's file")).to_be_visible()
    job = yaml.safe_load(shown(page, "Job's file"))
    expected = {f"feature_{n}": f"Feature{n}" for n in range(1, 300)}
    assert job["columns"] == {"feature_0": "Feature4999"} | expected


def write_texts(page: Page, name: str) -> None:
    """Apply version 1 in the page, from the table to the texts, with a line that is open."""
    make_table(table_named(name), [], "id int, dep_delay double, miles double", mode="overwrite")
    opened(page)
    page.get_by_role("button", name="Apply this version").click()
    page.get_by_label("Input table").fill(f"tables/{name}")
    page.get_by_label("Output table").fill("tables/predictions")
    page.get_by_role("button", name="Look at the table").click()
    page.get_by_label("distance double").select_option("2")
    page.get_by_label("Key column 1").select_option("0")
    page.get_by_role("button", name="Write the texts").click()
    page.get_by_role("region", name="SQL").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_where_things_are_edited(
    opening: Callable[..., Page], violations: Violations, version: str, scheme: str
) -> None:
    page = opening(color_scheme=scheme, bypass_csp=True)
    page.get_by_role("button", name=f"Edit {NAME}").wait_for()
    assert violations(page, 10) == []
    page.get_by_role("button", name="Create a model").click()
    assert violations(page, 10) == []
    page.goto(page.url + f"models/{version[:-2]}")
    opened(page)
    assert violations(page, 10) == []
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Register a version").click()
    page.get_by_label("Description").wait_for()
    assert violations(page, 10) == []
    page.get_by_role("button", name="Close").click()
    write_texts(page, version[:-2])
    assert violations(page, 10) == []


def test_a_phone_shows_all_of_it(opening: Callable[..., Page], version: str) -> None:
    wide = "document.documentElement.scrollWidth > innerWidth"
    page = opening(viewport={"width": 390, "height": 844})
    page.get_by_role("button", name="Create a model").wait_for()
    assert not page.evaluate(wide)
    page.goto(page.url + f"models/{version[:-2]}")
    opened(page)
    assert not page.evaluate(wide)
    fits = (
        "[...document.querySelectorAll('dialog')]"
        ".every(({ scrollWidth, clientWidth }) => scrollWidth <= clientWidth)"
    )
    assert page.evaluate(fits)
    page.get_by_role("button", name="Close").click()
    write_texts(page, version[:-2])
    assert not page.evaluate(wide)
    assert page.evaluate(fits)
