// Verifies one webhook as a receiver would: {secret, headers, body} on stdin, its JSON on stdout.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { Webhook } from "standardwebhooks";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
const verified = new Webhook(secret).verify(body, headers);
const client = new OpenAI({ apiKey: "unused" });
const unwrapped = await client.webhooks.unwrap(body, headers, secret);
console.log(JSON.stringify({ verified, unwrapped }));
