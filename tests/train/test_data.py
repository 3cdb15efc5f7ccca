"""Table files in and out: what is kept, and the one line that says what is wrong."""

import os
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemkit.errors import DataError, UsageError
from gemkit.train.data import (
    MAX_FIELD,
    Table,
    file_hash,
    guess_column,
    read_table,
    split_rows,
    write_table,
)

TSV = "id\tcomment\tlabel\n1\t국물이 진해요 👍\tgood\n2\t\"별로\" 라고 하네요, ㅠㅠ\tbad\n"


def saved(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problem(path: Path, *columns: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_table(path, columns, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), path.name)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def labelled(table: Table) -> list[dict[str, Any]]:
    return [row | {"answer": f"a{i}"} for i, row in enumerate(table.rows)]


def test_a_tsv_keeps_text_as_it_stands(tmp_path: Path) -> None:
    table = read_table(saved(tmp_path, "a.tsv", TSV), ["comment", "label"])
    assert table.columns == ("id", "comment", "label")
    assert table.texts("comment") == ["국물이 진해요 👍", '"별로" 라고 하네요, ㅠㅠ']
    assert (table.lines, table.skipped) == ([2, 3], [])
    assert table.where(1) == f"{tmp_path}/a.tsv line 3"


def test_a_txt_with_tabs_is_a_tsv(tmp_path: Path) -> None:
    assert read_table(saved(tmp_path, "a.txt", TSV)).rows == read_table(tmp_path / "a.txt").rows
    assert "unknown suffix '.txt'" in problem(saved(tmp_path, "b.txt", "just\ntext\n"))


def test_other_formats_hold_the_same_rows(tmp_path: Path) -> None:
    rows = [{"id": "1", "comment": 'a, "b"\nc'}, {"id": "2", "comment": "\td"}]
    saved(tmp_path, "a.csv", 'id,comment\r\n1,"a, ""b""\nc"\r\n2,\td\r\n')
    saved(tmp_path, "a.jsonl", '{"id": "1", "comment": "a, \\"b\\"\\nc"}\n\n'
          '{"id": "2", "comment": "\\td"}')  # fmt: skip
    parquet(tmp_path / "a.parquet", id=["1", "2"], comment=['a, "b"\nc', "\td"])
    tables = [read_table(tmp_path / f"a.{suffix}") for suffix in ("csv", "jsonl", "parquet")]
    assert [table.rows for table in tables] == [rows] * 3
    assert [table.lines for table in tables] == [[2, 4], [1, 3], [1, 2]]
    assert tables[2].where(0).endswith("a.parquet row 1")


@pytest.mark.parametrize(
    "text",
    [
        TSV,
        TSV.replace("\n", "\r\n"),
        "\ufeff" + TSV,
        'id\tcomment\n1\t"a ""quoted"" word"\n2\tplain\n',
        'id\tcomment\n1\t"a\ttab"\n2\tplain\n',
        '"id"\t"comment"\n"1"\t"b"\n"2"\t"c"\n',
        '"id"\t"comment"\n1\t"b"\n2\t"c"\n',
        "id\tcomment\n1\t\n2\tnext\x85line\u2028and\x0bmore\n",
    ],
)
def test_a_tsv_is_written_as_it_was_read(tmp_path: Path, text: str) -> None:
    path = saved(tmp_path, "a.tsv", text)
    table = read_table(path)
    write_table(tmp_path / "b.tsv", table.columns, table.rows, like=table)
    assert (tmp_path / "b.tsv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.tsv", TSV, TSV.replace("label\n", "label\tanswer\n").replace("good\n", "good\ta0\n")
         .replace("bad\n", "bad\ta1\n")),
        ("a.csv", "id;text\r\n1;a,b\r\n", "id;text;answer\r\n1;a,b;a0\r\n"),
        ("a.csv", '"id","text"\n"1","a"\n', '"id","text","answer"\n"1","a","a0"\n'),
        ("a.csv", '"id","text"\n1,"a"\n', '"id","text","answer"\n1,"a",a0\n'),
        ("a.jsonl", '{"id": 1, "text": "가"}\n', '{"id": 1, "text": "가", "answer": "a0"}\n'),
    ],
)  # fmt: skip
def test_a_new_column_changes_nothing_else(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    table = read_table(saved(tmp_path, name, text))
    out = tmp_path / f"out-{name}"
    write_table(out, [*table.columns, "answer"], labelled(table), like=table)
    assert out.read_bytes().decode() == expected


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    numbers = pa.array([1, 2], pa.int16())
    table = read_table(parquet(tmp_path / "a.parquet", id=numbers, t=["x", ""]))
    write_table(tmp_path / "b.parquet", ["id", "t", "answer"], labelled(table), like=table)
    written = pq.read_table(tmp_path / "b.parquet")
    assert written.schema.types == [pa.int16(), pa.string(), pa.string()]
    assert written.to_pylist()[1] == {"id": 2, "t": "", "answer": "a1"}
    overwritten = [{"id": "one", "t": "x"}, {"id": None, "t": "y"}]
    write_table(tmp_path / "b.parquet", ["id", "t"], overwritten, like=table)
    assert pq.read_table(tmp_path / "b.parquet").to_pylist()[0] == {"id": "one", "t": "x"}


def test_the_suffix_of_the_output_rules(tmp_path: Path) -> None:
    table = read_table(saved(tmp_path, "a.tsv", TSV))
    write_table(tmp_path / "b.csv", ["comment"], table.rows, like=table)
    assert (tmp_path / "b.csv").read_text("utf-8").splitlines()[2] == '"""별로"" 라고 하네요, ㅠㅠ"'
    write_table(tmp_path / "noname", ["id"], table.rows, like=table)
    assert (tmp_path / "noname").read_text("utf-8") == "id\n1\n2\n"


@pytest.mark.parametrize("value", ["a\tb", "a\nb", 'the ""best""', '"a ""b"" c"', "", '"'])
def test_what_is_written_reads_back(tmp_path: Path, value: str) -> None:
    rows = [{"id": "1", "text": value}, {"id": "2", "text": 'say "hi"'}]
    for name in ("a.tsv", "a.csv", "a.jsonl", "a.parquet"):
        write_table(tmp_path / name, ["id", "text"], rows)
        assert read_table(tmp_path / name).rows == rows


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", b"", "a.tsv is empty"),
        ("a.tsv", b"\xef\xbb\xbf\r\n", "a.tsv is empty"),
        ("a.tsv", "id\tlabel\n", "a.tsv has a header line but no rows"),
        ("a.xlsx", "PK", "unknown suffix '.xlsx'; expected .tsv"),
        ("a.tsv", "id\tcomment\n1\tok\nno tab\n", "line 3: 1 field, 'no tab' first; expected 2 "),
        ("a.tsv", "id\tcomment\n1\ta\tb\n", "line 2: 3 fields, '1' first; expected 2 fields "
         "separated by tabs: 'id', 'comment'"),
        ("a.csv", 'id,comment\n1,ok\n2,"open\n3,ok\n', "line 3: a quote in field 2 has no partner"),
        ("a.csv", 'id,comment\n1,"a"b\n', "line 2: a quote in field 2 has no partner"),
        ("a.csv", 'id,comm"ent\n1,b,c\n', "line 2: 3 fields"),
        ("a.csv", '"id,comment\n1,b\n', "line 1: a quote in field 1"),
        ("a.tsv", "id\tid\n1\t2\n", "line 1: two columns are named 'id'"),
        ("a.csv", ",comment\n0,b\n", "line 1: column 1 has no name; expected a name for each"),
        ("a.tsv", b"id\tcomment\n1\ta\0b\n", "line 2: 'comment' holds a NUL character"),
        ("a.tsv", b"id\tcomment\n1\tok\n2\t\xff\xfa\n", "line 3: byte 18 of the file is not UTF-8"),
        ("a.tsv", "id\tcomment\n1\t맛있어요 ㅋㅋ\n".encode("cp949"), "it reads as CP949; convert "
         "it: iconv -f CP949 -t UTF-8 a.tsv"),
        ("a.csv", "id,comment\n1,맛\n".encode("utf-16"), "it reads as UTF-16"),
        ("a.jsonl", '{"a": 1}\n[2]\n', "line 2: JSON, but no object: '[2]'"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2: no JSON (Expecting value)"),
        ("a.jsonl", '{"a": 1}\n' + "[" * 99999 + "\n", "line 2: no JSON (too deep or long)"),
        ("a.jsonl", '{"a": "\\ud83d"}\n', "line 1: 'a' holds a broken character"),
        ("a.parquet", b"PAR1 and no more", "a.parquet: damaged Parquet file ("),
    ],
)  # fmt: skip
def test_bad_files_get_one_line(
    tmp_path: Path, name: str, content: str | bytes, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, name, content)
    assert expected in problem(Path(name))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", TSV, "no column 'text'; expected one of 'id', 'comment', 'label'"),
        ("a.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "line 2: no 'text'; expected it beside 'txt'"),
        ("a.jsonl", '{"text": "a"}\n{"text": null}\n', "line 2: 'text' is null; expected a value"),
        ("a.jsonl", '{"text": NaN}\n', "line 1: 'text' is null"),
    ],
)
def test_columns_that_are_needed(tmp_path: Path, name: str, content: str, expected: str) -> None:
    assert expected in problem(saved(tmp_path, name, content), "text")


def test_nulls_in_parquet_matter_only_where_needed(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=["a", None], other=[None, "b"])
    assert len(read_table(path).rows) == 2
    assert "a.parquet row 2: 'text' is null" in problem(path, "text")
    assert read_table(path, ["text"], skip_bad_rows=True).lines == [1]


def test_a_huge_line_is_an_error_with_its_size(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", "id\tcomment\n1\tok\n2\t" + "x" * 10_000_000 + "\n")
    assert "a.tsv line 3: 'comment' holds 10,000,000 characters; expected at most" in problem(path)
    assert len(read_table(path, skip_bad_rows=True).rows) == 1
    exact = saved(tmp_path, "b.csv", "a\n" + "x" * MAX_FIELD + "\n")
    assert len(read_table(exact).rows[0]["a"]) == MAX_FIELD


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    content = b"id\tcomment\n1\tgood\nno tab\n2\t\xff\n3\ta\tb\n\n4\tlast\n"
    table = read_table(saved(tmp_path, "a.tsv", content), ["comment"], skip_bad_rows=True)
    assert table.texts("comment") == ["good", "last"]
    assert table.lines == [2, 7]
    assert [(bad.line, bad.reason[:8]) for bad in table.skipped] == [
        (3, "1 field,"), (4, "'comment"), (5, "3 fields")
    ]  # fmt: skip


def test_a_file_of_bad_rows_only_is_an_error_even_so(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", "id\tcomment\na\nb\n")
    assert "line 2: 1 field, 'a' first" in problem(path, skip_bad_rows=True)
    korean = saved(tmp_path, "b.tsv", "id\tcomment\n1\t맛있어요\n".encode("cp949"))
    assert "CP949" in problem(korean, skip_bad_rows=True)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.tsv").mkdir()
    assert "cannot read folder.tsv: it is a folder" in problem(tmp_path / "folder.tsv")
    assert "cannot read none.tsv: No such file" in problem(tmp_path / "none.tsv")
    with pytest.raises(DataError, match=r"cannot read .*No such file"):
        file_hash(tmp_path / "none.tsv")


def test_texts_of_json_values(tmp_path: Path) -> None:
    table = read_table(saved(tmp_path, "a.jsonl", '{"a": 1, "b": true, "c": [1], "d": 0.5}\n'))
    assert [table.texts(name) for name in "abd"] == [["1"], ["true"], ["0.5"]]
    with pytest.raises(DataError, match=r"a\.jsonl line 1: 'c' is '\[1\]'; expected text"):
        table.texts("c")


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_hash(saved(tmp_path, "a", b"")) == empty


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tsv", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write .*a\.tsv: File too large"):
            write_table(path, ["text"], [{"text": "x" * 5000}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["a.tsv"])


def test_a_pipe_is_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_table(pipe, ["id"], [{"id": 1}])
        assert os.read(reader, 100) == b"id\n1\n"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_columns_are_guessed_only_when_one_fits(tmp_path: Path) -> None:
    table = read_table(saved(tmp_path, "a.tsv", TSV))
    assert guess_column(table, ["text", "Comment", "review"], "text") == "comment"
    for wanted in (["text"], ["id", "comment"]):
        with pytest.raises(UsageError, match=r"'id', 'comment', 'label' .*; pass --text COLUMN"):
            guess_column(table, wanted, "text")
    assert guess_column(read_table(saved(tmp_path, "b.csv", "x\n1\n")), ["text"], "text") == "x"


def test_split_is_stratified_whole_and_repeatable() -> None:
    labels = ["a"] * 70 + ["b"] * 27 + ["c"] * 3
    train, valid = split_rows(labels, 0.1, seed=1)
    assert sorted(train + valid) == list(range(100)) and valid == sorted(valid)
    counts = [[labels[i] for i in valid].count(label) for label in "abc"]
    assert counts == [7, 3, 0]
    assert split_rows(labels, 0.1, seed=1) == (train, valid) != split_rows(labels, 0.1, seed=2)


def test_split_keeps_every_label_in_training() -> None:
    labels = ["a", "a", "b", "b", "b"]
    train, valid = split_rows(labels, 0.9, seed=0)
    assert {labels[i] for i in train} == {"a", "b"} and len(valid) == 3
    assert len(split_rows(labels, 0.01, seed=0)[1]) == 1


def test_a_label_seen_once_cannot_be_split() -> None:
    with pytest.raises(DataError, match="label 'c' is seen once"):
        split_rows(["a", "a", "c"], 0.5, seed=0)
    with pytest.raises(UsageError, match="--valid-share is 1"):
        split_rows(["a", "a"], 1, seed=0)
