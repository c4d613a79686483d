/** Two guided steps of the set-up: a backup now, and the move to a Redis server. */

import { download, get, save } from '../api.js';
import { html, useState } from '../lib.js';
import { useLoad } from '../loading.js';
import { Copyable, ErrorNote, Field, When } from '../widgets.js';
import { number, t } from '../words.js';
import { ActDialog, DialogButton, mayForAll } from './common.js';

const COMMAND = 'koi backup koi-backup.gz';

/** When the latest backup was made; `taken_at` null: none is known. */
export function useLatestBackup() {
  return useLoad(() => get('/v1/koi/backups/latest').catch((error) => {
    if (error.status === 404) return { taken_at: null };
    throw error;
  }));
}

export function Backup({ session, latest }) {
  const [name, setName] = useState(null);
  const { data, error } = latest;
  const act = async ({ reason }) => {
    const file = `koi-backup-${new Date().toISOString().slice(0, 10)}.gz`;
    save(URL.createObjectURL(await download('POST', '/v1/koi/backups', undefined, { reason })), file);
    setName(file);
    latest.reload();
  };
  const allowed = mayForAll(session, 'all');
  return html`<section aria-labelledby="backup"><div class="row"><h2 id="backup">${t('setup.backup')}</h2>
      <${DialogButton} kind="primary" label=${t('setup.backup_now')} hidden=${!allowed} dialog=${(close) => html`
        <${ActDialog} title=${t('setup.backup_now')} text=${t('setup.backup_warning')} submit=${t('setup.backup_download')}
          act=${act} onClose=${close} twin=${COMMAND} />`} /></div>
    <${ErrorNote} error=${error} onRetry=${latest.reload} />
    ${data && html`<p><${Latest} data=${data} /></p>`}
    <div role="status">${name && html`<p class="note">${t('setup.backup_saved')}</p>
      <${Copyable} text=${`koi backup --check ${name}`} label=${t('setup.backup_check')} />
      <p>${t('setup.backup_try')}</p><${Copyable} text=${`koi restore ${name}`} label=${t('setup.backup_try')} />`}</div>
    ${!allowed && html`<p>${t('setup.backup_who')}</p><${Copyable} text=${COMMAND} label=${t('setup.backup')} />`}</section>`;
}

function Latest({ data }) {
  if (data.taken_at === null) return t('setup.no_backup');
  return html`${t('setup.latest')} <${When} at=${data.taken_at} exact />, ${number(Math.ceil((data.bytes ?? 0) / 1e6))} MB`;
}

export function Move({ embedded, place, latest }) {
  const [host, setHost] = useState('server:6379');
  const url = `redis://koi:PASSWORD@${host.trim() || 'server:6379'}/0`;
  return html`<section aria-labelledby="move"><h2 id="move">${t('setup.move')}</h2>
    ${place ? html`<${Moved} place=${place} />` : html`
      <p>${t(embedded ? 'setup.move_text' : 'setup.move_other')}</p>
      <${Field} name="host" label=${t('setup.move_host')} value=${host} spellcheck=${false} autocomplete="off"
        onInput=${(event) => setHost(event.target.value)} />
      <ol>
        <${Step} name="setup.step_server" text="redis-server --appendonly yes --appendfsync always --maxmemory-policy noeviction" />
        <${Step} name="setup.step_backup" text=${COMMAND}>${latest && html` <${Latest} data=${latest} />`}<//>
        <${Step} name="setup.step_migrate" text=${`koi migrate --to ${url}`} />
        <${Step} name="setup.step_start" text=${`KOI_REDIS_URL=${url} koi doctor`} />
      </ol>`}</section>`;
}

function Step({ name, text, children }) {
  return html`<li>${t(name)}${children}<${Copyable} text=${text} label=${t(name)} /></li>`;
}

/** The store is closed because its ledger moves; which of the two is not known here. */
function Moved({ place }) {
  const secret = place.replace('://', '://koi:PASSWORD@');
  return html`<p class="note error">${t('setup.moved', { place })}</p><ol>
    <${Step} name="setup.moved_again" text=${`koi migrate --to ${secret}`} />
    <${Step} name="setup.moved_start" text=${`KOI_REDIS_URL=${secret}`} />
    <${Step} name="setup.moved_cancel" text=${`koi migrate --to ${secret} --cancel`} /></ol>`;
}
