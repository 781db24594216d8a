// Draws the report's option objects with ECharts, in a browser and in the engine that writes .svg files alike.
//
// Options are made as JSON, which holds neither functions nor colours of a theme. A string "@fn:NAME" stands for a
// function of `functions`, and "@NAME" for a colour of the theme that is drawn.
var hippodromeCharts = (() => {
  // Single quotes: an .svg file has this in an attribute, and ECharts escapes nothing there.
  const font = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', Arial, sans-serif";
  // Series: Okabe and Ito (2008), told apart by colour-blind readers too; those that fade on the background left out.
  const themes = {
    light: {
      surface: '#ffffff', text: '#1c2128', muted: '#57606a', line: '#d0d7de', shade: 'rgba(110, 119, 129, 0.14)',
      bad: '#b42318', mark: '#8a3b00', frame: '#1c2128',
      c0: '#0072b2', c1: '#d55e00', c2: '#009e73', c3: '#cc79a7', c4: '#e69f00', c5: '#56b4e9', c6: '#5b5b5b',
      faint0: 'rgba(0, 114, 178, 0.16)',
    },
    dark: {
      surface: '#161b22', text: '#e6edf3', muted: '#9ea9b5', line: '#30363d', shade: 'rgba(139, 148, 158, 0.17)',
      bad: '#ff7b72', mark: '#ffb77a', frame: '#e6edf3',
      c0: '#56b4e9', c1: '#e69f00', c2: '#2bc497', c3: '#e39bc4', c4: '#f0e442', c5: '#7aa6ff', c6: '#b3b3b3',
      faint0: 'rgba(86, 180, 233, 0.18)',
    },
  };

  const trimmed = (value, digits) => String(Number(value.toPrecision(digits)));
  const escaped = (text) =>
    String(text).replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c]);
  const time = (us) => {
    if (us === null || us === undefined || us !== us || us === '-') return 'none';
    if (us < 999.5) return trimmed(us, 3) + ' µs';
    return us < 999500 ? trimmed(us / 1e3, 3) + ' ms' : trimmed(us / 1e6, 3) + ' s';
  };
  const count = (value) => {
    if (value === null || value === undefined || value !== value || value === '-') return 'none';
    const text = Math.abs(value) < 10 ? trimmed(value, 3) : String(Math.round(value));
    return text.replace(/\B(?=(\d{3})+(?!\d))/g, text.includes('.') ? '' : ',');
  };
  const short = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6) return trimmed(value / 1e6, 3) + ' M';
    return size >= 1e4 ? trimmed(value / 1e3, 3) + ' k' : count(value);
  };
  // A line across the plot with a short stroke at each end: [along the axis of groups, low, high].
  const whisker = (api, from, to, across) => {
    const caps = across ? [[0, 5], [0, 5]] : [[5, 0], [5, 0]];
    const stroke = { stroke: api.visual('color'), lineWidth: 1.5, fill: 'none' };
    const line = (a, b) => ({ type: 'line', shape: { x1: a[0], y1: a[1], x2: b[0], y2: b[1] }, style: stroke });
    const cap = (p, c) => line([p[0] - c[0], p[1] - c[1]], [p[0] + c[0], p[1] + c[1]]);
    return { type: 'group', children: [line(from, to), cap(from, caps[0]), cap(to, caps[1])] };
  };

  const functions = {
    time,
    count,
    short,
    micros: (value) => trimmed(value, 3) + ' µs',
    percent: (value) => trimmed(value, 3) + ' %',
    ratio: (value) => trimmed(value, 4) + ' ×',
    seconds: (value) => trimmed(value, 4) + ' s',
    // A percentile's place is the logarithm of 1 / (1 - p): 1 is 90 %, 2 is 99 %.
    percentile: (place) => trimmed(100 * (1 - Math.pow(10, -place)), place < 2 ? 3 : Math.ceil(place) + 2) + ' %',
    // What a datum says of itself: lines of text in `note`.
    note: (item) => (item.data && item.data.note ? item.data.note.map(escaped).join('<br>') : ''),
    cell: (item) => (item.data && item.data.text) || '',
    whisker_along: (_, api) =>
      whisker(api, api.coord([api.value(1), api.value(0)]), api.coord([api.value(2), api.value(0)]), true),
    whisker_up: (_, api) =>
      whisker(api, api.coord([api.value(0), api.value(1)]), api.coord([api.value(0), api.value(2)]), false),
    percentiles: (items) => {
      const head = escaped(functions.percentile(items[0].value[0]));
      return [head, ...items.map((item) => `${item.marker}${escaped(item.seriesName)} <b>${time(item.value[1])}</b>`)].join('<br>');
    },
  };

  const resolved = (value, theme) => {
    if (typeof value === 'string' && value[0] === '@') {
      const name = value.slice(1);
      if (name.startsWith('fn:') && functions[name.slice(3)]) return functions[name.slice(3)];
      return theme[name] || value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, theme));
    if (value && typeof value === 'object') {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, theme)]));
    }
    return value;
  };

  const axis = (theme) => ({
    axisLine: { lineStyle: { color: theme.muted } },
    axisTick: { lineStyle: { color: theme.muted } },
    axisLabel: { color: theme.muted, fontSize: 12 },
    nameTextStyle: { color: theme.muted, fontSize: 12 },
    splitLine: { lineStyle: { color: theme.line } },
    minorSplitLine: { lineStyle: { color: theme.line, opacity: 0.5 } },
  });

  // The theme as ECharts wants it.
  const asTheme = (theme) => ({
    color: [theme.c0, theme.c1, theme.c2, theme.c3, theme.c4, theme.c5, theme.c6],
    backgroundColor: theme.surface,
    textStyle: { fontFamily: font, color: theme.text },
    legend: { itemWidth: 16, itemGap: 9, textStyle: { color: theme.text, fontSize: 12 }, inactiveColor: theme.muted },
    categoryAxis: axis(theme),
    valueAxis: axis(theme),
    logAxis: axis(theme),
    tooltip: {
      backgroundColor: theme.surface, borderColor: theme.line, textStyle: { color: theme.text, fontSize: 13 },
      axisPointer: { lineStyle: { color: theme.muted }, crossStyle: { color: theme.muted } },
    },
    visualMap: { textStyle: { color: theme.muted, fontSize: 12 } },
  });

  const make = (dom, option, name, how) => {
    const theme = themes[name];
    const chart = echarts.init(dom, asTheme(theme), { renderer: 'svg', ...how });
    chart.setOption({ animation: false, ...resolved(option, theme) });
    return chart;
  };

  // The chart as the text of an .svg file: a picture, so what ECharts has it do under a pointer is left out.
  const toSvg = (option, name, width, height) => {
    const chart = make(null, { ...option, tooltip: { show: false } }, name, { ssr: true, width, height });
    const text = chart.renderToSVGString();
    chart.dispose();
    return text.replace(/\.[\w-]+:hover \{[^}]*\}\n?/g, '');
  };

  return { make, toSvg };
})();
