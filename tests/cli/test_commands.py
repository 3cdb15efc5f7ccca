"""models, info, merge."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import small

from gemkit.adapt.quantize import quantized_bytes
from gemkit.cli import commands, commands_tune
from gemkit.model.variants import GEMMA_2B, VARIANTS
from gemkit.summary import human_bytes


def test_models_lists_every_variant(call: Any) -> None:
    rows = json.loads(call("models", "--json").out)
    by_name = {row["name"]: row for row in rows}
    assert by_name.keys() >= VARIANTS.keys()
    assert by_name["gemma_2b_en"] == {
        "name": "gemma_2b_en", "family": "Gemma 1", "parameters": 2_506_172_416,
        "bfloat16_bytes": 5_012_344_832, "context": 8192, "chat": False,
        "fim": False, "path": None,
    }  # fmt: skip
    assert by_name["code_gemma_7b_en"]["fim"]
    assert by_name["gemma3_instruct_1b"]["chat"]


def test_models_in_a_pipe_is_plain_columns(call: Any) -> None:
    head, *lines = call("models").out.splitlines()
    assert head.split()[:2] == ["name", "family"]
    line = next(line for line in lines if line.startswith("gemma2_27b_en "))
    assert line.split()[1:] == ["Gemma", "2", "27,227,128,320", "50.71", "GiB", "8,192"]


def test_a_variant_on_disk_is_shown(
    call: Any, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    folder = tmp_path / "models" / VARIANTS["gemma_2b_en"].kaggle
    folder.parent.mkdir(parents=True)
    folder.symlink_to(small_model)
    folder.with_name(f"{folder.name}.complete").touch()  # the mark of kagglehub
    rows = json.loads(call("models", "--json").out)
    assert [row["path"] for row in rows if row["name"] == "gemma_2b_en"] == [str(folder)]


def test_info_of_a_variant_needs_no_weights(call: Any) -> None:
    done = call("info", "gemma_2b_en", "--lora-rank", 4, "--targets", "q,v")
    assert (done.code, done.err) == (0, "")
    for said in (
        "Trainable parameters:          460,800", "Frozen parameters:       2,506,172,416",
        "enable_lora(4) trains 1,363,968", "cache 144.00 MiB", "Memory to tune, 512 tokens a step",
    ):  # fmt: skip
        assert said in done.out


def test_info_as_json(call: Any) -> None:
    found = json.loads(call("info", "gemma_2b_en", "--lora-rank", 4, "--json").out)
    assert found["config"]["num_layers"] == 18
    assert found["lora"]["keras_form_parameters"] == 1_363_968
    run, tune = found["memory"]["run"], found["memory"]["tune"]
    assert run["parts"]["cache"] == 18 * 2 * 8192 * 256 * 2
    assert run["parts"]["weights"] == 5_012_344_832 + found["adapter_bytes"]
    assert tune["parts"]["gradients"] == found["adapter_bytes"]
    assert run["total"] == sum(run["parts"].values()) < tune["total"]
    assert min(tune["instead"].values()) < tune["total"]
    plain = json.loads(call("info", "gemma_2b_en", "--json").out)
    assert "lora" not in plain
    assert plain["memory"]["tune"]["parts"]["gradients"] == 5_012_344_832
    assert "LoRA instead of all weights" in plain["memory"]["tune"]["instead"]


def test_info_says_whether_it_fits(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemkit.progress.free_memory", lambda: 2**30)
    done = call("info", "gemma_2b_en", "--lora-rank", 4)
    assert "GiB (too large)" in done.out and "Free memory: 1.00 GiB" in done.out
    assert "  less: " in done.out and "quantize int8" in done.out
    monkeypatch.setattr("gemkit.progress.free_memory", lambda: None)
    done = call("info", "gemma_2b_en")
    assert "too large" not in done.out and "Free memory" not in done.out


def test_info_of_quantised_weights(
    call: Any, fails: Any, small_model: Path, small_run: Any
) -> None:
    """An adapter is trained on them, since they cannot be."""
    found = json.loads(call("info", "gemma_2b_en", "--quantize", "int4", "--json").out)
    plain = json.loads(call("info", "gemma_2b_en", "--lora-rank", 4, "--json").out)
    size = quantized_bytes(GEMMA_2B, "int4", 2)
    assert (found["quantize"], found["weight_bytes"], found["lora"]["rank"]) == ("int4", size, 4)
    for kind in ("run", "tune"):
        parts = found["memory"][kind]["parts"]
        assert parts["weights"] == size + found["adapter_bytes"]
        assert parts["weights"] < plain["memory"][kind]["parts"]["weights"]
    shown = call("info", small_model, "--quantize", "int8").out
    assert f"({human_bytes(quantized_bytes(small.CONFIG, 'int8', 4))})" in shown
    fails(call("info", "gemma_2b_en", "--quantize", "int2"), "quantize is 'int2'; expected one", 2)
    fails(call("info", small_run.path, "--quantize", "int8"), "was tuned over whole weights", 2)


def test_info_of_a_folder_and_of_a_run(call: Any, small_model: Path, small_run: Any) -> None:
    base = json.loads(call("info", small_model, "--json").out)
    assert base["parameters"] * 4 == base["weight_bytes"]
    run = json.loads(call("info", small_run.path, "--json").out)
    assert run["lora"]["rank"] == small.RANK
    assert run["frozen"] == base["parameters"]


@pytest.mark.parametrize(("heads", "kv", "rank"), [(8, 1, 4), (16, 16, 1), (4, 2, 64)])
def test_keras_counts_one_b_for_all_heads(heads: int, kv: int, rank: int) -> None:
    config = small.CONFIG.__class__(
        **{**small.CONFIG.to_dict(), "num_heads": heads, "num_kv_heads": kv,
           "attention_pattern": ("global",)},
    )  # fmt: skip
    width, size = config.hidden_size, config.head_dim
    shapes = [(heads, width, rank), (rank, size), (kv, width, rank), (rank, size)]
    total = config.num_layers * sum(int(np.prod(shape)) for shape in shapes)
    assert commands.keras_adapter_count(config, rank) == total


def test_merge_gives_the_run_as_a_plain_model(call: Any, small_run: Any, tmp_path: Path) -> None:
    import gemkit

    done = call("merge", small_run.path, tmp_path / "merged", "--to", "hf")
    assert done.code == 0 and "adapter merged: 28 tensors loaded, 14 converted" in done.out
    assert "same likeliest token at 16 of 16 places" in done.out
    merged = gemkit.load(tmp_path / "merged")
    assert merged.lora is None
    ids = merged.tokenizer.encode("The warm soup", bos=True)
    ours, theirs = merged.logits(ids), small_run.result.lm.logits(ids)
    assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() < 1e-3


def test_merge_refuses(call: Any, fails: Any, small_run: Any, tmp_path: Path) -> None:
    fails(call("merge", small_run.path, tmp_path / "m", "--to", "onnx"), "format is 'onnx'", 2)
    fails(call("merge", small_run.path, tmp_path / "m", "--to", "gguf"), "attention_pattern is")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    fails(call("merge", small_run.path, tmp_path / "full"), "is not empty")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_help_of_tune_states_the_defaults_of_the_python_interface() -> None:
    """The figures stand twice, as help must not import JAX."""
    import inspect

    from gemkit import Lora, tune

    defaults = {name: p.default for name, p in inspect.signature(tune).parameters.items()}
    defaults |= {"rank": Lora.rank, "dropout": Lora.dropout}
    context = click.Context(commands_tune.tune)
    helps = {
        p.name: p.help or ""
        for p in commands_tune.tune.get_params(context)
        if isinstance(p, click.Option)
    }
    stated = {"optimizer": "adamw (default)", "schedule": "cosine (default)"}
    for name in ("valid_share", "rank", "dropout", "epochs", "batch_tokens", "weight_decay",
                 "warmup", "clip_norm", "seed"):  # fmt: skip
        stated[name] = f"default {defaults[name]:g}."
    for name, said in stated.items():
        assert said in helps[name], name
        assert name not in ("optimizer", "schedule") or said.startswith(defaults[name])
