"use strict";
// Makes pages live that work without it: times in the reader's zone, tables that renew themselves, keys, search as you type.
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // ---- times

  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const precise = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
  function tellTimes(within) {
    for (const time of all("time", within)) {
      if (time.title) continue;
      const at = new Date(time.dateTime);
      const message = time.closest(".message");
      time.title = message ? at.toISOString() : time.textContent;
      time.textContent = (message ? precise : format).format(at);
    }
  }
  function ago(millis) {
    const seconds = Math.max(0, Math.round(millis / 1000));
    if (seconds < 90) return `${seconds} s ago`;
    const minutes = Math.round(seconds / 60);
    return minutes < 90 ? `${minutes} min ago` : `${Math.round(minutes / 60)} h ago`;
  }
  // Our clock and the server's may differ: how old a picture was when it came is told by the server.
  const asOf = $("#as-of");
  let shownAt = Date.now() - (Number(asOf?.dataset.age) || 0);
  function tellAge() {
    if (!asOf) return;
    asOf.textContent = ago(Date.now() - shownAt);
    asOf.title = format.format(new Date(Number(asOf.dataset.at)));
  }

  // ---- what renews itself

  const live = $("#live");
  const banner = $("#banner");
  let tag = null;
  let pause = live ? Number(live.dataset.every) * 1000 : 0;
  let asking = null;
  let pointed = false;

  function ask(url, done, failed) {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    // An inert document: no script of it runs.
    request.responseType = "document";
    request.timeout = 20000;
    request.setRequestHeader("X-Live", "1");
    if (tag && url === tag.url) request.setRequestHeader("If-None-Match", tag.etag);
    request.onload = () => done(request);
    request.onerror = request.ontimeout = failed;
    request.send();
    return request;
  }
  function warn(text) {
    if (!banner || (banner.textContent === text && !banner.hidden)) return;
    banner.textContent = text;
    banner.hidden = !text;
  }
  function busy() {
    return pointed || live.contains(document.activeElement);
  }
  // While somebody points at the table or is in it, rows stay where they are: what is new goes into the rows that are there.
  function renew(fresh) {
    if (!busy()) {
      const chosen = new Set(all("input[name=queue]:checked", live).map((box) => box.value));
      live.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
      for (const box of all("input[name=queue]", live)) box.checked = chosen.has(box.value);
    } else {
      const rows = new Map(all("tr[data-key]", fresh).map((row) => [row.dataset.key, row]));
      for (const row of all("tr[data-key]", live)) {
        const next = rows.get(row.dataset.key);
        row.classList.toggle("gone", !next);
        if (!next) continue;
        [...row.cells].forEach((cell, at) => {
          const other = next.cells[at];
          if (!other || cell.isEqualNode(other) || cell.contains(document.activeElement) || $("input", cell)) return;
          cell.replaceChildren(...[...other.childNodes].map((node) => document.importNode(node, true)));
        });
      }
    }
    tellTimes(live);
    choose();
  }
  function take(url, request) {
    asking = null;
    if (request.status === 401) return warn("Your session has ended. Sign in again to see how things are.");
    if (request.status !== 200 && request.status !== 304) return warn("The service does not answer well. What is shown is the last that is known.");
    const at = Number(request.getResponseHeader("X-As-Of"));
    warn(request.getResponseHeader("X-Banner") || "");
    if (at && asOf && asOf.dataset.at !== String(at)) {
      asOf.dataset.at = String(at);
      shownAt = Date.now() - (Number(request.getResponseHeader("X-Age")) || 0);
    }
    tellAge();
    if (request.status === 304) return;
    tag = { url, etag: request.getResponseHeader("ETag") };
    if (request.responseXML) renew(request.responseXML.body);
  }
  function poll() {
    if (document.hidden || asking) return schedule();
    const began = Date.now();
    const url = live.dataset.from || location.pathname + location.search;
    asking = ask(url, (request) => {
      take(url, request);
      // Slower where the service is slow.
      pause = Math.max(Number(live.dataset.every) * 1000, 10 * (Date.now() - began));
      schedule();
    }, () => {
      asking = null;
      warn("The service does not answer. What is shown is the last that is known.");
      pause = Math.min(pause * 2, 60000);
      schedule();
    });
  }
  let timer = null;
  function schedule() {
    clearTimeout(timer);
    timer = setTimeout(poll, pause);
  }
  if (live && pause > 0) {
    live.addEventListener("pointerenter", () => { pointed = true; });
    live.addEventListener("pointerleave", () => { pointed = false; });
    document.addEventListener("visibilitychange", () => { if (!document.hidden && !asking) { clearTimeout(timer); poll(); } });
    schedule();
  }

  // ---- messages as they are published

  const feed = $("#feed[data-feed]");
  const most = 500;
  const every = 1000;
  let waiting = [];
  let paused = false;
  let held = false;
  function tell(text) {
    $("#feed-state").textContent = text;
  }
  function sift() {
    const wanted = $("#feed-filter").value.toLowerCase();
    for (const one of all(".message", feed)) one.hidden = !one.textContent.toLowerCase().includes(wanted);
  }
  function show(nodes) {
    for (const one of nodes) {
      for (const button of all(".copy", one)) button.hidden = false;
      tellTimes(one);
    }
    feed.prepend(...nodes);
    for (const old of [...feed.children].slice(most)) old.remove();
    if (feed.children.length) $("#feed-none").hidden = true;
    sift();
  }
  function count() {
    const fresh = waiting.filter((one) => one.matches(".message")).length;
    tell(paused ? "Paused" : held ? `Held while you point at it: ${fresh} new` : "Live");
    $("#feed-pause").textContent = paused ? `Resume (${fresh} new)` : "Pause";
  }
  function listen() {
    // Nobody who looks elsewhere takes messages; it ends by itself then.
    if (document.hidden) return void setTimeout(listen, every);
    const began = Date.now();
    const again = () => setTimeout(listen, Math.max(every, 5 * (Date.now() - began)));
    ask(location.pathname + location.search, (request) => {
      if (request.status === 410) {
        tell("It has ended, because nobody looked for a minute");
        $("#feed-again").hidden = false;
        return;
      }
      if (request.status === 401) return warn("Your session has ended. Sign in again to go on.");
      if (request.status !== 200 || !request.responseXML) {
        warn("RabbitMQ or the service does not answer well. It is tried again.");
        return again();
      }
      warn("");
      const fresh = [...request.responseXML.body.children].map((node) => document.importNode(node, true));
      if (paused || held) waiting = [...fresh, ...waiting].slice(0, most);
      else show(fresh);
      count();
      again();
    }, () => {
      warn("The service does not answer. It is tried again.");
      again();
    });
  }
  function read(one) {
    const text = (selector) => $(selector, one)?.textContent ?? "";
    const body = text(".body");
    const message = { time: $("time", one).dateTime, exchange: `exchange/${text(".of")}/${text(".exchange")}`, routingKey: text(".key") };
    try { message.body = JSON.parse(body); } catch { message.body = body; }
    return message;
  }
  if (feed) {
    $("#feed-tools").hidden = false;
    $("#feed-newer").hidden = true;
    $("#feed-pause").addEventListener("click", () => {
      paused = !paused;
      if (!paused) show(waiting.splice(0));
      count();
    });
    // What somebody points at stays where it is.
    feed.addEventListener("pointerenter", () => { held = true; count(); });
    feed.addEventListener("pointerleave", () => {
      held = false;
      if (!paused) show(waiting.splice(0));
      count();
    });
    $("#feed-filter").addEventListener("input", sift);
    $("#feed-clear").addEventListener("click", () => feed.replaceChildren());
    $("#feed-save").addEventListener("click", () => {
      const shown = all(".message", feed).filter((one) => !one.hidden).map(read);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify(shown, null, 2)], { type: "application/json" }));
      link.download = "messages.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    feed.addEventListener("click", async (event) => {
      if (!event.target.matches(".copy")) return;
      try {
        await navigator.clipboard.writeText($(".body", event.target.closest(".message")).textContent);
        event.target.textContent = "Copied";
      } catch {
        event.target.textContent = "Select it and copy";
      }
    });
    for (const button of all(".copy", feed)) button.hidden = false;
    count();
    setTimeout(listen, every);
  }

  // ---- search as you type

  const filters = $("form.filters");
  let typing = null;
  function search() {
    const data = new URLSearchParams();
    for (const [name, value] of new FormData(filters)) if (value) data.append(name, value);
    const url = location.pathname + (data.size ? `?${data}` : "");
    if (url === location.pathname + location.search) return;
    history.replaceState(null, "", url);
    if (asking) asking.abort();
    asking = ask(url, (request) => { pointed = false; take(url, request); }, () => { asking = null; });
    for (const link of all("a[data-export]")) {
      const of = new URL(link.href);
      data.set("format", link.dataset.export);
      of.search = data;
      link.href = of;
    }
  }
  if (filters && live) {
    filters.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, 250); });
    filters.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); search(); });
  }

  // ---- choosing many

  function choose() {
    const boxes = all("input[name=queue]");
    const chosen = boxes.filter((box) => box.checked).length;
    for (const button of all("button[data-many]")) button.disabled = chosen === 0;
    const count = $("#chosen");
    if (count) count.textContent = chosen ? `${chosen} selected` : "None selected";
    const every = $("#every");
    if (every) {
      every.checked = chosen > 0 && chosen === boxes.length;
      every.indeterminate = chosen > 0 && chosen < boxes.length;
    }
  }
  document.addEventListener("change", (event) => {
    if (event.target.id === "every") for (const box of all("input[name=queue]")) box.checked = event.target.checked;
    if (event.target.matches("#every, input[name=queue]")) choose();
  });

  // ---- many things, a few at a time, with what became of each

  const many = $("form[data-many]");
  const step_of = 5;
  function doMany(act, names, reason) {
    const total = names.length;
    const [title, bar, lines] = [$("#progress-title"), $("#progress-bar"), $("#progress-lines")];
    let done = 0;
    many.hidden = true;
    $("#progress").hidden = false;
    const leaving = (event) => event.preventDefault();
    addEventListener("beforeunload", leaving);
    function end(text) {
      removeEventListener("beforeunload", leaving);
      title.textContent = text;
      $("#progress-end").hidden = false;
      $("#progress-end a").focus();
    }
    function next() {
      title.textContent = `${done} of ${total}`;
      bar.value = done;
      const some = names.slice(done, done + step_of);
      if (!some.length) return end(`Done: ${total} of ${total}`);
      const form = new URLSearchParams({ act, reason, typed: `${act} ${some.length} ${some.length === 1 ? "queue" : "queues"}` });
      for (const name of some) form.append("queue", name);
      const request = new XMLHttpRequest();
      request.open("POST", many.action);
      request.responseType = "document";
      request.setRequestHeader("X-Live", "1");
      request.setRequestHeader("Content-Type", "application/x-www-form-urlencoded");
      request.onload = () => {
        const rows = request.status === 200 && request.responseXML ? all("tr", request.responseXML) : [];
        if (!rows.length) return end(`Stopped after ${done} of ${total}: the service did not do the next ones (${request.status})`);
        lines.append(...rows.map((row) => document.importNode(row, true)));
        done += some.length;
        next();
      };
      request.onerror = () => end(`Stopped after ${done} of ${total}: the service does not answer. Look at what is left before you go on`);
      request.send(form);
    }
    next();
  }
  if (many) {
    many.addEventListener("submit", (event) => {
      const data = new FormData(many);
      const wanted = $("label[for=typed] code", many);
      // What is wrong is told by the service, as without a script.
      if (wanted && data.get("typed").trim() !== wanted.textContent) return;
      event.preventDefault();
      doMany(data.get("act"), data.getAll("queue"), data.get("reason"));
    });
  }

  // ---- copying

  for (const button of all("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText($(`#${button.dataset.copy}`).textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Select it and copy";
      }
    });
  }

  // ---- keys

  const keys = $("#keys");
  const places = { n: "/console/namespaces", q: "/console/queues", e: "/console/exchanges", i: "/console/inspector", s: "/console/status" };
  let going = false;
  function rows() {
    return all("main tbody tr").filter((row) => $("a", row));
  }
  function step(by) {
    const found = rows();
    const at = found.findIndex((row) => row.contains(document.activeElement));
    const next = found[at < 0 ? (by > 0 ? 0 : found.length - 1) : Math.min(found.length - 1, Math.max(0, at + by))];
    if (next) $("a", next).focus();
  }
  document.addEventListener("keydown", (event) => {
    const typed = event.target.closest("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape" && typed) return typed.blur();
    if (typed || event.ctrlKey || event.metaKey || event.altKey || (keys && keys.open && event.key !== "?")) return;
    if (going && places[event.key]) return void (location.href = places[event.key]);
    going = event.key === "g";
    if (event.key === "?") { if (keys.open) keys.close(); else keys.showModal(); }
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "x") {
      const row = document.activeElement.closest("tr");
      const box = row && $("input[type=checkbox]", row);
      if (box) box.click();
    } else if (event.key === "/") {
      const field = $("input[type=search]");
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
  const button = $("#keys-button");
  if (button && keys) {
    button.hidden = false;
    button.addEventListener("click", () => keys.showModal());
  }

  tellTimes(document);
  tellAge();
  setInterval(tellAge, 1000);
  choose();
})();
