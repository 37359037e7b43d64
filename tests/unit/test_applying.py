"""The texts that lakescore apply writes hold any name as it is."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path

import sqlglot
from hypothesis import example, given
from hypothesis import strategies as st
from sqlglot import exp

from lakescore.applying import texts
from lakescore.config import read

NAMES = st.text(min_size=1, max_size=12)


@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=4), st.lists(NAMES), NAMES)
@example({"null": "~", "1": "01", "yes": "0x1F", "<<": "*a"}, ["2013-12-01", "=", ""], "#")
@example({"a\nb": "c\u2028d", "e\x85f": "g\r\n", "\ufeff": "\x00"}, ["- x", "? y", " z "], "\nx: y")
def test_a_jobs_file_and_python_hold_any_name(
    columns: dict[str, str], ids: list[str], reference: str
) -> None:
    job = {"model": "m/1", "input": {"path": "lake/t"}, "id_columns": ids, "columns": columns}
    notes = [texts.shown(reference)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "job.yaml")
        file.write_text(texts.job_file(job, notes), encoding="utf-8")
        assert read(file) == job
    tree = ast.parse(texts.python(job, notes))
    assert [type(statement) for statement in tree.body] == [ast.Import, ast.Assign]
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {k.arg: ast.literal_eval(k.value) for k in call.keywords} == job


PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


@given(st.dictionaries(PRINTABLE, PRINTABLE, min_size=1, max_size=4), PRINTABLE, PRINTABLE)
@example({"a`b": "`", "c": "' => 1) -- "}, "m's\\", "/lake/`; DROP TABLE t")
def test_a_query_holds_any_name(sources: dict[str, str], version: str, address: str) -> None:
    query = texts.sql(version, address, ["id"], sources, [texts.shown(version)])
    # sqlglot knows another function PREDICT, of three arguments
    query = query.replace("SELECT `id`, PREDICT(", "SELECT `id`, F(")
    (tree,) = sqlglot.parse(query, dialect="spark")
    assert tree is not None
    (table,) = tree.find_all(exp.Table)
    assert (table.db, table.name) == ("delta", address)
    (literal,) = tree.find_all(exp.Literal)
    assert literal.this == version
    columns = [column.name for column in tree.find_all(exp.Column)]
    assert sorted(columns) == sorted(["id", *sources.values()])
