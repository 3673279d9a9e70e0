// What a page of the console does by itself: relative times, the `/` key, copying, charts. Reading works without it.
(() => {
  "use strict";

  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  // A day has 24 hours here, whatever the browser's language is.
  const DAY = { hourCycle: "h23" };

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
        element.title = `${element.textContent.trim()} (${then.toLocaleString(undefined, DAY)} here)`;
        if (!element.hasAttribute("data-clock")) element.dataset.exact = element.textContent;
      }
      element.textContent = element.hasAttribute("data-clock")
        ? then.toLocaleString(undefined, { ...DAY, month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" })
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

  // A second click would do an act twice; a page that a person comes back to may send its form again.
  let sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post") return;
    if (sent.has(event.target)) event.preventDefault();
    sent.add(event.target);
  });
  window.addEventListener("pageshow", () => { sent = new WeakSet(); });

  // Colours that differ in lightness too; each line of a chart has its name in the legend.
  const LINES = ["#0b8a86", "#c25e00", "#3f6fd1", "#a3318f", "#6b7a00", "#8a5a3c", "#5b6770", "#d0342c"];
  const DARK_LINES = ["#5cc8c0", "#f3a556", "#8fb4ff", "#e59bd8", "#c5d35c", "#d3a585", "#b3bfc6", "#ff9d97"];
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // The formats of uPlot have twelve hours: "6pm", "6:30pm".
  const formatDate = (format) =>
    uPlot.fmtDate(format.replace("{h}{aa}", "{HH}:00").replace("{h}", "{HH}").replace("{aa}", ""));

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
      fmtDate: formatDate,
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

  // A page that is live asks for itself again every few seconds; the server says 304 where nothing changed. A page with
  // a tail of rows asks when a stream says that a row is new, and every half minute; every few seconds without a stream.
  const main = document.querySelector("main[data-live]");
  const STREAMED_MS = 30000;
  const AGAIN_MS = 2000;
  // To ask again would not help where the server refuses.
  const SERVED = [200, 304, 401, 403];
  const MAX_KNOWN = 5000;
  const TOP = 120;
  let tag = "";
  let paused = false;
  let asked = 0;
  let hasFailed = false;
  let updated = Date.now();
  let leaves = false;
  // The newest page that was not shown, because its reader is busy.
  let pending = null;
  // Keys of rows that are not shown yet; `more`: there are others.
  const fresh = new Set();
  const known = new Set();
  let more = false;
  // The last message of the stream: what was made before it, in any process, may lack its rows.
  let place = "";
  let counted = 0;

  function isInUse() {
    const focused = document.activeElement;
    return document.hidden || (focused !== main && main.contains(focused)) || !getSelection().isCollapsed;
  }

  // New rows would move what people read further down.
  const isReading = () => paused || isInUse() || (main.dataset.stream && scrollY > TOP);
  const keysOf = (root) => [...root.querySelectorAll("tr[data-key]")].map((row) => row.dataset.key);

  function replaceContent(page) {
    const open = [...main.querySelectorAll("details")].map((one) => one.open);
    page.querySelectorAll("details").forEach((one, place) => { one.open = open[place]; });
    const plots = [...main.querySelectorAll("[data-chart]")];
    for (const element of page.querySelectorAll("[data-chart]")) {
      const same = plots.find((one) => one.dataset.chart === element.dataset.chart);
      if (same) element.replaceWith(same);
    }
    const scrolled = [...main.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
    // The heading keeps the button on which the focus may be, and the bar is an announcement.
    main.replaceChildren(...[...main.children].slice(0, 2), ...[...page.children].slice(2));
    main.querySelectorAll(".scroll").forEach((one, place) => { one.scrollLeft = scrolled[place] ?? 0; });
    begin(main);
    for (const element of main.querySelectorAll("[data-chart]:empty")) draw(element);
  }

  function showNews() {
    const bar = main.querySelector(".news");
    if (!fresh.size && !more) return bar.replaceChildren();
    // Each text is announced: a stream of rows may not talk without a pause.
    if (bar.firstChild && Date.now() - counted < 1000 * main.dataset.live) return;
    counted = Date.now();
    const text = `↑ ${fresh.size ? fresh.size + (more ? "+" : "") : "More"} new: show`;
    if (bar.textContent === text) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "primary";
    button.textContent = text;
    button.addEventListener("click", () => {
      // The button goes, and the focus with it.
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
      refresh(true);
    });
    bar.replaceChildren(button);
  }

  function note(keys, others) {
    for (const key of keys) if (!known.has(key)) { known.add(key); fresh.add(key); }
    more = more || others;
    for (const key of known) if (known.size > MAX_KNOWN) known.delete(key);
  }

  // Show what came, or count it while its reader is busy; `asking` are the rows that were new when it was asked for.
  function take(wanted, asking) {
    if (pending && !wanted && isReading()) {
      note(keysOf(pending), asking.more);
      return showNews();
    }
    if (pending) {
      replaceContent(document.adoptNode(pending));
      pending = null;
      note(keysOf(main), false);
    }
    for (const key of [...asking.keys, ...keysOf(main)]) fresh.delete(key);
    showNews();
  }

  async function refresh(wanted = false) {
    if (!wanted && (main.dataset.stream ? document.hidden : isReading())) return;
    asked = Date.now();
    const asking = { keys: [...fresh], more };
    more = false;
    // A server that is unavailable is asked again: soon, then as by a page without a stream.
    const status = await load().catch(() => 0);
    const before = hasFailed;
    hasFailed = !SERVED.includes(status);
    if (!hasFailed) updated = Date.now();
    if (hasFailed !== before) setMode();
    if (hasFailed && !before) setTimeout(refresh, AGAIN_MS);
    if (status === 200 || status === 304) return take(wanted, asking);
    more = more || asking.more;
  }

  // The status; after 200 and 304 the newest page is known: it is `pending`, or shown.
  async function load() {
    const headers = { "If-None-Match": tag, "Console-Part": place || "main" };
    const response = await fetch(location.href, { headers, cache: "no-store", redirect: "manual" });
    if (response.type === "opaqueredirect") {
      // The session is over: the login comes. Asked for once more, it would be broken off.
      if (!leaves) location.reload();
      leaves = true;
      return 401;
    }
    if (response.status === 200) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      pending = page.querySelector("main[data-live]");
      tag = pending ? response.headers.get("ETag") || "" : tag;
    }
    return response.status;
  }

  let stream = null;
  let due = 0;
  const FIRST_STEP_MS = 500;
  const RESTED_MS = 10000;
  let shown = 0;
  let step = 0;
  // How long it waits at most; a message says it, longer where many pages are open.
  let pace = 0;

  const isLive = () => stream && stream.readyState === EventSource.OPEN && !hasFailed;

  function currentMode() {
    if (paused) return "Paused";
    if (hasFailed) return `Not updated since ${new Date(updated).toLocaleTimeString(undefined, DAY)}`;
    if (isLive()) return "Live";
    return isInUse() && !main.dataset.stream ? "Waits while you read" : `Every ${main.dataset.live} s`;
  }

  const setMode = () => { main.querySelector("[data-mode]").textContent = currentMode(); };

  // A new row is shown at once. While rows go on coming the page asks less and less often.
  function refreshSoon() {
    const now = Date.now();
    if (now - shown > RESTED_MS) step = 0;
    const wait = Math.max(0, shown + step - now);
    if (isReading() || wait) showNews();
    if (due || isReading()) return;
    step = Math.min(pace, Math.max(FIRST_STEP_MS, 2 * step));
    due = setTimeout(() => { due = 0; shown = Date.now(); refresh(); }, wait);
  }

  function listen() {
    if (stream || document.hidden) return;
    stream = new EventSource(main.dataset.stream);
    stream.addEventListener("open", setMode);
    stream.addEventListener("ready", (event) => { place = event.lastEventId; refresh(); });
    stream.addEventListener("message", (event) => {
      place = event.lastEventId;
      const news = JSON.parse(event.data);
      note(news.keys, news.more);
      pace = 1000 * news.seconds;
      refreshSoon();
    });
    stream.addEventListener("error", () => {
      // Refused: there are too many, or web stops. Meanwhile the page asks for itself.
      if (stream.readyState === EventSource.CLOSED) { stop(); setTimeout(listen, STREAMED_MS); }
      setMode();
    });
  }

  function stop() {
    if (stream) stream.close();
    stream = null;
  }

  if (main) {
    const button = document.querySelector("[data-pause]");
    button.hidden = false;
    button.addEventListener("click", () => {
      paused = !paused;
      button.setAttribute("aria-pressed", String(paused));
      setMode();
      // The next update comes although the focus is here.
      if (!paused) { button.blur(); refresh(); }
    });
    note(keysOf(main), false);
    fresh.clear();
    setMode();
    setInterval(() => {
      setMode();
      if (!isLive() || Date.now() - asked >= STREAMED_MS) refresh();
    }, 1000 * main.dataset.live);
    if (main.dataset.stream) {
      listen();
      // A browser has six connections to a server for all its tabs: those that nobody sees need none.
      document.addEventListener("visibilitychange", () => { if (document.hidden) stop(); else listen(); setMode(); });
      window.addEventListener("pagehide", stop);
    }
  }

  begin(document);
  setInterval(() => showTimes(document), 10000);
  window.addEventListener("load", drawAll);
  dark.addEventListener("change", drawAll);
  let width = innerWidth;
  window.addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; drawAll(); }
  });
})();
