"""Parquet by DuckDB, held against what pyarrow writes and reads."""

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemkit.errors import DataError
from gemkit.train import parquet

NOW = dt.datetime(2024, 1, 2, 3, 4, 5, 678901)
PATH = Path("a.parquet")

# Arrow type → values, and the type that comes back where Parquet or DuckDB has but one of a kind.
KEPT: list[tuple[pa.DataType, list[Any], pa.DataType | None]] = [
    (pa.string(), ["a", "", "한", None], None),
    (pa.large_string(), ["a"], pa.string()),
    (pa.bool_(), [True, False, None], None),
    (pa.int8(), [-128, None], None), (pa.uint8(), [255], None),
    (pa.int16(), [-(2**15)], None), (pa.uint16(), [2**16 - 1], None),
    (pa.int32(), [-(2**31)], None), (pa.uint32(), [2**32 - 1], None),
    (pa.int64(), [-(2**63), None], None), (pa.uint64(), [2**64 - 1], None),
    (pa.float16(), [1.5], pa.float32()), (pa.float32(), [0.1, None, float("inf")], None),
    (pa.float64(), [0.1, -0.0, float("-inf")], None),
    (pa.binary(), [b"\0\xff", b"", None], None), (pa.binary(2), [b"ab"], pa.binary()),
    (pa.date32(), [NOW.date(), None], None), (pa.time64("us"), [NOW.time(), None], None),
    (pa.time32("ms"), [dt.time(1)], pa.time64("us")),
    (pa.timestamp("us"), [NOW, None], None), (pa.timestamp("ms"), [dt.datetime(2024, 1, 2)],
                                               pa.timestamp("us")),
    (pa.timestamp("us", "UTC"), [NOW.replace(tzinfo=dt.UTC), None], None),
    (pa.timestamp("ns"), [NOW, None], None),
    (pa.decimal128(10, 2), [Decimal("1.20"), Decimal("-3.45"), None], None),
    (pa.list_(pa.field("element", pa.int32())), [[1, 2], [], None], None),
    (pa.list_(pa.field("element", pa.timestamp("us", "UTC"))), [[NOW.replace(tzinfo=dt.UTC)]],
     None),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), [{"a": 1, "b": None}, None], None),
    (pa.list_(pa.field("element", pa.struct([("role", pa.string())]))), [[{"role": "u"}], []],
     None),
    (pa.map_(pa.string(), pa.int32()), [[("k = {,}'\" \\", 1)], [], None], None),
    (pa.null(), [None, None], None),
]  # fmt: skip


def as_text(value: Any) -> str:
    return str(value)


def content(tmp_path: Path, table: pa.Table) -> bytes:
    pq.write_table(table, tmp_path / "x")
    return (tmp_path / "x").read_bytes()


def column(tmp_path: Path, data: bytes) -> pa.Table:
    (tmp_path / "y").write_bytes(data)
    return pq.read_table(tmp_path / "y")


@pytest.mark.parametrize(("kind", "values", "becomes"), KEPT, ids=str)
def test_types_and_values_come_back(
    tmp_path: Path, kind: pa.DataType, values: list[Any], becomes: pa.DataType | None
) -> None:
    found = parquet.read(
        PATH, content(tmp_path, pa.table({"c": pa.array(values, kind), "n": range(len(values))}))
    )
    assert [row["n"] for row in found.rows] == list(range(len(values)))
    written = column(tmp_path, parquet.write(found.columns, found.rows, found.types, as_text))
    assert written.schema.types[0] == (becomes or kind)
    assert written.column("c").to_pylist() == pa.array(values, kind).to_pylist()


def test_values_finer_than_pythons_are_text_and_come_back(tmp_path: Path) -> None:
    nanoseconds = pa.array([1_700_000_000_000_000_001], pa.timestamp("ns"))
    found = parquet.read(PATH, content(tmp_path, pa.table({"c": nanoseconds})))
    assert found.rows == [{"c": "2023-11-14 22:13:20.000000001"}]
    written = column(tmp_path, parquet.write(("c",), found.rows, found.types, as_text))
    assert written.column("c").cast(pa.int64()) == pa.chunked_array([nanoseconds.cast(pa.int64())])


def test_not_a_number_comes_back(tmp_path: Path) -> None:
    data = content(tmp_path, pa.table({"c": pa.array([float("nan")], pa.float32())}))
    found = parquet.read(PATH, data)
    written = column(tmp_path, parquet.write(("c",), found.rows, found.types, as_text))
    assert str(written.column("c")[0]) == "nan" and written.schema.types == [pa.float32()]


@pytest.mark.parametrize(
    ("was", "values", "becomes"),
    [
        ("BIGINT", ["one", None], ["one", None]),
        ("BIGINT", [2.7], ["2.7"]),
        ("BIGINT", ["5"], ["5"]),
        ("TINYINT", [128], ["128"]),
        ("BOOLEAN", ["yes"], ["yes"]),
        ("VARCHAR", [5, "a"], ["5", "a"]),
        ("TIMESTAMP_NS", ["not a time"], ["not a time"]),
        ("DATE", [NOW], [str(NOW)]),
        ("DOUBLE", [3], [3.0]),
    ],
)
def test_values_of_another_type_become_text_and_are_never_bent(
    tmp_path: Path, was: str, values: list[Any], becomes: list[Any]
) -> None:
    rows = [{"c": value} for value in values]
    written = column(tmp_path, parquet.write(("c",), rows, {"c": was}, as_text))
    assert written.column("c").to_pylist() == becomes


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], pa.string()), ([1, None], pa.int64()), ([0.5], pa.float64()),
        ([True], pa.bool_()), ([None], pa.string()), ([], pa.string()), ([1, 0.5], pa.float64()),
        ([1, "a"], pa.string()), ([2**70], pa.string()), ([1, [2]], pa.string()),
        ([["a"], []], pa.list_(pa.field("element", pa.string()))),
        ([{"a": "b"}], pa.struct([("a", pa.string())])), ([{"a": 1}, {"b": 2}], pa.string()),
        ([Decimal("1.5")], pa.decimal128(2, 1)), ([NOW], pa.timestamp("us")),
    ],
)  # fmt: skip
def test_types_of_new_columns(tmp_path: Path, values: list[Any], kind: pa.DataType) -> None:
    rows = [{"c": value} for value in values]
    written = column(tmp_path, parquet.write(("c",), rows, {}, as_text))
    assert written.schema.types == [kind]
    same = [value if value is None or kind != pa.string() else str(value) for value in values]
    assert written.column("c").to_pylist() == same


NAMES = ("select", "a b", "'", '"', '"; DROP TABLE written; --', "한", "$1", "C0", "a.b", "x\ny")


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    table = pa.table({name: [number] for number, name in enumerate(NAMES)})
    found = parquet.read(PATH, content(tmp_path, table))
    assert found.columns == NAMES
    written = parquet.write(found.columns, found.rows, found.types, as_text)
    assert column(tmp_path, written).to_pylist() == table.to_pylist()
    nested = pa.table({"s": [{'a"b': 1, "MAP(": "x", "INTERVAL": None}], "l": [[[1]]], "z": [1]})
    found = parquet.read(PATH, content(tmp_path, nested))
    assert found.columns == ("s", "l", "z")
    written = parquet.write(found.columns, found.rows, found.types, as_text)
    assert column(tmp_path, written).column("s").to_pylist() == nested.column("s").to_pylist()


def test_files_that_are_refused(tmp_path: Path) -> None:
    whole = content(tmp_path, pa.table({"c": ["a" * 100] * 100}))
    for data, said in (
        (b"", "a.parquet: damaged Parquet file ("),
        (whole[:-50], "damaged"),
        (whole[:20] + bytes(100) + whole[120:], "damaged"),
        (content(tmp_path, pa.table([[1], [2]], names=["x", "x"])), "two columns are named"),
        (content(tmp_path, pa.table([[1], [2]], names=["x", "X"])), "differ in more than capitals"),
        (content(tmp_path, pa.table([[1]], names=[""])), "a name for each column"),
        (content(tmp_path, pa.table({"c": [Decimal(10) ** 45]})), "decimals of 46 digits"),
    ):
        with pytest.raises(DataError) as caught:
            parquet.read(PATH, data)
        assert said in str(caught.value) and "\n" not in str(caught.value)
        assert "/tmp" not in str(caught.value)
    with pytest.raises(DataError, match="names that differ"):
        parquet.write(("a", "A"), [{"a": 1, "A": 2}], {}, as_text)


def test_equal_rows_give_equal_bytes() -> None:
    rows = [{"c": f"row {number}", "n": number} for number in range(3000)]
    assert parquet.write(("c", "n"), rows, {}, as_text) == parquet.write(
        ("c", "n"), rows, {}, as_text
    )


def test_nothing_is_installed_or_loaded_unasked() -> None:
    with parquet._session(parquet._duckdb()) as (connection, _):
        query = "SELECT value FROM duckdb_settings() WHERE name LIKE 'auto%_known_extensions'"
        assert connection.execute(query).fetchall() == [("false",), ("false",)]
