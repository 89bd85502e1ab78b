// Keys, dialogs, selection, histogram. Everything here is also possible without it, by forms and links.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const { base, csrf } = document.body.dataset;

export function say(text) {
  const toast = $("#said");
  if (!toast) return;
  toast.textContent = text;
  toast.classList.add("on");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("on"), 2500);
}

// -- rows

const rows = () => $$("[data-row]");
const here = () => $("[data-row].here");

function go(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(here());
  const next = all[Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + step))];
  all.forEach((row) => { row.classList.remove("here"); row.removeAttribute("aria-selected"); });
  next.classList.add("here");
  $(".open", next)?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function selected() {
  const boxes = $$('input[name="keys"][type="checkbox"]:checked');
  if (boxes.length) return boxes.map((box) => box.closest("[data-row]"));
  const row = here();
  return row && row.dataset.keys ? [row] : [];
}

function count() {
  const n = $$('input[name="keys"][type="checkbox"]:checked').length;
  const text = $("#chosen");
  if (text) text.textContent = n ? `${n} selected` : "none selected";
}

async function decide(values) {
  const page = $("[data-row-page]");
  if (page) { post([page.dataset.keys], values); return; }
  const chosen = selected();
  if (!chosen.length) { say("No group is selected: move with j and k"); return; }
  const table = $(".groups");
  for (const row of chosen) {
    await window.htmx.ajax("POST", `${base}/triage`, {
      target: row, swap: "outerHTML",
      values: { csrf, keys: row.dataset.keys, view: table.dataset.view, ...values },
    });
  }
  const first = chosen[0].dataset.id;
  const again = rows().find((row) => row.dataset.id === first);
  if (again) { again.classList.add("here"); $(".open", again)?.focus({ preventScroll: true }); }
  count();
  say(`${chosen.length === 1 ? "Group" : `${chosen.length} groups`}: ${values.action}`);
}

function post(keys, values) {
  const form = document.createElement("form");
  form.method = "post";
  form.action = `${base}/triage`;
  const add = (name, value) => {
    const input = document.createElement("input");
    input.type = "hidden"; input.name = name; input.value = value;
    form.append(input);
  };
  add("csrf", csrf);
  add("back", location.pathname.slice(base.length) + location.search);
  keys.forEach((key) => add("keys", key));
  Object.entries(values).forEach(([name, value]) => add(name, value));
  document.body.append(form);
  form.submit();
}

function ask(id, read) {
  if (!$("[data-row-page]") && !selected().length) { say("No group is selected: move with j and k"); return; }
  const dialog = $(id);
  dialog.returnValue = "";
  dialog.showModal();
  $("input:checked", dialog)?.focus();
  dialog.onclose = () => { if (dialog.returnValue === "ok") decide(read(new FormData($("form", dialog)))); };
}

const close = () => ask("#ask-close", (data) => ({ action: "close", reason: data.get("own") || data.get("reason") }));
const snooze = () => ask("#ask-snooze", (data) => ({ action: "snooze", until: data.get("until") }));

// -- keys

let waiting = 0;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, textarea, select");
  const typing = field && !["checkbox", "radio"].includes(field.type);
  const dialog = $("dialog[open]");
  if (dialog) {
    const choice = $$("input[type=radio]", dialog)[Number(event.key) - 1];
    if (!typing && choice) { choice.checked = true; choice.focus(); event.preventDefault(); }
    if (event.key === "Enter" && field && field.type !== "textarea") { event.preventDefault(); $('button[value="ok"]', dialog)?.click(); }
    return;
  }
  if (event.key === "Escape") { document.activeElement.blur(); $$("details.menu[open]").forEach((d) => { d.open = false; }); return; }
  if (typing) return;
  if (waiting && Date.now() - waiting < 1500) {
    waiting = 0;
    const link = $(`[data-go="${CSS.escape(event.key)}"]`);
    if (link) { event.preventDefault(); location.href = link.href; }
    return;
  }
  const acts = {
    j: () => go(1), k: () => go(-1), g: () => { waiting = Date.now(); }, "?": () => $("#keys")?.showModal(),
    "/": () => { $("#q")?.focus(); $("#q")?.select(); },
    a: () => decide({ action: "ack" }), c: close, s: snooze,
    x: () => { const row = $("[data-row-page]") || selected()[0]; if (row?.dataset.except) location.href = row.dataset.except; },
    Enter: () => { const row = here(); if (row && document.activeElement?.closest("[data-row]") === row) location.href = row.dataset.open; else return false; return true; },
    " ": () => { const box = here() && $('input[type="checkbox"]', here()); if (!box) return false; box.checked = !box.checked; count(); return true; },
  };
  const act = acts[event.key];
  if (!act || (["Enter", " "].includes(event.key) && event.target.closest("button, summary"))) return;
  if (act() !== false) event.preventDefault();
});

document.addEventListener("click", (event) => {
  const require = event.target.closest("a[data-exclude]");
  if (require && event.altKey) { event.preventDefault(); location.href = require.dataset.exclude; return; }
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    const text = $(copy.dataset.copy).textContent;
    (navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject()).then(() => say("Copied"), () => say("Select the text and copy it: the browser does not let the page"));
  }
  $$("details.menu[open], details.absolute[open]").forEach((d) => { if (!d.contains(event.target)) d.open = false; });
  const row = event.target.closest("[data-row]");
  if (row && !event.target.closest("a, input, button")) {
    rows().forEach((other) => other.classList.toggle("here", other === row));
  }
});
document.addEventListener("change", (event) => {
  if (event.target.id === "every") $$('input[name="keys"][type="checkbox"]').forEach((box) => { box.checked = event.target.checked; });
  if (event.target.name === "keys" || event.target.id === "every") count();
  if (event.target.id === "range") {
    const form = event.target.form;
    $$('input[name="from"], input[name="to"]', form).forEach((input) => { input.value = ""; });
    form.requestSubmit();
  }
});
document.addEventListener("htmx:responseError", (event) => {
  say(event.detail.xhr.status === 401 ? "Your session has ended: log in again" : "The hub refused this");
});

// Empty fields would only lengthen addresses that people share.
document.addEventListener("submit", (event) => {
  if (event.target.method === "get") $$("input, select", event.target).forEach((input) => { if (!input.value) input.disabled = true; });
});
window.addEventListener("pageshow", () => $$("form input:disabled, form select:disabled").forEach((input) => { input.disabled = false; }));

// -- histogram

function draw() {
  const box = $("#histogram");
  if (!box || !window.uPlot) return;
  const data = JSON.parse(box.dataset.histogram);
  const bins = data.counts[0]?.length ?? 0;
  if (!bins) { box.hidden = true; return; }
  const times = Array.from({ length: bins }, (_, n) => (data.start + n * data.step) / 1000);
  const style = getComputedStyle(document.documentElement);
  const stacked = [];
  const order = [...data.priorities.keys()].reverse(); // the least severe at the bottom
  let below = new Array(bins).fill(0);
  for (const n of order) { below = below.map((sum, at) => sum + data.counts[n][at]); stacked.push(below); }
  const series = order.map((n, at) => ({ at, color: style.getPropertyValue(`--p${data.priorities[n]}`).trim(), values: stacked[at] })).reverse();
  const muted = style.getPropertyValue("--muted").trim();
  const line = style.getPropertyValue("--line").trim();
  box.replaceChildren();
  new window.uPlot({
    tzDate: (ts) => window.uPlot.tzDate(new Date(ts * 1000), box.dataset.zone),
    width: box.clientWidth, height: box.clientHeight, padding: [8, 4, 0, 0], legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
    scales: { x: { time: true, range: [times[0], times[bins - 1] + data.step / 1000] }, y: { range: (_, low, high) => [0, Math.max(1, high)] } },
    axes: [
      { stroke: muted, grid: { show: false }, ticks: { stroke: line, size: 4 }, size: 22, gap: 2, font: "11px system-ui", space: 70,
        values: [[86400, "{MM}-{DD}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", "\n{MM}-{DD}", null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
      { stroke: muted, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 44, gap: 4, font: "11px system-ui", splits: (_, __, low, high) => [0, high / 2, high].map(Math.round), values: (_, ticks) => ticks.map((n) => (n >= 10000 ? `${Math.round(n / 1000)}k` : n)) },
    ],
    series: [{}, ...series.map((s) => ({ fill: s.color, width: 0, paths: window.uPlot.paths.bars({ size: [0.86, 40], align: 1 }), points: { show: false } }))],
    hooks: { setSelect: [(plot) => {
      if (plot.select.width < 4) return;
      const iso = (left) => new Date(Math.round(plot.posToVal(left, "x") * 1000)).toISOString().slice(0, 19) + "Z";
      const link = new URL(box.dataset.href, location.href);
      link.searchParams.set("from", iso(plot.select.left));
      link.searchParams.set("to", iso(plot.select.left + plot.select.width));
      location.href = link;
    }] },
  }, [times, ...series.map((s) => s.values)], box);
}
if (matchMedia("(max-width: 860px)").matches) $$(".facets .whole").forEach((d) => { d.open = false; });
addEventListener("load", draw);
let resized;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
count();
