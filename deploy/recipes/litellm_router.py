# Run by tests/flow/test_recipes.py where `make clients` has installed it. LiteLLM's Router in front of Koi: pip install litellm
KOI_URL = "http://127.0.0.1:8000/v1"
KOI_KEY = "sk-koi-…"

import litellm

koi = {"model": "openai/grok-imagine", "api_base": KOI_URL, "api_key": KOI_KEY}
# Koi repeats nothing that may have been paid for, so nobody in front of it need repeat.
router = litellm.Router([{"model_name": "koi", "litellm_params": koi}], num_retries=0, timeout=600)
print(router.image_generation(model="koi", prompt="a koi in a nebula").data[0].url)
