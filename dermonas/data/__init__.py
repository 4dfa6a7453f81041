"""From a folder of images to a manifest, a decoded cache and views."""
