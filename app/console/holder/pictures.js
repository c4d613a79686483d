/** Every picture that is still kept: look at it, download it, link to it, delete it. */

import { address, del, get, save } from '../api.js';
import { html, useEffect, useState } from '../lib.js';
import { Button, CopyButton, Dialog, distance, Empty, ErrorNote, Money, When } from '../widgets.js';
import { number, t } from '../words.js';
import { HttpTwin } from './twin.js';

const PAGE = 24;
export const MAX_ZIP_FILES = 50;
export const MAX_ZIP_MB = 300;

/** Where the page reads a picture from: by its session, without a link that could be passed on.
 * A `size` (small, medium) is a preview where there is one. */
export function source(picture, size = null) {
  return address(`v1/images/${picture.id}${size ? `?size=${size}` : ''}`);
}

function useGallery() {
  const [state, setState] = useState({ pictures: [], after: null, more: true, error: null });
  const load = async () => {
    try {
      const page = await get('/v1/koi/pictures', { limit: PAGE, after: state.after });
      setState((before) => ({
        pictures: [...before.pictures, ...page.data],
        after: page.last_id ?? before.after, more: page.has_more, error: null, loaded: true,
      }));
    } catch (error) {
      setState((before) => ({ ...before, error }));
    }
  };
  const remove = (id) => setState((before) => ({
    ...before, pictures: before.pictures.filter((one) => one.id !== id),
  }));
  useEffect(() => { load(); }, []);
  return { ...state, load, remove };
}

/** The grid of pictures, and one of them in full. */
export function Pictures({ rest, go }) {
  const gallery = useGallery();
  const [chosen, setChosen] = useState(new Set());
  const open = gallery.pictures.find((one) => one.id === rest);
  const toggle = (id) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const gone = (id) => {
    gallery.remove(id);
    setChosen(new Set([...chosen].filter((one) => one !== id)));
    go('pictures');
  };
  return html`
    <h1>${t('pictures.title')}</h1>
    <${ErrorNote} error=${gallery.error} onRetry=${gallery.load} />
    <${Selection} pictures=${gallery.pictures.filter((one) => chosen.has(one.id))} onDone=${() => setChosen(new Set())} />
    ${gallery.loaded && !gallery.pictures.length && !gallery.more && html`<${Empty} text=${t('pictures.empty')} />`}
    <ul class="gallery">${gallery.pictures.map((picture) => html`
      <${Tile} key=${picture.id} picture=${picture} chosen=${chosen.has(picture.id)} onToggle=${toggle} />`)}</ul>
    ${gallery.loaded && gallery.more && html`<p><${Button} onClick=${gallery.load}>${t('table.more')}</${Button}></p>`}
    ${gallery.loaded && html`<${HttpTwin} calls=${[['GET', '/v1/koi/pictures']]} />`}
    ${open && html`<${FullView} picture=${open} onClose=${() => go('pictures')} onDeleted=${gone} />`}`;
}

function Tile({ picture, chosen, onToggle }) {
  const when = distance(picture.created_at * 1000);
  const name = t('pictures.open', { when, size: picture.size });
  return html`<li>
    <a href=${`#/pictures/${picture.id}`} aria-label=${name}><${Picture} picture=${picture} alt="" lazy /></a>
    <label class="row"><input type="checkbox" checked=${chosen} onChange=${() => onToggle(picture.id)}
      aria-label=${t('pictures.select', { when })} />
      <small><${When} at=${picture.created_at} /> · ${picture.size}</small></label>
  </li>`;
}

function Picture({ picture, alt, lazy = false }) {
  const [missing, setMissing] = useState(false);
  if (missing) return html`<span class="missing">${t('pictures.missing')}</span>`;
  const shown = lazy ? source(picture, 'small') : source(picture);
  const sharper = lazy ? `${source(picture, 'medium')} 2x` : null;
  return html`<img src=${shown} srcset=${sharper} alt=${alt} loading=${lazy ? 'lazy' : 'eager'} decoding="async"
    width=${picture.width} height=${picture.height} onError=${() => setMissing(true)} />`;
}

function Selection({ pictures, onDone }) {
  const [progress, setProgress] = useState(null);
  const [error, setError] = useState(null);
  if (!pictures.length) return null;
  const zip = async () => {
    setError(null);
    try {
      const { makeZip } = await import('./zip.js');
      const blob = await makeZip(pictures.map((one) => ({ name: one.id, url: source(one) })), setProgress);
      save(URL.createObjectURL(blob), 'koi-pictures.zip');
      onDone();
    } catch (failure) {
      setError(failure);
    } finally {
      setProgress(null);
    }
  };
  const tooMany = pictures.length > MAX_ZIP_FILES;
  const count = pictures.length;
  return html`<div class="note row" role="status">
    <span>${t('pictures.selected', { count: number(count) })}</span>
    <${Button} onClick=${zip} disabled=${tooMany}>${progress === null ? t('pictures.zip') : t('pictures.zipping', { done: progress, count })}</${Button}>
    ${tooMany && html`<small>${t('pictures.toomany', { count: MAX_ZIP_FILES, size: MAX_ZIP_MB })}</small>`}
    <${ErrorNote} error=${error} />
  </div>`;
}

function FullView({ picture, onClose, onDeleted }) {
  const [sure, setSure] = useState(false);
  const [error, setError] = useState(null);
  const fresh = useFreshLink(picture);
  const remove = async () => {
    setError(null);
    try {
      await del(`/v1/images/${picture.id}`);
      onDeleted(picture.id);
    } catch (failure) {
      setError(failure);
    }
  };
  const name = t('pictures.open', { when: distance(picture.created_at * 1000), size: picture.size });
  return html`<${Dialog} title=${name} onClose=${onClose} wide>
    <div class="full"><${Picture} picture=${picture} alt=${picture.revised_prompt ?? name} /></div>
    ${picture.revised_prompt && html`<h3>${t('pictures.revised')}</h3><p class="prompt">${picture.revised_prompt}</p>`}
    <dl>
      <div><dt>${t('pictures.made')}</dt><dd><${When} at=${picture.created_at} exact /></dd></div>
      <div><dt>${t('pictures.kept')}</dt><dd><${When} at=${picture.expires_at} exact /></dd></div>
      <div><dt>${t('pictures.size')}</dt><dd>${picture.width ? `${picture.width}x${picture.height}` : picture.size}</dd></div>
      <div><dt>${t('pictures.quality')}</dt><dd>${picture.quality}</dd></div>
      <div><dt>${t('pictures.model')}</dt><dd>${picture.model}</dd></div>
      <div><dt>${t('pictures.cost')}</dt><dd><${Money} amount=${picture.cost} /></dd></div>
    </dl>
    <${ErrorNote} error=${error} />
    <p class="row">
      <a class="button primary" href=${source(picture)} download=${picture.id}>${t('pictures.download')}</a>
      <${CopyButton} text=${fresh} label=${t('pictures.link')} />
      ${!sure && html`<${Button} kind="danger" onClick=${() => setSure(true)}>${t('pictures.delete')}</${Button}>`}
    </p>
    <small>${t('pictures.link_hint')}</small>
    <${HttpTwin} calls=${[
      ['GET', `/v1/images/${picture.id}`], ['GET', `/v1/tasks/${picture.task_id}`], ['DELETE', `/v1/images/${picture.id}`],
    ]} />
    ${sure && html`<div class="note error row" role="alert"><span>${t('pictures.delete_sure')}</span>
      <${Button} kind="danger" onClick=${remove}>${t('pictures.delete')}</${Button}>
      <${Button} onClick=${() => setSure(false)}>${t('form.cancel')}</${Button}></div>`}
  </${Dialog}>`;
}

/** A link signed now: that of the list may be as old as the page. */
function useFreshLink(picture) {
  const [link, setLink] = useState(picture.url);
  useEffect(() => {
    get(`/v1/tasks/${picture.task_id}`).then((task) => {
      const found = (task.data ?? []).find((one) => one.url?.includes(picture.id));
      if (found) setLink(found.url);
    }, () => {});
  }, [picture.id]);
  return link;
}
