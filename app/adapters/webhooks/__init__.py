"""Posting webhooks and notices."""
