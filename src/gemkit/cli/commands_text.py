"""Commands that write text: generate, complete, choose."""

import io
import re
import sys
import tokenize
from pathlib import Path
from typing import Any

import click

from gemkit.cli.options import (
    DTYPE,
    JSON,
    LIMITS,
    MODEL,
    SAMPLING,
    STOP,
    Command,
    as_json,
    present,
    remark,
)  # fmt: skip
from gemkit.errors import DataError, UsageError

# Control characters that a terminal would act upon; a model may write any.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")


@click.command(cls=Command)
@MODEL
@click.argument("prompts", metavar="PROMPT...", nargs=-1, required=True)
@LIMITS
@SAMPLING
@STOP
@click.option("--echo", is_flag=True, help="Print the prompt before the answer.")
@click.option(
    "--parse-special", is_flag=True, help="Let <start_of_turn> and the like be control tokens."
)
@DTYPE
@JSON
def generate(
    model: str, prompts: tuple[str, ...], dtype: str | None, as_program: bool, **settings: Any
) -> None:
    """Continue a text.

    Several prompts are one batch; a PROMPT that is - is read from standard input.
    """
    from gemkit.loading import load

    texts = [_standard_input() if text == "-" else text for text in prompts]
    if list(prompts).count("-") > 1:
        raise UsageError("two prompts are -", "one, standard input can be read once")
    lm = load(model, **present(dtype=dtype))
    settings = present(**settings)
    if as_program:
        answers = lm.generate(texts, **settings)
        as_json([
            {"prompt": text, "answer": answer}
            for text, answer in zip(texts, answers, strict=True)
        ])  # fmt: skip
    elif len(texts) == 1:
        write_pieces(lm.stream(texts[0], **settings))
    else:
        for number, answer in enumerate(lm.generate(texts, **settings), 1):
            print(f"{'' if number == 1 else chr(10)}[{number}]")
            print(visible(answer))


def write_pieces(pieces: Any) -> str:
    """Prints pieces of text as they come, and a line end; gives the whole."""
    whole = ""
    for piece in pieces:
        whole += piece
        print(visible(piece), end="", flush=True)
    print()
    return whole


def visible(text: str) -> str:
    """Text that is safe on a terminal; unchanged elsewhere."""
    return _CONTROL.sub("\ufffd", text) if sys.stdout.isatty() else text


def _standard_input() -> str:
    """Standard input without the line end that `echo` and editors put last."""
    try:
        return sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start} of standard input is not UTF-8", "UTF-8") from None


@click.command(cls=Command)
@MODEL
@click.argument("place", metavar="[FILE:LINE[:COL]]", required=False)
@click.option("--prefix", metavar="TEXT", help="Code before the gap, instead of a file.")
@click.option("--suffix", metavar="TEXT", help="Code after the gap.")
@click.option(
    "--context", "files", multiple=True, metavar="FILE", type=click.Path(path_type=Path),
    help="Another file to look at; repeatable.",
)  # fmt: skip
@click.option("--in-place", is_flag=True, help="Write the middle into the file.")
@click.option("--max-new-tokens", type=int, metavar="N", help="Most tokens of the middle.")
@SAMPLING
@STOP
@DTYPE
@JSON
def complete(
    model: str, place: str | None, prefix: str | None, suffix: str | None,
    files: tuple[Path, ...], in_place: bool, dtype: str | None, as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Write the code that is missing at a place.

    The place is in a FILE, or between --prefix and --suffix. LINE and COL count from 1; without
    COL it is the end of the line. Prints the middle only.
    """
    if (place is None) == (prefix is None and suffix is None):
        what = "no place" if place is None else "both a file and --prefix or --suffix"
        raise UsageError(what, "FILE:LINE[:COL], or --prefix and --suffix")
    if in_place and place is None:
        raise UsageError("--in-place without a file", "FILE:LINE[:COL]")
    source = None if place is None else Source.at(place)
    before, after = (source.before, source.after) if source else (prefix or "", suffix or "")
    context = {str(file): _plain_lines(_read_text(file)[0]) for file in files}
    from gemkit.loading import load

    lm = load(model, **present(dtype=dtype))
    middle = lm.complete(
        _plain_lines(before), _plain_lines(after), context=context or None,
        path=str(source.path) if source else None, **present(**settings),
    )  # fmt: skip
    if source and in_place:
        source.insert(middle)
        remark(f"{source.path}: {len(middle)} characters added")
    if as_program:
        as_json({"middle": middle})
    else:
        print(visible(middle), end="\n" if sys.stdout.isatty() else "")


class Source:
    """A file of code and a place in it.

    Attributes:
      path: of the file.
      before, after: its text around the place, line ends as they are.
    """

    def __init__(self, path: Path, text: str, encoding: str, offset: int) -> None:
        self.path, self._encoding = path, encoding
        self.before, self.after = text[:offset], text[offset:]

    @classmethod
    def at(cls, place: str) -> "Source":
        """Reads FILE:LINE[:COL].

        Raises:
          UsageError: another form, or a place the file has not.
          DataError: a file that is not there or no text.
        """
        match = re.fullmatch(r"(.+?):(\d+)(?::(\d+))?", place, re.DOTALL)
        if match is None:
            raise UsageError(f"the place is {place!r}", "FILE:LINE or FILE:LINE:COL")
        path, line = Path(match[1]), int(match[2])
        text, encoding = _read_text(path)
        lines = text.split("\n")
        if not 1 <= line <= len(lines):
            raise UsageError(f"line {line} of {path}", f"1 to {len(lines)}, the lines it has")
        width = len(lines[line - 1].removesuffix("\r"))
        column = width + 1 if match[3] is None else int(match[3])
        if not 1 <= column <= width + 1:
            raise UsageError(
                f"column {column} of {path} line {line}", f"1 to {width + 1}, just after its end"
            )
        start = sum(len(earlier) + 1 for earlier in lines[: line - 1])
        return cls(path, text, encoding, start + column - 1)

    def insert(self, middle: str) -> None:
        """Writes the file anew with `middle` at the place; encoding, line ends, mode stay."""
        from gemkit.train.data import write_atomically

        if "\r\n" in self.before + self.after:
            middle = middle.replace("\n", "\r\n")
        try:
            content = (self.before + middle + self.after).encode(self._encoding)
        except UnicodeEncodeError as error:
            raise DataError(
                f"{self.path} is {self._encoding} and cannot hold {error.object[error.start]!r}",
                "UTF-8", "convert the file",
            ) from None  # fmt: skip
        mode = self.path.stat().st_mode
        write_atomically(self.path, content)
        self.path.chmod(mode)


def _read_text(path: Path) -> tuple[str, str]:
    """Text and encoding, as the file's first lines declare it in Python; else UTF-8."""
    try:
        content = path.read_bytes()
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return content.decode(encoding), encoding
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", "a text file") from None
    except (SyntaxError, UnicodeDecodeError):
        raise DataError(f"{path} is not UTF-8", "text in UTF-8", "convert the file") from None


def _plain_lines(text: str) -> str:
    """Line ends as the model knows them."""
    return text.replace("\r\n", "\n")


@click.command(cls=Command)
@MODEL
@click.argument("prompt")
@click.option("--choice", "choices", multiple=True, metavar="TEXT", help="Give two or more.")
@DTYPE
@JSON
def choose(
    model: str, prompt: str, choices: tuple[str, ...], dtype: str | None, as_program: bool
) -> None:
    """Score given continuations of a PROMPT.

    Prints the probability of each --choice, the likeliest first; they sum to 1.
    """
    from gemkit.loading import load

    text = _standard_input() if prompt == "-" else prompt
    found = load(model, **present(dtype=dtype)).choose(text, choices)
    if as_program:
        as_json({
            "choice": found.choice, "choices": list(choices),
            "probabilities": found.probabilities, "log_probs": found.log_probs,
        })  # fmt: skip
        return
    for probability, choice in sorted(zip(found.probabilities, choices, strict=True), reverse=True):
        print(f"{probability:.4f}  {visible(choice)}")
