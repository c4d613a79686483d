"""The provider's bill against the ledger: reading its file, matching its lines."""
