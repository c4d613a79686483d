"""LiteLLM as a library: `aimage_generation`, or its Router with one deployment when asked."""

import functools
import sys

import line
import litellm

litellm.suppress_debug_info = True
litellm.telemetry = False


@functools.lru_cache
def router_for(base_url, key, timeout_s):
    at = {"model": "openai/grok-imagine", "api_base": base_url, "api_key": key}
    settings = {} if timeout_s is None else {"timeout": timeout_s}
    return litellm.Router([{"model_name": "koi", "litellm_params": at}], **settings)


async def by_sdk(call):
    settings = {} if call.get("timeout_s") is None else {"timeout": call["timeout_s"]}
    answer = await litellm.aimage_generation(
        prompt=call["prompt"],
        model="openai/grok-imagine",
        n=call.get("n", 1),
        api_base=call["base_url"],
        api_key=call["key"],
        **settings,
    )
    return line.told(answer.data)


async def by_router(call):
    router = router_for(call["base_url"], call["key"], call.get("timeout_s"))
    answer = await router.aimage_generation(prompt=call["prompt"], model="koi", n=call.get("n", 1))
    return line.told(answer.data)


line.serve(by_router if "router" in sys.argv else by_sdk)
