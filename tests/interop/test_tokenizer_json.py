"""What transformers saves as tokenizer.json alone gives the same ids in both, on random strings."""

import importlib.util
import inspect
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

from gemkit.text.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("default")

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "src" / "gemkit" / "samples"
LONGEST_RUN = 31
PARTS = [
    *"etaoinshrdlu.,:;!?()[]{}<>=+-*/_#'\"0123456789\u00e9\u00df\u0301\u200d\u4e2d\u3042\x00\x7f",
    "음식이", "맛있어요", "정말", "뷁", "ㅋㅋㅋ", "한 시간", "생활", "😈", "🤗",
    "👩\u200d👩\u200d👧", "🇰🇷", "❤️", "def ", "return x", "self.", "import json", "    if x:\n",
    "==", "->", '"""', "print(", "3.14159", "1234", "<b>", "</table>", "<0x0A>", "<0x",
    "the ", "Hello", " world", "review",
    "\n", "\n\n", "\n" * 31, "\n" * 40, "\t", "\t\t", "\t" * 35, "\r\n", " ", "  ", "   ", " " * 7,
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vocabulary in nano's layout, trained on the samples and a little library code."""
    spec = importlib.util.spec_from_file_location("nano_vocabulary", ROOT / "nano/vocabulary.py")
    assert spec and spec.loader
    vocabulary = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(vocabulary)
    texts = [path.read_text("utf-8") for path in sorted(SAMPLES.glob("*/*.*"))]
    texts += [inspect.getsource(module) for module in (json.decoder, random, inspect)]
    path = tmp_path_factory.mktemp("vocabulary")
    vocabulary.train_vocabulary(texts, path / "tokenizer.model", size=2500)
    return path


@pytest.fixture(scope="module")
def original(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> transformers.GemmaTokenizer:
    return transformers.GemmaTokenizer.from_pretrained(folder, add_bos_token=False)


def saved(tokenizer: transformers.GemmaTokenizer, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    assert not (folder / "tokenizer.model").exists()
    return folder


@pytest.fixture(scope="module")
def ours(
    theirs: transformers.GemmaTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    return Tokenizer.from_file(saved(theirs, tmp_path_factory.mktemp("saved")))


def strings(count: int) -> Iterator[str]:
    """Without special tokens, and without runs of spaces longer than the longest piece.

    transformers takes special tokens wherever they are typed, and splits long runs otherwise.
    """
    rng = random.Random(5)
    while count:
        text = "".join(rng.choices(PARTS, k=rng.randrange(1, 40)))
        if " " * (LONGEST_RUN + 1) not in text:
            count -= 1
            yield text


def test_the_same_ids_as_transformers_and_as_the_original(
    original: Tokenizer, ours: Tokenizer, theirs: transformers.GemmaTokenizer
) -> None:
    assert ours.vocab_size == original.vocab_size == len(theirs)
    assert ours.special_ids == original.special_ids
    texts = [*strings(3000), *(" " * n + "x" for n in range(LONGEST_RUN + 1))]
    for text in texts:
        ids = ours.encode(text)
        assert ids == original.encode(text), text
        assert ids == theirs.encode(text, add_special_tokens=False), text
        assert ours.decode(ids) == text


def test_special_tokens_are_those_of_transformers(
    ours: Tokenizer, theirs: transformers.GemmaTokenizer
) -> None:
    text = "<bos><start_of_turn>user\nHi<eos> <end_of_turn>\n<|fim_prefix|>a<unused7><mask><unk>"
    ids = ours.encode(text, parse_special=True)
    assert ids == theirs.encode(text, add_special_tokens=False)
    assert {2, 106, 107, 67, 14, 4, 3, 1} <= {*ids}


def test_tokens_added_by_transformers(folder: Path, tmp_path: Path, original: Tokenizer) -> None:
    theirs = transformers.GemmaTokenizer.from_pretrained(folder, add_bos_token=False)
    theirs.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    theirs.add_tokens(["two words", "뷁"])
    ours = Tokenizer.from_file(saved(theirs, tmp_path))
    assert ours.vocab_size == len(theirs) == original.vocab_size + 3
    for text in ("two words", "a two words뷁뷁.", " two words "):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    text = "a<image_soft_token>b"
    assert ours.encode(text) == original.encode(text)
    assert ours.encode(text, parse_special=True) == theirs.encode(text, add_special_tokens=False)


def test_what_we_write_from_it_is_read_by_transformers(
    ours: Tokenizer, theirs: transformers.GemmaTokenizer, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(ours.proto)
    back = transformers.GemmaTokenizer.from_pretrained(tmp_path, add_bos_token=False)
    assert back.get_vocab() == theirs.get_vocab()
    for text in strings(200):
        assert back.encode(text) == theirs.encode(text), text
