"""Nonsense: random histories against a model, and random bytes for all that reads."""
