"""A text file as it is on the disk: read, found one's way in, changed at one place.

Encoding, byte order mark, line ends, permissions and every byte elsewhere stay what they were.
"""

import codecs
import contextlib
import io
import os
import re
import shutil
import tokenize
from dataclasses import dataclass
from pathlib import Path

from gemkit.errors import DataError, UsageError

# UTF-32's little-endian mark begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LINE_END = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True)
class SourceFile:
    """A file's text.

    Attributes:
      path: of the file.
      text: its characters, line ends as they are, without the byte order mark.
      encoding: of the characters.
      mark: the byte order mark, or b"".
      content: the bytes it was read as.
    """

    path: Path
    text: str
    encoding: str
    mark: bytes
    content: bytes

    def offset(self, line: int, column: int | None = None) -> int:
        """Where in `text` a place is; both count from 1, without a column it is the line's end.

        Raises:
          UsageError: the file has no such place.
        """
        spans = self._lines()
        if not 1 <= line <= len(spans):
            raise UsageError(f"line {line} of {self.path}", f"1 to {len(spans)}, the lines it has")
        start, end = spans[line - 1]
        width = end - start
        if column is None:
            return end
        if not 1 <= column <= width + 1:
            raise UsageError(
                f"column {column} of {self.path} line {line}",
                f"1 to {width + 1}, just after its end",
            )
        return start + column - 1

    def lines(self, first: int, last: int) -> str:
        """The text of some lines, both ends included, with line ends "\\n".

        Raises:
          UsageError: the file has no such lines.
        """
        if last < first:
            raise UsageError(f"lines {first}-{last} of {self.path}", "the first before the last")
        self.offset(first)
        return plain(self.text[self.offset(first, 1) : self.offset(last)])

    def inserted(self, offset: int, text: str) -> bytes:
        """The file's bytes with `text` at a place of it, its line ends "\\n" as the file's.

        Raises:
          DataError: the encoding has no such characters, or does not give back the file's bytes.
        """
        before, after = self.text[:offset], self.text[offset:]
        ends = _LINE_END.findall(before)[-1:] or _LINE_END.findall(after)[:1] or ["\n"]
        text = text.replace("\n", ends[0])
        try:
            if self.mark + self.text.encode(self.encoding) != self.content:
                raise DataError(
                    f"{self.path} has bytes that are not usual in {self.encoding}",
                    "a file that can be written back as it is", "convert it to UTF-8",
                )  # fmt: skip
            return self.mark + (before + text + after).encode(self.encoding)
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.path} is {self.encoding} and cannot hold {error.object[error.start]!r}",
                "UTF-8", "convert the file",
            ) from None  # fmt: skip

    def insert(self, offset: int, text: str) -> None:
        """Replaces the file, in one step, by one with `text` at a place of it.

        Raises:
          DataError: as `inserted`; the file is read-only, or is another by now.
        """
        from gemkit.atomic import new_file

        content = self.inserted(offset, text)
        if _content(self.path) != self.content:
            raise DataError(
                f"{self.path} has changed since it was read", "the same file",
                "run the command again",
            )  # fmt: skip
        if not os.access(self.path, os.W_OK):
            raise DataError(f"{self.path} is read-only", "a file that may be written")
        with new_file(self.path, DataError) as unfinished:
            unfinished.write_bytes(content)
            with contextlib.suppress(PermissionError):
                stat = self.path.stat()
                os.chown(unfinished, stat.st_uid, stat.st_gid)
            shutil.copymode(self.path, unfinished)

    def _lines(self) -> list[tuple[int, int]]:
        """Start and end of each line, line ends left out."""
        spans, start = [], 0
        for match in _LINE_END.finditer(self.text):
            spans.append((start, match.start()))
            start = match.end()
        return [*spans, (start, len(self.text))]


def read_source(path: Path) -> SourceFile:
    """Reads a file in the encoding of its byte order mark or `coding:` line, else UTF-8.

    Raises:
      DataError: it cannot be read or is no text.
    """
    content = _content(path)
    mark, encoding = next((pair for pair in MARKS if content.startswith(pair[0])), (b"", ""))
    if not encoding:
        if (place := content.find(b"\0")) >= 0:
            raise DataError(f"{path} is binary: byte {place} is 0", "a text file")
        encoding = _declared(path, content)
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {encoding.upper()}: byte {error.start + len(mark)} is "
            f"0x{error.object[error.start]:02x}",
            "text in UTF-8", "convert the file",
        ) from None  # fmt: skip
    except LookupError:
        raise DataError(f"{path} declares the encoding {encoding}", "one of text") from None
    return SourceFile(path, text, encoding, mark, content)


def split_place(place: str) -> tuple[Path, int, int | None]:
    """`FILE:LINE[:COL]` → path, line, column.

    Raises:
      UsageError: another form.

    >>> split_place("a.py:3:7")[1:]
    (3, 7)
    """
    match = re.fullmatch(r"(.+?):(\d{1,9})(?::(\d{1,9}))?", place, re.DOTALL | re.ASCII)
    if match is None:
        raise UsageError(f"the place is {place!r}", "FILE:LINE or FILE:LINE:COL")
    return Path(match[1]), int(match[2]), int(match[3]) if match[3] else None


def split_range(place: str) -> tuple[Path, int, int] | None:
    """`FILE:START[-END]` → path, first and last line; None for a FILE alone.

    >>> split_range("a.py:3")[1:], split_range("a.py:3-9")[1:], split_range("a.py")
    ((3, 3), (3, 9), None)
    """
    match = re.fullmatch(r"(.+):(\d{1,9})(?:-(\d{1,9}))?", place, re.DOTALL | re.ASCII)
    return (Path(match[1]), int(match[2]), int(match[3] or match[2])) if match else None


def plain(text: str) -> str:
    """Line ends as models know them.

    >>> plain("a\\r\\nb\\rc\\n")
    'a\\nb\\nc\\n'
    """
    return _LINE_END.sub("\n", text)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "a text file") from None
    except ValueError:  # a NUL in the path
        raise DataError(f"cannot read {str(path)!r}: no possible name", "a text file") from None


def _declared(path: Path, content: bytes) -> str:
    try:
        return tokenize.detect_encoding(io.BytesIO(content).readline)[0]
    except SyntaxError:
        # Bytes that are no UTF-8 near the start, for which decoding says more; or a bad name.
        found = re.search(rb"coding[:=][ \t]*([-\w.]+)", b"".join(content.split(b"\n")[:2]))
        if found is None:
            return "utf-8"
        raise DataError(
            f"{path} declares the encoding {found[1].decode()}", "one that Python knows"
        ) from None
