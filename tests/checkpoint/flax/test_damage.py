"""Damaged and hostile Orbax folders: one clear line each, and nothing read outside the folder."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax_trees
import pytest
import tensorstore as ts

from gemkit.checkpoint.flax.lora import read_adapter
from gemkit.checkpoint.flax.orbax import find_folder
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.errors import CheckpointError, GemkitError
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params

Make = Callable[..., Params]
QUERY = "transformer/layer_0/attn/q_einsum.w"


@pytest.fixture
def ours(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> Path:
    """As gemkit writes it."""
    save_checkpoint(tmp_path / "c", tiny["gemma2"], weights(tiny["gemma2"]), None, "flax")
    return tmp_path / "c"


@pytest.fixture(scope="module")
def saved(
    tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, GemmaConfig], weights: Make
) -> Path:
    """The flat tree with a folder for each array, as Orbax saves it."""
    folder = tmp_path_factory.mktemp("saved") / "c"
    tree = flax_trees.flat(flax_trees.nested(tiny["gemma2"], weights(tiny["gemma2"])))
    flax_trees.save_as(folder, tree, use_ocdbt=False)
    return folder


@pytest.fixture
def folders(tmp_path: Path, saved: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "f"))


def message(path: Path) -> str:
    """The one line that loading fails with."""
    with pytest.raises(GemkitError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "holds a JSON list"),
        ("{}", "has no tree_metadata"),
        ('{"tree_metadata": []}', "has no tree_metadata"),
        ('{"tree_metadata": {"a": 3}}', "the entry 'a' is damaged"),
        ('{"tree_metadata": {"a": {"value_metadata": {}, "key_metadata": 1}}}', "'a' is damaged"),
        ('{"tree_metadata": {"a": {"value_metadata": {"value_type": "None"}, "key_metadata": []}}}',
         "holds no arrays"),
    ],
)  # fmt: skip
def test_damaged_metadata(ours: Path, content: str, said: str) -> None:
    (ours / "_METADATA").write_text(content)
    assert said in message(ours)


@pytest.mark.parametrize("kind", ["ours", "folders"])
@pytest.mark.parametrize("step", ["../outside", "/etc", "..", "", "a\0b", "x" * 5000, 7, None, {}])
def test_names_only_choose_among_the_arrays_there(
    tmp_path: Path, kind: str, step: Any, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    shutil.copytree(request.getfixturevalue("saved") / QUERY, tmp_path / "outside.w")

    def change(content: dict[str, Any]) -> None:
        node = next(iter(content["tree_metadata"].values()))
        node["key_metadata"] = [{"key": step, "key_type": 2}, {"key": "w", "key_type": 2}]

    edit(folder / "_METADATA", change)
    assert "lacks the array" in message(folder)


def test_an_array_that_is_lost(folders: Path) -> None:
    shutil.rmtree(folders / "transformer" / "layer_2" / "attn" / "q_einsum.w")
    assert "lacks the array 'transformer/layer_2/attn/q_einsum.w'" in message(folders)
    (folders / "_METADATA").rename(folders / "checkpoint")
    assert "missing transformer/layer_2/attn/q_einsum/w" in message(folders)


def test_a_piece_that_is_lost(folders: Path) -> None:
    (folders / QUERY / "0.0.0").unlink()
    assert "is damaged or no Orbax checkpoint" in message(folders)


def test_files_may_be_links(folders: Path, tmp_path: Path) -> None:
    """Hugging Face's cache keeps files elsewhere and links to them."""
    piece, blob = folders / QUERY / "0.0.0", tmp_path / "blob"
    piece.rename(blob)
    piece.symlink_to(blob)
    assert load_checkpoint(folders).report.loaded == 35
    blob.unlink()
    assert "is damaged or no Orbax checkpoint" in message(folders)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": [2**40, 24, 8]}, "claims [1099511627776, 24, 8] float32"),
        ({"shape": [2**62, 2**62, 8]}, ""),
        ({"chunks": [2**40, 24, 8]}, "in pieces of [1099511627776, 24, 8]"),
        ({"shape": [-1, 24, 8]}, "is damaged"),
        ({"shape": [1] * 30, "chunks": [1] * 30}, ""),
        ({"shape": [4, 24, 9]}, "has shape [4, 24, 9], expected [4, 24, 8]"),
        ({"dtype": "<i4"}, "has dtype int32"),
        ({"dtype": [["a", "<f4"], ["b", "<f4"]]}, "is damaged"),
        ({"dtype": "<f8"}, ""),
        ({"chunks": [0, 24, 8]}, "is damaged"),
        ({"compressor": {"id": "lzma"}}, "is damaged"),
        ({"compressor": {"id": "zlib", "level": 1}}, "is damaged"),
        ({"filters": [{"id": "delta"}]}, "is damaged"),
        ({"zarr_format": 9}, "is damaged"),
    ],
)
def test_damaged_descriptions_of_an_array(
    folders: Path, changes: dict[str, Any], said: str
) -> None:
    edit(folders / QUERY / ".zarray", lambda content: content.update(changes))
    assert said in message(folders)


def test_sizes_that_no_file_holds_together(folders: Path) -> None:
    """Each array alone would pass."""
    for norm in folders.glob("transformer/layer_*/*_norm.scale/.zarray"):
        edit(norm, lambda content: content.update(shape=[2**23], chunks=[24]))
    assert "and all files are" in message(folders)


def test_a_driver_of_its_own_is_not_heard(folders: Path, tmp_path: Path) -> None:
    """What is in the description of an array cannot send TensorStore elsewhere."""
    elsewhere = {"driver": "file", "path": str(tmp_path / "elsewhere") + "/"}
    (folders / QUERY / ".zarray").write_text(json.dumps({"driver": "zarr", "kvstore": elsewhere}))
    assert "is damaged" in message(folders)


def crc32c(content: bytes) -> bytes:
    register = 0xFFFFFFFF
    for byte in content:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return (register ^ 0xFFFFFFFF).to_bytes(4, "little")


def test_a_manifest_that_leads_outside(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    spec = {
        "driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"},
        "config": {"compression": None},
    }  # fmt: skip
    ts.KvStore.open(spec).result().write("a.w/.zarray", b"{}").result()
    (data,) = (folder / "d").iterdir()
    manifest = (folder / "manifest.ocdbt").read_bytes()
    assert manifest.endswith(crc32c(manifest[:-4])) and manifest.count(data.name.encode()) == 1
    outside = data.name[:-1]
    data.rename(tmp_path / outside)
    moved = manifest[:-4].replace(f"d/{data.name}".encode(), f"../{outside}".encode())
    (folder / "manifest.ocdbt").write_bytes(moved + crc32c(moved))
    said = message(folder)
    assert "is damaged or no Orbax checkpoint" in said and f"../{outside}" in said


@pytest.mark.parametrize("cut", [0, 1, 50])
def test_a_damaged_manifest(ours: Path, cut: int) -> None:
    manifest = ours / "manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:cut])
    assert "is damaged or no Orbax checkpoint" in message(ours)


def test_lost_data(ours: Path) -> None:
    for file in (ours / "d").iterdir():
        file.unlink()
    assert "is damaged or no Orbax checkpoint" in message(ours)


@pytest.mark.parametrize("seed", range(12))
def test_random_damage(
    ours: Path, seed: int, same: Callable[[Params, Params], bool], weights: Make,
    tiny: dict[str, GemmaConfig],
) -> None:  # fmt: skip
    """Either the weights come whole or the one line; what says the settings may say others."""
    draw = random.Random(seed)
    files = [file for file in sorted(ours.rglob("*")) if file.is_file()]
    for _ in range(6):
        file = draw.choice(files)
        content = bytearray(file.read_bytes())
        for _ in range(draw.choice([1, 1, 8])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        whole = file.read_bytes()
        file.write_bytes(content if draw.random() < 0.7 else content[: len(content) // 2])
        try:
            loaded = load_checkpoint(ours)
        except GemkitError as error:
            assert "\n" not in str(error)
        else:
            if file.parent.name != "d":  # pieces of arrays carry no checksum
                assert same(loaded.params, weights(tiny["gemma2"]))
        file.write_bytes(whole)


def test_an_array_twice(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    tree = flax_trees.nested(tiny["gemma1"], weights(tiny["gemma1"]))
    flax_trees.save(tmp_path / "names", tree | {"layer_0/attn/q_einsum": {"w": query_of(tree)}})
    assert "q_einsum.w twice" in message(tmp_path / "names")
    linear = {"w": tree["layer_0"]["mlp"]["linear"]}
    flax_trees.save(tmp_path / "paths", tree | {"layer_0/mlp/linear/w": linear["w"]})
    assert "layer_0/mlp/linear twice" in message(tmp_path / "paths")


def test_another_tree(tmp_path: Path, tiny: dict[str, GemmaConfig], weights: Make) -> None:
    tree = flax_trees.nested(tiny["gemma1"], weights(tiny["gemma1"]))
    flax_trees.save(tmp_path / "part", {"layer_0": tree["layer_0"]})
    assert "has no embedder/input_embedding; its tree begins layer_0." in message(tmp_path / "part")
    flax_trees.save(tmp_path / "more", tree | {"head": {"w": query_of(tree)}})
    assert "unknown head.w [4, 24, 8]" in message(tmp_path / "more")
    tree["layer_0"]["mlp"]["gating_einsum"] = tree["layer_0"]["mlp"]["gating_einsum"][:1]
    flax_trees.save(tmp_path / "cut", tree)
    assert "missing layer_0/mlp/gating_einsum" in message(tmp_path / "cut")


def query_of(tree: dict[str, Any]) -> Any:
    return tree["layer_0"]["attn"]["q_einsum"]["w"]


def test_folders_that_hold_nothing_of_orbax(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "d" / "_METADATA").write_text("{}")
    assert find_folder(tmp_path / "a") is None
    assert find_folder(tmp_path / "none") is None
    (tmp_path / "checkpoint").write_text("model_checkpoint_path: x")
    assert find_folder(tmp_path) is None
    with pytest.raises(CheckpointError, match="holds nothing that Orbax saved"):
        read_adapter(tmp_path, GemmaConfig(
            num_layers=1, hidden_size=2, intermediate_size=2, num_heads=1, num_kv_heads=1,
            head_dim=2, vocab_size=2, query_scale=1.0,
        ))  # fmt: skip
