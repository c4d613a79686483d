/** One job: what happened to it in order, its proof and money, and what may be done about it. */

import { del, get, post, withQuery } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Button, CliTwin, Copyable, CopyButton, ErrorNote, Money, When } from '../widgets.js';
import { number, t } from '../words.js';
import { ActDialog, DialogButton, PersonLink, State, command, may, mayForAll } from './common.js';

const HIDDEN = new Set(['event', 'at']);

export function JobDetail({ id, session }) {
  const path = `/v1/koi/jobs/${encodeURIComponent(id)}`;
  const [journal, setJournal] = useState(false);
  const job = useLoad(() => get(path, { journal: journal || null }), [path, journal]);
  const { data, error } = job;
  const back = html`<p><a href="#/jobs">← ${t('jobs.title')}</a></p>`;
  if (!data) {
    return html`${back}<h1>${id}</h1><${ErrorNote} error=${error} onRetry=${job.reload} />
      ${!error && html`<p class="quiet" aria-busy="true">${t('loading')}</p>`}`;
  }
  return html`${back}<div class="row"><h1>${t('jobs.job')} <${State} state=${data.state === 'unknown' ? 'unknown' : data.status} /></h1>
      <${Actions} job=${data} session=${session} path=${path} onChange=${job.reload} /></div>
    <${Copyable} text=${data.id} label=${t('jobs.job')} />
    <${Facts} job=${data} />
    ${data.message && html`<p class="note">${data.code}: ${data.message}</p>`}
    ${!data.kept && html`<p class="note">${t('job.expired')}</p>`}
    <h2>${t('job.timeline')}</h2>
    <ol class="timeline">${data.timeline.map((event, place) => html`<${Event} key=${place} event=${event} />`)}</ol>
    ${!journal && html`<${Button} kind="small" onClick=${() => setJournal(true)}>${t('job.journal')}<//>`}
    ${journal && html`<p class="quiet">${t('job.journal_text')}</p>`}
    <${Support} job=${data} />
    <${CliTwin} command=${command('koi', 'tasks', 'show', data.id)} />`;
}

function Facts({ job }) {
  const facts = [
    [t('keys.user'), html`<${PersonLink} name=${job.user} />`],
    [t('people.team'), job.team ?? '–'],
    [t('keys.key'), job.key_id ?? '–'],
    [t('usage.model'), `${job.model} ${job.size} ${job.quality}${job.provider === 'main' ? '' : ` (${job.provider})`}`],
    ...['tag', 'project', 'end_user'].filter((name) => job[name]).map((name) => [t(`usage.${name}`), job[name]]),
    [t('job.asked'), job.n ?? '–'],
    [t('job.charged'), html`${number(job.images)} (<${Money} amount=${job.cost} currency=${job.currency} />)`],
    [t('usage.presumed'), number(job.presumed)],
    [t('job.pictures'), number(job.pictures)],
    ...(job.held_images ? [[t('job.held'), number(job.held_images)]] : []),
    ...(job.resolves_at ? [[t('money.resolves'), html`<${When} at=${job.resolves_at} />`]] : []),
  ];
  return html`<dl class="facts">${facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Event({ event }) {
  const details = Object.entries(event).filter(([name]) => !HIDDEN.has(name));
  return html`<li><strong>${t(`event.${event.event}`)}</strong>
    ${event.at !== null && html` <small><${When} at=${event.at} exact /></small>`}
    ${details.length > 0 && html`<div class="quiet">${details.map(([name, value]) => html`<span key=${name}>
      ${t(`detail.${name}`)}: <span class="value">${showDetail(name, value)}</span></span>`)}</div>`}</li>`;
}

function showDetail(name, value) {
  if (name === 'resolves_at') return html`<${When} at=${value} />`;
  return Array.isArray(value) ? value.join(', ') : String(value);
}

function Actions({ job, session, path, onChange }) {
  const cancel = ({ reason }) => del(path, { reason });
  const refund = ({ images, note }) => post(withQuery(`${path}/refund`, { since: job.sent_at }), images ? { images: Number(images), note } : { note });
  const fields = [
    { name: 'images', label: t('job.refund_images'), type: 'number', min: 1, max: job.images, hint: t('job.refund_hint', { images: number(job.images) }) },
    { name: 'note', label: t('job.note'), required: true, maxlength: 200 },
  ];
  return html`<${DialogButton} label=${t('job.cancel')} hidden=${!job.cancellable || !may(session, 'people')} dialog=${(close) => html`
      <${ActDialog} title=${t('job.cancel')} text=${t('job.cancel_text')} act=${cancel} onClose=${close} onDone=${onChange}
        twin=${command('koi', 'tasks', 'cancel', job.id)} />`} />
    <${DialogButton} label=${t('job.refund')} hidden=${job.images <= 0 || !mayForAll(session, 'money')} dialog=${(close) => html`
      <${ActDialog} title=${t('job.refund')} text=${t('job.refund_text')} fields=${fields} reason=${false} act=${refund}
        onClose=${close} onDone=${onChange}
        twin=${command('koi', 'ledger', 'adjust', '--job', job.id, '--images', `-${job.images}`, '--note', 'why')} />`} />`;
}

function Support({ job }) {
  const ids = [
    `task: ${job.id}`, `sent: ${job.sent_at ? new Date(job.sent_at * 1000).toISOString() : '-'}`, `model: ${job.model} ${job.size} ${job.quality}`,
    ...job.calls.map((call) => `provider call: ${call}`), ...(job.code ? [`error: ${job.code}`] : []),
  ].join('\n');
  return html`<section aria-labelledby="support"><h2 id="support">${t('job.support')}</h2>
    <p>${t('job.support_text')} <${CopyButton} text=${ids} label=${t('job.copy_ids')} /></p>
    <p>${t('job.logs')}</p><${Copyable} text=${command('grep', job.id, 'koi.log')} label=${t('job.logs')} />
    ${job.request_id && html`<${Copyable} text=${command('grep', job.request_id, 'koi.log')} label=${t('job.logs')} />`}
    ${job.log.length > 0 && html`<details><summary>${t('job.log', { count: number(job.log.length) })}</summary>
      <pre>${job.log.join('\n')}</pre></details>`}
    <p class="quiet">${t('job.no_prompts')}</p></section>`;
}
