/** People: users and teams with what is left of their limits; one of them in detail. */

import { html, useState } from '../lib.js';
import { When } from '../widgets.js';
import { number, t } from '../words.js';
import { DialogButton, Filters, Pages, PersonLink, Standing, State, may, pagesOf, usePages } from './common.js';
import { BulkDialog } from './bulk.js';
import { PersonDetail } from './person.js';
import { TeamDetail } from './team.js';
import { WelcomeDialog } from './welcome.js';

export function People(props) {
  const rest = decodeURIComponent(props.rest);
  if (rest.startsWith('team:')) return html`<${TeamDetail} name=${rest.slice(5)} ...${props} />`;
  if (rest) return html`<${PersonDetail} name=${rest} ...${props} />`;
  return html`<${PeopleList} ...${props} />`;
}

function PeopleList({ session }) {
  const [wanted, setWanted] = useState({ kind: 'user' });
  const query = {
    kind: wanted.kind, q: wanted.q || null, team: wanted.team || null, state: wanted.state || null,
    above_80: wanted.above_80 ? 'true' : null,
  };
  const pages = usePages(pagesOf('/v1/koi/people', query), [JSON.stringify(query)]);
  const teams = wanted.kind === 'team';
  const fields = [
    { name: 'kind', label: t('people.kind'), options: [['user', t('people.users')], ['team', t('people.teams')]] },
    { name: 'q', label: t('op.search') },
    ...(teams ? [] : [
      { name: 'team', label: t('people.team') },
      { name: 'state', label: t('op.state'), options: [['', t('op.all')], ['active', t('state.active')], ['disabled', t('state.disabled')]] },
      { name: 'above_80', label: t('people.above'), type: 'checkbox' },
    ]),
  ];
  return html`<div class="row"><h1>${t('people.title')}</h1>
      <${DialogButton} kind="primary" label=${t('people.add')} hidden=${!may(session, 'people')}
        dialog=${(close) => html`<${WelcomeDialog} session=${session} onClose=${close} onDone=${pages.reload} />`} />
      <${DialogButton} label=${t('people.bulk')} hidden=${Boolean(session.team)}
        dialog=${(close) => html`<${BulkDialog} session=${session} onClose=${close} onDone=${pages.reload} />`} /></div>
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    <${Pages} pages=${pages} columns=${columnsOf(teams)} caption=${t('people.title')} empty=${t('people.none')} />`;
}

function columnsOf(teams) {
  const limit = (key) => ({
    key, title: t(`standing.${key}`),
    render: (row) => html`<${Standing} of=${row.standing[key]} label=${t(`standing.${key}`)} alarm=${row.alarm === key} />`,
  });
  return [
    { key: 'id', title: t('people.name'), render: (row) => html`
      <${PersonLink} name=${teams ? `team:${row.id}` : row.id} text=${row.name} />
      ${row.name !== row.id && html` <small>${row.id}</small>`}
      ${row.is_service_account && html` <span class="tag">${t('people.app')}</span>`}
      ${row.state !== 'active' && html` <${State} state=${row.state} />`}` },
    teams
      ? { key: 'members', title: t('people.members'), numeric: true, render: (row) => number(row.members) }
      : { key: 'team', title: t('people.team'), render: (row) => html`
          <${PersonLink} name=${row.team && `team:${row.team}`} text=${row.team} />` },
    limit('images_day'), limit('images_month'), limit('cost_month'),
    { key: 'keys', title: t('keys.title'), numeric: true, render: (row) => number(row.keys) },
    { key: 'last_used_at', title: t('people.seen'), render: (row) => html`<${When} at=${row.last_used_at} />` },
  ];
}
