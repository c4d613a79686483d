"""The provider: its HTTP, its JSON and its ways to fail."""
