/** Make a picture here: its price first, its progress, and exactly that call as a program. */

import { address, get, post, random } from '../api.js';
import { html, useCallback, useMemo, useRef, useState } from '../lib.js';
import { useLoad, usePolling } from '../loading.js';
import { Button, Copyable, ErrorNote, Field } from '../widgets.js';
import { t } from '../words.js';
import { LANGUAGES, program } from './programs.js';
import { isOpen, Status } from './tasks.js';

const POLL_MS = 700;

/** What `n` images cost, as decimal text in whole micro-units; null when it is not known. */
export function priceOf(model, { size, quality, n }) {
  const row = model.prices.find((one) => one.size === size && one.quality === quality);
  if (!row || row.price === null) return null;
  const [whole, part = ''] = row.price.split('.');
  const micros = BigInt(whole + part.padEnd(6, '0')) * BigInt(n);
  const text = micros.toString().padStart(7, '0');
  const cents = text.slice(-6).replace(/0{1,4}$/, '');
  return `${text.slice(0, -6)}.${cents}`;
}

/** The screen. */
export function TryIt() {
  const { data: catalog, error, reload } = useLoad(() => get('/v1/koi/catalog'));
  return html`<h1>${t('try.title')}</h1>
    <${ErrorNote} error=${error} onRetry=${reload} />
    ${catalog && catalog.models.length > 0 && html`<${Playground} catalog=${catalog} />`}`;
}

function Playground({ catalog }) {
  const first = catalog.models.find((one) => one.id === catalog.default_model) ?? catalog.models[0];
  const [wish, setWish] = useState({ model: first.id, prompt: '', size: first.sizes[0], quality: first.qualities[0], n: 1 });
  const model = catalog.models.find((one) => one.id === wish.model);
  const choose = (event) => {
    const { name, value } = event.target;
    const next = { ...wish, [name]: name === 'n' ? Math.min(Math.max(Number(value) || 1, 1), catalog.max_n) : value };
    if (name === 'model') Object.assign(next, firstOf(catalog.models.find((one) => one.id === value)));
    setWish(next);
  };
  const price = priceOf(model, wish);
  const body = { model: wish.model, prompt: wish.prompt, size: wish.size, quality: wish.quality, n: wish.n };
  return html`<div class="split">
    <div>
      <form onSubmit=${(event) => event.preventDefault()} onInput=${choose}>
        <${Field} name="prompt" type="textarea" label=${t('try.prompt')} value=${wish.prompt} maxlength=${model.max_prompt_chars} />
        <div class="fields">
          <${Field} name="model" type="select" label=${t('try.model')} value=${wish.model} options=${pairs(catalog.models.map((one) => one.id))} />
          <${Field} name="size" type="select" label=${t('try.size')} value=${wish.size} options=${pairs(model.sizes)} />
          <${Field} name="quality" type="select" label=${t('try.quality')} value=${wish.quality} options=${pairs(model.qualities)} />
          <${Field} name="n" type="number" label=${t('try.n')} value=${wish.n} min="1" max=${catalog.max_n} />
        </div>
      </form>
      <p class="quiet" aria-live="polite">${price === null ? t('try.no_price') : t('try.price', { price, currency: catalog.currency })}</p>
      <${Generation} body=${body} />
    </div>
    <${Programs} body=${body} />
  </div>`;
}

function firstOf(model) {
  return { size: model.sizes[0], quality: model.qualities[0] };
}

function pairs(words) {
  return words.map((word) => [word, word]);
}

/** One Idempotency-Key for each wish that is sent: a second click, or a repeat after a broken
 * connection, is the same job and pays nothing more. */
function useIdempotencyKey() {
  const sent = useRef({ key: null });
  return {
    current: () => { sent.current.key ??= `page-${random()}`; return sent.current.key; },
    settled: () => { sent.current.key = null; },
  };
}

function Generation({ body }) {
  const [task, setTask] = useState(null);
  const [error, setError] = useState(null);
  const idempotency = useIdempotencyKey();
  const make = async () => {
    setError(null);
    setTask(null);
    const headers = { 'idempotency-key': idempotency.current() };
    try {
      const made = await post('/v1/images/generations', { ...body, response_format: 'url', async: true }, { headers });
      idempotency.settled();
      setTask(made.object === 'task' ? made : null);
    } catch (failure) {
      // Unanswered: perhaps it was taken. Then the next click must be the same request.
      if (failure.status !== 0) idempotency.settled();
      setError(failure);
    }
  };
  const follow = useCallback(async () => {
    try {
      setTask(await get(`/v1/tasks/${task.id}`));
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  }, [task?.id]);
  const running = task !== null && isOpen(task);
  usePolling(follow, running ? POLL_MS : null);
  return html`
    <p><${Button} kind="primary" onClick=${make} disabled=${!body.prompt.trim() || running}>${t('try.go')}</${Button}></p>
    <${ErrorNote} error=${error} />
    <div role="status">${task && html`<p><${Status} task=${task} /> ${task.summary}</p>`}</div>
    ${task && html`<section class="result" aria-label=${t('tasks.status')}>
      ${running && html`<progress max="100" value=${task.progress || null} aria-label=${t('tasks.status')}></progress>
        <small>${t('try.progress')}</small>`}
      <div class="results">${(task.data ?? []).map((one) => html`<${Result} key=${one.url} item=${one} />`)}</div>
    </section>`}`;
}

function Result({ item }) {
  const name = new URL(item.url).pathname.split('/').at(-1);
  const source = address(`v1/images/${name}`);
  return html`<figure><a href=${`#/pictures/${name}`}><img src=${source} alt=${item.revised_prompt ?? name} /></a>
    ${item.revised_prompt && html`<figcaption class="prompt">${item.revised_prompt}</figcaption>`}</figure>`;
}

function Programs({ body }) {
  const [chosen, setChosen] = useState('curl');
  const text = useMemo(() => program(chosen, address('v1'), body), [chosen, JSON.stringify(body)]);
  return html`<section>
    <h2>${t('try.code')}</h2>
    <p class="row" role="group" aria-label=${t('try.code')}>${LANGUAGES.map((one) => html`
      <button type="button" class="small" aria-pressed=${one === chosen} onClick=${() => setChosen(one)}>${one}</button>`)}</p>
    <${Copyable} text=${text} label=${t('try.code')} block />
    <small>${t('try.code_hint')}</small>
  </section>`;
}
