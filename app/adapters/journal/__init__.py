"""The journal (the second copy of the ledger) and the outbox, as files."""
