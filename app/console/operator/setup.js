/** Set-up: the settings in force, the gateways heard of, the latest backup, and the way to Redis. */

import { get } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { CliTwin, Empty, ErrorNote, Table, When } from '../widgets.js';
import { t } from '../words.js';
import { Backup, Move, useLatestBackup } from './backup.js';
import { Filters, State } from './common.js';

export function SetUp({ session }) {
  const latest = useLatestBackup();
  const settings = useLoad(() => get('/v1/koi/settings'));
  const { data, error } = settings;
  return html`<h1>${t('setup.title')}</h1><${ErrorNote} error=${error} onRetry=${settings.reload} />
    ${!data && !error && html`<p class="quiet" aria-busy="true">${t('loading')}</p>`}
    ${data && html`<p>Koi ${data.version} · ${t('setup.store')}: <code>${data.store}</code> · ${t('setup.images')}: <code>${data.image_store}</code></p>
      <${Unknown} unknown=${data.unknown} /><${Settings} rows=${data.data} /><${Gateways} gateways=${data.gateways} />
      <${Backup} session=${session} latest=${latest} />
      <${Move} embedded=${data.store === 'embedded'} place=${data.moved_to} latest=${latest.data} />`}`;
}

function Unknown({ unknown }) {
  const names = Object.entries(unknown);
  if (!names.length) return null;
  return html`<div class="note error"><p>${t('setup.unknown')}</p><ul>${names.map(([name, nearest]) => html`
    <li key=${name}><code>${name}</code>${nearest && html` – ${t('setup.nearest')} <code>${nearest}</code>`}</li>`)}</ul></div>`;
}

function Settings({ rows }) {
  const [wanted, setWanted] = useState({ source: 'set' });
  const text = (wanted.q ?? '').toUpperCase();
  const shown = rows.filter((row) => row.name.includes(text) && (!wanted.source || (row.source === 'default') === (wanted.source === 'default')));
  const columns = [
    { key: 'name', title: t('setup.setting'), render: (row) => html`<code>${row.name}</code>` },
    { key: 'value', title: t('setup.value'), render: (row) => (row.value === null ? '–' : html`<code>${row.value}</code>`) },
    { key: 'source', title: t('setup.source'), render: (row) => t(`setup.from_${row.source}`) },
  ];
  const fields = [
    { name: 'q', label: t('op.search') },
    { name: 'source', label: t('setup.source'), options: [['', t('op.all')], ['set', t('setup.only_set')], ['default', t('setup.from_default')]] },
  ];
  return html`<section aria-labelledby="settings"><h2 id="settings">${t('setup.settings')}</h2>
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    ${shown.length ? html`<${Table} columns=${columns} rows=${shown} rowKey="name" caption=${t('setup.settings')} />` : html`<${Empty} />`}
    <${CliTwin} command="koi doctor" /></section>`;
}

function Gateways({ gateways }) {
  const columns = [
    { key: 'host', title: t('setup.host') }, { key: 'images', title: t('setup.images') },
    { key: 'heard_at', title: t('setup.heard'), render: (row) => html`<${When} at=${row.heard_at} />` },
  ];
  const shared = new Set(gateways?.map((one) => one.images)).size <= 1;
  return html`<section aria-labelledby="gateways"><h2 id="gateways">${t('setup.gateways')}</h2>
    ${gateways === null ? html`<p class="note">${t('error.store')}</p>` : html`
      <p><${State} state=${shared ? 'ok' : 'fail'} text=${t(shared ? 'setup.shared' : 'setup.not_shared')} /></p>
      <${Table} columns=${columns} rows=${gateways} caption=${t('setup.gateways')} />`}</section>`;
}
