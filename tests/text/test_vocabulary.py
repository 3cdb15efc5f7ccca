"""nano/vocabulary.py: Gemma's id layout, and what the trained vocabulary is good at."""

import pytest

from gemkit.text.tokenizer import Tokenizer

LAYOUT = {
    0: "<pad>",
    1: "<eos>",
    2: "<bos>",
    3: "<unk>",
    4: "<mask>",
    5: "<2mass>",
    6: "[@BOS@]",
    7: "<unused0>",
    66: "<unused59>",
    67: "<|fim_prefix|>",
    68: "<|fim_middle|>",
    69: "<|fim_suffix|>",
    70: "<|file_separator|>",
    71: "<unused64>",
    105: "<unused98>",
    106: "<start_of_turn>",
    107: "<end_of_turn>",
    108: "\n",
    109: "\n\n",
    138: "\n" * 31,
    139: "\u2581\u2581",
    140: "\u2581\u2581\u2581",
    168: "\u2581" * 31,
    169: "<table>",
    176: "<td>",
    177: "</table>",
    184: "</td>",
    185: "<h1>",
    191: "<blockquote>",
    192: "</h1>",
    198: "</blockquote>",
    199: "<strong>",
    204: "<s>",
    207: "<code>",
    208: "</strong>",
    216: "</code>",
    217: "<0x00>",
    226: "<0x09>",
    472: "<0xFF>",
}


@pytest.mark.parametrize("token", LAYOUT)
def test_ids_are_those_of_codegemma(codegemma, token):
    assert codegemma.id_to_piece(token) == LAYOUT[token]
    assert codegemma.token_to_id(LAYOUT[token]) == token


def test_size_is_what_was_asked_for(codegemma):
    assert codegemma.vocab_size == 800


def test_same_texts_give_the_same_file(vocabulary, model_file, texts, tmp_path):
    again = tmp_path / "again.model"
    vocabulary.train_vocabulary(iter(texts), again, size=800)
    assert again.read_bytes() == model_file.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.model"]


def test_frequent_characters_are_pieces_and_rare_ones_bytes(vocabulary, texts, tmp_path):
    path = tmp_path / "rare.model"
    vocabulary.train_vocabulary([*texts, "뷁 뷁", "쀍 쀍 쀍"], path, size=800)
    tokenizer = Tokenizer.from_file(path)
    assert len(tokenizer.encode("쀍")) == 1
    assert [tokenizer.id_to_piece(t) for t in tokenizer.encode("뷁")] == [
        f"<0x{byte:02X}>" for byte in "뷁".encode()
    ]


def test_indentation_is_two_tokens(codegemma):
    assert codegemma.encode("\n        return")[:2] == [108, 145]
    assert codegemma.id_to_piece(145) == "\u2581" * 8


def test_digits_stand_alone(codegemma):
    assert [codegemma.id_to_piece(t) for t in codegemma.encode("2012")] == ["2", "0", "1", "2"]


def test_too_little_text_leaves_no_file(vocabulary, tmp_path):
    with pytest.raises(RuntimeError, match="Vocabulary size too high"):
        vocabulary.train_vocabulary(["a b c " * 5], tmp_path / "none.model", size=4096)
    assert not list(tmp_path.iterdir())


def test_another_layout_is_refused(vocabulary, gemma3):
    with pytest.raises(ValueError, match="token 5 is .*multimodal.*expected '<2mass>'"):
        vocabulary.check_layout(gemma3.proto, gemma3.vocab_size)
