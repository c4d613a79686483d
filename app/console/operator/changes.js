/** Changes: who changed what, the old and the new value, and why. */

import { html, useState } from '../lib.js';
import { CliTwin, When } from '../widgets.js';
import { t } from '../words.js';
import { Filters, Pages, command, pagesOf, usePages } from './common.js';

const EVENTS = [
  'user.added', 'user.updated', 'user.deleted', 'project.created', 'project.updated', 'project.archived', 'project.deleted',
  'api_key.created', 'api_key.updated', 'api_key.deleted', 'service_account.created', 'tenant.admin_api_key.created',
  'tenant.admin_api_key.deleted', 'organization.updated',
];
const DAY_MS = 86_400_000;

/** Columns of the audit log. */
export function auditColumns() {
  return [
    { key: 'effective_at', title: t('changes.when'), render: (row) => html`<${When} at=${row.effective_at} exact />` },
    { key: 'actor', title: t('changes.who'), render: (row) => row.actor.api_key?.id ?? row.actor.session?.user?.id ?? '–' },
    { key: 'kind', title: t('changes.what'), render: (row) => html`${row.koi.kind}<br /><small>${row.koi.target}</small>` },
    { key: 'values', title: t('changes.values'), render: (row) => Object.entries(row.koi.changes)
      .map(([name, [old, now]]) => html`<div key=${name}>${name}: ${show(old)} → ${show(now)}</div>`) },
    { key: 'reason', title: t('op.reason'), render: (row) => row.koi.reason ?? '–' },
  ];
}

function show(value) {
  if (value === null || value === undefined || value === '') return t('changes.none');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function startOf(day, days = 0) {
  return Math.floor((new Date(`${day}T00:00:00`).getTime() + days * DAY_MS) / 1000);
}

export function Changes() {
  const [wanted, setWanted] = useState({});
  const query = {
    resource_ids: wanted.target || null, actor_ids: wanted.actor || null, event_types: wanted.kind || null,
    'effective_at[gte]': wanted.since ? startOf(wanted.since) : null,
    'effective_at[lt]': wanted.until ? startOf(wanted.until, 1) : null,
  };
  const pages = usePages(pagesOf('/v1/organization/audit_logs', query), [JSON.stringify(query)]);
  const fields = [
    { name: 'target', label: t('changes.whom') },
    { name: 'actor', label: t('changes.who') },
    { name: 'kind', label: t('changes.what'), options: [['', t('op.all')], ...EVENTS.map((event) => [event, event])] },
    { name: 'since', label: t('op.first_day'), type: 'date' },
    { name: 'until', label: t('op.last_day'), type: 'date' },
  ];
  return html`<h1>${t('changes.title')}</h1><p>${t('changes.text')}</p>
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    <${Pages} pages=${pages} columns=${auditColumns()} caption=${t('changes.title')} />
    <${CliTwin} command=${command('koi', 'audit', '--since', wanted.since || '7d', ...(wanted.target ? ['--user', wanted.target] : []))} />`;
}
