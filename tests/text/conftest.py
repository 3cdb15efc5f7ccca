"""Small vocabularies in the layouts of CodeGemma and Gemma 3, trained on text written here."""

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import pytest
import sentencepiece

from gemkit.text.tokenizer import Tokenizer

CODE = '''
def total(values, start=0):
    """Add the values up, beginning at start."""
    result = start
    for value in values:
        if value is None:
            continue
        result += value
    return result


class Basket:
    """Things with their prices, 12 at most."""

    def __init__(self, name, prices=()):
        self.name = name
        self.prices = list(prices)

    def add(self, price):
        if price < 0 or len(self.prices) >= 12:
            raise ValueError(f"cannot add {price} to {self.name!r}")
        self.prices.append(price)
        return self

    def average(self):
        return total(self.prices) / len(self.prices) if self.prices else 0.0
'''
PROSE = """
The soup was warm and the bread was fresh, so we stayed for another hour.
Hello, how are you today? I would like to order something sweet, please.
Nobody wanted to leave, although the waiter had already turned the lights down.
음식이 따뜻하고 빵이 신선해서 한 시간 더 있었어요.
가격은 조금 비싸지만 맛이 좋아서 다시 가고 싶어요.
직원이 친절하고 분위기가 좋았어요. 정말 맛있어요!
"""
TEXTS = [CODE, PROSE] * 4


@pytest.fixture(scope="session")
def code() -> str:
    return CODE


@pytest.fixture(scope="session")
def prose() -> str:
    return PROSE


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """What `codegemma` is trained on."""
    return TEXTS


@pytest.fixture(scope="session")
def vocabulary() -> ModuleType:
    """The script nano/vocabulary.py."""
    path = Path(__file__).parents[2] / "nano" / "vocabulary.py"
    spec = importlib.util.spec_from_file_location("nano_vocabulary", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model_file(vocabulary, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.model"
    vocabulary.train_vocabulary(TEXTS, path, size=800)
    return path


@pytest.fixture(scope="session")
def codegemma(model_file) -> Tokenizer:
    return Tokenizer.from_file(model_file)


@pytest.fixture(scope="session")
def gemma3(vocabulary) -> Tokenizer:
    """Gemma 3's order: one piece fewer before the turns, images and no fill-in-the-middle."""
    shared = vocabulary.user_defined_pieces()
    harmless = shared[shared.index("\n") :]
    pieces = [
        *("<mask>", "[multimodal]"),
        *(f"<unused{n}>" for n in range(99)),
        *("<start_of_turn>", "<end_of_turn>"),
        *harmless,
        "[toxicity=0]",
        *("<start_of_image>", "<end_of_image>"),
        *(f"<unused{n}>" for n in range(99, 120)),
    ]
    return _train(pieces)


@pytest.fixture(scope="session")
def train():
    """`train(pieces, **trainer settings)`: a vocabulary with user-defined `pieces` from id 4 on."""
    return _train


def _train(pieces: list[str], **overrides: object) -> Tokenizer:
    model = io.BytesIO()
    settings: dict[str, object] = dict(
        sentence_iterator=(line for text in TEXTS for line in text.split("\n") if line),
        model_writer=model,
        model_type="bpe",
        vocab_size=len(pieces) + 560,
        character_coverage=1.0,
        num_threads=1,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        pad_piece="<pad>",
        eos_piece="<eos>",
        bos_piece="<bos>",
        user_defined_symbols=pieces,
        minloglevel=2,
    )
    sentencepiece.SentencePieceTrainer.train(**(settings | overrides))
    return Tokenizer.from_bytes(model.getvalue())
