"""`mlflow run . -e app`: a page to ask a registered model on, over the server of `serve`, until SIGTERM."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from dermonas.serving.rest.logs import JsonLines
from dermonas.serving.rest.service import Service
from dermonas.tracking import registry
from dermonas.web.page import Page
from pipelines.command import command
from pipelines.recipe import read_config
from pipelines.serve import Registered, run


def main(argv: Sequence[str]) -> None:
    """Read the configuration and serve the page; the log is JSON lines on standard error."""
    config, recipe = read_config("app", argv)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonLines())

    def page(service: Service, source: Registered) -> Page:
        name = registry.version_at(source.client, source.uri).name
        return Page(service, source.client, name, config.versions)

    run(config, recipe, page)


if __name__ == "__main__":
    sys.exit(command("app", main))
