/** The provider's bill: drop the file, see what agrees and what does not, correct what is certain. */

import { upload } from '../api.js';
import { html, useState } from '../lib.js';
import { Button, CliTwin, ErrorNote, Field, Table } from '../widgets.js';
import { number, t } from '../words.js';
import { JobLink, PersonLink, State, command, may } from './common.js';

const PILES = ['matched', 'missing', 'surplus', 'mismatched', 'undecided'];
const MOST = 200;

export function Bill({ session }) {
  const [file, setFile] = useState(null);
  const [report, setReport] = useState(null);
  const [error, setError] = useState(null);
  const send = async (chosen, query = {}) => {
    setError(null);
    try {
      setReport(await upload('/v1/koi/bill', chosen, 'text/csv', { name: chosen.name, ...query }));
    } catch (failure) {
      setError(failure);
    }
  };
  const choose = (chosen) => {
    if (!chosen) return;
    setFile(chosen);
    setReport(null);
    send(chosen);
  };
  const drop = (event) => {
    event.preventDefault();
    choose(event.dataTransfer.files[0]);
  };
  return html`<section class="card" aria-labelledby="bill" onDrop=${drop} onDragOver=${(event) => event.preventDefault()}>
    <h2 id="bill">${t('bill.title')}</h2><p>${t('bill.text')}</p>
    <${Field} name="bill" type="file" label=${t('bill.file')} accept=".csv,.tsv,.txt,text/csv" onChange=${(event) => choose(event.target.files[0])} />
    <${ErrorNote} error=${error} />
    ${report && html`<${Report} report=${report} allowed=${may(session, 'money')} onApply=${(query) => send(file, query)} />`}
    <${CliTwin} command=${command('koi', 'ledger', 'import-bill', file?.name ?? 'fees.csv')} />
  </section>`;
}

function Report({ report, allowed, onApply }) {
  const state = report.agrees ? 'ok' : 'fail';
  const unpriced = report.matched.jobs_without_price;
  const agrees = unpriced > 0 ? 'bill.agrees_unpriced' : 'bill.agrees';
  const piles = PILES.map((id) => ({ id, ...report[id] }));
  const money = (key) => ({ key, title: t(`bill.${key}`), numeric: true, render: (row) => row[key]?.value ?? t('state.unknown') });
  const count = (key) => ({ key, title: t(`bill.${key}`), numeric: true, render: (row) => number(row[key]) });
  const columns = [
    { key: 'id', title: t('bill.pile'), render: (row) => html`${t(`bill.${row.id}`)}<br /><small>${t(`bill.${row.id}_text`)}</small>` },
    count('lines'), count('jobs'), count('images_billed'), count('images_charged'), money('billed'), money('charged'),
  ];
  const apply = report.may_correct && allowed;
  return html`<div role="status"><p><${State} state=${state} text=${t(report.agrees ? agrees : 'bill.differs', { count: number(unpriced) })} />
      ${report.name}: ${report.since} – ${report.until}</p>
      ${report.refused && html`<p class="note error">${report.refused}</p>`}</div>
    <${Table} columns=${columns} rows=${piles} caption=${t('bill.title')} />
    ${report.unreadable.length > 0 && html`<h3>${t('bill.unreadable')}</h3><ul>${report.unreadable.slice(0, MOST).map((line) => html`
      <li key=${`${line.line}-${line.column}`}>${t('bill.line')} ${line.line}${line.column ? ` (${line.column})` : ''}: ${line.why}</li>`)}</ul>`}
    ${report.differences.length > 0 && html`<${Differences} report=${report} apply=${apply} onApply=${onApply} />`}
    ${apply && report.open_corrections > 0 && html`<p><${Button} kind="primary" onClick=${() => onApply({ apply: 'all' })}>
      ${t('bill.apply_all', { count: number(report.open_corrections) })}<//></p>`}`;
}

function Differences({ report, apply, onApply }) {
  const rows = report.differences.slice(0, MOST).map((row, id) => ({ ...row, id }));
  const amount = (side) => (row) => `${row[`images_${side}`] ?? '?'} · ${row[side]?.value ?? t('state.unknown')}`;
  const correct = (row) => {
    if (row.entered) return html`<${State} state="ok" text=${t('bill.entered')} />`;
    if (!row.fix) return row.advice ?? '–';
    const text = `${row.fix > 0 ? '+' : ''}${row.fix}`;
    return apply && row.job
      ? html`${text} <${Button} kind="small" onClick=${() => onApply({ apply: 'jobs', jobs: row.job })}>${t('bill.apply')}<//>` : text;
  };
  const columns = [
    { key: 'finding', title: t('bill.pile'), render: (row) => t(`bill.${row.finding}`) },
    { key: 'lines', title: t('bill.lines'), render: (row) => row.lines.join(' ') || '–' },
    { key: 'job', title: t('jobs.job'), render: (row) => html`<${JobLink} id=${row.job} />` },
    { key: 'user', title: t('keys.user'), render: (row) => html`<${PersonLink} name=${row.user} />` },
    { key: 'model', title: t('usage.model') },
    { key: 'billed', title: t('bill.billed'), render: amount('billed') },
    { key: 'charged', title: t('bill.charged'), render: amount('charged') },
    { key: 'fix', title: t('bill.correction'), render: correct },
  ];
  return html`<h3>${t('bill.differences')}</h3><${Table} columns=${columns} rows=${rows} caption=${t('bill.differences')} />
    ${report.differences.length > MOST && html`<p class="note">${t('bill.more', { count: number(report.differences.length - MOST) })}</p>`}`;
}
