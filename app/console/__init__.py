"""The page: its files as they are sent, with vendored libraries. `app.api.console` serves it."""
