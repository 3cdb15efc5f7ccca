"""The doctor: what is wrong with data or recipe, before a long run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gemkit.cli.commands_text import visible
from gemkit.cli.options import JSON, Command, as_json, present
from gemkit.cli.task_flags import TASK_FLAGS

if TYPE_CHECKING:
    from gemkit.diagnosis.material import Finding

FILE = click.Path(path_type=Path)
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


@click.command(cls=Command)
@click.argument("task")
@click.option("--model", required=True, help="MODEL to be tuned; its weights are not read.")
@click.option("--data", type=FILE, required=True, metavar="FILE", help="What to learn from.")
@click.option("--valid", type=FILE, metavar="FILE", help="Validation rows.")
@TASK_FLAGS
@click.option("--batch-tokens", type=int, help="Token slots of a step; default 512.")
@click.option("--max-length", type=int, help="Most tokens of an example; default the context.")
@JSON
def doctor(
    task: str, model: str, data: Path, valid: Path | None, batch_tokens: int | None,
    max_length: int | None, as_program: bool, **settings: Any,
) -> None:  # fmt: skip
    """Look for what is wrong with data or recipe before a long run.

    Takes what gemkit tune takes, and says of each check what was found, with a row to look at.
    Exits with 0 if there is no error and with 1 if there is; warnings do not count.
    """
    from gemkit.diagnosis.doctor import examine, outline
    from gemkit.tasks import make_task

    chosen = make_task(task, **present(**settings))
    limits = present(max_length=max_length, batch_tokens=batch_tokens)
    findings = examine(outline(model), chosen, data, valid, **limits)
    if as_program:
        as_json([finding.to_dict() for finding in findings])
    else:
        _show(findings)
    if any(finding.severity == "error" for finding in findings):
        raise click.exceptions.Exit(1)


def _show(findings: Sequence["Finding"]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("check", no_wrap=True)
    table.add_column("found", ratio=1, overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.severity]
        said = Text(visible(finding.summary))
        if finding.where:
            said.append(f"\n{visible(finding.where)}  {visible(finding.text)}", "cyan")
        if finding.todo:
            said.append(f"\n→ {finding.todo}", "dim")
        table.add_row(Text(mark, colour), Text(finding.check), said)
    console = Console(highlight=False)
    console.print(table)
    found = Counter(finding.severity for finding in findings)
    errors, warnings = (
        f"{found[kind]} {kind}{'' if found[kind] == 1 else 's'}" for kind in ("error", "warning")
    )
    console.print(f"\n{errors}, {warnings}, {found['ok']} checks without fault")
