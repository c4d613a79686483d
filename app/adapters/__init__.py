"""The other edge: the store, the provider, image bytes."""
