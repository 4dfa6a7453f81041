"""Tabular benchmarks: accuracies of cells that others have trained, looked up instead of trained again."""
