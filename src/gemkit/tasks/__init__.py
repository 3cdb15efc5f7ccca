"""Tasks: rows of a table → prompts and targets; outputs → answers."""

from gemkit.tasks.classify import Classify as Classify

__all__ = ["Classify"]
