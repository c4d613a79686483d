"""Settings of the page at `/` and of what holders of keys may do there."""

from pydantic_settings import BaseSettings

from app.domain.holders import KeyManagement


class PageSettings(BaseSettings):
    console: bool = True
    docs: bool = True
    holders_manage_keys: KeyManagement = KeyManagement.ROTATE
