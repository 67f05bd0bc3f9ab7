// One run, in a panel over the page.

const dialog = byId('run');
let shownRun = null;
let shownOrder = [];
let cameFrom = null;

function openRun(run, order) {
  shownRun = run;
  shownOrder = order;
  if (!dialog.open) {
    cameFrom = document.activeElement;
    dialog.showModal();
  }
  dialog.replaceChildren(runTop(run), el('div', { class: 'run-body', 'aria-busy': 'true' }, el('p', { class: 'empty' }, 'Loading the transcript …')));
  dialog.scrollTop = 0;
  history.replaceState(null, '', '#run=' + table.run_id[run]);
  transcriptOf(run).then((shown) => conversation(run, shown), (error) => [el('p', { class: 'notice' }, missing(error))]).then((parts) => {
    if (shownRun !== run || !dialog.open) return;
    const body = dialog.querySelector('.run-body');
    body.replaceChildren(...parts);
    body.removeAttribute('aria-busy');
  });
}

function missing(error) {
  if (error.message === 'missing') {
    return 'The transcript is not beside this page: it is kept in the folder ' + files.folder + ', which must lie next to the page when that is moved or sent.';
  }
  return 'The transcript cannot be read: the file beside this page is damaged. Write the report anew.';
}

function runTop(run) {
  const place = shownOrder.indexOf(run);
  const step = (by, label, key) => el('button', { type: 'button', class: 'quiet', title: label + ' (' + key + ')', disabled: shownOrder[place + by] === undefined, click: () => stepRun(by) }, by < 0 ? 'Previous' : 'Next');
  const parts = [name('dataset', run), name('model', run), name('attack', run) || 'no attack'];
  const numbers = [seconds(table.duration[run]), plural(tokens(run), 'token'), table.unpriced[run] ? 'cost unknown' : dollars(table.cost[run])];
  if (table.run_index[run] || table.attempts[run] > 1) numbers.push('run ' + (table.run_index[run] + 1), plural(table.attempts[run], 'attempt'));
  return el('div', { class: 'run-top' },
    el('div', { class: 'bar-row' }, step(-1, 'Previous run', 'k'), step(1, 'Next run', 'j'),
      el('span', { class: 'small' }, shownOrder.length > 1 ? whole.format(place + 1) + ' of ' + whole.format(shownOrder.length) : ''),
      el('button', { type: 'button', class: 'quiet', autofocus: true, click: () => dialog.close() }, 'Close')),
    el('h2', { id: 'run-title' }, name('task_id', run)),
    el('p', { class: 'small' }, parts.join(', ') + ' · ' + numbers.join(', ')),
    el('div', { class: 'badges' }, utilityBadge(run), attackBadge(run)));
}

function stepRun(by) {
  const next = shownOrder[shownOrder.indexOf(shownRun) + by];
  if (next !== undefined) openRun(next, shownOrder);
  const close = dialog.querySelector('.run-top [autofocus]');
  if (close) close.focus();
}

function startDialog(closed) {
  dialog.addEventListener('keydown', (event) => {
    if (event.target.matches('input, select') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'j' || event.key === 'ArrowRight') stepRun(1);
    if (event.key === 'k' || event.key === 'ArrowLeft') stepRun(-1);
  });
  dialog.addEventListener('click', (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener('close', () => {
    history.replaceState(null, '', location.pathname + location.search);
    const last = shownRun;
    shownRun = null;
    if (!closed(last) && cameFrom && cameFrom.isConnected) cameFrom.focus();
  });
  const wanted = /^#run=([0-9a-f]{8})$/.exec(location.hash);
  const run = wanted ? table.run_id.indexOf(wanted[1]) : -1;
  if (run >= 0) openRun(run, [run]);
}
