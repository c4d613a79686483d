/** The holder's page: everything that needs no operator. */

import { html } from '../lib.js';

/** Screens in the order of the menu; `title` is a key of a text. */
export const screens = [{ path: '', title: 'app.home', view: () => html`<h1>Koi</h1>` }];
