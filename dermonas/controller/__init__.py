"""The locality-pretrained NAO controller: tokens, edits, network, pretraining, proposals."""
