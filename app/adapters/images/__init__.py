"""Image bytes: stored, fetched, linked."""
