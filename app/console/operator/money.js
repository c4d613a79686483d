/** Money: prices, the provider's bill, the check of the books, and what is presumed. */

import { get, post, random } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Button, CliTwin, Empty, ErrorNote, Money as Amount, Table, When } from '../widgets.js';
import { number, t } from '../words.js';
import { ActDialog, DialogButton, State, command, may } from './common.js';
import { Bill } from './bill.js';
import { jobColumns } from './jobs.js';

export function Money({ session }) {
  return html`<h1>${t('money.title')}</h1>
    <${Bill} session=${session} />
    <${Books} session=${session} />
    <${Presumed} />
    <${Prices} />`;
}

function Books({ session }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const check = () => get('/v1/koi/ledger/check').then((one) => { setFound(one); setError(null); }, setError);
  const columns = ['scope', 'window', 'field', 'counter', 'ledger'].map((key) => ({ key, title: t(`check.${key}`), numeric: key === 'counter' || key === 'ledger' }));
  return html`<section aria-labelledby="books"><div class="row"><h2 id="books">${t('money.books')}</h2>
      <${Button} onClick=${check}>${t('money.check')}<//>
      <${DialogButton} label=${t('money.adjust')} hidden=${!may(session, 'money')} dialog=${(close) => html`<${AdjustDialog} onClose=${close} />`} /></div>
    <p>${t('money.books_text')}</p>
    <${ErrorNote} error=${error} onRetry=${check} />
    <div role="status">${found && html`<p><${State} state=${found.difference ? 'fail' : 'ok'} text=${t('money.difference', { amount: number(found.difference) })} />
      ${t('money.counted', { entries: number(found.entries), jobs: number(found.open_jobs) })}</p>
      ${found.differences.length > 0 && html`<${Table} columns=${columns} caption=${t('money.books')}
        rows=${found.differences.map((one, id) => ({ ...one, id }))} />`}`}</div>
    <${CliTwin} command="koi ledger check" /></section>`;
}

function AdjustDialog({ onClose }) {
  const [done, setDone] = useState(null);
  const [key] = useState(random);  // one of each opened dialog: a second click is the same correction
  const fields = [
    { name: 'user', label: t('keys.user'), required: true, maxlength: 64 },
    { name: 'model', label: t('usage.model'), required: true, maxlength: 120 },
    { name: 'images', label: t('money.images'), type: 'number', hint: t('money.images_hint') },
    { name: 'amount', label: t('money.amount'), inputmode: 'decimal', hint: t('money.amount_hint') },
    { name: 'note', label: t('job.note'), required: true, maxlength: 200 },
  ];
  const act = async ({ user, model, images, amount, note }) => setDone(await post('/v1/koi/ledger/adjustments',
    { user, model, note, images: images ? Number(images) : null, amount: amount || null }, { headers: { 'idempotency-key': key } }));
  return html`<${ActDialog} title=${t('money.adjust')} text=${t('money.adjust_text')} fields=${fields} act=${act} reason=${false}
    onClose=${onClose} onDone=${() => done} twin=${command('koi', 'ledger', 'adjust', '--user', 'ann', '--model', 'grok-imagine', '--images', '-1', '--note', 'why')} />`;
}

function Presumed() {
  const open = useLoad(() => get('/v1/koi/jobs', { status: 'unknown', limit: 100 }));
  const used = useLoad(() => get('/v1/koi/usage', { period: 'month', group_by: 'user' }));
  const rows = used.data?.rows.filter((row) => row.presumed !== 0) ?? [];
  const columns = [...jobColumns(), { key: 'resolves_at', title: t('money.resolves'), render: (row) => html`<${When} at=${row.resolves_at} />` }];
  return html`<section aria-labelledby="presumed"><h2 id="presumed">${t('money.presumed')}</h2>
    <p>${t('money.presumed_text')}</p>
    <${ErrorNote} error=${open.error} onRetry=${open.reload} />
    ${open.data && (open.data.data.length
      ? html`<${Table} columns=${columns} rows=${open.data.data} caption=${t('money.presumed')} />`
      : html`<${Empty} text=${t('money.none_unknown')} />`)}
    ${rows.length > 0 && html`<p>${t('money.presumed_month')}</p><ul>${rows.map((row) => html`<li key=${row.user}>${row.user ?? '–'}: ${number(row.presumed)}</li>`)}</ul>`}
  </section>`;
}

function Prices() {
  const prices = useLoad(() => get('/v1/koi/prices'));
  const { data, error } = prices;
  const rows = data?.data.map((row, id) => ({ ...row, id })) ?? [];
  const columns = [
    { key: 'model', title: t('usage.model') }, { key: 'size', title: t('usage.size') }, { key: 'quality', title: t('money.quality') },
    { key: 'price', title: `${t('money.price')} ${data?.currency ?? ''}`, numeric: true, render: (row) => (row.price === null
      ? html`<${State} state="warn" text=${t('money.missing')} />` : html`<${Amount} amount=${row.price} />`) },
  ];
  return html`<section aria-labelledby="prices"><h2 id="prices">${t('money.prices')}</h2>
    <${ErrorNote} error=${error} onRetry=${prices.reload} />
    ${data?.unpriced.length > 0 && html`<p class="note error">${t('money.unpriced', { models: data.unpriced.join(', ') })}</p>`}
    ${data && html`<${Table} columns=${columns} rows=${rows} caption=${t('money.prices')} />`}</section>`;
}
