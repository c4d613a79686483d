"""Settings of what becomes of the ledger's entries."""

from pydantic import Field
from pydantic_settings import BaseSettings


class LedgerSettings(BaseSettings):
    ledger_months: int = Field(13, ge=0)
