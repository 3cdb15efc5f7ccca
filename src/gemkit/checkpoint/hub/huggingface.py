"""Downloads from Hugging Face by huggingface_hub, into its cache.

From version 2 on that client begins a file anew after an interruption. Large ones are therefore
fetched by its `http_get` into a partial file of a fixed name, from where it stands, and the client
finds them in its cache.
"""

import fcntl
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from gemkit.checkpoint.hub.handles import Handle, cache_folder, hf_cache
from gemkit.checkpoint.hub.remote import Listing, RemoteFile
from gemkit.errors import ModelNotFoundError

TITLE = "Hugging Face"
VARIABLE = "HF_HUB_CACHE"
LOGIN = (
    "run 'hf auth login' or set HF_TOKEN (tokens: https://huggingface.co/settings/tokens, with "
    "read access to gated repositories)"
)


def page(handle: Handle) -> str:
    """Where the licence of a model is accepted."""
    return f"https://huggingface.co/{handle.name}"


def has_credentials() -> bool:
    """Whether there is a token, in the environment or from a login."""
    from huggingface_hub import get_token

    return bool(get_token())


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub, or the network, did not answer."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    return isinstance(error, httpx2.TransportError | OfflineModeIsEnabled)


def is_offline() -> bool:
    """Whether the user has switched the network off."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def listing(handle: Handle) -> Listing:
    """What the revision holds now."""
    from huggingface_hub import HfApi

    found = HfApi().model_info(
        handle.name, revision=handle.version or None, files_metadata=True, timeout=30
    )
    files = tuple(
        RemoteFile(
            file.rfilename, (file.lfs.size if file.lfs else file.size) or 0,
            file.lfs.sha256 if file.lfs else "", file.blob_id or "",
        )
        for file in found.siblings or ()
    )  # fmt: skip
    return Listing(found.sha or "", files)


def stored(handle: Handle, listing: Listing, file: RemoteFile) -> int:
    """Bytes of a file that are on disk."""
    blob = _blob(handle, file)
    for path in (blob, _partial(blob)):
        if path.is_file():
            return path.stat().st_size
    return 0


def download(handle: Handle, listing: Listing, files: Sequence[RemoteFile]) -> Path:
    """Fetches what is missing of the files; gives the folder they are in."""
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.utils.tqdm import silent_tqdm

    folder = cache_folder(handle) / "snapshots" / listing.version
    for file in files:
        # Above its limit plain HTTP is refused, and the client has a way of its own.
        if file.sha256 and file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE:
            _fill_blob(handle, listing, file)
        hf_hub_download(
            handle.name,
            file.name,
            revision=listing.version,
            cache_dir=hf_cache(),
            tqdm_class=silent_tqdm,
        )
    # Notes in the cache which commit the revision is, now that all of it is there.
    HfApi().resolve_revision(handle.name, revision=handle.version or None, cache_dir=hf_cache())
    return folder


def _fill_blob(handle: Handle, listing: Listing, file: RemoteFile) -> None:
    blob = _blob(handle, file)
    blob.parent.mkdir(parents=True, exist_ok=True)
    if blob.exists():
        return
    partial = _partial(blob)
    with partial.open("ab") as into:
        # Another process that fetches the same file is waited for.
        fcntl.flock(into, fcntl.LOCK_EX)
        if blob.exists():
            partial.unlink(missing_ok=True)
            return
        _append(handle, listing.version, file, into)
    if _sha256(partial) != file.sha256:
        partial.unlink()
        raise ModelNotFoundError(
            f"{file.name} of {handle} came damaged", f"sha256 {file.sha256}",
            "it was removed; run the same command again",
        )  # fmt: skip
    os.replace(partial, blob)


def _append(handle: Handle, commit: str, file: RemoteFile, into: BinaryIO) -> None:
    """Downloads from where the partial file ends; redirections lose the token on the way."""
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils.tqdm import silent_tqdm

    token = get_token()
    http_get(
        hf_hub_url(handle.name, file.name, revision=commit),
        into,
        resume_size=into.tell(),
        headers={"authorization": f"Bearer {token}"} if token else {},
        expected_size=file.size,
        tqdm_class=silent_tqdm,
    )


def _blob(handle: Handle, file: RemoteFile) -> Path:
    return cache_folder(handle) / "blobs" / (file.sha256 or file.key)


def _partial(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.gemkit.incomplete")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
