"""The second copy of the books, and what the store could not be told yet, as files."""
