"""Whatever happens in whatever order, the tables hold what a small model of them says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lakescore import lineage, session, tables
from lakescore.publishing.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.lab import Lab, Row

VERSIONS = st.sampled_from([1, 2])
SLICES = st.sampled_from(["a", "b"])
WRITES = st.sampled_from(["direct", "spark"])
RUNNERS = st.sampled_from(["auto", "spark"])  # auto begins without Spark here
MODES = st.sampled_from(["replace", "append"])
MOMENTS: dict[str, tuple[Any, str, bool]] = {
    "before the write": (tables, "begin", False),
    "before the quarantine": (Output, "_check_counts", False),
    "before the commit": (Output, "_check_counts", True),
    "before the receipt": (lineage, "log_run", False),
}
"""What is called at a moment, and whether it is done by then."""

Made = tuple[str, int, int]
"""A run: its write mode, its version, and how often the input was written before it."""


class Crashed(BaseException):
    """Ends a run there and then: no code of ours catches it."""


def crashing(original: Callable[..., Any], *, done: bool) -> Callable[..., None]:
    def called(*args: Any, **more: Any) -> None:
        if done:
            original(*args, **more)
        raise Crashed

    return called


class Machine(RuleBasedStateMachine):
    """Runs the job, and keeps in dicts what the tables must hold of each slice."""

    lab: ClassVar[Lab]
    examples: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        folder = type(self).lab.folder / f"example-{self.examples}"
        folder.mkdir()
        self.tables = replace(type(self).lab, folder=folder)
        self.input = {"a": {1: 1.0, 2: 2.0}, "b": {4: 4.0}}
        self.inputs = 0  # how often it was written
        self.predictions: dict[str, list[Row]] = {}
        self.quarantine: dict[str, list[tuple[int, str, int]]] = {}
        self.made_of: dict[str, list[Made]] = {"a": [], "b": []}
        self.set_aside_by: dict[str, Made] = {}
        self.write()

    def write(self) -> None:
        """Write the input as a new version of its table."""
        rows = [(key, part, x) for part, xs in self.input.items() for key, x in xs.items()]
        self.tables.write(rows)
        self.inputs += 1

    def stands(self, mode: str, version: int, part: str) -> bool:
        """Tell whether a slice is what the run would make of it, so that it does nothing."""
        made = (mode, version, self.inputs)
        if mode == "append":
            return made in self.made_of[part]
        bad = any(x < 0 for x in self.input[part].values())
        whole = not bad or self.set_aside_by.get(part) == made
        return whole and self.made_of[part] == [made]

    def note(self, mode: str, version: int, part: str, *, published: bool) -> None:
        """Note what a run of a slice does that sets rows aside, and perhaps publishes the rest."""
        made, rows = (mode, version, self.inputs), self.input[part].items()
        self.quarantine[part] = [(key, part, version) for key, x in rows if x < 0]
        self.set_aside_by[part] = made
        if published:
            good = [(key, part, version, (version + 1) * x) for key, x in rows if x >= 0]
            beside = mode == "append"
            self.predictions[part] = [*(self.predictions.get(part, []) if beside else []), *good]
            self.made_of[part] = [*(self.made_of[part] if beside else []), made]

    @rule(mode=MODES, version=VERSIONS, part=SLICES, write=WRITES, runner=RUNNERS)
    def run(self, mode: str, version: int, part: str, write: str, runner: str) -> None:
        """Run to the end: a rerun of what stands there writes nothing."""
        known = self.stands(mode, version, part)
        before = self.tables.commits()
        how = {"write_mode": mode, "write": write, "max_errors": 9, "runner": runner}
        ended = self.tables.run(model=f"obedient/{version}", slices=[part], **how)
        assert (ended.code, ended.status) == (0, "unchanged" if known else "scored")
        assert (self.tables.commits() == before) == known
        if not known:
            self.note(mode, version, part, published=True)

    @rule(version=VERSIONS, runner=RUNNERS)
    def run_what_is_due(self, version: int, runner: str) -> None:
        """Run the slices that do not stand there, found by the job itself, and these alone."""
        due = [part for part in self.input if not self.stands("replace", version, part)]
        before = self.tables.commits()
        ended = self.tables.run(
            model=f"obedient/{version}", slices="due", max_errors=9, runner=runner
        )
        statuses = {entry["slice"]: entry["status"] for entry in ended.receipt["slices"]}
        assert statuses == {p: "scored" if p in due else "unchanged" for p in self.input}
        assert len(self.tables.commits()) == max(len(before), 1 if due else 0) + bool(due)
        for part in due:
            self.note("replace", version, part, published=True)

    @rule(
        mode=MODES,
        version=VERSIONS,
        part=SLICES,
        write=WRITES,
        moment=st.sampled_from(list(MOMENTS)),
        runner=RUNNERS,
    )
    def crash(  # noqa: PLR0913, PLR0917 - all that a run may be
        self, mode: str, version: int, part: str, write: str, moment: str, runner: str
    ) -> None:
        """Run until a moment, and end there."""
        if self.stands(mode, version, part):
            return  # such a run does nothing, and comes to none of the moments
        owner, name, done = MOMENTS[moment]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, crashing(getattr(owner, name), done=done))
            how = {"write_mode": mode, "write": write, "max_errors": 9, "runner": runner}
            with pytest.raises(Crashed):
                self.tables.run(model=f"obedient/{version}", slices=[part], **how)
        if moment in {"before the commit", "before the receipt"}:
            self.note(mode, version, part, published=moment == "before the receipt")

    @rule(key=st.sampled_from([1, 3]), x=st.sampled_from([5.0, -1.0]))
    def new_data(self, key: int, x: float) -> None:
        """Add a row or change it; the model refuses negative numbers."""
        self.input["a"][key] = x
        self.write()

    @invariant()
    def the_tables_hold_what_is_noted(self) -> None:
        """Read all rows back."""
        noted = sorted(row for rows in self.predictions.values() for row in rows)
        assert self.tables.rows() == noted
        aside = sorted(row for rows in self.quarantine.values() for row in rows)
        assert self.tables.quarantined() == aside


def test_any_sequence_of_runs_crashes_and_changes_leaves_what_a_model_of_it_says(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_is_running", lambda: False)  # the tests' own session
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type("Here", (Machine,), {"lab": lab}),
        settings=settings(
            max_examples=4,
            stateful_step_count=6,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
