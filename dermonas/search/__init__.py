"""Search: samplers, the study, pruning. The only importer of optuna."""
