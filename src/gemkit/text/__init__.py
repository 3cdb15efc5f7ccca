"""Text in and out of tokens: vocabulary, chat turns, fill-in-the-middle, prompt templates."""
