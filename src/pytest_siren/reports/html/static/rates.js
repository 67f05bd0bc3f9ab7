// Which rows the tables of rates and of costs have.

function startRates(changed) {
  const buttons = [...document.querySelectorAll('[data-grouping]')];
  for (const button of buttons) {
    button.addEventListener('click', () => {
      for (const one of buttons) one.setAttribute('aria-pressed', String(one === button));
      for (const one of document.querySelectorAll('[data-table]')) {
        one.hidden = one.dataset.table !== button.dataset.grouping;
      }
      changed(button.dataset.grouping);
    });
  }
}
