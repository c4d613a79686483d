/** Now: what the doctor says, what is used of the house's limits, and the spending stop. */

import { get, post } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad, usePolling } from '../loading.js';
import { Button, CliTwin, Empty, ErrorNote, Table, When } from '../widgets.js';
import { number, t } from '../words.js';
import { ActDialog, DialogButton, PersonLink, Standing, State, command, may } from './common.js';

const EVERY_MS = 5_000;

export function Now({ session }) {
  const health = useLoad(() => get('/v1/koi/health'));
  usePolling(health.reload, EVERY_MS);
  const { data, error } = health;
  return html`<div class="row"><h1>${t('now.title')}</h1>${data && html`<${State} state=${data.state} />`}</div>
    <${ErrorNote} error=${error} onRetry=${health.reload} />
    ${error && html`<p class="note">${t('now.away')}</p>`}
    ${!data && !error && html`<p class="quiet" aria-busy="true">${t('loading')}</p>`}
    ${data && html`<${Figures} health=${data} />`}
    <${Spending} session=${session} away=${Boolean(data && !data.jobs)} />
    ${data && html`<${Checks} checks=${data.checks} /><${Alarms} people=${data.people_above_80} />
      <p class="quiet">${t('now.as_of')} <${When} at=${data.as_of} /></p>
      <${CliTwin} command="koi doctor" />`}`;
}

function Figures({ health }) {
  const { house, jobs, currency } = health;
  if (!jobs) return html`<p class="note">${t('now.away')}</p>`;
  const count = (key) => html`<div class="card figure"><strong>${number(jobs[key])}</strong>
    <a href=${`#/jobs${key === 'unknown' ? '/status=unknown' : ''}`}>${t(`now.${key}`)}</a></div>`;
  return html`<section aria-label=${t('now.figures')} class="cards tight">
    <div class="card figure"><h2>${t('now.images_today')}</h2>
      <${Standing} of=${house.images_day} label=${t('now.images_today')} /></div>
    <div class="card figure"><h2>${t('now.cost_today')}</h2>
      <${Standing} of=${house.cost_day} label=${t('now.cost_today')} unit=${currency} /></div>
    ${count('in_flight')}${count('queued')}${count('unknown')}${count('collecting')}
    <div class="card figure"><strong>${number(health.waiting_for_provider ?? 0)}</strong>${t('now.waiting')}</div>
  </section>`;
}

function Spending({ session, away }) {
  const spending = useLoad(() => get('/v1/koi/spending'), [away]);
  const { data, error } = spending;
  if (error || !data) return null;
  const stops = data.stops;
  const scopeOf = (stop) => stop.user_id ?? stop.project_id;
  const flags = (stop) => (stop.user_id ? ['--user', stop.user_id] : stop.project_id ? ['--team', stop.project_id] : []);
  const resume = (stop) => async ({ reason }) => {
    await post('/v1/koi/spending', { stopped: false, user_id: stop.user_id, project_id: stop.project_id, reason: reason || null });
    await spending.reload();
  };
  return html`<section aria-labelledby="spending"><div class="row"><h2 id="spending">${t('now.spending')}</h2>
      <${DialogButton} kind="danger" label=${t('now.stop')} hidden=${!may(session, 'money')}
        dialog=${(close) => html`<${StopDialog} onClose=${close} onDone=${spending.reload} />`} /></div>
    ${stops.length === 0 && html`<p>${t('now.goes_on')}</p>`}
    ${stops.map((stop) => html`<div class="note error row" key=${scopeOf(stop) ?? 'house'}>
      <span class="space">${t('now.stopped_for', { who: scopeOf(stop) ?? t('now.everybody') })} ${stop.reason}
        <small> <${When} at=${stop.stopped_at} /></small></span>
      <${DialogButton} label=${t('now.resume')} hidden=${!may(session, 'money')} dialog=${(close) => html`
        <${ActDialog} title=${t('now.resume')} text=${t('now.resume_text')} act=${resume(stop)} onClose=${close}
          twin=${command('koi', 'resume', ...flags(stop))} />`} /></div>`)}
  </section>`;
}

function StopDialog({ onClose, onDone }) {
  const fields = [
    { name: 'reason', label: t('now.stop_reason'), hint: t('now.stop_hint'), required: true, maxlength: 200 },
    { name: 'user', label: t('now.only_user'), maxlength: 64 },
    { name: 'team', label: t('now.only_team'), maxlength: 64 },
  ];
  const act = async ({ reason, user, team }) => {
    await post('/v1/koi/spending', { stopped: true, reason, user_id: user || null, project_id: team || null });
    await onDone();
  };
  return html`<${ActDialog} title=${t('now.stop')} text=${t('now.stop_text')} fields=${fields} act=${act}
    reason=${false} onClose=${onClose} twin="koi stop-spending --reason 'why'" />`;
}

function Checks({ checks }) {
  const [all, setAll] = useState(false);
  const rank = { fail: 0, warn: 1, ok: 2 };
  const sorted = checks.map((check, id) => ({ ...check, id })).sort((a, b) => rank[a.state] - rank[b.state]);
  const shown = all ? sorted : sorted.filter((check) => check.state !== 'ok');
  const good = checks.filter((check) => check.state === 'ok').length;
  const columns = [
    { key: 'name', title: t('now.part') },
    { key: 'state', title: t('op.state'), render: (row) => html`<${State} state=${row.state} />` },
    { key: 'sentence', title: t('now.finding'), render: (row) => html`${row.sentence}
      ${row.mend && html`<br /><small>→ ${row.mend}</small>`}` },
  ];
  return html`<section aria-labelledby="checks"><div class="row"><h2 id="checks">${t('now.checks')}</h2>
      <${Button} kind="small" onClick=${() => setAll(!all)} aria-pressed=${all}>${t('now.all_checks', { good })}<//></div>
    ${shown.length ? html`<${Table} columns=${columns} rows=${shown} caption=${t('now.checks')} />` : html`<p>${t('now.all_well')}</p>`}
  </section>`;
}

function Alarms({ people }) {
  if (!people) return null;
  const columns = [
    { key: 'user_id', title: t('people.name'), render: (row) => html`<${PersonLink} name=${row.user_id} text=${row.name} />` },
    { key: 'limit', title: t('now.limit'), render: (row) => t(`standing.${row.limit}`) },
    { key: 'used_percent', title: t('now.used'), numeric: true, render: (row) => `${number(row.used_percent)} %` },
  ];
  return html`<section aria-labelledby="alarms"><h2 id="alarms">${t('now.above')}</h2>
    ${people.length
      ? html`<${Table} columns=${columns} rows=${people} rowKey="user_id" caption=${t('now.above')} />`
      : html`<${Empty} text=${t('now.nobody_above')} />`}</section>`;
}
