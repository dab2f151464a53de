// Draws `.kd-chart` elements from their data as vector graphics: as wide as there is room, with text of a fixed size.
// Mouse: what is told of the nearest item, drag to zoom, double click for the whole. Keyboard: arrows go from item to
// item, + and - zoom, 0 shows the whole. A click or Enter opens an item that chooses in a menu of the explorer. Colours come from the style sheet, so that they follow the theme.
window.kdlabCharts ??= (() => {
  const BASE = 12, GAP = 6, NEAR = 30, LEAST = 1 / 200; // pixels; the last is the smallest part that zooming shows
  const pen = document.createElement("canvas").getContext("2d");
  const escape = text => String(text).replace(/[&<>"]/g, c => ({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})[c]);
  const wide = (text, bold) => { pen.font = `${bold ? 700 : 400} ${BASE}px ${font}`; return pen.measureText(text).width; };
  const room = element => Math.floor(element.getBoundingClientRect().width);
  let font = "sans-serif";

  function cut(text, room, bold) {
    if (wide(text, bold) <= room) return text;
    while (text.length > 1 && wide(text + "…", bold) > room) text = text.slice(0, -1).trimEnd();
    return text + "…";
  }

  // ---- scales ------------------------------------------------------------------------------------------------------

  const forth = axis => axis.log ? Math.log10 : v => v, back = axis => axis.log ? v => 10 ** v : v => v;

  function scale(axis, range, from, to) {
    const f = forth(axis), [a, b] = range.map(f), unit = (to - from) / (b - a);
    const at = v => v === null ? NaN : from + ((axis.log && v <= 0 ? -1e3 : f(v)) - a) * unit;
    return Object.assign(at, {back: p => back(axis)(a + (p - from) / unit)});
  }

  function number(v) {
    const size = Math.abs(v);
    const text = size && size < 1e-4 ? v.toExponential(0) : (+v.toPrecision(6)).toLocaleString("en", {maximumFractionDigits: 6});
    return text.replace("-", "−");
  }

  function ticks(axis, [low, high], most) {
    const inside = v => v >= Math.min(low, high) - 1e-9 * Math.abs(high - low) && v <= Math.max(low, high) + 1e-9 * Math.abs(high - low);
    if (axis.ticks) return axis.ticks.filter(([v]) => inside(v));
    if (axis.log && Math.abs(Math.log10(high / low)) >= 1.5) {
      const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
      const step = Math.max(1, Math.ceil((last - first + 1) / most));
      return Array.from({length: Math.floor((last - first) / step) + 1}, (_, k) => 10 ** (first + k * step)).map(v => [v, number(v)]);
    }
    const rough = Math.abs(high - low) / most, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find(m => m * unit >= rough * 0.999);
    const first = Math.ceil(Math.min(low, high) / step - 1e-9), last = Math.floor(Math.max(low, high) / step + 1e-9);
    if (last - first < 2 && most < 20) return ticks(axis, [low, high], 1.5 * most);
    return Array.from({length: Math.max(0, last - first + 1)}, (_, k) => +((first + k) * step).toPrecision(12)).map(v => [v, number(v)]);
  }

  // ---- marks -------------------------------------------------------------------------------------------------------

  const ring = (n, turn, inner = 1) => Array.from({length: n}, (_, k) => {
    const angle = Math.PI * (2 * k / n + turn), r = k % 2 ? inner : 1;
    return [r * Math.sin(angle), -r * Math.cos(angle)];
  });
  const cross = [[-.35, -1], [.35, -1], [.35, -.35], [1, -.35], [1, .35], [.35, .35], [.35, 1], [-.35, 1], [-.35, .35], [-1, .35], [-1, -.35], [-.35, -.35]];
  const turned = cross.map(([x, y]) => [(x - y) * .75, (x + y) * .75]);
  const SHAPES = {s: [[-.85, -.85], [.85, -.85], [.85, .85], [-.85, .85]], D: ring(4, 0), d: ring(4, 0).map(([x, y]) => [.65 * x, y]),
    "^": ring(3, 0), v: ring(3, 1), "<": ring(3, 1.5), ">": ring(3, .5), P: cross, X: turned, "*": ring(10, 0, .45),
    h: ring(6, 0), H: ring(6, .5), p: ring(5, 0), 8: ring(8, .125)};
  const f1 = v => v.toFixed(1);

  function shape(marker, x, y, r) {
    if (!SHAPES[marker]) return `M${f1(x - r)},${f1(y)}a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
    return "M" + SHAPES[marker].map(([dx, dy]) => `${f1(x + r * dx)},${f1(y + r * dy)}`).join("L") + "z";
  }

  const dashes = {"--": "6 4", ":": "1.5 3.5"};
  const look = (mark, width = mark.width ?? 2) =>
    ` stroke-width="${width}"${dashes[mark.dash] ? ` stroke-dasharray="${dashes[mark.dash]}"` : ""}` +
    (typeof mark.strength === "number" ? ` opacity="${mark.strength}"` : "");

  const DRAW = {
    line(mark, x, y) {
      let path = "", on = false;
      mark.x.forEach((v, k) => {
        const known = v !== null && mark.y[k] !== null;
        if (known) path += `${on ? "L" : "M"}${f1(x(v))},${f1(y(mark.y[k]))}`;
        on = known;
      });
      return `<path class="l" d="${path}"${look(mark)}/>`;
    },
    points(mark, x, y) {
      const r = (mark.size ?? 8) / 2;
      const path = mark.x.map((v, k) => v === null || mark.y[k] === null ? "" : shape(mark.marker, x(v), y(mark.y[k]), r)).join("");
      return `<path class="${mark.hollow ? "h" : "p"}" d="${path}"${look(mark, mark.hollow ? 1.6 : r > 2.5 ? 0.8 : 0)}/>`;
    },
    segments(mark, x, y) {
      const path = mark.x.map((v, k) => [v, mark.y[k], mark.x2[k], mark.y2[k]].includes(null) ? ""
        : `M${f1(x(v))},${f1(y(mark.y[k]))}L${f1(x(mark.x2[k]))},${f1(y(mark.y2[k]))}`).join("");
      return `<path class="l" d="${path}"${look(mark)}/>`;
    },
    rects(mark, x, y) {
      const box = k => {
        const [a, b, c, d] = [x(mark.x[k]), y(mark.y[k]), x(mark.x2[k]), y(mark.y2[k])];
        return `M${f1(a)},${f1(b)}H${f1(c)}V${f1(d)}H${f1(a)}z`;
      };
      if (!Array.isArray(mark.strength)) return `<path class="r" d="${mark.x.map((_, k) => box(k)).join("")}"${look(mark, 0)}/>`;
      return mark.x.map((_, k) => `<path class="r" d="${box(k)}" opacity="${mark.strength[k]}"/>`).join("") + (mark.words ?? []).map((word, k) =>
        `<text class="${mark.strength[k] > 0.55 ? "o" : "t"}" x="${f1((x(mark.x[k]) + x(mark.x2[k])) / 2)}" y="${f1((y(mark.y[k]) + y(mark.y2[k])) / 2 + 4)}" text-anchor="middle">${escape(word)}</text>`).join("");
    },
    words(mark, x, y) {
      return mark.words.map((word, k) => mark.y[k] === null ? "" : `<text class="c" x="${f1(x(mark.x[k]) + ({start: 4, end: -4}[mark.anchor] ?? 0))}" y="${f1(y(mark.y[k]) - 4)}" text-anchor="${mark.anchor ?? "middle"}">${escape(word)}</text>`).join("");
    },
  };
  const group = (mark, inside) => `<g class="kd-m" style="--c:${mark.c};--d:${mark.d}">${inside}</g>`;

  function legend(marks) {
    const named = new Map();
    for (const mark of marks) if (mark.name) named.set(mark.name, [...(named.get(mark.name) ?? []), mark]);
    const swatch = mark => group(mark, mark.kind === "rects" ? `<path class="r" d="M5,3H19V13H5z"/>`
      : mark.kind === "points" ? `<path class="${mark.hollow ? "h" : "p"}" d="${shape(mark.marker, 12, 8, 5)}" stroke-width="${mark.hollow ? 1.6 : 0.8}"/>`
        : `<path class="l" d="M1,8H23"${look(mark)}/>`);
    return [...named].map(([name, all]) => `<span><svg width="24" height="16" aria-hidden="true">${all.map(swatch).join("")}</svg>${escape(name)}</span>`).join("");
  }

  // ---- one chart ---------------------------------------------------------------------------------------------------

  class Chart {
    constructor(element, kept) {
      Object.assign(this, {element, kept, data: JSON.parse(element.dataset.chart)});
      const range = JSON.stringify([this.data.x, this.data.y].map(({range, label}) => [range, label]));
      if (kept.range !== range) Object.assign(kept, {range, x: null, y: null});
      const tools = [["+", "Zoom in", 0.5], ["−", "Zoom out", 2], ["↺", "Show the whole", 0]];
      element.innerHTML = `<div class="kd-head"><b>${escape(this.data.title)}</b><span class="kd-tools">` +
        tools.map(([text, name], k) => `<button type="button" tabindex="-1" data-tool="${k}" aria-label="${name}" title="${name}">${text}</button>`).join("") +
        `</span></div><div class="kd-legend">${legend(this.data.marks)}</div><div class="kd-plot"><svg tabindex="0" role="application" ` +
        `aria-roledescription="chart" aria-label="${escape(this.data.title)}: arrow keys tell the values, plus and minus zoom" height="${this.data.height}"></svg>` +
        `<div class="kd-tip" role="status" hidden></div></div>`;
      [this.svg, this.tip] = [element.querySelector(".kd-plot svg"), element.querySelector(".kd-tip")];
      this.items = this.data.marks.flatMap((mark, series) => (mark.told ?? []).map((text, k) => ({mark, series, k, text}))
        .filter(({k}) => mark.x[k] !== null && mark.y[k] !== null));
      element.querySelectorAll("[data-tool]").forEach((button, k) => button.addEventListener("click", () => this.zoom(tools[k][2])));
      this.listen();
      new ResizeObserver(() => room(element) !== this.width && this.draw()).observe(element);
      this.draw();
      if (kept.focused && [document.body, null].includes(document.activeElement)) {
        this.svg.focus({preventScroll: true});
        if (kept.cursor !== undefined && this.items[kept.cursor]) this.tell(this.items[kept.cursor]);
      }
    }

    draw() {
      const {data, kept, element} = this, width = room(element), height = data.height;
      this.width = width;
      if (!width) return;
      font = getComputedStyle(element).fontFamily;
      const range = {x: kept.x ?? data.x.range, y: kept.y ?? data.y.range};
      const across = ticks(data.x, range.x, Math.max(2, Math.floor(width / 80))), up = ticks(data.y, range.y, Math.max(2, Math.floor(height / 45)));
      const bold = v => v === data.y.bold, most = data.y.held ? 0.4 * width : 80;
      const words = up.map(([v, word]) => cut(word, most, bold(v)));
      const left = Math.max(data.left, Math.ceil(Math.max(8, ...words.map((word, k) => wide(word, bold(up[k][0]))))) + 8 + (data.y.label ? 18 : 0));
      const bottom = height - (across.length ? 20 : 4) - (data.x.label ? 18 : 0), top = 8, right = width - 12;
      const x = scale(data.x, range.x, left, right), y = scale(data.y, range.y, bottom, top);
      Object.assign(this, {x, y, area: {left, right, top, bottom}});
      let html = "", end = -Infinity;
      up.forEach(([v], k) => {
        const at = f1(y(v));
        html += data.y.held ? "" : `<path class="g" d="M${left},${at}H${right}"/>`;
        html += `<text class="t" x="${left - 6}" y="${+at + 4}" text-anchor="end"${bold(v) ? ' font-weight="700"' : ""}>${escape(words[k])}</text>`;
      });
      for (const [v, word] of across) {
        const at = x(v), half = wide(word) / 2, middle = Math.min(Math.max(at, half), width - half);
        if (!data.x.held) html += `<path class="${v === 0 && range.x[0] < 0 ? "a" : "g"}" d="M${f1(at)},${top}V${bottom}"/>`;
        if (middle - half <= end + GAP) continue; // it would run into its neighbour
        html += `<text class="t" x="${f1(middle)}" y="${bottom + 16}" text-anchor="middle">${escape(word)}</text>`;
        end = middle + half;
      }
      html += `<path class="a" d="M${left},${top}V${bottom}H${right}"/>`;
      if (data.x.label) {  // below the middle of the area, as far as the chart is wide enough for that
        const words = cut(data.x.label, width - 8), half = wide(words) / 2 + 4;
        html += `<text class="t" x="${Math.min(Math.max((left + right) / 2, half), width - half)}" y="${height - 5}" text-anchor="middle">${escape(words)}</text>`;
      }
      if (data.y.label) html += `<text class="t" transform="translate(12,${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${escape(cut(data.y.label, height - 8))}</text>`;
      const plot = data.marks.map(mark => group(mark, DRAW[mark.kind](mark, x, y))).join("");
      const [w, h] = [right - left + 2 * GAP, bottom - top + 2 * GAP];
      html += `<svg x="${left - GAP}" y="${top - GAP}" width="${w}" height="${h}" viewBox="${left - GAP} ${top - GAP} ${w} ${h}">${plot}</svg>`;
      this.svg.setAttribute("width", width);
      this.svg.innerHTML = html + `<circle class="kd-here" r="7" hidden/><rect class="kd-drag" hidden/>`;
      [this.here, this.drag] = [this.svg.querySelector(".kd-here"), this.svg.querySelector(".kd-drag")];
      element.classList.toggle("kd-zoomed", !!(kept.x || kept.y));
      element.dataset.range = JSON.stringify(range);
    }

    // ---- telling ---------------------------------------------------------------------------------------------------

    place({mark, k}) { // where an item is, and how far a point is from it
      const [a, b] = [this.x(mark.x[k]), this.y(mark.y[k])];
      if (!mark.x2) return {x: a, y: b, far: (px, py) => Math.hypot(px - a, py - b)};
      const [c, d] = [this.x(mark.x2[k]), this.y(mark.y2[k])], beyond = (p, s, e) => Math.max(Math.min(s, e) - p, p - Math.max(s, e), 0);
      const bar = mark.kind === "rects" && this.data.y.held && !this.data.x.held; // all of its row is near
      const end = mark.kind === "rects" && Math.abs(c - a) > 1.5 * Math.abs(d - b); // of a bar
      return {x: end ? c : (a + c) / 2, y: (b + d) / 2,
        far: (px, py) => Math.hypot((bar ? 0.05 : 1) * beyond(px, a, c), beyond(py, b, d))};
    }

    seen({x, y}) {
      const {left, right, top, bottom} = this.area;
      return x >= left - GAP && x <= right + GAP && y >= top - GAP && y <= bottom + GAP;
    }

    nearest(px, py) {
      let best = null, least = NEAR;
      for (const item of this.items) {
        const at = this.place(item), far = this.seen(at) ? at.far(px, py) : Infinity;
        if (far < least) [best, least] = [item, far];
      }
      return best;
    }

    tell(item) {
      this.tip.hidden = !item;
      this.here.toggleAttribute("hidden", !item);
      if (!item) return;
      const {x, y} = this.place(item), {left, right, top, bottom} = this.area;
      this.tip.textContent = item.text + (item.mark.menu ? "\nClick, or Enter, to open" : "");
      const px = Math.min(Math.max(x, left), right), py = Math.min(Math.max(y, top), bottom), {offsetWidth: w, offsetHeight: h} = this.tip;
      this.tip.style.left = `${Math.max(0, Math.min(px + 12, this.width - w))}px`;
      this.tip.style.top = `${py - h - 10 >= -30 ? py - h - 10 : py + 14}px`;
      this.here.setAttribute("cx", px);
      this.here.setAttribute("cy", py);
    }

    open(item) {
      if (item?.mark.menu) window.kdlabChoose(this.element.closest(".kdlab"), item.mark.menu, item.mark.opens[item.k]);
    }

    step(key) {
      const {kept, items} = this, now = items[kept.cursor];
      const seen = items.map((item, k) => k).filter(k => this.seen(this.place(items[k])));
      if (!seen.length) return;
      const here = seen.indexOf(kept.cursor), series = [...new Set(seen.map(k => items[k].series))];
      if (key === "Home" || here < 0) kept.cursor = seen[0];
      else if (key === "End") kept.cursor = seen.at(-1);
      else if (key === "ArrowRight" || key === "ArrowLeft") kept.cursor = seen[(here + (key === "ArrowRight" ? 1 : seen.length - 1)) % seen.length];
      else {
        const other = series[(series.indexOf(now.series) + (key === "ArrowDown" ? 1 : series.length - 1)) % series.length];
        kept.cursor = seen.filter(k => items[k].series === other).reduce((a, b) => Math.abs(items[b].k - now.k) < Math.abs(items[a].k - now.k) ? b : a);
      }
      this.tell(items[kept.cursor]);
    }

    // ---- zooming ---------------------------------------------------------------------------------------------------

    look(name, from, to) { // show this part of an axis, in the order of its ends and inside them
      const axis = this.data[name], f = forth(axis), [a, b] = axis.range.map(f);
      if (axis.held) return;
      let [s, e] = [(f(from) - a) / (b - a), (f(to) - a) / (b - a)].sort((p, q) => p - q);
      const part = Math.max(LEAST, e - s);
      if (part >= 0.999) { this.kept[name] = null; return; }
      s = Math.min(Math.max(s, 0), 1 - part);
      this.kept[name] = [s, s + part].map(share => back(axis)(a + share * (b - a)));
    }

    zoom(factor, px, py) { // 0 shows the whole
      const {left, right, top, bottom} = this.area, item = this.items[this.kept.cursor], at = item && !this.tip.hidden ? this.place(item) : null;
      px ??= at?.x ?? (left + right) / 2;
      py ??= at?.y ?? (top + bottom) / 2;
      if (!factor) Object.assign(this.kept, {x: null, y: null});
      else {
        this.look("x", this.x.back(px + (left - px) * factor), this.x.back(px + (right - px) * factor));
        this.look("y", this.y.back(py + (bottom - py) * factor), this.y.back(py + (top - py) * factor));
      }
      this.draw();
      this.tell(item && at && this.seen(this.place(item)) ? item : null);
    }

    // ---- listening -------------------------------------------------------------------------------------------------

    listen() {
      const {svg, kept} = this;
      let from = null;
      const point = event => { const box = svg.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
      const part = (px, py) => { // what has been dragged over; a narrow drag is along one axis only
        const {left, right, top, bottom} = this.area, [x, y] = from, whole = [left, right, top, bottom];
        const [w, h] = [Math.abs(px - x), Math.abs(py - y)];
        if (Math.max(w, h) < 8) return null;
        const along = w > 3 * h || this.data.y.held ? [1, 0] : h > 3 * w || this.data.x.held ? [0, 1] : [1, 1];
        return [...(along[0] ? [Math.min(x, px), Math.max(x, px)] : whole.slice(0, 2)), ...(along[1] ? [Math.min(y, py), Math.max(y, py)] : whole.slice(2)), along];
      };
      svg.addEventListener("pointerdown", event => {
        if (event.pointerType === "mouse" && event.button === 0) { from = point(event); svg.setPointerCapture(event.pointerId); event.preventDefault(); svg.focus({preventScroll: true}); }
      });
      svg.addEventListener("pointermove", event => {
        const [px, py] = point(event), over = from && part(px, py);
        this.drag.toggleAttribute("hidden", !over);
        if (over) Object.entries({x: over[0], y: over[2], width: over[1] - over[0], height: over[3] - over[2]}).forEach(([name, v]) => this.drag.setAttribute(name, v));
        if (!from) { const item = this.nearest(px, py); this.tell(item); if (item) kept.cursor = this.items.indexOf(item); }
      });
      svg.addEventListener("pointerup", event => {
        const over = from && part(...point(event));
        from = null;
        if (over) {
          if (over[4][0]) this.look("x", this.x.back(over[0]), this.x.back(over[1]));
          if (over[4][1]) this.look("y", this.y.back(over[3]), this.y.back(over[2]));
          this.tell(null);
          this.draw();
        } else {
          const item = this.nearest(...point(event)), mouse = event.pointerType === "mouse";
          const told = mouse || (!this.tip.hidden && item === this.items[kept.cursor]); // a finger has no hover: tap twice
          if (!mouse) { this.tell(item); kept.cursor = this.items.indexOf(item); }
          if (told) this.open(item);
        }
      });
      svg.addEventListener("pointerleave", event => event.pointerType === "mouse" && this.tell(null));
      svg.addEventListener("dblclick", () => this.zoom(0));
      svg.addEventListener("wheel", event => {
        if (!event.ctrlKey) return; // the page scrolls
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 0.8 : 1.25, ...point(event));
      }, {passive: false});
      svg.addEventListener("focus", () => { kept.focused = true; });
      svg.addEventListener("blur", () => { if (svg.isConnected) { kept.focused = false; this.tell(null); } });
      svg.addEventListener("keydown", event => {
        if (event.ctrlKey || event.metaKey || event.altKey) return;
        if (/^(Arrow|Home|End)/.test(event.key)) this.step(event.key);
        else if ("+=-0".includes(event.key)) this.zoom({"-": 2, 0: 0}[event.key] ?? 0.5);
        else if (event.key === "Enter" && !this.tip.hidden) this.open(this.items[kept.cursor]);
        else if (event.key === "Escape") this.tell(null);
        else return;
        event.preventDefault();
        event.stopPropagation();
      });
    }
  }

  return box => { // draw what is new in the box of an explorer; zoom and focus outlive a picture
    const kept = box.kdlabKept ??= [];
    box.querySelectorAll(".kd-chart").forEach((element, k) => {
      if (!element.kdlab) element.kdlab = new Chart(element, kept[k] ??= {});
    });
  };
})();
