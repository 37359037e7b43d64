from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from builders.models import register

from lakescore.registry import history, moving, promote, rollback, withdraw
from lakescore.registry.errors import (
    AliasMoved,
    AliasMoving,
    AliasNotFound,
    BadName,
    LedgerLost,
    NothingToRollBack,
    RunNotFound,
    VersionDeleted,
)

if TYPE_CHECKING:
    from conftest import Store


@pytest.fixture
def four(store: Store, name: str) -> str:
    """Register four versions of a model of this test's own, and return its name."""
    store.client.create_registered_model(name)
    if not store.client.search_model_versions("name = 'template'"):
        register("template", run_name="template")
    template = store.client.get_model_version("template", "1")
    model_id = template.source.removeprefix("models:/")
    for _ in range(4):
        store.client.create_model_version(name, template.source, model_id=model_id)
    return name


def moves(name: str) -> list[tuple[str, int | None, int | None, str]]:
    return [(move.alias, move.origin, move.target, move.kind) for move in history(name)]


def alias(store: Store, name: str, alias: str = "champion") -> int | None:
    version = store.client.get_registered_model(name).aliases.get(alias)
    return None if version is None else int(version)


def test_a_promotion_moves_the_alias_and_says_who_when_and_why(store: Store, four: str) -> None:
    with_run = store.client.create_run(store.client.search_experiments()[0].experiment_id)
    before = datetime.now(UTC)
    outcome = promote(
        f"{four}/2", to="champion", reason="rmse 12 < 13", evidence=with_run.info.run_id
    )
    assert outcome.facts() == {
        "status": "moved",
        "name": four,
        "alias": "champion",
        "from": None,
        "to": 2,
        "number": 1,
    }
    assert alias(store, four) == 2
    (move,) = history(four)
    assert before <= move.when <= datetime.now(UTC)
    assert (move.reason, move.evidence, move.done) == ("rmse 12 < 13", with_run.info.run_id, True)
    assert move.by is not None
    assert "@" in move.by


def test_promoting_again_changes_nothing(four: str) -> None:
    promote(f"{four}/2", to="champion")
    again = promote(f"{four}@champion", to="champion", expect=1)
    assert (again.status, again.number) == ("unchanged", None)
    assert len(history(four)) == 1


def test_an_alias_that_is_not_where_it_was_expected_is_not_moved(store: Store, four: str) -> None:
    promote(f"{four}/1", to="champion", expect=0)
    promote(f"{four}/2", to="champion", expect=1)
    with pytest.raises(
        AliasMoved, match="points at version 2, but version 1 was expected"
    ) as refused:
        promote(f"{four}/3", to="champion", expect=1)
    assert refused.value.exit_code == 7
    with pytest.raises(AliasMoved, match="points at version 2, but no version was expected"):
        promote(f"{four}/3", to="champion", expect=0)
    assert alias(store, four) == 2
    assert len(history(four)) == 2


def test_rolling_back_walks_back_the_way_that_was_promoted(store: Store, four: str) -> None:
    for version in (1, 2, 3):
        promote(f"{four}/{version}", to="champion")
    assert rollback(four, alias="champion", reason="late").target == 2
    promote(f"{four}/4", to="champion")
    assert [rollback(four, alias="champion").target for _ in range(2)] == [2, 1]
    with pytest.raises(NothingToRollBack, match="no earlier version is known"):
        rollback(four, alias="champion")
    assert alias(store, four) == 1
    assert [move.kind for move in history(four)] == [
        *("promote", "promote", "promote", "rollback", "promote", "rollback", "rollback")
    ]


def test_an_alias_is_taken_away_and_brought_back(store: Store, four: str) -> None:
    for version in (1, 2):
        promote(f"{four}/{version}", to="champion")
    with pytest.raises(AliasMoved, match="points at version 2, but version 1 was expected"):
        withdraw(four, alias="champion", expect=1)
    assert withdraw(four, alias="champion", expect=2, reason="unfit").facts() == {
        "status": "moved",
        "name": four,
        "alias": "champion",
        "from": 2,
        "to": None,
        "number": 3,
    }
    assert alias(store, four) is None
    assert moves(four)[-1] == ("champion", 2, None, "withdraw")
    assert withdraw(four, alias="champion").status == "unchanged"
    assert rollback(four, alias="champion", expect=0).target == 2
    assert alias(store, four) == 2
    assert rollback(four, alias="champion").target == 1


def test_an_alias_that_never_was_is_not_taken_away(four: str) -> None:
    promote(f"{four}/1", to="champion")
    with pytest.raises(AliasNotFound, match=r"did you mean 'champion'"):
        withdraw(four, alias="chmpion")
    assert [move.alias for move in history(four)] == ["champion"]


def test_rolling_back_passes_over_versions_that_were_deleted(store: Store, four: str) -> None:
    for version in (1, 2, 3):
        promote(f"{four}/{version}", to="champion")
    store.client.delete_model_version(four, "2")
    assert rollback(four, alias="champion", expect=3).target == 1


def test_a_deleted_version_takes_its_alias_along_and_the_history_says_so(
    store: Store, four: str
) -> None:
    promote(f"{four}/1", to="champion")
    promote(f"{four}/2", to="champion")
    store.client.delete_model_version(four, "2")
    assert alias(store, four) is None
    assert moves(four)[-1] == ("champion", 2, None, "outside")
    with pytest.raises(VersionDeleted):
        promote(f"{four}/2", to="champion")
    assert rollback(four, alias="champion").target == 1


def test_what_other_tools_moved_is_shown_as_from_outside(store: Store, four: str) -> None:
    store.client.set_registered_model_alias(four, "champion", "1")
    promote(f"{four}/2", to="champion")
    store.client.set_registered_model_alias(four, "champion", "4")
    assert moves(four) == [
        ("champion", None, 1, "outside"),
        ("champion", 1, 2, "promote"),
        ("champion", 2, 4, "outside"),
    ]
    promote(f"{four}/3", to="champion", expect=4)
    assert moves(four)[-2:] == [("champion", 2, 4, "outside"), ("champion", 4, 3, "promote")]
    assert rollback(four, alias="champion").target == 4


def test_the_history_knows_where_an_alias_pointed_at_any_time(four: str) -> None:
    times = []
    for version in (1, 3):
        times.append(datetime.now(UTC))
        promote(f"{four}/{version}", to="champion")
    promote(f"{four}/4", to="challenger")
    known = history(four)
    assert known.at(times[0]) == {}
    assert known.at(times[1]) == {"champion": 1}
    assert known.at(datetime.now(UTC)) == {"champion": 3, "challenger": 4}
    assert history(four, alias="challenger").at(datetime.now(UTC)) == {"challenger": 4}


def test_the_history_outlives_its_model(store: Store, four: str) -> None:
    promote(f"{four}/1", to="champion")
    store.client.delete_registered_model(four)
    assert moves(four) == [
        ("champion", None, 1, "promote"),
        ("champion", 1, None, "outside"),
    ]


def test_a_promotion_of_what_is_not_there_writes_nothing(four: str) -> None:
    with pytest.raises(RunNotFound, match="no run 'nobody'"):
        promote(f"{four}/1", to="champion", evidence="nobody")
    for reserved in ("latest", "v3", "cham pion", "champion\n", "../x", ""):
        with pytest.raises(BadName):
            promote(f"{four}/1", to=reserved)
    assert moves(four) == []


RIVAL = """
import itertools, json, sys
from lakescore.registry.errors import AliasMoved, RegistryUnavailable
from lakescore.registry import promote, connect
connect()
print('ready', flush=True); sys.stdin.readline()
won = []
for tried, version in enumerate(itertools.cycle({versions})):
    if tried >= 8 and won:
        break
    try:
        outcome = promote({name!r} + '/' + str(version), to='champion')
    except (AliasMoved, RegistryUnavailable) as error:
        continue
    if outcome.status == 'moved':
        won.append(outcome.number)
print(json.dumps(won))
"""


def test_two_who_promote_at_once_never_overwrite_each_other_silently(
    store: Store, four: str
) -> None:
    """Two processes begin the ledger of this model together, until both have moved it."""
    rivals = [
        store.start(RIVAL.replace("{versions}", versions).replace("{name!r}", repr(four)))
        for versions in ("[1, 2]", "[3, 4]")
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n", rival.communicate()[1]
    answers = [rival.communicate("go\n", timeout=120) for rival in rivals]
    won = [json.loads(out) if out else pytest.fail(errors) for out, errors in answers]
    known = history(four)
    assert sorted(number for numbers in won for number in numbers) == [
        move.number for move in known
    ]
    assert [move.number for move in known] == list(range(1, len(known) + 1))
    assert [move.origin for move in known] == [None, *(move.target for move in known[:-1])]
    assert alias(store, four) == known[-1].target
    assert all(move.done for move in known)


DIES = """
import os, signal
from lakescore.registry import promote, withdraw
from lakescore.registry.journal import Journal
import mlflow
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
{where} = die
{call}
"""
PROMOTES = "promote({name!r} + '/2', to='champion', reason='in vain')"
WITHDRAWS = "withdraw({name!r}, alias='champion')"


def killed(store: Store, name: str, where: str, call: str = PROMOTES) -> None:
    code = DIES.replace("{where}", where).replace("{call}", call)
    process = store.start(code.replace("{name!r}", repr(name)))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors


def test_a_process_killed_before_it_moved_the_alias_is_made_good(
    store: Store, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(f"{four}/1", to="champion")
    killed(store, four, "mlflow.MlflowClient.set_registered_model_alias")
    assert alias(store, four) == 1
    assert [(move.target, move.done) for move in history(four)] == [(1, True), (2, False)]
    with pytest.raises(AliasMoving, match=r"began to move .* to version 2 \d+ s ago") as refused:
        promote(f"{four}/3", to="champion")  # for all it knows, that process still runs
    assert refused.value.exit_code == 7
    monkeypatch.setattr(moving, "_UNDER_WAY", timedelta(0))
    promote(f"{four}/3", to="champion", expect=2)
    assert [(move.origin, move.target, move.done) for move in history(four)] == [
        (None, 1, True),
        (1, 2, True),
        (2, 3, True),
    ]
    assert rollback(four, alias="champion").target == 2


def test_the_same_command_again_finishes_what_a_killed_one_began(store: Store, four: str) -> None:
    killed(store, four, "mlflow.MlflowClient.set_registered_model_alias")
    assert promote(f"{four}/2", to="champion", expect=0).status == "unchanged"
    assert alias(store, four) == 2
    assert [(move.target, move.done) for move in history(four)] == [(2, True)]


def test_the_same_withdrawal_again_finishes_what_a_killed_one_began(
    store: Store, four: str
) -> None:
    promote(f"{four}/1", to="champion")
    killed(store, four, "mlflow.MlflowClient.delete_registered_model_alias", WITHDRAWS)
    assert alias(store, four) == 1
    with pytest.raises(AliasMoving, match="to no version"):
        promote(f"{four}/2", to="champion")
    assert withdraw(four, alias="champion", expect=1).status == "unchanged"
    assert alias(store, four) is None


def test_a_process_killed_after_it_moved_the_alias_leaves_a_true_history(
    store: Store, four: str
) -> None:
    killed(store, four, "Journal.finish")
    assert alias(store, four) == 2
    assert moves(four) == [("champion", None, 2, "promote")]
    assert promote(f"{four}/2", to="champion").status == "unchanged"
    assert all(move.done for move in history(four))


def test_one_who_slept_gives_way_to_who_went_on(
    store: Store, four: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped just before it moved the alias undoes its late move."""
    monkeypatch.setattr(moving, "_UNDER_WAY", timedelta(0))
    code = """
import sys
from lakescore.registry import promote
import mlflow
move = mlflow.MlflowClient.set_registered_model_alias
def sleepy(*arguments):
    mlflow.MlflowClient.set_registered_model_alias = move
    print('asleep', flush=True); sys.stdin.readline()
    return move(*arguments)
mlflow.MlflowClient.set_registered_model_alias = sleepy
promote({name!r} + '/2', to='champion')
""".replace("{name!r}", repr(four))
    sleeper = store.start(code)
    assert sleeper.stdout is not None
    assert sleeper.stdout.readline() == "asleep\n"
    promote(f"{four}/3", to="champion")
    sleeper.communicate("wake\n", timeout=60)
    assert alias(store, four) == 3
    assert moves(four) == [("champion", None, 2, "promote"), ("champion", 2, 3, "promote")]


def test_a_ledger_that_was_deleted_says_how_to_restore_it(store: Store, four: str) -> None:
    promote(f"{four}/1", to="champion")
    place = store.client.get_experiment_by_name("lakescore-ledger")
    (journal,) = store.client.search_runs([place.experiment_id], f"run_name = '{four}'")
    store.client.delete_run(journal.info.run_id)
    with pytest.raises(LedgerLost, match=f"mlflow runs restore --run-id {journal.info.run_id}"):
        promote(f"{four}/2", to="champion")
    store.client.restore_run(journal.info.run_id)
    assert promote(f"{four}/2", to="champion", expect=1).number == 2
