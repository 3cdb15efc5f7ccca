"""The formats of checkpoints, as a table; every module in it offers the same three functions."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from gemkit.checkpoint.files import FLOAT_DTYPES, Source, Stored, read_json
from gemkit.checkpoint.flax import weights as flax
from gemkit.checkpoint.gguf import weights as gguf
from gemkit.checkpoint.hf import weights as huggingface
from gemkit.checkpoint.keras import weights as keras
from gemkit.checkpoint.names import Format
from gemkit.errors import CheckpointError, UsageError
from gemkit.model.config import GemmaConfig
from gemkit.text.tokenizer import Tokenizer


class Module(Protocol):
    """What a format's module offers."""

    def recognises(self, path: Path) -> bool:
        """Whether the file or folder is in this format; never raises."""

    def opened(self, path: Path) -> AbstractContextManager[Source]:
        """The checkpoint, its tensors not read yet."""

    def write(
        self, target: Path, config: GemmaConfig, tensors: Mapping[str, Stored],
        tokenizer: Tokenizer | None, dtype: str,
    ) -> tuple[str, ...]:  # fmt: skip
        """Writes into an empty folder, or to a new file; returns remarks.

        Args:
          tensors: by the names table's spelling, in the layout it declares.
          dtype: one of the row's `dtypes`.
        """


class Row(NamedTuple):
    """One format.

    Attributes:
      title: for people.
      column: of the names table.
      module: reads and writes it.
      dtypes: what it may store weights as.
      one_file: a file rather than a folder.
      marker: the JSON file that says `gemkit_version` where gemkit wrote a folder.
      paths: every path that such a folder may hold.
    """

    title: str
    column: Format
    module: Module
    dtypes: tuple[str, ...] = FLOAT_DTYPES
    one_file: bool = False
    marker: str = ""
    paths: re.Pattern[str] = re.compile("")


FORMATS: dict[str, Row] = {
    "hf": Row(
        "Hugging Face folder", "hugging_face", huggingface, marker="config.json",
        paths=re.compile(
            r"(generation_|tokenizer_)?config\.json|tokenizer\.model"
            r"|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
        ),
    ),
    "keras": Row(
        "Keras preset", "keras", keras, marker="metadata.json",
        paths=re.compile(
            r"(config|metadata|task|preprocessor|tokenizer|model\.weights)\.json"
            r"|assets(/tokenizer(/vocabulary\.spm)?)?|model(_\d{5})?\.weights\.h5"
        ),
    ),
    "flax": Row(
        "Flax checkpoint", "flax", flax, marker="gemkit_config.json",
        paths=re.compile(
            r"gemkit_config\.json|tokenizer\.model|_METADATA|manifest\.ocdbt|d(/[0-9a-f]{32})?"
        ),
    ),
    "gguf": Row("GGUF file", "gguf", gguf, (*FLOAT_DTYPES, "q8_0", "q4_0"), one_file=True),
}  # fmt: skip
UNDERSTOOD = (
    "a Hugging Face folder (config.json, *.safetensors), a Keras preset folder (config.json, "
    "model.weights.h5), a Flax checkpoint folder or a .gguf file"
)


def format_row(name: str) -> Row:
    """The row of a format's short name.

    Raises:
        UsageError: no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"format is {name!r}", " or ".join(map(repr, FORMATS)))
    return FORMATS[name]


def written_by_gemkit(folder: Path) -> bool:
    """Whether gemkit wrote this folder, in any format, and nothing was added since."""
    for row in FORMATS.values():
        if row.marker and _says_gemkit(folder / row.marker):
            held = (entry.relative_to(folder).as_posix() for entry in folder.rglob("*"))
            if all(map(row.paths.fullmatch, held)):
                return True
    return False


def _says_gemkit(marker: Path) -> bool:
    try:
        return "gemkit_version" in read_json(marker)
    except CheckpointError:
        return False


def recognise(path: Path) -> Row:
    """The format of a checkpoint.

    Raises:
        CheckpointError: there is nothing, or nothing gemkit understands; the line says what is
            there.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist", UNDERSTOOD)
    for row in FORMATS.values():
        if row.module.recognises(path):
            return row
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.suffix not in (".safetensors", ".h5", ".gguf"):
        raise CheckpointError(f"{path} is a {path.suffix or 'plain'} file", UNDERSTOOD)
    if path.suffix == ".gguf" and path.is_file():
        raise CheckpointError(f"{path} does not begin as a GGUF file", UNDERSTOOD)
    if (folder / "config.json").is_file():
        read_json(folder / "config.json")
        if path.is_file():
            raise CheckpointError(
                f"{path} does not belong to the config.json beside it", UNDERSTOOD
            )
        raise CheckpointError(
            f"{folder / 'config.json'} has neither model_type nor registered_name", UNDERSTOOD
        )
    names = sorted(entry.name for entry in folder.iterdir())
    listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
    todo = "this is an adapter: name its base model" if "adapter_config.json" in names else ""
    raise CheckpointError(
        f"{folder} has no config.json; it holds {listed or 'nothing'}", UNDERSTOOD, todo
    )
