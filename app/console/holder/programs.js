/** A request as a program that makes exactly that request. Texts are quoted as each language wants. */

/** The languages, in the order they are shown. */
export const LANGUAGES = ['curl', 'Python', 'Node'];

/** The program in a language. */
export function program(language, baseUrl, body) {
  return { curl, Python: python, Node: node }[language](baseUrl, body);
}

/** Any call of the API as a command for a shell, one line for each of several. */
export function curlCall(method, url, body) {
  const sent = body === undefined ? '' : ` -H 'Content-Type: application/json' -d ${shellQuote(JSON.stringify(body))}`;
  const verb = method === 'GET' || (method === 'POST' && body !== undefined) ? '' : ` -X ${method}`;
  return `curl${verb} -H "Authorization: Bearer $KOI_API_KEY"${sent} ${shellQuote(url)}`;
}

/** A text in single quotes for a POSIX shell. */
export function shellQuote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** JSON text is a literal of Python and JavaScript too; what an eye could take for a line end or
 * for nothing at all is escaped. */
function literal(value) {
  return JSON.stringify(value).replace(/[\u007f-\u009f\u2028\u2029\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, '0')}`);
}

function curl(baseUrl, body) {
  const json = `{${Object.entries(body).map(([name, value]) => `\n  ${literal(name)}: ${literal(value)}`).join(',')}\n}`;
  return [
    `curl ${shellQuote(`${baseUrl}/images/generations`)} \\`,
    '  -H "Authorization: Bearer $KOI_API_KEY" \\',
    "  -H 'Content-Type: application/json' \\",
    `  -d ${shellQuote(json)}`,
  ].join('\n');
}

function python(baseUrl, body) {
  const given = Object.entries(body).map(([name, value]) => `    ${name}=${literal(value)},`);
  return [
    'import os', '', 'from openai import OpenAI', '',
    `client = OpenAI(base_url=${literal(baseUrl)}, api_key=os.environ["KOI_API_KEY"])`,
    'images = client.images.generate(', ...given, ')', 'for image in images.data:', '    print(image.url)',
  ].join('\n');
}

function node(baseUrl, body) {
  const given = Object.entries(body).map(([name, value]) => `  ${name}: ${literal(value)},`);
  return [
    'import OpenAI from "openai";', '',
    `const client = new OpenAI({ baseURL: ${literal(baseUrl)}, apiKey: process.env.KOI_API_KEY });`,
    'const images = await client.images.generate({', ...given, '});',
    'for (const image of images.data) console.log(image.url);',
  ].join('\n');
}
