"""The contrastive objective's parts: projection heads, memory bank, NCE losses."""
