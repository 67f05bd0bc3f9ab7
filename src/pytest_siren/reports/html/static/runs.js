// The runs, each known by its position in the table.

const data = JSON.parse(byId('data').textContent);
const table = data.runs;
const total = table.run_id.length;
const everything = Array.from({ length: total }, (_, run) => run);

function name(column, run) {
  const code = table[column].codes[run];
  return code < 0 ? '' : table[column].names[code];
}

function names(column, runs) {
  const codes = new Set(runs.map((run) => table[column].codes[run]));
  codes.delete(-1);
  return [...codes].map((code) => table[column].names[code]).sort(collator.compare);
}

function baseName(path) {
  return path.split(/[\\/]/).pop();
}

function tokens(run) {
  return table.input_tokens[run] + table.output_tokens[run];
}

const ATTACK_WORDS = {
  won: 'Attack succeeded', safe: 'Attack resisted', unsure: 'Attack unknown', error: 'Error', cancelled: 'Cancelled', none: 'No attack',
};
const UTILITY_WORDS = { done: 'Task solved', failed: 'Task not solved', unsure: 'Utility unknown' };

function attackOutcome(run) {
  const status = name('status', run);
  if (status !== 'scored') return status;
  if (!name('attack', run)) return 'none';
  const score = table.attack_score[run];
  if (score === null) return 'unsure';
  return score === 1 ? 'won' : 'safe';
}

function utilityOutcome(run) {
  if (name('status', run) !== 'scored') return '';
  const score = table.benign_score[run];
  if (score === null) return 'unsure';
  return score === 1 ? 'done' : 'failed';
}

function score(value) {
  return value === null ? '?' : Number(value.toFixed(2));
}

function attackBadge(run) {
  const outcome = attackOutcome(run);
  if (outcome === 'error') return el('span', { class: 'badge error' }, name('error_type', run) || 'Error');
  const partly = outcome === 'safe' && table.attack_score[run] > 0 ? ' (' + score(table.attack_score[run]) + ')' : '';
  // Nothing was there that the model could have resisted.
  const unread = outcome === 'safe' && table.exposed[run] === 0;
  const stage = outcome === 'safe' && { blocked: ' (blocked)', attempted: ' (attempted)' }[name('stage', run)];
  return el('span', { class: 'badge ' + (unread ? 'unsure' : outcome) }, ATTACK_WORDS[outcome], partly, stage || (unread && ' (not exposed)'));
}

function utilityBadge(run) {
  const outcome = utilityOutcome(run);
  if (!outcome) return null;
  const partly = outcome === 'failed' && table.benign_score[run] > 0 ? ' (' + score(table.benign_score[run]) + ')' : '';
  return el('span', { class: 'badge ' + outcome }, UTILITY_WORDS[outcome], partly);
}
