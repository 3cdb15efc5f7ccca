"""PEFT's adapter_config.json: what it says of an adapter, module by module.

Names and patterns follow peft `tuners/tuners_utils.py` (`check_target_module_exists`) and
`utils/other.py` (`get_pattern_key`).
"""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gemkit.adapt.lora import Lora
from gemkit.checkpoint.files import Settings, read_json
from gemkit.errors import CheckpointError, ConfigError

BASE_HASH = "gemkit_base_sha256"

_MERGE = "merge it with PEFT (merge_and_unload) and load the merged model"
# What PEFT can do and gemkit's adapters cannot: setting → values, beside null, that ask for none.
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "lora_bias": (False,),
    "modules_to_save": ([],),
    "trainable_token_indices": ([], {}),
    "target_parameters": ([],),
    "layer_replication": ([],),
    "alora_invocation_tokens": ([],),
    "use_qalora": (False,),
    "use_bdlora": (False, {}),
    "velora_config": ({},),
    "monteclora_config": ({},),
    "arrow_config": ({},),
    "kasa_config": ({},),
    # The others change the base model too.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal", "mica"),
}
_USUAL = ["q_proj", "v_proj"]
_MAX_RANK, _MAX_ALPHA = 2**20, 1e30
_MAX_NAMES, _MAX_CHARACTERS = 2000, 2**17
# A name, or its end, in which dots stand for any character.
_SIMPLE = re.compile(r"\^?[\w.]{0,300}")
_INDEX = re.compile(r"(?:^|\.)layers\.(\d+)\.")


@dataclasses.dataclass(frozen=True)
class PeftConfig:
    """What an adapter_config.json says.

    Attributes:
      where: the file, for messages.
      rank, alpha, dropout, rslora, dora: as in `Lora`, where no pattern says otherwise.
      values: the whole object.
      base_hash: of the base it was trained on, None where PEFT wrote the file.
    """

    where: str
    rank: int
    alpha: float
    dropout: float
    rslora: bool
    dora: bool
    values: Mapping[str, Any]
    base_hash: str | None

    def ranks(self, names: Sequence[str]) -> list[int]:
        """Rank of each module."""
        found = self._patterned("rank_pattern", names)
        for name, rank in found.items():
            whole = isinstance(rank, int) and not isinstance(rank, bool)
            if not whole or not 1 <= rank <= _MAX_RANK:
                raise self._error("rank_pattern", f"a positive whole number for {name}")
        return [found.get(name, self.rank) for name in names]

    def alphas(self, names: Sequence[str]) -> list[float]:
        """alpha of each module."""
        found = self._patterned("alpha_pattern", names)
        for name, alpha in found.items():
            number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
            if not number or not 0 < alpha <= _MAX_ALPHA:
                raise self._error("alpha_pattern", f"a number above 0 for {name}")
        return [float(found.get(name, self.alpha)) for name in names]

    def targets(self, names: Sequence[str]) -> list[str]:
        """Which of the modules the adapter is for, in their order."""
        wanted = self.values.get("target_modules")
        wanted = _USUAL if wanted is None else wanted
        every = isinstance(wanted, str) and wanted.lower() == "all-linear"
        chosen = set(names) if every else self._chosen("target_modules", wanted, names)
        layers = self.values.get("layers_to_transform")
        if isinstance(wanted, list) and layers not in (None, []):
            layers = self._layers(layers)
            direct = set(wanted) & set(names)
            chosen = {name for name in chosen if name in direct or _layer(name) in layers}
        excluded = self.values.get("exclude_modules")
        if excluded:
            chosen -= self._chosen("exclude_modules", excluded, names)
        return [name for name in names if name in chosen]

    def _layers(self, layers: Any) -> set[int]:
        numbers = layers if isinstance(layers, list) else [layers]
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            raise self._error("layers_to_transform", "numbers of layers")
        pattern = self.values.get("layers_pattern")
        if pattern and "layers" not in (pattern if isinstance(pattern, list) else [pattern]):
            raise self._error("layers_pattern", "'layers', as Gemma calls them")
        return set(numbers)

    def _chosen(self, key: str, wanted: Any, names: Sequence[str]) -> set[str]:
        if isinstance(wanted, str):
            return self._matching(key, wanted, "", names)
        if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
            raise self._error(key, "a list of names or a regular expression")
        ends = set(wanted)
        return {name for name in names if not ends.isdisjoint(_ends(name))}

    def _patterned(self, key: str, names: Sequence[str]) -> dict[str, Any]:
        patterns = self.values.get(key) or {}
        if not isinstance(patterns, dict) or len(patterns) > _MAX_NAMES:
            raise self._error(key, f"an object of at most {_MAX_NAMES} patterns")
        if sum(map(len, patterns)) > _MAX_CHARACTERS:
            raise self._error(key, f"patterns of at most {_MAX_CHARACTERS} characters")
        found: dict[str, Any] = {}
        for pattern, value in patterns.items():
            matched = self._matching(key, pattern, r"(?:.*\.)?", names)
            found |= {name: value for name in matched - found.keys()}
        return {name: found[name] for name in names if name in found}

    def _matching(self, key: str, pattern: str, before: str, names: Sequence[str]) -> set[str]:
        try:
            return _matching(pattern, before, names)
        except ValueError as error:
            raise self._error(key, f"a regular expression of RE2 ({str(error)[:80]})") from None

    def _error(self, key: str, expected: str, todo: str = "") -> ConfigError:
        return Settings(self.values, self.where).error(key, expected, todo)


def _matching(pattern: str, before: str, names: Sequence[str]) -> set[str]:
    """The names that a regular expression describes whole, behind what `before` describes.

    Python's engine can be made to take for ever, so it gets only what repeats nothing; the rest
    is for RE2, which takes time in proportion to the names and lives in duckdb.
    """
    if len(pattern) > _MAX_CHARACTERS:
        raise ValueError("too long")
    whole = f"^{before}(?:{pattern})$"
    if _SIMPLE.fullmatch(pattern):
        return set(filter(re.compile(whole).search, names))
    import duckdb

    query = "SELECT name FROM (SELECT unnest($1) AS name) WHERE regexp_matches(name, $2)"
    try:
        return {name for (name,) in _database().cursor().execute(query, [names, whole]).fetchall()}
    except duckdb.Error as error:
        raise ValueError(str(error).removeprefix("Invalid Input Error: ")) from None


@functools.cache
def _database() -> Any:
    import duckdb

    return duckdb.connect(":memory:", config={
        "threads": "1", "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    })  # fmt: skip


def _ends(name: str) -> Iterable[str]:
    steps = name.split(".")
    return (".".join(steps[start:]) for start in range(len(steps)))


def _layer(name: str) -> int:
    found = _INDEX.search(name)
    return int(found[1]) if found else -1


def read_config(path: Path) -> PeftConfig:
    """Reads an adapter_config.json.

    Raises:
      CheckpointError: not JSON, or an adapter that is no LoRA.
      ConfigError: a setting gemkit cannot apply, or out of range.
    """
    values = read_json(path)
    settings = Settings({"r": 8, "lora_alpha": 8} | values, str(path))
    for key, plain in PLAIN.items():
        value = settings.values.get(key)
        absent = value is None and key != "peft_type"
        if not absent and not any(value == p and type(value) is type(p) for p in plain):
            raise settings.error(key, json.dumps(plain[0]), _MERGE)
    known = values.get(BASE_HASH)
    if known is not None and not isinstance(known, str):
        raise settings.error(BASE_HASH, "a hash")
    dropout = settings.values.get("lora_dropout") or 0.0
    if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise settings.error("lora_dropout", "a share from 0 up to below 1")
    settings.flag("fan_in_fan_out", False)  # of no effect: none of Gemma's layers is stored so
    return PeftConfig(
        str(path), settings.integer("r", _MAX_RANK), settings.number("lora_alpha"), float(dropout),
        settings.flag("use_rslora", False), settings.flag("use_dora", False), values, known,
    )  # fmt: skip


def check_base(config: PeftConfig, base_hash: str | None) -> None:
    """Compares the base an adapter was trained on with the one at hand, where both are known.

    Raises:
      CheckpointError: they differ.
    """
    known = config.base_hash
    if known and base_hash and known != base_hash:
        name = str(config.values.get("base_model_name_or_path"))[:200]
        raise CheckpointError(
            f"the adapter of {config.where} was trained on a base with hash {known[:12]}, "
            f"this model has {base_hash[:12]}",
            "the base it was trained on", f"load {name} in the dtype it had then",
        )  # fmt: skip


def describe(
    lora: Lora, names: Mapping[str, str], everywhere: Iterable[str], base: str, base_hash: str
) -> dict[str, Any]:
    """The adapter_config.json of an adapter.

    Args:
      lora: settings that fit its arrays.
      names: path → module of the matrices it adapts, such as `model.layers.0.mlp.up_proj`.
      everywhere: every module the base has.
      base: its name or path.
      base_hash: of its weights.
    """
    short = {name.rsplit(".", 1)[-1] for name in names.values()}
    # PEFT adapts every module whose name ends so; paths are needed only for a part of them.
    claimed = {name for name in everywhere if name.rsplit(".", 1)[-1] in short}
    kinds = {path.rsplit(".", 1)[-1]: name.rsplit(".", 1)[-1] for path, name in names.items()}

    def pattern(values: Any) -> dict[str, Any]:
        return {
            kinds.get(target) or names[target]: _whole(value)
            for target, value in dict(values).items()
        }

    return {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base,
        "r": lora.rank, "lora_alpha": _whole(lora.alpha or lora.rank),
        "lora_dropout": lora.dropout, "bias": "none",
        "target_modules": sorted(short if claimed == set(names.values()) else names.values()),
        "fan_in_fan_out": False, "use_rslora": lora.rslora, "use_dora": lora.dora,
        "rank_pattern": pattern(lora.rank_pattern), "alpha_pattern": pattern(lora.alpha_pattern),
        "modules_to_save": None, "init_lora_weights": True, "inference_mode": True,
        BASE_HASH: base_hash,
    }  # fmt: skip


def _whole(value: float) -> float | int:
    return int(value) if math.isfinite(value) and value == int(value) else value
