"""Table files as bytes to raw rows, and rows to bytes: TSV, CSV, JSONL, Parquet.

Text is UTF-8, with or without a byte order mark. How quotes in TSV are taken stands in
`delimited.py`. Blank lines are no rows. Which rows can be used is judged in `data.py`.
"""

import codecs
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from gemkit.errors import DataError
from gemkit.train import delimited, parquet
from gemkit.train.delimited import Dialect

KINDS = {
    ".tsv": "tsv",
    ".tab": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
# Spreadsheets of some countries separate with semicolons; the first found in the header counts.
DELIMITERS = {"tsv": "\t", "csv": ",;\t"}
BOM = "\ufeff"
# NUL, halves of characters (as JSON can spell them) and bytes that were not UTF-8.
UNUSABLE = re.compile("[\0\ud800-\udfff]")

Row = dict[str, Any]


class BadRow(NamedTuple):
    """A row that cannot be used: its line, why, and what was expected."""

    line: int
    reason: str
    expected: str = ""


@dataclass(frozen=True)
class Format:
    """How a file was written, so that a changed copy differs in nothing but the change.

    types: of the columns of a Parquet file.
    """

    kind: str
    dialect: Dialect = Dialect()
    bom: bool = False
    types: Mapping[str, str] = field(default_factory=dict)


class RawTable(NamedTuple):
    """Columns, and per row its line (or number, for Parquet) and values, or what is wrong."""

    columns: tuple[str, ...]
    rows: list[tuple[int, Row | BadRow]]
    format: Format


def short(value: object, limit: int = 40) -> str:
    """A value for a message: quoted, on one line, cut with an ellipsis."""
    text = str(value)
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def names(columns: Sequence[str], limit: int = 12) -> str:
    """Column names for a message."""
    more = f" and {len(columns) - limit} more" if len(columns) > limit else ""
    return ", ".join(short(name) for name in columns[:limit]) + more


def parse(
    path: Path, content: bytes, skip_bad_rows: bool, header: Sequence[str] = ()
) -> RawTable:
    """What a file holds, bad rows marked. Raises DataError where the whole file is at fault.

    `header` names the columns of a TSV whose first line is a row.
    """
    kind = _kind(path, content)
    if kind == "parquet":
        return _parse_parquet(path, content)
    text = _decode(path, content, skip_bad_rows)
    if kind == "jsonl":
        return _parse_jsonl(text)
    form = Format(kind, bom=content.startswith(BOM.encode()))
    if not header:
        return _parse_delimited(path, text, form)
    found = _parse_delimited(path, "\t".join(header) + "\n" + text, form)
    return found._replace(rows=[_moved_up(line, row) for line, row in found.rows])


def serialize(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], form: Format) -> bytes:
    """The bytes of a file. A missing value or None is an empty field in TSV and CSV."""
    if form.kind == "parquet":
        return parquet.write(columns, rows, form.types, _cell)
    if form.kind == "jsonl":
        objects = ({name: row[name] for name in columns if name in row} for row in rows)
        text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in objects)
    else:
        cells = [[_cell(row.get(name)) for name in columns] for row in rows]
        text = delimited.write(columns, cells, form.dialect)
    return ((BOM if form.bom else "") + text).encode()


def default_format(kind: str) -> Format:
    """The format of a new file: tabs without quoting, or commas with it."""
    return Format(kind, Dialect(",", quotes=True) if kind == "csv" else Dialect())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _kind(path: Path, content: bytes) -> str:
    suffix = path.suffix.lower()
    if suffix == ".txt" and b"\t" in content.split(b"\n", 1)[0]:
        return "tsv"
    if suffix not in KINDS:
        known = f"{', '.join(KINDS)}, or .txt with tabs in its first line"
        raise DataError(f"{path}: unknown suffix {suffix!r}", known, "rename or convert the file")
    return KINDS[suffix]


def _decode(path: Path, content: bytes, skip_bad_rows: bool) -> str:
    """The text, without byte order mark; to skip rows, bytes that are not UTF-8 are escaped."""
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16" if utf16 else "CP949" if _is_korean(content) else ""
        if not skip_bad_rows or encoding:
            line = content.count(b"\n", 0, error.start) + 1
            name = shlex.quote(str(path))
            convert = f"iconv -f {encoding} -t UTF-8 {name} > utf8{path.suffix}"
            raise DataError(
                f"{path} line {line}: byte {error.start} of the file is not UTF-8",
                "text in UTF-8",
                f"it reads as {encoding}; convert it: {convert}"
                if encoding
                else "save it as UTF-8, or pass --skip-bad-rows if only some rows are damaged",
            ) from error
        text = content.decode("utf-8-sig", errors="surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")


def _is_korean(content: bytes) -> bool:
    """Whether bytes read as CP949 give mostly Hangul where they are not ASCII."""
    decoder = codecs.getincrementaldecoder("cp949")()  # bears a character cut off at the end
    try:
        beyond = [c for c in decoder.decode(content[: 1 << 20]) if not c.isascii()]
    except UnicodeDecodeError:
        return False
    return sum("가" <= c <= "힣" or "ㄱ" <= c <= "ㆎ" for c in beyond) > len(beyond) / 2


def _parse_delimited(path: Path, text: str, form: Format) -> RawTable:
    quotes = form.kind == "csv" or delimited.is_quoted(text)
    dialect = delimited.describe(text, DELIMITERS[form.kind], quotes)
    header, *body = delimited.records(text, dialect)
    columns = tuple(header.fields)
    _check_header(path, header)
    separator = SEPARATORS[dialect.delimiter]
    expected = f"{len(columns)} fields separated by {separator}: {names(columns)}"
    rows: list[tuple[int, Row | BadRow]] = []
    for line, fields, _, problem in body:
        if not problem and len(fields) != len(columns):
            problem = f"{len(fields)} field{'s' * (len(fields) > 1)}, {short(fields[0])} first"
        row = dict(zip(columns, fields, strict=False))
        rows.append((line, BadRow(line, problem, expected) if problem else row))
    return RawTable(columns, rows, replace(form, dialect=dialect))


def _moved_up(line: int, row: Row | BadRow) -> tuple[int, Row | BadRow]:
    return line - 1, row._replace(line=line - 1) if isinstance(row, BadRow) else row


def _check_header(path: Path, header: delimited.Record) -> None:
    where, fields = f"{path} line {header.line}", header.fields
    if header.problem:
        raise DataError(f"{where}: {header.problem}", "a header line")
    for i, name in enumerate(fields):
        if UNUSABLE.search(name):
            raise DataError(f"{where}: column {i + 1} has a name that is not text", "UTF-8 text")
        if not name.strip():
            raise DataError(
                f"{where}: column {i + 1} has no name",
                "a name for each column",
                "add it (pandas leaves it out for its index: to_csv(index=False))",
            )
        if name in fields[:i]:
            raise DataError(f"{where}: two columns are named {short(name)}", "different names")


def _parse_jsonl(text: str) -> RawTable:
    rows: list[tuple[int, Row | BadRow]] = []
    columns: dict[str, None] = {}
    for line, source in enumerate(text.split("\n"), start=1):
        if not source.strip():
            continue
        try:
            row = json.loads(source)
        except (ValueError, RecursionError) as error:
            problem = error.msg if isinstance(error, json.JSONDecodeError) else "too deep or long"
            rows.append((line, BadRow(line, f"no JSON ({problem})", "one object a line")))
            continue
        if isinstance(row, dict):
            columns.update(dict.fromkeys(row))
            rows.append((line, row))
        else:
            rows.append((line, BadRow(line, f"JSON, but no object: {short(source)}", "{…}")))
    return RawTable(tuple(columns), rows, Format("jsonl"))


def _parse_parquet(path: Path, content: bytes) -> RawTable:
    found = parquet.read(path, content)
    form = Format("parquet", types=found.types)
    return RawTable(found.columns, list(enumerate(found.rows, start=1)), form)
