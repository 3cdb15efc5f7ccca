"""What loading found: the strict difference to the configuration, and the summary."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from gemkit.checkpoint.files import FLOAT_DTYPES, Tensors
from gemkit.errors import CheckpointError

# Tables are padded to a multiple of 128 rows at most (Flax) or by 64 (Gemma 3 with vision).
MAX_PADDING_ROWS = 128

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the tensors of a checkpoint.

    Attributes:
      format: the format that was recognised.
      loaded: number of parameters taken over.
      converted: how many of them changed layout or dtype on the way.
      unused: names of tensors that are no part of the text model.
      notes: remarks, one sentence each.
    """

    format: str
    loaded: int
    converted: int
    unused: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{self.format}: {self.loaded} tensors loaded, {self.converted} converted"]
        if self.unused:
            kinds = Counter(_head(name) for name in self.unused)
            groups = ", ".join(f"{head} {count}" for head, count in sorted(kinds.items()))
            parts.append(f"{len(self.unused)} unused ({groups})")
        return "; ".join([", ".join(parts), *self.notes])


def _head(name: str) -> str:
    return name.removeprefix("model.").removeprefix("layers/").replace("/", ".").split(".")[0]


def check_tensors(
    where: Path, tensors: Tensors, expected: Mapping[str, tuple[int, ...]], embedding: str
) -> None:
    """Compare what is there with what the configuration asks for.

    Args:
      where: the checkpoint, for messages.
      tensors: what the files hold.
      expected: table name → shape as stored.
      embedding: table name of the tensor that may have padding rows at its end.

    Raises:
        CheckpointError: a tensor is missing, unknown, wrongly shaped or of a dtype that holds
            no weights; one line names the first and counts the rest.
    """
    problems = [
        f"missing {tensors.spell(name)}" for name in expected if name not in tensors.found
    ]
    problems += [
        f"unknown {stored.name} {list(stored.shape)}"
        for name, stored in tensors.found.items()
        if name not in expected
    ]
    for name, shape in expected.items():
        stored = tensors.found.get(name)
        if stored is None:
            continue
        fits = stored.shape == shape or (name == embedding and _padded(stored.shape, shape))
        if not fits:
            problems.append(
                f"{stored.name} has shape {list(stored.shape)}, expected {list(shape)}"
            )
        if stored.dtype not in FLOAT_DTYPES:
            problems.append(f"{stored.name} has dtype {stored.dtype}")
    if problems:
        raise _mismatch(where, problems)


def _padded(found: Sequence[int], expected: Sequence[int]) -> bool:
    if len(found) != 2 or found[1] != expected[1]:
        return False
    return 0 <= found[0] - expected[0] <= MAX_PADDING_ROWS


def _mismatch(where: Path, problems: list[str]) -> CheckpointError:
    shown = ", ".join(problems[:_SHOWN])
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    count = "1 tensor does" if len(problems) == 1 else f"{len(problems)} tensors do"
    return CheckpointError(
        f"{where}: {count} not fit: {shown}{more}",
        "the tensors its config.json describes, as " + ", ".join(FLOAT_DTYPES),
        "check that weights and config.json belong together",
    )
