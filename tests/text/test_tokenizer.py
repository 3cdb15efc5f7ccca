"""Round trips, streaming, special tokens and errors of the tokenizer."""

import random

import numpy as np
import pytest
import sentencepiece

from gemkit.errors import TokenizerError
from gemkit.text.tokenizer import FILE_NAMES, Tokenizer

TYPED = [
    "<bos>",
    "<eos>",
    "<pad>",
    "<unk>",
    "<mask>",
    "<2mass>",
    "[@BOS@]",
    "[multimodal]",
    "[toxicity=0]",
    "<unused0>",
    "<unused98>",
    "<unused99>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|file_separator|>",
    "<start_of_image>",
    "<end_of_image>",
]
HARMLESS = ["\n", "\n\n\n", "  ", " " * 31, "<table>", "</td>", "<h6>", "<b>", "<s>", "</code>"]

ALPHABET = [
    *"abcxyz019 .,(){}[]<>|_@=",
    *("\n", "\n\n", "\t", "\t\t", " ", "   ", " " * 40, "\n" * 40, "\r\n", "\0", "\x7f"),
    *("한", "글", "뷁", "각", "ㅋ", "ㅠ"),
    *("😀", "👩\u200d🍳", "🇰🇷", "❤\ufe0f", "e\u0301", "\u1112\u1161\u11ab", "\u0e33", "é", "ß"),
    *("\ufeff", "\u00a0", "\u3000", "\u2028", "\ufffd", "\U0010ffff"),
    *("return", " self", "    if ", "<0x0A>", "<bos", "of_turn>", "[@", "BOS@]"),
    *TYPED,
    *HARMLESS,
]


def random_texts(count: int, seed: int) -> list[str]:
    chooser = random.Random(seed)
    return ["".join(chooser.choices(ALPHABET, k=chooser.randrange(30))) for _ in range(count)]


@pytest.fixture(params=["codegemma", "gemma3"])
def tokenizer(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def raw(tokenizer: Tokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)


def test_any_text_comes_back(tokenizer, code, prose):
    for text in [*random_texts(600, seed=1), code, prose]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode(ids, skip_special=False) == text
        assert not tokenizer.special_ids.intersection(ids)


def test_a_literal_lower_block_comes_back_as_a_space(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\u2581b")) == "a b"


def test_streamed_pieces_join_to_the_whole(tokenizer):
    chooser = random.Random(2)
    sequences = [tokenizer.encode(text) for text in random_texts(200, seed=3)]
    sequences += [chooser.choices(range(tokenizer.vocab_size), k=40) for _ in range(200)]
    for ids in sequences:
        for skip in (True, False):
            stream = tokenizer.stream(skip)
            pieces = [stream.push(token) for token in ids] + [stream.flush()]
            assert "".join(pieces) == tokenizer.decode(ids, skip)


def test_a_stream_waits_for_the_whole_character(tokenizer):
    ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "😀".encode()]
    stream = tokenizer.stream()
    assert [stream.push(token) for token in ids] == ["", "", "", "😀"]
    assert stream.flush() == ""
    for token in ids[:2]:
        assert stream.push(token) == ""
    assert stream.flush() == "\ufffd" == tokenizer.decode(ids[:2])


def test_text_without_steering_pieces_is_encoded_as_upstream(tokenizer):
    chooser = random.Random(4)
    upstream = raw(tokenizer)
    alphabet = [item for item in ALPHABET if item not in TYPED and item != "BOS@]"]
    for _ in range(300):
        text = "".join(chooser.choices(alphabet, k=20))
        assert tokenizer.encode(text) == upstream.encode(text)
    assert tokenizer.encode("<bos>ab</s>") == upstream.encode("<bos>ab</s>")


def byte_pair_encoding(upstream: sentencepiece.SentencePieceProcessor, text: str) -> list[int]:
    """The algorithm written out: frozen user-defined pieces, then merges by score from the left."""
    frozen = {upstream.id_to_piece(t) for t in range(4, upstream.piece_to_id("<0x00>"))}
    text, symbols = text.replace(" ", "\u2581"), []
    while text:
        matches = [p for p in frozen if text.startswith(p)]
        symbols.append(max(matches, key=len) if matches else text[0])
        text = text[len(symbols[-1]) :]
    while True:
        best, at = -np.inf, -1
        for i, (left, right) in enumerate(zip(symbols, symbols[1:], strict=False)):
            token = upstream.piece_to_id(left + right)
            known = upstream.id_to_piece(token) == left + right
            if known and not {left, right} & frozen and upstream.get_score(token) > best:
                best, at = upstream.get_score(token), i
        if at < 0:
            break
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    ids: list[int] = []
    for symbol in symbols:
        token = upstream.piece_to_id(symbol)
        if upstream.id_to_piece(token) == symbol:
            ids.append(token)
        else:
            ids += [upstream.piece_to_id(f"<0x{byte:02X}>") for byte in symbol.encode()]
    return ids


def test_encoding_is_byte_pair_merging_by_score(codegemma, code, prose):
    upstream = raw(codegemma)
    for text in [*code.split("\n\n"), *prose.split("\n"), "뷁😀\t <b>x</b>  9\n\n\n"]:
        assert codegemma.encode(text) == byte_pair_encoding(upstream, text)


@pytest.mark.parametrize("typed", TYPED)
def test_typed_control_pieces_stay_text_unless_parsed(tokenizer, typed):
    for text in (typed, f"a{typed}b", f"{typed}{typed}", f"[{typed}]", f"<{typed}>\n{typed}"):
        ids = tokenizer.encode(text)
        assert not tokenizer.special_ids.intersection(ids)
        assert tokenizer.decode(ids) == text

        parsed = tokenizer.encode(text, parse_special=True)
        assert tokenizer.decode(parsed, skip_special=False) == text
        expected = text.count(typed) if typed in tokenizer else 0
        assert sum(token in tokenizer.special_ids for token in parsed) == expected
        if expected:
            assert tokenizer.decode(parsed) == text.replace(typed, "")


def test_parsed_text_equals_its_parts(codegemma):
    ids = codegemma.encode("<bos><start_of_turn>user\nHello<end_of_turn>\n", parse_special=True)
    user, hello = codegemma.encode("user"), codegemma.encode("Hello")
    assert ids == [2, 106, *user, 108, *hello, 107, 108]


def test_turn_tokens_of_each_generation(codegemma, gemma3, train):
    assert (codegemma.token_to_id("<start_of_turn>"), codegemma.end_of_turn_id) == (106, 107)
    assert (gemma3.token_to_id("<start_of_turn>"), gemma3.end_of_turn_id) == (105, 106)
    assert train(["<mask>"]).end_of_turn_id is None


def test_which_pieces_are_special(codegemma, gemma3):
    assert codegemma.special_ids == frozenset(range(108))
    pieces = {gemma3.id_to_piece(token) for token in gemma3.special_ids}
    assert pieces == {
        *("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", "[toxicity=0]"),
        *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"),
        *(f"<unused{n}>" for n in range(120)),
    }
    for tokenizer in (codegemma, gemma3):
        for text in HARMLESS:
            assert tokenizer.encode(text) == [tokenizer.token_to_id(text.replace(" ", "\u2581"))]


def test_learnt_pieces_in_brackets_are_not_special(train):
    tokenizer = train(
        ["<mask>"],
        sentence_iterator=iter(["x[i] = y[i]"] * 50),
        split_by_unicode_script=False,
        vocab_size=274,
    )
    assert "[i]" in tokenizer
    assert tokenizer.special_ids == {0, 1, 2, 3, 4}


def test_begin_and_end_are_added_once(tokenizer):
    a = tokenizer.encode("a")
    assert tokenizer.encode("a", bos=True, eos=True) == [2, *a, 1]
    assert tokenizer.encode("", bos=True, eos=True) == [2, 1]
    assert tokenizer.encode("<bos>a<eos>", bos=True, eos=True, parse_special=True) == [2, *a, 1]
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id, tokenizer.unk_id) == (0, 1, 2, 3)


def test_decoding_shows_special_tokens_only_when_asked(codegemma):
    ids = codegemma.encode("<start_of_turn>a<unk><|file_separator|>", bos=True, parse_special=True)
    assert codegemma.decode(ids) == "a"
    shown = codegemma.decode(ids, skip_special=False)
    assert shown == "<bos><start_of_turn>a<unk><|file_separator|>"


def test_ids_may_be_array_scalars(codegemma):
    ids = codegemma.encode("한 뷁")
    assert codegemma.decode(np.array(ids, np.int32)) == "한 뷁"


def test_bytes_make_the_same_tokenizer(codegemma, model_file, code):
    assert codegemma.proto == model_file.read_bytes()
    assert Tokenizer.from_bytes(codegemma.proto).encode(code) == codegemma.encode(code)


@pytest.mark.parametrize("name", [name for name in FILE_NAMES if name != "tokenizer.json"])
def test_a_model_folder_will_do(codegemma, tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(codegemma.proto)
    assert Tokenizer.from_file(tmp_path).vocab_size == codegemma.vocab_size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"garbage", "7 bytes.*cannot be parsed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (None, "does not exist"),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "tokenizer.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TokenizerError, match=message) as caught:
        Tokenizer.from_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_file_is_refused(codegemma):
    for size in range(0, len(codegemma.proto) - 200, 101):
        with pytest.raises(TokenizerError):
            Tokenizer.from_bytes(codegemma.proto[:size])


def test_a_folder_without_the_file_says_what_to_do(tmp_path):
    with pytest.raises(TokenizerError, match="holds no tokenizer.*one of tokenizer.model"):
        Tokenizer.from_file(tmp_path)


def test_a_vocabulary_without_begin_is_refused(train):
    with pytest.raises(TokenizerError, match="no beginning or end"):
        train(["<mask>"], bos_id=-1, vocab_size=500)


def test_half_a_surrogate_pair_is_named(tokenizer):
    with pytest.raises(TokenizerError, match=r"character 2 .* U\+D83D"):
        tokenizer.encode("ab\ud83d")


def test_a_missing_piece_names_its_neighbours(tokenizer):
    with pytest.raises(TokenizerError, match="<start_of_turn>"):
        tokenizer.token_to_id("<start_of_tern>")
    with pytest.raises(TokenizerError, match="did you mean '\u2581the'"):
        tokenizer.token_to_id(" the")
    assert "<start_of_tern>" not in tokenizer
    assert None not in tokenizer


@pytest.mark.parametrize("token", [-1, 10**6])
def test_an_id_outside_the_vocabulary_is_an_error(tokenizer, token):
    decoders = (lambda t: tokenizer.decode([t]), tokenizer.id_to_piece, tokenizer.stream().push)
    for decode in decoders:
        with pytest.raises(TokenizerError, match=f"token {token} is outside the vocabulary"):
            decode(token)
