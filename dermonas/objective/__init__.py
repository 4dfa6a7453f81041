"""Scores of a candidate network: what a search minimises and an audit compares."""
