/** What the page is built with: preact, htm and signals, from one place. */

import { Fragment, h, render } from './vendor/preact.js';
import htm from './vendor/htm.js';

/** Markup as a tagged template; texts in it are always text, never HTML. */
export const html = htm.bind(h);

export { Fragment, render };
export { useCallback, useEffect, useMemo, useRef, useState } from './vendor/hooks.js';
export { batch, computed, effect, signal, useComputed, useSignal } from './vendor/signals.js';
