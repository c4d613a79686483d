/** Every text of the page, in English and Chinese. Screens add their own with `addWords`. */

import { signal } from './vendor/signals.js';

const texts = { en: {}, zh: {} };
const stored = localStorage.getItem('koi.language');
const spoken = navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';

/** The language of the page, `en` or `zh`; changing it changes every text. */
export const language = signal(stored in texts ? stored : spoken);

/** Choose a language, also for the next visit. */
export function setLanguage(name) {
  localStorage.setItem('koi.language', name);
  language.value = name;
}

/** Add texts by key: `{en: {...}, zh: {...}}`, the same keys in both. */
export function addWords(more) {
  for (const name of Object.keys(texts)) Object.assign(texts[name], more[name]);
}

/** A text of the chosen language; `{name}` in it stands for a value of that name. */
export function t(key, values = {}) {
  const text = texts[language.value][key] ?? texts.en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

/** A number as the language writes it. */
export function number(value) {
  return new Intl.NumberFormat(language.value).format(value);
}

addWords({
  en: {
    'app.about': 'An OpenAI-compatible gateway for images. Never pays twice, never loses a picture that was paid for.',
    'app.base_url': 'Base URL',
    'app.base_url_hint': 'Give this address to any OpenAI SDK, with a key of this gateway.',
    'app.dark': 'Dark',
    'app.docs': 'Documentation',
    'app.holder': 'I have a key',
    'app.holder_hint': 'See what is left, your pictures and tasks, and try it.',
    'app.language': '中文',
    'app.light': 'Light',
    'app.menu': 'Sections',
    'app.operator': 'I operate this',
    'app.operator_hint': 'People, limits, usage and money, with an admin key.',
    'app.skip': 'Skip to content',
    'app.theme': 'Colours',
    'app.unknown': 'There is no such page.',
    'app.home': 'Start',
    'copy': 'Copy',
    'copied': 'Copied',
    'dialog.close': 'Close',
    'empty.none': 'Nothing here yet.',
    'error.again': 'Try again',
    'error.no_answer': 'The gateway does not answer. Check the network; nothing is lost.',
    'error.store': 'The gateway cannot reach its books right now, so it spends nothing. What was paid for is kept. This page tries again by itself.',
    'error.title': 'That did not work',
    'form.cancel': 'Cancel',
    'form.save': 'Save',
    'form.wait': 'One moment …',
    'loading': 'Loading …',
    'session.ended': 'Your session has ended. Sign in again; nothing else has changed.',
    'session.key': 'Your API key',
    'session.admin_key': 'Admin key',
    'session.key_hint': 'It is exchanged for a cookie of twelve hours, and this page does not keep it.',
    'session.rejected': 'This key is not known here. Check that it was copied completely; a revoked or expired key cannot sign in.',
    'session.role': 'This is an admin key: it opens the operator\'s console.',
    'session.sign_in': 'Sign in',
    'session.sign_out': 'Sign out',
    'session.who': 'Signed in as {name}',
    'sso.sign_in': 'Sign in with your organisation',
    'sso.failed': 'You are not signed in',
    'sso.expired': 'This sign-in took too long, was used already, or began in another browser. Try again.',
    'sso.cancelled': 'Your organisation did not sign you in. Try again, or ask its administrator.',
    'sso.unavailable': 'Your organisation\'s sign-in cannot be reached or used right now. Try again later, or use a key.',
    'sso.rejected': 'The answer of your organisation\'s sign-in was not accepted. Try again; if it stays so, tell the operator.',
    'sso.no_role': 'Your account has no role here. Ask the operator.',
    'sso.no_name': 'Your account has no verified name that can be used here. Ask the operator.',
    'sso.unknown': 'There is no user of your name here yet. Ask the operator.',
    'sso.disabled': 'Your user is disabled here. Ask the operator.',
    'session.operator': 'operator',
    'table.all': 'All shown',
    'table.more': 'Show more',
    'twin.title': 'On the command line',
    'unlimited': 'unlimited',
  },
  zh: {
    'app.about': '兼容 OpenAI 的图片网关。绝不重复付费，绝不丢失已付费的图片。',
    'app.base_url': '接口地址 (base_url)',
    'app.base_url_hint': '把此地址和本网关的密钥填入任意 OpenAI SDK 即可使用。',
    'app.dark': '深色',
    'app.docs': '接口文档',
    'app.holder': '我有密钥',
    'app.holder_hint': '查看剩余额度、图片与任务，并在线试用。',
    'app.language': 'English',
    'app.light': '浅色',
    'app.menu': '栏目',
    'app.operator': '我是管理员',
    'app.operator_hint': '使用管理密钥管理人员、限额、用量与费用。',
    'app.skip': '跳到正文',
    'app.theme': '配色',
    'app.unknown': '没有这个页面。',
    'app.home': '首页',
    'copy': '复制',
    'copied': '已复制',
    'dialog.close': '关闭',
    'empty.none': '暂无内容。',
    'error.again': '重试',
    'error.no_answer': '网关没有响应。请检查网络；没有任何内容丢失。',
    'error.store': '网关暂时无法访问账本，因此不会产生任何费用；已付费的内容都已保存。本页会自动重试。',
    'error.title': '操作未成功',
    'form.cancel': '取消',
    'form.save': '保存',
    'form.wait': '请稍候……',
    'loading': '加载中……',
    'session.ended': '会话已结束，请重新登录；其他内容没有变化。',
    'session.key': '您的 API 密钥',
    'session.admin_key': '管理密钥',
    'session.key_hint': '密钥将换成有效期十二小时的 Cookie，本页不会保存密钥。',
    'session.rejected': '本网关不认识此密钥。请确认已完整复制；已吊销或过期的密钥无法登录。',
    'session.role': '这是管理密钥：将打开管理控制台。',
    'session.sign_in': '登录',
    'session.sign_out': '退出登录',
    'session.who': '已登录：{name}',
    'sso.sign_in': '使用组织账号登录',
    'sso.failed': '您尚未登录',
    'sso.expired': '登录超时、已被使用，或是在其他浏览器中开始的。请重试。',
    'sso.cancelled': '您的组织未完成登录。请重试，或联系其管理员。',
    'sso.unavailable': '目前无法使用组织登录。请稍后重试，或使用密钥登录。',
    'sso.rejected': '组织登录的应答未被接受。请重试；若仍如此，请告知运维人员。',
    'sso.no_role': '您的账号在此没有角色。请联系运维人员。',
    'sso.no_name': '您的账号没有可在此使用的已验证名称。请联系运维人员。',
    'sso.unknown': '此处还没有与您同名的用户。请联系运维人员。',
    'sso.disabled': '您的用户已在此停用。请联系运维人员。',
    'session.operator': '管理员',
    'table.all': '已全部显示',
    'table.more': '显示更多',
    'twin.title': '命令行写法',
    'unlimited': '不限',
  },
});
