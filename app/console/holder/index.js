/** The holder's page: everything that needs no operator. */

import './words.js';
import { Home } from './home.js';
import { Keys } from './keys.js';
import { Pictures } from './pictures.js';
import { Tasks } from './tasks.js';
import { TryIt } from './try.js';

/** Screens in the order of the menu; `title` is a key of a text. */
const screens = [
  { path: '', title: 'home.title', view: Home },
  { path: 'pictures', title: 'pictures.title', view: Pictures },
  { path: 'tasks', title: 'tasks.title', view: Tasks },
  { path: 'try', title: 'try.title', view: TryIt },
  { path: 'keys', title: 'keys.title', view: Keys },
];

export function screensFor() {
  return screens;
}
