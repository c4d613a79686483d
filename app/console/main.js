/** The page: who is signed in, which screen is shown, and what surrounds it. */

import { del, get, onSessionEnd } from './api.js';
import { Public, SignIn, SignInFailed } from './entry.js';
import { Invite } from './invite.js';
import { html, render, signal, useEffect, useState } from './lib.js';
import { ErrorNote, twins } from './widgets.js';
import { language, setLanguage, t } from './words.js';

/** `undefined` while it is asked for, null when nobody is signed in. */
const session = signal(undefined);
const ended = signal(false);
const failed = signal(null);
const path = signal(readPath());
const HINT = 'koi.signed_in';
const INVITE = 'invite/';
const FAILED = 'sign-in-failed/';
const PAGES = { holder: () => import('./holder/index.js'), operator: () => import('./operator/index.js') };

function readPath() {
  return location.hash.replace(/^#\/?/, '').split('?')[0];
}

/** Show another screen. */
export function go(where) {
  location.hash = `#/${where}`;
}

async function findSession() {
  failed.value = null;
  if (path.value === 'signed-in') comeBack();
  // Asked only where somebody signed in: a first visit has no failed request in its console.
  if (!localStorage.getItem(HINT)) {
    session.value = null;
    return;
  }
  try {
    session.value = await get('/v1/koi/session');
  } catch (error) {
    if (error.status === 401) forget();
    else failed.value = error;
  }
}

/** The browser came back from the OpenID provider with a session. */
function comeBack() {
  localStorage.setItem(HINT, '1');
  history.replaceState(null, '', '#/');
  path.value = readPath();
}

function enter(found) {
  localStorage.setItem(HINT, '1');
  ended.value = false;
  session.value = found;
  go('');
}

function forget() {
  ended.value = Boolean(localStorage.getItem(HINT));
  localStorage.removeItem(HINT);
  session.value = null;
}

async function signOut() {
  try {
    await del('/v1/koi/session');
  } catch (error) {
    if (error.status !== 401) throw error;
  }
  localStorage.removeItem(HINT);
  session.value = null;
  ended.value = false;
  go('');
}

function setTheme(name) {
  localStorage.setItem('koi.theme', name);
  document.documentElement.dataset.theme = name;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

function Preferences() {
  const [dark, setDark] = useState(isDark());
  const turn = () => {
    setTheme(dark ? 'light' : 'dark');
    setDark(!dark);
  };
  const other = language.value === 'en' ? 'zh' : 'en';
  return html`
    <button type="button" class="plain" lang=${other} onClick=${() => setLanguage(other)}>${t('app.language')}</button>
    <button type="button" class="plain" onClick=${turn}>${t(dark ? 'app.light' : 'app.dark')}</button>`;
}

function Header({ screens }) {
  const who = session.value;
  const [error, setError] = useState(null);
  const leave = () => signOut().catch(setError);
  return html`<header class="top">
    <a class="skip" href="#content" onClick=${skip}>${t('app.skip')}</a>
    <a class="brand" href="#/"><img src="console/koi.svg" alt="" width="28" height="28" />Koi</a>
    ${screens.length > 0 && html`<nav aria-label=${t('app.menu')}>${screens.filter((one) => !one.hidden).map((one) => html`
      <a href=${`#/${one.path}`} aria-current=${isAt(one) ? 'page' : null}>${t(one.title)}</a>`)}</nav>`}
    <span class="space"></span>
    ${who && html`<span class="who" title=${who.key_id}>${who.user ?? who.team ?? t('session.operator')}</span>
      <button type="button" class="plain" onClick=${leave}>${t('session.sign_out')}</button>`}
    <${Preferences} />
    <${ErrorNote} error=${error} />
  </header>`;
}

function skip(event) {
  event.preventDefault();
  document.getElementById('content').focus();
}

/** Begin to read at the screen's heading, also where it comes with what is loaded, until a key is
 * pressed or something is clicked. */
function focusHeading() {
  const content = document.getElementById('content');
  const move = () => {
    const heading = content.querySelector('h1');
    const lost = [document.body, content].includes(document.activeElement);
    if (!lost || document.querySelector('dialog[open]')) return;
    if (heading) heading.tabIndex = -1;
    (heading ?? content).focus({ preventScroll: true });
  };
  const watch = new MutationObserver(move);
  const stop = new AbortController();
  const end = () => {
    watch.disconnect();
    stop.abort();
  };
  document.activeElement?.blur();
  move();
  watch.observe(content, { childList: true, subtree: true });
  for (const what of ['keydown', 'pointerdown']) addEventListener(what, end, { signal: stop.signal });
  return end;
}

function isAt(screen) {
  return path.value === screen.path || (screen.path !== '' && path.value.startsWith(`${screen.path}/`));
}

function usePage(who) {
  const [page, setPage] = useState(null);
  useEffect(() => {
    setPage(null);
    // Commands need a shell on the server, which who administers one team has not.
    twins.value = !(who?.role === 'operator' && who.team);
    if (who) PAGES[who.role]().then((found) => setPage(found.screensFor(who)), (error) => { failed.value = error; });
  }, [who?.role, who?.team]);
  return page;
}

function Screen({ screens }) {
  const screen = screens.find((one) => one.path === path.value) ?? screens.find(isAt);
  useEffect(() => {
    document.title = screen ? `${t(screen.title)} · Koi` : 'Koi';
  }, [screen, language.value]);
  useEffect(() => {
    scrollTo(0, 0);
    return focusHeading();
  }, [screen, path.value]);
  if (!screen) return html`<p>${t('app.unknown')} <a href="#/">${t('app.home')}</a></p>`;
  const rest = path.value.slice(screen.path.length).replace(/^\//, '');
  return html`<${screen.view} key=${screen.path} rest=${rest} session=${session.value} go=${go} />`;
}

function App() {
  const who = session.value;
  const screens = usePage(who);
  useEffect(() => { document.documentElement.lang = language.value; }, [language.value]);
  const entry = path.value === 'sign-in' || path.value === 'operator';
  let content = html`<p class="quiet" aria-busy="true">${t('loading')}</p>`;
  if (failed.value) content = html`<${ErrorNote} error=${failed.value} onRetry=${findSession} />`;
  else if (path.value.startsWith(INVITE)) {
    content = html`<${Invite} key=${path.value} token=${path.value.slice(INVITE.length)} />`;
  } else if (who === null && path.value.startsWith(FAILED)) {
    content = html`<${SignInFailed} code=${path.value.slice(FAILED.length)} />`;
  } else if (who === null && (entry || ended.value)) {
    content = html`<${SignIn} operator=${path.value === 'operator'} ended=${ended.value} onEnter=${enter} />`;
  } else if (who === null) content = html`<${Public} />`;
  else if (screens) content = html`<${Screen} screens=${screens} />`;
  return html`<${Header} screens=${(who && screens) || []} />
    <main id="content" tabindex="-1">${content}</main>`;
}

const theme = localStorage.getItem('koi.theme');
if (theme) document.documentElement.dataset.theme = theme;
addEventListener('hashchange', () => { path.value = readPath(); });
addEventListener('storage', (event) => { if (event.key === HINT) location.reload(); });
onSessionEnd(() => { if (session.value) forget(); });
render(html`<${App} />`, document.getElementById('page'));
findSession();
