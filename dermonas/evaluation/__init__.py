"""What a trained model says of a split, and how much that is worth: predictions, figures, tables."""
