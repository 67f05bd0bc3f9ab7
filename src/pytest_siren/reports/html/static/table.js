// The list of runs: filtered, sorted, a page of it at a time.

const PAGE = 50;
const state = { text: '', task: '', dataset: '', model: '', attack: '', status: '', outcome: '', utility: '', sort: null, down: false, page: 0 };
const COLUMNS = [
  ['task_id', 'Task', '', null], ['dataset', 'Data set', 'wide-only', null], ['model', 'Model', 'wide-only', null], ['attack', 'Attack', 'wide-only', null],
  ['utility', 'Utility', 'wide-only', null], ['outcome', 'Outcome', '', null], ['duration', 'Time', 'n wide-only', seconds], ['cost', 'Cost', 'n wide-only', dollars],
  ['tokens', 'Tokens', 'n wide-only', (value) => whole.format(value)],
];
let found = everything;
let searchable = null;

function valueOf(column, run) {
  if (column === 'tokens') return tokens(run);
  if (column === 'utility') return utilityOutcome(run);
  if (column === 'outcome') return attackOutcome(run);
  return Array.isArray(table[column]) ? table[column][run] : name(column, run);
}

function textOf(run) {
  return ['task_id', 'dataset', 'model', 'attack', 'job', 'error_type', 'vectors'].map((column) => name(column, run)).join('\n').toLowerCase()
    + '\n' + table.run_id[run] + '\n' + (ATTACK_WORDS[attackOutcome(run)] || '').toLowerCase();
}

function matching() {
  searchable = searchable || everything.map(textOf);
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const task = state.task.trim();
  const exact = task && ['task_id', 'benign_task', 'malicious_task'].some((column) => table[column].names.includes(task));
  const ofTask = (run) => ['task_id', 'benign_task', 'malicious_task'].some((column) => exact ? name(column, run) === task : name(column, run).includes(task));
  return everything.filter((run) => words.every((word) => searchable[run].includes(word))
    && (!task || ofTask(run))
    && ['dataset', 'model', 'attack', 'status'].every((column) => !state[column] || (name(column, run) || 'none') === state[column])
    && (!state.outcome || attackOutcome(run) === state.outcome)
    && (!state.utility || utilityOutcome(run) === state.utility));
}

function sorted(runs) {
  if (!state.sort) return runs;
  const values = new Map(runs.map((run) => [run, valueOf(state.sort, run)]));
  const sign = state.down ? -1 : 1;
  const numeric = runs.length && typeof values.get(runs[0]) === 'number';
  return [...runs].sort((a, b) => sign * (numeric ? values.get(a) - values.get(b) : collator.compare(values.get(a) ?? '', values.get(b) ?? '')) || a - b);
}

function refresh() {
  found = sorted(matching());
  state.page = 0;
  drawList();
}

function setFilters(changes) {
  Object.assign(state, { text: '', task: '', dataset: '', model: '', attack: '', status: '', outcome: '', utility: '' }, changes);
  for (const field of byId('filters').elements) if (field.name) field.value = state[field.name];
  refresh();
}

function drawList() {
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
  byId('found').textContent = found.length === total ? plural(total, 'run') : whole.format(found.length) + ' of ' + plural(total, 'run');
  if (!page.length) {
    byId('list').replaceChildren(el('p', { class: 'empty' }, total ? 'No run is like that. ' : 'There are no runs. ',
      total && el('button', { type: 'button', class: 'link', click: () => setFilters({}) }, 'Clear all filters')));
    return;
  }
  const turn = (by, label) => el('button', { type: 'button', class: 'quiet', disabled: state.page + by < 0 || state.page + by >= pages, click: () => {
    state.page += by;
    drawList();
  } }, label);
  byId('list').replaceChildren(
    el('div', { class: 'scroll' }, el('table', { class: 'list' }, el('thead', {}, el('tr', {}, COLUMNS.map(headOf))), el('tbody', {}, page.map(rowOf)))),
    pages > 1 && el('div', { class: 'pages' }, turn(-1, 'Previous page'), el('span', {}, 'Page ' + whole.format(state.page + 1) + ' of ' + whole.format(pages)), turn(1, 'Next page')) || '');
}

function headOf([column, title, classes]) {
  const direction = state.sort === column ? (state.down ? 'descending' : 'ascending') : 'none';
  return el('th', { scope: 'col', class: classes, 'aria-sort': direction }, el('button', { type: 'button', 'data-sort': column, click: () => {
    // Large numbers are what one looks for first.
    const first = Array.isArray(table[column]) || column === 'tokens';
    state.down = state.sort === column ? !state.down : first;
    state.sort = column;
    refresh();
    byId('list').querySelector('[data-sort="' + column + '"]').focus();
  } }, title));
}

function rowOf(run) {
  const cell = ([column, , classes, shown]) => {
    if (column === 'task_id') {
      const several = table.run_index[run] ? ' (run ' + (table.run_index[run] + 1) + ')' : '';
      return el('td', {}, el('button', { type: 'button', class: 'link open', 'data-run': run }, name('task_id', run), several),
        el('span', { class: 'sub narrow-only' }, [name('dataset', run), name('model', run), name('attack', run) || 'no attack'].join(', ')));
    }
    if (column === 'utility') return el('td', { class: classes }, utilityBadge(run));
    if (column === 'outcome') return el('td', { class: classes }, el('span', { class: 'badges' }, el('span', { class: 'narrow-only' }, utilityBadge(run)), attackBadge(run)));
    const value = valueOf(column, run);
    if (column === 'cost' && table.unpriced[run]) return el('td', { class: classes }, 'unknown');
    return el('td', { class: classes }, shown ? shown(value) : value || 'none');
  };
  return el('tr', { click: (event) => {
    if (!String(getSelection())) openRun(run, found);
  } }, COLUMNS.map(cell));
}

function startTable() {
  const form = byId('filters');
  const select = (column, label, options) => el('label', {}, label,
    el('select', { name: column }, el('option', { value: '' }, 'any'), options.map(([value, text]) => el('option', { value }, text))));
  const ofNames = (column, label, words) => {
    const options = names(column, everything).map((one) => [one, one]);
    if (words && table[column].codes.includes(-1)) options.push(['none', words]);
    return options.length > 1 ? select(column, label, options) : null;
  };
  const present = (of, words) => Object.entries(words).filter(([key]) => everything.some((run) => of(run) === key));
  const tasks = [...names('benign_task', everything), ...names('malicious_task', everything)].slice(0, 2000);
  form.append(
    el('label', { class: 'twice' }, 'Filter', el('input', { type: 'search', name: 'text', id: 'text', placeholder: 'task, model, error, job …', autocomplete: 'off', spellcheck: 'false' })),
    el('label', {}, 'Task', el('input', { type: 'search', name: 'task', list: 'tasks', autocomplete: 'off', spellcheck: 'false' }), el('datalist', { id: 'tasks' }, tasks.map((one) => el('option', { value: one })))),
    ...[ofNames('dataset', 'Data set'), ofNames('model', 'Model'), ofNames('attack', 'Attack', 'no attack'), ofNames('status', 'Status'),
      select('outcome', 'Outcome', present(attackOutcome, ATTACK_WORDS)), select('utility', 'Utility', present(utilityOutcome, UTILITY_WORDS))].filter(Boolean),
    el('button', { type: 'button', class: 'quiet', id: 'clear', click: () => setFilters({}) }, 'Clear'));
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('input', (event) => {
    state[event.target.name] = event.target.value;
    refresh();
  });
  byId('list').addEventListener('keydown', moveInList);
  refresh();
}

function moveInList(event) {
  const by = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
  if (by && !event.ctrlKey && !event.metaKey && moveBy(by)) event.preventDefault();
}

function moveBy(by) {
  const opens = [...byId('list').querySelectorAll('.open')];
  const here = opens.indexOf(document.activeElement);
  const next = here < 0 ? opens[by > 0 ? 0 : opens.length - 1] : opens[here + by];
  if (next) next.focus();
  return Boolean(next);
}

// Brings the focus to a run in the list, on whichever page it is.
function focusRun(run) {
  const place = found.indexOf(run);
  if (place < 0) return false;
  if (Math.floor(place / PAGE) !== state.page) {
    state.page = Math.floor(place / PAGE);
    drawList();
  }
  const button = byId('list').querySelector('[data-run="' + run + '"]');
  if (button) button.focus();
  return Boolean(button);
}
