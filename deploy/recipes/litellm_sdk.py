# Run by tests/flow/test_recipes.py where `make clients` has installed it. LiteLLM in front of Koi: pip install litellm
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import litellm

answer = litellm.image_generation(
    model="openai/grok-imagine", prompt="a koi in a nebula", api_base=KOI_URL, api_key=KOI_KEY
)
print(answer.data[0].url)
