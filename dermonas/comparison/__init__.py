"""Trained models beside each other: table, paired tests, Pareto fronts, and one page that says what they mean."""
