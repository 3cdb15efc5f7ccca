"""KerasNLP's tokenizers: Gemma's."""

from gemkit.compat.keras_nlp.tokenizer import Gemma3Tokenizer as Gemma3Tokenizer
from gemkit.compat.keras_nlp.tokenizer import GemmaTokenizer as GemmaTokenizer
from gemkit.compat.keras_nlp.tokenizer import Tokenizer as Tokenizer
from gemkit.compat.missing import names_missing

__all__ = ["Gemma3Tokenizer", "GemmaTokenizer", "Tokenizer"]

__getattr__ = names_missing(__name__, "GemmaTokenizer")
