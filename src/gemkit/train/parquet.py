"""Parquet by DuckDB: bytes to rows and back, the types of untouched columns kept.

Only what the file declares counts: no name, path or value of the user's becomes part of a query
unquoted, and DuckDB neither installs nor loads extensions.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gemkit.errors import DataError

# Python has no value for these, or none as fine: they are read as text and cast back.
AS_TEXT = re.compile(r"TIMESTAMP WITH TIME ZONE|TIMESTAMP_NS|TIME WITH TIME ZONE|MAP\(|INTERVAL")
# A new column's type, by that of its values.
TYPES: dict[type, str] = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE"}
MOST_DIGITS = 38


class Contents(NamedTuple):
    """What a file holds: names, rows, and the SQL type of each column."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    types: dict[str, str]


def read(path: Path, content: bytes) -> Contents:
    """The rows of a Parquet file.

    Raises:
      DataError: damaged, or columns that cannot be told apart or held.
    """
    duckdb = _duckdb()
    with _session(duckdb) as (connection, file):
        file.write_bytes(content)
        source = "read_parquet(?, hive_partitioning = false)"
        try:
            schema = connection.execute(
                "SELECT name, num_children, precision FROM parquet_schema(?)", [str(file)]
            ).fetchall()
            found = connection.execute(f"SELECT * FROM {source} LIMIT 0", [str(file)]).description
            types = [str(column[1]) for column in found]
            casts = (
                f"CAST({quoted(column[0])} AS {_held(kind)})"
                for column, kind in zip(found, types, strict=True)
            )
            rows = connection.execute(
                f"SELECT {', '.join(casts)} FROM {source}", [str(file)]
            ).fetchall()
        except duckdb.Error as error:
            reason = _reason(error).replace(str(file), path.name)
            raise DataError(
                f"{path}: damaged Parquet file ({reason})", todo="copy it again"
            ) from error
    columns = tuple(_top_level(schema))
    _check_names(str(path), columns)
    digits = max((precision or 0 for _, _, precision in schema), default=0)
    if digits > MOST_DIGITS:
        raise DataError(f"{path}: decimals of {digits} digits", f"at most {MOST_DIGITS}")
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    return Contents(columns, named, dict(zip(columns, types, strict=True)))


def write(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], types: Mapping[str, str],
    as_text: Callable[[Any], str],
) -> bytes:  # fmt: skip
    """The bytes of a Parquet file.

    Args:
      types: SQL types of columns that came from a file; they are kept where the values fit them
        exactly, else the column becomes text.
      as_text: spells a value of such a column.

    Raises:
      DataError: columns that cannot be told apart.
    """
    _check_names("Parquet", columns)
    duckdb = _duckdb()
    with _session(duckdb) as (connection, file):
        selected: list[str] = []
        lists: list[list[Any]] = []
        for name in columns:
            values = [row.get(name) for row in rows]
            kind = types.get(name) or _kind(connection, duckdb, values)
            if not _fits(connection, duckdb, values, kind):
                kind = "VARCHAR"
                values = [None if value is None else as_text(value) for value in values]
            lists.append(values)
            selected.append(f"{_column(len(lists), kind)} AS {quoted(name)}")
        connection.execute(f"CREATE TEMP TABLE written AS SELECT {', '.join(selected)}", lists)
        literal = str(file).replace("'", "''")
        connection.execute(f"COPY written TO '{literal}' (FORMAT parquet)")
        return file.read_bytes()


def quoted(name: str) -> str:
    """A name as SQL takes it for nothing else.

    >>> quoted('a" b')
    '"a"" b"'
    """
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _session(duckdb: ModuleType) -> Iterator[tuple[Any, Path]]:
    """A connection of its own, and where to put a file."""
    config = {
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
        "threads": "1",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:", config=config) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con, Path(folder) / "table.parquet"


def _duckdb() -> ModuleType:
    try:
        import duckdb
    except ImportError as error:
        raise DataError("Parquet files need duckdb", todo="pip install duckdb") from error
    return duckdb


def _held(kind: str) -> str:
    """The type as which a column is read."""
    return "VARCHAR" if AS_TEXT.search(kind) else kind


def _column(number: int, kind: str) -> str:
    return f"CAST(unnest(${number}::{_held(kind)}[]) AS {kind})"


def _kind(connection: Any, duckdb: ModuleType, values: list[Any]) -> str:
    """The type of a new column; "" if none holds all of its values."""
    found = {type(value) for value in values if value is not None}
    if len(found) <= 1:
        plain = TYPES.get(next(iter(found), str))
        if plain is not None:
            return plain
    try:
        return str(connection.execute("SELECT unnest($1)", [values]).description[0][1])
    except (duckdb.Error, UnicodeError):
        return ""


def _fits(connection: Any, duckdb: ModuleType, values: list[Any], kind: str) -> bool:
    """Whether the values come back from the type as they are; "2.7" as a whole number does not."""
    if kind in ("", "VARCHAR"):
        return bool(kind) and all(value is None or isinstance(value, str) for value in values)
    try:
        query = f"SELECT CAST({_column(1, kind)} AS {_held(kind)})"
        back = connection.execute(query, [values]).fetchall()
    except (duckdb.Error, UnicodeError, OverflowError):
        return False
    return len(back) == len(values) and all(
        value == kept or repr(value) == repr(kept)
        for value, (kept,) in zip(values, back, strict=True)
    )


def _top_level(schema: Sequence[tuple[str, int | None, int | None]]) -> Iterator[str]:
    """Names of the columns among those of all their parts, which follow each depth first."""
    below = 0
    for name, children, _ in schema[1:]:
        if below == 0:
            yield name
            below = 1
        below += (children or 0) - 1


def _check_names(where: str, columns: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in columns:
        if not name.strip() or "\0" in name:
            raise DataError(f"{where}: a column has the name {name!r}", "a name for each column")
        if name.lower() in seen:
            other = seen[name.lower()]
            raise DataError(
                f"{where}: two columns are named {other!r} and {name!r}",
                "names that differ in more than capitals", "rename one",
            )  # fmt: skip
        seen[name.lower()] = name


def _reason(error: Exception) -> str:
    first = " ".join(str(error).split("\n\n")[0].split())
    return first if len(first) <= 160 else first[:159] + "…"
