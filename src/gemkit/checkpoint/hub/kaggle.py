"""Downloads from Kaggle by kagglehub, into its cache; it goes on where a file broke off."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gemkit.checkpoint.hub.handles import Handle, cache_folder
from gemkit.checkpoint.hub.remote import Listing, RemoteFile
from gemkit.errors import ModelNotFoundError

TITLE = "Kaggle"
VARIABLE = "KAGGLEHUB_CACHE"
LOGIN = (
    "make a token at https://www.kaggle.com/settings and set KAGGLE_API_TOKEN, or put it into "
    "~/.kaggle/kaggle.json"
)

PAGE_SIZE = 100


def page(handle: Handle) -> str:
    """Where the licence of a model is accepted."""
    owner, model, *_ = handle.name.split("/")
    return f"https://www.kaggle.com/models/{owner}/{model}"


def has_credentials() -> bool:
    """Whether there is a token or a key, in the environment or in a file.

    Raises:
      ModelNotFoundError: the file is damaged.
    """
    from kagglehub.config import get_kaggle_credentials

    try:
        return get_kaggle_credentials() is not None
    except ValueError as error:
        raise ModelNotFoundError(str(error), "a kaggle.json as Kaggle makes it", LOGIN) from None


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub, or the network, did not answer."""
    from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout

    return isinstance(error, ConnectionError | Timeout | ChunkedEncodingError)


def is_offline() -> bool:
    """Whether the user has switched the network off; this client has no such switch."""
    return False


def listing(handle: Handle) -> Listing:
    """What the version holds."""
    from kagglehub.clients import build_kaggle_client
    from kagglesdk.models.types import model_api_service as api

    with _quiet(), build_kaggle_client() as client:
        models = client.models.model_api_client
        version = int(handle.version or 0)
        if not version:
            version = models.get_model_instance(
                _request(api.ApiGetModelInstanceRequest, handle)
            ).version_number
        files: list[RemoteFile] = []
        ask = _request(api.ApiListModelInstanceVersionFilesRequest, handle)
        ask.version_number, ask.page_size = version, PAGE_SIZE
        while True:
            answer = models.list_model_instance_version_files(ask)
            files += [RemoteFile(file.name, file.size) for file in answer.files]
            if not answer.next_page_token:
                return Listing(str(version), tuple(files))
            ask.page_token = answer.next_page_token


def stored(handle: Handle, listing: Listing, file: RemoteFile) -> int:
    """Bytes of a file that are on disk."""
    path = cache_folder(handle) / listing.version / file.name
    return path.stat().st_size if path.is_file() else 0


def download(handle: Handle, listing: Listing, files: Sequence[RemoteFile]) -> Path:
    """Fetches what is missing of the files; gives the folder they are in."""
    import kagglehub

    folder = cache_folder(handle) / listing.version
    with _quiet():
        for file in files:
            name = f"{handle.name}/{listing.version}"
            path = Path(kagglehub.model_download(name, path=file.name))
            folder = path.parents[file.name.count("/")]
    return folder


def _request(kind: Any, handle: Handle) -> Any:
    from kagglehub.handle import parse_model_handle

    request = kind()
    parsed = parse_model_handle(handle.name)
    request.owner_slug, request.model_slug = parsed.owner, parsed.model
    request.instance_slug = parsed.variation
    try:
        request.framework = parsed.framework_enum()
    except ValueError:
        raise ModelNotFoundError(
            f"{handle} names the framework {parsed.framework!r}", "keras, flax, transformers, gguf"
        ) from None
    return request


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """kagglehub draws bars, logs and asks for updates, all unasked and partly on stdout."""
    import kagglehub.clients as clients

    logger = logging.getLogger("kagglehub")
    bar, level = clients.tqdm, logger.level
    logger.setLevel(logging.ERROR)
    clients.tqdm = functools.partial(bar, disable=True)
    clients.already_printed_version_warning = True
    try:
        yield
    finally:
        clients.tqdm = bar
        logger.setLevel(level)
