/** One team: its limits, its people, and what may be done about it. */

import { get, post } from '../api.js';
import { html } from '../lib.js';
import { useLoad } from '../loading.js';
import { ErrorNote, When } from '../widgets.js';
import { t } from '../words.js';
import { ActDialog, DialogButton, Pages, PersonLink, State, command, mayForAll, pagesOf, usePages } from './common.js';
import { LimitsPart, RecentChanges } from './holder_parts.js';

/** The first screen of somebody who administers one team. */
export function TeamHome({ session }) {
  return html`<${TeamDetail} name=${session.team} session=${session} />`;
}

export function TeamDetail({ name, session }) {
  // Names of teams are ids: of those that contain it, one is it.
  const found = useLoad(() => get('/v1/koi/people', { kind: 'team', q: name, limit: 100 }), [name]);
  const people = usePages(pagesOf('/v1/koi/people', { team: name }), [name]);
  const team = found.data?.data.find((one) => one.id === name);
  const reload = () => { found.reload(); people.reload(); };
  if (!team) {
    return html`<h1>${name}</h1><${ErrorNote} error=${found.error} onRetry=${found.reload} />
      ${found.data && html`<p>${t('people.none')}</p>`}`;
  }
  const columns = [
    { key: 'id', title: t('people.name'), render: (row) => html`<${PersonLink} name=${row.id} text=${row.name} />` },
    { key: 'state', title: t('op.state'), render: (row) => html`<${State} state=${row.state} />` },
    { key: 'last_used_at', title: t('people.seen'), render: (row) => html`<${When} at=${row.last_used_at} />` },
  ];
  return html`${!session.team && html`<p><a href="#/people">← ${t('people.title')}</a></p>`}
    <div class="row"><h1>${team.name} <${State} state=${team.state} /></h1>
      <${Actions} team=${team} session=${session} onChange=${reload} /></div>
    <p>${team.id}${' · '}<a href=${`#/jobs/teams=${encodeURIComponent(team.id)}`}>${t('jobs.title')}</a></p>
    <${LimitsPart} person=${team} session=${session} noun="teams" onChange=${reload} />
    <section aria-labelledby="members"><h2 id="members">${t('people.members')}</h2>
      <${Pages} pages=${people} columns=${columns} caption=${t('people.members')} /></section>
    <${RecentChanges} query=${{ resource_ids: team.id }} seen=${team} />`;
}

function Actions({ team, session, onChange }) {
  const path = `/v1/organization/projects/${encodeURIComponent(team.id)}`;
  const archived = team.state === 'archived';
  const turn = team.state === 'disabled' ? 'enable' : 'disable';
  const put = archived ? 'restore' : 'archive';
  const acts = {
    [turn]: ({ reason }) => post(path, { disabled: turn === 'disable' }, { reason }),
    archive: ({ reason }) => post(`${path}/archive`, {}, { reason }),
    restore: ({ reason }) => post(`/v1/koi/projects/${encodeURIComponent(team.id)}/restore`, {}, { reason }),
  };
  const verbs = archived ? [put] : [turn, put];
  return verbs.map((verb) => html`<${DialogButton} key=${verb} label=${t(`person.${verb}`)} hidden=${!mayForAll(session, 'people')}
    dialog=${(close) => html`<${ActDialog} title=${t(`person.${verb}`)} text=${t(`team.${verb}_text`)} act=${acts[verb]}
      onClose=${close} onDone=${onChange} twin=${command('koi', 'teams', verb, team.id)} />`} />`);
}
