"""The GGUF file: header, block formats, tokenizer; its LoRA adapters."""
