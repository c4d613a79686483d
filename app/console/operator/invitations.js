/** Invitations: links that turn into a key, once. */

import { del, post } from '../api.js';
import { html } from '../lib.js';
import { CliTwin, When } from '../widgets.js';
import { t } from '../words.js';
import { ActDialog, DialogButton, Pages, PersonLink, State, command, may, pagesOf, usePages } from './common.js';
import { SecretDialog } from './key_parts.js';

const PATH = '/v1/koi/invitations';

export function Invitations({ session }) {
  const pages = usePages(pagesOf(PATH, {}), []);
  return html`<div class="row"><h1>${t('invitations.title')}</h1>
      <${DialogButton} kind="primary" label=${t('invitations.add')} hidden=${!may(session, 'people')}
        dialog=${(close) => html`<${InviteDialog} session=${session} onClose=${close} onDone=${pages.reload} />`} /></div>
    <p>${t('invitations.text')}</p>
    <${Pages} pages=${pages} columns=${columnsOf(session, pages.reload)} caption=${t('invitations.title')} empty=${t('invitations.none')} />
    <${CliTwin} command="koi invitations list" />`;
}

function columnsOf(session, onChange) {
  return [
    { key: 'user_id', title: t('keys.user'), render: (row) => html`<${PersonLink} name=${row.user_id} />
      ${row.name && html`<br /><small>${row.name}</small>`}` },
    { key: 'status', title: t('op.state'), render: (row) => html`<${State} state=${row.status} />` },
    { key: 'created_at', title: t('invitations.made'), render: (row) => html`<${When} at=${row.created_at} />` },
    { key: 'expires_at', title: t('keys.expires'), render: (row) => html`<${When} at=${row.expires_at} />` },
    ...(may(session, 'people') ? [{ key: 'act', title: t('op.actions'), render: (row) => (!['revoked', 'expired'].includes(row.status)
      ? html`<${Withdraw} row=${row} onChange=${onChange} />` : '–') }] : []),
  ];
}

function Withdraw({ row, onChange }) {
  const act = ({ reason }) => del(`${PATH}/${encodeURIComponent(row.id)}`, { reason });
  return html`<${DialogButton} kind="small danger" label=${t('invitations.revoke')} dialog=${(close) => html`
    <${ActDialog} title=${t('invitations.revoke')} text=${t('invitations.revoke_text', { user: row.user_id })} act=${act}
      onClose=${close} onDone=${onChange} twin=${command('koi', 'invitations', 'revoke', row.id)} />`} />`;
}

function InviteDialog({ session, onClose, onDone }) {
  const fields = [
    { name: 'user', label: t('welcome.name'), hint: t('welcome.name_hint'), required: true, maxlength: 64, autocomplete: 'off' },
    ...(session.team ? [] : [{ name: 'team', label: t('people.team'), hint: t('invitations.team_hint'), maxlength: 64 }]),
    { name: 'name', label: t('invitations.key_name'), maxlength: 120 },
    { name: 'days', label: t('invitations.days'), type: 'number', value: 7, min: 1, max: 366, required: true },
    { name: 'reason', label: t('op.reason'), hint: t('op.reason_hint'), maxlength: 200 },
  ];
  const act = async ({ user, team = '', name, days, reason }) => {
    const body = { user_id: user.trim(), expires_in_seconds: Number(days) * 86_400 };
    if (team.trim()) body.project_id = team.trim();
    if (name.trim()) body.name = name.trim();
    return { value: (await post(PATH, body, { reason })).url };
  };
  return html`<${SecretDialog} title=${t('invitations.add')} text=${t('invitations.add_text')} fields=${fields} act=${act}
    once=${t('invitations.once')} label=${t('invitations.link')} onClose=${onClose} onDone=${onDone}
    twin=${command('koi', 'invite', 'ann', '--team', 'design', '--expires', '7d')} />`;
}
