"""The second paper's figures and tables from our own runs, its printed ones beside them and marked."""
