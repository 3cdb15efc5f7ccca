"""Models quantised as they are loaded: the same weights as afterwards, one matrix at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gemkit
from gemkit.adapt.quantize import method_of, quantize, quantized_bytes
from gemkit.checkpoint import load as load_module
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params, flatten, init_params, specs, unflatten

CONFIG = GemmaConfig(
    num_layers=2, hidden_size=64, intermediate_size=96, num_heads=2, num_kv_heads=1, head_dim=32,
    vocab_size=200, query_scale=32**-0.5,
)  # fmt: skip
FEW, MANY = (
    GemmaConfig(
        num_layers=layers, hidden_size=1024, intermediate_size=4096, num_heads=4, num_kv_heads=1,
        head_dim=256, vocab_size=32768, query_scale=1 / 16,
    )
    for layers in (4, 20)
)  # fmt: skip
MIB = 2**20
# Loads its first argument in the bits of the second, and tells of its memory.
LOADS = """
import json, sys
import jax.numpy as jnp
from gemkit.loading import load
from gemkit.model.weights import flatten
def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
jnp.zeros(64).block_until_ready()
before = status("VmRSS")
lm = load(sys.argv[1], quantize=sys.argv[2])
held = sum(leaf.nbytes for _, leaf in flatten(lm.base))
print(json.dumps({"took": status("VmHWM") - before, "held": held}))
"""


@pytest.fixture(params=["float32", "bfloat16"])
def folder(request: Any, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "m", CONFIG, init_params(CONFIG, 3, jnp.dtype(request.param)), None)
    return tmp_path / "m"


def leaves(params: Params) -> list[tuple[str, Any]]:
    return [(path, part) for path, leaf in flatten(params) for part in jax.tree.leaves(leaf)]


@pytest.mark.parametrize("method", ["int8", "int4"])
def test_the_same_as_quantised_afterwards(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = quantize(load_checkpoint(folder).params, CONFIG, method)
    # In blocks of rows too, the last of which overlaps the one before.
    monkeypatch.setattr("gemkit.adapt.quantize.BLOCK_ELEMENTS", 64 * 37)
    found = gemkit.load(folder, quantize=method).base
    assert method_of(found) == method
    for (path, ours), (_, theirs) in zip(leaves(found), leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs), path


@pytest.mark.parametrize("method", ["int8", "int4"])
def test_one_matrix_at_a_time_is_whole(
    folder: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {id(array) for array in jax.live_arrays()}
    seen: list[int] = []
    in_bits = load_module.in_bits

    def counted(matrix: jax.Array, bits: int) -> Any:
        small = in_bits(matrix, bits)
        own = (array for array in jax.live_arrays() if id(array) not in before)
        seen.append(sum(array.nbytes for array in own))
        return small

    monkeypatch.setattr(load_module, "in_bits", counted)
    params = load_checkpoint(folder, None, method).params
    itemsize = params["embed"].dtype.itemsize
    largest = max(spec.size for spec in specs(CONFIG).values()) * itemsize
    assert len(seen) == 15
    assert max(seen) <= quantized_bytes(CONFIG, method, itemsize) + largest


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_process_that_loads(tmp_path: Path) -> None:
    """16 layers more, 488 MB in bfloat16, add what they are in int4 and not what is read."""
    (few, few_held), (many, many_held) = (took_to_load(tmp_path, config) for config in (FEW, MANY))
    whole = 2 * (MANY.num_layers - FEW.num_layers) * layer_size(MANY)
    # Both processes import and compile the same; 64 MiB for what the allocator keeps.
    assert many - few < many_held - few_held + 64 * MIB < 0.45 * whole


def layer_size(config: GemmaConfig) -> int:
    return sum(spec.size for path, spec in specs(config).items() if path.startswith("layers.0."))


def took_to_load(folder: Path, config: GemmaConfig) -> tuple[int, int]:
    """Memory, in bytes, that a process took at its highest, and what its weights are."""
    path = folder / f"{config.num_layers}"
    tree = {path: jnp.zeros(spec.shape, jnp.bfloat16) for path, spec in specs(config).items()}
    save_checkpoint(path, config, unflatten(tree), None)
    source = str(Path(gemkit.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(path), "int4"],
        capture_output=True, check=False, env={**os.environ, "PYTHONPATH": source},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["held"] == quantized_bytes(config, "int4", 2)
    return found["took"], found["held"]
