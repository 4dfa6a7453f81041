"""dermonas: label-free architecture search for medical images, tracked in MLflow."""

__version__ = "0.1.0"
