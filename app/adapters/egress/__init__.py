"""Requests to URLs that others chose: where they may lead, and connections that keep to it."""
