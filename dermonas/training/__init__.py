"""Training a network from scratch or from pretrained weights: settings, recipes, and the Lightning loop."""
