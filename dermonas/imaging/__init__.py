"""From bytes to pixels: decode, resize, normalise. One road for cache, evaluation, heat maps and REST."""
