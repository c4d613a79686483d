# Run by `make test`. Edits, with OpenAI's SDK for Python: pip install openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import base64
from pathlib import Path

from openai import OpenAI

# Any model of GET /v1/models whose `references` are above 0.
MODEL = "doubao-seedream-4.5"
client = OpenAI(base_url=KOI_URL, api_key=KOI_KEY)
made = client.images.generate(model=MODEL, prompt="a koi", response_format="b64_json")
Path("before.jpg").write_bytes(base64.b64decode(made.data[0].b64_json))
with open("before.jpg", "rb") as picture:
    # Several: image=[one, another]
    answer = client.images.edit(model=MODEL, prompt="the same koi at night", image=picture)
print(answer.data[0].url)
