// Light, dark, or as the system has it; remembered where the browser lets a page remember.

const THEMES = [['auto', 'Auto', 'as the system has them'], ['light', 'Light', 'light'], ['dark', 'Dark', 'dark']];

function startTheme() {
  const button = byId('theme');
  let current = 'auto';
  try {
    current = localStorage.getItem('pytest-siren-theme') || 'auto';
  } catch { /* pages opened from a disk may have no storage */ }
  const show = () => {
    const [key, word, spoken] = THEMES.find(([one]) => one === current) || THEMES[0];
    if (key === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = key;
    button.textContent = word;
    button.setAttribute('aria-label', 'Colours: ' + spoken);
  };
  button.addEventListener('click', () => {
    const next = THEMES.findIndex(([one]) => one === current) + 1;
    current = THEMES[next % THEMES.length][0];
    try {
      localStorage.setItem('pytest-siren-theme', current);
    } catch { /* as above */ }
    show();
  });
  show();
}
