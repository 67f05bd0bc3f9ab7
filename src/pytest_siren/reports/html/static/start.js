// Everything together.

function showRuns(changes) {
  setFilters(changes);
  byId('runs').scrollIntoView();
  moveBy(1);
}

function openCouple(runs, model, job) {
  if (runs.length === 1) {
    openRun(runs[0], runs);
    return;
  }
  showRuns({ task: name('task_id', runs[0]), dataset: name('dataset', runs[0]), model, attack: name('attack', runs[0]), text: job });
}

startTheme();
startRates(startScatter());
startHeat(openCouple);
startLists(openRun, showRuns);
startTable();
// Back to where one was in the list, unless the run was opened from elsewhere.
startDialog((run) => shownOrder === found && focusRun(run));
document.addEventListener('keydown', (event) => {
  const typing = event.target.matches('input, select, textarea');
  if (dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === '/' && !typing) {
    event.preventDefault();
    byId('text').focus();
  } else if (event.key === 'Escape' && event.target.id === 'text') {
    event.target.blur();
  } else if ((event.key === 'j' || event.key === 'k') && !typing && !byId('list').contains(event.target)) {
    moveBy(event.key === 'j' ? 1 : -1);
  }
});
