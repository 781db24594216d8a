// Brings the page to life: draws its charts, again when the window or the colour scheme changes; offers them as files.
(() => {
  const charts = JSON.parse(document.getElementById('charts').textContent);
  const dark = window.matchMedia('(prefers-color-scheme: dark)');
  const drawn = new Map();
  let printing = false;

  const draw = (chart) => {
    const plot = document.getElementById(chart.id);
    if (drawn.has(chart.id)) drawn.get(chart.id).dispose();
    const theme = dark.matches && !printing ? 'dark' : 'light';
    drawn.set(chart.id, hippodromeCharts.make(plot, chart.views[chart.shown].option, theme, {}));
  };
  const drawAll = () => charts.forEach(draw);

  const save = (chart) => {
    const plot = document.getElementById(chart.id);
    const text = hippodromeCharts.toSvg(chart.views[chart.shown].option, 'light', 860, plot.clientHeight);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([text], { type: 'image/svg+xml' }));
    link.download = chart.views[chart.shown].file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  for (const chart of charts) {
    chart.shown = 0;
    const figure = document.getElementById(chart.id).closest('figure');
    figure.querySelector('.save').addEventListener('click', () => save(chart));
    const buttons = [...figure.querySelectorAll('.views button')];
    buttons.forEach((button, index) =>
      button.addEventListener('click', () => {
        chart.shown = index;
        buttons.forEach((other) => other.setAttribute('aria-pressed', String(other === button)));
        draw(chart);
      }));
    draw(chart);
    new ResizeObserver(() => drawn.get(chart.id).resize()).observe(document.getElementById(chart.id));
  }
  dark.addEventListener('change', drawAll);
  window.addEventListener('beforeprint', () => { printing = true; drawAll(); });
  window.addEventListener('afterprint', () => { printing = false; drawAll(); });
  document.documentElement.classList.add('drawn');
})();
