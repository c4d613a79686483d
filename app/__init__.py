"""Koi: an OpenAI-compatible image gateway that never pays twice and never loses a paid image."""
