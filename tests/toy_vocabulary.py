"""A small vocabulary for tests that need one and do not mind which."""

import io

import sentencepiece

from gemkit.text.tokenizer import Tokenizer


def small_vocabulary() -> Tokenizer:
    """320 pieces with Gemma's first ids."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the soup was warm and the bread was fresh"] * 20),
        model_writer=model, model_type="bpe", vocab_size=320, byte_fallback=True, pad_id=0,
        eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
        user_defined_symbols=["<start_of_turn>", "<end_of_turn>"], minloglevel=2,
        hard_vocab_limit=False, add_dummy_prefix=False, normalization_rule_name="identity",
        remove_extra_whitespaces=False,
    )  # fmt: skip
    return Tokenizer.from_bytes(model.getvalue())
