# Run by tests/flow/test_recipes.py where `make clients` has installed it. pydantic-ai: pip install 'pydantic-ai-slim[openai]'
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import asyncio
from pathlib import Path

from pydantic_ai.images import ImageGenerator
from pydantic_ai.images.openai import OpenAIImageGenerationModel
from pydantic_ai.providers.openai import OpenAIProvider

# It takes base64 only, which Koi gives to who asks by one of OpenAI's names.
provider = OpenAIProvider(base_url=KOI_URL, api_key=KOI_KEY)
images = ImageGenerator(OpenAIImageGenerationModel("gpt-image-1", provider=provider))
result = asyncio.run(images.generate("a koi in a nebula"))
Path("koi.jpg").write_bytes(result.images[0].content.data)
print("koi.jpg")
