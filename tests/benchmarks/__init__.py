"""Benchmarks: `python -m tests.benchmarks` prints how many times as fast fsstate is as what it is compared with."""
