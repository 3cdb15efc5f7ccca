"""Files and folders appear whole or not at all."""

import os
import threading
from pathlib import Path

import pytest
import safetensors

from gemkit import atomic
from gemkit.errors import CheckpointError, DataError

FAILURES = [
    (OSError(28, "No space left on device"), DataError),
    (safetensors.SafetensorError("I/O error"), DataError),
    (CheckpointError("something else"), CheckpointError),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize(("error", "seen"), FAILURES)
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, old: str | None, error: BaseException, seen: type[BaseException]
) -> None:
    folder, file = tmp_path / "folder", tmp_path / "file"
    if old is not None:
        folder.mkdir()
        (folder / "f").write_text(old)
        file.write_text(old)
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    with pytest.raises(seen) as caught, atomic.new_folder(folder, DataError) as unfinished:
        (unfinished / "f").write_text("half")
        raise error
    if seen is DataError:
        assert str(caught.value).startswith(f"cannot write {folder}: ")
    with pytest.raises(seen), atomic.new_file(file, DataError) as unfinished:
        unfinished.write_text("half")
        raise error
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_the_disk_refuses_meanwhile_takes_no_place(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told only once: what is asked for at the end succeeds."""
    asked: list[Path] = []
    told = threading.Event()

    def settle(path: Path) -> None:
        asked.append(path)
        if len(asked) == 1:
            told.set()
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(atomic, "_settle", settle)
    monkeypatch.setattr(atomic, "WRITE_BACK_SECONDS", 0.001)
    target = tmp_path / kind
    fresh = atomic.new_file if kind == "file" else atomic.new_folder
    with pytest.raises(DataError, match="Input/output error"), fresh(target, DataError) as beside:
        (beside if kind == "file" else beside / "f").write_text("new")
        assert told.wait(10)
    assert list(tmp_path.iterdir()) == []


def test_they_take_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("one", "two"):
        with atomic.new_folder(tmp_path / "a" / "folder", DataError) as unfinished:
            (unfinished / text).write_text(text)
        with atomic.new_file(tmp_path / "a" / "file", DataError) as unfinished:
            unfinished.write_text(text)
    assert os.listdir(tmp_path / "a" / "folder") == ["two"]
    assert (tmp_path / "a" / "file").read_text() == "two"
    assert sorted(os.listdir(tmp_path / "a")) == ["file", "folder"]


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=rf"needs {2**60} bytes and \d+ are free"),
        atomic.new_file(tmp_path / "file", DataError, needed=2**60),
    ):
        pytest.fail("begun all the same")
    assert not os.listdir(tmp_path)


def test_writing_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.tsv", tmp_path / "folder"):
        with pytest.raises(DataError, match="cannot write"):
            atomic.write_bytes(path, b"", DataError)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_links_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "new" / "a.tsv"
    atomic.write_bytes(real, b"1", DataError)
    (tmp_path / "link.tsv").symlink_to(real)
    atomic.write_bytes(tmp_path / "link.tsv", b"2", DataError)
    assert (tmp_path / "link.tsv").is_symlink() and real.read_bytes() == b"2"
