"""The exceptions gemkit raises for mistakes a person can mend.

Every one carries what happened (with values), what was expected and what to do next, and prints
as one line. Anything else that escapes is a bug of ours.
"""


class GemkitError(Exception):
    """Base of all expected failures.

    >>> str(GemkitError("rank is 0", "a rank of at least 1", "pass --rank 4"))
    'rank is 0; expected a rank of at least 1; pass --rank 4'
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", todo: str = "") -> None:
        self.what, self.expected, self.todo = what, expected, todo
        parts = [what, f"expected {expected}" if expected else "", todo]
        super().__init__("; ".join(" ".join(part.split()) for part in parts if part))


class UsageError(GemkitError):
    """A wrong argument or setting."""

    exit_code = 2


class ConfigError(GemkitError):
    """A model configuration that contradicts itself or that gemkit does not know."""


class ModelNotFoundError(GemkitError):
    """A MODEL that is neither embedded, nor a readable file or folder, nor on disk."""


class CheckpointError(GemkitError):
    """A checkpoint that is damaged, incomplete or of another model."""


class TokenizerError(GemkitError):
    """A vocabulary that is missing, damaged or lacks a piece that is needed."""


class DataError(GemkitError):
    """A table file or a row that cannot be used."""


class TrainingError(GemkitError):
    """A run that cannot go on, such as a loss that is not a number."""


class MemoryWarning(UserWarning):
    """A run that may need more memory than is free."""


class GenerationError(GemkitError):
    """A prompt or limit that cannot be served."""
