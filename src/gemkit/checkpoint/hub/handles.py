"""From a MODEL as users write it to a file or folder on disk.

A MODEL is the embedded `nano`, a preset's name, a hub handle or a path. Presets and handles are
looked for where kagglehub and huggingface_hub keep what they fetched. Only a handle that is not
there is downloaded: who writes one has asked for it.
"""

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from gemkit.errors import ModelNotFoundError
from gemkit.model.variants import LICENCE, VARIANTS, Variant

Hub = Literal["hf", "kaggle"]

EMBEDDED = {"nano": Path(__file__).resolve().parents[2] / "presets" / "nano"}

HANDLES = (
    "hf://org/name[@revision][/file] or kaggle://owner/model/framework/variation[/version[/file]]"
)
_WORD = r"[A-Za-z0-9][\w.-]*"
_FILE = r"(?:/(?P<file>[^/\0\\]+(?:/[^/\0\\]+)*))?"
_FORMS: dict[Hub, re.Pattern[str]] = {
    "hf": re.compile(rf"(?P<name>{_WORD}/{_WORD})(?:@(?P<version>refs/\w+/[^/]+|[^/@]+))?{_FILE}"),
    "kaggle": re.compile(rf"(?P<name>{_WORD}(?:/{_WORD}){{3}})(?:/(?P<version>\d+){_FILE})?"),
}
# Files that only a folder of Orbax has.
ORBAX_FILES = ("_METADATA", "manifest.ocdbt", "checkpoint")


@dataclasses.dataclass(frozen=True)
class Handle:
    """A model on a hub.

    Attributes:
      hub: "hf" or "kaggle".
      name: org/name, or owner/model/framework/variation.
      version: a revision or a version's number; "" stands for the newest.
      file: the only file that is wanted; "" stands for all that is needed.
    """

    hub: Hub
    name: str
    version: str = ""
    file: str = ""

    def __str__(self) -> str:
        version = self.version and f"{'@' if self.hub == 'hf' else '/'}{self.version}"
        return f"{self.hub}://{self.name}{version}{self.file and f'/{self.file}'}"


def locate(model: str | Path) -> Path:
    """The folder or file of a MODEL; a handle is downloaded if it is not on disk.

    Raises:
      ModelNotFoundError: it is not on disk and was not fetched; the message says how to get it.
    """
    name = str(model)
    if name in EMBEDDED:
        return EMBEDDED[name]
    if "://" in name:
        found = cached(parse_handle(name))
        if found is None:
            from gemkit.checkpoint.hub.fetch import fetch

            return fetch(name)
        return found
    if name in VARIANTS:
        found = on_disk(VARIANTS[name])
        if found is None:
            raise _not_fetched(VARIANTS[name])
        return found
    path = Path(model).expanduser()
    if not name or not path.exists():
        raise unknown(name)
    return path


def unknown(name: str) -> ModelNotFoundError:
    """The error for what is no MODEL."""
    near = difflib.get_close_matches(name, [*EMBEDDED, *VARIANTS], 3, 0.5)
    return ModelNotFoundError(
        f"no model {name!r}",
        "a preset's name (gemkit models lists them), a hub handle or a folder with a model",
        f"did you mean {' or '.join(near)}?" if near else "",
    )


def parse_handle(text: str) -> Handle:
    """Takes a handle apart.

    >>> parse_handle("hf://google/gemma-2b@main")
    Handle(hub='hf', name='google/gemma-2b', version='main', file='')

    Raises:
      ModelNotFoundError: it is none.
    """
    hub, _, rest = text.partition("://")
    for known, form in _FORMS.items():
        match = form.fullmatch(rest.rstrip("/"))
        if hub == known and match and ".." not in rest:
            return Handle(known, match["name"], match["version"] or "", match["file"] or "")
    raise ModelNotFoundError(f"{text!r} is no hub handle", HANDLES)


def handles(variant: Variant) -> dict[Hub, Handle]:
    """Where a variant is published; Kaggle's version is the one gemkit knows."""
    name, _, version = variant.kaggle.rpartition("/")
    found: dict[Hub, Handle] = {"kaggle": Handle("kaggle", name, version)}
    if variant.hugging_face:
        found["hf"] = Handle("hf", variant.hugging_face)
    return found


def on_disk(variant: Variant) -> Path | None:
    """Where a hub client has put this variant, None if nowhere."""
    for handle in handles(variant).values():
        newest = dataclasses.replace(handle, version="")
        found = cached(handle) or cached(newest) or _any_snapshot(handle)
        if found is not None:
            return found
    return None


def cached(handle: Handle) -> Path | None:
    """What a hub client has fetched whole, None if it has not."""
    for folder in _version_folders(handle):
        if handle.file:
            path = folder / handle.file
            if path.is_file() and not _unfinished(handle, folder, [path]):
                return path
        elif is_whole(folder) and not _unfinished(handle, folder, folder.rglob("*")):
            return folder
    return None


def cache_folder(handle: Handle) -> Path:
    """Where the hub's client keeps what it fetches of a model, all versions."""
    if handle.hub == "kaggle":
        default = Path.home() / ".cache" / "kagglehub"
        return Path(os.environ.get("KAGGLEHUB_CACHE", default)) / "models" / handle.name
    return hf_cache() / f"models--{handle.name.replace('/', '--')}"


def hf_cache() -> Path:
    """huggingface_hub's cache, found as it finds it."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("HF_HOME", f"{caches}/huggingface")
    legacy = os.environ.get("HUGGINGFACE_HUB_CACHE", f"{home}/hub")
    return Path(os.path.expandvars(os.environ.get("HF_HUB_CACHE", legacy))).expanduser()


def is_whole(folder: Path) -> bool:
    """Whether a folder has all its weights. Fetching leaves weights to the end, so then all is."""
    indices = [*folder.glob("*.safetensors.index.json"), *folder.glob("model.weights.json")]
    try:
        for index in indices:
            named = json.loads(index.read_text("utf-8"))["weight_map"].values()
            names = {name for one in named for name in ([one] if isinstance(one, str) else one)}
            return all((folder / name).is_file() for name in names)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    found = (*folder.glob("*.safetensors"), *folder.glob("*.weights.h5"), *folder.glob("*.gguf"))
    return bool(found) or any(next(folder.rglob(name), None) for name in ORBAX_FILES)


def _version_folders(handle: Handle) -> Iterator[Path]:
    """Folders of the version asked for, those of the newest first."""
    root = cache_folder(handle)
    if handle.hub == "kaggle":
        numbers = [entry for entry in root.glob("*") if entry.name.isdecimal() and entry.is_dir()]
        newest = sorted(numbers, key=lambda entry: int(entry.name), reverse=True)
        yield from [root / handle.version] if handle.version else newest
        return
    reference = root / "refs" / (handle.version or "main")
    commit = reference.read_text("utf-8").strip() if reference.is_file() else handle.version
    if commit:
        yield root / "snapshots" / commit


def _any_snapshot(handle: Handle) -> Path | None:
    if handle.hub == "kaggle":
        return None
    return next(filter(is_whole, sorted(cache_folder(handle).glob("snapshots/*"))), None)


def _unfinished(handle: Handle, folder: Path, paths: Iterable[Path]) -> bool:
    """Whether a download broke off in one of the files; kagglehub writes them in their place."""
    if handle.hub == "hf" or (folder.parent / f"{folder.name}.complete").exists():
        return False
    done = folder.parent / ".complete" / folder.name
    return any(
        path.is_file() and not (done / f"{path.relative_to(folder)}.complete").exists()
        for path in paths
    )


def _not_fetched(variant: Variant) -> ModelNotFoundError:
    where = handles(variant)
    ways = []
    if "hf" in where:
        ways.append(
            f"accept the licence at https://huggingface.co/{where['hf'].name}, run 'hf auth login'"
        )
    owner, model, *_ = where["kaggle"].name.split("/")
    ways.append(f"accept it at https://www.kaggle.com/models/{owner}/{model}, set KAGGLE_API_TOKEN")
    return ModelNotFoundError(
        f"{variant.name} is not on this disk", "it in the cache of a hub's client",
        f"run 'gemkit fetch {variant.name}'; before that, {'; or '.join(ways)} (licence: "
        f"{LICENCE})",
    )  # fmt: skip
