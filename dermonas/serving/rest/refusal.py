"""Why a request is not answered: an HTTP status, MLflow's error code, and one line that repeats nothing sent."""

from __future__ import annotations

from collections.abc import Mapping

from dermonas.errors import ConfigError, DataError, DermonasError, ImageError, ImageTooLarge, RequestError

_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    404: "ENDPOINT_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


class Refusal(RequestError):
    """A request is not answered.

    Args:
        status: HTTP status.
        message: One line for the caller.
        kind: What metrics and logs call it.
        headers: Of the response.
    """

    def __init__(self, status: int, message: str, kind: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.kind, self.headers = status, message, kind, dict(headers or {})

    def content(self) -> dict[str, str]:
        """Return the response's JSON object, as MLflow words its own."""
        return {"error_code": _CODES.get(self.status, "BAD_REQUEST"), "message": self.message}


def refusal_of(error: DermonasError) -> Refusal:
    """Return the refusal that an error of the library means for a caller."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ImageTooLarge):
        return Refusal(413, error.brief, "pixels")
    if isinstance(error, ImageError):
        return Refusal(400, error.brief, "image")
    if isinstance(error, ConfigError):
        return Refusal(400, str(error), "request")
    if isinstance(error, DataError):  # logits that are not finite: no request's fault
        return Refusal(503, "the model gave no finite answer: another version is needed", "model")
    return Refusal(503, "the server cannot answer now", "server")
