/** All keys of everybody in one table, and whose a key is that was found somewhere. */

import { post } from '../api.js';
import { html, useState } from '../lib.js';
import { CliTwin, Form } from '../widgets.js';
import { number, t } from '../words.js';
import { Filters, Pages, PersonLink, State, pagesOf, usePages } from './common.js';
import { keyColumns } from './key_parts.js';

const STATES = ['active', 'expired', 'revoked', 'disabled'];

export function Keys({ session }) {
  const [wanted, setWanted] = useState({});
  const query = { q: wanted.q || null, user: wanted.user || null, team: wanted.team || null, state: wanted.state || null };
  const pages = usePages(pagesOf('/v1/koi/api_keys', query), [JSON.stringify(query)]);
  const fields = [
    { name: 'q', label: t('op.search') },
    { name: 'user', label: t('keys.user') },
    { name: 'team', label: t('people.team') },
    { name: 'state', label: t('op.state'), options: [['', t('op.all')], ...STATES.map((one) => [one, t(`state.${one}`)])] },
  ];
  return html`<h1>${t('keys.title')}</h1>
    <${Identify} />
    <h2>${t('keys.all')}</h2>
    <${Filters} fields=${fields} values=${wanted} onChange=${setWanted} />
    <p class="quiet" role="status">${pages.extra ? t('keys.count', { count: number(pages.extra.total) }) : ''}</p>
    <${Pages} pages=${pages} columns=${keyColumns(session, pages.reload)} caption=${t('keys.all')} empty=${t('keys.none')} />
    <${CliTwin} command="koi keys list" />`;
}

function Identify() {
  const [found, setFound] = useState(null);
  const ask = async ({ text }, form) => {
    setFound((await post('/v1/koi/keys/identify', { text })).found);
    form.reset();
  };
  const fields = [{ name: 'text', label: t('keys.identify'), hint: t('keys.identify_hint'), required: true, maxlength: 20000, autocomplete: 'off', spellcheck: false }];
  return html`<section class="card" aria-label=${t('keys.identify')}>
    <${Form} fields=${fields} onSubmit=${ask} submit=${t('keys.whose')}><${CliTwin} command="pbpaste | koi keys identify" /><//>
    <div role="status">${found && (found.length
      ? found.map((one, place) => html`<p key=${place} class=${one.alive ? 'note error' : 'note'}>
          <${State} state=${one.alive ? 'fail' : 'ok'} text=${t(one.alive ? 'keys.alive' : 'keys.dead')} /> ${one.sentence}
          ${one.key && html` <${PersonLink} name=${one.key.user} />`}</p>`)
      : html`<p class="note">${t('keys.no_key')}</p>`)}</div>
  </section>`;
}
