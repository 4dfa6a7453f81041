"""What a server takes at most."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dermonas.errors import ConfigError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of a request and of all of them; ours, for camera and dermoscopy images on a machine of a few GB.

    Memory for requests is at most about `requests` x 3 x `body_mib` + `arriving` x `body_mib` MiB, and for each thread
    that decodes 4 bytes a pixel.

    Attributes:
        body_mib: Bytes of a body, MiB.
        rows: Images of a request.
        pixels: Width x height of an image.
        requests: Requests that are answered at the same time; further ones are refused.
        arriving: Requests whose body is on its way.
        connections: Callers that are connected at the same time, whether they ask or not; under the process's limit of
            open files.
        body_seconds: From a request's first byte to its body's last.
        seconds: From the body's last byte to the answer.
    """

    body_mib: float = 32.0
    rows: int = 64
    pixels: int = 50_000_000
    requests: int = 32
    arriving: int = 128
    connections: int = 512
    body_seconds: float = 15.0
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"{field.name} {getattr(self, field.name)} must be positive")

    @property
    def body_bytes(self) -> int:
        """The largest body, bytes."""
        return int(self.body_mib * MIB)
