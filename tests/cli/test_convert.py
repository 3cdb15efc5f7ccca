"""convert and adapter."""

import re
from pathlib import Path
from typing import Any

from gemkit.checkpoint.adapters import compare, read_adapter
from gemkit.checkpoint.load import read_shape


def test_convert_there_and_back(call: Any, small_model: Path, tmp_path: Path) -> None:
    done = call("convert", small_model, tmp_path / "flax", "--to", "flax")
    assert done.code == 0 and "28 tensors loaded, 0 converted → Flax checkpoint" in done.out
    done = call("convert", tmp_path / "flax", tmp_path / "hf")
    assert done.code == 0 and "logits equal to the last bit" in done.out
    assert read_shape(tmp_path / "hf") == read_shape(small_model)


def test_convert_refuses(call: Any, fails: Any, small_model: Path, tmp_path: Path) -> None:
    fails(call("convert", small_model, tmp_path / "m", "--to", "onnx"), "format is 'onnx'", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    fails(call("convert", small_model, tmp_path / "full"), "is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_the_adapter_of_a_run_for_keras(
    call: Any, fails: Any, small_run: Any, small_model: Path, tmp_path: Path
) -> None:
    """Its heads share no B: the rank that the refusal names keeps all of it."""
    target, config = tmp_path / "a.lora.h5", read_shape(small_model)[0]
    command = ("adapter", small_run.path, target, "--to", "keras", "--model", small_model)
    refused = call(*command)
    fails(refused, "--approximate", 2)
    rank = re.search(r"--rank \d+", refused.err)
    assert rank is not None
    done = call(*command, *rank[0].split())
    assert done.code == 0 and "14 matrices" in done.out
    ours = read_adapter(small_run.path / "adapter", config)
    assert compare(ours, read_adapter(target, config)).relative < 1e-5
    fails(call("adapter", small_run.path, tmp_path / "b", "--rank", 4), "a rank for Keras only", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lora.h5"]
