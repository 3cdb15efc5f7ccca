"""Delimited text (TSV, CSV) to fields and back, with line numbers and without loss.

Python's `csv` neither says which fields were quoted, which a faithful copy needs, nor where an
unbalanced quote opened, and its field limit is a setting of the whole process; hence the one
regular expression below.

Quotes in TSV. Two kinds of file share the suffix: in most, a quote is a character like any
other; pandas and spreadsheets write the CSV way, where a field that holds a tab or a quote stands
in quotes with its own quotes doubled. `is_quoted` tells them apart by the whole file. Read as
CSV, every quote must be syntax (a field that starts without one holds none), and that reading
must either leave fewer rows with a wrong number of fields, or leave as many and be proved by a
doubled quote or a quoted header. In the second case no field may span lines: a stray quote in row
5 and another in row 9 must not swallow what lies between.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple


class Record(NamedTuple):
    """One row as written: its first line (from 1), fields, which were quoted, what is wrong."""

    line: int
    fields: list[str]
    quoted: list[bool]
    problem: str = ""


@dataclass(frozen=True)
class Dialect:
    """How a file was written, so that a changed copy differs from it only in what changed.

    quotes: quotes are syntax. always: columns whose every field was quoted, needed or not;
    everything: all of them were, and the header.
    """

    delimiter: str = "\t"
    quotes: bool = False
    newline: str = "\n"
    header_quoted: bool = False
    always: frozenset[str] = frozenset()
    everything: bool = False


def records(text: str, dialect: Dialect) -> Iterator[Record]:
    """The rows of a text, the header first; blank lines are none."""
    parse = _quoted_records if dialect.quotes else _plain_records
    return parse(text, dialect.delimiter)


def _plain_records(text: str, delimiter: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.removesuffix("\r"):
            fields = line.split(delimiter)
            yield Record(number, fields, [False] * len(fields))


def _quoted_records(text: str, delimiter: str) -> Iterator[Record]:
    d = re.escape(delimiter)
    field = re.compile(rf'(?:"([^"]*+(?:""[^"]*+)*+)"\r?|((?!")[^{d}\n]*+))(?:({d})|\n|\Z)')
    position, line = 0, 1
    while position < len(text):
        fields: list[str] = []
        quoted: list[bool] = []
        start, problem, more = line, "", True
        while more:
            match = field.match(text, position)
            if match is None:
                problem = f"a quote in field {len(fields) + 1} has no partner"
                end = text.find("\n", position)
                position = len(text) if end < 0 else end + 1
                line += 1
                break
            inside, outside, again = match.groups()
            more = again is not None
            value = inside.replace('""', '"') if inside is not None else outside
            fields.append(value if more or inside is not None else value.removesuffix("\r"))
            quoted.append(inside is not None)
            line += match[0].count("\n")
            position = match.end()
        if fields != [""] or quoted[0] or problem:
            yield Record(start, fields, quoted, problem)


def is_quoted(text: str) -> bool:
    """Whether quotes are syntax in this TSV; the rule stands at the head of this file.

    >>> [is_quoted(f"id\\tcomment\\n1\\t{field}\\n") for field in ('a "b" c', '"b"')]
    [False, False]
    >>> [is_quoted(f"id\\tcomment\\n1\\t{field}\\n") for field in ('"a ""b"" c"', '"a\\tb"')]
    [True, True]
    """
    if '"' not in text:
        return False
    plain = Dialect()
    header = next(records(text, plain), None)
    width = len(header.fields) if header else 0
    plain_bad = sum(len(record.fields) != width for record in records(text, plain))
    bad, width, proved, spans = 0, 0, False, False
    for record in records(text, Dialect(quotes=True)):
        if not width:
            width, proved = len(record.fields), all(record.quoted)
        if record.problem:
            return False
        bad += len(record.fields) != width
        for value, quoted in zip(record.fields, record.quoted, strict=True):
            if '"' in value and not quoted:
                return False
            proved |= '"' in value
            spans |= "\n" in value
    return bad < plain_bad or (bad == plain_bad and proved and not spans)


def describe(text: str, delimiters: str, quotes: bool) -> Dialect:
    """How a text is written; its delimiter is the first of `delimiters` in its header line."""
    line = text.split("\n", 1)[0]
    delimiter = next((d for d in delimiters if d in line), delimiters[0])
    dialect = Dialect(delimiter, quotes, "\r\n" if line.endswith("\r") else "\n")
    if not quotes or '"' not in text:
        return dialect
    header, *rows = records(text, dialect)
    always = frozenset(
        name
        for i, name in enumerate(header.fields)
        if all(row.quoted[i] for row in rows if i < len(row.quoted))
    )
    header_quoted = all(header.quoted)
    everything = header_quoted and always == frozenset(header.fields)
    return replace(dialect, header_quoted=header_quoted, always=always, everything=everything)


def write(columns: Sequence[str], rows: Sequence[Sequence[str]], dialect: Dialect) -> str:
    """The text of a table. Where a plain TSV cannot hold a value (a tab, a line break) or would
    be taken for a quoted one, the whole file is written quoted, so that it reads back the same.
    """
    if not dialect.quotes:
        lines = [list(columns), *map(list, rows)]
        holds = not any(re.search(r"[\t\r\n]", value) for line in lines for value in line)
        text = "".join(dialect.delimiter.join(line) + dialect.newline for line in lines)
        if holds and not is_quoted(text):
            return text
    special = re.compile(rf'["\r\n{re.escape(dialect.delimiter)}]')

    def line_of(values: Sequence[str], always: Sequence[bool]) -> str:
        fields = [
            '"' + value.replace('"', '""') + '"' if must or special.search(value) else value
            for value, must in zip(values, always, strict=True)
        ]
        # An empty field alone would be a blank line.
        return (dialect.delimiter.join(fields) or '""') + dialect.newline

    always = [dialect.everything or name in dialect.always for name in columns]
    head = line_of(columns, [dialect.header_quoted] * len(columns))
    return head + "".join(line_of(row, always) for row in rows)
