"""From a configuration to a listing."""

from __future__ import annotations

from dermonas.data.config import PrepareConfig, output_folder
from dermonas.data.sources.cifar import list_cifar
from dermonas.data.sources.folder import list_folder
from dermonas.data.sources.isic import list_isic
from dermonas.data.sources.listing import Listing
from dermonas.data.sources.phantom import list_phantom


def list_source(config: PrepareConfig) -> Listing:
    """List the images of the configured source; errors are the source's own."""
    if config.source == "isic":
        return list_isic(config.root)
    if config.source == "cifar":
        return list_cifar(config.root, hundred="100" in config.dataset, images=output_folder(config) / "images")
    if config.source == "folder":
        return list_folder(config.root)
    return list_phantom(
        output_folder(config) / "phantom",
        lesions=config.phantom_lesions,
        test_images=config.phantom_test_images,
        size=config.phantom_size,
        seed=config.phantom_seed,
    )
