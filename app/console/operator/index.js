/** The operator's console: its screens in the order of the menu. */

import './words.js';
import './words_money.js';
import { Changes } from './changes.js';
import { Invitations } from './invitations.js';
import { Jobs } from './jobs.js';
import { Keys } from './keys.js';
import { Money } from './money.js';
import { Now } from './now.js';
import { People } from './people.js';
import { SetUp } from './setup.js';
import { Usage } from './usage.js';

/** `title` is the key of a text. */
export const screens = [
  { path: '', title: 'now.title', view: Now },
  { path: 'people', title: 'people.title', view: People },
  { path: 'keys', title: 'keys.title', view: Keys },
  { path: 'invitations', title: 'invitations.title', view: Invitations },
  { path: 'usage', title: 'usage.title', view: Usage },
  { path: 'jobs', title: 'jobs.title', view: Jobs },
  { path: 'money', title: 'money.title', view: Money },
  { path: 'changes', title: 'changes.title', view: Changes },
  { path: 'setup', title: 'setup.title', view: SetUp },
];
