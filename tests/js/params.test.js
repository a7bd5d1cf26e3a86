// What a control shows is what is sent.

import assert from "node:assert/strict";
import test from "node:test";
import * as params from "../../static/js/lib/params.js";

const number = (name, more) => ({ name, label: name, kind: "number", start: 0.7, step: 0.01, neutral: "1", on: false, bounds: [0, 2], ...more });
const catalog = [
  number("temperature"),
  { ...number("max_tokens"), kind: "integer", start: 256, on: true, bounds: [1, 8192], neutral: "256" },
  { name: "stop", label: "Stop", kind: "strings", start: null, neutral: "none", on: false, bounds: null },
];
const [temperature, maxTokens] = catalog;

test("off is not sent, also where a value is remembered", () => {
  const panel = params.newPanel(catalog);
  assert.deepEqual(params.sentParams(catalog, panel), { max_tokens: 256 });
  panel.temperature = { on: false, value: 1.3 };
  assert.deepEqual(params.sentParams(catalog, panel), { max_tokens: 256 });
});

test("sent parameters opened again are sent the same", () => {
  const sent = { temperature: 0, max_tokens: 7, stop: ["\n", "END"] };
  assert.deepEqual(params.sentParams(catalog, params.newPanel(catalog, sent)), sent);
  assert.deepEqual(params.sentParams(catalog, params.newPanel(catalog, {})), {});
});

test("what is shown for a lane is what the worker is told", () => {
  const panel = params.newPanel(catalog, { temperature: 0.5, max_tokens: 9 });
  for (const overrides of [{}, { temperature: 1 }, { temperature: null }, { temperature: 0.5 }, { stop: ["x"] }]) {
    const merged = { ...params.sentParams(catalog, panel), ...params.sentOverrides(catalog, panel, overrides) };
    for (const parameter of catalog) {
      const shown = params.resolve(parameter, panel, overrides);
      const told = merged[parameter.name] ?? null;
      assert.deepEqual(shown.on ? shown.value : null, told, `${parameter.name} ${JSON.stringify(overrides)}`);
    }
  }
});

test("an override equal to the shared value is neither marked nor sent", () => {
  const panel = params.newPanel(catalog, { temperature: 0.5 });
  assert.deepEqual(params.sentOverrides(catalog, panel, { temperature: 0.5 }), {});
  assert.equal(params.resolve(temperature, panel, { temperature: 0.5 }).modified, false);
  assert.equal(params.resolve(temperature, panel, { temperature: null }).modified, true);
});

test("while off the model's own default is named, else the neutral value", () => {
  const own = { defaults: { temperature: 0.2 } };
  assert.equal(params.whileOff(temperature, own), "off: model's own default 0.2 (generation_config)");
  assert.equal(params.whileOff(temperature, null), "off: 1");
});

test("numbers are brought into bounds, and nonsense is no number", () => {
  assert.equal(params.cleanNumber(temperature, "3"), 2);
  assert.equal(params.cleanNumber(temperature, "-1"), 0);
  assert.equal(params.cleanNumber(temperature, "0,25"), 0.25);
  assert.equal(params.cleanNumber(temperature, 0.1 + 0.2), 0.3);
  assert.equal(params.cleanNumber(maxTokens, "12.6"), 13);
  for (const text of ["", "abc", "NaN", "Infinity"]) assert.equal(params.cleanNumber(temperature, text), null);
});

test("values of every kind are the same when they say the same, and are written in a line", () => {
  assert.equal(params.sameValue({ 1: 2, 3: 4 }, { 3: 4, 1: 2 }), true);
  assert.equal(params.sameValue({ kind: "regex", pattern: "a" }, { kind: "regex", pattern: "b" }), false);
  assert.equal(params.sameValue(null, {}), false);
  assert.equal(params.formatValue({ 5: -100, 7: 2.5 }), "5: -100, 7: +2.5");
  assert.equal(params.formatValue({ kind: "choice", options: ["yes", "no"] }), "one of yes | no");
  assert.equal(params.formatValue({ kind: "json_object" }), "a JSON object");
  assert.ok(params.formatValue({ kind: "regex", pattern: "x".repeat(5000) }).length < 400);
});

test("ids and biases are numbers within bounds, and nonsense is none", () => {
  assert.deepEqual(["12", " 3 ", "-1", "1.5", "", "x", 2 ** 31].map(params.cleanId), [12, 3, null, null, null, null, null]);
  assert.deepEqual(["1,5", "-200", "x", ""].map((text) => params.cleanBias(text, 100)), [1.5, -100, null, null]);
});

test("what a lane's engine does not have is named only where it is on", () => {
  const model = { cannot: { temperature: "It always takes the likeliest.", stop: "No." } };
  const panel = params.newPanel(catalog, { temperature: 0.5 });
  assert.deepEqual(params.impossible(catalog, panel, {}, model), [{ name: "temperature", label: "temperature", why: "It always takes the likeliest." }]);
  assert.deepEqual(params.impossible(catalog, panel, { temperature: null }, model), []);
  assert.deepEqual(params.impossible(catalog, panel, {}, null), []);
});

test("texts of a list are unique, not empty, and bounded", () => {
  assert.deepEqual(params.cleanStrings(["", "a", "a", "long one", "lonely", "third"], 2, 3), ["a", "lon"]);
});
