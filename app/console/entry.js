/** What is shown before anybody signs in. */

import { address, post } from './api.js';
import { html, useEffect, useRef } from './lib.js';
import { ApiError } from './api.js';
import { Copyable, Form } from './widgets.js';
import { t } from './words.js';

const hasSso = document.documentElement.dataset.sso === 'yes';
const hasDocs = document.documentElement.dataset.docs === 'yes';

/** The public page: what this is, its address, and the two ways in. */
export function Public() {
  return html`<section class="hero">
    <h1>Koi</h1>
    <p class="lead">${t('app.about')}</p>
    <h2>${t('app.base_url')}</h2>
    <${Copyable} text=${address('v1')} label=${t('app.base_url')} />
    <p class="quiet">${t('app.base_url_hint')}</p>
    ${hasSso && html`<p class="row"><${SsoButton} /></p>`}
    <div class="ways">
      <a class="card" href="#/sign-in"><strong>${t('app.holder')}</strong><span>${t('app.holder_hint')}</span></a>
      <a class="card" href="#/operator"><strong>${t('app.operator')}</strong><span>${t('app.operator_hint')}</span></a>
    </div>
    ${hasDocs && html`<p><a href=${address('docs')}>${t('app.docs')}</a></p>`}
  </section>`;
}

/** The way to the OpenID provider: a link, since the browser leaves this page. */
function SsoButton() {
  return html`<a class="button primary" href=${address('v1/koi/oidc/login')}>${t('sso.sign_in')}</a>`;
}

const REFUSALS = ['expired', 'cancelled', 'unavailable', 'rejected', 'no_role', 'no_name', 'unknown', 'disabled'];

/** Why the way back from the provider ended here; `code` comes from the address, so only ours count. */
export function SignInFailed({ code }) {
  return html`<section class="narrow">
    <h1>${t('sso.failed')}</h1>
    <div class="note" role="alert"><p>${t(`sso.${REFUSALS.includes(code) ? code : 'rejected'}`)}</p></div>
    <p class="row"><${SsoButton} /></p>
    <p><a href="#/">${t('app.home')}</a></p>
  </section>`;
}

/** The form that exchanges a key for a session. */
export function SignIn({ operator, ended, onEnter }) {
  const box = useRef(null);
  useEffect(() => { box.current.querySelector('input')?.focus(); }, []);
  const signIn = async ({ key }) => {
    try {
      onEnter(await post('/v1/koi/session', { key: key.trim() }));
    } catch (error) {
      if (error.code !== 'invalid_api_key') throw error;
      throw new ApiError(error.status, error.code, t('session.rejected'));
    }
  };
  const field = {
    name: 'key', type: 'password', required: true, autocomplete: 'current-password', spellcheck: false,
    label: t(operator ? 'session.admin_key' : 'session.key'), hint: t('session.key_hint'),
  };
  return html`<section class="narrow" ref=${box}>
    <h1>${t(operator ? 'app.operator' : 'app.holder')}</h1>
    ${ended && html`<div class="note" role="status"><p>${t('session.ended')}</p></div>`}
    ${hasSso && html`<p class="row"><${SsoButton} /></p>`}
    <${Form} fields=${[field]} submit=${t('session.sign_in')} onSubmit=${signIn} />
    <p><a href="#/">${t('app.home')}</a></p>
  </section>`;
}
