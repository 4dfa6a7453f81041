"""The server: MLflow's formats with limits, batches over requests, and a champion that may change."""
