"""Edits that say what their reader saw, and the logged models that could be registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders.models import register

from lakescore import registry
from lakescore.registry.errors import BadName, EditedMeanwhile

if TYPE_CHECKING:
    from conftest import Store

WIKI = "see http://ann:secret@wiki.example/x"


@pytest.mark.usefixtures("store")
def test_a_tag_is_set_only_where_it_is_what_the_reader_saw(name: str) -> None:
    register(name, run_name="one", tags={"team": "ops"})
    with pytest.raises(EditedMeanwhile, match=r"is 'ops' now, but 'crew' was expected"):
        registry.tag(f"{name}/1", {"team": "new", "more": "x"}, expect={"team": "crew"})
    with pytest.raises(EditedMeanwhile, match=r"is 'ops' now, but no value was expected"):
        registry.tag(f"{name}/1", {"team": "new"}, expect={"team": None})
    assert registry.describe(f"{name}/1").tags == {"team": "ops"}
    registry.tag(f"{name}/1", {"team": "new", "more": "x"}, expect={"team": "ops", "more": None})
    assert registry.describe(f"{name}/1").tags == {"team": "new", "more": "x"}


@pytest.mark.usefixtures("store")
def test_a_tag_is_removed_only_where_it_is_what_the_reader_saw(name: str) -> None:
    registry.create(name, tags={"team": "ops"})
    with pytest.raises(EditedMeanwhile, match=r"is 'ops' now"):
        registry.untag(name, ["team"], of_model=True, expect={"team": "crew"})
    assert registry.untag(name, ["team"], of_model=True, expect={"team": "ops"}).tags == {}


@pytest.mark.usefixtures("store")
def test_what_a_reader_saw_is_without_credentials(name: str) -> None:
    register(name, run_name="one", tags={"wiki": WIKI})
    seen = registry.describe(f"{name}/1").facts()["tags"]["wiki"]
    assert "secret" not in seen
    registry.tag(f"{name}/1", {"wiki": "none"}, expect={"wiki": seen})
    assert registry.describe(f"{name}/1").tags == {"wiki": "none"}


@pytest.mark.usefixtures("store")
def test_a_description_is_changed_and_removed_unless_another_one_did(name: str) -> None:
    register(name, run_name="one")
    for reference, of_model in ((f"{name}/1", False), (name, True)):
        described = registry.describe_as(reference, "two\nlines", of_model=of_model, expect="")
        assert described.description == "two\nlines"
        with pytest.raises(EditedMeanwhile, match=r"is 'two lines' now|is 'two\\nlines' now"):
            registry.describe_as(reference, "mine", of_model=of_model, expect="")
    assert registry.describe(f"{name}/1").description == "two\nlines"
    assert registry.describe_as(f"{name}/1", "").description is None
    assert registry.describe(f"{name}/1").description is None
    assert registry.models(name)[0].description == "two\nlines"


@pytest.mark.parametrize("description", ["a\x1b[31m", "x" * 5001, "\u202edetrever"])
@pytest.mark.usefixtures("store")
def test_a_description_that_could_not_be_read_is_refused(name: str, description: str) -> None:
    with pytest.raises(BadName, match="as a description"):
        registry.create(name, description=description)


def test_logged_models_are_listed_newest_first_with_what_they_became(
    store: Store, name: str
) -> None:
    made = [register(name, run_name=f"run {number}") for number in (1, 2)]
    failed = store.client.create_logged_model(
        store.client.get_run(made[0].run_id).info.experiment_id, name="unfinished"
    )
    listed = registry.logged_models(limit=10)
    assert [model.run_name for model in listed][:2] == ["run 2", "run 1"]
    assert listed[0].facts() | {"created_at": ""} == {
        "logged_model_id": made[1].source.removeprefix("models:/"),
        "name": "model",
        "run_id": made[1].run_id,
        "run_name": "run 2",
        "experiment": "flight-delay",
        "created_at": "",
        "registered": [f"{name}/2"],
    }
    assert failed.model_id not in {model.logged_model_id for model in listed}
