"""Putting a ledger together again after its store lost data."""
