"""pydantic-ai's image generation with one of the names it knows; it takes base64 only."""

import functools

import line
from openai import AsyncOpenAI
from pydantic_ai.images import ImageGenerator
from pydantic_ai.images.openai import OpenAIImageGenerationModel
from pydantic_ai.providers.openai import OpenAIProvider


@functools.lru_cache
def generator_for(base_url, key, timeout_s):
    settings = {} if timeout_s is None else {"timeout": timeout_s}
    client = AsyncOpenAI(base_url=base_url, api_key=key, **settings)
    provider = OpenAIProvider(openai_client=client)
    return ImageGenerator(OpenAIImageGenerationModel("gpt-image-1", provider=provider))


async def make(call):
    generator = generator_for(call["base_url"], call["key"], call.get("timeout_s"))
    result = await generator.generate(call["prompt"], settings={"openai_n": call.get("n", 1)})
    return {"urls": [], "b64": [line.digest(image.content.data) for image in result.images]}


line.serve(make)
