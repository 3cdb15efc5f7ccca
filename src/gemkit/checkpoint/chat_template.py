"""Gemma's chat turns as the Jinja template that llama.cpp and transformers read from a model."""

from gemkit.text.templates import CHAT
from gemkit.text.tokenizer import Tokenizer

# Renders what `text.chat.chat_ids` encodes: a leading system message goes before the first user's
# text, contents are trimmed, turns that do not alternate are an error.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% set lead = '' %}{% set turns = messages %}"
    "{% if messages[0]['role'] == 'system' %}"
    "{% set lead = messages[0]['content'] %}{% set turns = messages[1:] %}"
    "{% if lead is not string %}{% set lead = lead | map(attribute='text') | join %}{% endif %}"
    "{% set lead = lead + '\\n\\n' %}"
    "{% endif %}"
    "{% for message in turns %}"
    "{% set content = message['content'] %}"
    "{% if content is not string %}"
    "{% set content = content | map(attribute='text') | map('trim') | join %}"
    "{% endif %}"
    "{% if message['role'] not in (['assistant', 'model'] if loop.index0 % 2 else ['user']) %}"
    "{{ raise_exception('user and assistant must alternate after an optional system message') }}"
    "{% endif %}"
    "{{ '<start_of_turn>' + ('model' if loop.index0 % 2 else 'user') + '\\n' }}"
    "{% if loop.first %}{{ lead }}{% endif %}"
    "{{ content | trim }}"
    "{{ '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)


def chat_template(tokenizer: Tokenizer) -> dict[str, str]:
    """The setting of a vocabulary with turn tokens; empty for any other."""
    turns = CHAT.start in tokenizer and CHAT.end in tokenizer
    return {"chat_template": CHAT_TEMPLATE} if turns else {}
