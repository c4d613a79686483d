"""Turns a finished generation into the items of a reply."""

import base64
from typing import Any

from app.sandbox.contract import Json, Result
from app.sandbox.generation import Generation
from app.sandbox.provider import Provider


async def make_result(provider: Provider, generation: Generation) -> Result:
    """The result in the shape of the profile, with the generation's fault applied."""
    use = generation.use
    as_bytes = generation.order.response_format == "b64_json"
    if use is not None and use.fault.as_bytes:
        as_bytes = True
    items: list[Any] = []
    for index in range(generation.made):
        item = await _item(provider, generation, index, as_bytes)
        items.append(item | _revision(provider, generation))
    result = Result(items)
    if use is not None and use.fault.result is not None:
        return use.fault.result(result, use.arg)
    return result


def created_field(provider: Provider, seconds: int) -> Any:
    """`created` as a number or, by switch, as text, which some relays send."""
    return str(seconds) if provider.switches.created_as_text else seconds


def link(provider: Provider, generation: Generation, index: int) -> str:
    """A signed link to one image, with an expiry. It is the same in every poll, unless the switch
    `fresh_links` is on."""
    suffix = "png" if provider.switches.image_format == "png" else "jpg"
    name = f"{generation.file_id}-{index}.{suffix}"
    expires, epoch = generation.link_expires, generation.link_epoch
    if provider.switches.fresh_links:
        expires, epoch = int(provider.now() + provider.switches.link_ttl_s), provider.link_epoch
    signature = provider.signature(name, expires, epoch)
    return f"{generation.link_base}/cdn/{name}?expires={expires}&signature={signature}"


async def _item(provider: Provider, generation: Generation, index: int, as_bytes: bool) -> Json:
    if not as_bytes:
        return {"url": link(provider, generation, index)}
    content = base64.b64encode(await provider.picture(generation, index)).decode()
    kind = provider.switches.image_format
    prefix = f"data:image/{kind};base64," if provider.profile.data_prefix else ""
    return {"b64_json": prefix + content}


def _revision(provider: Provider, generation: Generation) -> Json:
    wanted = provider.switches.revised_prompt
    if wanted == "absent":
        return {}
    return {"revised_prompt": "" if wanted == "empty" else f"A koi pond: {generation.order.prompt}"}
