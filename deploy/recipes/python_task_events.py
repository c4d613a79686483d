# Run by `make test`. The progress of a task as events, with httpx: pip install httpx
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import json

import httpx

with httpx.Client(headers={"Authorization": f"Bearer {KOI_KEY}"}, timeout=60) as client:
    body = {"model": "grok-imagine", "prompt": "a koi in a nebula", "async": True}
    asked = client.post(f"{KOI_URL}/images/generations", json=body)
    task = asked.raise_for_status().json()
    events = {"Accept": "text/event-stream"}
    with client.stream("GET", f"{KOI_URL}/tasks/{task['id']}", headers=events) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                print(event["type"], event["data"]["status"])
                if event["type"] == "task.completed":
                    print(event["data"]["data"][0]["url"])
