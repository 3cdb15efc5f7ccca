"""Whether a model was trained on chat turns, as far as its name or files tell."""

import json
from pathlib import Path

from gemkit.checkpoint.hub.handles import EMBEDDED
from gemkit.model.variants import VARIANTS


def knows_turns(model: str) -> bool | None:
    """True for instruct models, False for base models, None where nothing tells.

    A folder of Hugging Face's tells by its chat template, others by their name: `-it` and
    `instruct` are Google's words for models trained on turns.

    >>> knows_turns("nano"), knows_turns("gemma2_2b_en"), knows_turns("hf://google/gemma-2-2b-it")
    (True, False, True)
    """
    if model in EMBEDDED:
        return True
    if model in VARIANTS:
        return VARIANTS[model].instruct
    folder = Path(model).expanduser()
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        return "chat_template" in json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        pass
    words = folder.name.lower().replace("_", "-").replace(".", "-").split("-")
    published = {variant.hugging_face: variant.instruct for variant in VARIANTS.values()}
    return True if {"it", "instruct"} & set(words) else published.get(model.removeprefix("hf://"))
