"""Store the ledger: its entries are written once and never changed.

Only one write of MLflow never overwrites: a run's parameter. The primary key of the database
refuses a second value for a key. So each registered model has a run, its journal, and each entry
is a parameter of this run. One root run names the journals of all models, by a parameter each. A
tag of an experiment names the root run. The experiment belongs to lakescore, and its name is
unique in the database. So at each step, the first writer decides. The ledger needs only the
tracking store, embedded or shared, and no server.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lakescore.registry.errors import LedgerLost
from lakescore.registry.store import artifact_location

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import Run

EXPERIMENT = "lakescore-ledger"
_ROOT = "lakescore.ledger.root"
_RUNS_PER_SEARCH = 100


@dataclass(frozen=True)
class Entry:
    """One entry of a journal."""

    number: int
    facts: Mapping[str, Any]
    done: bool
    """Whether any process called `finish` for the entry."""


class Journal:
    """The entries about one registered model; they outlive the model."""

    def __init__(self, client: MlflowClient, name: str, run_id: str) -> None:
        self._client, self._name, self._run_id = client, name, run_id

    @classmethod
    def find(cls, client: MlflowClient, name: str) -> Self | None:
        """Return the journal of *name*; None if it does not exist yet.

        Raises:
            LedgerLost: someone deleted the root with MLflow's own tools.
        """
        root = _root(client)
        run_id = _params(client, root, name).get(_key(name)) if root else None
        return cls(client, name, run_id) if run_id else None

    @classmethod
    def digests(
        cls, client: MlflowClient, versions: Collection[tuple[str, int, datetime]]
    ) -> dict[tuple[str, int], str]:
        """Return the recorded digests of *versions*, by name and number.

        It makes one request per hundred journals.

        Args:
            client: the client of the store.
            versions: names, numbers, and times of creation, as for `digest`.

        Raises:
            LedgerLost: someone deleted the root, or one of the journals, with MLflow's own tools.
        """
        if (root := _root(client)) is None:
            return {}
        journals = _params(client, root, "books")
        run_ids = {name: journals[_key(name)] for name, _, _ in versions if _key(name) in journals}
        params = _all_params(client, root, run_ids)
        texts = {
            (name, version): params.get(name, {}).get(_digest_key(version, created_at))
            for name, version, created_at in versions
        }
        return {key: str(json.loads(text)["digest"]) for key, text in texts.items() if text}

    @classmethod
    def opened(cls, client: MlflowClient, name: str) -> Self:
        """Return the journal of *name*; create it if it does not exist.

        Raises:
            LedgerLost: someone deleted the root with MLflow's own tools.
        """
        if journal := cls.find(client, name):
            return journal
        root = _root(client) or _create_ledger(client)
        experiment_id = client.get_run(root).info.experiment_id
        run_id = _new_run(client, experiment_id, name)
        if not _write_once(client, root, _key(name), run_id):
            client.delete_run(run_id)
            run_id = _params(client, root, name)[_key(name)]
        return cls(client, name, run_id)

    def entries(self) -> list[Entry]:
        """Return the present entries in their order.

        Raises:
            LedgerLost: someone deleted the journal with MLflow's own tools.
        """
        params = _params(self._client, self._run_id, self._name)
        numbers = sorted(int(key) for key in params if key.isdigit())
        return [Entry(n, json.loads(params[f"{n:06}"]), _done_key(n) in params) for n in numbers]

    def write(self, number: int, facts: Mapping[str, Any]) -> bool:
        """Write *facts* as entry *number*, and return whether the number was free.

        If it was not, nothing changes.

        Args:
            number: the number of the last entry, plus one.
            facts: plain JSON values, at most 6,000 characters as JSON.
        """
        # The id makes equal entries of two processes differ, so that the store refuses one of them.
        text = json.dumps({**facts, "id": uuid.uuid4().hex}, ensure_ascii=False)
        return _write_once(self._client, self._run_id, f"{number:06}", text)

    def finish(self, number: int, facts: Mapping[str, Any]) -> None:
        """Record that entry *number* was carried out; only the first such record is kept."""
        _write_once(self._client, self._run_id, _done_key(number), json.dumps(facts))

    def digest(self, version: int, created_at: datetime) -> str | None:
        """Return the recorded digest of a version; None if there is no record.

        Args:
            version: the number of the version.
            created_at: the time of creation in the registry. If a model was deleted and created
                again, its versions start again at 1; the records of the old ones do not count.
        """
        params = _params(self._client, self._run_id, self._name)
        text = params.get(_digest_key(version, created_at))
        return None if text is None else str(json.loads(text)["digest"])

    def record_digest(self, version: int, created_at: datetime, facts: Mapping[str, Any]) -> bool:
        """Record *facts*, with `digest`, of a version; return whether this is its first record.

        Args:
            version: the number of the version.
            created_at: the time of creation in the registry.
            facts: plain JSON values.
        """
        key = _digest_key(version, created_at)
        return _write_once(self._client, self._run_id, key, json.dumps(facts))


def _digest_key(version: int, created_at: datetime) -> str:
    return f"digest.{version}.{round(created_at.timestamp() * 1000)}"


def _done_key(number: int) -> str:
    return f"{number:06}.done"


def _root(client: MlflowClient) -> str | None:
    """Return the id of the run that names each model's journal; None if there is no ledger."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return None
    if experiment.lifecycle_stage != "active" or _ROOT not in experiment.tags:
        raise LedgerLost(EXPERIMENT, f"mlflow experiments restore -x {experiment.experiment_id}")
    return str(experiment.tags[_ROOT])


def _create_ledger(client: MlflowClient) -> str:
    """Create the ledger: if two processes do so at once, only one can rename its experiment."""
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
    client.update_run(run_id, "FINISHED")  # MLflow still accepts parameters
    return run_id


def _params(client: MlflowClient, run_id: str, name: str) -> dict[str, str]:
    return _active_params(client.get_run(run_id), name)


def _all_params(
    client: MlflowClient, root: str, run_ids: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the parameters of several runs by model name: one request per hundred runs."""
    from mlflow.entities import ViewType  # noqa: PLC0415

    if not run_ids:
        return {}
    experiment_id = client.get_run(root).info.experiment_id
    runs, ids = {}, sorted(run_ids.values())
    for start in range(0, len(ids), _RUNS_PER_SEARCH):
        quoted = ", ".join(f"'{run_id}'" for run_id in ids[start : start + _RUNS_PER_SEARCH])
        for run in client.search_runs(
            [experiment_id],
            f"attributes.run_id IN ({quoted})",
            ViewType.ALL,
            max_results=_RUNS_PER_SEARCH,
        ):
            runs[run.info.run_id] = run
    missing = [name for name, run_id in run_ids.items() if run_id not in runs]
    others = {name: _params(client, run_ids[name], name) for name in missing}
    searched = {name: _active_params(runs[i], name) for name, i in run_ids.items() if i in runs}
    return others | searched


def _active_params(run: Run, name: str) -> dict[str, str]:
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
    """Return the key of a model's journal: a key allows fewer characters than a name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
