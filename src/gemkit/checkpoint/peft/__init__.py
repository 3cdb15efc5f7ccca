"""The PEFT adapter folder: adapter_config.json and safetensors."""
