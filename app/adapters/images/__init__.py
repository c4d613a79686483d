"""Images: stored, downloaded, and linked."""
