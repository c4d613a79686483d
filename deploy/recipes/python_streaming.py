# Run by `make test`. One event for each picture, with OpenAI's SDK for Python: pip install openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url=KOI_URL, api_key=KOI_KEY)
events = client.images.generate(model="grok-imagine", prompt="a koi in a nebula", stream=True)
for event in events:
    if event.type == "image_generation.completed":
        Path("koi.jpg").write_bytes(base64.b64decode(event.b64_json))
        print("koi.jpg")
