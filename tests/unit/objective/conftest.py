"""The networks' slow reference, which stands beside their tests, on the import path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "nn"))
