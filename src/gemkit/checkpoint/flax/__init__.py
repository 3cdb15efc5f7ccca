"""The Flax checkpoint: an Orbax tree; its LoRA subtree."""
