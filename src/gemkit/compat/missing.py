"""What is said of names that have no counterpart: gemkit's own way."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from gemkit.errors import UsageError


class MissingError(UsageError, AttributeError):
    """A method or attribute without a counterpart; `hasattr` sees it as absent."""


class Shim:
    """Says of any other public name which way gemkit has instead.

    Attributes:
      own_way: of the class.
      ways: of single names.
    """

    own_way: ClassVar[str] = ""
    ways: ClassVar[Mapping[str, str]] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        own_way = self.ways.get(name, self.own_way)
        raise MissingError(f"{type(self).__name__} has no {name} here", own_way)


def names_missing(module: str, own_way: str) -> Callable[[str], Any]:
    """A module's `__getattr__`, for the names it does not have."""

    def missing(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise MissingError(f"{module} has no {name}", own_way)

    return missing
