"""Quotes in delimited text: when they are syntax, and records against Python's csv."""

import csv
import io
import itertools
import random

import pytest

from gemkit.train.delimited import Dialect, describe, is_quoted, records, write

HEADER = "id\ttext\tlabel\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("1\tno quotes\ta\n", False),
        ('1\tsay "hi"\ta\n', False),
        ('1\t"all of it"\ta\n', False),
        ('1\t"starts only\ta\n', False),
        ('1\tends only"\ta\n', False),
        ('1\t"say ""hi"""\ta\n', True),
        ('1\t"a\ttab"\ta\n', True),
        ('1\t"two\nlines"\ta\n', True),
        # Written by two hands: quotes cannot be syntax throughout.
        ('1\t"say ""hi"""\ta\n2\tsay "hi"\ta\n', False),
        # Read as CSV, rows 1 to 3 would be one.
        ('1\t"opens\ta\n2\tmiddle\tb\n3\tcloses"\ta\n', False),
        ('1\t"opens\ta\n2\tmiddle\tb\n3\tcloses"\ta\n4\tshort\n', False),
    ],
)
def test_quotes_are_syntax_only_where_the_file_proves_it(body: str, expected: bool) -> None:
    assert is_quoted(HEADER + body) is expected


def test_a_quoted_header_proves_it() -> None:
    assert is_quoted('"id"\t"text"\n"1"\t"a"\n')


def test_records_agree_with_python_csv() -> None:
    """On random well-formed tables, with the first line of each row beside."""
    draw = random.Random(0)
    pieces = ["a", '"', ",", "\n", "가", " ", "\r\n", "\t", ""]
    for delimiter, quoting in itertools.product(",\t;", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)):
        table = [["id", "text", "label"]]
        table += [["".join(draw.choices(pieces, k=3)) + "." for _ in "123"] for _ in range(199)]
        sink = io.StringIO(newline="")
        csv.writer(sink, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(table)
        dialect = Dialect(delimiter, quotes=True)
        found = list(records(sink.getvalue(), dialect))
        assert [record.fields for record in found] == table
        lines = [sum("\n".join(row).count("\n") - 2 for row in table[:i]) + i for i in range(200)]
        assert [record.line - 1 for record in found] == lines
        described = describe(sink.getvalue(), delimiter, True)
        assert write(table[0], table[1:], described) == sink.getvalue()


def test_a_lone_empty_field_is_no_blank_line() -> None:
    text = write(["text"], [["a"], [""]], Dialect(",", quotes=True))
    assert text == 'text\na\n""\n'
    assert [record.fields for record in records(text, Dialect(",", quotes=True))][2] == [""]


def test_reading_goes_on_after_a_broken_row() -> None:
    text = 'a,b\n1,"x"y\n2,z\n3,"never closed\n4,w\n'
    found = [(r.line, r.problem != "") for r in records(text, Dialect(",", quotes=True))]
    assert found == [(1, False), (2, True), (3, False), (4, True), (5, False)]


def test_many_open_quotes_take_no_endless_time() -> None:
    """20,000 quotes that never close; a parser that tries each way through would not return."""
    text = "a,b\n" + '1,"' + "x" * 100_000 + '""' * 10_000
    *_, last = records(text, Dialect(",", quotes=True))
    assert last.problem
