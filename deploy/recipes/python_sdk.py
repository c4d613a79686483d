# Run by `make test`. OpenAI's SDK for Python: pip install openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

from openai import OpenAI

client = OpenAI(base_url=KOI_URL, api_key=KOI_KEY)
answer = client.images.generate(
    model="grok-imagine", prompt="a koi in a nebula", size="1536x1024"
)
print(answer.data[0].url)
