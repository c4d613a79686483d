/** The screen of an invitation link: one button shows the key, once. */

import { address, post } from './api.js';
import { html, useState } from './lib.js';
import { Copyable, ErrorNote } from './widgets.js';
import { addWords, t } from './words.js';

addWords({
  en: {
    'invite.title': 'You are invited',
    'invite.about': 'This link turns into your API key, once. Press the button when you are ready to keep it.',
    'invite.show': 'Show my key',
    'invite.wait': 'One moment …',
    'invite.key': 'Your API key',
    'invite.keep': 'Keep it in a safe place now: this page cannot show it again.',
    'invite.use': 'Use it with this base URL and any OpenAI SDK:',
    'invite.enter': 'Sign in with it',
  },
  zh: {
    'invite.title': '您收到了邀请',
    'invite.about': '此链接只能兑换一次，兑换后即为您的 API 密钥。准备好保存后请点击按钮。',
    'invite.show': '显示我的密钥',
    'invite.wait': '请稍候…',
    'invite.key': '您的 API 密钥',
    'invite.keep': '请立即妥善保存：本页无法再次显示。',
    'invite.use': '配合此基础地址与任意 OpenAI SDK 使用：',
    'invite.enter': '用它登录',
  },
});

/** `token` is what follows `#/invite/`. A preview of the link presses no button. */
export function Invite({ token }) {
  const [accepted, setAccepted] = useState(null);
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const show = async () => {
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      setAccepted(await post('/v1/koi/invitations/accept', { token }));
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  if (accepted) return html`<${Key} accepted=${accepted} />`;
  return html`<section class="narrow">
    <h1>${t('invite.title')}</h1>
    <p>${t('invite.about')}</p>
    <${ErrorNote} error=${error} />
    <p class="row"><button type="button" class="primary" disabled=${busy} aria-busy=${busy} onClick=${show}>
      ${t(busy ? 'invite.wait' : 'invite.show')}</button></p>
  </section>`;
}

function Key({ accepted }) {
  return html`<section class="narrow" role="status">
    <h1>${t('invite.key')}</h1>
    <${Copyable} text=${accepted.key} label=${t('invite.key')} />
    <p><strong>${t('invite.keep')}</strong></p>
    <p>${t('invite.use')}</p>
    <${Copyable} text=${address('v1')} label=${t('app.base_url')} />
    <p><a href="#/sign-in">${t('invite.enter')}</a></p>
  </section>`;
}
