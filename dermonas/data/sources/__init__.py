"""Where images come from: one module a layout, each returning a `listing.Listing`."""
