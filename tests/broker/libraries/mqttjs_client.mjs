// MQTT.js of npm: PORT VERSION MODE, with the folder of its packages in MQTT_PACKAGES.
import { createRequire } from "node:module";

const require = createRequire(process.env.MQTT_PACKAGES + "/");
const mqtt = require("mqtt");
const [port, version, mode] = process.argv.slice(2);
const five = version === "5";

async function client(clientId, clean = true, will = undefined) {
  const inbox = [];
  const waiting = [];
  const properties = five && !clean ? { sessionExpiryInterval: 3600 } : undefined;
  const one = mqtt.connect({ host: "127.0.0.1", port: Number(port), protocolVersion: five ? 5 : 4, clientId, clean, will, properties, reconnectPeriod: 0 });
  one.on("message", (topic, payload, packet) => (waiting.length ? waiting.shift()(packet) : inbox.push(packet)));
  const connack = await new Promise((done, failed) => one.once("connect", done).once("error", failed));
  const next = () => (inbox.length ? Promise.resolve(inbox.shift()) : new Promise((done) => waiting.push(done)));
  return { one, next, present: connack.sessionPresent };
}

if (mode === "version") {
  console.log(require("mqtt/package.json").version);
} else if (mode === "talk") {
  const { one, next } = await client("lib-talk");
  console.log("connect=yes");
  for (const qos of [0, 1, 2]) {
    await one.subscribeAsync(`lib/q${qos}`, { qos });
    await one.publishAsync(`lib/q${qos}`, "x", { qos });
    console.log(`qos${qos}=at ${(await next()).qos}`);
  }
  await one.publishAsync("lib/kept", "kept", { qos: 1, retain: true });
  await one.subscribeAsync("lib/kept", { qos: 1 });
  console.log(`retain=${(await next()).retain ? "kept" : "not kept"}`);
  await one.publishAsync("lib/kept", "", { qos: 1, retain: true });
  await one.endAsync();
} else if (mode === "mortal") {
  await client("lib-mortal", true, { topic: "lib/will", payload: Buffer.from("gone"), qos: 1 });
  console.log("ready");
} else if (mode === "keep") {
  const { one } = await client("lib-keeps", false);
  await one.subscribeAsync("lib/waits", { qos: 1 });
  await one.endAsync();
} else if (mode === "back") {
  const { one, next, present } = await client("lib-keeps", false);
  console.log(`session=${present ? "present" : "gone"}, ${(await next()).payload}`);
  await one.endAsync();
}
