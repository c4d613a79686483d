/** Calls of the gateway's own API. The session cookie says who calls; no key is kept here. */

import { language } from './words.js';

/** The root of this gateway, also behind a prefix of a proxy. */
export const ROOT = new URL('../', import.meta.url);

const listeners = new Set();

/** Why a call failed: HTTP `status` (0 when there was no answer), the API's `code` and `message`,
 * and after how many seconds a repeat helps, when that is known. */
export class ApiError extends Error {
  constructor(status, code, message, retryAfterS = null) {
    super(message);
    Object.assign(this, { status, code, retryAfterS });
  }
}

/** Be told when the session has ended. */
export function onSessionEnd(listener) {
  listeners.add(listener);
}

/** The absolute address of a path of this gateway, such as `v1/images/…`. */
export function address(path) {
  return new URL(path.replace(/^\//, ''), ROOT).href;
}

/** GET a path such as `/v1/usage`; `query` adds parameters, those that are null are left out. */
export function get(path, query = {}, options = {}) {
  return call('GET', withQuery(path, query), undefined, options);
}

/** A path with parameters; those that are null are left out. */
export function withQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return text ? `${path}?${text}` : path;
}

/** POST JSON; `options.reason` is written into the audit log, `options.headers` are added. */
export function post(path, body = {}, options = {}) {
  return call('POST', path, body, options);
}

/** POST a file as it is, of a media type such as `text/csv`; `query` as for `get`. */
export function upload(path, content, type, query = {}, options = {}) {
  return call('POST', withQuery(path, query), content, { ...options, type });
}

/** 128 random bits; `crypto.randomUUID` is missing on plain http. */
export function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** DELETE. */
export function del(path, options = {}) {
  return call('DELETE', path, undefined, options);
}

/** Any call: the JSON of the answer, or throws `ApiError`. */
export async function call(method, path, body, options = {}) {
  const answer = await send(method, path, body, options);
  const content = await answer.json().catch(() => null);
  if (answer.ok && content !== null) return content;
  throw failure(answer, content);
}

/** The same for an answer that is no JSON: its bytes. */
export async function download(method, path, body, options = {}) {
  const answer = await send(method, path, body, options);
  if (answer.ok) return answer.blob().catch(() => { throw new ApiError(0, 'no_answer', ''); });
  throw failure(answer, await answer.json().catch(() => null));
}

/** Save what an address holds as a file. */
export function save(href, name) {
  const link = document.createElement('a');
  link.href = href;
  link.download = name;
  link.click();
  if (href.startsWith('blob:')) setTimeout(() => URL.revokeObjectURL(href), 60_000);
}

async function send(method, path, body, { reason, headers, signal, type } = {}) {
  const sent = { 'accept-language': language.value, ...headers };
  if (body !== undefined) sent['content-type'] = type ?? 'application/json';
  if (reason) sent['x-koi-reason'] = encodeURIComponent(reason);
  // A file of a `type` of its own is sent as it is.
  const text = body === undefined || type ? body : JSON.stringify(body);
  try {
    return await fetch(address(path), { method, headers: sent, body: text, signal });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'no_answer', '');
  }
}

function failure(answer, content) {
  const { code = 'no_answer', message = '' } = content?.error ?? {};
  if (answer.status === 401) for (const listener of listeners) listener();
  const wait = Number(answer.headers.get('retry-after'));
  return new ApiError(answer.status, code, message, wait || null);
}
