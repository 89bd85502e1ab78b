// The live tail: rows come as the hub draws them; pause holds them back, highlight marks a word.
const tail = document.querySelector("#tail");
const state = document.querySelector("#state");
const held = document.querySelector("#held");
const button = document.querySelector("#pause");
const mark = document.querySelector("#mark");
const MOST = 500;
let paused = false;
let waiting = [];
let total = 0;

function highlight(row) {
  const word = mark.value.trim().toLowerCase();
  row.querySelectorAll("mark").forEach((m) => m.replaceWith(m.textContent));
  if (!word) return;
  row.normalize();
  for (const cell of row.querySelectorAll(".open, .out, .h")) {
    for (const node of [...cell.childNodes]) {
      const at = node.nodeType === Node.TEXT_NODE ? node.data.toLowerCase().indexOf(word) : -1;
      if (at < 0) continue;
      const found = node.splitText(at);
      found.splitText(word.length);
      const m = document.createElement("mark");
      m.textContent = found.data;
      found.replaceWith(m);
    }
  }
}

function show(html) {
  const box = document.createElement("template");
  box.innerHTML = html; // made and escaped by the hub, as on every page
  const row = box.content.querySelector("tr");
  if (!row) return;
  row.classList.add("fresh");
  highlight(row);
  document.querySelector("#nothing").hidden = true;
  tail.prepend(row);
  while (tail.children.length > MOST) tail.lastElementChild.remove();
}

function pause(on) {
  paused = on;
  button.setAttribute("aria-pressed", String(on));
  button.textContent = on ? "Go on" : "Pause";
  if (!on) { waiting.forEach(show); waiting = []; held.textContent = ""; }
}

const source = new EventSource(tail.dataset.stream);
source.onopen = () => { state.textContent = "● live"; };
source.onerror = () => { state.textContent = "○ not connected, trying again"; };
source.onmessage = (event) => {
  const told = JSON.parse(event.data);
  total += told.rows.length;
  state.textContent = `● live, ${total.toLocaleString("en")} so far`;
  if (told.missed) held.textContent = `${told.missed.toLocaleString("en")} were too many to show`;
  if (paused) {
    waiting = waiting.concat(told.rows).slice(-MOST);
    held.textContent = `paused, ${waiting.length} wait`;
  } else {
    told.rows.forEach(show);
  }
};
button.addEventListener("click", () => pause(!paused));
mark.addEventListener("input", () => tail.querySelectorAll("tr").forEach(highlight));
addEventListener("pagehide", () => source.close());
