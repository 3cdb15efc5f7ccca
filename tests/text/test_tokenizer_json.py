"""tokenizer.json as transformers writes it, read as a SentencePiece model."""

import copy
import itertools
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentencepiece

from gemkit.errors import TokenizerError
from gemkit.text.tokenizer import Tokenizer
from gemkit.text.tokenizer_json import sentencepiece_proto

SPACE = "\u2581"
Json = dict[str, Any]
Pairs = list[tuple[str, str]]


def added(token: int, content: str, special: bool = False, **flags: bool) -> Json:
    return {
        "id": token, "content": content, "special": special, "normalized": False,
        "single_word": False, "lstrip": False, "rstrip": False, **flags,
    }  # fmt: skip


def whole(vocab: dict[str, int], merges: Pairs, tokens: list[Json]) -> Json:
    """A tokenizer.json as GemmaTokenizer saves it."""
    split = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}
    return {
        "version": "1.0", "truncation": None, "padding": None, "post_processor": None,
        "added_tokens": tokens,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {**split, "invert": False},
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True,
            "byte_fallback": True, "ignore_merges": False, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "vocab": vocab, "merges": [list(pair) for pair in merges],
        },
    }  # fmt: skip


def pairs(vocab: dict[str, int], rank: Callable[[str, str], Any]) -> Pairs:
    """Every two pieces that make a third, ranked."""
    cuts = ((piece[:n], piece[n:]) for piece in vocab for n in range(1, len(piece)))
    found = [pair for pair in cuts if pair[0] in vocab and pair[1] in vocab]
    return sorted(found, key=lambda pair: rank(*pair))


def converted(tokenizer: Tokenizer, by_score: bool) -> Json:
    """As transformers converts: version 4 ranks merges by score, version 5 by id."""
    model = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.proto)
    vocab = {model.id_to_piece(token): token for token in range(model.vocab_size())}
    first_byte = vocab["<0x00>"]
    behind = [token for piece, token in vocab.items() if piece in ("[toxicity=0]",)]
    tokens = [
        added(token, model.id_to_piece(token), token < 4) for token in [*range(first_byte), *behind]
    ]
    if by_score:
        vocab = {"\t" if piece == "<0x09>" else piece: token for piece, token in vocab.items()}

        def rank(left: str, right: str) -> Any:
            return -model.get_score(vocab[left + right]), -len(left), -len(right)
    else:

        def rank(left: str, right: str) -> Any:
            return vocab[left + right], len(left), len(right)

    return whole(vocab, pairs(vocab, rank), tokens)


def strings(seed: int, count: int) -> Iterator[str]:
    rng = random.Random(seed)
    parts = [
        *"abcdeinorst.,:<>()[]_=+0123456789\u00e9\u4e2d\u0301\u2581\x00\x7f\n\t ",
        "\n\n\n", "\n" * 33, "\t\t", "  ", "    ", " " * 31, "the soup", " was warm",
        "한국어", "맛있어요", "뷁", "😈🤗", "def total(", "return", "<b>", "</table>", "<0x0A>",
        "<start_of_turn>",
    ]  # fmt: skip
    for _ in range(count):
        yield "".join(rng.choices(parts, k=rng.randrange(30)))


@pytest.fixture(scope="module", params=["codegemma", "gemma3"])
def original(request: pytest.FixtureRequest) -> Tokenizer:
    found: Tokenizer = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["by score", "by id"])
def content(request: pytest.FixtureRequest, original: Tokenizer) -> Json:
    return converted(original, request.param)


@pytest.fixture()
def small() -> Json:
    """Twelve pieces and the bytes; "abc" is made in two ways."""
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<b>", "\n", SPACE * 2, SPACE * 3]
    learnt = ["bc", "ab", "abc", SPACE + "a", "ca", "a", "b", "c", SPACE]
    pieces = [*names, *(f"<0x{byte:02X}>" for byte in range(256)), *learnt]
    vocab = {piece: token for token, piece in enumerate(pieces)}
    tokens = [added(token, piece, token < 4) for token, piece in enumerate(names)]
    return whole(vocab, pairs(vocab, lambda left, right: (vocab[left + right], len(left))), tokens)


def read(content: Json) -> Tokenizer:
    proto = sentencepiece_proto(json.dumps(content), "tokenizer.json")
    return Tokenizer.from_bytes(proto, "tokenizer.json")


def test_the_sentencepiece_model_comes_back(original: Tokenizer, content: Json) -> None:
    ours = sentencepiece.SentencePieceProcessor(
        model_proto=sentencepiece_proto(json.dumps(content).encode(), "x")
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=original.proto)
    ids = range(theirs.vocab_size())
    assert ours.vocab_size() == len(ids)
    for ask in ("id_to_piece", "get_score", "is_control", "is_unknown", "is_byte", "is_unused"):
        assert [getattr(ours, ask)(n) for n in ids] == [getattr(theirs, ask)(n) for n in ids], ask


def test_texts_get_the_ids_of_the_original(
    original: Tokenizer, content: Json, texts: list[str]
) -> None:
    ours = read(content)
    assert ours.special_ids == original.special_ids
    assert (ours.bos_id, ours.eos_id, ours.pad_id, ours.unk_id) == (2, 1, 0, 3)
    assert ours.end_of_turn_id == original.end_of_turn_id
    for text in [*texts, *strings(1, 300)]:
        assert ours.encode(text) == original.encode(text)
        assert ours.encode(text, parse_special=True) == original.encode(text, parse_special=True)
        assert ours.decode(ours.encode(text)) == text.replace(SPACE, " ")


def merged(content: Json, text: str) -> list[int]:
    """Byte pair encoding by rank: the best pair of neighbours, the leftmost of equals."""
    vocab = content["model"]["vocab"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(content["model"]["merges"])}
    symbols = list(text.replace(" ", SPACE))
    while True:
        neighbours = enumerate(itertools.pairwise(symbols))
        best = min(((ranks[p], n) for n, p in neighbours if p in ranks), default=None)
        if best is None:
            break
        symbols[best[1] : best[1] + 2] = [symbols[best[1]] + symbols[best[1] + 1]]
    ids = []
    for symbol in symbols:
        spelt = [symbol] if symbol in vocab else [f"<0x{byte:02X}>" for byte in symbol.encode()]
        ids += [vocab[piece] for piece in spelt]
    return ids


def test_merging_by_rank_gives_the_same_ids(small: Json) -> None:
    rng = random.Random(2)
    ours = read(small)
    assert ours.encode("abca") == [small["model"]["vocab"][piece] for piece in ("abc", "a")]
    for _ in range(500):
        text = "".join(rng.choices(["a", "b", "c", " ", "é"], k=rng.randrange(14)))
        if " " * 4 not in text:  # longer than the longest run, where the two differ
            assert ours.encode(text) == merged(small, text), text


def test_merges_may_be_strings_and_unk_token_left_out(small: Json) -> None:
    expected = read(small).proto
    small["model"]["merges"] = [" ".join(pair) for pair in small["model"]["merges"]]
    small["model"]["unk_token"] = None
    small["pre_tokenizer"] = None
    small["normalizer"] = {"type": "Sequence", "normalizers": [small["normalizer"]]}
    assert read(small).proto == expected


def test_special_ids_are_read_not_assumed(small: Json) -> None:
    order = ["<unk>", "<bos>", "<b>", "<eos>", "<pad>"]
    for token, piece in enumerate(order):
        small["model"]["vocab"][piece] = token
    small["added_tokens"][:5] = [added(n, piece, piece != "<b>") for n, piece in enumerate(order)]
    ours = read(small)
    assert (ours.unk_id, ours.bos_id, ours.eos_id, ours.pad_id) == (0, 1, 3, 4)
    assert ours.encode("<b>a", bos=True, eos=True)[:2] == [1, 2]


def test_tokens_added_behind_the_vocabulary(small: Json) -> None:
    size = len(small["model"]["vocab"])
    small["added_tokens"] += [
        added(size + 3, "<image_soft_token>", special=True),
        added(size + 4, "two words"),
    ]
    ours = read(small)
    assert ours.vocab_size == size + 5
    assert ours.id_to_piece(size) == f"<no_piece_{size}>"
    assert size + 3 not in ours.encode("a<image_soft_token>b")
    assert ours.encode("a<image_soft_token>", parse_special=True)[-1] == size + 3
    assert ours.encode("two words")[0] == size + 4
    assert ours.decode([size + 4]) == "two words"


def test_a_folder_with_tokenizer_json_only(small: Json, tmp_path: Any, original: Tokenizer) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(small), "utf-8")
    found = Tokenizer.from_file(tmp_path)
    assert found.encode("abc  ab") == read(small).encode("abc  ab")
    assert Tokenizer.from_bytes(found.proto).vocab_size == found.vocab_size
    (tmp_path / "tokenizer.model").write_bytes(original.proto)
    assert Tokenizer.from_file(tmp_path).proto == original.proto


def test_a_bad_file_is_named(tmp_path: Any) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(TokenizerError, match="has no model.*copy tokenizer.model") as caught:
        Tokenizer.from_file(tmp_path)
    assert str(path) in str(caught.value)


def put(*path: Any, value: Any) -> Callable[[Json], None]:
    """Puts `value` at a place in the file."""

    def change(content: Json) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


def without(piece: str) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        del content["model"]["vocab"][piece]
        content["added_tokens"] = [t for t in content["added_tokens"] if t["content"] != piece]

    return change


def moved(pair: list[str], place: int) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        content["model"]["merges"].remove(pair)
        if place >= 0:
            content["model"]["merges"].insert(place, pair)

    return change


VOCAB, MERGES = ("model", "vocab"), ("model", "merges")
REFUSED: dict[str, Callable[[Json], None]] = {
    "has no model": put("model", value=[]),
    "the model type 'Unigram'": put("model", "type", value="Unigram"),
    "the model type None": put("model", "type", value=None),
    "byte_fallback False": put("model", "byte_fallback", value=False),
    "dropout 0.1": put("model", "dropout", value=0.1),
    "ignore_merges True": put("model", "ignore_merges", value=True),
    "end_of_word_suffix '</w>'": put("model", "end_of_word_suffix", value="</w>"),
    "normalizer .*NFKC": put("normalizer", value={"type": "NFKC"}),
    "normalizer None": put("normalizer", value=None),
    "pre-tokenizer .*ByteLevel": put("pre_tokenizer", value={"type": "ByteLevel"}),
    "pre-tokenizer .*invert": put("pre_tokenizer", "invert", value=True),
    "has no vocab": put(*VOCAB, value=[["a", 0.0]]),
    "no merges": put(*MERGES, value={}),
    "odd added_tokens": put("added_tokens", 4, "lstrip", value=True),
    "odd added_tokens; .*id, content": put("added_tokens", 4, "id", value="4"),
    "lacks its unk_token '<none>'": put("model", "unk_token", value="<none>"),
    "lacks its unk_token \\[": put("model", "unk_token", value=[]),
    "no proper piece <bos>": without("<bos>"),
    "no proper piece <eos>": without("<eos>"),
    "no proper piece <0xA7>": without("<0xA7>"),
    "no proper piece <0x41>": put("added_tokens", 4, value=added(8 + 65, "<0x41>")),
    "the id 1.5 for 'a'": put(*VOCAB, "a", value=1.5),
    "the id True for 'a'": put(*VOCAB, "a", value=True),
    "the id -1 for 'a'": put(*VOCAB, "a", value=-1),
    "the id 4 for '<b>' and 'a'": put(*VOCAB, "a", value=4),
    "two ids": put("added_tokens", 4, "id", value=300),
    "has the piece ''": put(*VOCAB, "", value=300),
    "has the piece 'xxx": put(*VOCAB, "x" * 600, value=300),
    "ids up to 1000; .*256 ids without": put(*VOCAB, "x", value=1000),
    "ids up to 1000000000": put(*VOCAB, "x", value=10**4000),
    "has a piece <no_piece_274>": put(*VOCAB, "<no_piece_274>", value=275),
    "half a surrogate": put(*VOCAB, "\ud800", value=300),
    "the merge \\['a', 'x'\\]": put(*MERGES, 0, value=["a", "x"]),
    "the merge \\['c', 'b'\\]": put(*MERGES, 0, value=["c", "b"]),
    "the merge \\[1, 2\\]": put(*MERGES, 0, value=[1, 2]),
    "the merge 'a b c'": put(*MERGES, 0, value="a b c"),
    "the merge None": put(*MERGES, 0, value=None),
    "lacks merges for 'abc'": moved(["ab", "c"], -1),
    "merges 'abc' at unlike ranks": moved(["ab", "c"], 3),
    "merges '\u2581\u2581' too late": moved([SPACE, SPACE], 9),
    "the added token '\u2581\u2581\u2581'": lambda content: content["model"].update(
        merges=[pair for pair in content["model"]["merges"] if "".join(pair) != SPACE * 3]
    ),
    "the added token '\u2581a'": put("added_tokens", 4, value=added(8 + 256 + 3, SPACE + "a")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_sentencepiece_cannot_say_is_refused(small: Json, message: str) -> None:
    REFUSED[message](small)
    with pytest.raises(TokenizerError, match=message) as caught:
        read(small)
    assert "copy tokenizer.model from the original repository" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_piece_with_two_ids_in_the_file(small: Json) -> None:
    text = json.dumps(small).replace('"a": ', '"a": 3, "a": ', 1)
    with pytest.raises(TokenizerError, match="an entry twice"):
        sentencepiece_proto(text, "x")


@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe\x00", "[" * 100_000, "[1, 2]", "null", "{", "[" + "9" * 5000 + "]"]
)
def test_what_is_no_tokenizer_json_is_refused(text: bytes | str) -> None:
    with pytest.raises(TokenizerError, match="x (is not JSON|has no model)"):
        sentencepiece_proto(text, "x")


def test_damage_never_crashes(small: Json) -> None:
    """Whatever stands in the file: one line, or a model SentencePiece can load."""
    rng = random.Random(3)
    values: list[Any] = [None, True, -1, 2.5, 10**30, "", "a", "\0", [], {}, ["a"], {"a": "b"}]
    for _ in range(600):
        content = copy.deepcopy(small)
        place: Any = content
        while True:
            key = rng.choice([*place]) if isinstance(place, dict) else rng.randrange(len(place))
            deeper = place[key]
            if not isinstance(deeper, dict | list) or not deeper or rng.random() < 0.1:
                break
            place = deeper
        place[key] = rng.choice(values)
        try:
            read(content).encode("abc  a")
        except TokenizerError as error:
            assert "\n" not in str(error)
            assert "cannot be parsed" not in str(error)
