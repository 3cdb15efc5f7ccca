"""What is fuzzed: a small, whole sample of each kind of file, and the reader of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from gemkit.adapt.lora import Lora, init_adapter
from gemkit.checkpoint.adapters import read_adapter, write_adapter
from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.keras import write as keras_write
from gemkit.checkpoint.load import load_checkpoint
from gemkit.checkpoint.save import save_checkpoint
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import init_params
from gemkit.text.tokenizer import Tokenizer

CONFIG = GemmaConfig(
    num_layers=2, hidden_size=32, intermediate_size=64, num_heads=4, num_kv_heads=2, head_dim=8,
    vocab_size=320, query_scale=8**-0.5, attention_pattern=("local", "global"), sliding_window=5,
    attn_logit_softcap=50.0, final_logit_softcap=30.0, post_norms=True,
)  # fmt: skip
LORA = Lora(rank=2, targets=("q", "v"))


class Reader(NamedTuple):
    """One kind of file.

    Attributes:
      make: writes a whole sample into an empty folder.
      read: reads that folder.
    """

    make: Callable[[Path, Tokenizer], object]
    read: Callable[[Path], object]


def _model(format: str, dtype: str | None = None) -> Reader:
    name = "model.gguf" if format == "gguf" else "model"

    def make(folder: Path, tokenizer: Tokenizer) -> object:
        params = init_params(CONFIG, 0)
        return save_checkpoint(folder / name, CONFIG, params, tokenizer, format, dtype)

    return Reader(make, lambda folder: load_checkpoint(folder / name))


def _sharded(format: str, module: Any, shard_bytes: int) -> Reader:
    def make(folder: Path, tokenizer: Tokenizer) -> object:
        usual, module.SHARD_BYTES = module.SHARD_BYTES, shard_bytes
        try:
            return _model(format).make(folder, tokenizer)
        finally:
            module.SHARD_BYTES = usual

    return Reader(make, _model(format).read)


def _adapter(format: str) -> Reader:
    name = {"gguf": "a.gguf", "keras": "a.lora.h5"}.get(format, "a")

    def make(folder: Path, tokenizer: Tokenizer) -> object:
        adapter = init_adapter(CONFIG, LORA, 0)
        return write_adapter(folder / name, format, CONFIG, LORA, adapter)

    return Reader(make, lambda folder: read_adapter(folder / name, CONFIG))


def _vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    (folder / "tokenizer.model").write_bytes(tokenizer.proto)


def _encode(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(folder)
    tokenizer.decode(tokenizer.encode("the soup, 수프\n\t<end_of_turn>"))


READERS = {
    "hf": _model("hf"),
    "hf sharded": _sharded("hf", huggingface, 40_000),
    "keras": _model("keras"),
    "keras sharded": _sharded("keras", keras_write, 40_000),
    "flax": _model("flax"),
    "gguf": _model("gguf"),
    "gguf q8_0": _model("gguf", "q8_0"),
    "tokenizer.model": Reader(_vocabulary, _encode),
    "peft": _adapter("peft"),
    "keras lora": _adapter("keras"),
    "flax lora": _adapter("flax"),
    "gguf lora": _adapter("gguf"),
}

