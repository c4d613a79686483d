# Run by tests/flow/test_recipes.py where `make clients` has installed it. LangChain: pip install langchain-community openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

images = DallEAPIWrapper(model="grok-imagine", base_url=KOI_URL, api_key=KOI_KEY)
print(images.run("a koi in a nebula"))
