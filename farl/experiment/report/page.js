"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const ofFragment = (id) => (data.colors && data.colors[id]) || data.others;
  const palette = ["#0069ff", "#d27800", "#960f96", "#2f9f74", "#784b1e", "#b08f00", "#b44b78", "#4f86d9", "#7d9a3c", "#2f9db8"];
  const options = { responsive: true, displayModeBar: false };
  const drawn = [];

  function layout(extra) {
    const axis = { color: color("--muted"), gridcolor: color("--line"), zerolinecolor: color("--line"), automargin: true };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: color("--ink"), size: 12 },
      margin: { l: 46, r: 8, t: 34, b: 36 }, ...extra,
      xaxis: { ...axis, ...(extra.xaxis || {}) }, yaxis: { ...axis, ...(extra.yaxis || {}) },
    };
  }

  function draw(id, traces, more) {
    const place = typeof id === "string" ? at(id) : id;
    drawn.push(() => Plotly.react(place, traces(), layout(more()), options));
    drawn[drawn.length - 1]();
    return place;
  }

  function drawCurves() {
    const runs = [...new Set(data.curves.flatMap((chart) => chart.series.map((one) => one.run)))];
    for (const chart of data.curves) {
      const place = document.createElement("div");
      place.className = "chart";
      at("curves").append(place);
      const many = runs.length > 1;
      draw(place, () => chart.series.map((one, i) => ({
        x: one.x, y: one.y, name: one.name, mode: one.x.length > 1 ? "lines" : "markers",
        line: { color: palette[(many ? runs.indexOf(one.run) : i) % palette.length], width: 1.8 }, showlegend: chart.series.length > 1 && !many,
      })), () => ({ title: { text: chart.title, font: { size: 14 }, x: 0.02 }, legend: { orientation: "h", y: -0.18, font: { size: 10 } } }));
    }
  }

  function mapTraces(covered, highlight) {
    // One heat map whose numbers are places on a scale of colours: unvisited, wall, others, then the ten colours.
    const ids = Object.keys(data.colors).map(Number).filter((id) => id >= 0);
    const colors = [color("--unvisited"), color("--wall"), data.others, ...ids.map(ofFragment)];
    const place = (id) => (ids.includes(id) ? 3 + ids.indexOf(id) : 2);
    const z = data.map.reachable.map((row, y) => row.map((free, x) => {
      if (!free) return 1;
      if (!covered(y, x)) return 0;
      return highlight === undefined || data.map.owner[y][x] === highlight ? place(data.map.owner[y][x]) : 0;
    }));
    const scale = colors.flatMap((one, i) => [[i / colors.length, one], [(i + 1) / colors.length, one]]);
    return [{ type: "heatmap", z, zmin: -0.5, zmax: colors.length - 0.5, colorscale: scale, showscale: false, xgap: 0, ygap: 0,
      customdata: data.map.owner, hovertemplate: "x %{x}, y %{y}, fragment %{customdata}<extra></extra>" }];
  }

  const mapLayout = (title) => ({ title: { text: title, font: { size: 14 }, x: 0.02 }, margin: { l: 8, r: 8, t: 34, b: 8 },
    xaxis: { visible: false, constrain: "domain" }, yaxis: { visible: false, autorange: "reversed", scaleanchor: "x", constrain: "domain" } });

  function drawTime() {
    const { steps, mean, surprisal, threshold, fragments, fractures, recalls } = data.trace;
    const sum = (values) => { let total = 0; return values.map((value) => (total += value)); };
    const opened = sum(fractures), recalled = sum(recalls), slider = at("time");
    slider.max = Math.max(steps.length - 1, 0);
    slider.value = slider.max;
    const now = () => Number(slider.value);
    const until = () => (now() >= steps.length - 1 ? Infinity : steps[now()]);
    const covered = (y, x) => data.map.first[y][x] !== null && data.map.first[y][x] <= until();
    const redraw = [];
    if (data.map) redraw.push(() => Plotly.react(at("map"), mapTraces(covered), layout(mapLayout("cells by then, by fragment")), options));
    const top = Math.max(...surprisal.filter((value) => value !== null), 1e-9);
    redraw.push(() => Plotly.react(at("trace"), [
      { x: steps, y: surprisal, name: "highest", line: { color: "#9aa4af", width: 0.7 }, mode: "lines" },
      { x: steps, y: mean, name: "mean", line: { color: "#3b76b5", width: 1.6 }, mode: "lines" },
      { x: steps, y: threshold, name: "threshold", line: { color: "#d27800", width: 1, dash: "dash" }, mode: "lines" },
      { x: steps.filter((_, i) => fractures[i]), y: surprisal.filter((_, i) => fractures[i]), name: "fracture", mode: "markers",
        marker: { symbol: "diamond", size: 8, color: color("--paper"), line: { color: color("--ink"), width: 1.2 } } },
      { x: steps, y: steps.map(() => top * 1.6), name: "fragment", mode: "markers", showlegend: false,
        marker: { symbol: "square", size: 7, color: fragments.map(ofFragment) }, text: fragments, hovertemplate: "fragment %{text}<extra></extra>" },
    ], layout({ title: { text: "surprisal of the first environment; above it, its fragment", font: { size: 14 }, x: 0.02 },
      yaxis: { type: surprisal.every((value) => value > 0) ? "log" : "linear" }, legend: { orientation: "h", y: -0.12, font: { size: 10 } },
      shapes: [{ type: "line", x0: steps[now()], x1: steps[now()], yref: "paper", y0: 0, y1: 1, line: { color: "#d1491b", width: 2 } }] }), options));
    const tell = () => {
      if (!steps.length) return;
      let text = `timestep ${steps[now()].toLocaleString("en")}: fragment ${fragments[now()]}, surprisal ${Number(mean[now()]).toPrecision(3)}`
        + `, ${opened[now()]} fractures and ${recalled[now()]} recalls so far`;
      if (data.map) {
        let count = 0;
        data.map.reachable.forEach((row, y) => row.forEach((free, x) => { if (free && covered(y, x)) count += 1; }));
        text += `, ${Math.round((100 * count) / data.map.cells)} % of the cells`;
      }
      at("now").textContent = text;
    };
    const all = () => { redraw.forEach((one) => one()); tell(); };
    drawn.push(all);
    let waiting = false;
    slider.addEventListener("input", () => {
      tell();
      if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; redraw.forEach((one) => one()); }); }
    });
    all();
  }

  function drawGraph() {
    const { nodes, links, held, opened } = data.graph;
    const largest = Math.max(...nodes.map((node) => node.visits || 1), 1);
    const lines = (recall) => {
      const xs = [], ys = [];
      for (const [a, b, kind] of links) if (kind === recall) { xs.push(nodes[a].x, nodes[b].x, null); ys.push(nodes[a].y, nodes[b].y, null); }
      return { x: xs, y: ys, mode: "lines", hoverinfo: "skip", name: recall ? "joined by a recall" : "joined by a fracture",
        line: { color: color("--muted"), width: 1, dash: recall ? "dot" : "solid" } };
    };
    const title = `${held} fragments in memory` + (opened && opened !== held ? ` of ${opened} opened` : "") + (nodes.length < held ? `; the ${nodes.length} used most` : "");
    const place = draw("graph", () => [lines(false), lines(true), {
      x: nodes.map((node) => node.x), y: nodes.map((node) => node.y), mode: "markers+text", showlegend: false,
      text: nodes.map((node) => (data.colors[node.id] ? String(node.id) : "")), textfont: { color: color("--ink") }, textposition: "top center",
      customdata: nodes.map((node) => node.id), hovertemplate: "fragment %{customdata}<extra></extra>",
      marker: { opacity: 1, size: nodes.map((node) => 10 + 22 * Math.sqrt((node.visits || 1) / largest)), color: nodes.map((node) => ofFragment(node.id)),
        line: { color: color("--paper"), width: 1.5 } },
    }], () => ({ title: { text: title, font: { size: 14 }, x: 0.02 }, xaxis: { visible: false }, hovermode: "closest",
      yaxis: { visible: false, autorange: "reversed" }, legend: { orientation: "h", y: -0.02, font: { size: 10 } } }));
    const choose = at("choose");
    for (const node of [...nodes].sort((a, b) => a.id - b.id)) choose.append(new Option(`fragment ${node.id}`, node.id));
    const show = (id) => {
      const node = nodes.find((one) => one.id === id), panel = at("fragment");
      choose.value = id;
      panel.replaceChildren();
      const title = document.createElement("h3");
      title.textContent = `Fragment ${id}`;
      panel.append(title);
      const line = document.createElement("p");
      const known = [["visits", node.visits], ["recalls", node.recalls], ["mean surprisal", node.surprisal]];
      line.textContent = known.filter(([, value]) => value !== undefined && value !== null)
        .map(([name, value]) => `${Number(value.toPrecision(3)).toLocaleString("en")} ${name}`).join(", ");
      panel.append(line);
      if (node.frame) {
        const image = document.createElement("img");
        image.src = node.frame;
        image.alt = `what the agent saw when fragment ${id} began`;
        panel.append(image);
      }
      if (data.map) {
        const where = document.createElement("div");
        where.id = "where";
        panel.append(where);
        Plotly.react(where, mapTraces((y, x) => data.map.first[y][x] !== null, id), layout(mapLayout("its place on the map")), options);
      }
    };
    choose.addEventListener("change", () => show(Number(choose.value)));
    place.on("plotly_click", (event) => { const id = event.points[0].customdata; if (id !== undefined) show(id); });
    const most = nodes.reduce((a, b) => ((b.visits || 0) > (a.visits || 0) ? b : a));
    drawn.push(() => show(Number(choose.value || most.id)));
    show(most.id);
  }

  function drawTasks() {
    const width = Math.max(...data.tasks.map((row) => row.length));
    draw("tasks", () => [{ type: "heatmap", z: data.tasks.map((row) => [...row, ...Array(width - row.length).fill(null)]), colorscale: [[0, "#dcebf7"], [1, "#123a6b"]],
      texttemplate: "%{z:.3g}", hovertemplate: "after task %{y}, on task %{x}: %{z}<extra></extra>" }],
    () => ({ xaxis: { title: { text: "evaluated on task" }, dtick: 1 }, yaxis: { title: { text: "after task" }, dtick: 1, autorange: "reversed" } }));
  }

  if (data.curves && data.curves.length) drawCurves();
  if (data.trace) drawTime();
  if (data.graph) drawGraph();
  if (data.tasks && data.tasks.length) drawTasks();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((one) => one()));
})();
