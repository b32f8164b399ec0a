"use strict";
// What the gateway tells by server-sent events (docs/http.md), shown. Nothing here decides what is good: the gateway does. But a page that
// hears nothing of the gateway any more says so, and takes what it shows for old.

const SILENCE_MS = 7000;          // three and a half times the gateway's beat
const AGAIN_MS = 1500;            // pause before a closed stream is asked for again
const EVENTS_MAX = 100;
const OLD_MS = 2000;              // younger records are on their way, not waiting
const FILTER_FROM = 13;           // sensors from which there is something to filter

const $ = id => document.getElementById(id);
const bridges = new Map(), sensors = new Map(), outputs = new Map();
let source = null, heard = performance.now(), away = null, began = null;
let commands = false, clock = { now_ms: Date.now(), at: performance.now(), uptime_ms: 0, synced: true };
let stage = null, broker = null, tick = 0;

// ---- small things ----

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

// Sets what differs, so that nothing flickers and a screen reader hears of a change only when there is one.
function say(element, text) { if (element.textContent !== text) element.textContent = text; }
function mark(element, name, value) { if (element.dataset[name] !== value) element.dataset[name] = value; }

function span(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  const minutes = Math.round(s / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(s / 3600);
  if (hours < 48) return `${hours} h ${String(Math.floor(s / 60) % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1024 * 1024) return `${Math.round(count / 1024)} KiB`;
  return `${(count / 1024 / 1024).toFixed(count < 10 * 1024 * 1024 ? 1 : 0)} MiB`;
}

// 12 345 with narrow spaces; from five digits on, as people read them.
function count(number) {
  const text = String(number);
  return text.length < 5 ? text : text.replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function figure(value, digits) {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value !== "number") return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e9 || Math.abs(value) < 1e-4)) return value.toPrecision(5);
  return digits > 0 ? value.toFixed(digits) : count(Math.round(value)).replace(/^-\u202f/, "-");
}

function decimals(value) {
  if (typeof value !== "number" || Number.isInteger(value)) return 0;
  return Math.min(4, (String(value).split(".")[1] || "").replace(/e.*/, "").length);
}

// The gateway's clock, which the browser's may differ from.
function wall() { return clock.now_ms + performance.now() - clock.at; }

function moment(ms) {
  const at = new Date(ms), now = new Date(wall());
  const time = at.toLocaleTimeString("en-GB", { hour12: false });
  return at.toDateString() === now.toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.error || `the gateway answered ${answer.status}`);
  return said;
}

// ---- bridges ----

const BRIDGE_TONES = { online: "good", connecting: "care", offline: "bad" };

function buildBridge(bridge) {
  const known = { bridge, spark: new Spark(true), figures: {} };
  const figures = make("dl", { class: "figures" });
  for (const [key, name] of [["queued", "waiting"], ["oldest", "oldest"], ["drain", "empty in"], ["delivered", "delivered"], ["dropped", "dropped"], ["bytes", "store"]]) {
    known.figures[key] = make("dd");
    figures.append(make("div", {}, make("dt", { text: name }), known.figures[key]));
  }
  known.state = make("b");
  known.since = make("span");
  known.button = make("button", { class: "plain", type: "button", text: "Try now", hidden: true, onclick: () => retry(known) });
  known.element = make("article", { class: "bridge" },
    make("div", { class: "who" },
      make("div", {}, make("h2", {}, bridge.id, make("span", { class: "url", text: bridge.url })), make("p", { class: "state" }, make("span", { class: "dot" }), known.state, " ", known.since)),
      known.button),
    figures, known.spark.svg);
  return known;
}

async function retry(known) {
  known.button.disabled = true;
  try { await post(`api/bridges/${known.bridge.id}/reconnect`, null); } catch (error) { say(known.since, error.message); }
  setTimeout(() => { known.button.disabled = false; }, 1000);
}

function showBridge(known) {
  const { bridge, figures } = known;
  mark(known.element, "tone", BRIDGE_TONES[bridge.state] || "off");
  say(known.state, bridge.state);
  known.button.hidden = bridge.state === "online" || !commands;
  say(figures.queued, count(bridge.queued));
  mark(figures.queued, "tone", bridge.state !== "online" && bridge.queued > 0 ? "care" : "");
  const oldest = bridge.queued > 0 && bridge.oldest_ms !== null ? bridge.oldest_ms + performance.now() - known.at : 0;
  say(figures.oldest, oldest < OLD_MS ? "–" : span(oldest));
  say(figures.drain, bridge.drain_ms === null ? "–" : span(bridge.drain_ms));
  say(figures.delivered, count(bridge.delivered));
  const dropped = bridge.dropped.reduce((sum, one) => sum + one.count, 0);
  say(figures.dropped, count(dropped));
  mark(figures.dropped, "tone", dropped > 0 ? "care" : "");
  figures.dropped.title = bridge.dropped.map(one => `${one.cause}: ${one.count}`).join("\n");
  say(figures.bytes, bytes(bridge.bytes));
  ageBridge(known);
}

function ageBridge(known) {
  const { bridge } = known;
  say(known.since, `for ${span(Math.max(0, wall() - bridge.since_ms))}${bridge.reason ? `: ${bridge.reason}` : ""}`);
  known.element.querySelector(".state").title = `since ${moment(bridge.since_ms)}`;
}

// ---- sensors ----

const TONES = { good: "good", range: "care", stale: "care", fault: "bad", waiting: "off" };

function buildSensor(sensor, body, before) {
  const known = { sensor, rows: [], body, names: sensor.values.map(value => value.name).join("\n") };
  const values = sensor.values.length ? sensor.values : [{ name: "", value: null }];
  values.forEach((value, index) => {
    const row = { spark: new Spark(false), digits: 0 };
    row.reading = make("span");
    row.unit = make("small", { text: value.unit || "" });
    row.quality = make("span");
    row.age = make("td", { class: "num age" });
    row.cell = make("td", { class: "num reading" }, row.reading, row.unit);
    row.trend = make("td", { class: "trend" });
    row.element = make("tr", { "data-first": index === 0 },
      make("td", { class: "id" }, ...(index === 0 ? [sensor.id, make("small", { text: sensor.driver })] : [])),
      make("td", { class: "what", text: value.name }), row.cell,
      make("td", { class: "quality" }, make("span", { class: "dot" }), row.quality), row.age, row.trend);
    known.rows.push(row);
    body.insertBefore(row.element, before || null);
  });
  return known;
}

function quality(sensor) {
  if (sensor.online === false && (sensor.quality === "good" || sensor.quality === "waiting")) return ["offline", "bad"];
  return [sensor.quality, TONES[sensor.quality] || "off"];
}

function showSensor(known, sensor) {
  known.sensor = sensor;
  known.at = performance.now();
  if (sensor.values.map(value => value.name).join("\n") !== known.names) {
    const last = known.rows[known.rows.length - 1].element.nextSibling;
    known.rows.forEach(row => row.element.remove());
    Object.assign(known, buildSensor(sensor, known.body, last));
    known.at = performance.now();
  }
  const [word, tone] = quality(sensor);
  known.rows.forEach((row, index) => {
    const value = sensor.values[index];
    mark(row.element, "tone", tone);
    mark(row.element, "quality", sensor.quality);
    // The whole reading has one quality: said once, at its first value.
    say(row.quality, word);
    if (!value) { say(row.reading, "–"); return; }
    row.digits = Math.max(row.digits, decimals(value.value));
    say(row.reading, figure(value.value, row.digits));
    row.cell.classList.toggle("words", typeof value.value === "string");
    const number = typeof value.value === "number" ? value.value : typeof value.value === "boolean" ? Number(value.value) : null;
    // What is not good is a gap in the line, never a point on it; out of range it was measured all the same.
    const counts = number !== null && (sensor.quality === "good" || sensor.quality === "range");
    if (number !== null && !row.spark.svg.isConnected) row.trend.append(row.spark.svg);
    row.spark.add(performance.now(), counts ? number : null);
  });
  ageSensor(known);
}

function ageSensor(known) {
  const age = known.sensor.age_ms === null ? "–" : span(known.sensor.age_ms + performance.now() - known.at);
  known.rows.forEach(row => say(row.age, age));
}

// ---- actuators ----

function buildOutput(actuator) {
  const known = { actuator, buttons: [] };
  known.state = make("b");
  known.note = make("span");
  known.answer = make("p", { class: "answer", role: "status" });
  const words = make("div", { class: "words", role: "group", "aria-label": `set ${actuator.id}` });
  if (commands) {
    for (const word of actuator.words) {
      const button = make("button", { type: "button", text: word, "data-word": word, "aria-pressed": "false", onclick: () => set(known, word) });
      known.buttons.push(button);
      words.append(button);
    }
    if (!actuator.words.length) {
      const input = make("input", { "aria-label": `value for ${actuator.id}`, autocomplete: "off" });
      words.append(make("form", { onsubmit: event => { event.preventDefault(); set(known, input.value); } }, input, make("button", { text: "set" })));
    }
  }
  known.element = make("li", { id: `output-${actuator.id}` },
    make("span", { class: "name" }, actuator.id, make("span", { class: "at", text: `${actuator.driver}${actuator.at ? `, ${actuator.at}` : ""}` })),
    make("span", { class: "now" }, known.state, known.note), words, known.answer);
  return known;
}

async function set(known, value) {
  known.buttons.forEach(button => { button.disabled = true; });
  known.asked = true;
  mark(known.answer, "tone", "");
  say(known.answer, `${value} …`);
  const began = performance.now();
  const [result, reason] = await post(`api/actuators/${known.actuator.id}/set`, value)
    .then(ack => [ack.result, ack.reason], error => ["no answer", error.message]);
  known.buttons.forEach(button => { button.disabled = false; });
  mark(known.answer, "tone", result === "done" ? "good" : "bad");
  say(known.answer, `${value}: ${result}${reason ? `, ${reason}` : ""} (${Math.round(performance.now() - began)} ms)`);
}

function showOutput(known, actuator) {
  known.actuator = actuator;
  say(known.state, actuator.value === null ? "unknown" : actuator.value);
  const since = actuator.since_ms === null ? "" : `, since ${moment(actuator.since_ms)}`;
  say(known.note, `${actuator.online === false ? ", does not answer" : ""}${since}`);
  known.buttons.forEach(button => button.setAttribute("aria-pressed", String(button.textContent === actuator.value)));
  if (!known.asked && actuator.last) {
    const { result, reason, at_ms } = actuator.last;
    say(known.answer, `last command: ${result}${reason ? `, ${reason}` : ""}${at_ms ? `, ${moment(at_ms)}` : ""}`);
  }
}

// ---- demo, events, head ----

function showStage() {
  $("stage").hidden = !stage;
  if (!stage) return;
  mark(document.body, "cable", stage.link && stage.cloud ? "whole" : "cut");
  say($("link"), stage.link ? "Cut the link" : "Mend the link");
  for (const key of ["told", "arrived", "lost", "doubled", "repeated"]) say($(key), count(stage[key]));
  for (const key of ["lost", "doubled"]) mark($(key), "tone", stage[key] ? "bad" : "good");
}

function addEvents(events) {
  const list = $("events");
  for (const event of events) {
    list.prepend(make("li", { "data-tone": event.trouble ? "bad" : "good" },
      make("time", { datetime: new Date(event.at_ms).toISOString(), text: (event.synced ? "" : "≈ ") + moment(event.at_ms), title: event.synced ? null : "the clock had not been set" }),
      make("span", { class: "who", text: event.subject }), make("span", { class: "text", text: event.text })));
  }
  while (list.children.length > EVENTS_MAX) list.lastChild.remove();
  $("calm").hidden = list.children.length > 0;
}

function fact(name, text, tone = "") {
  const id = `fact-${name}`;
  let element = $(id);
  if (!element) {
    element = make("dd", { id });
    $("facts").append(make("div", {}, make("dt", { text: name }), element));
  }
  say(element, text);
  mark(element, "tone", tone);
}

function showHead() {
  fact("up", span(clock.uptime_ms + performance.now() - clock.at));
  fact("clock", clock.synced ? "set" : "not set", clock.synced ? "" : "care");
  if (broker) {
    const there = broker.external;
    if (there) fact("broker", there.state === "online" ? there.url : `${there.url} ${there.state}`, there.state === "online" ? "" : "care");
    else fact("broker", broker.listen.join(", ") || "–");
    if (!there) fact("clients", count(broker.clients));
  }
  const bad = [...sensors.values()].filter(known => quality(known.sensor)[1] !== "good");
  const waiting = bad.length && bad.every(known => known.sensor.quality === "waiting" && known.sensor.online !== false);
  const down = [...bridges.values()].filter(known => known.bridge.state !== "online");
  const words = [];
  if (down.length) words.push(`${down.map(known => known.bridge.id).join(", ")} ${down.every(known => known.bridge.state === "connecting") ? "connecting" : "offline"}`);
  else if (bridges.size) words.push(bridges.size === 1 ? `${[...bridges.keys()][0]} online` : `all ${bridges.size} bridges online`);
  if (waiting) words.push("waiting for the first readings");
  else if (bad.length) words.push(bad.length <= 3 ? `${bad.map(known => known.sensor.id).join(", ")} not good` : `${bad.length} of ${sensors.size} sensors not good`);
  else if (sensors.size) words.push(sensors.size === 1 ? "the sensor is good" : `all ${sensors.size} sensors good`);
  const tone = away ? "off" : down.some(known => known.bridge.state === "offline") || bad.some(known => quality(known.sensor)[1] === "bad") ? "bad" : down.length || bad.length ? "care" : "good";
  mark($("sum").querySelector(".dot"), "tone", tone);
  say($("sum-text"), away ? "no word from the gateway" : words.join(" · ") || "up");
}

// ---- what comes in ----

function takeClock(told) {
  clock = { now_ms: told.now_ms, at: performance.now(), uptime_ms: told.uptime_ms, synced: told.synced };
}

function takeAll(overview) {
  takeClock(overview);
  began ??= performance.now();
  commands = overview.commands;
  say($("gateway"), overview.gateway);
  document.title = `${overview.gateway} · Tidegate`;
  say($("version"), `Tidegate ${overview.version}`);

  const sparks = new Map([...bridges].map(([id, known]) => [id, known.spark]));
  bridges.clear();
  $("cloud").replaceChildren();
  for (const bridge of overview.bridges) {
    const known = buildBridge(bridge);
    if (sparks.has(bridge.id)) { known.spark.svg.replaceWith(sparks.get(bridge.id).svg); known.spark = sparks.get(bridge.id); }
    bridges.set(bridge.id, known);
    $("cloud").append(known.element);
    takeBridge(bridge);
  }

  const table = document.querySelector("#sensors table");
  const lines = new Map([...sensors].map(([id, known]) => [id, known]));
  table.querySelectorAll("tbody").forEach(body => body.remove());
  sensors.clear();
  for (const bus of overview.buses) {
    const body = make("tbody", {}, make("tr", {}, make("th", { class: "bus", colspan: 6, scope: "rowgroup" }, make("b", { text: bus.id || "no bus" }), bus.device ? ` ${bus.device}` : "")));
    table.append(body);
    for (const sensor of bus.sensors) {
      const known = buildSensor(sensor, body);
      const before = lines.get(sensor.id);
      // A line that was begun goes on after a reload or a restart of the gateway; what lies between is a gap.
      if (before && before.names === known.names) known.rows.forEach((row, index) => { row.spark = before.rows[index].spark; row.spark.add(performance.now(), null); });
      sensors.set(sensor.id, known);
      showSensor(known, sensor);
    }
  }
  $("none").hidden = sensors.size > 0;
  table.hidden = sensors.size === 0;
  document.querySelector(".find").hidden = sensors.size < FILTER_FROM;
  filter();

  outputs.clear();
  $("outputs").replaceChildren();
  $("actuators").hidden = !overview.actuators.length;
  for (const actuator of overview.actuators) {
    const known = buildOutput(actuator);
    outputs.set(actuator.id, known);
    $("outputs").append(known.element);
    showOutput(known, actuator);
  }

  stage = overview.stage;
  broker = overview.broker;
  $("events").replaceChildren();
  addEvents(overview.events);
  showStage();
}

function takeBridge(bridge) {
  const known = bridges.get(bridge.id);
  if (!known) return;
  known.bridge = bridge;
  known.at = performance.now();
  known.spark.add(performance.now(), bridge.queued);
  showBridge(known);
}

function takeChange(change) {
  takeClock(change);
  for (const sensor of change.sensors || []) if (sensors.has(sensor.id)) showSensor(sensors.get(sensor.id), sensor);
  for (const bridge of change.bridges || []) takeBridge(bridge);
  for (const actuator of change.actuators || []) if (outputs.has(actuator.id)) showOutput(outputs.get(actuator.id), actuator);
  if (change.broker) broker = change.broker;
  if (change.stage) { stage = change.stage; showStage(); }
  addEvents(change.events || []);
}

function hear(event, take) {
  heard = performance.now();
  take(JSON.parse(event.data));
  if (away) {
    away = null;
    $("away").hidden = true;
  }
  mark(document.body, "link", "up");
  showHead();
}

function lose() {
  if (!away) {
    away = wall();
    mark(document.body, "link", "away");
    for (const known of sensors.values()) known.rows.forEach(row => row.spark.add(performance.now(), null));
  }
  const text = began === null ? "The gateway does not answer. This page asks again by itself." : `No word from the gateway since ${moment(away)}. What is shown is old; this page asks again by itself.`;
  say($("away"), text);
  $("away").hidden = false;
  showHead();
}

function listen() {
  if (source) source.close();
  heard = performance.now();
  source = new EventSource("api/stream");
  source.addEventListener("overview", event => hear(event, takeAll));
  source.addEventListener("change", event => hear(event, takeChange));
  source.addEventListener("error", () => {
    lose();
    // The browser tries again by itself unless the gateway answered with something else than a stream.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS);
  });
}

function filter() {
  const text = $("find").value.trim().toLowerCase();
  for (const known of sensors.values()) {
    const is = !text || known.sensor.id.toLowerCase().includes(text);
    known.rows.forEach(row => { row.element.hidden = !is; });
  }
  document.querySelectorAll("#sensors tbody").forEach(body => {
    body.hidden = ![...body.querySelectorAll("tr")].slice(1).some(row => !row.hidden);
  });
}

$("find").addEventListener("input", filter);
$("link").addEventListener("click", async () => {
  const button = $("link");
  button.disabled = true;
  try { await post("api/stage/link", { whole: !stage.link }); } catch (error) { say(button, error.message); }
  button.disabled = false;
});

setInterval(() => {
  if (performance.now() - heard > SILENCE_MS) { lose(); listen(); }
  if (document.hidden || away) return;
  const now = performance.now();
  sensors.forEach(known => { ageSensor(known); if (tick % 2 === 0) known.rows.forEach(row => row.spark.draw(now)); });
  bridges.forEach(known => { known.spark.add(now, known.bridge.queued); showBridge(known); known.spark.draw(now); });
  tick += 1;
  showHead();
}, 500);

listen();
