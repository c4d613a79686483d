/** Jobs of everybody: a list with filters, and one as a timeline. */

import { get } from '../api.js';
import { html, useState } from '../lib.js';
import { CliTwin, Form, Money, When } from '../widgets.js';
import { number, t } from '../words.js';
import { Filters, JobLink, Pages, PersonLink, State, command, usePages } from './common.js';
import { JobDetail } from './job.js';

const STATUSES = ['queued', 'processing', 'collecting', 'completed', 'failed', 'unknown'];
const FILTERS = ['users', 'teams', 'keys', 'models', 'codes', 'tags'];

export function Jobs(props) {
  const rest = decodeURIComponent(props.rest);
  if (rest && !rest.includes('=')) return html`<${JobDetail} id=${rest} ...${props} />`;
  return html`<${JobList} key=${rest} start=${Object.fromEntries(new URLSearchParams(rest))} ...${props} />`;
}

function JobList({ start, go }) {
  const [wanted, setWanted] = useState(start);
  const query = {
    status: wanted.status || null, day: wanted.day || null,
    ...Object.fromEntries(FILTERS.map((name) => [name, wanted[name] || null])),
  };
  const read = async (page) => {
    const found = await get('/v1/koi/jobs', { ...query, page, limit: 50 });
    return { rows: found.data, after: found.next_page };
  };
  const pages = usePages(read, [JSON.stringify(query)]);
  const fields = [
    { name: 'status', label: t('op.state'), options: [['', t('op.all')], ...STATUSES.map((one) => [one, t(`state.${one}`)])] },
    { name: 'day', label: t('jobs.day'), type: 'date' },
    ...FILTERS.map((name) => ({ name, label: t(`jobs.${name}`) })),
  ];
  const find = ({ id }) => go(`jobs/${encodeURIComponent(id.trim())}`);
  const only = [['--user', wanted.users], ['--team', wanted.teams], ['--status', wanted.status], ['--tag', wanted.tags]]
    .filter(([, value]) => value).map(([flag, value]) => `${flag}=${value}`);
  return html`<h1>${t('jobs.title')}</h1>
    <${Form} fields=${[{ name: 'id', label: t('jobs.find'), required: true, placeholder: 'task_…', pattern: '\\s*task_[0-9a-f]{32}\\s*' }]}
      onSubmit=${find} submit=${t('jobs.open')} />
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    <${Pages} pages=${pages} columns=${jobColumns()} caption=${t('jobs.title')} empty=${t('jobs.none')} />
    <p class="quiet">${t('jobs.limits')}</p>
    <${CliTwin} command=${command('koi', 'tasks', 'list', ...only)} />`;
}

/** Columns of a table of jobs. */
export function jobColumns() {
  return [
    { key: 'id', title: t('jobs.job'), render: (row) => html`<${JobLink} id=${row.id} />` },
    { key: 'status', title: t('op.state'), render: (row) => html`<${State} state=${row.state === 'unknown' ? 'unknown' : row.status} />
      ${row.code && html`<br /><small>${row.code}</small>`}` },
    { key: 'user', title: t('keys.user'), render: (row) => html`<${PersonLink} name=${row.user} />` },
    { key: 'model', title: t('usage.model'), render: (row) => html`${row.model}<br /><small>${row.size} ${row.quality}</small>` },
    { key: 'images', title: t('usage.images'), numeric: true, render: (row) => `${number(row.images)}${row.n === null ? '' : ` / ${number(row.n)}`}` },
    { key: 'cost', title: t('usage.cost'), numeric: true, render: (row) => html`<${Money} amount=${row.cost} />` },
    { key: 'created_at', title: t('jobs.created'), render: (row) => html`<${When} at=${row.created_at} exact />` },
  ];
}
