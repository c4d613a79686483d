"""The provider: its HTTP, its JSON and its errors."""
