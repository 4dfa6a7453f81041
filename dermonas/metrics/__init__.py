"""Numbers from arrays: scores, intervals, calibration, paired tests, rank correlation, subgroups.

Read in this order: `inputs` (what rows may hold), `counts` and `roc` (the arithmetic, for any weights of rows),
`statistic` (a metric bound to its rows), `scores` (plain values), `intervals` and `paired` (resampling), and the
rest. No torch, no images, no tables.
"""
