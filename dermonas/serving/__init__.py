"""The model as it is served: its program, its preprocessing, its answers, and the package that holds them."""
