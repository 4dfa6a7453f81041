"""The settings of `app`."""

from __future__ import annotations

from dataclasses import dataclass

from dermonas.errors import ConfigError
from pipelines.serve_config import ServeConfig


@dataclass(frozen=True)
class AppConfig(ServeConfig):
    """Those of `serve`, and the page's.

    Attributes:
        port: Port; 0 takes a free one. Another default than that of `serve`, which may run beside it.
        versions: Registered versions that the page's table shows, the newest ones.
    """

    port: int = 8080
    versions: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.versions <= 1000:
            raise ConfigError(f"versions {self.versions} must lie in 1 to 1000")
