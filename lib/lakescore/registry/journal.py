"""Where the ledger is kept: entries that are written once and never changed.

MLflow's one write that never overwrites is a run's parameter: a second value for a key is refused
by the database's primary key. So each registered model has a run, its book, and each entry is one
of its parameters. Which run that is stands in a parameter of one root run, named by a tag of an
experiment of our own, whose name is unique in the database: at each step the first one decides.
It needs nothing but the tracking store, embedded or shared, and no server of ours.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lakescore.errors import LedgerLost
from lakescore.registry.store import artifact_location

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import Run

EXPERIMENT = "lakescore-ledger"
_ROOT = "lakescore.ledger.root"
_IN_A_SEARCH = 100


@dataclass(frozen=True)
class Entry:
    """One entry of a book."""

    number: int
    facts: Mapping[str, Any]
    done: bool
    """Whether `finish` was called for it, by whatever process."""


class Journal:
    """The entries about one registered model; it outlives the model."""

    def __init__(self, client: MlflowClient, name: str, run_id: str) -> None:
        self._client, self._name, self._run_id = client, name, run_id

    @classmethod
    def found(cls, client: MlflowClient, name: str) -> Self | None:
        """Return the book of *name*, if it was ever begun.

        Raises:
            LedgerLost: the root was deleted with MLflow's own tools.
        """
        root = _root(client)
        run_id = _params(client, root, name).get(_key(name)) if root else None
        return cls(client, name, run_id) if run_id else None

    @classmethod
    def digests(
        cls, client: MlflowClient, versions: Collection[tuple[str, int, datetime]]
    ) -> dict[tuple[str, int], str]:
        """Return the recorded digests of *versions*, by name and number: a request a hundred books.

        Args:
            client: the store's.
            versions: names, numbers, and when they were made, as for `digest`.

        Raises:
            LedgerLost: the root, or one of the books, was deleted with MLflow's own tools.
        """
        if (root := _root(client)) is None:
            return {}
        books = _params(client, root, "books")
        run_ids = {name: books[_key(name)] for name, _, _ in versions if _key(name) in books}
        params = _all_params(client, root, run_ids)
        found = {
            (name, version): params.get(name, {}).get(_of_digest(version, created_at))
            for name, version, created_at in versions
        }
        return {key: str(json.loads(text)["digest"]) for key, text in found.items() if text}

    @classmethod
    def opened(cls, client: MlflowClient, name: str) -> Self:
        """Return the book of *name*, begun if need be.

        Raises:
            LedgerLost: the root was deleted with MLflow's own tools.
        """
        if journal := cls.found(client, name):
            return journal
        root = _root(client) or _begin(client)
        place = client.get_run(root).info.experiment_id
        run_id = _new_run(client, place, name)
        if not _write_once(client, root, _key(name), run_id):
            client.delete_run(run_id)
            run_id = _params(client, root, name)[_key(name)]
        return cls(client, name, run_id)

    def entries(self) -> list[Entry]:
        """Return the entries as they are now, in their order.

        Raises:
            LedgerLost: the book was deleted with MLflow's own tools.
        """
        params = _params(self._client, self._run_id, self._name)
        numbers = sorted(int(key) for key in params if key.isdigit())
        return [Entry(n, json.loads(params[f"{n:06}"]), _done(n) in params) for n in numbers]

    def write(self, number: int, facts: Mapping[str, Any]) -> bool:
        """Write *facts* as entry *number*, and tell whether it was free: if not, nothing changed.

        Args:
            number: that of the last entry, plus one.
            facts: plain JSON values, at most 6,000 characters as JSON.
        """
        # The id makes two equal entries of two processes differ: one of them must be refused.
        text = json.dumps({**facts, "id": uuid.uuid4().hex}, ensure_ascii=False)
        return _write_once(self._client, self._run_id, f"{number:06}", text)

    def finish(self, number: int, facts: Mapping[str, Any]) -> None:
        """Note that what entry *number* says was carried out; the first one to say so is kept."""
        _write_once(self._client, self._run_id, _done(number), json.dumps(facts))

    def digest(self, version: int, created_at: datetime) -> str | None:
        """Return the digest that was recorded of a version, if any.

        Args:
            version: its number.
            created_at: as the registry says. A model that was deleted and made again counts its
                versions anew; what was recorded of the old ones does not speak for them.
        """
        params = _params(self._client, self._run_id, self._name)
        text = params.get(_of_digest(version, created_at))
        return None if text is None else str(json.loads(text)["digest"])

    def record_digest(self, version: int, created_at: datetime, facts: Mapping[str, Any]) -> bool:
        """Record *facts*, `digest` among them, of a version, and tell whether none were before.

        Args:
            version: its number.
            created_at: as the registry says.
            facts: plain JSON values.
        """
        key = _of_digest(version, created_at)
        return _write_once(self._client, self._run_id, key, json.dumps(facts))


def _of_digest(version: int, created_at: datetime) -> str:
    return f"digest.{version}.{round(created_at.timestamp() * 1000)}"


def _done(number: int) -> str:
    return f"{number:06}.done"


def _root(client: MlflowClient) -> str | None:
    """Return the id of the run that names each model's book, if there is one."""
    place = client.get_experiment_by_name(EXPERIMENT)
    if place is None:
        return None
    if place.lifecycle_stage != "active" or _ROOT not in place.tags:
        raise LedgerLost(EXPERIMENT, f"mlflow experiments restore -x {place.experiment_id}")
    return str(place.tags[_ROOT])


def _begin(client: MlflowClient) -> str:
    """Begin the ledger: of two that begin at once, only one can rename its experiment so."""
    from mlflow import MlflowException  # noqa: PLC0415

    draft = client.create_experiment(f"{EXPERIMENT}-{uuid.uuid4().hex}", artifact_location())
    client.set_experiment_tag(draft, _ROOT, _new_run(client, draft, "books"))
    try:
        client.rename_experiment(draft, EXPERIMENT)
    except MlflowException:
        client.delete_experiment(draft)
        if client.get_experiment_by_name(EXPERIMENT) is None:
            raise
    return str(_root(client))


def _new_run(client: MlflowClient, experiment_id: str, name: str) -> str:
    run_id = str(client.create_run(experiment_id, run_name=name).info.run_id)
    client.update_run(run_id, "FINISHED")  # parameters can be added all the same
    return run_id


def _params(client: MlflowClient, run_id: str, name: str) -> dict[str, str]:
    return _params_of(client.get_run(run_id), name)


def _all_params(
    client: MlflowClient, root: str, run_ids: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return what `_params` does of several runs, by their names: a request a hundred runs."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    if not run_ids:
        return {}
    place = client.get_run(root).info.experiment_id
    found, ids = {}, sorted(run_ids.values())
    for start in range(0, len(ids), _IN_A_SEARCH):
        asked = ", ".join(f"'{each}'" for each in ids[start : start + _IN_A_SEARCH])
        for run in client.search_runs(
            [place], f"attributes.run_id IN ({asked})", ViewType.ALL, max_results=_IN_A_SEARCH
        ):
            found[run.info.run_id] = run
    missing = [name for name, run_id in run_ids.items() if run_id not in found]
    others = {name: _params(client, run_ids[name], name) for name in missing}
    read = {name: _params_of(found[i], name) for name, i in run_ids.items() if i in found}
    return others | read


def _params_of(run: Run, name: str) -> dict[str, str]:
    if run.info.lifecycle_stage != "active":
        raise LedgerLost(name, f"mlflow runs restore --run-id {run.info.run_id}")
    return dict(run.data.params)


def _write_once(client: MlflowClient, run_id: str, key: str, value: str) -> bool:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        client.log_param(run_id, key, value)
    except MlflowException:
        if client.get_run(run_id).data.params.get(key) in (None, value):
            raise
        return False
    return True


def _key(name: str) -> str:
    """Return the key of a model's book: names hold more than keys may."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
