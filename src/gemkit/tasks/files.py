"""Files and folders of text as a table: a row a file, with the columns path and text."""

from collections.abc import Collection, Iterator
from pathlib import Path

from gemkit.errors import DataError, GemkitError
from gemkit.text.source_file import plain, read_source
from gemkit.train.data import Table
from gemkit.train.table_files import KINDS, BadRow, Format

SOURCE_SUFFIXES = frozenset(
    ".bash .c .cc .clj .cpp .cs .cu .cxx .dart .ex .exs .go .h .hh .hpp .hs .java .jl .js .jsx .kt "
    ".lua .m .ml .mm .php .pl .proto .py .pyi .r .rb .rs .scala .sh .sql .swift .ts .tsx .zig"
    "".split()
)
TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".tex"})
OTHER_PEOPLES = frozenset(
    {"__pycache__", "build", "dist", "node_modules", "site-packages", "target", "vendor", "venv"}
)
"""Folders whose files are made or fetched, not written."""
MOST_BYTES = 1 << 20
"""A source file that is larger was not written by a person."""
COLUMNS = ("path", "text")


def is_table(path: Path) -> bool:
    """Whether a path names a table file rather than a text or a folder."""
    return path.suffix.lower() in KINDS and not path.is_dir()


def read_files(
    path: Path, suffixes: Collection[str], skip_bad_files: bool, most_bytes: int | None = None
) -> Table:
    """A file, or all files below a folder whose suffix is among `suffixes`, in order of names.

    Line ends become "\\n". In folders, hidden files and folders, `OTHER_PEOPLES`, blank files and
    those of more than `most_bytes` are left out.

    Raises:
      DataError: a file that cannot be read, unless these are skipped; none at all.
    """
    rows, bad = [], []
    files = [path]
    if path.is_dir():
        files = [
            file for file in files_below(path, suffixes)
            if most_bytes is None or file.stat().st_size <= most_bytes
        ]  # fmt: skip
    for number, file in enumerate(files, 1):
        name = file.name if file == path else file.relative_to(path).as_posix()
        try:
            text = plain(read_source(file).text)
        except GemkitError as error:
            if not skip_bad_files:
                raise
            bad.append(BadRow(number, error.what, error.expected))
            continue
        if text.strip():
            rows.append((number, {"path": name, "text": text}))
    if not rows:
        what = f"{path} holds no text" if not path.is_dir() else f"{path} holds no such files"
        raise DataError(what, f"files ending in {' '.join(sorted(suffixes))}")
    lines = [number for number, _ in rows]
    return Table(path, COLUMNS, [row for _, row in rows], lines, bad, Format("jsonl"))


def files_below(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Files whose suffix is among `suffixes`, in order of names; see `read_files`."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in OTHER_PEOPLES:
            continue
        if path.is_dir():
            # A link to a folder may lead back up.
            if not path.is_symlink():
                yield from files_below(path, suffixes)
        elif path.suffix.lower() in suffixes:
            yield path
