"""A run directory appears whole or not at all."""

from pathlib import Path

import pytest
import safetensors

from gemkit.errors import DataError, TrainingError, UsageError
from gemkit.evaluate.run_folder import new_run_folder


def test_it_appears_when_all_is_written(tmp_path: Path) -> None:
    out = tmp_path / "a" / "run"
    with new_run_folder(out) as folder:
        assert folder is not None and folder != out
        (folder / "file").write_text("x")
        assert not out.exists()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "a", "a/run", "a/run/file"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (TrainingError("the loss is nan"), TrainingError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(28, "No space left on device"), DataError),
        (safetensors.SafetensorError("I/O error"), DataError),
    ],
)
def test_nothing_is_left_when_something_fails(
    tmp_path: Path, error: BaseException, seen: type[BaseException]
) -> None:
    with pytest.raises(seen) as caught, new_run_folder(tmp_path / "run") as folder:
        assert folder is not None
        (folder / "half").write_text("x")
        raise error
    assert list(tmp_path.iterdir()) == []
    if seen is DataError:
        assert str(caught.value).startswith(f"cannot write {tmp_path / 'run'}: ")


def test_an_empty_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with new_run_folder(".") as folder:
        assert folder is not None
        (folder / "file").write_text("x")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="not an empty folder"), new_run_folder(out):
            pass
    with pytest.raises(DataError, match="Not a directory"), new_run_folder(tmp_path / "file" / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_none_is_no_folder() -> None:
    with new_run_folder(None) as folder:
        assert folder is None


def test_checkpoints_stay_where_they_are(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints" / "step-00000004").mkdir(parents=True)
    with pytest.raises(UsageError, match="cut off.*--resume"), new_run_folder(run):
        pass
    for text in ("once", "again"):
        with new_run_folder(run, resume=True) as folder:
            assert folder is not None
            (folder / "run.json").write_text(text)
            (folder / "adapter").mkdir()
            (folder / "adapter" / text).write_text(text)
        held = sorted(path.relative_to(run).as_posix() for path in run.rglob("*"))
        assert held == [
            "adapter", f"adapter/{text}", "checkpoints", "checkpoints/step-00000004", "run.json"
        ]  # fmt: skip
        assert (run / "run.json").read_text() == text
    assert list(tmp_path.iterdir()) == [run]


def test_what_a_kill_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".run.01234567.partial").mkdir()
    (tmp_path / ".other.01234567.partial").mkdir()
    with new_run_folder(tmp_path / "run", resume=True) as folder:
        assert folder is not None
        (folder / "run.json").write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.01234567.partial", "run"]
    with pytest.raises(UsageError, match="finished run without checkpoints"):
        new_run_folder(tmp_path / "run", resume=True).__enter__()
