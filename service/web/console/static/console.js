// What a page of the console does by itself: relative times, the `/` key, copying, charts. Reading works without it.
(() => {
  "use strict";

  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

  function relative(seconds) {
    const size = Math.abs(seconds);
    for (const [unit, length] of UNITS) {
      if (size >= 2 * length || unit === "second") return words.format(Math.round(seconds / length), unit);
    }
  }

  function showTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const then = new Date(element.dateTime);
      if (!element.title) {
        element.title = `${element.textContent.trim()} (${then.toLocaleString()} here)`;
        if (!element.hasAttribute("data-clock")) element.dataset.exact = element.textContent;
      }
      element.textContent = element.hasAttribute("data-clock")
        ? then.toLocaleString(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })
        : relative((then - Date.now()) / 1000);
    }
  }

  function offerCopies(root) {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const label = button.textContent;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.querySelector("[data-search]") || document.querySelector(".filters input, .filters select");
    if (!search) return;
    event.preventDefault();
    search.focus();
  });

  // Colours that differ in lightness too; each line of a chart has its name in the legend.
  const LINES = ["#0b8a86", "#c25e00", "#3f6fd1", "#a3318f", "#6b7a00", "#8a5a3c", "#5b6770", "#d0342c"];
  const DARK_LINES = ["#5cc8c0", "#f3a556", "#8fb4ff", "#e59bd8", "#c5d35c", "#d3a585", "#b3bfc6", "#ff9d97"];
  const dark = matchMedia("(prefers-color-scheme: dark)");

  function draw(element) {
    const data = JSON.parse(element.dataset.chart);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const own = data.series.some((one) => one.axis);
    const lines = dark.matches ? DARK_LINES : LINES;
    element.replaceChildren();
    new uPlot({
      width: element.clientWidth - 12,
      height: Number(element.dataset.height),
      cursor: { y: false },
      axes: [axis, { ...axis, size: 60 }, ...(own ? [{ ...axis, scale: "own", side: 1, grid: { show: false } }] : [])],
      scales: { y: { range: (_plot, _least, most) => [0, Math.max(1, most * 1.05)] }, ...(own ? { own: { range: (_p, _l, most) => [0, Math.max(1, (most || 0) * 1.05)] } } : {}) },
      series: [{}, ...data.series.map((one, place) => ({
        label: one.name, stroke: lines[place % lines.length], width: 1.5, scale: one.axis ? "own" : "y",
        dash: one.axis ? [4, 3] : undefined, spanGaps: true, points: { show: one.axis ? true : data.times.length < 3, size: 4 },
      }))],
    }, [data.times, ...data.series.map((one) => one.values)], element);
  }

  function drawAll() {
    if (window.uPlot) for (const element of document.querySelectorAll("[data-chart]")) draw(element);
  }

  function begin(root) {
    showTimes(root);
    offerCopies(root);
  }

  // A page that is live is asked for again every few seconds; the server says 304 where nothing changed.
  const main = document.querySelector("main[data-live]");
  let tag = "";
  let paused = false;

  function isInUse() {
    const focused = document.activeElement;
    return document.hidden || (focused !== main && main.contains(focused)) || !getSelection().isCollapsed;
  }

  function replaceContent(fresh) {
    const open = [...main.querySelectorAll("details")].map((one) => one.open);
    fresh.querySelectorAll("details").forEach((one, place) => { one.open = open[place]; });
    const plots = [...main.querySelectorAll("[data-chart]")];
    for (const element of fresh.querySelectorAll("[data-chart]")) {
      const same = plots.find((one) => one.dataset.chart === element.dataset.chart);
      if (same) element.replaceWith(same);
    }
    // The heading keeps the button on which the focus may be.
    main.replaceChildren(main.firstElementChild, ...[...fresh.children].slice(1));
    begin(main);
    for (const element of main.querySelectorAll("[data-chart]:empty")) draw(element);
  }

  async function refresh() {
    if (paused || isInUse()) return;
    const headers = { "If-None-Match": tag };
    const response = await fetch(location.href, { headers, cache: "no-store", redirect: "manual" });
    // The session is over: the login comes.
    if (response.type === "opaqueredirect") location.reload();
    if (response.status !== 200 || paused) return;
    tag = response.headers.get("ETag") || "";
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (!isInUse()) replaceContent(document.adoptNode(page.querySelector("main")));
  }

  if (main) {
    const button = document.querySelector("[data-pause]");
    button.hidden = false;
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      // The next update comes although the focus is here.
      if (!paused) button.blur();
    });
    // A server that is unavailable is asked again.
    setInterval(() => refresh().catch(() => {}), 1000 * main.dataset.live);
  }

  begin(document);
  setInterval(() => showTimes(document), 10000);
  document.addEventListener("htmx:after:swap", () => begin(document));
  window.addEventListener("load", drawAll);
  dark.addEventListener("change", drawAll);
  let width = innerWidth;
  window.addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; drawAll(); }
  });
})();
