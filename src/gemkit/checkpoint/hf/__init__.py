"""The Hugging Face folder: config.json and safetensors."""
