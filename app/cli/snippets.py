"""Ready-to-paste code the demo prints, as templates of `url`, `key` and `model`."""

SNIPPETS = """
curl:
  curl $url/images/generations -H 'Authorization: Bearer $key' \\
    -H 'Content-Type: application/json' \\
    -d '{"model": "$model", "prompt": "a lighthouse in the snow"}'

Python (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="$url", api_key="$key")
  picture = client.images.generate(model="$model", prompt="a lighthouse in the snow")
  print(picture.data[0].url)

Node (npm install openai):
  import OpenAI from "openai";
  const client = new OpenAI({ baseURL: "$url", apiKey: "$key" });
  const prompt = "a lighthouse in the snow";
  const picture = await client.images.generate({ model: "$model", prompt });
  console.log(picture.data[0].url);

For real: KOI_UPSTREAM_API_KEY=… $koi serve, then: $koi keys create --user alice --new
"""
