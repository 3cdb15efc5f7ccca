"""The variants table: one row per published Gemma model.

A row binds a name (KerasHub's), the configuration, the published parameter count and where the
weights live. Sources: google-deepmind/gemma `gm/nn/_gemma.py` and v3.0.0 `gemma/transformer.py`,
keras-hub `models/gemma{,3}/*_presets.py`, the model cards.
"""

import dataclasses
from collections.abc import Iterator

from gemkit.model.config import GemmaConfig

LICENCE = "https://ai.google.dev/gemma/terms"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A published model.

    Attributes:
      name: preset name, as KerasHub writes it.
      family: "Gemma 1", "CodeGemma", "Gemma 2" or "Gemma 3".
      config: its shape.
      parameters: published parameter count (embedding once).
      kaggle: handle of the Keras preset, owner/model/keras/name/version.
      hugging_face: org/name of the safetensors repository, "" if there is none for text only.
      instruct: trained on chat turns.
      fim: trained to fill in the middle.
    """

    name: str
    family: str
    config: GemmaConfig
    parameters: int
    kaggle: str
    hugging_face: str
    instruct: bool = False
    fim: bool = False


def _gemma1(layers: int, width: int, ffw: int, heads: int, kv_heads: int) -> GemmaConfig:
    return GemmaConfig(
        num_layers=layers, hidden_size=width, intermediate_size=ffw, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=256, vocab_size=256_000, query_scale=256**-0.5,
        max_positions=8192,
    )  # fmt: skip


def _gemma2(
    layers: int, width: int, ffw: int, heads: int, kv_heads: int, head_dim: int, per_query: int
) -> GemmaConfig:
    return GemmaConfig(
        num_layers=layers, hidden_size=width, intermediate_size=ffw, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=head_dim, vocab_size=256_000,
        query_scale=per_query**-0.5, attention_pattern=("local", "global"), sliding_window=4096,
        attn_logit_softcap=50.0, final_logit_softcap=30.0, post_norms=True, max_positions=8192,
    )  # fmt: skip


def _gemma3(
    layers: int, width: int, ffw: int, heads: int, kv_heads: int,
    head_dim: int = 256, per_query: int = 256, window: int = 1024, context: int = 131_072,
    rope_scale: float = 8.0,
) -> GemmaConfig:  # fmt: skip
    return GemmaConfig(
        num_layers=layers, hidden_size=width, intermediate_size=ffw, num_heads=heads,
        num_kv_heads=kv_heads, head_dim=head_dim, vocab_size=262_144,
        query_scale=per_query**-0.5, attention_pattern=("local",) * 5 + ("global",),
        sliding_window=window, rope_theta=1_000_000.0, rope_scale=rope_scale, qk_norm=True,
        post_norms=True, max_positions=context,
    )  # fmt: skip


GEMMA_2B = _gemma1(18, 2048, 16384, 8, 1)
GEMMA_7B = _gemma1(28, 3072, 24576, 16, 16)
GEMMA2_2B = _gemma2(26, 2304, 9216, 8, 4, 256, 256)
GEMMA2_9B = _gemma2(42, 3584, 14336, 16, 8, 256, 256)
# The 27B models divide by D/N, not by the head size.
GEMMA2_27B = _gemma2(46, 4608, 36864, 32, 16, 128, 144)
GEMMA3_270M = _gemma3(18, 640, 2048, 4, 1, window=512, context=32_768, rope_scale=1.0)
GEMMA3_1B = _gemma3(26, 1152, 6912, 4, 1, window=512, context=32_768, rope_scale=1.0)
GEMMA3_4B = _gemma3(34, 2560, 10240, 8, 4)
GEMMA3_12B = _gemma3(48, 3840, 15360, 16, 8)
GEMMA3_27B = _gemma3(62, 5376, 21504, 32, 16, head_dim=128, per_query=168)

# name, config, published count, Kaggle handle after the owner's folder, Hugging Face repository
_ROWS: tuple[tuple[str, GemmaConfig, int, str, str], ...] = (
    ("gemma_2b_en", GEMMA_2B, 2_506_172_416, "gemma/3", "gemma-2b"),
    ("gemma_instruct_2b_en", GEMMA_2B, 2_506_172_416, "gemma/3", "gemma-2b-it"),
    ("gemma_1.1_instruct_2b_en", GEMMA_2B, 2_506_172_416, "gemma/4", "gemma-1.1-2b-it"),
    ("gemma_7b_en", GEMMA_7B, 8_537_680_896, "gemma/4", "gemma-7b"),
    ("gemma_instruct_7b_en", GEMMA_7B, 8_537_680_896, "gemma/4", "gemma-7b-it"),
    ("gemma_1.1_instruct_7b_en", GEMMA_7B, 8_537_680_896, "gemma/5", "gemma-1.1-7b-it"),
    ("code_gemma_2b_en", GEMMA_2B, 2_506_172_416, "codegemma/2", "codegemma-2b"),
    ("code_gemma_1.1_2b_en", GEMMA_2B, 2_506_172_416, "codegemma/2", "codegemma-1.1-2b"),
    ("code_gemma_7b_en", GEMMA_7B, 8_537_680_896, "codegemma/3", "codegemma-7b"),
    ("code_gemma_instruct_7b_en", GEMMA_7B, 8_537_680_896, "codegemma/3", "codegemma-7b-it"),
    ("code_gemma_1.1_instruct_7b_en", GEMMA_7B, 8_537_680_896, "codegemma/3",
     "codegemma-1.1-7b-it"),
    ("gemma2_2b_en", GEMMA2_2B, 2_614_341_888, "gemma2/2", "gemma-2-2b"),
    ("gemma2_instruct_2b_en", GEMMA2_2B, 2_614_341_888, "gemma2/2", "gemma-2-2b-it"),
    ("gemma2_9b_en", GEMMA2_9B, 9_241_705_984, "gemma2/4", "gemma-2-9b"),
    ("gemma2_instruct_9b_en", GEMMA2_9B, 9_241_705_984, "gemma2/4", "gemma-2-9b-it"),
    ("gemma2_27b_en", GEMMA2_27B, 27_227_128_320, "gemma2/3", "gemma-2-27b"),
    ("gemma2_instruct_27b_en", GEMMA2_27B, 27_227_128_320, "gemma2/3", "gemma-2-27b-it"),
    ("gemma3_270m", GEMMA3_270M, 268_098_176, "gemma3/3", "gemma-3-270m"),
    ("gemma3_instruct_270m", GEMMA3_270M, 268_098_176, "gemma3/4", "gemma-3-270m-it"),
    ("gemma3_1b", GEMMA3_1B, 999_885_952, "gemma3/3", "gemma-3-1b-pt"),
    ("gemma3_instruct_1b", GEMMA3_1B, 999_885_952, "gemma3/3", "gemma-3-1b-it"),
    ("gemma3_4b_text", GEMMA3_4B, 3_880_099_328, "gemma3/2", "gemma-3-4b-pt"),
    ("gemma3_instruct_4b_text", GEMMA3_4B, 3_880_099_328, "gemma3/3", "gemma-3-4b-it"),
    ("gemma3_12b_text", GEMMA3_12B, 11_765_788_416, "gemma3/3", "gemma-3-12b-pt"),
    ("gemma3_instruct_12b_text", GEMMA3_12B, 11_765_788_416, "gemma3/3", "gemma-3-12b-it"),
    ("gemma3_27b_text", GEMMA3_27B, 27_009_002_240, "gemma3/4", "gemma-3-27b-pt"),
    ("gemma3_instruct_27b_text", GEMMA3_27B, 27_009_002_240, "gemma3/3", "gemma-3-27b-it"),
)  # fmt: skip

_FAMILIES = {
    "gemma": "Gemma 1", "codegemma": "CodeGemma", "gemma2": "Gemma 2", "gemma3": "Gemma 3",
}  # fmt: skip


def _variants() -> Iterator[Variant]:
    for name, config, parameters, where, repository in _ROWS:
        model, version = where.split("/")
        instruct = "instruct" in name
        yield Variant(
            name=name, family=_FAMILIES[model], config=config, parameters=parameters,
            kaggle=f"keras/{model}/keras/{name}/{version}",
            hugging_face=f"google/{repository}", instruct=instruct,
            fim=model == "codegemma" and not instruct,
        )  # fmt: skip


VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _variants()}
