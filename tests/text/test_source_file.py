"""Files read and changed at one place: encodings, line ends, permissions, places."""

import codecs
import os
from pathlib import Path

import pytest

from gemkit.errors import DataError, UsageError
from gemkit.text.source_file import read_source, split_place, split_range

TEXT = "one\ntwo 둘\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("line", "column", "before"),
    [
        (1, None, "one"), (1, 1, ""), (1, 4, "one"), (2, None, "one\ntwo 둘"),
        (2, 5, "one\ntwo "), (2, 6, "one\ntwo 둘"), (3, None, TEXT), (3, 1, TEXT),
    ],
)  # fmt: skip
def test_places_count_from_1(
    tmp_path: Path, end: str, line: int, column: int | None, before: str
) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(TEXT.replace("\n", end).encode())
    source = read_source(file)
    assert source.text[: source.offset(line, column)] == before.replace("\n", end)


@pytest.mark.parametrize(
    ("line", "column", "said"),
    [
        (0, None, "line 0 of .*; expected 1 to 3, the lines it has"),
        (4, None, "line 4 of .*; expected 1 to 3"),
        (2, 0, "column 0 of .* line 2; expected 1 to 6, just after its end"),
        (2, 7, "column 7 of .* line 2; expected 1 to 6"),
        (3, 2, "column 2 of .* line 3; expected 1 to 1"),
    ],
)
def test_places_that_are_not_there(
    tmp_path: Path, line: int, column: int | None, said: str
) -> None:
    file = tmp_path / "a.py"
    file.write_text(TEXT, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        read_source(file).offset(line, column)


def test_an_empty_file_has_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(b"")
    assert read_source(file).offset(1) == 0
    read_source(file).insert(0, "x = 1\n")
    assert file.read_bytes() == b"x = 1\n"


def test_some_lines(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(b"one\r\ntwo\r\nthree")
    source = read_source(file)
    assert [source.lines(*span) for span in ((1, 1), (1, 2), (2, 3))] == [
        "one", "one\ntwo", "two\nthree"
    ]  # fmt: skip
    for first, last in ((0, 1), (1, 4), (3, 2)):
        with pytest.raises(UsageError, match="line"):
            source.lines(first, last)


def encoded(mark: bytes, encoding: str, text: str) -> bytes:
    return mark + text.encode(encoding)


FILES = {
    "UTF-8": encoded(b"", "utf-8", "é = 1\n둘 = 2\n"),
    "a mark": encoded(codecs.BOM_UTF8, "utf-8", "é = 1\r\n둘 = 2\r\n"),
    "UTF-16 little": encoded(codecs.BOM_UTF16_LE, "utf-16-le", "é = 1\r\n둘 = 2\r\n"),
    "UTF-16 big": encoded(codecs.BOM_UTF16_BE, "utf-16-be", "é = 1\n둘 = 2\n"),
    "UTF-32": encoded(codecs.BOM_UTF32_LE, "utf-32-le", "é = 1\n둘 = 2\n"),
    "Latin-1": encoded(b"", "latin-1", "# coding: latin-1\né = 1"),
    "Korean": encoded(b"", "euc-kr", "# -*- coding: euc-kr -*-\n둘 = 2\n"),
    "old Mac": b"one = 1\rtwo = 2\r",
    "mixed ends": b"one = 1\r\ntwo = 2\nthree = 3\r\n",
    "no last end": b"one = 1",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_only_the_place_changes(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(content)
    file.chmod(0o750)
    source = read_source(file)
    offset = source.offset(2 if source._lines()[1:] else 1, 1)
    source.insert(offset, "x = 1\ny = 2\n")
    again = read_source(file)
    end = "\r\n" if "\r\n" in source.text else "\r" if "\r" in source.text else "\n"
    assert again.text == source.text[:offset] + f"x = 1{end}y = 2{end}" + source.text[offset:]
    assert (again.encoding, again.mark) == (source.encoding, source.mark)
    assert file.stat().st_mode & 0o777 == 0o750
    assert os.listdir(tmp_path) == ["a.py"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "a.py", tmp_path / "link.py"
    file.write_bytes(b"x = 1\n")
    link.symlink_to(file)
    read_source(link).insert(0, "y = 2\n")
    assert link.is_symlink() and file.read_bytes() == b"y = 2\nx = 1\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF\x02\x00\x01", r"a.py is binary: byte 5 is 0; expected a text file"),
        ("é".encode("latin-1"), "a.py is not UTF-8: byte 0 is 0xe9"),
        (b"x = 1\n" * 99 + b"\xff", "a.py is not UTF-8: byte 594 is 0xff"),
        (codecs.BOM_UTF8 + b"\xff", "a.py is not UTF-8: byte 3 is 0xff"),
        (codecs.BOM_UTF16_LE + b"a", "a.py is not UTF-16-LE: byte 2"),
        (b"# coding: nonsense\n", "a.py declares the encoding nonsense; expected one that"),
        (b"# coding: hex\n", "a.py declares the encoding hex; expected one of text"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_source(file)


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.py", "No such file"), (".", "Is a directory"), ("a\0b", "no possible name")],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(DataError, match=f"cannot read .*: {said}"):
        read_source(tmp_path / name)


def test_what_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(b"# coding: latin-1\n")
    source = read_source(file)
    with pytest.raises(DataError, match="a.py is iso-8859-1 and cannot hold '국'"):
        source.insert(0, "국수")
    assert file.read_bytes() == b"# coding: latin-1\n"
    file.write_bytes(b"another\n")
    with pytest.raises(DataError, match="has changed since it was read"):
        source.insert(0, "x")
    assert file.read_bytes() == b"another\n"
    # An escape sequence that says again what already holds is lost when written anew.
    content = b"# coding: iso2022_jp\n\x1b(Bx\n"
    file.write_bytes(content)
    with pytest.raises(DataError, match="bytes that are not usual in iso2022_jp"):
        read_source(file).insert(0, "x")
    assert file.read_bytes() == content


def test_a_read_only_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.py"
    file.write_bytes(b"x\n")
    source = read_source(file)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (file, os.W_OK))
    with pytest.raises(DataError, match="a.py is read-only"):
        source.insert(0, "y")
    assert file.read_bytes() == b"x\n"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("a.py:1", ("a.py", 1, None)), ("a.py:10:2", ("a.py", 10, 2)),
        ("b:c.py:3:0", ("b:c.py", 3, 0)), ("a:1:2:3", ("a:1", 2, 3)),
    ],
)  # fmt: skip
def test_places(place: str, found: tuple[str, int, int | None]) -> None:
    assert split_place(place) == (Path(found[0]), *found[1:])


@pytest.mark.parametrize("place", ["", "a.py", "a.py:", "a.py:x", ":3", "a.py:-1", "a.py:٣"])
def test_places_of_another_form(place: str) -> None:
    with pytest.raises(UsageError, match="the place is .*; expected FILE:LINE or FILE:LINE:COL"):
        split_place(place)


def test_ranges() -> None:
    assert split_range("a:b.py:3-12") == (Path("a:b.py"), 3, 12)
    assert split_range("a.py:7") == (Path("a.py"), 7, 7)
    for place in ("a.py", "a.py:x", "a.py:1-", "a.py:1-2-3"):
        assert split_range(place) is None
