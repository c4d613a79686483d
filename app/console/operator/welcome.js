/** A new person in one form, which ends in a note to send them. */

import { post } from '../api.js';
import { html, useState } from '../lib.js';
import { CliTwin, Copyable, Dialog, Form } from '../widgets.js';
import { t } from '../words.js';
import { command, limitFields, limitOptions, may, readLimits } from './common.js';

export function WelcomeDialog({ session, onClose, onDone }) {
  const [done, setDone] = useState(null);
  const close = () => {
    if (done) onDone();
    onClose();
  };
  return html`<${Dialog} title=${t('people.add')} onClose=${close} wide=${Boolean(done)}>
    ${done ? html`<${Note} done=${done} onClose=${close} />` : html`<${NewcomerForm} session=${session} onDone=${setDone} onCancel=${close} />`}
  <//>`;
}

function NewcomerForm({ session, onDone, onCancel }) {
  const [typed, setTyped] = useState({});
  const fields = [
    { name: 'name', label: t('welcome.name'), hint: t('welcome.name_hint'), required: true, maxlength: 64, autocomplete: 'off' },
    { name: 'title', label: t('welcome.full_name'), maxlength: 120, autocomplete: 'off' },
    ...(session.team ? [] : [{ name: 'team', label: t('people.team'), hint: t('welcome.team_hint'), maxlength: 64 }]),
    { name: 'expires', label: t('welcome.expires'), type: 'number', min: 1, max: 3650, hint: t('welcome.expires_hint') },
    ...(may(session, 'money') ? [{ name: 'own_limits', label: t('welcome.own_limits'), type: 'checkbox', value: 'yes' }] : []),
    ...(typed.own_limits ? limitFields() : []),
  ];
  const bodyOf = (values) => ({
    name: values.name.trim(), title: values.title.trim() || null, team: values.team?.trim() || null,
    expires_in_seconds: values.expires ? Number(values.expires) * 86_400 : null,
    // Fields that are left empty in the form are unlimited, not the default.
    ...(values.own_limits ? { limits: allLimits(values) } : {}),
  });
  const submit = async (values) => {
    const body = bodyOf(values);
    onDone({ ...await post('/v1/koi/welcome', body), body });
  };
  const change = (event) => setTyped(Object.fromEntries(new FormData(event.currentTarget.querySelector('form'))));
  return html`<div onInput=${change}><p>${t('welcome.text')}</p>
    <${Form} fields=${fields} onSubmit=${submit} submit=${t('people.add')} onCancel=${onCancel}>
      <${CliTwin} command=${twinOf(typed)} />
    <//></div>`;
}

function allLimits(values) {
  const empty = Object.fromEntries(limitFields().map(({ name }) => [name, null]));
  return { ...empty, ...readLimits(values) };
}

function twinOf(typed) {
  const name = typed.name || 'ann';
  const limits = typed.own_limits ? limitOptions(allLimits(typed)) : [];
  const team = typed.team ? ['--team', typed.team] : [];
  const expires = typed.expires ? ['--expires', `${typed.expires}d`] : [];
  return [
    ...(typed.team ? [`${command('koi', 'teams', 'create', typed.team)}   # ${t('welcome.if_new')}`] : []),
    command('koi', 'users', 'create', name, ...team, ...limits),
    command('koi', 'keys', 'create', '--user', name, '--name', 'first key', ...expires),
  ].join('\n');
}

function Note({ done, onClose }) {
  const text = t('welcome.note', {
    name: done.body.title || done.user, base_url: done.base_url, page: done.page,
    key: done.api_key?.value ?? t('welcome.known_key'),
  });
  return html`<p>${done.api_key ? t('welcome.done') : t('welcome.again')}</p>
    <${Copyable} block text=${text} label=${t('welcome.note_label')} />
    <p class="row"><button type="button" class="primary" onClick=${onClose}>${t('op.done')}</button></p>`;
}
