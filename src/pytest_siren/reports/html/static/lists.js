// The slowest and dearest runs, and the errors.

const LISTED = 8;

function startLists(open, filter) {
  ranking('slowest', (run) => table.duration[run], seconds, open);
  ranking('dearest', (run) => table.cost[run] || 0, dollars, open);
  errorsByType(filter);
}

function ranking(id, value, shown, open) {
  const first = everything.filter((run) => value(run) > 0).sort((a, b) => value(b) - value(a)).slice(0, LISTED);
  if (!first.length) {
    byId(id).append(el('p', { class: 'empty' }, id === 'dearest' ? 'No run has cost anything that is known.' : 'No run has a time.'));
    return;
  }
  byId(id).append(el('ol', { class: 'ranking' }, first.map((run) => el('li', {},
    el('span', { class: 'what' }, el('button', { type: 'button', class: 'link', click: () => open(run, first) }, name('task_id', run)),
      el('span', { class: 'small' }, [name('dataset', run), name('model', run), name('attack', run) || 'no attack'].join(', '), ', ', plural(tokens(run), 'token'))),
    el('span', { class: 'much' }, shown(value(run)))))));
}

function errorsByType(filter) {
  const failed = everything.filter((run) => name('status', run) === 'error');
  if (!failed.length) {
    dropSection('errors');
    return;
  }
  const types = names('error_type', failed).map((type) => [type, failed.filter((run) => name('error_type', run) === type).length]);
  types.sort((a, b) => b[1] - a[1]);
  byId('errors-list').append(el('div', { class: 'tally' }, types.flatMap(([type, number]) => [
    el('button', { type: 'button', class: 'link', click: () => filter({ text: type, status: 'error' }) }, type),
    svg('svg', { class: 'line', viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      svg('rect', { width: (100 * number) / types[0][1], height: 10 })),
    el('span', {}, plural(number, 'run'), el('span', { class: 'small' }, ' (' + percent(number / total) + ' of all)')),
  ])));
}
