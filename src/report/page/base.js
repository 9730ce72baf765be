// What all pages share: elements, numbers, colours, the data of the page.
//
// Names come from scenarios and histories, so they may be anything. They enter the page only through `el` and `svg`, as text
// nodes and attribute values, and never as markup.

/** A text with what cannot be seen, or turns the reading direction of what follows, made visible. */
function visible(text) {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
  return String(text).replace(hidden, (c) => '⟨U+' + c.codePointAt(0).toString(16).toUpperCase().padStart(4, '0') + '⟩');
}

/** Adds properties and children to an element. A child is an element or a text. */
function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : visible(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return element;
}

function el(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

function svg(tag, properties, ...children) {
  return filled(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

/** A name, kept apart from the reading direction of the text around it. */
function name(text) {
  return el('bdi', {}, text);
}

/** A number with as many digits as a person wants. */
function digits(value, most = 3) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  const places = size >= 100 ? 0 : size >= 10 ? Math.min(1, most) : size >= 1 ? Math.min(2, most) : most;
  const text = value.toFixed(places);
  return (places > 0 ? text.replace(/\.?0+$/, '') : text).replace(/^-0$/, '0').replace('-', '−');
}

/** A duration in milliseconds, or seconds where it is long. */
function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  return Math.abs(ms) >= 10000 ? digits(ms / 1000) + ' s' : digits(ms) + ' ms';
}

/** A time relative to time zero. */
function instant(ms) {
  return (ms > 0 ? '+' : '') + duration(ms);
}

function plural(count, one, many) {
  return count + ' ' + (count === 1 ? one : many || one + 's');
}

/** Round steps of an axis: about `wanted` of them between two numbers. */
function steps(from, to, wanted) {
  const raw = (to - from) / Math.max(1, wanted);
  if (!(raw > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) || raw;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-6 ? 0 : at);
  return found;
}

/** The page's colours as the theme has them now. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  return (of) => style.getPropertyValue('--' + of).trim();
}

/** Reads the page's data. */
async function readData() {
  const element = document.getElementById('data');
  if (element.type === 'application/json') return JSON.parse(element.textContent);
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('this browser cannot unpack gzip; any browser from 2023 on can. `ordain report DIR --json` prints the same data');
  }
  const packed = atob(element.textContent);
  const bytes = new Uint8Array(packed.length);
  for (let at = 0; at < packed.length; at++) bytes[at] = packed.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).json();
}

/** A button that copies a command. */
function command(text) {
  const copy = el('button', { type: 'button', 'aria-label': 'copy: ' + text }, 'copy');
  copy.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = 'copied';
    } catch (refused) {
      const range = document.createRange();
      range.selectNodeContents(copy.nextSibling);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      copy.textContent = 'selected: press Ctrl+C';
    }
  });
  return el('div', { class: 'command' }, copy, el('code', {}, name(text)));
}

/** The buttons of every page: light or dark, print. `redraw` is called when colours have changed. */
function pageButtons(redraw) {
  const root = document.documentElement;
  const dark = () => root.dataset.theme === 'dark' || (!root.dataset.theme && matchMedia('(prefers-color-scheme: dark)').matches);
  const theme = el('button', { type: 'button', id: 'theme' }, dark() ? 'light' : 'dark');
  theme.addEventListener('click', () => {
    root.dataset.theme = dark() ? 'light' : 'dark';
    theme.textContent = dark() ? 'light' : 'dark';
    redraw();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    theme.textContent = dark() ? 'light' : 'dark';
    redraw();
  });
  return [theme, el('button', { type: 'button', onclick: () => print() }, 'print')];
}

/** A table. `columns` are [title, of a row, class]; a cell is a text or an element. */
function table(columns, rows, properties) {
  const head = el('tr', {}, columns.map(([title, , kind]) => el('th', { scope: 'col', class: kind }, title)));
  const cell = (row) => ([title, of, kind]) => el('td', { class: kind, 'data-name': title || null }, of(row));
  const body = rows.map((row) => el('tr', {}, columns.map(cell(row))));
  return el('table', { class: 'stack', ...properties }, el('thead', {}, head), el('tbody', {}, body));
}

/** A list that shows its first rows, and more at a click. */
function longTable(columns, rows, first, properties) {
  const box = el('div', { class: 'scroll' });
  let shown = first;
  const draw = () => {
    box.replaceChildren(table(columns, rows.slice(0, shown), properties));
    if (rows.length > shown) {
      const more = () => { shown += 500; draw(); };
      box.append(el('p', {}, `${shown} of ${rows.length} are shown. `, el('button', { type: 'button', onclick: more }, 'show more')));
    }
  };
  draw();
  return box;
}
