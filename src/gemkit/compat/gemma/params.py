"""`gemma.params` of 2024: a checkpoint as a tree of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from gemkit.checkpoint.hub.handles import locate
from gemkit.checkpoint.load import load_checkpoint
from gemkit.compat.gemma.tree import to_tree
from gemkit.compat.missing import names_missing
from gemkit.model.config import GemmaConfig


@jax.tree_util.register_pytree_with_keys_class
class Params(dict[str, Any]):
    """{"transformer": tree}, which remembers the configuration that no shape shows.

    `jax.tree.map` over it gives another one; parts of it are plain dicts.
    """

    config: GemmaConfig

    def __init__(self, tree: Mapping[str, Any], config: GemmaConfig) -> None:
        super().__init__(tree)
        self.config = config

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        """For JAX."""
        names = tuple(sorted(self))
        keyed = [(jax.tree_util.DictKey(name), self[name]) for name in names]
        return keyed, (names, self.config)

    @classmethod
    def tree_unflatten(cls, names_config: Any, children: Any) -> "Params":
        """For JAX."""
        names, config = names_config
        return cls(dict(zip(names, children, strict=True)), config)


def load_and_format_params(path: str | Path) -> Params:
    """Loads a model in any format gemkit reads as {"transformer": the tree of 2024}.

    Args:
      path: a checkpoint's folder, or what else `gemkit.load` takes.

    Raises:
      ModelNotFoundError, CheckpointError: as `gemkit.load`.
    """
    loaded = load_checkpoint(locate(path))
    return Params({"transformer": to_tree(loaded.config, loaded.params)}, loaded.config)


__getattr__ = names_missing(
    __name__,
    "load_and_format_params(path), which reads every format",
)
