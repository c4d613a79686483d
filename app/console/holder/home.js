/** What is left, which limit binds, and how to ask for more. */

import { get, post } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Bar, Button, Dialog, ErrorNote, Form, Table } from '../widgets.js';
import { language, number, t } from '../words.js';
import { HttpTwin } from './twin.js';

/** The moment a window ends, in words: the time within a day, else the date too. The zone is
 * written beside it, because days end by the operator's clock. */
export function resetText(at) {
  const moment = new Date(at);
  const soon = moment - Date.now() <= 24 * 3_600_000;
  const form = soon ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' };
  return new Intl.DateTimeFormat(language.value, { ...form, timeZone: 'UTC', timeZoneName: 'short', hourCycle: 'h23' }).format(moment);
}

function meterText(limit, currency) {
  return t(`meter.${limit.meter}`, { currency });
}

function amount(limit, value) {
  return limit.meter === 'money' ? value : number(value);
}

function isSame(one, other) {
  return other && one.scope === other.scope && one.meter === other.meter && one.window === other.window;
}

/** The sentence of the tightest limit that has numbers for this holder. */
export function headline(usage) {
  const bound = usage.limits.filter((one) => one.limit !== null && one.window !== 'now' && one.window !== 'minute');
  const share = (one) => (Number(one.limit) ? Number(one.remaining) / Number(one.limit) : 0);
  const first = bound.find((one) => isSame(one, usage.binding)) ?? bound.sort((a, b) => share(a) - share(b))[0];
  if (!first) return null;
  const left = t('home.left', {
    left: amount(first, first.remaining), limit: amount(first, first.limit),
    meter: meterText(first, usage.currency), window: t(`window.${first.window}`),
  });
  const comma = language.value === 'zh' ? '，' : ', ';
  const text = `${left}${comma}${t('home.resets', { when: resetText(first.resets_at) })}`;
  return { text, limit: first, spent: Number(first.remaining) === 0 };
}

/** That a limit is raised for a while, in words; null when it is not. */
function raisedText(limit) {
  if (!limit.raised) return null;
  return t('home.raised', { by: amount(limit, limit.raised.by), until: resetText(limit.raised.until) });
}

/** The first screen. */
export function Home() {
  const usage = useLoad(() => get('/v1/usage'));
  const account = useLoad(() => get('/v1/koi/account'));
  const [asking, setAsking] = useState(false);
  return html`
    <${ErrorNote} error=${usage.error ?? account.error} onRetry=${usage.reload} />
    ${usage.data && html`<${Left} usage=${usage.data} account=${account.data} onAsk=${() => setAsking(true)} />`}
    ${usage.data && html`<${HttpTwin} calls=${[['GET', '/v1/usage']]} />`}
    ${asking && html`<${AskForMore} onClose=${() => setAsking(false)} />`}`;
}

function Left({ usage, account, onAsk }) {
  const first = headline(usage);
  const today = usage.limits.find((one) => one.scope === 'user' && one.meter === 'images' && one.window === 'day');
  const stopped = account?.stopped;
  const tight = (one) => isSame(one, usage.binding);
  return html`
    <h1>${first ? first.text : t('home.unlimited', { used: number(today?.used ?? 0) })}</h1>
    ${first && html`<${Bar} used=${Number(first.limit.used)} held=${Number(first.limit.held)}
      limit=${Number(first.limit.limit)} label=${first.text} tight />`}
    ${first?.limit.raised && html`<p>${t('home.raised_first', { raise: raisedText(first.limit) })}</p>`}
    ${first?.spent && html`<div class="note" role="status"><p>${t('home.spent')}</p></div>`}
    ${usage.binding?.scope === 'house' && html`<div class="note" role="status"><p>${t('home.house')}</p></div>`}
    ${stopped && html`<div class="note error" role="status"><p>${t('home.stopped', { reason: stopped.reason })}</p></div>`}
    <p><${Button} kind="primary" onClick=${onAsk}>${t('ask.title')}</${Button}></p>
    <h2>${t('home.limits')}</h2>
    <${Table} caption=${t('home.limits')} rows=${usage.limits.map((one) => ({ ...one, id: `${one.scope} ${one.meter} ${one.window}` }))}
      columns=${[
        { key: 'scope', title: t('limit.who'), render: (one) => t(`scope.${one.scope}`) },
        { key: 'what', title: t('limit.what'), render: (one) => html`${meterText(one, usage.currency)} ${t(`window.${one.window}`)}
          ${tight(one) && html` <strong class="tag busy">${t('home.tight')}</strong>`}` },
        { key: 'left', title: t('limit.left'), numeric: true, render: (one) => html`
          <strong>${one.remaining === null ? t('unlimited') : amount(one, one.remaining)}</strong><br />
          <small>${t('home.used', { used: amount(one, one.used), held: amount(one, one.held) })}</small>` },
        { key: 'limit', title: t('limit.limit'), numeric: true, render: (one) => html`
          ${one.limit === null ? t('unlimited') : amount(one, one.limit)}
          ${one.raised && html`<br /><small>${raisedText(one)}</small>`}` },
        { key: 'bar', title: '', render: (one) => html`<${Bar} used=${Number(one.used)} held=${Number(one.held)} tight=${tight(one)}
          limit=${one.limit === null ? null : Number(one.limit)} label=${`${t(`scope.${one.scope}`)}: ${meterText(one, usage.currency)}`} />` },
        { key: 'resets', title: t('limit.resets'), render: (one) => (one.resets_at ? resetText(one.resets_at) : '–') },
      ]} />`;
}

function AskForMore({ onClose }) {
  const [answer, setAnswer] = useState(null);
  const send = async ({ reason, images }) => {
    const body = { reason };
    if (images) body.images_per_day = Number(images);
    setAnswer(await post('/v1/koi/limit_requests', body));
  };
  const told = () => {
    if (!answer.published) return t('ask.again');
    return t(answer.operator_receives_notices ? 'ask.sent' : 'ask.kept');
  };
  const fields = [
    { name: 'reason', type: 'textarea', label: t('ask.reason'), required: true, maxlength: 200 },
    { name: 'images', type: 'number', label: t('ask.images'), min: 1, max: 1_000_000_000 },
  ];
  return html`<${Dialog} title=${t('ask.title')} onClose=${onClose}>
    ${answer
      ? html`<div class="note" role="status"><p>${told()}</p></div>
        <p><${Button} kind="primary" onClick=${onClose}>${t('dialog.close')}</${Button}></p>`
      : html`<${Form} fields=${fields} submit=${t('ask.send')} onSubmit=${send} onCancel=${onClose}>
          <${HttpTwin} calls=${[['POST', '/v1/koi/limit_requests', { reason: 'a poster', images_per_day: 50 }]]} /></${Form}>`}
  </${Dialog}>`;
}
