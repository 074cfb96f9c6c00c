"""Ways in and out for what other programs keep. Each module is imported by its own name, when it is needed."""
