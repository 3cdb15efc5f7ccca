"""Downloads a model from a hub: what gemkit needs of it, and nothing without being asked.

The hubs' clients do it, in their own caches; an interrupted download goes on where it stopped.
"""

import contextlib
import dataclasses
import difflib
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from gemkit.checkpoint.hub import huggingface as fetch_hf
from gemkit.checkpoint.hub import kaggle as fetch_kaggle
from gemkit.checkpoint.hub.handles import (
    EMBEDDED,
    Handle,
    Hub,
    cache_folder,
    handles,
    parse_handle,
    unknown,
)
from gemkit.checkpoint.hub.remote import Listing, RemoteFile, needed
from gemkit.errors import GemkitError, ModelNotFoundError, UsageError
from gemkit.model.variants import LICENCE, VARIANTS
from gemkit.progress import progress

KEPT = "interrupted; what has come is kept, and the same command goes on from there"
POLL_SECONDS = 0.5


class Client(Protocol):
    """What the module of a hub offers."""

    TITLE: str
    VARIABLE: str
    LOGIN: str

    def page(self, handle: Handle) -> str: ...
    def has_credentials(self) -> bool: ...
    def is_unreachable(self, error: BaseException) -> bool: ...
    def is_offline(self) -> bool: ...
    def listing(self, handle: Handle) -> Listing: ...
    def stored(self, handle: Handle, listing: Listing, file: RemoteFile) -> int: ...
    def download(self, handle: Handle, listing: Listing, files: Sequence[RemoteFile]) -> Path: ...


CLIENTS: dict[Hub, Client] = {"hf": fetch_hf, "kaggle": fetch_kaggle}


def fetch(model: str, hub: str | None = None) -> Path:
    """Downloads a preset or a handle, unless it is there; asks the hub for the newest version.

    Args:
      model: a preset's name or a handle.
      hub: "hf" or "kaggle", for a preset; None takes the one there are credentials for.

    Returns:
      The folder, or the file if the handle names one.

    Raises:
      ModelNotFoundError: it cannot be had; the line says what to do.
      UsageError: no such hub, or a handle that names another.
      KeyboardInterrupt: stopped by the user; what has come is kept.
    """
    if hub is not None and hub not in CLIENTS:
        raise UsageError(f"the hub is {hub!r}", " or ".join(CLIENTS))
    if model in EMBEDDED:
        return EMBEDDED[model]
    handle = _handle(model, hub)
    client = CLIENTS[handle.hub]
    if client.is_offline():
        raise ModelNotFoundError(
            f"{handle} is not fetched: the network is switched off", "HF_HUB_OFFLINE not set"
        )
    with _explained(client, handle):
        return _fetch(client, handle)


def _handle(model: str, hub: str | None) -> Handle:
    if "://" in model:
        handle = parse_handle(model)
        if hub not in (None, handle.hub):
            raise UsageError(f"{model} is not on the hub {hub}", "a preset's name, or no hub")
        return handle
    if model not in VARIANTS:
        raise unknown(model)
    found = handles(VARIANTS[model])
    for name, handle in found.items():
        if name == hub:
            return handle
    if hub is not None:
        raise UsageError(f"{model} is not on {CLIENTS['hf'].TITLE}", "kaggle")
    # Hugging Face first: safetensors load without being copied.
    for name, client in CLIENTS.items():
        if name in found and client.has_credentials():
            return found[name]
    ways = "; or ".join(
        f"for {CLIENTS[name].TITLE}, accept the licence at {CLIENTS[name].page(handle)} and "
        f"{CLIENTS[name].LOGIN}"
        for name, handle in found.items()
    )
    raise ModelNotFoundError(
        f"{model} is only given to those who accepted its licence ({LICENCE}), and there are no "
        "credentials of Kaggle or Hugging Face", "", ways,
    )  # fmt: skip


def _fetch(client: Client, handle: Handle) -> Path:
    listing = client.listing(handle)
    beside, weights = needed(handle, listing.files)
    # Weights last: a folder that has them has everything.
    files = [*beside, *weights]
    total = sum(file.size for file in files)

    def stored() -> int:
        return sum(client.stored(handle, listing, file) for file in files)

    _check_space(client, handle, total - stored())
    with _shown(f"fetching {handle.name}", stored, total):
        folder = client.download(handle, listing, files)
    return folder / handle.file if handle.file else folder


def _check_space(client: Client, handle: Handle, missing: int) -> None:
    folder = cache_folder(handle)
    disk = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(disk).free
    if missing > free:
        raise ModelNotFoundError(
            f"{handle} needs {missing / 1e9:.1f} GB more and {free / 1e9:.1f} GB are free in "
            f"{disk}", "room on the disk",
            f"free some, or name a folder on another disk in {client.VARIABLE}",
        )  # fmt: skip


@contextlib.contextmanager
def _shown(title: str, stored: Callable[[], int], total: int) -> Iterator[None]:
    """A bar of the megabytes on disk: the clients count each in its own way, or not at all."""
    over = threading.Event()
    with progress(title, remark="MB") as update:

        def watch() -> None:
            while not over.wait(POLL_SECONDS):
                update(stored() // 10**6, total // 10**6, "MB")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


@contextlib.contextmanager
def _explained(client: Client, handle: Handle) -> Iterator[None]:
    """Turns what the clients raise into one line that says what to do."""
    try:
        yield
    except GemkitError:
        raise
    except KeyboardInterrupt:
        raise KeyboardInterrupt(KEPT) from None
    except Exception as error:
        causes = list(_causes(error))
        answers = [getattr(cause, "response", None) for cause in causes]
        response = next((answer for answer in answers if answer is not None), None)
        if response is not None:
            raise _refused(client, handle, response) from error
        if any(map(client.is_unreachable, causes)):
            reason = " ".join(str(causes[-1]).split())[:200]
            raise ModelNotFoundError(
                f"the connection to {client.TITLE} failed for {handle} ({reason})", "",
                "check the network and any proxy, then run the same command again: what has "
                "come is kept",
            ) from error  # fmt: skip
        place = next((c for c in causes if isinstance(c, OSError) and c.filename), None)
        if place is not None:
            raise ModelNotFoundError(
                f"cannot write {place.filename}: {place.strerror}", "a cache that can be written",
                f"name another folder in {client.VARIABLE}",
            ) from error  # fmt: skip
        raise ModelNotFoundError(
            f"{client.TITLE} did not give {handle}: {type(error).__name__}: {error}"[:400], "",
            "run the same command again: what has come is kept",
        ) from error  # fmt: skip


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]


class Response(Protocol):
    """What the clients' two HTTP libraries have in common."""

    status_code: int


def _refused(client: Client, handle: Handle, response: Response) -> ModelNotFoundError:
    """The error for an HTTP status."""
    status = response.status_code
    known = client.has_credentials()
    if status in (401, 403) and not known:
        # Hugging Face answers visitors so for names that do not exist, too.
        near = _near(handle) if handle.hub == "hf" else ""
        return ModelNotFoundError(
            f"{client.TITLE} gives {handle} only to those it knows (HTTP {status}), or there is "
            f"no such model{near}", "",
            f"accept the licence at {client.page(handle)} and {client.LOGIN}",
        )  # fmt: skip
    if status == 401:
        return ModelNotFoundError(
            f"{client.TITLE} does not accept the credentials for {handle} (HTTP 401)", "",
            f"they may have run out; {client.LOGIN}",
        )  # fmt: skip
    if status == 403:
        return ModelNotFoundError(
            f"{client.TITLE} refuses {handle} to this account (HTTP 403)", "its licence accepted",
            f"accept it at {client.page(handle)} as the owner of the credentials; a token must "
            "be allowed to read it",
        )  # fmt: skip
    if status == 404:
        version = f" or no version {handle.version!r} of it" if handle.version else ""
        return ModelNotFoundError(
            f"{client.TITLE} has no model {handle.name!r}{version}{_near(handle)}", "",
            f"see {client.page(handle)}, or gemkit models for the names gemkit knows",
        )  # fmt: skip
    if status == 429:
        return ModelNotFoundError(
            f"{client.TITLE} has had too many requests from here (HTTP 429)", "",
            "wait some minutes and run the same command again: what has come is kept"
            + ("" if known else f"; those it knows may ask more often: {client.LOGIN}"),
        )  # fmt: skip
    whose = "fails on its side" if status >= 500 else "does not understand the request"
    return ModelNotFoundError(
        f"{client.TITLE} {whose} for {handle} (HTTP {status})", "",
        "run the same command again later: what has come is kept",
    )  # fmt: skip


def _near(handle: Handle) -> str:
    """What else the name may mean."""
    names = {
        str(dataclasses.replace(one, version="")): None
        for variant in VARIANTS.values()
        for hub, one in handles(variant).items()
        if hub == handle.hub
    }
    asked = str(dataclasses.replace(handle, version="", file=""))
    near = [name for name in difflib.get_close_matches(asked, names, 2, 0.7) if name != asked]
    return f" (did you mean {' or '.join(near)}?)" if near and asked not in names else ""
