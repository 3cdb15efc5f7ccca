"""Gemma's SentencePiece vocabulary, with text that can never turn into control tokens.

SentencePiece itself recognises every user-defined piece wherever it is typed, so a prompt holding
"<end_of_turn>" would end the turn. Here such pieces are spelt as ordinary text unless the caller
asks for `parse_special`. Whitespace runs and HTML tags, which are user-defined too, are used as
upstream uses them.

Ids are read from the model file, never assumed: Gemma 1, 2, CodeGemma and Gemma 3 differ.
"""

import codecs
import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from gemkit.errors import TokenizerError
from gemkit.text.tokenizer_json import sentencepiece_proto

END_OF_TURN = "<end_of_turn>"

# Where a model folder keeps its vocabulary: Hugging Face, Kaggle, Keras presets; and what
# transformers 5 saves, which is used where there is no SentencePiece model.
FILE_NAMES = (
    "tokenizer.model",
    "tokenizer.spm",
    "vocabulary.spm",
    "assets/tokenizer/vocabulary.spm",
    "tokenizer.json",
)

# User-defined pieces that steer the model; those that match none of these are text.
STEERING_PIECES = (
    r"<[^<>\[\]]*[_|][^<>\[\]]*>",  # turns, fill-in-the-middle, images
    r"<unused\d+>",
    r"<mask>|<2mass>",
    r"\[[^<>\[\]]+\]",  # [@BOS@], [multimodal], [toxicity=0]
)
_STEERING = re.compile("|".join(STEERING_PIECES))
# Every special piece has this shape, and two of this shape cannot overlap.
_BRACKETED = re.compile(r"<[^<>\[\]]+>|\[[^<>\[\]]+\]")
_SPACE = "\u2581"


class Tokenizer:
    """Text to token ids and back.

    `decode(encode(text)) == text` for every text without U+2581, the character SentencePiece
    writes for a space: it comes back as a space, as it does upstream.

    With Gemma 2's file, `encode("Hi  Hello", bos=True)` is `[2, 2151, 139, 4521]`: `<bos>`, "Hi",
    two spaces, "Hello".
    """

    def __init__(self, processor: sentencepiece.SentencePieceProcessor, proto: bytes) -> None:
        self._processor = processor
        self.proto = proto  # the SentencePiece model, to be written beside converted weights
        self.vocab_size: int = processor.vocab_size()
        self.bos_id: int = processor.bos_id()
        self.eos_id: int = processor.eos_id()
        self.unk_id: int = processor.unk_id()
        self.pad_id: int = max(processor.pad_id(), 0)
        self._pieces: list[str] = processor.id_to_piece(list(range(self.vocab_size)))
        self._control: dict[str, int] = {}
        self._steering: dict[str, int] = {}
        for token, piece in enumerate(self._pieces):
            if processor.is_control(token) or processor.is_unknown(token):
                self._control[piece] = token
            # The file's piece types are out of reach, but a score of 0 tells user-defined pieces
            # from learnt ones: those score minus their rank, and rank 0 has two characters.
            elif _STEERING.fullmatch(piece) and processor.get_score(token) == 0.0:
                self._steering[piece] = token
        self._special = self._control | self._steering
        self.special_ids = frozenset(self._special.values())
        self.end_of_turn_id: int | None = self._special.get(END_OF_TURN)

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a `.model` or `.spm` file or a tokenizer.json, or find one in a model folder.

        Raises:
            TokenizerError: there is none, or it is neither a SentencePiece model nor equivalent
                to one.
        """
        file = _find(Path(path))
        try:
            proto = file.read_bytes()
        except OSError as error:
            raise TokenizerError(
                f"cannot read {file}: {error.strerror}", "a readable SentencePiece model"
            ) from error
        if file.suffix == ".json":
            proto = sentencepiece_proto(proto, str(file))
        return cls.from_bytes(proto, str(file))

    @classmethod
    def from_bytes(cls, proto: bytes, name: str = "tokenizer model") -> "Tokenizer":
        """Build from the bytes of a SentencePiece model; `name` stands in error messages.

        Raises:
            TokenizerError: the bytes are no such model, or it lacks `<bos>` or `<eos>`.
        """
        if not proto:
            raise TokenizerError(f"{name} is empty", "a SentencePiece model", "copy it again")
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.load_from_serialized_proto(proto)
        except (RuntimeError, UnicodeDecodeError):  # the library quotes pieces that are no text
            raise TokenizerError(
                f"{name} ({len(proto)} bytes) cannot be parsed",
                "a SentencePiece model",
                "copy it again, and the file itself where this is a Git LFS pointer",
            ) from None
        if processor.bos_id() < 0 or processor.eos_id() < 0:
            raise TokenizerError(
                f"{name} has no beginning or end of sequence token",
                "a Gemma vocabulary, with <bos> and <eos>",
                "copy it again if it may be cut short",
            )
        try:
            return cls(processor, proto)
        except UnicodeDecodeError:
            raise TokenizerError(
                f"{name} has a piece that is no text", "pieces in UTF-8", "copy it again"
            ) from None

    def encode(
        self, text: str, bos: bool = False, eos: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Token ids of `text`, after `<bos>` and before `<eos>` where asked for.

        With `parse_special`, "<bos>", "<start_of_turn>", "<|fim_prefix|>" and the like in the
        text become those tokens, as in Hugging Face's tokenizers; a leading "<bos>" is not
        doubled. Without it they are ordinary text.

        Raises:
            TokenizerError: `text` holds half a surrogate pair, which no file or terminal can.
        """
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"character {error.start} of the text is the lone surrogate "
                f"U+{ord(text[error.start]):04X}",
                "valid Unicode",
                "read the text with its right encoding",
            ) from None
        ids = self._encode_parsed(text) if parse_special else self._encode_plain(text)
        if bos and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        if eos and ids[-1:] != [self.eos_id]:
            ids.append(self.eos_id)
        return ids

    def _encode_plain(self, text: str) -> list[int]:
        # SentencePiece cannot see a piece that is cut in two.
        cuts = [m.start() + 1 for m in _BRACKETED.finditer(text) if m.group() in self._steering]
        bounds = [0, *cuts, len(text)]
        ids: list[int] = []
        for start, end in zip(bounds, bounds[1:], strict=False):
            ids += self._processor.encode(text[start:end])
        return ids

    def _encode_parsed(self, text: str) -> list[int]:
        ids: list[int] = []
        start = 0
        for match in _BRACKETED.finditer(text):
            if match.group() in self._special:
                ids += self._processor.encode(text[start : match.start()])
                ids.append(self._special[match.group()])
                start = match.end()
        return ids + self._processor.encode(text[start:])

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """Text of `ids`; broken UTF-8 becomes U+FFFD.

        Special tokens leave no trace, or are written as their pieces without `skip_special`.

        Raises:
            TokenizerError: an id is outside the vocabulary.
        """
        joined = b"".join(self.token_bytes(token, skip_special) for token in ids)
        return joined.decode("utf-8", "replace")

    def stream(self, skip_special: bool = True) -> "TextStream":
        """A decoder to be fed one id at a time."""
        return TextStream(self, skip_special)

    def token_bytes(self, token: int, skip_special: bool = True) -> bytes:
        """The UTF-8 bytes one token stands for; perhaps a part of a character only."""
        token = int(token)  # a NumPy or JAX scalar as well
        piece = self.id_to_piece(token)
        if token in self.special_ids:
            return b"" if skip_special else piece.encode()
        if self._processor.is_byte(token):
            return bytes([int(piece[3:5], 16)])
        return piece.replace(_SPACE, " ").encode()

    def id_to_piece(self, token: int) -> str:
        """The vocabulary's own spelling of a token, a space as U+2581."""
        if not 0 <= token < self.vocab_size:
            raise TokenizerError(
                f"token {token} is outside the vocabulary",
                f"0 to {self.vocab_size - 1}",
                "check that weights and tokenizer belong together",
            )
        return self._pieces[token]

    def token_to_id(self, piece: str) -> int:
        """The id of a piece as the vocabulary spells it, special or not.

        Raises:
            TokenizerError: there is no such piece; names the nearest.
        """
        if piece in self:
            return int(self._processor.piece_to_id(piece))
        spelt = piece.replace(" ", _SPACE)
        near = [other for other in (spelt, _SPACE + spelt, spelt.strip(_SPACE)) if other in self]
        near += difflib.get_close_matches(piece, self._special, n=3)
        raise TokenizerError(
            f"the vocabulary has no piece {piece!r}",
            "one of its pieces",
            f"did you mean {', '.join(map(repr, near))}?" if near else "",
        )

    def __contains__(self, piece: object) -> bool:
        if not isinstance(piece, str):
            return False
        return self._pieces[self._processor.piece_to_id(piece)] == piece


class TextStream:
    """Decodes token by token and never hands out half a character.

    The pieces returned by `push`, and by `flush` at the end, join to what `decode` gives.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is still partial."""
        return self._decoder.decode(self._tokenizer.token_bytes(token, self._skip_special))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character never completed, else ""."""
        return self._decoder.decode(b"", final=True)


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise TokenizerError(f"{path} does not exist", "a SentencePiece model or a model folder")
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise TokenizerError(f"{path} holds no tokenizer", f"one of {', '.join(FILE_NAMES)}")
