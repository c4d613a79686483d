/** Usage: any span, grouped and filtered, as bars, as CSV and in FOCUS. */

import { address, get, withQuery } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Bar, CliTwin, Empty, ErrorNote, Money, Table } from '../widgets.js';
import { number, t } from '../words.js';
import { Filters, PersonLink, command } from './common.js';

const PERIODS = ['today', 'yesterday', '7d', 'month', 'custom'];
const GROUPS = ['user', 'team', 'key', 'model', 'size', 'day', 'tag', 'project', 'end_user'];
const FILTERS = ['users', 'teams', 'keys', 'models', 'sizes', 'tags', 'projects', 'end_users'];
const FLAGS = { users: 'user', teams: 'team', keys: 'key', tags: 'tag', projects: 'project', end_users: 'end-user' };
const DAY_S = 86_400;

function startOf(day) {
  return Math.floor(new Date(`${day}T00:00:00`).getTime() / 1000);
}

/** What the filters mean for the API; null while a custom span is not complete. */
function queryOf(wanted) {
  const named = Object.fromEntries(FILTERS.map((name) => [name, wanted[name] || null]));
  if (wanted.period !== 'custom') return { period: wanted.period, ...named };
  if (!wanted.since) return null;
  return { since: startOf(wanted.since), until: wanted.until ? startOf(wanted.until) + DAY_S : null, ...named };
}

export function Usage() {
  const [wanted, setWanted] = useState({ period: '7d', by: 'user' });
  const query = queryOf(wanted);
  const groups = wanted.then ? `${wanted.by},${wanted.then}` : wanted.by;
  const asked = JSON.stringify([query, groups]);
  const table = useLoad(async () => (query ? get('/v1/koi/usage', { ...query, group_by: groups }) : null), [asked]);
  const days = useLoad(async () => (query ? get('/v1/koi/usage', { ...query, group_by: 'day' }) : null), [asked]);
  const fields = [
    { name: 'period', label: t('usage.period'), options: PERIODS.map((one) => [one, t(`usage.${one}`)]) },
    ...(wanted.period === 'custom'
      ? [{ name: 'since', label: t('op.first_day'), type: 'date' }, { name: 'until', label: t('op.last_day'), type: 'date' }] : []),
    { name: 'by', label: t('usage.by'), options: GROUPS.map((one) => [one, t(`usage.${one}`)]) },
    { name: 'then', label: t('usage.then'), options: [['', '–'], ...GROUPS.filter((one) => one !== wanted.by).map((one) => [one, t(`usage.${one}`)])] },
    ...FILTERS.map((name) => ({ name, label: t(`usage.only_${name}`) })),
  ];
  const { data, error } = table;
  return html`<h1>${t('usage.title')}</h1>
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    <${ErrorNote} error=${error} onRetry=${table.reload} />
    ${!query && html`<p class="quiet">${t('usage.choose')}</p>`}
    ${days.data && days.data.rows.length > 1 && html`<${Days} rows=${days.data.rows} />`}
    ${data && html`<${Rows} report=${data} />`}
    ${query && html`<p class="row">${['csv', 'focus'].map((format) => html`<a class="button" download key=${format}
      href=${address(withQuery('/v1/koi/usage', { ...query, group_by: groups, format }))}>${t(`usage.as_${format}`)}</a>`)}</p>
      <${CliTwin} command=${twinOf(wanted, groups)} />`}`;
}

function twinOf(wanted, groups) {
  const since = { today: 'today', yesterday: 'yesterday', '7d': '7d', month: null, custom: wanted.since }[wanted.period];
  const only = Object.entries(FLAGS).filter(([name]) => wanted[name]).map(([name, flag]) => `--${flag}=${wanted[name]}`);
  return command('koi', 'usage', ...(since ? ['--since', since] : []), '--by', groups, ...only, '--format', 'csv');
}

function Days({ rows }) {
  const most = Math.max(...rows.map((row) => row.images), 1);
  const label = t('usage.per_day');
  return html`<figure class="days" aria-label=${label}><figcaption>${label}</figcaption>
    <ol>${rows.map((row) => html`<li key=${row.day} title=${`${row.day}: ${number(row.images)}`}>
      <i style=${{ blockSize: `${Math.max((row.images / most) * 100, row.images ? 2 : 0)}%` }}></i>
      <small>${row.day.slice(8)}</small><span class="hidden">${row.day}: ${number(row.images)}</span></li>`)}</ol></figure>`;
}

function Rows({ report }) {
  const most = Math.max(...report.rows.map((row) => row.images), 1);
  const rows = report.rows.map((row, id) => ({ ...row, id }));
  const name = (group) => (row) => {
    if (!row[group]) return '–';
    if (group === 'user') return html`<${PersonLink} name=${row.user} />`;
    return group === 'team' ? html`<${PersonLink} name=${`team:${row.team}`} text=${row.team} />` : row[group];
  };
  const count = (key) => ({ key, title: t(`usage.${key}`), numeric: true, render: (row) => number(row[key]) });
  const columns = [
    ...report.group_by.map((group) => ({ key: group, title: t(`usage.${group}`), render: name(group) })),
    { key: 'bar', title: t('usage.share'), render: (row) => html`<${Bar} used=${row.images} limit=${most} label=${t('usage.images')} />` },
    ...['requests', 'images', 'delivered', 'presumed', 'surplus'].map(count),
    { key: 'cost', title: `${t('usage.cost')} ${report.currency}`, numeric: true, render: (row) => html`<${Money} amount=${row.cost} />` },
  ];
  const total = { ...report.total, id: 'total', [report.group_by[0]]: t('usage.total') };
  if (!rows.length) return html`<${Empty} text=${t('usage.none')} />`;
  const plain = columns.map((column) => (column.key === report.group_by[0]
    ? { ...column, render: (row) => (row.id === 'total' ? html`<strong>${t('usage.total')}</strong>` : column.render(row)) }
    : column.key === 'bar' ? { ...column, render: (row) => (row.id === 'total' ? '' : column.render(row)) } : column));
  return html`<${Table} columns=${plain} rows=${[...rows, total]} caption=${t('usage.title')} />
    ${report.left_out > 0 && html`<p class="note">${t('usage.left_out', { count: number(report.left_out) })}</p>`}`;
}
