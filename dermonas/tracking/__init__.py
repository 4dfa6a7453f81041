"""MLflow: runs, artifacts and the observers that write to them."""
