// Run by tests/flow/test_recipes.py where `make clients` has installed it. LangChain for Node: npm install @langchain/openai
const KOI_URL = 'http://127.0.0.1:8000/v1'
const KOI_KEY = 'sk-koi-…'

import { DallEAPIWrapper } from '@langchain/openai'

const images = new DallEAPIWrapper({ baseUrl: KOI_URL, apiKey: KOI_KEY, model: 'grok-imagine' })
console.log(await images.invoke('a koi in a nebula'))
