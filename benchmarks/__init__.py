"""Benchmarks: runnable, printed as ratios measured alternately in one run, never timed tests."""
