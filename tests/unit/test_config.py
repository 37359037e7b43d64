from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from lakescore.config import JOBS, CompareJob, ScoreJob, TrustFile, load
from lakescore.errors import ConfigError
from lakescore.joblist import JobList
from lakescore.metrics import METRICS, find

if TYPE_CHECKING:
    from collections.abc import Iterator

CONF = Path(__file__).parents[2] / "conf"
VALID = """\
model: flight-delay@champion
input: {path: tables/departures}
output: {table: lake.predictions}
id_columns: [flight]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "score.yaml"
    path.write_text(VALID)
    return path


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(ScoreJob, path, overrides)
    assert refused.value.exit_code == 2
    assert str(refused.value).isprintable()  # so it is one line
    return str(refused.value)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_that_we_ship_is_valid(path: Path) -> None:
    kinds = JOBS | {"trust": TrustFile, "jobs": JobList}
    job = load(kinds[path.stem.partition("-")[0]], path)
    given = yaml.safe_load(path.read_text())
    assert given.keys() <= job.model_fields_set


def test_every_job_has_a_file_that_we_ship() -> None:
    assert {path.stem for path in CONF.glob("*.yaml")} >= JOBS.keys()


def test_a_file_becomes_the_job_that_it_describes(file: Path) -> None:
    job = load(ScoreJob, file)
    assert (job.model, job.id_columns, job.passthrough) == (
        "flight-delay@champion",
        ("flight",),
        "keys",
    )
    assert (job.input.path, job.input.table, job.input.version) == ("tables/departures", None, None)
    assert (job.output.path, job.output.table) == (None, "lake.predictions")
    assert (job.run_id, job.receipt, job.experiment) == (None, None, "lakescore")
    assert (job.slice_names, job.keep(["flight", "x"])) == (("all",), ("flight",))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "modle: a/1",
            "unknown key 'modle' (did you mean 'model'?); valid keys: scan, runner,",
        ),
        (
            "zebra: 1",
            "unknown key 'zebra'; valid keys: scan, runner, experiment, run_id, receipt,",
        ),
        ("Model: a/1", "unknown key 'Model' (did you mean 'model'?)"),
        ("model: b/1", "is not YAML: the key 'model' occurs twice"),  # YAML takes the last
        ("slice_by: date", "slice_by and slices go together: give both or neither"),
        ("slices: [a]", "slice_by and slices go together: give both or neither"),
        ("label: x", "unknown key 'label'"),  # of another job
        ("passthrough: origin", "passthrough: 'origin' is not none, keys, all or a list such as"),
        (
            "write_mode: merge\npassthrough: none",
            "passthrough: none writes no keys; give passthrough: k",
        ),
        (
            "write_mode: merge\non_duplicate_key: keep",
            "merge finds rows by their keys, so give on_d",
        ),
        ("experiment: ''", "experiment: String should have at least 1 character"),
        ("- a", "is not YAML: "),
        ("receipt: [", "is not YAML: "),
        ("receipt: !!python/object/apply:os.system [ls]", "receipt: Input is not a valid path"),
        ("receipt: " + "[" * 3000, "is not YAML: it is nested too deeply"),
        ("modle: a/1", "unknown key 'modle' (did you mean 'model'?)"),  # before: model is missing
        ("slices: []", "slices"),
        ("\x00", "is not YAML: unacceptable character"),
    ],
)
def test_a_wrong_line_is_refused_by_file_and_key(file: Path, line: str, sentence: str) -> None:
    file.write_text(VALID + line + "\n")
    message = refusal(file)
    assert message.startswith(str(file))
    assert sentence in message


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("{path: a, verison: 3}", "unknown key 'verison' in input (did you mean 'version'?)"),
        ("{path: a, verison: 3}", "valid keys: path, table, version"),
        ("{path: a, path: b}", "the key 'path' occurs twice"),
        ("{path: a, table: b}", "input: give either path or table"),
        ("{}", "input: give either path or table"),
        ("{version: 3}", "input: give either path or table"),
        ("{path: ''}", "input.path: String should have at least 1 character"),
        ("{path: a, version: -1}", "input.version: Input should be greater than or equal to 0"),
        ("{path: a, version: latest}", "input.version: Input should be a valid integer"),
        ("{path: a, version: 1.5}", "input.version: Input should be a valid integer"),
        ("a", "input: give {path: a}, or {table: name} for a table of a catalog"),
        ("[a]", "input: Input should be a valid dictionary"),
        ("{table: a.b.c.d}", "input.table: String should match pattern"),
        ("{table: ''}", "input.table: String should match pattern"),
        ("{table: 'parquet.`/etc`'}", "input.table: String should match pattern"),  # reads a file
        ("{table: 'a; drop table b'}", "input.table: String should match pattern"),
        ('{table: "a\\n"}', "input.table: String should match pattern"),
    ],
)
def test_a_wrong_table_is_refused_by_its_key(file: Path, table: str, sentence: str) -> None:
    file.write_text(VALID.replace("{path: tables/departures}", table))
    assert sentence in refusal(file)


@pytest.mark.parametrize("text", ["", "# a comment\n", "- model\n- input\n", "model\n", "3\n"])
def test_a_file_without_keys_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    assert refusal(file) == f"{file} must contain keys and values, as conf/score.yaml does"


def test_a_file_that_lacks_keys_names_the_first(file: Path) -> None:
    file.write_text("model: a/1\n")
    assert refusal(file) == f"{file}: input: Field required (and 2 more problems)"


def test_a_file_that_is_not_there_is_answered_with_those_that_are(file: Path) -> None:
    asked = file.with_name("scor.yaml")
    assert refusal(asked) == (
        f"there is no file {asked} (did you mean '{file}'?); there are: {file}"
    )
    assert refusal(file.parent / "none" / "x.yaml").endswith("; there are: none")


def test_what_cannot_be_read_as_text_is_refused(file: Path) -> None:
    assert refusal(file.parent).startswith(f"cannot read {file.parent}: ")
    file.write_bytes(b"\xff\xfe\xfa")
    assert refusal(file).startswith(f"cannot read {file}: ")
    file.write_text("# " + "x" * 1_000_000)
    assert refusal(file) == f"{file} has more than 1000000 bytes: not a job's file"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("model=flight-delay/3", "model", "flight-delay/3"),
        ("model=a?where=metrics.rmse < 12&order_by=version", "model", None),
        ("model=models:/flight-delay/3", "model", "models:/flight-delay/3"),
        ("model='flight delay/3'", "model", "'flight delay/3'"),  # the shell has taken its quotes
        ("experiment=nightly", "experiment", "nightly"),
        ("experiment=1.50", "experiment", "1.50"),  # as typed, not as YAML reads it
        ("id_columns=[carrier, flight]", "id_columns", ("carrier", "flight")),
        ("receipt=out/receipt.json", "receipt", Path("out/receipt.json")),
        ("run_id=nightly:2013-12-01+2", "run_id", "nightly:2013-12-01+2"),
    ],
)
def test_an_override_replaces_a_key(file: Path, override: str, key: str, value: Any) -> None:
    expected = override.partition("=")[2] if value is None else value
    assert getattr(load(ScoreJob, file, [override]), key) == expected


def test_overrides_reach_into_tables_and_the_last_one_wins(file: Path) -> None:
    job = load(ScoreJob, file, ["input.version=3", "input.version=4"])
    assert (job.input.path, job.input.version) == ("tables/departures", 4)


def test_an_output_that_names_what_is_written_is_told_the_key_that_does(file: Path) -> None:
    sentence = "output: 'proba' is not a table; the key prediction chooses what is written: give"
    assert f"{sentence} prediction: proba" in refusal(file, "output=proba")
    file.write_text(VALID.replace("{table: lake.predictions}", "proba"))
    assert sentence in refusal(file)
    assert load(ScoreJob, file, ["output={path: a}", "prediction=proba"]).prediction == "proba"


def test_options_of_a_model_are_texts_lists_and_mappings_of_them(file: Path) -> None:
    file.write_text(
        f"{VALID}pyfunc:\n  params: {{a: 010, b: [1, x], c: {{d: yes, e: [2]}}, f: ~}}\n"
    )
    given = {"a": "010", "b": ["1", "x"], "c": {"d": "yes", "e": ["2"]}, "f": None}
    assert load(ScoreJob, file).pyfunc.params == given
    assert load(ScoreJob, file).settings["pyfunc"]["params"] == given  # which a replay reads
    changed = load(ScoreJob, file, ["pyfunc.params.b=[3]", "pyfunc.params.c.d=no"])
    assert changed.pyfunc.params == {**given, "b": ["3"], "c": {"d": "no", "e": ["2"]}}


def test_a_path_replaces_a_name_and_the_other_way_round(file: Path) -> None:
    job = load(ScoreJob, file, ["input.table=lake.departures", "output.path=tables/out"])
    assert (job.input.path, job.input.table) == (None, "lake.departures")
    assert (job.output.path, job.output.table) == ("tables/out", None)
    assert "give either path or table" in refusal(file, "input={path: a, table: b}")


def test_overrides_leave_the_file_as_it_is(file: Path) -> None:
    load(ScoreJob, file, ["input.version=3", "model=a/1"])
    assert file.read_text() == VALID


@pytest.mark.parametrize("override", ["model", "=3", "", "a b=3", "-v=3", "input.=3", ".input=3"])
def test_what_is_not_key_and_value_is_no_override(file: Path, override: str) -> None:
    assert refusal(file, override) == (
        f"{override!r} is not an override; write key=value or input.version=3"
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("modle=a/1", "unknown key 'modle' (did you mean 'model'?)"),
        ("input.verison=3", "unknown key 'verison' in input (did you mean 'version'?)"),
        ("inputs.version=3", "unknown key 'inputs' (did you mean 'input'?)"),
        ("input.version=three", "input.version: Input should be a valid integer"),
        ("input.version.x=3", "input.version: Input should be a valid integer"),
        ("model=", "model: Input should be a valid string"),
        (
            "model={by: region, nam: 'd-{region}@c'}",
            "unknown key 'nam' in model (did you mean 'name'?",
        ),
        ("model={by: region, name: demand@c}", "model: name: put {region} into the model's"),
        ("model={by: region, name: 'd-{zone}@c'}", "model: name: put {region} into"),
        ("model={by: region, name: 'd-{region}-{zone}@c'}", "name: only {region} can stand in"),
        (
            "model={by: a, name: \"d-{a}?where=tags.a='{a}'\"}",
            "model: name: put {a} into the",
        ),
        ("model={by: a, name: 'd-{a}@c', missing: drop}", "is not fail, skip or {default: drop}"),
        ("model={by: a, name: 'd-{a}@c', missing: {defalt: d/1}}", "(did you mean 'default'?)"),
        ("model={by: a, name: 'd-{a}@c', missing: [x]}", "model.missing: Input should be a valid"),
        ("model={by: a, name: 'd-{a}@c', missing: {default: ''}}", "model.missing.default: String"),
        ("query=x", "unknown key 'query'; valid keys"),
        ("input.query=x", "unknown key 'query' in input"),
        ("columns.query=[x]", "columns.query: Input should be a valid string"),
        ("id_columns=flight", "id_columns: Input should be a valid tuple"),
        ("id_columns=[]", "id_columns: Tuple should have at least 1 item"),
        ("pyfunc.parms={a: 1}", "unknown key 'parms' in pyfunc (did you mean 'params'?)"),
        ("pyfunc.modelconfig={a: 1}", "in pyfunc (did you mean 'model_config'?)"),
        ("passthrough=note", "passthrough: 'note' is not none, keys, all or a list such as [note]"),
        ("nulls.x=zero", "nulls.x: Input should be 'model', 'fail', 'null' or 'quarantine'"),
        ("max_error_fraction=2", "max_error_fraction: Input should be less than or equal to 1"),
        ("run_id=a/b", "run_id: String should match pattern"),
        ("run_id=a b", "run_id: String should match pattern"),
        ("run_id=" + "a" * 201, "run_id: String should match pattern"),
    ],
)
def test_a_wrong_override_is_refused_by_its_key(file: Path, override: str, sentence: str) -> None:
    assert sentence in refusal(file, override)


@pytest.mark.parametrize("other", ["engine=spark_udf", "env_manager=uv"])
def test_a_model_a_segment_is_loaded_by_our_own_workers(file: Path, other: str) -> None:
    asked = "model={by: a, name: 'd-{a}@c'}"
    assert load(ScoreJob, file, [asked]).segment_by == "a"
    assert "one model per segment needs" in refusal(file, asked, other)


@pytest.mark.parametrize(
    ("slices", "names"),
    [
        ("2013-12-01", ("2013-12-01",)),  # YAML reads a date
        ("7", ("7",)),  # and a number
        ("EWR", ("EWR",)),
        ("[2013-12-01, 2013-12-03]", ("2013-12-01", "2013-12-03")),
        ("[7, EWR, 7]", ("7", "EWR")),
        ("2013-12-30..2014-01-01", ("2013-12-30", "2013-12-31", "2014-01-01")),
        ("2012-02-28..2012-03-01", ("2012-02-28", "2012-02-29", "2012-03-01")),  # a leap year
        ("2013-12-01..2013-12-01", ("2013-12-01",)),
        ("[2013-12-01..2013-12-02]", ("2013-12-01..2013-12-02",)),  # a name, within a list
    ],
)
def test_slices_are_names_in_the_file_and_as_an_override(
    file: Path, slices: str, names: tuple[str, ...]
) -> None:
    overridden = load(ScoreJob, file, ["slice_by=date", f"slices={slices}"])
    file.write_text(f"{VALID}slice_by: date\nslices: {slices}\n")
    assert load(ScoreJob, file).slice_names == overridden.slice_names == names


def test_a_range_of_days_holds_both_its_ends(file: Path) -> None:
    job = load(ScoreJob, file, ["slice_by=date", "slices=2013-12-01..2013-12-31"])
    assert len(job.slice_names) == 31
    assert (job.slice_names[0], job.slice_names[-1]) == ("2013-12-01", "2013-12-31")
    assert job.binding.read == ("date",)


@pytest.mark.parametrize(
    ("slices", "sentence"),
    [
        ("2013-12-31..2013-12-01", "2013-12-31..2013-12-01 ends before it begins"),
        ("1..31", "1..31 is not a range of days like 2013-12-01..2013-12-31"),
        ("2013-12-01..", "2013-12-01.. is not a range of days"),
        ("..2013-12-01", "..2013-12-01 is not a range of days"),
        ("2013-02-28..2013-02-29", "is not a range of days"),  # 2013 had no such day
        ("2013-12-01...2013-12-31", "is not a range of days"),
        (
            "0001-01-01..9999-12-31",
            "would be 3652059 slices, but a range can have at most 50000 days",
        ),
    ],
)
def test_a_range_that_is_none_is_refused(file: Path, slices: str, sentence: str) -> None:
    assert sentence in refusal(file, "slice_by=date", f"slices={slices}")


def test_keys_are_written_first(file: Path) -> None:
    job = load(ScoreJob, file, ["id_columns=[b, a]", "passthrough=[d, c]"])
    assert job.keep(["a", "b", "c", "d", "e"]) == ("b", "a", "d", "c")
    job = load(ScoreJob, file, ["id_columns=[b, a]", "passthrough=all"])
    assert job.keep(["a", "b", "c"]) == ("b", "a", "c")
    assert not load(ScoreJob, file, ["passthrough=none"]).writes_keys


@pytest.mark.parametrize(
    ("budget", "rows", "allowed"),
    [
        ([], 1000, 0),  # not one, unless one says so
        (["max_errors=3"], 1000, 3),
        (["max_error_fraction=0.01"], 1000, 10),
        (["max_error_fraction=0.01"], 99, 0),  # less than one
        (["max_error_fraction=0.29"], 100, 29),  # 0.29 * 100 is 28.999999999999996
        (["max_errors=3", "max_error_fraction=0.01"], 1000, 10),  # the larger counts
    ],
)
def test_the_error_budget_is_a_number_or_a_part_of_the_rows(
    file: Path, budget: list[str], rows: int, allowed: int
) -> None:
    assert load(ScoreJob, file, budget).allowed_errors(rows) == allowed


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("tables/out", "/lake/tables/out"),
        ("out", "/lake/out"),
        ("/elsewhere/out", "/elsewhere/out"),
        ("s3://bucket/out", "s3://bucket/out"),
        (
            "abfss://c@account.dfs.core.windows.net/out",
            "abfss://c@account.dfs.core.windows.net/out",
        ),
        ("file:///elsewhere/out", "file:///elsewhere/out"),
    ],
)
def test_a_relative_path_lies_under_the_home(
    file: Path, monkeypatch: pytest.MonkeyPatch, path: str, address: str
) -> None:
    monkeypatch.setenv("LAKESCORE_HOME", "/lake")
    assert load(ScoreJob, file, [f"input.path={path}"]).input.address == address
    assert load(ScoreJob, file).output.address == "lake.predictions"


def test_the_home_is_beside_the_caller_when_none_is_set(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKESCORE_HOME", raising=False)
    monkeypatch.chdir(file.parent)
    address = str(file.parent / ".lakescore" / "tables" / "departures")
    assert load(ScoreJob, file).input.address == address


def test_a_job_is_frozen(file: Path) -> None:
    job = load(ScoreJob, file)
    with pytest.raises(ValidationError, match="frozen"):
        job.model = "another/1"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        job.input.version = 3  # type: ignore[misc]


def test_a_comparison_ranks_by_a_metric_that_we_know() -> None:
    with pytest.raises(
        ConfigError, match=r"no metric 'rmze' that can rank \(did you mean 'rmse'\?\)"
    ):
        load(CompareJob, CONF / "compare.yaml", ["rank_by=rmze"])
    with pytest.raises(ConfigError, match=r"versions: Tuple should have at least 1 item"):
        load(CompareJob, CONF / "compare.yaml", ["versions=[]"])
    for name, more in (("recall/late", []), ("loss", ["custom_metrics={loss: 'airline:loss'}"])):
        job = load(CompareJob, CONF / "compare.yaml", [f"rank_by={name}", *more])
        assert job.rank_by == name


RANGES = {metric.name: metric.most for metric in METRICS}


def test_briers_score_of_two_classes_is_at_most_1() -> None:
    bounds = {metric.name: metric.of_two_classes().most for metric in METRICS}
    assert bounds["brier_score_loss"] == 1.0
    assert {n: most for n, most in bounds.items() if most != RANGES[n]} == {"brier_score_loss": 1.0}


def test_every_metric_is_described() -> None:
    text = (CONF.parent / "docs/compare.md").read_text()
    for metric in METRICS:
        stem, _, ending = metric.name.rpartition("_")
        assert f"`{metric.name}`" in text or (f"`{stem}" in text and f"`_{ending}" in text)


@pytest.mark.parametrize(
    ("name", "better", "most"),
    [
        ("rmse", False, math.inf),
        ("r2", True, 1.0),
        ("recall/late", True, 1.0),  # of one class
        ("brier_score_loss", False, 2.0),  # what it can be of more than two classes
        ("bias", None, math.inf),
    ],
)
def test_a_metric_knows_its_direction_and_its_bounds(
    name: str,
    better: bool | None,  # noqa: FBT001 - a row's cell
    most: float,
) -> None:
    metric = find(name)
    assert metric is not None
    assert (metric.greater_is_better, metric.most) == (better, most)


def test_versions_are_a_list_or_a_query() -> None:
    query = "versions={name: flight-delay, where: metrics.rmse < 50, limit: 3}"
    job = load(CompareJob, CONF / "compare.yaml", [query])
    assert job.query == {
        "name": "flight-delay",
        "where": "metrics.rmse < 50",
        "order_by": None,
        "limit": 3,
    }
    with pytest.raises(ConfigError, match=r"unknown key 'nane' in versions .*valid keys: name"):
        load(CompareJob, CONF / "compare.yaml", ["versions={nane: flight-delay}"])


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        (
            "{by: a, nam: 'd-{a}@c'}",
            "'nam' in versions.0 (did you mean 'name'?); valid keys: by, name, missing",
        ),
        ("{by: a, name: d@c}", "versions.0: name: put {a} into the model's"),
        ("{by: a, name: 'd-{a}@c', missing: drop}", "versions.0.missing: 'drop' is not fail, skip"),
        ("{by: a, name: 'd-{a}@c', missing: {defalt: d}}", "(did you mean 'default'?)"),
        ("''", "versions.0: String should have at least 1 character"),
        ("{by: a, name: 'd-{a}@c'}, {by: a, name: 'd-{a}@c', missing: skip}", "occurs twice"),
    ],
)
def test_what_is_wrong_with_a_model_a_segment_is_named(entry: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load(CompareJob, CONF / "compare.yaml", [f"versions=[{entry}]"])


def test_an_unknown_key_of_a_gate_is_named_with_the_valid_ones() -> None:
    gate = "gates.metrics={rmse: {treshold: 3, greater_is_better: false}}"
    with pytest.raises(
        ConfigError, match=r"'treshold' in gates\.metrics\.rmse \(did you mean 'threshold'"
    ):
        load(CompareJob, CONF / "compare.yaml", [gate])
    with pytest.raises(ConfigError, match=r"gates\.metrics: there is no metric 'rsme'"):
        load(
            CompareJob, CONF / "compare.yaml", ["gates.metrics={rsme: {greater_is_better: false}}"]
        )
    with pytest.raises(ConfigError, match="on_pass"):
        load(CompareJob, CONF / "compare.yaml", ["gates.on_pass=delete"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["slices="], "gates.slices needs slices; add the columns that divide the holdout"),
        (["gates.slices={max_error: {max_loss: 1}}"], "bootstraps do not bound max_error"),
        (["gates.slices={rsme: {max_loss: 1}}"], "gates.slices: there is no metric 'rsme'"),
        (["gates.slices={bias: {max_loss: 1}}"], "there is no metric 'bias' that can rank"),
        (["gates.slices={rmse: {}}"], "give max_loss, max_relative_loss or both"),
        (["gates.slices={rmse: {max_loss: -1}}"], "greater than or equal to 0"),
        (["gates.slices={rmse: {max_loss: .nan}}"], "should be a valid number"),
        (["gates.slices={rmse: {max_loss: .inf}}"], "should be a valid number"),
        (["gates.slices={rmse: {max_relative_loss: 2}}"], "less than or equal to 1"),
        (["gates.slices={rmse: {max_los: 1}}"], "'max_los' in gates.slices.rmse (did you mean"),
        (["gates.unknown_slices=maybe"], "unknown_slices: Input should be 'pass' or 'fail'"),
        (
            ["gates.slices={}", "gates.unknown_slices=fail"],
            "gates.unknown_slices is about gates.slices and gates.groups",
        ),
        (
            ["gates.groups={by: [orgin], selection_rate: {max_difference: 0.1}}"],
            "gates.groups.by: orgin is not among slices.by (did you mean 'origin'?); add it there",
        ),
        (["gates.groups={by: [origin]}"], "give a condition for a rate: selection_rate, true_"),
        (["gates.groups={by: [origin], selection_rate: {max_difference: 2}}"], "less than or equ"),
        (["gates.groups={by: [], selection_rate: {max_difference: 0.1}}"], "at least 1 item"),
        (
            ["gates.groups={by: [origin], selection_rat: {max_difference: 0.1}}"],
            "'selection_rat' in gates.groups (did you mean 'selection_rate'?)",
        ),
    ],
)
def test_what_is_wrong_with_a_gate_for_slices_is_named(overrides: list[str], sentence: str) -> None:
    gate = "gates.slices={rmse: {max_loss: 0.5}}"
    with pytest.raises(ConfigError, match=re.escape(sentence)) as refused:
        load(CompareJob, CONF / "compare.yaml", [gate, *overrides])
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)


def test_gates_for_slices_decide_a_comparison_only_where_they_are_given() -> None:
    compare = {
        "versions": ["m/1"], "holdout": {"path": "h"}, "label": "y", "output": {"path": "o"},
        "slices": {"by": ["region"]},
    }  # fmt: skip
    gates: dict[str, Any] = {"metrics": {"rmse": {"threshold": 9, "greater_is_better": False}}}
    without = CompareJob.model_validate({**compare, "gates": gates})
    assert set(without.decisive["gates"]) == {
        "mode", "candidate", "metrics", "signature", "on_pass",
    }  # fmt: skip
    assert without.comparing.protected == ()
    with_slices = {**gates, "slices": {"rmse": {"max_loss": 0.5}}}
    asked = CompareJob.model_validate({**compare, "gates": with_slices})
    assert asked.decisive["gates"]["slices"]["rmse"]["max_loss"] == 0.5
    assert asked.decisive["gates"]["unknown_slices"] == "pass"
    assert asked.comparing.protected == ("rmse",)
    assert "groups" not in asked.decisive["gates"]
    rates = {"by": ["region"], "selection_rate": {"max_difference": 0.1}}
    grouped = CompareJob.model_validate({**compare, "gates": {**gates, "groups": rates}})
    assert set(grouped.decisive["gates"]) - set(without.decisive["gates"]) == {
        "groups", "unknown_slices",
    }  # fmt: skip
    assert (grouped.gating.rates, grouped.comparing.grouped) == (
        {"selection_rate": 0.1}, ("region",),
    )  # fmt: skip
    off = CompareJob.model_validate({**compare, "gates": {**with_slices, "mode": "disabled"}})
    assert off.comparing.protected == ()


def test_tables_of_rows_need_the_columns_that_name_a_row() -> None:
    with pytest.raises(ConfigError, match="disagreements needs id_columns"):
        load(CompareJob, CONF / "compare.yaml", ["id_columns=[]"])


def fields(kind: type[BaseModel], within: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in kind.model_fields.items():
        yield within + name, field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{within}{name}.")


@pytest.mark.parametrize("job", sorted(JOBS))
def test_every_key_is_described(job: str) -> None:
    described = dict(fields(JOBS[job]))
    assert any(name.endswith(".path") for name in described)  # tables are looked into
    assert [name for name, text in described.items() if not text] == []


@pytest.mark.parametrize(
    "text",
    [
        "010",  # YAML: the number 8
        "12:30",  # 750
        "1_000",  # 1000
        "true",
        "2013-12-01",  # a date
        "2013-13-01",  # no date: PyYAML itself fails
    ],
)
def test_a_slice_has_the_name_that_was_typed(file: Path, text: str) -> None:
    assert load(ScoreJob, file, ["slice_by=x", f"slices={text}"]).slice_names == (text,)
    many = load(ScoreJob, file, ["slice_by=x", f"slices=[{text}, b]"])
    assert many.slice_names == (text, "b")
    file.write_text(file.read_text() + f"slice_by: x\nslices: {text}\n")
    assert load(ScoreJob, file).slice_names == (text,)


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("file:/data/x", "file:/data/x"),
        ("dbfs:/x", "dbfs:/x"),
        ("~/x", str(Path.home() / "x")),
        ("2013", "HOME/2013"),  # YAML: a number
    ],
)
def test_an_address_is_a_uri_or_a_path(
    file: Path, path: str, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAKESCORE_HOME", str(tmp_path))
    job = load(ScoreJob, file, [f"input.path={path}"])
    assert job.input.address == address.replace("HOME", str(tmp_path))


@pytest.mark.parametrize("override", ["input.xpath=a", "input.mytable=b"])
def test_a_key_that_ends_like_an_address_is_unknown(file: Path, override: str) -> None:
    assert "unknown key" in refusal(file, override)


def test_a_comparison_can_be_repeated_from_what_its_receipt_pinned(tmp_path: Path) -> None:
    compare = {
        "versions": ["flight-delay/2", "flight-delay@challenger"],
        "holdout": {"path": "tables/holdout"},
        "label": "arr_delay",
        "output": {"path": "tables/ranking"},
        "slices": {"by": ["origin"]},
        "gates": {"metrics": {"rmse": {"threshold": 9, "greater_is_better": False}}},
        "run_id": "nightly",
        "prometheus": "/metrics/nightly.prom",
        "columns": {"dep_delay": "delay"},
        "nulls": {"dep_delay": "quarantine"},
        "pyfunc": {"params": {"cap": "60"}, "model_config": {"unit": "minutes"}},
    }
    first = CompareJob.model_validate(compare)
    uris = ["models:/flight-delay/2", "models:/flight-delay/5", "models:/flight-delay/3"]
    receipt = {
        "ranking": [{"uri": uri} for uri in uris], "baseline": uris[2], "holdout": {"version": 4},
    }  # fmt: skip
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(first.pinned(receipt)))
    again = load(CompareJob, file)
    assert (again.versions, again.baseline) == (tuple(uris), uris[2])
    assert (again.holdout.version, again.run_id, again.prometheus) == (4, None, None)
    same = {"label", "slices", "gates", "output", "columns", "nulls", "pyfunc"}
    assert again.model_dump(include=same) == first.model_dump(include=same)


def test_what_a_comparison_finds_does_not_depend_on_how_long_it_may_take() -> None:
    compare = {
        "versions": ["m/1"], "holdout": {"path": "h"}, "label": "y", "output": {"path": "o"},
    }  # fmt: skip
    first = CompareJob.model_validate(compare)
    other = {"timeout_seconds": 60, "prometheus": "/metrics/m.prom", "scan": "spark"}
    assert CompareJob.model_validate({**compare, **other}).decisive == first.decisive
    assert CompareJob.model_validate({**compare, "threshold": 0.3}).decisive != first.decisive
