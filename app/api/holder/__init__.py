"""Routes for holders of keys that OpenAI has no word for, and the session of the page."""
