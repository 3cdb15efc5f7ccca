"""What a hub holds of a model, and which of it gemkit needs."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from gemkit.checkpoint.hub.handles import ORBAX_FILES, Handle
from gemkit.errors import ModelNotFoundError
from gemkit.text.tokenizer import FILE_NAMES

# The first that finds files wins: what follows it would be the same weights a second time.
WEIGHTS = (
    r"model(-\d+-of-\d+)?\.safetensors",
    r"(?!consolidated|adapter_)[^/]+\.safetensors",
    r"consolidated[^/]*\.safetensors",
    r"model(_\d+)?\.weights\.h5",
)
# What may lie in a folder of Orbax and is no part of it.
NOT_ORBAX = re.compile(r".*\.(bin|pt|pth|ckpt|onnx|png|jpe?g|gif|md|h5|msgpack|zip|tar|gz)", re.I)
# Settings are small; the vocabulary in a tokenizer.json beside another one is not.
LARGEST_SETTINGS = 4 * 2**20


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file on a hub: its name with folders, bytes, and sha256 or "" where the hub has none."""

    name: str
    size: int
    sha256: str = ""
    key: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a version holds.

    Attributes:
      version: commit or number, never "newest".
      files: all of them.
    """

    version: str
    files: tuple[RemoteFile, ...]


def needed(
    handle: Handle, files: Sequence[RemoteFile]
) -> tuple[list[RemoteFile], list[RemoteFile]]:
    """What gemkit needs of a model: the files beside the weights, and the weights.

    The file that tells that a folder is whole comes last.

    Raises:
      ModelNotFoundError: no weights that gemkit reads, several to choose from, or a name that
        leads out of the folder.
    """
    for file in files:
        parts = PurePosixPath(file.name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in file.name:
            raise ModelNotFoundError(
                f"{handle} holds a file named {file.name!r}", "names inside its folder",
                "do not trust this model",
            )  # fmt: skip
    if handle.file:
        chosen = [file for file in files if file.name == handle.file]
        if not chosen:
            raise ModelNotFoundError(f"{handle} does not exist", _listed(files))
        return [], chosen
    vocabulary = next((n for n in FILE_NAMES if any(file.name == n for file in files)), "")
    beside = [file for file in files if _goes_along(file, vocabulary)]
    weights = [file for file in _weights(handle, files) if file not in beside]
    return beside, sorted(weights, key=lambda file: (_name(file) in ORBAX_FILES, file.name))


def _weights(handle: Handle, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    for pattern in WEIGHTS:
        found = [file for file in files if re.fullmatch(pattern, file.name)]
        if found:
            return found
    found = [file for file in files if file.name.endswith(".gguf")]
    if len(found) > 1:
        newest = dataclasses.replace(handle, file=found[0].name)
        raise ModelNotFoundError(
            f"{handle} holds {len(found)} GGUF files", "one",
            f"name it, such as {newest}; there are {', '.join(file.name for file in found)}",
        )  # fmt: skip
    if not found and any(_name(file) in ORBAX_FILES for file in files):
        return [file for file in files if not NOT_ORBAX.fullmatch(_name(file))]
    if not found:
        raise ModelNotFoundError(f"{handle} holds no weights gemkit can read", _listed(files))
    return found


def _goes_along(file: RemoteFile, vocabulary: str) -> bool:
    if file.name == vocabulary:
        return True
    settings = "/" not in file.name and file.name.endswith(".json")
    return settings and file.size <= LARGEST_SETTINGS and "bin.index" not in file.name


def _name(file: RemoteFile) -> str:
    return PurePosixPath(file.name).name


def _listed(files: Sequence[RemoteFile]) -> str:
    names = ", ".join(file.name for file in files[:8])
    more = f" and {len(files) - 8} more" if len(files) > 8 else ""
    return f"safetensors, Keras h5, Flax or GGUF; there is {names or 'nothing'}{more}"
