/** One person: limits, keys, what they did, and what may be done about them. */

import { get, post, del } from '../api.js';
import { html } from '../lib.js';
import { useLoad } from '../loading.js';
import { ErrorNote, When } from '../widgets.js';
import { t } from '../words.js';
import { ActDialog, DialogButton, Pages, PersonLink, State, command, may, pagesOf, usePages } from './common.js';
import { LimitsPart, RecentChanges } from './holder_parts.js';
import { NewKeyDialog, keyColumns } from './key_parts.js';

export function PersonDetail({ name, session }) {
  const path = `/v1/koi/people/${encodeURIComponent(name)}`;
  const person = useLoad(() => get(path), [path]);
  const keys = usePages(pagesOf('/v1/koi/api_keys', { user: name }), [name]);
  const reload = () => { person.reload(); keys.reload(); };
  const { data, error } = person;
  if (!data) {
    return html`<h1>${name}</h1><${ErrorNote} error=${error} onRetry=${person.reload} />
      ${!error && html`<p class="quiet" aria-busy="true">${t('loading')}</p>`}`;
  }
  return html`<p><a href="#/people">← ${t('people.title')}</a></p>
    <div class="row"><h1>${data.name} <${State} state=${data.state} /></h1>
      <${Actions} person=${data} session=${session} onChange=${reload} /></div>
    <p>${data.id}${' · '}${t('people.team')}: <${PersonLink} name=${data.team && `team:${data.team}`} text=${data.team} />
      ${' · '}${t('people.seen')}: <${When} at=${data.last_used_at} />
      ${' · '}<a href=${`#/jobs/users=${encodeURIComponent(data.id)}`}>${t('jobs.title')}</a></p>
    <${LimitsPart} person=${data} session=${session} noun="users" onChange=${reload} />
    <section aria-labelledby="keys"><div class="row"><h2 id="keys">${t('keys.title')}</h2>
      <${DialogButton} label=${t('keys.create')} hidden=${!may(session, 'people')} dialog=${(close) => html`
        <${NewKeyDialog} user=${data.id} onClose=${close} onDone=${reload} />`} /></div>
      <${Pages} pages=${keys} columns=${keyColumns(session, reload, false)} caption=${t('keys.title')} /></section>
    <${RecentChanges} query=${{ resource_ids: data.id }} seen=${data} />`;
}

function Actions({ person, session, onChange }) {
  const off = person.state === 'disabled';
  const verb = off ? 'enable' : 'disable';
  const path = `/v1/organization/users/${encodeURIComponent(person.id)}`;
  const turn = ({ reason }) => post(path, { disabled: !off }, { reason });
  const remove = async ({ reason }) => { await del(path, { reason }); location.hash = '#/people'; };
  const hidden = !may(session, 'people');
  return html`<${DialogButton} label=${t(`person.${verb}`)} hidden=${hidden} dialog=${(close) => html`
      <${ActDialog} title=${t(`person.${verb}`)} text=${t(`person.${verb}_text`)} act=${turn} onClose=${close} onDone=${onChange}
        twin=${command('koi', 'users', verb, person.id)} />`} />
    <${DialogButton} kind="danger" label=${t('person.delete')} hidden=${hidden} dialog=${(close) => html`
      <${ActDialog} title=${t('person.delete')} text=${t('person.delete_text')} act=${remove} onClose=${close}
        twin=${command('koi', 'users', 'delete', person.id)} />`} />`;
}
