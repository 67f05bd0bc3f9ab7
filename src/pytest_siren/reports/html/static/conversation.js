// The transcripts: found, and shown as text.

const loaded = new Map();
const waiting = new Map();
const files = data.files;

// The one kind of address that this page ever loads, and it lies beside the page.
const beside = files ? './' + encodeURIComponent(files.folder) + '/transcripts-' + files.token + '-' : '';
const addresses = (window.trustedTypes || { createPolicy: (_, rules) => rules }).createPolicy('siren', {
  createScriptURL: (address) => {
    if (!files || !address.startsWith(beside) || !/^\d+\.js$/.test(address.slice(beside.length))) throw new TypeError('no file of this page');
    return address;
  },
});

// Called by the files beside the page, which hold nothing but this call with a string of JSON.
window.siren = Object.freeze({
  transcripts: (number, text) => {
    const found = waiting.get(number);
    if (found) found.resolve(JSON.parse(text));
  },
});

function chunkOf(run) {
  let number = 0;
  while (number + 1 < files.starts.length && files.starts[number + 1] <= run) number += 1;
  return number;
}

function transcriptOf(run) {
  if (data.transcripts) return Promise.resolve(data.transcripts[run]);
  const number = chunkOf(run);
  if (!loaded.has(number)) {
    loaded.set(number, new Promise((resolve, reject) => {
      waiting.set(number, { resolve });
      const script = document.createElement('script');
      script.nonce = files.nonce;
      script.onload = () => reject(new Error('damaged'));
      script.onerror = () => {
        loaded.delete(number);
        reject(new Error('missing'));
      };
      script.src = addresses.createScriptURL(beside + number + '.js');
      document.head.append(script);
    }));
    // A few files are enough to go back and forth; all of them might not fit into memory.
    if (loaded.size > 8) loaded.delete(loaded.keys().next().value);
  }
  return loaded.get(number).then((transcripts) => transcripts[run - files.starts[number]]);
}

const WHO = {
  system: 'System', instructions: 'Instructions', user: 'User', assistant: 'Agent', thinking: 'Agent, thinking', call: 'Tool call',
  result: 'Tool result', retry: 'Sent back to the agent', other: 'Other',
};
const LONG = 2500;

function conversation(run, shown) {
  const planted = shown.planted || [];
  const parts = [];
  if (shown.error) {
    parts.push(el('div', { class: 'error-box' }, el('h3', {}, shown.error.type), el('p', {}, shown.error.message),
      el('details', {}, el('summary', {}, 'Traceback'), el('pre', { class: 'text' }, shown.error.traceback))));
  }
  for (const problem of shown.problems) parts.push(el('p', { class: 'notice' }, problem));
  parts.push(facts(run, shown));
  if (planted.length) parts.push(...plantedTexts(shown, planted));
  if (shown.messages) {
    parts.push(el('h3', {}, 'Conversation'));
    if (!shown.messages.length) parts.push(el('p', { class: 'empty' }, 'Nothing was said.'));
    parts.push(...[besideButton(run, shown)].filter(Boolean), ...shown.messages.map((message) => messageBox(message, planted)));
  }
  if (shown.spans && shown.spans.length) parts.push(...spanBoxes(shown.spans));
  return parts;
}

function spanBoxes(spans) {
  return [el('h3', {}, 'Seen by telemetry'), el('p', { class: 'small' }, 'What the agent itself tells of, by OpenTelemetry.'),
    ...spans.map((span) => el('article', { class: 'message other' },
      el('div', { class: 'who' }, el('b', {}, span.kind), el('code', {}, span.name), el('span', {}, span.facts.join('; ')),
        span.error && el('span', { class: 'badge error' }, span.error)),
      span.input && el('details', {}, el('summary', {}, 'Input'), textBlock([[span.input]], [])),
      span.output && textBlock([[span.output]], [])))];
}

function facts(run, shown) {
  const rows = [];
  if (shown.evaluators) {
    for (const [kind, evaluator, value] of shown.evaluators) rows.push([(kind === 'utility' ? 'Utility: ' : 'Attack: ') + evaluator, score(value)]);
    for (const [kind, why] of shown.unknown) rows.push([(kind === 'utility' ? 'Utility' : 'Attack') + ' unknown', why]);
    if (shown.retries) rows.push(['Requests sent again', shown.retries]);
    rows.push(['Started', shown.started], ['Test', shown.nodeid]);
  }
  rows.push(['Record', baseName(name('job', run)) + '/' + name('folder', run) + '/' + table.run_id[run]]);
  return el('dl', { class: 'facts' }, rows.map(([term, value]) => el('div', { class: String(value).length > 60 ? 'long' : null }, el('dt', {}, term), el('dd', {}, value))));
}

function plantedTexts(shown, planted) {
  const seen = new Set();
  for (const message of shown.messages || []) for (const piece of message.text) piece.slice(1).forEach((number) => seen.add(number));
  const read = planted.filter((_, number) => seen.has(number)).length;
  const verdict = read ? 'The agent read ' + (read === planted.length ? 'it' : read + ' of ' + planted.length) + '; it is marked below.'
    : 'It is in nothing that the agent read.';
  return [el('h3', {}, 'Planted text'), el('p', { class: 'small' }, verdict),
    planted.map(([vectors, content]) => el('details', {}, el('summary', {}, vectorNames(vectors)), textBlock([[content]], planted)))].flat();
}

function vectorNames(vectors) {
  return vectors.length > 3 ? vectors.slice(0, 3).join(', ') + ' and ' + (vectors.length - 3) + ' more' : vectors.join(', ');
}

function messageBox(message, planted) {
  const injected = message.text.some((piece) => piece.length > 1);
  return el('article', { class: 'message ' + message.kind },
    el('div', { class: 'who' }, el('b', {}, WHO[message.kind] || message.kind), message.tool && el('code', {}, message.tool),
      message.id && el('span', {}, message.id), message.outcome && el('span', { class: 'badge error' }, message.outcome),
      injected && el('span', { class: 'badge won' }, 'planted text')),
    textBlock(message.text, planted));
}

function textBlock(pieces, planted) {
  const block = el('div', { class: 'text', dir: 'auto' }, pieces.map(([text, ...numbers]) => numbers.length
    ? el('mark', { title: 'planted in ' + numbers.map((number) => vectorNames(planted[number][0])).join('; ') }, text) : text));
  const length = pieces.reduce((sum, piece) => sum + piece[0].length, 0);
  if (length <= LONG) return block;
  block.classList.add('folded');
  const more = el('button', { type: 'button', class: 'quiet unfold', click: () => {
    block.classList.remove('folded');
    more.remove();
  } }, 'Show all ' + plural(length, 'character'));
  const marked = pieces.some((piece) => piece.length > 1);
  // Planted text must never lie hidden below the fold.
  if (marked) {
    block.classList.remove('folded');
    return block;
  }
  return el('div', {}, block, more);
}
