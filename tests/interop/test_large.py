"""Gemma 2B in bfloat16, 5 GB in shards of more than 4 GB: the same model in transformers and
here, written there and here, and never much more memory than the model itself.

Each step is a process of its own. Its peak is VmHWM, the most that was resident at any time:
unlike `ru_maxrss` it does not begin with the parent's, and it counts pages of mapped files too,
so it is at least what the process needed.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from gemkit.checkpoint.save import save_leaves
from gemkit.model.variants import VARIANTS
from gemkit.model.weights import specs

SOURCE = Path(__file__).parents[2] / "src"
CONFIG = VARIANTS["gemma_2b_en"].config
MODEL_BYTES = 2 * VARIANTS["gemma_2b_en"].parameters
GIGABYTE = 10**9
NEEDED_BYTES = 15 * GIGABYTE
NOISE = np.random.default_rng(0).normal(size=2**22).astype(np.float32)


def leaf(number: int, shape: tuple[int, ...]) -> Any:
    """Gives random weights, quickly: the same noise, beginning elsewhere in each leaf."""

    def make() -> Any:
        scale = 0.1 if len(shape) == 1 else shape[-1] ** -0.5
        noise = np.roll((NOISE * scale).astype(ml_dtypes.bfloat16), number * 7919)
        return jnp.asarray(np.resize(noise, shape))

    return make


def run(program: str, *arguments: object) -> dict[str, Any]:
    """What the program says of itself, and its peak in bytes, by default that of all of it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK + program + SAY, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(SOURCE), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


PEAK = """
import functools

@functools.cache
def peak():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return 1024 * int(status["VmHWM"].split()[0])
"""
SAY = """
import json
print(json.dumps({**said, "peak": peak()}))
"""
# The peak is that of loading; what follows is to compare.
LOAD = """
import sys
from pathlib import Path
from gemkit.checkpoint.load import load_checkpoint, params_hash
loaded = load_checkpoint(Path(sys.argv[1]))
peak()
said = {"hash": params_hash(loaded.params), "loaded": loaded.report.loaded}
if sys.argv[2:]:
    import numpy as np
    from gemkit.checkpoint.parity import probe_logits
    from gemkit.model.weights import flatten
    np.save(sys.argv[2], probe_logits(loaded.config, dict(flatten(loaded.params)).__getitem__))
"""
CONVERT = """
import sys
from pathlib import Path
from gemkit.checkpoint.convert import convert
done = convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
said = {"difference": done.parity.difference, "largest": done.parity.largest}
"""
# Theirs reads our folder, answers the probe, and writes one of its own.
TRANSFORMERS = """
import sys
import numpy as np
import torch
import transformers
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, 16)
tokens[0] = 2
with torch.no_grad():
    np.save(sys.argv[2], model(torch.tensor(tokens)[None]).logits[0].float().numpy())
model.save_pretrained(sys.argv[3], max_shard_size="3GB")
said = {}
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose `ours` is the model, written leaf by leaf; removed at the end."""
    folder = tmp_path_factory.mktemp("large")
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        pytest.skip(f"{folder} has {free / GIGABYTE:.1f} GB free and this needs 15 GB")
    leaves = {
        path: leaf(number, spec.shape) for number, (path, spec) in enumerate(specs(CONFIG).items())
    }
    try:
        save_leaves(folder / "ours", CONFIG, leaves, "bfloat16", None, "hf")
        yield folder
    finally:
        shutil.rmtree(folder)


def test_transformers_has_the_same_logits_and_writes_the_same_weights(large: Path) -> None:
    sizes = [file.stat().st_size for file in large.glob("ours/*.safetensors")]
    assert len(sizes) == 2 and max(sizes) > 2**32
    loaded = run(LOAD, large / "ours", large / "ours.npy")
    assert loaded["loaded"] == len(specs(CONFIG))
    assert MODEL_BYTES < loaded["peak"] < MODEL_BYTES + GIGABYTE

    run(TRANSFORMERS, large / "ours", large / "theirs.npy", large / "theirs")
    theirs, ours = (np.load(large / f"{name}.npy") for name in ("theirs", "ours"))
    # Theirs computed in bfloat16, ours in float32, from the same weights.
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.05 * np.sqrt(np.mean(ours**2))

    assert len(list(large.glob("theirs/*.safetensors"))) > 1
    again = run(LOAD, large / "theirs")
    assert again["hash"] == loaded["hash"]
    assert again["peak"] < MODEL_BYTES + GIGABYTE
    shutil.rmtree(large / "theirs")


def test_converting_takes_less_than_loading(large: Path) -> None:
    done = run(CONVERT, large / "ours", large / "m.gguf", "gguf")
    assert done["largest"] > 1 and done["difference"] <= 1e-3 * done["largest"]
    assert done["peak"] < MODEL_BYTES
