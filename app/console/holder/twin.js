/** An action of the holder's page as a call with one's own key: holders have no shell on the server. */

import { address } from '../api.js';
import { html } from '../lib.js';
import { CliTwin } from '../widgets.js';
import { curlCall } from './programs.js';

/** `calls`: `[method, path, body?]` each. */
export function HttpTwin({ calls }) {
  return html`<${CliTwin} command=${calls.map(([method, path, body]) => curlCall(method, address(path), body)).join('\n')} />`;
}
