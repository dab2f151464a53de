// Filters the perspectives and enlarges figures. Without it everything is shown, and a figure links to its SVG.
const filter = document.getElementById("filter");
const find = filter.querySelector("input");
const buttons = [...filter.querySelectorAll("button")];
const summary = document.getElementById("summary");
const sections = [...document.querySelectorAll("section[data-outcome]")];
const text = (element) => element.textContent.toLowerCase();
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
// What is shown, as it stands in the address, so that it can be shared: #show=few_shot&outcome=undecided&find=gain
let wanted = new URLSearchParams();

function apply() {
  const words = (wanted.get("find") || "").toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = (name, value) => !wanted.has(name) || wanted.get(name) === value;
  const perspectives = new Set();
  let figures = 0;
  for (const section of sections) {
    const about = text(section.querySelector(".about"));
    const fits = (more) => words.every((word) => (about + more).includes(word));
    let found = 0;
    for (const figure of section.querySelectorAll("figure")) {
      figure.hidden = !fits(text(figure.querySelector("figcaption")));
      if (!figure.hidden) found += 1;
    }
    const { show, set, outcome } = section.dataset;
    const asked = chosen("show", show) && chosen("set", set) && chosen("outcome", outcome);
    section.hidden = !(asked && (found > 0 || fits("")));
    if (!section.hidden) perspectives.add(show), figures += found;
  }
  // A row has a cell for each data set.
  for (const row of summary.querySelectorAll("tr[id]")) row.hidden = !perspectives.has(row.id.replace("row-", ""));
  for (const cell of summary.querySelectorAll("[data-set]")) cell.hidden = !chosen("set", cell.dataset.set);
  for (const button of buttons) {
    const pressed = button.name ? wanted.get(button.name) === button.value : !wanted.toString();
    button.setAttribute("aria-pressed", pressed);
  }
  summary.hidden = perspectives.size === 0;
  document.getElementById("shown").textContent =
    `${count(figures, "figure")} of ${count(perspectives.size, "perspective")} shown`;
}

function arrive() {
  const hash = location.hash.slice(1);
  const target = document.getElementById(hash);
  // A filter must not hide what a link leads to.
  if (!target) wanted = known(new URLSearchParams(hash));
  else if (target.closest("[hidden]")) wanted = new URLSearchParams();
  find.value = wanted.get("find") || "";
  apply();
  if (target) target.scrollIntoView();
}

// A link may be older than the page: a choice that is no longer offered is left out, lest nothing be shown.
function known(given) {
  const rest = new URLSearchParams();
  for (const { name, value } of buttons) if (name && given.get(name) === value) rest.set(name, value);
  if (given.get("find")) rest.set("find", given.get("find"));
  return rest;
}

filter.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (!button) return;
  if (!button.name) wanted = new URLSearchParams(), find.value = "";
  else if (wanted.get(button.name) === button.value) wanted.delete(button.name);
  else wanted.set(button.name, button.value);
  apply();
  history.pushState(null, "", `#${wanted}`);
});
find.addEventListener("input", () => {
  if (find.value.trim()) wanted.set("find", find.value.trim());
  else wanted.delete("find");
  apply();
  history.replaceState(null, "", `#${wanted}`);
});
window.addEventListener("hashchange", arrive);
filter.hidden = false;
arrive();

// A figure is enlarged in place; Esc, the button and a click beside it close it, and the focus goes back to it.
const dialog = document.querySelector("dialog");
let opener = null;
for (const link of document.querySelectorAll("figure > a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return; // the reader wants a tab of its own
    event.preventDefault();
    opener = link;
    const large = link.querySelector("img").cloneNode();
    large.src = link.href;
    dialog.querySelector(".frame").replaceChildren(large);
    dialog.querySelector("p").textContent = link.parentElement.querySelector(".says").textContent;
    dialog.querySelector("a").href = link.href;
    dialog.showModal();
  });
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => opener.focus()); // not every browser focuses a link that is clicked

// On paper nothing can be unfolded; newer browsers need only the style sheet for it.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")];
  for (const details of folded) details.open = true;
});
window.addEventListener("afterprint", () => { for (const details of folded) details.open = false; });
