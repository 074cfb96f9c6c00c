"""The scenarios of five programs that keep their state in stores of their own, replayed through the public API."""
