"""A batch of prompts answered together, nobody joining later."""

from collections.abc import Sequence

from gemkit.generate.decode import check_prompts, power
from gemkit.generate.engine import Engine
from gemkit.generate.request import Request
from gemkit.generate.sampling import Sampling
from gemkit.model.config import GemmaConfig
from gemkit.model.weights import Params


class Decoding:
    """A batch being answered: an engine that nobody joins.

    >>> answers = Decoding(params, config, [[2, 651]], [20], (1,), Sampling())  # doctest: +SKIP
    >>> while answers.running():                                              # doctest: +SKIP
    ...     new = answers.advance(8)   # per row, the tokens since the last call
    """

    def __init__(
        self, params: Params, config: GemmaConfig, prompts: Sequence[Sequence[int]],
        limits: Sequence[int], stop_ids: Sequence[int], sampling: Sampling,
    ) -> None:  # fmt: skip
        """Takes the prompts in.

        Args:
          prompts: ids, none empty.
          limits: most new tokens of each row.
          stop_ids: a row ends at one of these, which is not part of its answer.

        Raises:
          GenerationError: a prompt without tokens, or longer than the model's context.
        """
        check_prompts(config, prompts)
        self._engine = Engine(params, config, slots=power(len(prompts)))
        self._answers = [
            self._engine.add(Request(tuple(prompt), limit, tuple(stop_ids), sampling))
            for prompt, limit in zip(prompts, limits, strict=True)
        ]
        self._given = False

    def advance(self, steps: int) -> list[list[int]]:
        """Makes up to `steps` more tokens; per row, those not yet returned, stops left out."""
        new: list[list[int]] = [[] for _ in self._answers]
        while self._engine.running() and not any(new):
            self._engine.step(steps)
            new = [answer.take() for answer in self._answers]
        self._given = True
        return new

    def running(self) -> bool:
        """Whether some row may still grow, or has tokens not yet returned."""
        return self._engine.running() or not self._given

    def finish(self, row: int) -> None:
        """Ends a row, for a stop that only its text shows."""
        self._engine.cancel(self._answers[row])
