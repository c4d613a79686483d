"""Ledger, key ring, cache and signals on Redis or Valkey."""
