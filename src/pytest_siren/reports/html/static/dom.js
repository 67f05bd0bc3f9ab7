// Making elements. Text from the data enters the page here, and only as text.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g;

// Controls, overrides of direction and hidden tags are spelled out, so that nothing poses as other text.
function visible(text) {
  return String(text).replace(HIDDEN, (found) => '\\u' + found.codePointAt(0).toString(16).padStart(4, '0'));
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? '' : visible(value));
    }
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return element;
}

function el(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

function byId(id) {
  return document.getElementById(id);
}

function selectOf(label, options, chosen, change) {
  const select = el('select', { 'aria-label': label, change: () => change(select.value) },
    options.map(([value, text]) => el('option', { value, selected: value === chosen }, text)));
  return select;
}

const collator = new Intl.Collator('en', { numeric: true });
const whole = new Intl.NumberFormat('en');

function percent(value) {
  return (100 * value).toFixed(value === 0 || value === 1 ? 0 : 1) + ' %';
}

function seconds(value) {
  if (value === null) return '–';
  if (value < 60) return Number(value.toPrecision(3)) + ' s';
  const all = Math.round(value);
  const minutes = Math.floor(all / 60);
  if (minutes < 60) return minutes + ' min ' + (all % 60) + ' s';
  return Math.floor(minutes / 60) + ' h ' + (minutes % 60) + ' min';
}

function dollars(value) {
  if (!value) return '$0';
  return '$' + (value >= 0.01 ? value.toFixed(2) : value.toPrecision(2));
}

function plural(number, word) {
  return whole.format(number) + ' ' + word + (number === 1 ? '' : 's');
}
