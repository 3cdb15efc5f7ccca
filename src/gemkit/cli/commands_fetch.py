"""The command that downloads."""

import click

from gemkit.cli.options import JSON, Command, as_json, remark


@click.command(cls=Command)
@click.argument("handle")
@click.option(
    "--from", "hub", type=click.Choice(["hf", "kaggle"]),
    help="Where to get a preset from; default the hub there are credentials for.",
)  # fmt: skip
@JSON
def fetch(handle: str, hub: str | None, as_program: bool) -> None:
    """Download a model: a preset's name or a handle on a hub.

    HANDLE is a name that gemkit models lists, hf://org/name[@revision], or
    kaggle://owner/model/framework/variation[/version]. Only the files gemkit needs come, into
    the cache of the hub's own client; an interrupted download goes on where it stopped. Prints
    the folder.
    """
    from gemkit.checkpoint.hub.fetch import fetch as fetch_model

    try:
        path = fetch_model(handle, hub)
    except KeyboardInterrupt as stopped:
        remark(f"gemkit: {stopped}")
        raise
    if as_program:
        as_json({"model": handle, "path": str(path)})
    else:
        print(path)
    remark(f"{handle} is on this disk; try: gemkit info {handle}")
