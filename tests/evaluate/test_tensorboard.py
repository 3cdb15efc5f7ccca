"""Event files hold what the history holds; read back as TensorBoard reads them."""

import importlib.util
import struct
from pathlib import Path
from typing import Any

import pytest
import small

import gemkit
from gemkit.errors import DataError, UsageError
from gemkit.evaluate.tensorboard import TAGS, check_tensorboard, event_files, scalars

ROWS: list[dict[str, float]] = [
    {"step": 1, "epoch": 0.5, "loss": 2.5, "accuracy": 0.25, "learning_rate": 0.005,
     "tokens": 96, "slots": 128, "seconds": 0.5, "gradient_norm": 1.5, "peak_memory": 2**30},
    {"step": 1, "epoch": 0.5, "valid_loss": 2.0, "valid_macro_f1": 0.5},
    {"step": 2, "loss": 2.25, "tokens": 100, "seconds": 0.0},
]  # fmt: skip


def read_events(folder: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of the records in the only event file; their checksums must hold."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data: bytes) -> int:
        crc = crc32c(data)
        return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

    (path,) = folder.iterdir()
    assert path.name.startswith("events.out.tfevents.")
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        record, rest = content[12 : 12 + length], content[12 + length :]
        sums = struct.unpack("<I", content[8:12]), struct.unpack("<I", rest[:4])
        assert sums == ((masked(content[:8]),), (masked(record),))
        event: Any = Event.FromString(record)
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        content = rest[4:]
    return found


def test_events_read_back(tmp_path: Path) -> None:
    with event_files(tmp_path / "run" / "tensorboard") as tell:
        for row in ROWS:
            tell(row)
    found = read_events(tmp_path / "run" / "tensorboard")
    expected = [(tag, row["step"], value) for row in ROWS for tag, value in scalars(row).items()]
    assert len(expected) == 8 + 2 + 1
    assert [event[:2] for event in found] == [event[:2] for event in expected]
    assert [event[2] for event in found] == pytest.approx([event[2] for event in expected])


def test_every_figure_has_a_tag() -> None:
    shown = scalars(ROWS[0])
    assert set(TAGS.values()) < set(shown)
    assert (shown["train/padding"], shown["machine/tokens_a_second"]) == (0.25, 192.0)
    assert scalars(ROWS[1]) == {"valid/loss": 2.0, "valid/macro_f1": 0.5}


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    with event_files(None) as tell:
        tell(ROWS[0])


def test_an_error_keeps_what_was_told(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), event_files(tmp_path / "a") as tell:
        tell(ROWS[1])
        raise ZeroDivisionError
    assert len(read_events(tmp_path / "a")) == 2


def test_without_the_library_the_way_to_get_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'gemkit\[tensorboard\]'"):
        check_tensorboard()
    with pytest.raises(UsageError), event_files(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"), event_files(tmp_path / "file" / "a"):
        pass


def test_a_run_writes_them(small_model: Path, tmp_path: Path) -> None:
    data = tmp_path / "train.tsv"
    data.write_text(small.table(24), encoding="utf-8")
    settings = {**small.SETTINGS, "epochs": 1, "tensorboard": True, "checkpoint_every": 1}
    lm, task = gemkit.load(small_model), gemkit.tasks.Classify()
    result = gemkit.tune(lm, task, data, out=tmp_path / "run", **settings)
    found = read_events(tmp_path / "run" / "tensorboard")
    losses = [(step, value) for tag, step, value in found if tag == "train/loss"]
    history = [(row["step"], row["loss"]) for row in result.history if "loss" in row]
    assert [step for step, _ in losses] == [step for step, _ in history]
    assert [loss for _, loss in losses] == pytest.approx([loss for _, loss in history])
    assert {tag for tag, _, _ in found} > {"valid/loss", "valid/accuracy", "train/padding"}
    settings |= {"epochs": 2, "resume": True}
    longer = gemkit.tune(lm, task, data, out=tmp_path / "run", **settings)
    found = read_events(tmp_path / "run" / "tensorboard")
    steps = [step for tag, step, _ in found if tag == "train/loss"]
    assert steps == [row["step"] for row in longer.history if "loss" in row]
    assert len(steps) == 2 * len(losses), "those before the run was resumed too"
    settings |= {"resume": False, "checkpoint_every": None}
    with pytest.raises(UsageError, match="tensorboard or checkpoints without out"):
        gemkit.tune(lm, task, data, **settings)
