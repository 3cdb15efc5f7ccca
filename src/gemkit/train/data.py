"""Table files: rows with their file and line, in and out; TSV, CSV, JSONL, Parquet by suffix.

A `.txt` file whose first line holds a tab is a TSV. Text files are UTF-8, with or without a byte
order mark. How quotes in TSV are taken stands in `delimited.py`. Blank lines are no rows.
"""

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gemkit.atomic import write_bytes
from gemkit.errors import DataError, UsageError
from gemkit.train import table_files
from gemkit.train.table_files import KINDS, UNUSABLE, BadRow, Format, Row, names, short

MAX_FIELD = 1 << 20
"""Characters a field may have; more is taken for a damaged file."""


@dataclass(frozen=True)
class Table:
    """A file's rows. Values are text in TSV and CSV, what they are in JSONL and Parquet."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]
    lines: list[int]
    skipped: list[BadRow] = field(default_factory=list)
    format: Format = field(default_factory=lambda: Format("tsv"))

    def where(self, i: int) -> str:
        """Row i for a message: `train.tsv line 12`, or `train.parquet row 11`."""
        return _where(self.path, self.format.kind, self.lines[i])

    def part(self, chosen: Sequence[int]) -> "Table":
        """The table with some of its rows only, in the order given."""
        rows, lines = [self.rows[i] for i in chosen], [self.lines[i] for i in chosen]
        return replace(self, rows=rows, lines=lines)

    def texts(self, column: str) -> list[str]:
        """A column as text: numbers and truth values as JSON writes them, others as str does.

        Raises DataError for a value that is missing, null, a list, an object or bytes.
        """
        return [_text(row.get(column), column, self.where(i)) for i, row in enumerate(self.rows)]


def read_table(
    path: str | Path, columns: Sequence[str] | None = None, skip_bad_rows: bool = False,
    header: Sequence[str] = (),
) -> Table:  # fmt: skip
    """Reads a whole table file.

    `columns` are those every row must have, none of them null. A bad row raises DataError with
    file and line; with `skip_bad_rows` it is left out and listed in `Table.skipped`. `header`
    names the columns of a TSV without a header line.
    """
    path, required = Path(path), columns or ()
    raw = table_files.parse(path, _content(path), skip_bad_rows, header)
    for name in required:
        if name not in raw.columns and raw.columns:
            raise DataError(
                f"{path}: no column {short(name)}",
                f"one of {names(raw.columns)}",
                "name one of them, or give the file a header line",
            )
    table = Table(path, raw.columns, [], [], [], raw.format)
    for line, row in raw.rows:
        bad = row if isinstance(row, BadRow) else _fault(line, row, required)
        if bad is not None:
            table.skipped.append(bad)
        elif isinstance(row, dict):
            table.rows.append(row)
            table.lines.append(line)
    if table.skipped and not (skip_bad_rows and table.rows):
        bad, count = table.skipped[0], len(table.skipped)
        raise DataError(
            f"{_where(path, raw.format.kind, bad.line)}: {bad.reason}",
            bad.expected,
            "mend it or pass --skip-bad-rows" if table.rows else f"all {count} rows are bad",
        )
    if not table.rows:
        raise DataError(f"{path} has a header line but no rows", "at least one row")
    return table


def write_table(
    path: str | Path,
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    like: Table | None = None,
) -> None:
    """Writes rows, whole or not at all; the suffix says the format, or `like` where it does not.

    A file of the kind of `like` is written as that was: delimiter, quoting, line ends, byte
    order mark, Parquet types. A missing value or None is an empty field.
    """
    path = Path(path)
    kind = KINDS.get(path.suffix.lower(), like.format.kind if like else "tsv")
    same = like is not None and like.format.kind == kind
    form = like.format if like is not None and same else table_files.default_format(kind)
    write_bytes(path, table_files.serialize(columns, list(rows), form), DataError)


def file_hash(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def guess_column(table: Table, wanted: Sequence[str], purpose: str) -> str:
    """The one column whose name is among `wanted` (in any case), or the only column there is.

    `purpose` is also the flag's name. Raises UsageError where two would do, or none.
    """
    likely = {name.lower() for name in wanted}
    fitting = [name for name in table.columns if name.lower() in likely]
    if len(table.columns) == 1:
        fitting = list(table.columns)
    if len(fitting) == 1:
        return fitting[0]
    raise UsageError(
        f"{table.path}: columns {names(table.columns)} leave open which one is the {purpose}",
        todo=f"pass --{purpose} COLUMN",
    )


def split_rows(labels: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and for validation, each ascending; stratified by label.

    Validation gets `share` of the rows, rounded but at least one, divided among the labels in
    proportion (largest remainders); every label stays in training. Raises DataError for a label
    seen once: it cannot be on both sides, and the caller knows what to do about it.

    >>> split_rows(["good", "bad", "good", "bad"], 0.5, seed=0)
    ([0, 1], [2, 3])
    """
    if not 0 < share < 1:
        raise UsageError(f"--valid-share is {share:g}", "a number between 0 and 1", "such as 0.1")
    by_label: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        by_label.setdefault(label, []).append(i)
    if once := [label for label, rows in by_label.items() if len(rows) == 1]:
        raise DataError(
            f"label {short(once[0])} is seen once"
            + (f" (and {len(once) - 1} others are)" if len(once) > 1 else ""),
            "at least 2 rows of each label to split off validation rows",
            "add rows, remove the label, or pass --valid FILE",
        )
    total = max(1, round(share * len(labels)))
    counts = {label: int(share * len(rows)) for label, rows in by_label.items()}
    by_remainder = sorted(by_label, key=lambda label: counts[label] - share * len(by_label[label]))
    for label in by_remainder[: total - sum(counts.values())]:
        counts[label] += 1
    shuffle = random.Random(seed)
    valid = []
    for label, rows in by_label.items():
        valid += shuffle.sample(rows, min(counts[label], len(rows) - 1))
    chosen = set(valid)
    return [i for i in range(len(labels)) if i not in chosen], sorted(valid)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        what = "it is a folder" if path.is_dir() else error.strerror or str(error)
        raise DataError(f"cannot read {path}: {what}", "a readable table file") from error
    if not content.strip(b"\xef\xbb\xbf \t\r\n"):
        raise DataError(f"{path} is empty", "a table with at least one row")
    return content


def _where(path: Path, kind: str, line: int) -> str:
    return f"{path} {'row' if kind == 'parquet' else 'line'} {line}"


def _fault(line: int, row: Row, required: Sequence[str]) -> BadRow | None:
    for name in required:
        if name not in row:
            return BadRow(line, f"no {short(name)}", f"it beside {names(list(row))}")
        if row[name] is None or row[name] != row[name]:
            return BadRow(line, f"{short(name)} is null", "a value")
    for name, value in row.items():
        if not isinstance(value, str):
            continue
        if len(value) > MAX_FIELD:
            reason = f"{short(name)} holds {len(value):,} characters"
            return BadRow(line, reason, f"at most {MAX_FIELD:,}")
        if match := UNUSABLE.search(value):
            what = "a NUL character" if match[0] == "\0" else "a broken character"
            return BadRow(line, f"{short(name)} holds {what}", "text in UTF-8")
    return None


def _text(value: Any, column: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value != value or isinstance(value, list | dict | bytes):
        raise DataError(f"{where}: {short(column)} is {short(value)}", "text or a number")
    return str(value)
