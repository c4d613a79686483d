"""LangChain's DALL-E wrapper (community), at its defaults but for place, key and model."""

import asyncio

import line
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper


async def make(call):
    settings = {} if call.get("timeout_s") is None else {"timeout": call["timeout_s"]}
    wrapper = DallEAPIWrapper(
        model="grok-imagine",
        base_url=call["base_url"],
        api_key=call["key"],
        n=call.get("n", 1),
        **settings,
    )
    links = await asyncio.to_thread(wrapper.run, call["prompt"])
    return {"urls": links.split("\n"), "b64": []}


line.serve(make, hangs_up=False)
