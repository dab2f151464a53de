// Runs when the style sheet of an explorer is in the page (`this` is its element), in JupyterLab and in voila alike.
(style => {
  const set = (node, name, value) => { if (value && node.getAttribute(name) !== value) node.setAttribute(name, value); };
  if (!window.kdlabKeys) {
    // JupyterLab looks for this attribute, from the focus upwards, before it takes a key for a command of its own, and
    // its selectors are of the focus itself. Without it, "dd" deletes the cell.
    window.kdlabKeys = event => {
      const saves = (event.ctrlKey || event.metaKey) && event.key?.toLowerCase() === "s";
      const within = event.target.closest?.(".kdlab");
      if (!within) return;
      event.target.toggleAttribute("data-lm-suppress-shortcuts", !saves);
      if (saves && within !== event.target) within.removeAttribute("data-lm-suppress-shortcuts"); // from when it had the focus
    };
    window.addEventListener("keydown", window.kdlabKeys, true);
  }
  // Choosing in a menu of the explorer by its text, as a click there would: from a chart, an image, a row of a table.
  window.kdlabChoose ??= (box, menu, text) => {
    const list = box.querySelector(`.kd-set-${menu} select`), plain = words => words.replace(/\s+/g, " ").trim();
    const place = [...list?.options ?? []].findIndex(option => plain(option.textContent) === plain(text));
    if (place < 0 || list.selectedIndex === place) return;
    list.selectedIndex = place;
    list.dispatchEvent(new Event("change", {bubbles: true}));
  };
  const box = style.closest(".kdlab");
  if (!box || box.kdlabNamed) return;
  set(box, "role", "group");
  set(box, "aria-label", box.querySelector(".kd-title")?.textContent);
  box.tabIndex = -1; // a click on a picture stays inside, too
  // A slider's handle has no name, and tells its place on the track instead of the value that is shown.
  const name = () => {
    for (const slider of box.querySelectorAll(".widget-slider")) {
      const label = slider.querySelector("label")?.textContent.trim(), shown = slider.querySelector(".widget-readout");
      for (const handle of slider.querySelectorAll(".noUi-handle")) {
        set(handle, "aria-label", label);
        set(handle, "aria-valuetext", shown?.textContent);
      }
      if (shown?.isContentEditable) {
        set(shown, "role", "textbox");
        set(shown, "aria-label", label + ", as a number");
      }
    }
  };
  // The clipboard is there on this machine's own pages and on encrypted ones; elsewhere an old way does it.
  box.addEventListener("click", event => {
    const opener = event.target.closest(".kd-open");
    if (!opener) return;
    box.kdlabOpened = opener.dataset; // the picture that comes has a button in its place, which gets the focus
    window.kdlabChoose(box, opener.dataset.menu, opener.dataset.option);
  });
  box.addEventListener("click", async event => {
    const button = event.target.closest(".kd-copy");
    if (!button) return;
    const old = document.createElement("textarea");
    try { await navigator.clipboard.writeText(button.dataset.line); } catch {
      old.value = button.dataset.line;
      button.after(old);
      old.select();
      document.execCommand("copy");
      old.remove();
    }
    button.textContent = "Copied";
    button.focus();
    setTimeout(() => { button.textContent = "Copy settings"; }, 1500);
  });
  const look = () => {
    name();
    window.kdlabCharts(box);
    const {menu, option} = box.kdlabOpened ?? {}, lost = document.activeElement === document.body;
    if (menu && lost) [...box.querySelectorAll(".kd-open")].find(({dataset: d}) => d.menu === menu && d.option === option)?.focus({preventScroll: true});
  };
  box.kdlabNamed = new MutationObserver(look);
  const what = {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-valuetext"]};
  box.kdlabNamed.observe(box, what);
  look();
})(this);
