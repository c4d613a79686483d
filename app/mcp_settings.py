"""Settings of the Model Context Protocol at `/mcp`."""

from pydantic import Field
from pydantic_settings import BaseSettings


class McpSettings(BaseSettings):
    mcp: bool = False
    mcp_image_kb: int = Field(700, ge=0, le=16_384)
