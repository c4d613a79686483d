/** A zip of pictures, made in the browser: they are compressed already, so they are only stored.
 * APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (its end). */

import { download } from '../api.js';
import { t } from '../words.js';
import { MAX_ZIP_FILES, MAX_ZIP_MB } from './pictures.js';

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const VERSION = 20;
const UTF8 = 0x0800;
const DOS_1980 = 0x21;

const TABLE = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

/** The CRC-32 of some bytes, as zip files have it. */
export function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ TABLE[(value ^ byte) & 0xff];
  return (value ^ 0xffffffff) >>> 0;
}

/** Fetch files (`{name, url}`), one after the other, and put them into one zip. Calls
 * `onProgress(done)`; throws when they are more than a browser should hold. */
export async function makeZip(files, onProgress) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [index, file] of files.entries()) {
    onProgress(index);
    const blob = await download('GET', new URL(file.url).pathname.replace(/^.*(?=\/v1\/)/, ''));
    const name = new TextEncoder().encode(file.name);
    const facts = { crc: crc32(new Uint8Array(await blob.arrayBuffer())), size: blob.size, name, offset };
    if (offset + blob.size > MAX_ZIP_MB << 20) throw new Error(t('pictures.toomany', { count: MAX_ZIP_FILES, size: MAX_ZIP_MB }));
    const header = record(LOCAL, facts);
    parts.push(header, name, blob);
    directory.push(record(CENTRAL, facts), name);
    offset += header.length + name.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  return new Blob([...parts, ...directory, endRecord(files.length, size, offset)], { type: 'application/zip' });
}

function fields(length, values) {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of values) {
    if (width === 4) view.setUint32(at, value, true);
    else view.setUint16(at, value, true);
    at += width;
  }
  return bytes;
}

function record(kind, { crc, size, name, offset }) {
  const shared = [[2, VERSION], [2, UTF8], [2, 0], [2, 0], [2, DOS_1980], [4, crc], [4, size], [4, size], [2, name.length], [2, 0]];
  if (kind === LOCAL) return fields(30, [[4, LOCAL], ...shared]);
  return fields(46, [[4, CENTRAL], [2, VERSION], ...shared, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]]);
}

function endRecord(count, size, offset) {
  return fields(22, [[4, END], [2, 0], [2, 0], [2, count], [2, count], [4, size], [4, offset], [2, 0]]);
}
