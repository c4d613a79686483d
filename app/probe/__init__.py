"""`koi probe`: asks a provider how it behaves, at a price that is named first."""
