"""What things cost: runnable, printed as ratios, never a timed test."""
