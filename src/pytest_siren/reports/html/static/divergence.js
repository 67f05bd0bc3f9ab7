// An attacked run beside a run of the same task without an attack, and where they part.

function unattacked(run) {
  if (!name('attack', run)) return undefined;
  const same = everything.filter((other) => table.attack.codes[other] < 0 && name('status', other) === 'scored'
    && ['dataset', 'agent', 'model', 'benign_task'].every((column) => table[column].codes[other] === table[column].codes[run]));
  return same.find((other) => table.run_index[other] === table.run_index[run]) ?? same[0];
}

function besideButton(run, shown) {
  const other = unattacked(run);
  if (other === undefined || !shown.messages) return null;
  const place = el('div', {});
  const button = el('button', { type: 'button', class: 'quiet', click: () => {
    button.disabled = true;
    transcriptOf(other).then((quiet) => divergence(shown, quiet), (error) => [el('p', { class: 'notice' }, missing(error))]).then((parts) => {
      place.replaceChildren(...parts);
      const first = place.querySelector('.parted');
      if (first) first.scrollIntoView({ block: 'nearest' });
    });
  } }, 'Compare with the run without an attack');
  return el('div', { class: 'compare' }, button, place);
}

function wordsOf(message) {
  return message && JSON.stringify([message.kind, message.tool, message.outcome, message.text.map((piece) => piece[0]).join('')]);
}

function divergence(shown, quiet) {
  const [left, right] = [shown.messages, quiet.messages || []];
  let same = 0;
  while (same < Math.max(left.length, right.length) && wordsOf(left[same]) === wordsOf(right[same])) same += 1;
  const length = Math.max(left.length, right.length);
  const box = (messages, at, planted) => (messages[at] ? messageBox(messages[at], planted) : el('p', { class: 'empty' }, at === messages.length ? 'This run has ended.' : ''));
  const rows = [];
  for (let at = same; at < length; at += 1) {
    const parted = at === same ? 'parted' : null;
    rows.push(el('div', { class: parted }, box(left, at, shown.planted || [])), el('div', { class: parted }, box(right, at, [])));
  }
  const said = same === length ? 'Both runs say the same.' : (same ? 'The first ' + plural(same, 'message') + ' are the same; the first that differs is marked.' : 'They differ from the first message on.');
  return [el('p', { class: 'small' }, said), rows.length ? el('div', { class: 'beside' }, el('b', {}, 'Under attack'), el('b', {}, 'Without an attack'), rows) : ''];
}
