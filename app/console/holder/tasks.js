/** What was asked for and what became of it, live. */

import { del, get } from '../api.js';
import { html, useCallback, useEffect, useState } from '../lib.js';
import { usePolling } from '../loading.js';
import { Button, Empty, ErrorNote, Table, useId, When } from '../widgets.js';
import { t } from '../words.js';
import { HttpTwin } from './twin.js';

const PAGE = 20;
const LIVE_MS = 2_000;
const QUIET_MS = 15_000;
const OPEN = new Set(['queued', 'processing', 'collecting']);
const STATUSES = ['', 'queued', 'processing', 'collecting', 'completed', 'failed'];
const KINDS = { completed: 'good', failed: 'bad' };

/** Whether a task still changes. */
export function isOpen(task) {
  return OPEN.has(task.status);
}

/** The word for a task's state. */
export function Status({ task }) {
  return html`<span class=${`tag ${KINDS[task.status] ?? 'busy'}`}>${t(`status.${task.status}`)}
    ${task.status === 'processing' && task.progress ? ` ${task.progress} %` : ''}</span>`;
}

function useTasks(status) {
  const [state, setState] = useState({ tasks: [], more: false, error: null, loaded: false });
  const refresh = useCallback(async () => {
    try {
      const page = await get('/v1/tasks', { limit: PAGE, status: status || null });
      setState((before) => merge(before, page));
      return page.data.some(isOpen);
    } catch (error) {
      setState((before) => ({ ...before, error }));
      return false;
    }
  }, [status]);
  const older = async () => {
    try {
      const after = state.tasks.at(-1).id;
      const page = await get('/v1/tasks', { limit: PAGE, status: status || null, after });
      setState((before) => ({ ...before, tasks: [...before.tasks, ...page.data], more: page.has_more, error: null }));
    } catch (error) {
      setState((before) => ({ ...before, error }));
    }
  };
  useEffect(() => {
    setState({ tasks: [], more: false, error: null, loaded: false });
    refresh();
  }, [refresh]);
  usePolling(refresh, state.tasks.some(isOpen) ? LIVE_MS : QUIET_MS);
  return { ...state, refresh, older };
}

/** The first page anew, in front of older ones that were shown already. */
function merge(before, page) {
  const ids = new Set(page.data.map((task) => task.id));
  const last = before.tasks.findIndex((task) => task.id === page.last_id);
  const rest = last < 0 ? [] : before.tasks.slice(last + 1).filter((task) => !ids.has(task.id));
  return { tasks: [...page.data, ...rest], more: rest.length ? before.more : page.has_more, error: null, loaded: true };
}

/** The list of tasks. */
export function Tasks() {
  const [status, setStatus] = useState('');
  const list = useTasks(status);
  const [error, setError] = useState(null);
  const id = useId('filter');
  const cancel = async (task) => {
    setError(null);
    await del(`/v1/tasks/${task.id}`).catch(setError);
    await list.refresh();
  };
  return html`
    <div class="row"><h1>${t('tasks.title')}</h1>
      <label for=${id}>${t('tasks.filter')}</label>
      <select id=${id} class="short" onChange=${(event) => setStatus(event.target.value)}>${STATUSES.map((one) => html`
        <option value=${one} selected=${one === status}>${t(`status.${one || 'all'}`)}</option>`)}</select>
    </div>
    <${ErrorNote} error=${error ?? list.error} onRetry=${list.refresh} />
    ${list.loaded && !list.tasks.length && html`<${Empty} text=${t('tasks.empty')} />`}
    ${list.tasks.length > 0 && html`<${Table} caption=${t('tasks.title')} rows=${list.tasks} more=${list.more} onMore=${list.older}
      columns=${[
        { key: 'status', title: t('tasks.status'), render: (task) => html`<${Status} task=${task} />` },
        { key: 'summary', title: t('tasks.what'), render: (task) => html`${task.summary}<br /><small><code>${task.id}</code></small>` },
        { key: 'model', title: t('tasks.model') },
        { key: 'created', title: t('tasks.made'), render: (task) => html`<${When} at=${task.created} />` },
        { key: 'act', title: '', render: (task) => task.status === 'queued' && html`
          <${Button} kind="small" onClick=${() => cancel(task)}>${t('tasks.cancel')}</${Button}>` },
      ]} />`}
    ${list.loaded && html`<${HttpTwin} calls=${[['GET', '/v1/tasks'], ['DELETE', `/v1/tasks/${list.tasks.find((one) => one.status === 'queued')?.id ?? 'task_…'}`]]} />`}`;
}
