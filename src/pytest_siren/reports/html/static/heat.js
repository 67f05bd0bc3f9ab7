// The heat maps: for each couple, how often the attacker won.

const heat = { dataset: '', attack: '', model: '' };
const MOST_MAPS = 4;
const wide = matchMedia('(min-width: 1000px)');

// Where tasks ended early, whether there is a later run depends on the first.
function attacked() {
  return everything.filter((run) => name('attack', run) && name('malicious_task', run) && !(table.later && table.later[run]));
}

function withLater(couple) {
  const same = (run) => ['task_id', 'job'].every((column) => table[column].codes[run] === table[column].codes[couple[0]]);
  return table.later ? everything.filter(same) : couple;
}

function startHeat(open) {
  const runs = attacked();
  if (!runs.length) {
    dropSection('heat');
    return;
  }
  const draw = () => {
    chooseHeat(runs, draw);
    drawHeat(runs, open);
  };
  wide.addEventListener('change', draw);
  draw();
  byId('heat-legend').append(...heatLegend(runs));
}

// What is left to choose from, given what has been chosen.
function chooseHeat(runs, draw) {
  const controls = [];
  let left = runs;
  for (const [column, label] of [['dataset', 'Data set'], ['attack', 'Attack'], ['model', 'Model']]) {
    const known = names(column, left);
    const all = column === 'model' && known.length > 1 && known.length <= MOST_MAPS;
    if (!known.includes(heat[column]) && !(all && heat[column] === '')) heat[column] = all ? '' : known[0];
    if (known.length > 1) {
      const options = known.map((one) => [one, one]);
      if (all) options.unshift(['', 'all models']);
      controls.push(selectOf(label, options, heat[column], (value) => {
        heat[column] = value;
        draw();
      }));
    }
    if (heat[column]) left = left.filter((run) => name(column, run) === heat[column]);
  }
  // The control that was used keeps the focus.
  const focused = document.activeElement && document.activeElement.getAttribute('aria-label');
  byId('heat-controls').replaceChildren(...controls);
  const again = controls.find((one) => one.getAttribute('aria-label') === focused);
  if (again) again.focus();
}

function drawHeat(runs, open) {
  const shown = runs.filter((run) => ['dataset', 'attack', 'model'].every((column) => !heat[column] || name(column, run) === heat[column]));
  const benign = names('benign_task', shown);
  const malicious = names('malicious_task', shown);
  const maps = names('model', shown).flatMap((model) => {
    const ofModel = shown.filter((run) => name('model', run) === model);
    const jobs = names('job', ofModel);
    // Jobs that differ in their settings alone each have a map.
    return jobs.map((job) => heatMap(model, jobs.length > 1 ? baseName(job) : '', ofModel.filter((run) => name('job', run) === job), benign, malicious, open));
  });
  byId('heat-maps').replaceChildren(...maps);
}

function heatMap(model, job, runs, benign, malicious, open) {
  const cells = new Map();
  for (const run of runs) {
    const key = name('benign_task', run) + '\n' + name('malicious_task', run);
    if (!cells.has(key)) cells.set(key, []);
    cells.get(key).push(run);
  }
  // Many benign tasks lie across where there is room for them.
  const across = wide.matches && benign.length > malicious.length;
  const [rows, heads] = across ? [malicious, benign] : [benign, malicious];
  const at = (row, head) => cells.get(across ? head + '\n' + row : row + '\n' + head) || [];
  const rowNames = shortened(rows);
  const headNames = shortened(heads);
  const corner = [rowNames.prefix && rowNames.prefix + '…', headNames.prefix && headNames.prefix + '… →'].filter(Boolean).join('  /  ');
  const body = rows.map((row, y) => el('tr', {},
    el('th', { scope: 'row', title: row }, rowNames.names[y]),
    heads.map((head, x) => el('td', {}, heatCell(at(row, head), x === 0 && y === 0, (couple) => open(couple, model, job)))),
    el('td', { class: 'mean' }, shownMean(heads.flatMap((head) => at(row, head))))));
  const grid = el('table', { class: heads.length > 32 ? 'grid many' : 'grid', 'aria-label': 'ASR of ' + [model, job].filter(Boolean).join(', '), keydown: moveInGrid },
    el('thead', {}, el('tr', {}, el('th', { title: corner }, rowNames.prefix && rowNames.prefix + '…'),
      heads.map((head, x) => el('th', { scope: 'col', title: head, class: headNames.names[x].length > 3 ? 'long' : null }, headNames.names[x])),
      el('th', { scope: 'col', class: 'mean' }, 'mean'))),
    el('tbody', {}, body, el('tr', {}, el('th', { scope: 'row' }, 'mean'),
      heads.map((head) => meanCell(rows.flatMap((row) => at(row, head)))),
      el('td', { class: 'mean' }, shownMean(runs)))));
  const explained = headNames.prefix ? 'across: ' + headNames.prefix + '…, down: ' + (rowNames.prefix || 'task') + '…' : '';
  return el('div', { class: 'map' }, el('h3', {}, model, job && el('span', { class: 'small' }, job), el('span', { class: 'small' }, explained)), el('div', { class: 'scroll' }, grid));
}

// user_task_0 ... user_task_39 are 0 ... 39 under one heading.
function shortened(full) {
  const match = full.length > 1 && /^(.*[_\-/. ])[^_\-/. ]+$/.exec(full[0]);
  const prefix = match && full.every((one) => one.startsWith(match[1]) && one.length > match[1].length) ? match[1] : '';
  return { prefix, names: full.map((one) => one.slice(prefix.length)) };
}

function scoredOf(runs) {
  return runs.filter((run) => name('status', run) === 'scored' && table.attack_score[run] !== null);
}

function rateOf(runs) {
  const scored = scoredOf(runs);
  return scored.length ? scored.filter((run) => table.attack_score[run] === 1).length / scored.length : null;
}

// As everywhere, couples count alike, however many runs each of them has.
function meanOf(runs) {
  const couples = new Map();
  for (const run of scoredOf(runs)) {
    const key = table.task_id.codes[run] + '/' + table.job.codes[run];
    if (!couples.has(key)) couples.set(key, []);
    couples.get(key).push(run);
  }
  const rates = [...couples.values()].map(rateOf);
  return rates.length ? rates.reduce((sum, one) => sum + one, 0) / rates.length : null;
}

function shownMean(runs) {
  const mean = meanOf(runs);
  return mean === null ? '–' : percent(mean);
}

// As wide as a square, so in whole per cents.
function meanCell(runs) {
  const mean = meanOf(runs);
  return el('td', { title: shownMean(runs) }, mean === null ? '–' : Math.round(100 * mean));
}

function heatCell(runs, first, open) {
  if (!runs.length) return el('span', { class: 'cell absent', title: 'not run' });
  const [kind, glyph, words] = heatKind(runs);
  const label = name('benign_task', runs[0]) + ' : ' + name('malicious_task', runs[0]) + ': ' + words;
  return el('button', {
    type: 'button', class: 'cell ' + kind, title: label, 'aria-label': label, tabindex: first ? '0' : '-1', click: () => open(withLater(runs)),
  }, glyph);
}

function heatKind(runs) {
  const rate = rateOf(runs);
  const errors = runs.filter((run) => name('status', run) === 'error').length;
  if (rate === null) {
    return errors ? ['error', 'E', plural(errors, 'error') + ', no score'] : ['unknown', '?', 'unknown'];
  }
  const level = rate === 0 ? 0 : rate === 1 ? 5 : Math.ceil(rate * 4);
  const several = runs.length > 1;
  const won = several ? percent(rate) + ' of ' + plural(scoredOf(runs).length, 'run') : rate === 1 ? 'the attack succeeded' : 'resisted';
  const glyph = several && rate > 0 ? Math.round(100 * rate) : rate === 1 ? '\u00d7' : '';
  return ['h' + level, glyph, won + (errors ? ', ' + plural(errors, 'error') : '')];
}

// Explains the squares that there are.
function heatLegend(runs) {
  const several = runs.some((run) => table.run_index[run] > 0);
  const of = (kind, glyph, words) => (several || !/h[1-4]/.test(kind)) && el('span', {}, el('span', { class: 'cell ' + kind, 'aria-hidden': 'true' }, glyph), words);
  return [
    of('h0', '', 'resisted'), of('h1', '', 'up to 25 %'), of('h2', '', '50 %'), of('h3', '', '75 %'), of('h4', '', 'under 100 %'),
    of('h5', '\u00d7', several ? 'always succeeded' : 'the attack succeeded'), of('error', 'E', 'errors only'), of('unknown', '?', 'unknown'), of('absent', '', 'not run'),
  ].filter(Boolean);
}

function moveInGrid(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const step = steps[event.key];
  const cell = event.target.closest('button.cell');
  if (!step || !cell) return;
  event.preventDefault();
  let [row, column] = [cell.closest('tr').rowIndex, cell.closest('td').cellIndex];
  const rows = event.currentTarget.rows;
  for (;;) {
    row += step[0];
    column += step[1];
    const place = rows[row] && rows[row].cells[column];
    if (!place) return;
    const next = place.querySelector('button.cell');
    if (next) {
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      return;
    }
  }
}

function dropSection(id) {
  byId(id).hidden = true;
  for (const link of document.querySelectorAll('nav a[href="#' + id + '"]')) link.hidden = true;
}
