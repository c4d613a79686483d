/** Reading from the API: once, or again and again while the page is looked at. */

import { useCallback, useEffect, useRef, useState } from './lib.js';

const RETRY_MS = 5_000;
const LONGEST_MS = 60_000;

/** The answer of `read()`: `{data, error, loading, reload}`. An earlier answer stays while a new
 * one is on its way, and while the gateway cannot answer, which is asked again by itself. */
export function useLoad(read, inputs = []) {
  const [state, setState] = useState({ data: null, error: null, loading: true });
  const latest = useRef(0);
  const reload = useCallback(async () => {
    const turn = ++latest.current;
    setState((before) => ({ ...before, loading: true }));
    try {
      const data = await read();
      if (turn === latest.current) setState({ data, error: null, loading: false });
    } catch (error) {
      if (turn === latest.current) setState((before) => ({ ...before, error, loading: false }));
    }
  }, inputs);
  useEffect(() => {
    reload();
    return () => { latest.current += 1; };
  }, [reload]);
  const away = state.error && (state.error.status === 0 || state.error.status === 503);
  usePolling(reload, away ? RETRY_MS : null);
  return { ...state, reload };
}

/** Call `work` every so many milliseconds while the page is visible; null stops. What fails or
 * changes nothing (`work` gives false) is asked ever more seldom, up to once a minute. */
export function usePolling(work, everyMs) {
  useEffect(() => {
    if (everyMs === null) return undefined;
    let timer = null;
    let pause = everyMs;
    const plan = () => { timer = document.hidden ? null : setTimeout(turn, pause); };
    const turn = async () => {
      const changed = await Promise.resolve(work()).catch(() => false);
      pause = changed === false ? Math.min(pause * 1.5, LONGEST_MS) : everyMs;
      if (timer !== undefined) plan();
    };
    const look = () => {
      clearTimeout(timer);
      if (!document.hidden) turn();
    };
    document.addEventListener('visibilitychange', look);
    plan();
    return () => {
      clearTimeout(timer);
      timer = undefined;
      document.removeEventListener('visibilitychange', look);
    };
  }, [work, everyMs]);
}
