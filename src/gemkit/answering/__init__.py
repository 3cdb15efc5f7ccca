"""Between words and the engine: options become requests, tokens become replies."""
