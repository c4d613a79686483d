/** Parts that every screen uses. Texts in them are always text: nothing here writes HTML. */

import { html, signal, useEffect, useRef, useState } from './lib.js';
import { language, number, t } from './words.js';

let ids = 0;

/** Whether commands are shown beside the actions that they are the same as. */
export const twins = signal(true);

/** An id for a label and its field, the same as long as the part is shown. */
export function useId(name = 'field') {
  const id = useRef(null);
  id.current ??= `${name}-${++ids}`;
  return id.current;
}

/** A table. `columns`: `{key, title, render(row)?, numeric?}`; `more` shows a button for `onMore`. */
export function Table({ columns, rows, rowKey = 'id', caption, more = false, onMore }) {
  const cell = (column, row) => (column.render ? column.render(row) : row[column.key]);
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="hidden">${caption}</caption>
      <thead><tr>${columns.map((column) => html`
        <th scope="col" class=${column.numeric ? 'numeric' : ''}>${column.title}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row[rowKey]}>${columns.map((column, index) => {
        const tag = index === 0 ? 'th' : 'td';
        return html`<${tag} scope=${index === 0 ? 'row' : null} data-title=${column.title}
          class=${column.numeric ? 'numeric' : ''}>${cell(column, row)}</${tag}>`;
      })}</tr>`)}</tbody>
    </table>
    ${more && html`<${Button} onClick=${onMore}>${t('table.more')}</${Button}>`}
  </div>`;
}

/** A button that waits for its `onClick`, and cannot be pressed again meanwhile. */
export function Button({ onClick, children, kind = '', disabled = false, ...rest }) {
  const [busy, setBusy] = useState(false);
  const here = useRef(true);
  useEffect(() => () => { here.current = false; }, []);
  const press = async (event) => {
    if (busy) return;
    setBusy(true);
    try {
      await onClick?.(event);
    } finally {
      if (here.current) setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy}
    onClick=${press} ...${rest}>${children}</button>`;
}

/** A form. `fields`: `{name, label, type?, value?, hint?, required?, options?, ...attributes}`, type
 * as HTML has it, or `select`, `textarea`. `onSubmit(values)` may throw what `ErrorNote` shows. */
export function Form({ fields, onSubmit, submit = t('form.save'), onCancel, children }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    if (busy) return;
    const values = Object.fromEntries(new FormData(event.target));
    setBusy(true);
    setError(null);
    try {
      await onSubmit(values, event.target);
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  return html`<form onSubmit=${send}>
    ${fields.map(({ value, ...field }) => html`<${Field} key=${field.name} initial=${value} ...${field} />`)}
    ${children}
    <${ErrorNote} error=${error} />
    <p class="row">
      <button class="primary" disabled=${busy} aria-busy=${busy}>${busy ? t('form.wait') : submit}</button>
      ${onCancel && html`<button type="button" onClick=${onCancel}>${t('form.cancel')}</button>`}
    </p>
  </form>`;
}

/** One field with its label and hint. What was typed over an `initial` value stays when the page is
 * drawn anew; a `value` is put back. */
export function Field({ name, label, hint, type = 'text', options, value, initial, ...rest }) {
  const id = useId(name);
  const about = hint ? `${id}-hint` : null;
  const common = { id, name, 'aria-describedby': about, ...rest };
  const content = value === undefined ? { defaultValue: initial } : { value };
  let input = html`<input type=${type} ...${content} ...${common} />`;
  if (type === 'textarea') input = html`<textarea ...${content} ...${common}></textarea>`;
  if (type === 'select') {
    input = html`<select ...${common}>${options.map(([key, text]) => html`
      <option value=${key} selected=${key === (value ?? initial)}>${text}</option>`)}</select>`;
  }
  return html`<p class=${type === 'checkbox' ? 'field check' : 'field'}>
    <label for=${id}>${label}</label>${input}
    ${hint && html`<small id=${about}>${hint}</small>`}
  </p>`;
}

/** A dialog over the page; Escape closes it, and the focus goes back where it was. */
export function Dialog({ title, onClose, children, wide = false }) {
  const box = useRef(null);
  const id = useId('dialog');
  // The button that opened it waits for its own end, so that the browser does not know it as focused.
  const [opener] = useState(() => document.activeElement);
  useEffect(() => {
    box.current.showModal();
    return () => {
      box.current?.close();
      (opener.isConnected ? opener : document.querySelector('h1'))?.focus();
    };
  }, []);
  const outside = (event) => event.target === box.current && onClose();
  return html`<dialog ref=${box} class=${wide ? 'wide' : ''} aria-labelledby=${id} onClick=${outside}
    onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <div class="box">
      <header class="row"><h2 id=${id}>${title}</h2>
        <button type="button" class="plain" onClick=${onClose} aria-label=${t('dialog.close')}>✕</button>
      </header>
      ${children}
    </div>
  </dialog>`;
}

/** How much of a limit is used and held. `tight` highlights it. */
export function Bar({ used, held = 0, limit, label, tight = false }) {
  if (limit === null) return null;
  const share = (part) => `${limit ? Math.min((part / limit) * 100, 100) : 100}%`;
  return html`<div class=${tight ? 'bar tight' : 'bar'} role="meter" aria-label=${label} aria-valuemin="0"
    aria-valuemax=${limit} aria-valuenow=${Math.min(used + held, limit)}>
    <i class="used" style=${{ width: share(used) }}></i><i class="held" style=${{ width: share(held) }}></i>
  </div>`;
}

/** An amount of money: decimal text as the API gives it, never rounded. */
export function Money({ amount, currency = '' }) {
  if (amount === null || amount === undefined) return html`<span>–</span>`;
  return html`<span class="money">${amount}${currency && ` ${currency}`}</span>`;
}

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60], ['second', 1]];

/** How far a moment is from now, in words, such as "3 hours ago". */
export function distance(at, now = Date.now()) {
  const seconds = Math.round((at - now) / 1000);
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS[3];
  const words = new Intl.RelativeTimeFormat(language.value, { numeric: 'auto' });
  return words.format(Math.trunc(seconds / size), unit);
}

/** A moment: Unix seconds, or the text of a date. Shown as far from now, or `exact`. */
export function When({ at, exact = false }) {
  if (at === null || at === undefined) return html`<span>–</span>`;
  const moment = new Date(typeof at === 'number' ? at * 1000 : at);
  const full = new Intl.DateTimeFormat(language.value, { dateStyle: 'medium', timeStyle: 'short' });
  const text = full.format(moment);
  return html`<time datetime=${moment.toISOString()} title=${text}>${exact ? text : distance(moment)}</time>`;
}

/** What a list without entries says, and what to do about it. */
export function Empty({ text = t('empty.none'), children }) {
  return html`<div class="empty"><p>${text}</p>${children}</div>`;
}

/** A failure in words: what the API says itself, or why it did not answer. */
export function ErrorNote({ error, onRetry }) {
  if (!error) return null;
  return html`<div class="note error" role="alert">
    <p>${explain(error)}</p>
    ${onRetry && html`<${Button} onClick=${onRetry}>${t('error.again')}</${Button}>`}
  </div>`;
}

/** The sentence of a failure. */
export function explain(error) {
  if (error.code === 'no_answer') return t('error.no_answer');
  if (error.code === 'ledger_unavailable') return t('error.store');
  return error.message || t('error.title');
}

/** A button that copies a text and says so. */
export function CopyButton({ text, label = t('copy') }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    const timer = copied && setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return html`<${Button} kind="small" onClick=${copy}>
    <span aria-live="polite">${copied ? t('copied') : label}</span></${Button}>`;
}

/** A text to copy, such as an address, a secret or a program. */
export function Copyable({ text, label, block = false }) {
  const code = block
    ? html`<pre tabindex="0" aria-label=${label}><code>${text}</code></pre>`
    : html`<code>${text}</code>`;
  return html`<div class=${block ? 'copyable block' : 'copyable'}>${code}<${CopyButton} text=${text} /></div>`;
}

/** The command that does the same as an action of the page. */
export function CliTwin({ command }) {
  if (!twins.value) return null;
  return html`<details class="twin"><summary>${t('twin.title')}</summary>
    <${Copyable} text=${command} label=${t('twin.title')} /></details>`;
}

/** A limit as a number, or the word for none. */
export function limitText(limit) {
  return limit === null ? t('unlimited') : number(Number(limit));
}
