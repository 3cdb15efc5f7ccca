"""The names of all metrics, and what every kind of scores can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    Attributes:
      title: its usual name.
      form: format of the figure.
      of_loss: it follows from the loss alone, so that nothing need be answered to know it.
      up: more is better.
    """

    title: str
    form: str
    of_loss: bool = False
    up: bool = True

    def show(self, value: float) -> str:
        """The figure as text."""
        return format(value, self.form)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric("accuracy", ".1%"),
        "macro_f1": Metric("macro-F1", ".3f"),
        "loss": Metric("loss", ".3f", of_loss=True, up=False),
        "perplexity": Metric("perplexity", ",.2f", of_loss=True, up=False),
        "bits_per_byte": Metric("bits per byte", ".3f", of_loss=True, up=False),
        "bleu": Metric("BLEU", ".1f"),
        "chrf": Metric("chrF", ".1f"),
        "exact_match": Metric("exact match", ".1%"),
        "edit_similarity": Metric("edit similarity", ".3f"),
        "pass@1": Metric("pass@1", ".1%"),
    }
)


class Scores(Protocol):
    """What came out of comparing answers with the truth."""

    @property
    def metrics(self) -> dict[str, float]:
        """Figures by their names in `METRICS`."""

    def table(self) -> str:
        """For a terminal."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""


@dataclass(frozen=True)
class Figures:
    """Scores that are nothing but figures."""

    metrics: dict[str, float]

    def table(self) -> str:
        """A line for each figure.

        >>> Figures({"bleu": 31.28, "exact_match": 0.5}).table().splitlines()
        ['BLEU         31.3', 'exact match  50.0%']
        """
        width = max((len(METRICS[name].title) for name in self.metrics), default=0)
        return "\n".join(
            f"{METRICS[name].title:{width}}  {METRICS[name].show(value)}"
            for name, value in self.metrics.items()
        )

    def to_dict(self) -> dict[str, Any]:
        """The figures."""
        return dict(self.metrics)
