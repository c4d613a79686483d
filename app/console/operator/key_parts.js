/** Keys in a table, and what may be done with one. */

import { del, post } from '../api.js';
import { html, useState } from '../lib.js';
import { Copyable, Dialog, Form, CliTwin, When } from '../widgets.js';
import { t } from '../words.js';
import { ActDialog, DialogButton, LIMITS, PersonLink, State, command, may } from './common.js';

/** Columns of a table of keys; `owner` shows whose they are. */
export function keyColumns(session, onChange, owner = true) {
  return [
    { key: 'id', title: t('keys.key'), render: (row) => html`<code>${row.redacted_value}</code><br />
      <small>${row.name || '–'}${row.forwards_users && html`<br />${t('keys.forwards')}`}</small>` },
    ...(owner ? [
      { key: 'user', title: t('keys.user'), render: (row) => html`<${PersonLink} name=${row.user} />` },
      { key: 'team', title: t('people.team'), render: (row) => html`<${PersonLink} name=${row.team && `team:${row.team}`} text=${row.team} />` },
    ] : []),
    { key: 'state', title: t('op.state'), render: (row) => html`<${State} state=${row.state} />` },
    { key: 'last_used_at', title: t('keys.used'), render: (row) => html`<${When} at=${row.last_used_at} />` },
    { key: 'expires_at', title: t('keys.expires'), render: (row) => html`<${When} at=${row.expires_at} />` },
    { key: 'limits', title: t('person.limits'), render: (row) => limitsText(row.limits) },
    ...(may(session, 'people') ? [{ key: 'act', title: t('op.actions'), render: (row) => html`<${KeyActions} row=${row} onChange=${onChange} />` }] : []),
  ];
}

function limitsText(limits) {
  const set = LIMITS.filter(([name]) => limits[name] !== null);
  return set.map(([name, flag]) => `${t(`limit.${flag}`)} ${limits[name]}`).join(', ') || '–';
}

function KeyActions({ row, onChange }) {
  if (row.state === 'revoked' || row.state === 'expired') return '–';
  const path = `/v1/koi/api_keys/${encodeURIComponent(row.id)}`;
  const revoke = ({ reason }) => del(path, { reason });
  return html`<span class="row"><${DialogButton} kind="small" label=${t('keys.rotate')} dialog=${(close) => html`
      <${RotateDialog} row=${row} path=${path} onClose=${close} onDone=${onChange} />`} />
    <${DialogButton} kind="small danger" label=${t('keys.revoke')} dialog=${(close) => html`
      <${ActDialog} title=${t('keys.revoke')} text=${t('keys.revoke_text', { name: row.name || row.id, user: row.user })}
        act=${revoke} onClose=${close} onDone=${onChange} twin=${command('koi', 'keys', 'revoke', row.id)} />`} /></span>`;
}

function RotateDialog({ row, path, onClose, onDone }) {
  const fields = [{ name: 'hours', label: t('keys.overlap'), type: 'number', value: 24, min: 0, max: 8760, required: true },
    { name: 'reason', label: t('op.reason'), maxlength: 200 }];
  const act = ({ hours, reason }) => post(`${path}/rotate`, { overlap_seconds: Number(hours) * 3600 }, { reason });
  return html`<${SecretDialog} title=${t('keys.rotate')} text=${t('keys.rotate_text')} fields=${fields} act=${act}
    onClose=${onClose} onDone=${onDone} twin=${command('koi', 'keys', 'rotate', row.id, '--overlap', '24h')} />`;
}

/** A new key for somebody. */
export function NewKeyDialog({ user, onClose, onDone }) {
  const fields = [
    { name: 'name', label: t('keys.name'), required: true, maxlength: 120 },
    { name: 'days', label: t('welcome.expires'), type: 'number', min: 1, max: 3650, hint: t('welcome.expires_hint') },
    { name: 'reason', label: t('op.reason'), maxlength: 200 },
  ];
  const act = ({ name, days, reason }) => post(`/v1/koi/users/${encodeURIComponent(user)}/api_keys`,
    { name, expires_in_seconds: days ? Number(days) * 86_400 : null }, { reason });
  return html`<${SecretDialog} title=${t('keys.create')} fields=${fields} act=${act} onClose=${onClose} onDone=${onDone}
    twin=${command('koi', 'keys', 'create', '--user', user, '--name', 'laptop')} />`;
}

/** A form that ends in a secret, which is shown this once: `act` gives `{value}`. */
export function SecretDialog({ title, text, fields, act, twin, onClose, onDone, once = t('keys.once'), label = t('keys.key') }) {
  const [issued, setIssued] = useState(null);
  const close = () => {
    if (issued) onDone();
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${close}>
    ${issued
      ? html`<p>${once}</p><${Copyable} text=${issued.value} label=${label} />
        <p class="row"><button type="button" class="primary" onClick=${close}>${t('op.done')}</button></p>`
      : html`${text && html`<p>${text}</p>`}<${Form} fields=${fields} submit=${title} onCancel=${close}
        onSubmit=${async (values) => setIssued(await act(values))}><${CliTwin} command=${twin} /><//>`}
  <//>`;
}
