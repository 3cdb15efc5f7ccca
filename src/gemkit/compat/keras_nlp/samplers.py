"""KerasNLP's samplers: settings of how `generate` chooses tokens."""

import difflib
from typing import Any

from gemkit.compat.keras.described import Described
from gemkit.compat.missing import names_missing
from gemkit.errors import UsageError
from gemkit.generate.sampling import Sampling


class Sampler(Described):
    """Base of all."""

    def __init__(self, temperature: float = 1.0, **own: Any) -> None:
        super().__init__(None, temperature=temperature, **own)

    def get_config(self) -> dict[str, Any]:
        """The settings."""
        return dict(self._settings)


class GreedySampler(Sampler):
    """The likeliest token."""


class RandomSampler(Sampler):
    """Any token by its probability."""

    def __init__(self, seed: int | None = None, temperature: float = 1.0) -> None:
        super().__init__(temperature, seed=seed)


class TopKSampler(Sampler):
    """One of the k likeliest."""

    def __init__(self, k: int = 5, seed: int | None = None, temperature: float = 1.0) -> None:
        super().__init__(temperature, k=k, seed=seed)


class TopPSampler(Sampler):
    """One of the likeliest that together reach the probability p, of the k likeliest if given."""

    def __init__(
        self, p: float = 0.1, k: int | None = None, seed: int | None = None,
        temperature: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(temperature, p=p, k=k, seed=seed)


class BeamSampler(Sampler):
    """The likeliest answer a beam search finds.

    Unlike KerasNLP's, a beam that has ended keeps its probability and competes with those that go
    on; there it goes on itself until all have ended. What ends it is not in the text.
    """

    def __init__(
        self, num_beams: int = 5, return_all_beams: bool = False, temperature: float = 1.0
    ) -> None:
        super().__init__(temperature, num_beams=num_beams, return_all_beams=return_all_beams)


_BY_NAME: dict[str, type[Sampler]] = {
    "greedy": GreedySampler, "random": RandomSampler, "top_k": TopKSampler,
    "top_p": TopPSampler, "beam": BeamSampler,
}  # fmt: skip


def get(identifier: Any) -> Any:
    """A sampler by its name; a sampler, also KerasHub's own, as it is.

    Raises:
      UsageError: an unknown one.
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if type(identifier).__name__ in {known.__name__ for known in _BY_NAME.values()}:
        return identifier
    named = identifier if isinstance(identifier, str) else type(identifier).__name__
    near = difflib.get_close_matches(named, _BY_NAME, 1)
    raise UsageError(
        f"the sampler is {named}", f"one of {', '.join(_BY_NAME)}",
        f"did you mean {near[0]}?" if near else "gemkit's own are settings of lm.generate",
    )  # fmt: skip


def beams_of(sampler: Any) -> int | None:
    """Width of the beam, None for a sampler without."""
    config = sampler.get_config()
    if config.get("return_all_beams"):
        raise UsageError(
            "return_all_beams is set", "the best beam only", "use gemkit.generate.beam.beam_search"
        )
    return config.get("num_beams")


def sampling_of(sampler: Any, seed: int) -> Sampling:
    """gemkit's settings of a sampler; `seed` for one that draws."""
    if type(sampler).__name__ in ("GreedySampler", "BeamSampler"):
        return Sampling()
    config = sampler.get_config()
    return Sampling(
        temperature=config["temperature"], top_k=config.get("k"), top_p=config.get("p"), seed=seed
    )


__all__ = [
    "BeamSampler", "GreedySampler", "RandomSampler", "Sampler", "TopKSampler", "TopPSampler", "get",
]  # fmt: skip

__getattr__ = names_missing(
    __name__,
    "one of those here; lm.language_model.generate has more",
)
