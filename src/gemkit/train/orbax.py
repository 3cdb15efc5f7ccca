"""Arrays by name in a folder, as Orbax writes and reads them, without what it says on the way.

Uncompressed: weights hardly shrink, and compressing takes time.
"""

import contextlib
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Seconds until the threads of a refused save are through, with room to spare.
_STRAGGLERS = 0.3


def save_arrays(folder: Path, arrays: Mapping[str, Any]) -> None:
    """Writes arrays, of one device or sharded over those of this process, from the host.

    Args:
      folder: the folder to be.
      arrays: none of them empty, Orbax does not take these.

    Raises:
      OSError: the disk is full, or Orbax could not write for another reason.
    """
    with _unheard():
        refused = _save(folder.absolute(), arrays)
        if refused is not None:
            time.sleep(_STRAGGLERS)
            gc.collect()  # what was left unread speaks up when it goes
    if refused is not None:
        raise refused


def load_arrays(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Reads what `save_arrays` wrote.

    Raises:
      OSError, ValueError, KeyError, TypeError: it is not whole.
    """
    import orbax.checkpoint as ocp

    with _unheard(), ocp.PyTreeCheckpointer() as reader:
        found: dict[str, np.ndarray[Any, Any]] = reader.restore(folder.absolute())
    return found


def _save(folder: Path, arrays: Mapping[str, Any]) -> OSError | None:
    import orbax.checkpoint as ocp

    try:
        # To read arrays of JAX itself Orbax wants the devices they were on.
        tree = {name: np.asarray(array) for name, array in arrays.items()}
        with ocp.PyTreeCheckpointer(use_compression=False) as writer:
            writer.save(folder, args=ocp.args.PyTreeSave(tree))
    except Exception as error:
        # TensorStore has a ValueError for whatever the system says. Returned is an error without
        # the frames of this one, which hold what is to go.
        code = re.search(r"os_error_code='(\d+)'", str(error))
        number = int(code[1]) if code else getattr(error, "errno", None)
        if number is not None:
            return OSError(number, os.strerror(number))
        return OSError(str(error).partition("\n")[0][:300] or type(error).__name__)
    return None


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Keeps from stderr what Orbax logs, and what its threads leave after a refused save.

    Each array that was still being written then raises where nobody can catch it.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    hook = sys.unraisablehook

    def of_others(record: logging.LogRecord) -> bool:
        return "orbax" not in f"{record.pathname} {record.msg}"

    def unraisable(left: "sys.UnraisableHookArgs") -> None:
        if str(left.exc_value) != "Event loop is closed":
            hook(left)

    for logger in loggers:
        logger.addFilter(of_others)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for logger in loggers:
            logger.removeFilter(of_others)
