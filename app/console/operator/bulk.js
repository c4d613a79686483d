/** Many people from the file of `koi apply`: see the difference, then apply exactly that. */

import { upload } from '../api.js';
import { html, useState } from '../lib.js';
import { Button, CliTwin, Copyable, Dialog, ErrorNote, Field, Table } from '../widgets.js';
import { t } from '../words.js';
import { command, may } from './common.js';

const SAMPLE = '[teams.blue]\nimages_per_day = 200\n\n[users.ann]\nteam = "blue"\nimages_per_day = 50\n\n[[keys]]\nuser = "ann"\nname = "laptop"\n';

export function BulkDialog({ session, onClose, onDone }) {
  const [file, setFile] = useState(SAMPLE);
  const [prune, setPrune] = useState(false);
  const [reason, setReason] = useState('');
  const [shown, setShown] = useState(null);
  const [error, setError] = useState(null);
  const ask = async (apply) => {
    setError(null);
    const query = { prune: prune ? 'true' : null, apply: apply ? 'true' : null, plan: apply ? shown.plan : null };
    try {
      const found = await upload('/v1/koi/configuration', file, 'application/toml', query, { reason });
      setShown(found);
      if (found.applied) onDone();
    } catch (failure) {
      setError(failure);
    }
  };
  const edit = (text) => { setFile(text); setShown(null); };
  const choose = async (event) => edit(await event.target.files[0]?.text() ?? file);
  const twin = command('koi', 'apply', '-f', 'people.toml', prune ? '--prune' : null, ...(reason ? ['--reason', reason] : []));
  const allowed = may(session, 'people') && may(session, 'money');
  return html`<${Dialog} title=${t('people.bulk')} onClose=${onClose} wide>
    <p>${t('bulk.text')}</p>
    <${Field} name="file" type="file" label=${t('bulk.file')} accept=".toml,text/plain" onChange=${choose} />
    <${Field} name="toml" type="textarea" label=${t('bulk.toml')} value=${file} rows="10" spellcheck=${false}
      onInput=${(event) => edit(event.target.value)} />
    <${Field} name="prune" type="checkbox" label=${t('bulk.prune')} checked=${prune}
      onChange=${(event) => { setPrune(event.target.checked); setShown(null); }} />
    <${Field} name="why" label=${t('op.reason')} value=${reason} onInput=${(event) => setReason(event.target.value)} />
    <${ErrorNote} error=${error} />
    ${shown && html`<${Difference} shown=${shown} />`}
    <p class="row"><${Button} onClick=${() => ask(false)}>${t('bulk.compare')}<//>
      ${allowed && html`<${Button} kind="primary" disabled=${!shown || shown.applied || shown.changes.length === 0}
        onClick=${() => ask(true)}>${t('bulk.apply')}<//>`}</p>
    <${CliTwin} command=${twin} />
  <//>`;
}

function Difference({ shown }) {
  const rows = shown.changes.map((change, id) => ({ ...change, id }));
  const columns = [
    { key: 'target', title: t('bulk.target') },
    { key: 'action', title: t('bulk.action'), render: (row) => t(`bulk.${row.action}`) },
    { key: 'changes', title: t('changes.values'), render: (row) => Object.entries(row.changes)
      .map(([name, [old, now]]) => `${name} ${old} → ${now}`).join(', ') || '–' },
  ];
  return html`<section aria-live="polite"><h3>${shown.applied ? t('bulk.applied') : t('bulk.difference')}</h3>
    ${rows.length ? html`<${Table} columns=${columns} rows=${rows} caption=${t('bulk.difference')} />` : html`<p>${t('bulk.same')}</p>`}
    ${shown.archived_teams.map((team) => html`<p class="note" key=${team}>${t('bulk.archived', { team })}</p>`)}
    ${shown.keys.map((key) => html`<div key=${key.id}><p>${t('bulk.key', { name: key.name })}</p>
      <${Copyable} text=${key.value} label=${key.name} /></div>`)}
  </section>`;
}
