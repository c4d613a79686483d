/** Spend alerts: a notice when a month's spending reaches an amount. */

import { del, get, post } from '../api.js';
import { html } from '../lib.js';
import { useLoad } from '../loading.js';
import { CliTwin, Money } from '../widgets.js';
import { t } from '../words.js';
import { ActDialog, DialogButton, Pages, PersonLink, command, may, pagesOf, usePages } from './common.js';

const HOUSE = '/v1/organization/spend_alerts';

function pathOf(team) {
  return team ? `/v1/organization/projects/${encodeURIComponent(team)}/spend_alerts` : HOUSE;
}

/** 1234 -> 12.34 */
function amountOf(cents) {
  const text = String(cents).padStart(3, '0');
  return `${text.slice(0, -2)}.${text.slice(-2)}`;
}

/** 12.3 -> 1230, without arithmetic on fractions. */
function centsOf(amount) {
  const [whole, part = ''] = amount.trim().split('.');
  return Number(whole + part.padEnd(2, '0'));
}

export function Alerts({ session }) {
  const pages = usePages(pagesOf('/v1/koi/spend_alerts', {}), []);
  const prices = useLoad(() => get('/v1/koi/prices'));
  const currency = prices.data?.currency ?? '';
  return html`<div class="row"><h1>${t('alerts.heading')}</h1>
      <${DialogButton} kind="primary" label=${t('alerts.add')} hidden=${!may(session, 'money') || !currency} dialog=${(close) => html`
        <${AlertDialog} currency=${currency} onClose=${close} onDone=${pages.reload} />`} /></div>
    <p>${t('alerts.text')}</p>
    <${Pages} pages=${pages} columns=${columnsOf(session, pages.reload)} caption=${t('alerts.heading')} empty=${t('alerts.none')} />
    <${CliTwin} command="koi alerts list" />`;
}

function columnsOf(session, onChange) {
  return [
    { key: 'project_id', title: t('alerts.of'), render: (row) => (row.project_id
      ? html`<${PersonLink} name=${`team:${row.project_id}`} text=${row.project_id} />` : t('alerts.house')) },
    { key: 'threshold_amount', title: t('alerts.amount'), numeric: true, render: (row) => html`
      <${Money} amount=${amountOf(row.threshold_amount)} currency=${row.currency} />` },
    { key: 'recipients', title: t('alerts.recipients'), render: (row) => row.notification_channel.recipients.join(', ') || '–' },
    ...(may(session, 'money') ? [{ key: 'act', title: t('op.actions'), render: (row) => html`<${Actions} row=${row} onChange=${onChange} />` }] : []),
  ];
}

function Actions({ row, onChange }) {
  const remove = ({ reason }) => del(`${pathOf(row.project_id)}/${row.id}`, { reason });
  return html`<span class="row"><${DialogButton} kind="small" label=${t('alerts.change')} dialog=${(close) => html`
      <${AlertDialog} row=${row} currency=${row.currency} onClose=${close} onDone=${onChange} />`} />
    <${DialogButton} kind="small danger" label=${t('alerts.delete')} dialog=${(close) => html`
      <${ActDialog} title=${t('alerts.delete')} text=${t('alerts.delete_text')} act=${remove} onClose=${close} onDone=${onChange}
        twin=${command('koi', 'alerts', 'delete', row.id)} />`} /></span>`;
}

function AlertDialog({ row, currency, onClose, onDone }) {
  const channel = row?.notification_channel;
  const fields = [
    ...(row ? [] : [{ name: 'team', label: t('people.team'), hint: t('alerts.team_hint'), maxlength: 64 }]),
    { name: 'amount', label: t('alerts.amount'), hint: t('alerts.amount_hint', { currency }), required: true, inputmode: 'decimal',
      pattern: '[0-9]{1,9}([.][0-9]{1,2})?', value: row ? amountOf(row.threshold_amount) : '' },
    { name: 'recipients', label: t('alerts.recipients'), hint: t('alerts.recipients_hint'), value: channel?.recipients.join(', ') ?? '' },
    { name: 'prefix', label: t('alerts.prefix'), maxlength: 120, value: channel?.subject_prefix ?? '' },
  ];
  const act = ({ team = '', amount, recipients, prefix, reason }) => post(
    row ? `${pathOf(row.project_id)}/${row.id}` : pathOf(team.trim()),
    {
      currency, interval: 'month', threshold_amount: centsOf(amount),
      notification_channel: {
        type: 'email', subject_prefix: prefix.trim() || null,
        recipients: recipients.split(',').map((one) => one.trim()).filter(Boolean),
      },
    },
    { reason },
  );
  const title = t(row ? 'alerts.change' : 'alerts.add');
  const twin = row ? command('koi', 'alerts', 'set', row.id, '--threshold', '250.00')
    : command('koi', 'alerts', 'create', '100.00', '--team', 'design', '--recipients', 'ops@example.com');
  return html`<${ActDialog} title=${title} fields=${fields} act=${act} submit=${t('form.save')} onClose=${onClose} onDone=${onDone} twin=${twin} />`;
}
