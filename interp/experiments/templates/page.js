// What makes a page live: figures are drawn and tables are browsed from data packed into the page (gzip, base64). Nothing is fetched.
"use strict";

const ROWS = 25;
const SMALLEST = 0.45; // figures shrink to the window down to this, then they scroll

async function unpack(element) {
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// ---------------------------------------------------------------------- figures

function fit(chart) {
  const [plot] = chart.children;
  const scale = Math.max(SMALLEST, Math.min(1, chart.clientWidth / chart.dataset.width));
  plot.style.transform = scale < 1 ? `scale(${scale})` : "";
  plot.style.width = `${chart.dataset.width}px`;
  plot.style.height = `${chart.dataset.height}px`;
  plot.style.marginRight = `${(scale - 1) * chart.dataset.width}px`;
  plot.style.marginBottom = `${(scale - 1) * chart.dataset.height}px`;
}

async function draw() {
  const charts = document.querySelectorAll(".chart");
  if (!charts.length) return;
  charts.forEach(fit);
  const script = document.createElement("script");
  script.textContent = await unpack(document.getElementById("plotly"));
  document.head.append(script);
  for (const chart of charts) {
    const figure = JSON.parse(await unpack(chart.nextElementSibling));
    await Plotly.newPlot(chart.firstElementChild, figure.data, figure.layout, figure.config);
  }
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => fit(entry.target)));
  charts.forEach((chart) => observer.observe(chart));
}

// ---------------------------------------------------------------------- tables

const shown = (value) => {
  if (value === null) return "";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return String(value);
};

const quoted = (value) => {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function download(name, { columns, rows }) {
  const text = [columns, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const link = make("a", { download: `${name}.csv`, href: URL.createObjectURL(new Blob([text], { type: "text/csv" })) });
  link.click();
  URL.revokeObjectURL(link.href);
}

function browse(details, table) {
  const { columns, rows } = table;
  const state = { rows, first: 0, sorted: null, descending: false };
  const body = details.querySelector("tbody");
  const headers = [...details.querySelectorAll("thead th")];
  const where = make("span", { ariaLive: "polite" });
  const turn = (by) => () => { state.first += by * ROWS; show(); };
  const back = make("button", { type: "button", textContent: "Previous", onclick: turn(-1) });
  const next = make("button", { type: "button", textContent: "Next", onclick: turn(1) });
  const search = make("input", { type: "search", placeholder: "words in a row", oninput: choose });

  function choose() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    state.rows = rows.filter((row) => {
      const text = row.map(shown).join(" ").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    if (state.sorted !== null) {
      const sign = state.descending ? -1 : 1;
      state.rows.sort((a, b) => {
        const [x, y] = [a[state.sorted], b[state.sorted]];
        return x === null || y === null ? compare(x, y) : sign * compare(x, y);
      });
    }
    state.first = 0;
    show();
  }

  function show() {
    const rowsShown = state.rows.slice(state.first, state.first + ROWS);
    body.replaceChildren(...rowsShown.map((row) => make("tr", {}, ...row.map((value) => {
      const text = shown(value);
      return make("td", { textContent: text, title: text.length > 30 ? text : "" });
    }))));
    const last = state.first + rowsShown.length;
    where.textContent = last ? `Rows ${state.first + 1} to ${last} of ${state.rows.length}` : "No such rows";
    back.disabled = state.first === 0;
    next.disabled = last >= state.rows.length;
    headers.forEach((header, column) => {
      const direction = state.descending ? "descending" : "ascending";
      header.ariaSort = column === state.sorted ? direction : "none";
    });
  }

  headers.forEach((header, column) => {
    const sort = () => {
      state.descending = state.sorted === column && !state.descending;
      state.sorted = column;
      choose();
    };
    header.replaceChildren(make("button", { type: "button", textContent: columns[column], title: "Sort", onclick: sort }));
  });
  const save = make("button", { type: "button", textContent: "Download CSV", onclick: () => download(details.id.replace("table-", ""), table) });
  details.querySelector(".controls").replaceChildren(make("label", {}, "Find ", search), back, next, where, save);
  show();
}

for (const details of document.querySelectorAll("details.table")) {
  const packed = details.querySelector("script");
  if (!packed) continue;
  details.addEventListener("toggle", async () => browse(details, JSON.parse(await unpack(packed))), { once: true });
}

// A link to a table opens it.
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.tagName === "DETAILS") target.open = true;
});

draw();
