"""The settings of `serve`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from dermonas.errors import ConfigError
from dermonas.serving.rest.limits import Limits

_LIMITS = Limits()


@dataclass(frozen=True)
class ServeConfig:
    """Which registered model answers, where, to whom, and how much at a time.

    Attributes:
        model: models:/NAME@ALIAS or models:/NAME/VERSION; "" is the champion of the recipe's data set. What an alias
            names is looked up again and again.
        host: Address to listen on; 0.0.0.0 for every network that the machine is in, which asks for a token.
        port: Port; 0 takes a free one.
        token_file: File whose first line a caller must send as "Authorization: Bearer ..."; None lets everybody in.
        watch_seconds: How often to look up what the alias names.
        threads: Threads that decode images, twice those that torch computes with; 0 takes as many as there are cores.
        body_mib: Bytes of a request's body, MiB.
        rows: Images of a request.
        pixels: Width x height of an image.
        requests: Requests that are answered at the same time; further ones get 429.
        arriving: Requests whose body is on its way; further ones get 429.
        connections: Callers that are connected at the same time; further ones get 429 and are let go.
        body_seconds: From a request's first byte to its body's last.
        seconds: From the body's last byte to the answer.
    """

    model: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    token_file: Path | None = None
    watch_seconds: float = 5.0
    threads: int = 0
    body_mib: float = _LIMITS.body_mib
    rows: int = _LIMITS.rows
    pixels: int = _LIMITS.pixels
    requests: int = _LIMITS.requests
    arriving: int = _LIMITS.arriving
    connections: int = _LIMITS.connections
    body_seconds: float = _LIMITS.body_seconds
    seconds: float = _LIMITS.seconds

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} must lie in 0 to 65535")
        if not self.watch_seconds > 0:
            raise ConfigError(f"watch_seconds {self.watch_seconds} must be positive")
        if self.threads < 0:
            raise ConfigError(f"threads {self.threads} must be at least 0")
        limits_of(self)


def limits_of(config: ServeConfig) -> Limits:
    """Return the bounds of requests."""
    return Limits(**{field.name: getattr(config, field.name) for field in fields(Limits)})
