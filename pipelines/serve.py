"""`mlflow run . -e serve`: a registered model behind REST, until SIGTERM."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mlflow.tracking import MlflowClient

from dermonas.errors import ConfigError
from dermonas.serving.rest.door import Door
from dermonas.serving.rest.listen import bind, listen
from dermonas.serving.rest.logs import JsonLines, event
from dermonas.serving.rest.metrics import Metrics
from dermonas.serving.rest.release import Release, Wanted
from dermonas.serving.rest.routes import Api, Beside
from dermonas.serving.rest.service import Service
from dermonas.serving.rest.watch import Watch
from dermonas.tracking import registry
from dermonas.tracking.store import connected, store_errors
from pipelines.command import command
from pipelines.models import dataset_of
from pipelines.recipe import Recipe, read_config
from pipelines.serve_config import ServeConfig, limits_of

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Registered:
    """Versions of a registered model, as `dermonas.serving.rest.release.Source`.

    Args:
        client: Of the tracking store.
        uri: models:/NAME@ALIAS or models:/NAME/VERSION.
    """

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self.client, self.uri = client, uri

    def wanted(self) -> Wanted:
        """Return what the URI names now."""
        version = registry.version_at(self.client, self.uri)
        return Wanted(str(version.version), version.tags.get(registry.FILES, ""))

    def fetch(self, wanted: Wanted, folder: Path) -> Path:
        """Copy a version's package into a folder."""
        name = registry.version_at(self.client, self.uri).name
        with store_errors():
            version = self.client.get_model_version(name, wanted.version)
        return registry.fetch(version, folder)


More = Callable[[Service, Registered], Beside]
"""Makes what stands beside the server's own routes."""


def uri_of(model: str, recipe: Recipe) -> str:
    """Return the model's URI: the given one, or the champion of the recipe's data set."""
    return model or f"models:/{registry.model_name(dataset_of(recipe, None, None))}@{registry.CHAMPION}"


def run(config: ServeConfig, recipe: Recipe, more: More | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is in flight.

    Args:
        config: Settings.
        recipe: Names the data set where the settings name no model.
        more: Makes the routes that stand beside the server's own.

    Raises:
        ConfigError: The model is not in the registry, or the address cannot be had.
        StorageError: The model's files are not those that were registered.
    """
    threads = config.threads or os.cpu_count() or 1
    torch.set_num_threads(max(1, threads // 2))  # the other half decodes meanwhile
    token = token_of(config.token_file)
    source = Registered(connected(), uri_of(config.model, recipe))
    release = Release.of(source, source.wanted())
    listener = bind(config.host, config.port)
    metrics, limits = Metrics(), limits_of(config)
    service = Service(release, limits, threads, metrics)
    api = Api(service)
    watch = Watch(source, service, config.watch_seconds)
    where = f"http://{config.host}:{listener.getsockname()[1]}"
    if not token and config.host not in _LOOPBACK:
        event(logging.WARNING, "open to everybody", host=config.host, mend="give --token_file")
    print(f"serving {source.uri} version {release.version} at {where}", flush=True)
    event(logging.INFO, "listening", at=where, model=source.uri, version=release.version, digest=release.digest)
    try:
        routes, public = api.routes(), frozenset[str]()
        if more is not None:
            beside = more(service, source)
            routes, public = [*routes, *beside.routes()], beside.public
        listen(listener, Door(routes, metrics, token, public), api, limits, watch.run)
    finally:
        service.close()
    event(logging.INFO, "stopped")


def token_of(file: Path | None) -> str:
    """Return the token in a file's first line, "" without a file.

    Raises:
        ConfigError: The file cannot be read, or holds none.
    """
    if file is None:
        return ""
    try:
        lines = file.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token_file {file} cannot be read as ASCII text ({type(error).__name__})") from error
    token = lines[0].strip() if lines else ""
    if len(token) < 16:
        raise ConfigError(f"token_file {file} must hold at least 16 characters in its first line")
    return token


def main(argv: Sequence[str]) -> None:
    """Read the configuration and serve; the log is JSON lines on standard error."""
    config, recipe = read_config("serve", argv)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())
    logging.captureWarnings(True)  # Pillow's, of files that it mends: they are no JSON lines, and not ours to keep
    logging.getLogger("py.warnings").setLevel(logging.ERROR)
    run(config, recipe)


if __name__ == "__main__":
    sys.exit(command("serve", main))
