"use strict";
// 1. poll:   /api/status and /metrics, each second or slower where the answer takes its time
// 2. parse:  the Prometheus text becomes a Map of name to series
// 3. derive: rates and quantiles between two snapshots
// 4. show:   everything by textContent; nothing that comes from the gateway is ever HTML

const WINDOW = 10; // snapshots that quantiles and the tables' rates look back
const POINTS = 120; // of a sparkline
const RESULTS = ["mptcp", "fallback", "tcp"];

// failure picks the ends that are the servers' fault or ours; what clients do wrong is in the table of ends.
const failure = (end) => end.startsWith("backend_") || end === "internal";

let snapshots = []; // {at, metrics, values}
let gateway = {};
let lastAnswer = 0, failing = 0;

// ---- parse

// parse reads the Prometheus text format 0.0.4.
function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line[0] === "#") continue;
    const m = /^([a-zA-Z_:][\w:]*)(\{.*\})? +(\S+)/.exec(line);
    if (!m) continue;
    const labels = {};
    if (m[2]) {
      for (const l of m[2].matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
        labels[l[1]] = l[2].replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
      }
    }
    if (!metrics.has(m[1])) metrics.set(m[1], []);
    metrics.get(m[1]).push({ labels, key: m[1] + (m[2] || ""), value: Number(m[3].replace("Inf", "Infinity")) });
  }
  return metrics;
}

// ---- derive

const now = () => snapshots[snapshots.length - 1];
const before = (back) => snapshots[Math.max(0, snapshots.length - 1 - back)];
const matches = (series, want) => Object.entries(want).every(([k, v]) => typeof v === "function" ? v(series.labels[k]) : series.labels[k] === v);
const series = (name, want = {}, at = now()) => (at.metrics.get("mpgate_" + name) || []).filter((s) => matches(s, want));
const sum = (name, want, at) => series(name, want, at).reduce((n, s) => n + s.value, 0);

// increase is how much the matching counters went up within the last snapshots. A series that is new counts
// from 0, and so does one that went down: it was reset.
function increase(name, want, back) {
  const then = before(back);
  let n = 0;
  for (const s of series(name, want)) {
    const old = then.values.get(s.key) || 0;
    n += s.value >= old ? s.value - old : s.value;
  }
  return n;
}

function rate(name, want, back = WINDOW) {
  const dt = (now().at - before(back).at) / 1000;
  return dt > 0 ? increase(name, want, back) / dt : null;
}

// quantiles of a histogram within the last snapshots, by linear interpolation within a bucket.
function quantile(q, name, want, back = WINDOW) {
  const buckets = new Map(), then = before(back);
  if (then === now()) return null;
  for (const s of series(name + "_bucket", want)) {
    const le = Number(s.labels.le.replace("Inf", "Infinity")), old = then.values.get(s.key) || 0;
    buckets.set(le, (buckets.get(le) || 0) + (s.value >= old ? s.value - old : s.value));
  }
  const bounds = [...buckets.keys()].sort((a, b) => a - b);
  const total = buckets.get(Infinity) || 0;
  if (!total) return null;
  let low = 0, below = 0;
  for (const le of bounds) {
    const n = buckets.get(le);
    if (n >= q * total) {
      if (le === Infinity) return { over: low };
      if (low === 0) return { under: le };
      return { value: low + (le - low) * (q * total - below) / Math.max(1, n - below) };
    }
    low = le; below = n;
  }
  return null;
}

// ---- show

function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) if (v !== undefined) e.setAttribute(k, v);
  e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}
const $ = (id) => document.getElementById(id);
const badge = (text, kind = "") => el("span", { class: "badge " + kind }, text);
const transport = (t) => t ? badge(t, RESULTS.includes(t) || t === "unix" ? t : "") : null;
const lines = (items) => el("div", { class: "lines" }, ...items.map((i) => el("div", {}, ...[i].flat())));

function figure(n, digits = 3) {
  if (n === null || n === undefined || Number.isNaN(n)) return "–";
  if (n === 0) return "0";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (n >= size) return (n / (unit === "k" ? 1e3 : size)).toPrecision(digits) + unit;
  }
  return n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toPrecision(n < 1 ? 2 : digits);
}

function duration(s) {
  if (s < 1) return (s * 1000).toPrecision(s < .1 ? 2 : 3) + " ms";
  if (s < 120) return (Number.isInteger(s) ? s : s.toPrecision(3)) + " s";
  if (s < 7200) return Math.round(s / 60) + " min";
  if (s < 172800) return Math.round(s / 3600) + " h";
  return Math.round(s / 86400) + " days";
}

function latency(q) {
  if (!q) return "–";
  if (q.under !== undefined) return "< " + duration(q.under).replace(/\.0+ /, " ");
  if (q.over !== undefined) return "> " + duration(q.over).replace(/\.0+ /, " ");
  return duration(q.value);
}

// table fills a table: columns are [heading, class], rows are arrays of cells, with .same where a row goes on
// with what the one above began.
function table(id, columns, rows, empty) {
  const t = $(id);
  if (!rows.length) {
    t.replaceChildren(el("tbody", {}, el("tr", {}, el("td", { class: "empty" }, empty))));
    return;
  }
  const head = el("tr", {}, ...columns.map(([name, kind]) => el("th", { class: kind, scope: "col" }, name)));
  const body = rows.map((cells) => el("tr", { class: cells.same ? "same" : undefined },
    ...cells.map((c, i) => el("td", { class: columns[i][1] }, ...[c].flat()))));
  t.replaceChildren(el("thead", {}, head), el("tbody", {}, ...body));
}

const tiles = [
  { name: "Requests", unit: "/s", value: (b) => rate("http_requests_total", {}, b), text: figure },
  { name: "Median duration", value: () => quantile(.5, "http_request_duration_seconds", {}), text: latency, number: seconds },
  { name: "99th percentile", value: () => quantile(.99, "http_request_duration_seconds", {}), text: latency, number: seconds },
  { name: "In flight", value: () => sum("http_requests_in_flight"), text: figure },
  { name: "Failures", unit: "/s", value: (b) => rate("exchanges_total", { end: failure }, b), text: figure, alarm: (v) => v > 0 },
  { name: "Subflows", value: () => sum("mptcp_subflows"), text: figure },
].map((t) => ({ points: [], number: (v) => v, ...t }));

function seconds(q) {
  return q ? q.value ?? q.over ?? q.under / 2 : null;
}

function svg(tag, attributes) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  return e;
}

function showTiles() {
  const place = document.querySelector(".tiles");
  if (!place.childElementCount) {
    for (const t of tiles) {
      t.figure = el("span", { class: "value" });
      t.line = svg("polyline", {});
      t.area = svg("polygon", {});
      const s = svg("svg", { viewBox: `0 0 ${POINTS - 1} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
      s.append(t.area, t.line);
      t.box = el("div", { class: "tile" }, el("div", { class: "name" }, t.name),
        el("div", { class: "figure" }, t.figure, el("span", { class: "unit" }, t.unit ? " " + t.unit : "")), s);
      place.append(t.box);
    }
  }
  for (const t of tiles) {
    const v = t.value(1), n = t.number(v);
    t.figure.textContent = t.text(v);
    t.box.classList.toggle("alarm", Boolean(t.alarm && t.alarm(v)));
    if (n === null || n === undefined) continue;
    t.points.push(n);
    if (t.points.length > POINTS) t.points.shift();
    const top = Math.max(...t.points) || 1, from = POINTS - t.points.length;
    const points = t.points.map((p, i) => `${from + i},${(96 - 86 * p / top).toFixed(1)}`);
    t.line.setAttribute("points", points.join(" "));
    t.area.setAttribute("points", `${from},100 ${points.join(" ")} ${POINTS - 1},100`);
  }
}

// named joins what the gateway lists and what only the metrics know.
function named(list, name, label) {
  const known = new Map((list || []).map((x) => [x.name, x]));
  for (const s of series(name)) if (!known.has(s.labels[label])) known.set(s.labels[label], { name: s.labels[label] });
  return [...known.values()];
}

function showListeners() {
  const rows = named(gateway.listeners, "connections_open", "listener").map((l) => {
    const mine = { listener: l.name };
    const sockets = (l.sockets || []).map((s) => [
      el("span", { class: "mono" }, s.address), " ", transport(s.transport), " ", l.tls ? badge("tls") : null, " ", s.inherited ? badge("inherited") : null,
      s.why ? el("div", { class: "why" }, s.why) : null]);
    const failed = sum("tls_handshake_errors_total", mine);
    return [l.name, lines(sockets), l.mptcp || "", figure(sum("connections_open", mine)), figure(rate("http_requests_total", mine)),
      latency(quantile(.5, "http_request_duration_seconds", mine)), latency(quantile(.99, "http_request_duration_seconds", mine)),
      figure(sum("http_requests_in_flight", mine) + sum("passthrough_connections_open", mine)),
      figure(rate("exchanges_total", { ...mine, end: failure })), figure(failed)];
  });
  table("listeners", [["Name", "name"], ["Sockets and transport", ""], ["MPTCP mode", ""], ["Open", "num"], ["Requests/s", "num"], ["Median", "num"],
    ["99 %", "num"], ["In flight", "num"], ["Failures/s", "num"], ["TLS failures", "num"]], rows, "No listeners.");
}

function showBackends() {
  if ($("backends").querySelector("button:hover, button:focus-visible")) return; // it is not replaced under the pointer
  const rows = [];
  for (const b of named(gateway.backends, "backend_connections_open", "backend")) {
    const servers = new Map((b.servers || []).map((s) => [s.address, s]));
    for (const s of series("backend_connections_open", { backend: b.name })) {
      if (!servers.has(s.labels.server)) servers.set(s.labels.server, { address: s.labels.server });
    }
    let first = true;
    for (const s of servers.values()) {
      const mine = { backend: b.name, server: s.address };
      const up = s.up ?? !series("backend_server_up", mine).some((x) => x.value === 0);
      const failures = sum("backend_connects_total", { ...mine, result: (r) => r !== "ok" });
      const row = [first ? b.name : "",
        [el("span", { class: "mono" }, s.address), s.why ? el("div", { class: "why" }, s.why) : null,
          s.asked ? el("div", { class: "why" }, "by an operator") : null,
          s.share && up ? el("div", { class: "why" }, `starts slowly, with ${Math.round(100 * s.share)} % of its weight`) : null],
        [s.asked ? badge(s.asked, "warn") : up ? badge("up", "good") : badge("down", "bad"), ...orders(b.name, s)],
        [transport(s.transport) || transport(lastTransport(mine)), s.reason ? el("div", { class: "why" }, s.reason) : null],
        figure(rate("backend_requests_total", mine)), latency(quantile(.5, "backend_first_byte_seconds", mine)), latency(quantile(.99, "backend_first_byte_seconds", mine)),
        figure(s.in_progress ?? sum("backend_requests_in_flight", mine)),
        `${figure(sum("backend_connections_open", mine))} / ${figure(sum("backend_connections_idle", mine))}`, figure(failures)];
      row.same = !first;
      rows.push(row);
      first = false;
    }
  }
  table("backends", [["Name", "name"], ["Server", ""], ["State", ""], ["Transport", ""], ["Requests/s", "num"], ["First byte", "num"], ["99 %", "num"], ["In flight", "num"],
    ["Open / idle", "num"], ["Failed connects", "num"]], rows, "No backends.");
}

// orders are the buttons that change what an operator asks of a server. Only a unix socket takes them.
function orders(backend, s) {
  if (!gateway.writable) return [];
  const states = s.asked ? ["up", s.asked === "drain" ? "down" : "drain"] : ["drain", "down"];
  return states.map((state) => {
    const b = el("button", { type: "button" }, state);
    b.addEventListener("click", () => order(`${backend}/${s.address}`, state));
    return b;
  });
}

async function order(server, state) {
  const r = await fetch("api/server", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ server, state }), signal: AbortSignal.timeout(5000) });
  if (!r.ok) alert(await r.text());
}

// lastTransport is the transport of most connections to a server, if the status does not have it.
function lastTransport(mine) {
  const got = series("backend_connects_total", { ...mine, result: "ok" }).sort((a, b) => b.value - a.value);
  return got.length ? got[0].labels.transport : "";
}

function showMPTCP() {
  const sides = [["listener", "Clients"], ["backend", "Servers"]].map(([side, title]) => {
    const counts = RESULTS.map((r) => sum("mptcp_connections_total", { side, result: r }));
    const all = counts.reduce((a, b) => a + b, 0);
    const bar = el("div", { class: "bar", role: "img", "aria-label": RESULTS.map((r, i) => `${r} ${counts[i]}`).join(", ") },
      ...RESULTS.map((r, i) => {
        const part = el("i", { class: r });
        part.style.width = all ? (100 * counts[i] / all) + "%" : "0";
        part.hidden = !counts[i];
        return part;
      }));
    const reasons = series("mptcp_fallbacks_total", { side }).filter((s) => s.value > 0).sort((a, b) => b.value - a.value);
    return el("div", { class: "side" },
      el("div", { class: "head" }, el("b", {}, title), el("span", {}, `subflows: ${figure(sum("mptcp_subflows", { side }))}`)),
      bar,
      el("div", { class: "key" }, ...RESULTS.map((r, i) => el("span", {}, el("i", { class: r }), `${r} ${figure(counts[i])}`)),
        el("span", { class: "quiet" }, all ? "of ended connections" : "no connection has ended yet")),
      reasons.length ? el("div", { class: "reasons" }, "Fallbacks by inferred reason: " + reasons.map((s) => `${s.labels.reason} ${figure(s.value)}`).join(", ")) : null);
  });
  $("mptcp").replaceChildren(...sides);
}

function showPaths() {
  const rows = named(gateway.paths, "path_up", "path").map((p) => {
    const up = p.up ?? sum("path_up", { path: p.name }) > 0;
    return [p.name, [el("span", { class: "mono" }, [p.interface, p.address].filter(Boolean).join(" ")), p.why ? el("div", { class: "why" }, p.why) : null],
      [p.role || "", " ", p.backup ? badge("backup") : null], up ? badge("up", "good") : badge("down", "bad")];
  });
  $("paths-card").hidden = !rows.length;
  table("paths", [["Name", "name"], ["Where", ""], ["Role", ""], ["State", "num"]], rows, "");
}

function showEnds() {
  const totals = new Map();
  for (const s of series("exchanges_total")) totals.set(s.labels.end, (totals.get(s.labels.end) || 0) + s.value);
  const rows = [...totals].sort((a, b) => b[1] - a[1]).map(([end, n]) => [badge(end, end === "ok" ? "good" : failure(end) ? "bad" : ""),
    figure(n), figure(rate("exchanges_total", { end }))]);
  table("ends", [["End", ""], ["Total", "num"], ["/s", "num"]], rows, "No exchange has ended yet.");
}

function showCertificates() {
  const rows = named(gateway.certificates, "tls_certificate_not_after_timestamp_seconds", "name").map((c) => {
    const at = c.not_after ? Date.parse(c.not_after) / 1000 : sum("tls_certificate_not_after_timestamp_seconds", { name: c.name });
    const left = at - Date.now() / 1000;
    return [[c.name, c.error ? el("div", { class: "why" }, c.error) : null], c.issuer || "",
      !at ? badge("none yet", "bad") : left < 0 ? badge("expired", "bad") : badge(duration(left) + " left", left < 7 * 86400 ? "warn" : "good")];
  });
  $("certificates-card").hidden = !rows.length;
  table("certificates", [["Name", "name"], ["Issuer", ""], ["Valid", "num"]], rows, "");
}

function showKernel() {
  const rows = series("kernel_mptcp_total").filter((s) => s.value > 0).map((s) => [s.labels.counter, s.value]);
  const current = series("kernel_mptcp_established");
  if (current.length) rows.unshift(["established", current[0].value]);
  $("kernel").replaceChildren(...(rows.length ? rows.map(([k, v]) => el("div", {}, el("span", {}, k), el("span", {}, figure(v, 4)))) : ["This kernel has no MPTCP counters."]));
}

function showHead() {
  const state = gateway.state || "unknown";
  $("state").textContent = state;
  $("state").className = "badge " + ({ ready: "good", draining: "warn", starting: "warn" }[state] || "");
  const parts = [gateway.version, gateway.generation && `generation ${gateway.generation}`, gateway.started && `up ${duration(Math.max(1, (Date.now() - Date.parse(gateway.started)) / 1000))}`,
    gateway.config, gateway.draining && `draining generations: ${gateway.draining}`, ...(gateway.reasons || [])];
  $("about").textContent = parts.filter(Boolean).join(" · ");
  const r = gateway.reload;
  $("refused").hidden = !(r && r.at && !r.ok);
  if (r && !r.ok) $("refused").textContent = `The last reload (${new Date(r.at).toLocaleTimeString()}) failed; the previous configuration remains active.\n${r.error || ""}`;
  const m = gateway.mptcp;
  $("host").hidden = !(m && (!m.usable || !m.enabled));
  if (m) $("host").textContent = !m.enabled ? "MPTCP is off." : `This host does not support MPTCP: ${m.why || "unknown"}.${m.remedy ? " Remedy: " + m.remedy : ""}`;
}

function showAway() {
  const away = failing > 0;
  document.body.classList.toggle("away", away);
  $("gone").hidden = !away;
  if (away) {
    $("gone").textContent = lastAnswer ? `The gateway has not answered for ${duration(Math.max(1, Math.round((Date.now() - lastAnswer) / 1000)))}. The values below are from the last answer. Retrying.`
      : "The gateway does not answer. Retrying.";
    $("state").textContent = "gone";
    $("state").className = "badge bad";
  }
  $("age").textContent = lastAnswer ? "as of " + new Date(lastAnswer).toLocaleTimeString() : "";
  document.title = away ? "mpgate (gone)" : "mpgate";
}

// ---- poll

async function fetchText(path) {
  const r = await fetch(path, { cache: "no-store", headers: { Accept: "text/plain;version=0.0.4, application/json" }, signal: AbortSignal.timeout(5000) });
  if (!r.ok) throw new Error(`${path}: ${r.status}`);
  return r.text();
}

async function poll() {
  const began = performance.now();
  try {
    const [s, m] = await Promise.all([fetchText("api/status"), fetchText("metrics")]);
    gateway = JSON.parse(s) || {};
    const metrics = parse(m), values = new Map();
    for (const list of metrics.values()) for (const x of list) values.set(x.key, x.value);
    snapshots.push({ at: performance.now(), metrics, values });
    if (snapshots.length > WINDOW + 1) snapshots.shift();
    failing = 0;
    lastAnswer = Date.now();
    for (const show of [showHead, showTiles, showListeners, showBackends, showMPTCP, showPaths, showEnds, showCertificates, showKernel]) show();
  } catch (e) {
    failing++;
    console.warn(e);
  }
  showAway();
  // A gateway with very many routes takes long to gather: it is asked for at most a twentieth of its time.
  const took = performance.now() - began;
  setTimeout(tick, failing ? 1000 : Math.max(1000 - took, 20 * took - took, 100));
}

// Nobody looks at a page that is hidden.
function tick() {
  if (document.hidden) document.addEventListener("visibilitychange", tick, { once: true });
  else poll();
}
tick();
