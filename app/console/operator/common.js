/** Parts that the operator's screens share. */

import { get } from '../api.js';
import { html, useCallback, useEffect, useRef, useState } from '../lib.js';
import { Bar, Button, CliTwin, Dialog, Empty, ErrorNote, Form, Table } from '../widgets.js';
import { number, t } from '../words.js';

/** Whether the signed-in admin key may do what needs a scope. */
export function may(session, scope) {
  return session.scopes.includes(scope) || session.scopes.includes('all');
}

/** The same of what concerns a team itself or the whole deployment. */
export function mayForAll(session, scope) {
  return !session.team && may(session, scope);
}

/** A command for a shell: words are quoted where they must be, null ones are left out. */
export function command(...words) {
  const plain = /^[A-Za-z0-9_@%+=:,./-]+$/;
  const given = words.filter((word) => word !== null && word !== undefined).map(String);
  return given.map((word) => (plain.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

/** A list that is read page by page: `{rows, error, loading, more, next, reload}`. `read(after)`
 * gives `{rows, after}`; a null `after` is the last page. */
export function usePages(read, inputs) {
  const [state, setState] = useState({ rows: null, after: null, error: null, loading: true, extra: null });
  const turn = useRef(0);
  const load = useCallback(async (after, before) => {
    const mine = ++turn.current;
    setState((old) => ({ ...old, loading: true, error: null }));
    try {
      const page = await read(after);
      if (mine !== turn.current) return;
      setState({ rows: [...before, ...page.rows], after: page.after, error: null, loading: false, extra: page.extra });
    } catch (error) {
      if (mine === turn.current) setState((old) => ({ ...old, error, loading: false }));
    }
  }, inputs);
  const reload = useCallback(() => load(null, []), [load]);
  useEffect(() => { reload(); }, [reload]);
  const next = () => load(state.after, state.rows ?? []);
  return { ...state, more: state.after !== null, next, reload };
}

/** The list of `usePages`, or why there is none. */
export function Pages({ pages, columns, caption, empty = t('empty.none'), rowKey }) {
  const { rows, error, more, next, reload } = pages;
  return html`<${ErrorNote} error=${error} onRetry=${reload} />
    ${rows === null && !error && html`<p class="quiet" aria-busy="true">${t('loading')}</p>`}
    ${rows?.length === 0 && !more && html`<${Empty} text=${empty} />`}
    ${rows && (rows.length > 0 || more) && html`<${Table} columns=${columns} rows=${rows} caption=${caption}
      rowKey=${rowKey} more=${more} onMore=${next} />`}`;
}

/** Reads a list of the API with `after`. */
export function pagesOf(path, query) {
  return async (after) => {
    const page = await get(path, { ...query, after, limit: 50 });
    return { rows: page.data, after: page.has_more ? page.last_id : null, extra: page };
  };
}

/** Search and filters in one line; `values` change a moment after the last key was pressed. */
export function Filters({ fields, values, onChange }) {
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const change = (name) => (event) => {
    const { type, checked, value } = event.target;
    const next = { ...values, [name]: type === 'checkbox' ? checked : value.trim() };
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(next), type === 'text' || type === 'search' ? 300 : 0);
  };
  return html`<form class="fields" role="search" onSubmit=${(event) => event.preventDefault()}>
    ${fields.map(({ name, label, options, type = 'search' }) => html`
      <p class=${type === 'checkbox' ? 'field check' : 'field'} key=${name}><label for=${`filter-${name}`}>${label}</label>
      ${options
        ? html`<select id=${`filter-${name}`} onChange=${change(name)}>${options.map(([key, text]) => html`
            <option value=${key} selected=${key === (values[name] ?? '')}>${text}</option>`)}</select>`
        : html`<input id=${`filter-${name}`} type=${type} value=${values[name] ?? ''} checked=${values[name] === true}
            onInput=${change(name)} />`}</p>`)}
  </form>`;
}

/** A dialog that asks before it acts, with the reason for the log and the command that does the
 * same. `act(values)` may throw; afterwards `onDone` is called. */
export function ActDialog({ title, text, fields = [], act, submit, twin, onClose, onDone, reason = true }) {
  const all = reason
    ? [...fields, { name: 'reason', label: t('op.reason'), hint: t('op.reason_hint'), maxlength: 200 }]
    : fields;
  const send = async (values) => {
    const done = await act(values);
    onDone?.(done);
    onClose();
  };
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${text && html`<p>${text}</p>`}
    <${Form} fields=${all} onSubmit=${send} submit=${submit ?? title} onCancel=${onClose}>
      ${twin && html`<${CliTwin} command=${twin} />`}
    <//>
  <//>`;
}

/** A button that opens a dialog: `dialog(close)` gives its content. */
export function DialogButton({ label, kind = '', dialog, hidden = false }) {
  const [open, setOpen] = useState(false);
  if (hidden) return null;
  return html`<${Button} kind=${kind} onClick=${() => setOpen(true)}>${label}<//>
    ${open && dialog(() => setOpen(false))}`;
}

/** A word with a colour; the word says the same. */
export function State({ state, text = t(`state.${state}`) }) {
  const kinds = {
    ok: 'good', active: 'good', open: 'good', completed: 'good', warn: 'busy', fail: 'bad', failed: 'bad', revoked: 'bad',
    unknown: 'bad', disabled: 'bad', expired: 'bad', user_deleted: 'bad', user_disabled: 'bad', user_moved: 'bad', processing: 'busy', queued: 'busy', collecting: 'busy',
  };
  return html`<span class=${`tag ${kinds[state] ?? ''}`}>${text}</span>`;
}

/** One limit as used + held of how much, with its bar. Money comes as decimal text. */
export function Standing({ of: standing, label, alarm = false, unit = '' }) {
  if (!standing) return html`<span>–</span>`;
  const { limit, used, held, left } = standing;
  const number_ = (value) => (typeof value === 'string' ? value : number(value));
  if (used === null) return html`<span class="standing">${t('state.unknown')}</span>`;
  const busy = Number(held) > 0 ? ` + ${number_(held)} ${t('op.held')}` : '';
  if (limit === null) return html`<span class="standing">${number_(used)}${busy}${unit && ` ${unit}`}</span>`;
  return html`<span class="standing">${number_(used)}${busy} / ${number_(limit)}${unit && ` ${unit}`}
    <${Bar} used=${Number(used)} held=${Number(held)} limit=${Number(limit)} label=${label} tight=${alarm} />
    <small>${t('op.left', { left: number_(left) })}</small></span>`;
}

/** The link to a person's screen. */
export function PersonLink({ name, text = name }) {
  if (!name) return html`<span>–</span>`;
  return html`<a href=${`#/people/${encodeURIComponent(name)}`}>${text}</a>`;
}

/** The link to a job's timeline. */
export function JobLink({ id }) {
  return id ? html`<a href=${`#/jobs/${encodeURIComponent(id)}`}>${id.slice(0, 13)}…</a>` : html`<span>–</span>`;
}

/** What is typed into limit fields -> the API's limits; empty is unlimited. */
export const LIMITS = [
  ['max_images_per_1_day', 'images-per-day', 'number'],
  ['max_images_per_1_month', 'images-per-month', 'number'],
  ['max_cost_per_1_day', 'budget-per-day', 'text'],
  ['max_cost_per_1_month', 'budget-per-month', 'text'],
  ['max_images_per_1_minute', 'images-per-minute', 'number'],
  ['max_requests_per_1_minute', 'requests-per-minute', 'number'],
  ['max_requests_per_1_day', 'requests-per-day', 'number'],
  ['max_concurrent_requests', 'concurrency', 'number'],
];

/** Fields of a form for limits. */
export function limitFields(limits = {}) {
  return LIMITS.map(([name, flag, type]) => ({
    name, type, label: t(`limit.${flag}`), value: limits[name] ?? '', min: type === 'number' ? 0 : null,
    inputmode: type === 'number' ? 'numeric' : 'decimal', placeholder: t('unlimited'),
  }));
}

/** The limits of a form's values, or those that differ from `before`. */
export function readLimits(values, before = null) {
  const found = {};
  for (const [name, , type] of LIMITS) {
    const text = (values[name] ?? '').trim();
    const limit = text === '' ? null : type === 'number' ? Number(text) : text;
    if (before === null ? limit !== null : limit !== (before[name] ?? null)) found[name] = limit;
  }
  return found;
}

/** The same as options of a command. */
export function limitOptions(limits) {
  return LIMITS.filter(([name]) => name in limits)
    .flatMap(([name, flag]) => [`--${flag}`, limits[name] === null ? 'unlimited' : limits[name]]);
}
