"""What a command of several files, or a list of jobs, means; and what it may not mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from lakescore.cli import app
from lakescore.errors import ConfigError
from lakescore.joblist import Jobs, jobs_of

PLAIN = {
    "model": "demand@champion",
    "input": {"path": "/lake/sales"},
    "output": {"path": "/lake/predictions"},
    "id_columns": ["id"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, /, **changes: object) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(PLAIN | changes, sort_keys=False))
    return name


def listed(*jobs: object, **options: object) -> str:
    Path("night.yaml").write_text(yaml.safe_dump({"jobs": list(jobs), **options}, sort_keys=False))
    return "night.yaml"


def models(jobs: Jobs) -> dict[str, str]:
    return {job.name: job.config.model for job in jobs.jobs}


def test_one_file_is_a_job_without_a_name_and_a_list_of_one_is_a_list() -> None:
    write("a.yaml")
    assert not jobs_of(["a.yaml", "max_errors=1"]).are_listed
    assert jobs_of([listed("a.yaml")]).are_listed


def test_several_files_share_the_overrides_that_follow_or_stand_between_them() -> None:
    write("a.yaml", model="a/1")
    write("b.yaml", model="b/1")
    jobs = jobs_of(["a.yaml", "slice_by=day", "b.yaml", "slices=2013-12-01", "parallel=3"])
    assert models(jobs) == {"a": "a/1", "b": "b/1"}
    assert {job.config.slices for job in jobs.jobs} == {"2013-12-01"}
    assert jobs.parallel == 3


def test_the_first_word_is_a_file_whatever_it_looks_like() -> None:
    write("day=1.yaml", model="a/1")
    assert models(jobs_of(["day=1.yaml", "model=b/1"])) == {"day=1": "b/1"}


def test_a_pattern_means_the_files_of_the_lists_own_folder_in_their_order() -> None:
    for name in ("b", "a", "c"):
        write(f"jobs/stores/{name}.yaml", model=f"{name}/1")
    Path("jobs/night.yaml").write_text("jobs: [stores/*.yaml]\nparallel: 2\n")
    jobs = jobs_of(["jobs/night.yaml"])
    assert list(models(jobs)) == ["a", "b", "c"]
    assert jobs.parallel == 2


def test_a_matrix_is_a_job_for_each_combination_and_braces_stand_for_its_values() -> None:
    write("score.yaml")
    entry = {
        "file": "score.yaml",
        "set": {"output.path": "/lake/{model}/{input.path}", "id_columns": ["id", "of {model}"]},
        "matrix": {"model": ["a/1", "b/2"], "input.path": ["x", "y"], "max_errors": [1]},
    }
    jobs = jobs_of([listed(entry)]).jobs
    assert [(job.name, job.config.output.path) for job in jobs] == [
        ("score:a-1,x,1", "/lake/a/1/x"),
        ("score:a-1,y,1", "/lake/a/1/y"),
        ("score:b-2,x,1", "/lake/b/2/x"),
        ("score:b-2,y,1", "/lake/b/2/y"),
    ]
    assert jobs[0].config.id_columns == ("id", "of a/1")
    assert {job.config.max_errors for job in jobs} == {1}


def test_what_the_command_overrides_is_stronger_than_the_list_and_this_than_the_file() -> None:
    write("score.yaml", max_errors=1, experiment="file", write_mode="append")
    entry = {"file": "score.yaml", "set": {"max_errors": 2, "experiment": "list"}}
    (job,) = jobs_of([listed(entry), "max_errors=3"]).jobs
    chosen = (job.config.max_errors, job.config.experiment, job.config.write_mode)
    assert chosen == (3, "list", "append")


def test_a_trust_policy_lies_beside_the_file_that_names_it(folder: Path) -> None:
    write("jobs/score.yaml", trust="own.yaml")
    Path("jobs/own.yaml").write_text("trust: {formats: [skops]}\n")
    Path("lists").mkdir()
    Path("lists/strict.yaml").write_text("trust: {formats: [cloudpickle]}\n")
    entries = [
        {"file": "../jobs/score.yaml", "set": {"output.path": "/lake/1"}},
        {"file": "../jobs/score.yaml", "set": {"trust": "strict.yaml", "output.path": "/lake/2"}},
    ]
    Path("lists/night.yaml").write_text(yaml.safe_dump({"jobs": entries}))
    one, other = (job.config.trust for job in jobs_of([str(folder / "lists/night.yaml")]).jobs)
    assert one != other


def test_a_pattern_leaves_out_the_list_that_holds_it_and_folders() -> None:
    write("[1]/a.yaml", model="a/1")
    write("[1]/deep/b.yaml", model="b/1")
    Path("[1]/night.yaml").write_text('jobs: ["**"]\n')
    assert list(models(jobs_of(["[1]/night.yaml"]))) == ["a", "b"]


def test_a_name_may_be_that_of_a_file_whatever_stands_in_the_matrix() -> None:
    write("score.yaml")
    entry = {"file": "score.yaml", "matrix": {"experiment": ["日" * 300, "a/b\n../c"]}}
    with pytest.raises(ConfigError, match="slice all"):  # they are two jobs all the same
        jobs_of([listed(entry)])
    entry["set"] = {"output.path": "/lake/{experiment}"}
    for job in jobs_of([listed(entry)]).jobs:
        assert len(job.name.encode()) <= 200
        assert "/" not in job.name


def test_braces_without_a_matrix_are_braces() -> None:
    write("score.yaml")
    (job,) = jobs_of([listed({"file": "score.yaml", "set": {"experiment": "{model}"}})]).jobs
    assert job.config.experiment == "{model}"


def test_a_matrix_that_is_a_mistake_is_refused_before_it_is_expanded() -> None:
    write("score.yaml")
    many = [str(n) for n in range(10_000)]
    entry = {"file": "score.yaml", "matrix": {"model": many, "slices": [*many]}}
    with pytest.raises(ConfigError, match=r"score\.yaml has 100000000 jobs"):
        jobs_of([listed(entry)])


def test_names_tell_jobs_apart_and_a_job_without_a_receipt_gets_one_by_its_name() -> None:
    write("a/score.yaml", model="a/1")
    write("b/score.yaml", model="b/1", receipt="own.json")
    write("c/other.yaml", model="c/1")
    jobs = jobs_of([listed("*/*.yaml", receipts="told")]).jobs
    assert [(job.name, str(job.config.receipt)) for job in jobs] == [
        ("score#1", "told/score#1.json"),
        ("score#2", "own.json"),
        ("other", "told/other.json"),
    ]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("nobody.yaml", "night.yaml: there is no file nobody.yaml"),
        ("stores/*.yaml", r"night.yaml: no file in /.* matches stores/\*.yaml"),
        (
            {"file": "score.yaml", "sett": {}},
            r"night.yaml: unknown key 'sett' in jobs\.1 \(did you mean 'set'",
        ),
        ({"set": {"model": "a/1"}}, r"night.yaml: jobs\.1\.file: Field required"),
        (
            {"file": "score.yaml", "set": {"modell": "a/1"}},
            r"night.yaml: score.yaml: unknown key 'modell' \(did you mean 'model'\?\)",
        ),
        (
            {"file": "score.yaml", "matrix": {"slicess": ["a"]}},
            "night.yaml: score.yaml: unknown key 'slicess'",
        ),
        (
            {"file": "score.yaml", "set": {"output.path": "{modle}"}, "matrix": {"model": ["a/1"]}},
            "night.yaml: {modle} is not a text of the matrix; it has: model",
        ),
        (
            {"file": "score.yaml", "matrix": {"model": []}},
            r"jobs\.1\.matrix\.model: List should have at least 1 item",
        ),
        ("other.yaml", "night.yaml: other.yaml is a list of jobs itself"),
    ],
)
def test_a_typo_ends_the_whole_before_anything_runs(entry: object, sentence: str) -> None:
    write("good.yaml", model="good/1")
    write("score.yaml")
    Path("other.yaml").write_text("jobs: [score.yaml]\n")
    with pytest.raises(ConfigError, match=sentence) as raised:
        jobs_of([listed("good.yaml", entry)])
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ({}, {}, "one and other would both write slice all of demand in /lake/predictions"),
        # The registered model is what divides a table, whatever the reference.
        ({"model": "demand/1"}, {"model": "demand@best"}, "slice all of demand"),
        ({"output": {"path": "/lake/../lake/p/"}}, {"output": {"path": "/lake/p"}}, "slice all"),
        (
            {"slice_by": "day", "slices": "2013-12-01..2013-12-03"},
            {"slice_by": "day", "slices": ["2013-12-03"]},
            "slice 2013-12-03 of demand",
        ),
        ({"slice_by": "day", "slices": "due"}, {"slice_by": "day", "slices": ["x"]}, "due slices"),
        (
            {"receipt": "r.json"},
            {"model": "b/1", "receipt": "../{here}/r.json"},
            r"would both write .*r\.json; give receipt different names",
        ),
        ({"prometheus": "p.prom"}, {"model": "b/1", "prometheus": "p.prom"}, "give prometheus"),
        (
            {"output": {"path": "/lake/sales/"}},
            {"model": "b/1"},
            "other reads /lake/sales, which one writes; run one after the other",
        ),
        ({"receipt": "same"}, {"model": "b/1", "prometheus": "same"}, "give prometheus"),
        (
            {"output": {"path": "/lake/p_quarantine"}},
            {"output": {"path": "/lake/p"}, "model": "b/1"},
            "other writes its quarantine to /lake/p_quarantine, where one writes predictions",
        ),
        (  # a matrix of inputs, with an output each: the second would clear the first one's rows
            {"output": {"path": "/lake/1"}, "quarantine": {"path": "/lake/aside"}},
            {"output": {"path": "/lake/2"}, "quarantine": {"path": "/lake/aside"}},
            "slice all of demand in /lake/aside",
        ),
        (
            {"output": {"path": "/lake/1"}, "input": {"path": "/lake/2_quarantine"}},
            {"output": {"path": "/lake/2"}},
            "one reads /lake/2_quarantine, which other writes",
        ),
        ({"output": {"path": "file:///lake/p"}}, {"output": {"path": "//lake/p"}}, "slice all"),
        ({"output": {"path": "s3://b/p"}}, {"output": {"path": "s3a://b/p/"}}, "slice all"),
        ({"model": "demand"}, {}, "one.yaml: model: .*it names no version and no alias"),
    ],
)
def test_jobs_that_would_spoil_what_another_one_does_are_refused(
    folder: Path, one: dict[str, object], other: dict[str, object], sentence: str
) -> None:
    if "receipt" in other:
        other = other | {"receipt": str(other["receipt"]).format(here=folder.name)}
    write("one.yaml", **one)
    write("other.yaml", **other)
    with pytest.raises(ConfigError, match=sentence):
        jobs_of(["one.yaml", "other.yaml"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "a/1"}, {"model": "b/1"}),
        ({"output": {"path": "/lake/one"}}, {}),
        ({"slice_by": "day", "slices": ["a"]}, {"slice_by": "day", "slices": ["b"]}),
        ({"output": {"path": "s3://b/P"}}, {"output": {"path": "s3://b/p"}}),
        (  # a version is what it is, whatever is written
            {"output": {"path": "/lake/sales"}},
            {"model": "b/1", "input": {"path": "/lake/sales", "version": 3}},
        ),
    ],
)
def test_jobs_share_a_table_by_models_and_slices(
    one: dict[str, object], other: dict[str, object]
) -> None:
    write("one.yaml", **one)
    write("other.yaml", **other)
    assert len(jobs_of(["one.yaml", "other.yaml"]).jobs) == 2


def test_a_list_is_checked_scheduled_and_described_like_a_jobs_file(folder: Path) -> None:
    write("a.yaml", model="a/1")
    wrong = write("b.yaml", model="b/1", max_errors=-1)
    run = CliRunner().invoke
    done = run(app, ["check", "score", listed("a.yaml", wrong)])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "night.yaml: b.yaml: max_errors: " in done.stderr
    places = folder / "conf" / "spark" / "standalone.conf"
    places.parent.mkdir(parents=True)
    places.touch()
    words = ["--cron", "0 5 * * *", "--to", "systemd"]
    refused = run(app, ["schedule", listed("a.yaml", wrong), *words])
    assert (refused.exit_code, "max_errors" in refused.stderr) == (2, True)
    done = run(app, ["schedule", listed("a.yaml"), "slices=x", "slice_by=day", *words])
    assert done.exit_code == 0, done.stderr
    assert "/bin/lakescore score " in done.stdout
    assert "/night.yaml slices=x slice_by=day\n" in done.stdout
    assert '"matrix"' in run(app, ["schema", "jobs"]).stdout
