/** The operator's console: its screens in the order of the menu. */

import './words.js';
import './words_money.js';
import './words_setup.js';
import { Alerts } from './alerts.js';
import { Changes } from './changes.js';
import { Invitations } from './invitations.js';
import { Jobs } from './jobs.js';
import { Keys } from './keys.js';
import { Money } from './money.js';
import { Now } from './now.js';
import { People } from './people.js';
import { SetUp } from './setup.js';
import { TeamHome } from './team.js';
import { Usage } from './usage.js';

const HOUSE = 'house';
const TEAM = 'team';

/** `title` is the key of a text; `only` for whom a screen is, when it is not for both. */
const ALL = [
  { path: '', title: 'now.title', view: Now, only: HOUSE },
  { path: '', title: 'people.team', view: TeamHome, only: TEAM },
  { path: 'people', title: 'people.title', view: People },
  { path: 'keys', title: 'keys.title', view: Keys },
  { path: 'invitations', title: 'invitations.title', view: Invitations },
  { path: 'usage', title: 'usage.title', view: Usage },
  { path: 'jobs', title: 'jobs.title', view: Jobs },
  { path: 'money', title: 'money.title', view: Money, only: HOUSE },
  { path: 'alerts', title: 'alerts.title', view: Alerts, only: HOUSE },
  { path: 'changes', title: 'changes.title', view: Changes },
  { path: 'setup', title: 'setup.title', view: SetUp, only: HOUSE },
];

/** The screens of an operator, or of somebody who administers one team. */
export function screensFor(session) {
  const other = session.team ? HOUSE : TEAM;
  return ALL.filter((one) => one.only !== other);
}
