"""A SentencePiece model from tokenizer.json, the only vocabulary some Hugging Face folders hold.

Both do byte pair encoding. tokenizer.json ranks pairs of pieces; a SentencePiece model scores the
piece a pair becomes and joins any two neighbours that become one. They agree where the ranks follow
from scores, as in a file converted from SentencePiece, and nothing else is accepted here.

One difference is left, and the file cannot tell: transformers 5 reads a run of more spaces than
the longest piece of spaces as other pieces than SentencePiece, which takes the longest first.
"""

import json
import reprlib
import struct
from collections.abc import Mapping
from typing import Any

from gemkit.errors import TokenizerError

_SPACE, _TAB = "\u2581", "\t"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_BEGIN, _END, _PAD = "<bos>", "<eos>", "<pad>"

# Piece types of sentencepiece_model.proto.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)

_MAX_BYTES = 256 * 2**20
_MAX_PIECE = 512  # characters; Gemma's longest have 31
_MAX_GAPS = 256  # ids without a piece; Gemma 3's embedding has 64 rows for image tokens

_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
# Cuts at spaces, of which the normalizer leaves none.
_SPLIT = {"type": "Split", "pattern": {"String": " "}, "invert": False}
_SETTINGS: dict[str, tuple[object, ...]] = {
    "type": ("BPE",),
    "byte_fallback": (True,),
    "dropout": (None, 0),
    "ignore_merges": (None, False),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
}


class _Refused(Exception):
    """What is wrong with the file, and what was expected."""


def sentencepiece_proto(text: bytes | str, name: str) -> bytes:
    """The bytes of a SentencePiece ModelProto equivalent to a tokenizer.json of Gemma's kind.

    `<pad>`, `<eos>` and `<bos>` become control pieces, wherever they are, and so do special tokens
    that were added behind the vocabulary, such as Gemma 3's `<image_soft_token>`; other added
    tokens are user-defined. Ids without a piece get an unused one, `<no_piece_N>`.

    Args:
      text: the file's content.
      name: stands in error messages.

    Raises:
        TokenizerError: damaged, of another kind, or its merges are not those of a SentencePiece
            model, so that texts would get other tokens.
    """
    try:
        model, added = _parse(text)
        types = _piece_types(model, added)
        pieces = _by_id(model["vocab"], added, types)
        scores = _scores(model, added, types)
    except _Refused as refused:
        what, expected = refused.args
        raise TokenizerError(
            f"{name} {what}", expected, "copy tokenizer.model from the original repository"
        ) from None
    return model_proto(pieces, types, scores, model["unk_token"])


def _parse(text: bytes | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The model, unk_token and byte of the tab as Gemma's, and the added tokens; all checked."""
    if len(text) > _MAX_BYTES:
        raise _Refused(f"has {len(text)} bytes", f"at most {_MAX_BYTES}")
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise _Refused("is not JSON", "a tokenizer.json of transformers") from None
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict):
        raise _Refused("has no model", "a tokenizer.json of transformers")
    for key, accepted in _SETTINGS.items():
        if model.get(key) not in accepted:
            raise _Refused(f"has the model {key} {_show(model.get(key))}", f"{accepted[0]!r}")
    normalizer, splitter = content.get("normalizer"), content.get("pre_tokenizer")
    if normalizer not in (_REPLACE, {"type": "Sequence", "normalizers": [_REPLACE]}):
        raise _Refused(f"has the normalizer {_show(normalizer)}", "' ' replaced by U+2581 alone")
    if isinstance(splitter, dict):
        splitter = {key: value for key, value in splitter.items() if key != "behavior"}
    if splitter not in (None, _SPLIT):
        raise _Refused(f"has the pre-tokenizer {_show(splitter)}", "none, or Split at ' '")
    added = content.get("added_tokens") or []
    if not isinstance(model.get("vocab"), dict) or not isinstance(model.get("merges"), list):
        raise _Refused("has no vocab or no merges", "an object and a list")
    if not isinstance(added, list) or not all(map(_is_added_token, added)):
        raise _Refused(
            "has odd added_tokens",
            "id, content and special of each, none of single_word, lstrip and rstrip",
        )
    if model.get("unk_token") is None:
        model["unk_token"] = "<unk>"
    vocab = model["vocab"]
    if _BYTES[9] not in vocab and _TAB in vocab:
        # Where the tab has no piece, as in Gemma 1 and 2, transformers 4 gave its byte this name.
        model["vocab"] = {_BYTES[9] if piece == _TAB else piece: vocab[piece] for piece in vocab}
    return model, added


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _Refused("has an entry twice in one object", "each piece once")
    return content


def _is_added_token(token: object) -> bool:
    return (
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and type(token.get("id")) is int
        and isinstance(token.get("special"), bool)
        and not any(token.get(key) for key in ("single_word", "lstrip", "rstrip"))
    )


def _piece_types(model: Mapping[str, Any], added: list[dict[str, Any]]) -> dict[str, int]:
    """Piece → its type, pieces spelt as SentencePiece spells them."""
    vocab = model["vocab"]
    types = dict.fromkeys(vocab, _NORMAL)
    types |= {piece: _BYTE for piece in _BYTES if piece in types}
    for token in added:
        beyond = token["special"] and token["content"] not in vocab
        types[_spelt(token, vocab)] = _CONTROL if beyond else _USER_DEFINED
    types |= {piece: _CONTROL for piece in (_PAD, _END, _BEGIN) if piece in types}
    if not isinstance(model["unk_token"], str) or model["unk_token"] not in types:
        raise _Refused(f"lacks its unk_token {_show(model['unk_token'])}", "a piece of that name")
    types[model["unk_token"]] = _UNKNOWN
    for piece, wanted in ((_BEGIN, _CONTROL), (_END, _CONTROL), *((b, _BYTE) for b in _BYTES)):
        if types.get(piece) != wanted:
            raise _Refused(f"has no proper piece {piece}", "<bos>, <eos> and all 256 bytes")
    return types


def _spelt(token: Mapping[str, Any], vocab: Mapping[str, Any]) -> str:
    """An added token as a piece: SentencePiece looks for it where spaces are U+2581 already."""
    content: str = token["content"]
    return content if content in vocab else content.replace(" ", _SPACE)


def _by_id(
    vocab: Mapping[str, Any], added: list[dict[str, Any]], types: dict[str, int]
) -> list[str]:
    """Every piece in its place; adds the pieces of unused ids to `types`."""
    pieces: dict[int, str] = {}
    beside = [(_spelt(t, vocab), t["id"]) for t in added if vocab.get(t["content"]) != t["id"]]
    for piece, token in [*vocab.items(), *beside]:
        if type(token) is not int or token < 0:
            raise _Refused(f"has the id {_show(token)} for {_show(piece)}", "whole numbers from 0")
        if not 0 < len(piece) <= _MAX_PIECE or "\0" in piece and types[piece] != _NORMAL:
            raise _Refused(f"has the piece {_show(piece)}", f"1 to {_MAX_PIECE} characters")
        if token in pieces:
            both = f"{_show(pieces[token])} and {_show(piece)}"
            raise _Refused(f"has the id {_show(token)} for {both}", "one piece for each id")
        pieces[token] = piece
    if len(pieces) != len(types):
        raise _Refused("gives a piece two ids", "one id for each")
    gaps = max(pieces) + 1 - len(pieces)
    if gaps > _MAX_GAPS:
        raise _Refused(
            f"has {len(pieces)} pieces and ids up to {_show(max(pieces))}",
            f"at most {_MAX_GAPS} ids without a piece",
        )
    unused = {token: f"<no_piece_{token}>" for token in range(max(pieces)) if token not in pieces}
    if clash := types.keys() & unused.values():
        raise _Refused(f"has a piece {clash.pop()}", "no piece of that name")
    types |= dict.fromkeys(unused.values(), _UNUSED)
    pieces |= unused
    try:
        "".join(types).encode()
    except UnicodeEncodeError:
        raise _Refused("has half a surrogate pair in a piece", "valid Unicode") from None
    return [pieces[token] for token in range(len(pieces))]


def _scores(
    model: Mapping[str, Any], added: list[dict[str, Any]], types: Mapping[str, int]
) -> dict[str, float]:
    """Normal piece → minus its place in the order of merging; pieces never merged come last."""
    known = {*model["vocab"], _TAB}
    normal = {piece for piece, kind in types.items() if kind == _NORMAL}
    frozen = {piece for piece, kind in types.items() if kind == _USER_DEFINED}
    # transformers looks for these before it replaces spaces, so it finds them by merges only.
    hidden = {
        token["content"]
        for token in added
        if _SPACE in token["content"] and not token.get("normalized")
    } & frozen
    cuts: dict[str, int] = {}  # piece → bit n for a merge after n characters
    missing, spaces_joined, last = hidden - {_SPACE}, False, ""
    for merge in model["merges"]:
        left, right = _pair(merge, known)
        piece = left + right
        # Added tokens are taken out of a text before it is merged, and bytes are not typed.
        if piece not in normal or left in frozen or right in frozen:
            missing.discard(piece)
            if spaces_joined and piece in hidden:
                raise _Refused(f"merges {_show(piece)} too late", "runs of spaces first")
            continue
        if piece != last and piece in cuts:
            raise _Refused(f"merges {_show(piece)} at unlike ranks", "merges of a piece in a row")
        last, spaces_joined = piece, spaces_joined or _SPACE in piece
        cuts[piece] = cuts.get(piece, 0) | 1 << len(left)
    joined = "\0".join(normal)
    for piece in hidden:
        if piece in missing or piece in joined or piece.strip(_SPACE):
            raise _Refused(f"has the added token {_show(piece)}", "runs of spaces, made by merges")
    for piece in normal:
        if len(piece) > 1 and cuts.get(piece, 0) != _possible_cuts(piece, normal, types):
            raise _Refused(
                f"lacks merges for {_show(piece)}, or has too many",
                "a merge of every two pieces that make a third, as from SentencePiece",
            )
    order = [*cuts, *(piece for piece in types if piece in normal and piece not in cuts)]
    return {piece: -float(rank) for rank, piece in enumerate(order)}


def _pair(merge: object, known: set[str]) -> tuple[str, str]:
    pair = merge.split(" ") if isinstance(merge, str) else merge
    if isinstance(pair, list) and len(pair) == 2:
        left, right = pair
        if isinstance(left, str) and isinstance(right, str):
            if left in known and right in known and left + right in known:
                return left, right
    raise _Refused(f"has the merge {_show(merge)}", "two pieces that make a third")


def _possible_cuts(piece: str, normal: set[str], types: Mapping[str, int]) -> int:
    """Bit n where SentencePiece would join the first n characters to the rest."""
    possible = 0
    last = len(piece) - 1
    for cut in range(1, last + 1):
        # It joins single characters even where they are no pieces.
        if (left := piece[:cut]) in normal or cut == 1 and left not in types:
            if (right := piece[cut:]) in normal or cut == last and right not in types:
                possible |= 1 << cut
    return possible


def _show(value: object) -> str:
    return reprlib.repr(value)


def model_proto(
    pieces: list[str], types: Mapping[str, int], scores: Mapping[str, float], unknown: str
) -> bytes:
    """Field numbers are those of sentencepiece_model.proto."""
    ids = {piece: token for token, piece in enumerate(pieces)}
    trainer = _field(3, 2) + _field(4, len(pieces)) + _field(35, 1)  # BPE, size, byte fallback
    for number, piece in ((40, unknown), (41, _BEGIN), (42, _END), (43, _PAD)):
        if piece in ids:
            trainer += _field(number, ids[piece]) + _field(number + 5, piece.encode())
    # No prefix, no spaces removed, spaces written as U+2581.
    normalizer = _field(1, b"identity") + _field(3, 0) + _field(4, 0) + _field(5, 1)
    # Field 2, the score, is a float of four bytes, and 3 the type; packed at once to be quick.
    rest = struct.Struct("<BfBB").pack
    encoded = [
        _field(1, _field(1, piece.encode()) + rest(21, scores.get(piece, 0.0), 24, types[piece]))
        for piece in pieces
    ]
    return b"".join(encoded) + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    if value < 128:
        return bytes((value,))
    return bytes((value & 127 | 128,)) + _varint(value >> 7)
