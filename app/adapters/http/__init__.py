"""What the adapters that speak HTTP share; it knows none of them."""
