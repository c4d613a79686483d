"""Settings of what the gateway shows beside the images API itself."""

from pydantic import Field
from pydantic_settings import BaseSettings


class SurfaceSettings(BaseSettings):
    docs: bool = True
    console: bool = True
    list_aliases: bool = False
    mcp: bool = False
    mcp_image_kb: int = Field(700, ge=0, le=16_384)
