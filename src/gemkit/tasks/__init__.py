"""Tasks: rows of a table → prompts and targets; outputs → answers and scores."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gemkit.errors import UsageError
from gemkit.tasks.base import Answer as Answer
from gemkit.tasks.base import Task as Task
from gemkit.tasks.base import changed as changed
from gemkit.tasks.chat import Chat as Chat
from gemkit.tasks.classify import Classify as Classify
from gemkit.tasks.complete import Complete as Complete
from gemkit.tasks.instruct import Instruct as Instruct
from gemkit.tasks.text import Text as Text
from gemkit.tasks.translate import Translate as Translate

TASKS: Mapping[str, type[Task]] = MappingProxyType(
    {task.name: task for task in (Classify, Instruct, Chat, Translate, Complete, Text)}
)
"""All tasks by the names the command line has for them."""

__all__ = [
    "TASKS", "Answer", "Chat", "Classify", "Complete", "Instruct", "Task", "Text", "Translate",
    "changed", "make_task",
]  # fmt: skip


def make_task(name: str, **settings: Any) -> Task:
    """A task by its name.

    Raises:
      UsageError: an unknown name, or a setting the task has not.
    """
    if name not in TASKS:
        raise UsageError(f"task {name!r} is unknown", f"one of {', '.join(TASKS)}")
    return changed(TASKS[name](), **settings)
