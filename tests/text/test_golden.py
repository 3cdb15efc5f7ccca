"""Ids of the published vocabularies, for those who have the files (their licence keeps them out).

GEMKIT_GEMMA2_VOCABULARY and GEMKIT_GEMMA3_VOCABULARY name the tokenizer.model files. Expected ids
are from the tests of transformers and keras-hub.
"""

import os

import pytest

from gemkit.text.chat import chat_ids
from gemkit.text.tokenizer import Tokenizer

GEMMA_2 = {
    "This is a test": [1596, 603, 476, 2121],
    "A sample test": [235280, 6453, 2121],
    "生活的真谛是": [122182, 235710, 245467, 235427],
    "Hi  Hello": [2151, 139, 4521],
    "Hi   Hello": [2151, 140, 4521],
    "": [],
    " ": [235248],
    "  ": [139],
    " Hello": [25957],
    "<s> Hello<s>how": [204, 25957, 204, 1139],
    " <s> Hello<s> how": [235248, 204, 25957, 204, 1368],
    "\t\t\t\t \n\n61": [255971, 235248, 109, 235318, 235274],
    "The quick brown fox.": [651, 4320, 8426, 25341, 235265],
}
GEMMA_3 = {"The quick brown fox": [818, 3823, 8864, 37423]}


def published(variable: str) -> Tokenizer:
    if not (path := os.environ.get(variable)):
        pytest.skip(f"{variable} is not set")
    return Tokenizer.from_file(path)


@pytest.mark.parametrize("text", GEMMA_2)
def test_gemma_2(text):
    tokenizer = published("GEMKIT_GEMMA2_VOCABULARY")
    assert tokenizer.encode(text) == GEMMA_2[text]
    assert tokenizer.decode(GEMMA_2[text]) == text


@pytest.mark.parametrize("text", GEMMA_3)
def test_gemma_3(text):
    assert published("GEMKIT_GEMMA3_VOCABULARY").encode(text) == GEMMA_3[text]


def test_gemma_2_parses_special_pieces():
    text = "Hey<eos>. \t\t \n\nyou  é  @#😈  🤗!       , 1234 15 5,61"
    expected = [6750, 1, 235265, 235248, 255969, 235248, 109, 4747, 139, 235335, 139, 216311]
    expected += [241316, 139, 239880, 235341, 144, 235269, 235248, 235274, 235284, 235304, 235310]
    expected += [235248, 235274, 235308, 235248, 235308, 235269, 235318, 235274]
    tokenizer = published("GEMKIT_GEMMA2_VOCABULARY")
    assert tokenizer.encode(text, parse_special=True) == expected


def test_gemma_3_chat():
    tokenizer = published("GEMKIT_GEMMA3_VOCABULARY")
    ids, _ = chat_ids(tokenizer, [{"role": "user", "content": "Hello"}])
    assert ids == [2, 105, 2364, 107, 9259, 106, 107, 105, 4368, 107]
