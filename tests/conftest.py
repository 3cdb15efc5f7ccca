"""What every test runs under: strict dtypes, no network, caches of its own.

Files of a test go to `tmp_path`; nothing outside it is written.
"""

import gc
import importlib.util
import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["small"]

SETTINGS = {
    "jax_numpy_dtype_promotion": "strict",
    # Compiling takes most of the time, and less without LLVM's optimisations, which
    # `make interop`, `make demo` and the README's example run with.
    "jax_disable_most_optimizations": True,
}
# Tests of other implementations import them at the top, so without them they are not even read.
collect_ignore = [] if importlib.util.find_spec("torch") else ["interop"]


def pytest_configure(config: pytest.Config) -> None:
    """Sets what libraries read when they are imported; subprocesses inherit it."""
    # What compiling leaves is kept and large: it is gone through more seldom.
    gc.set_threshold(50_000, 20, 100)
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # KerasHub mixes dtypes on purpose, hence strictness would fail it and not us.
    if config.getoption("markexpr") != "interop":
        for name, value in SETTINGS.items():
            os.environ[name.upper()] = str(value)
            # A folder named on the command line has its conftest, and so JAX, loaded before this.
            if "jax" in sys.modules:
                sys.modules["jax"].config.update(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent / "interop" in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches start empty and are thrown away, those of the user are never touched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def is_local(host: object) -> bool:
    """Whether `host` names this machine (an empty one stands for any interface of it)."""
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Looking up or connecting to another machine fails, in this process."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise RuntimeError(f"a test tried to connect to {address}")
        connect(self, address)

    def local_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_local(host):
            raise RuntimeError(f"a test tried to look up {host}")
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_getaddrinfo)
        yield
