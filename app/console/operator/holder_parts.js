/** What a person's and a team's screen share: limits with their change, a raise for a while, and
 * what was changed lately. */

import { del, get, post } from '../api.js';
import { html } from '../lib.js';
import { useLoad } from '../loading.js';
import { Table, When } from '../widgets.js';
import { t } from '../words.js';
import {
  ActDialog, DialogButton, LIMITS, Standing, command, limitFields, limitOptions, may, mayForAll, readLimits,
} from './common.js';
import { auditColumns } from './changes.js';

const STANDINGS = [
  'images_day', 'images_month', 'cost_day', 'cost_month', 'images_minute', 'requests_minute', 'requests_day', 'concurrency',
];

/** Limits beside used, held and left; `noun` is `users` or `teams` as commands write it. */
export function LimitsPart({ person, session, noun, onChange }) {
  const rows = STANDINGS.filter((id) => id in person.standing).map((id) => ({ id, ...person.standing[id] }));
  const columns = [
    { key: 'id', title: t('now.limit'), render: (row) => t(`standing.${row.id}`) },
    { key: 'used', title: t('op.used_of'), render: (row) => html`
      <${Standing} of=${row} label=${t(`standing.${row.id}`)} alarm=${person.alarm === row.id} />` },
    { key: 'resets_in_s', title: t('op.resets'), render: (row) => (row.limit === null || !row.resets_in_s ? '–'
      : html`<${When} at=${Date.now() / 1000 + row.resets_in_s} />`) },
  ];
  const hidden = noun === 'teams' ? !mayForAll(session, 'money') : !may(session, 'money');
  return html`<section aria-labelledby="limits"><div class="row"><h2 id="limits">${t('person.limits')}</h2>
      <${DialogButton} label=${t('person.change_limits')} hidden=${hidden} dialog=${(close) => html`
        <${ChangeLimits} person=${person} noun=${noun} onClose=${close} onDone=${onChange} />`} />
      <${DialogButton} label=${t('person.raise')} hidden=${hidden} dialog=${(close) => html`
        <${RaiseLimits} person=${person} noun=${noun} onClose=${close} onDone=${onChange} />`} /></div>
    <${Raised} person=${person} noun=${noun} hidden=${hidden} onDone=${onChange} />
    <${Table} columns=${columns} rows=${rows} caption=${t('person.limits')} /></section>`;
}

function Raised({ person, noun, hidden, onDone }) {
  const { raised } = person;
  if (!raised) return null;
  const amounts = LIMITS.filter(([name]) => name in raised.by).map(([name, flag]) => `${t(`limit.${flag}`)} +${raised.by[name]}`);
  const act = ({ reason }) => del(`${raisePath(person, noun)}`, { reason });
  return html`<p class="note row"><span class="space">${t('person.raised', { amounts: amounts.join(', ') })}
      <${When} at=${raised.until} exact /> <small>${raised.reason}</small></span>
    <${DialogButton} label=${t('person.end_raise')} hidden=${hidden} dialog=${(close) => html`
      <${ActDialog} title=${t('person.end_raise')} act=${act} onClose=${close} onDone=${onDone}
        twin=${command('koi', noun, 'raise', person.id, '--end')} />`} /></p>`;
}

function ChangeLimits({ person, noun, onClose, onDone }) {
  const path = noun === 'users' ? `/v1/organization/users/${encodeURIComponent(person.id)}`
    : `/v1/organization/projects/${encodeURIComponent(person.id)}`;
  const act = async ({ reason, ...values }) => {
    const limits = readLimits(values, person.limits);
    if (Object.keys(limits).length) await post(path, { limits }, { reason });
  };
  return html`<${ActDialog} title=${t('person.change_limits')} text=${t('person.limits_text')} submit=${t('form.save')}
    fields=${limitFields(person.limits)} act=${act} onClose=${onClose} onDone=${onDone}
    twin=${command('koi', noun, 'set', person.id, '--images-per-day', 50, '--reason', 'why')} />`;
}

function RaiseLimits({ person, noun, onClose, onDone }) {
  const set = LIMITS.filter(([name]) => person.limits[name] !== null).map(([name]) => name);
  const fields = [
    ...limitFields().filter(({ name }) => set.includes(name)).map((field) => ({ ...field, label: `+ ${field.label}`, placeholder: '0' })),
    { name: 'until', label: t('person.until'), value: 'midnight', required: true, hint: t('person.until_hint') },
  ];
  const act = ({ reason, until, ...values }) => post(raisePath(person, noun), { ...readLimits(values), until, reason }, { reason });
  return html`<${ActDialog} title=${t('person.raise')} text=${set.length ? t('person.raise_text') : t('person.nothing_to_raise')}
    fields=${fields} act=${act} onClose=${onClose} onDone=${onDone}
    twin=${command('koi', noun, 'raise', person.id, ...limitOptions({ max_images_per_1_day: 50 }), '--until', 'midnight', '--reason', 'why')} />`;
}

function raisePath(person, noun) {
  const kind = noun === 'users' ? 'users' : 'projects';
  return `/v1/koi/${kind}/${encodeURIComponent(person.id)}/raise`;
}

/** The newest changes of somebody; read again whenever `seen` is another object. */
export function RecentChanges({ query, seen }) {
  const log = useLoad(() => get('/v1/organization/audit_logs', { ...query, limit: 10 }), [JSON.stringify(query), seen]);
  if (!log.data?.data.length) return null;
  return html`<section aria-labelledby="recent"><h2 id="recent">${t('person.changes')}</h2>
    <${Table} columns=${auditColumns()} rows=${log.data.data} caption=${t('person.changes')} /></section>`;
}
