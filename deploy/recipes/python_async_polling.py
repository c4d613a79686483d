# Run by `make test`. A task instead of a wait, with OpenAI's SDK for Python: pip install openai
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

from openai import OpenAI
from openai.types import ImagesResponse

client = OpenAI(base_url=KOI_URL, api_key=KOI_KEY)
task = client.images.generate(
    model="grok-imagine", prompt="a koi in a nebula", extra_body={"async": True}
)
print("queued as", task.id)
while task.status not in ("completed", "failed"):
    # Answers when the task ends, or after 25 seconds. The id works from anywhere, also tomorrow.
    task = client.get(f"/tasks/{task.id}?wait=25", cast_to=ImagesResponse)
print(task.data[0].url if task.status == "completed" else task.error)
