"""Where records live: files, or memory with the same behaviour."""
