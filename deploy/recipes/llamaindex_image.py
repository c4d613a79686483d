# Run by tests/flow/test_recipes.py where `make clients` has installed it. LlamaIndex: pip install llama-index-tools-openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import os

from llama_index.tools.openai.image_generation.base import OpenAIImageGenerationToolSpec

os.environ["OPENAI_BASE_URL"] = KOI_URL  # the tool has no field for it
images = OpenAIImageGenerationToolSpec(api_key=KOI_KEY)
print(images.image_generation("a koi in a nebula"))
