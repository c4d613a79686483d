"""LlamaIndex's OpenAI image tool: it has no place for a base URL, so the environment tells it."""

import asyncio
import os

import line
from llama_index.tools.openai.image_generation.base import OpenAIImageGenerationToolSpec


async def make(call):
    os.environ["OPENAI_BASE_URL"] = call["base_url"]
    tool = OpenAIImageGenerationToolSpec(api_key=call["key"])
    link = await asyncio.to_thread(
        tool.image_generation,
        call["prompt"],
        num_images=call.get("n", 1),
        timeout=call.get("timeout_s"),
    )
    # It hands on the first picture only, however many were asked for.
    return {"urls": [link], "b64": []}


line.serve(make, hangs_up=False)
