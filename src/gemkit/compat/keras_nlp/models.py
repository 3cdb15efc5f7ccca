"""KerasNLP's models: Gemma's. One class serves all generations, under each of their names."""

from gemkit.compat.keras_nlp.backbone import Backbone as Backbone
from gemkit.compat.keras_nlp.backbone import Gemma3Backbone as Gemma3Backbone
from gemkit.compat.keras_nlp.backbone import GemmaBackbone as GemmaBackbone
from gemkit.compat.keras_nlp.causal_lm import CausalLM as CausalLM
from gemkit.compat.keras_nlp.causal_lm import Gemma3CausalLM as Gemma3CausalLM
from gemkit.compat.keras_nlp.causal_lm import GemmaCausalLM as GemmaCausalLM
from gemkit.compat.keras_nlp.preprocessor import CausalLMPreprocessor as CausalLMPreprocessor
from gemkit.compat.keras_nlp.preprocessor import (
    Gemma3CausalLMPreprocessor as Gemma3CausalLMPreprocessor,
)
from gemkit.compat.keras_nlp.preprocessor import (
    GemmaCausalLMPreprocessor as GemmaCausalLMPreprocessor,
)
from gemkit.compat.keras_nlp.tokenizer import Gemma3Tokenizer as Gemma3Tokenizer
from gemkit.compat.keras_nlp.tokenizer import GemmaTokenizer as GemmaTokenizer
from gemkit.compat.keras_nlp.tokenizer import Tokenizer as Tokenizer
from gemkit.compat.missing import names_missing

__all__ = [
    "Backbone", "CausalLM", "CausalLMPreprocessor", "Gemma3Backbone", "Gemma3CausalLM",
    "Gemma3CausalLMPreprocessor", "Gemma3Tokenizer", "GemmaBackbone", "GemmaCausalLM",
    "GemmaCausalLMPreprocessor", "GemmaTokenizer", "Tokenizer",
]  # fmt: skip

__getattr__ = names_missing(
    __name__,
    "Gemma, such as GemmaCausalLM; others need KerasNLP itself",
)
