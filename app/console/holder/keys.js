/** One's own keys: see them, and what the operator lets holders do with them. */

import { del, get, post } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Button, Copyable, Dialog, ErrorNote, Form, limitText, Table, When } from '../widgets.js';
import { t } from '../words.js';
import { HttpTwin } from './twin.js';

const KEYS = '/v1/koi/keys';

/** The screen. */
export function Keys({ session }) {
  const keys = useLoad(() => get(KEYS));
  const account = useLoad(() => get('/v1/koi/account'));
  const [open, setOpen] = useState(null);
  const may = account.data?.manage_keys ?? 'off';
  const done = () => {
    setOpen(null);
    keys.reload();
  };
  const Action = open && ACTIONS[open.action];
  return html`
    <div class="row"><h1>${t('keys.title')}</h1>
      ${may === 'all' && html`<${Button} kind="primary" onClick=${() => setOpen({ action: 'create' })}>${t('keys.create')}</${Button}>`}
    </div>
    <${ErrorNote} error=${keys.error ?? account.error} onRetry=${keys.reload} />
    ${account.data && may === 'off' && html`<div class="note"><p>${t('keys.off')}</p></div>`}
    ${keys.data && html`<${KeyTable} keys=${keys.data.data} may=${may} onOpen=${setOpen} />`}
    ${Action && html`<${Action} item=${open.item} session=${session} onClose=${() => setOpen(null)} onDone=${done} />`}
    <${HttpTwin} calls=${[['GET', KEYS]]} />`;
}

function KeyTable({ keys, may, onOpen }) {
  const columns = [
    { key: 'name', title: t('keys.name'), render: (key) => html`${key.name || key.id}
      ${key.is_this_one && html` <span class="tag good">${t('keys.this')}</span>`}` },
    { key: 'key', title: t('keys.key'), render: (key) => html`<code>${key.redacted_value}</code>` },
    { key: 'used', title: t('keys.used'), render: (key) => (key.last_used_at ? html`<${When} at=${key.last_used_at} />` : t('keys.never')) },
    { key: 'expires', title: t('keys.expires'), render: (key) => (key.expires_at ? html`<${When} at=${key.expires_at} exact />` : t('keys.never')) },
    { key: 'limits', title: t('keys.limits'), render: (key) => html`${t('keys.day')}: ${limitText(key.limits.max_images_per_1_day)}` },
  ];
  if (may !== 'off') columns.push({ key: 'actions', title: t('keys.actions'), render: (key) => html`<span class="row">
    <${Button} kind="small" onClick=${() => onOpen({ action: 'rotate', item: key })}>${t('keys.rotate')}</${Button}>
    ${may === 'all' && html`<${Button} kind="small" onClick=${() => onOpen({ action: 'narrow', item: key })}>${t('keys.narrow')}</${Button}>`}
    <${Button} kind="small danger" onClick=${() => onOpen({ action: 'revoke', item: key })}>${t('keys.revoke')}</${Button}>
  </span>` });
  return html`<${Table} caption=${t('keys.title')} rows=${keys} columns=${columns} />`;
}

function NewSecret({ issued, onDone }) {
  return html`<${Dialog} title=${t('keys.new')} onClose=${onDone}>
    <p>${t('keys.once')}</p>
    <${Copyable} text=${issued.value} label=${t('keys.new')} />
    <p><${Button} kind="primary" onClick=${onDone}>${t('keys.done')}</${Button}></p>
  </${Dialog}>`;
}

function limitFields(limits = {}) {
  return [
    { name: 'day', type: 'number', min: 0, label: t('keys.day'), value: limits.max_images_per_1_day ?? '' },
    { name: 'month', type: 'number', min: 0, label: t('keys.month'), value: limits.max_images_per_1_month ?? '' },
  ];
}

function limitsOf({ day, month }) {
  const limits = {};
  if (day !== '') limits.max_images_per_1_day = Number(day);
  if (month !== '') limits.max_images_per_1_month = Number(month);
  return limits;
}

function Create({ onClose, onDone }) {
  const [issued, setIssued] = useState(null);
  if (issued) return html`<${NewSecret} issued=${issued} onDone=${onDone} />`;
  const create = async ({ name, days, ...limits }) => {
    const body = { name, limits: limitsOf(limits) };
    if (days) body.expires_in_seconds = Number(days) * 86400;
    setIssued(await post(KEYS, body));
  };
  const fields = [
    { name: 'name', label: t('keys.name'), required: true, maxlength: 100 },
    { name: 'days', type: 'number', min: 1, max: 3650, label: t('keys.lifetime') },
    ...limitFields(),
  ];
  return html`<${Dialog} title=${t('keys.create')} onClose=${onClose}>
    <${Form} fields=${fields} submit=${t('keys.create')} onSubmit=${create} onCancel=${onClose}>
      <${HttpTwin} calls=${[['POST', KEYS, { name: 'laptop', limits: { max_images_per_1_day: 5 } }]]} /></${Form}></${Dialog}>`;
}

function Narrow({ item, onClose, onDone }) {
  const change = async ({ name, ...limits }) => {
    await post(`${KEYS}/${item.id}`, { name: name || null, limits: { ...item.limits, ...limitsOf(limits) } });
    onDone();
  };
  const fields = [{ name: 'name', label: t('keys.name'), value: item.name, maxlength: 100 }, ...limitFields(item.limits)];
  return html`<${Dialog} title=${t('keys.narrow')} onClose=${onClose}>
    <p class="quiet">${t('keys.narrow_hint')}</p>
    <${Form} fields=${fields} onSubmit=${change} onCancel=${onClose}>
      <${HttpTwin} calls=${[['POST', `${KEYS}/${item.id}`, { limits: { max_images_per_1_day: 5 } }]]} /></${Form}></${Dialog}>`;
}

function Rotate({ item, onClose, onDone }) {
  const [issued, setIssued] = useState(null);
  if (issued) return html`<${NewSecret} issued=${issued} onDone=${onDone} />`;
  const rotate = async ({ hours }) => {
    const made = await post(`${KEYS}/${item.id}/rotate`, { overlap_seconds: Math.round(Number(hours) * 3600) });
    // The session stands for the old secret: it goes on with the new one.
    if (item.is_this_one) await post('/v1/koi/session', { key: made.value });
    setIssued(made);
  };
  const fields = [{ name: 'hours', type: 'number', min: 0, max: 168, value: 1, label: t('keys.overlap') }];
  return html`<${Dialog} title=${t('keys.rotate')} onClose=${onClose}>
    <p class="quiet">${t('keys.rotate_hint')}</p>
    <${Form} fields=${fields} submit=${t('keys.rotate')} onSubmit=${rotate} onCancel=${onClose}>
      <${HttpTwin} calls=${[['POST', `${KEYS}/${item.id}/rotate`, { overlap_seconds: 3600 }]]} /></${Form}></${Dialog}>`;
}

function Revoke({ item, onClose, onDone }) {
  const revoke = async () => {
    await del(`${KEYS}/${item.id}`);
    onDone();
  };
  return html`<${Dialog} title=${t('keys.revoke')} onClose=${onClose}>
    <p>${t('keys.revoke_sure', { name: item.name || item.id })}</p>
    ${item.is_this_one && html`<p><strong>${t('keys.revoke_self')}</strong></p>`}
    <${Form} fields=${[]} submit=${t('keys.revoke')} onSubmit=${revoke} onCancel=${onClose}>
      <${HttpTwin} calls=${[['DELETE', `${KEYS}/${item.id}`]]} /></${Form}></${Dialog}>`;
}

const ACTIONS = { create: Create, narrow: Narrow, rotate: Rotate, revoke: Revoke };
