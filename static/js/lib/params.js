// The one resolver of parameters: what a control shows and what a run sends both come from here.
// A panel is {name: {on, value}}; overrides of a lane are {name: value}, where null means "off in this lane".
// Off is never sent: the model's own default holds then, else the neutral value.

export function newPanel(catalog, params = null) {
  const panel = {};
  for (const parameter of catalog) {
    const given = params?.[parameter.name] ?? null;
    const on = params ? given !== null : parameter.on;
    panel[parameter.name] = { on, value: given ?? startOf(parameter) };
  }
  return panel;
}

/** The parameters of a run, as sent. */
export function sentParams(catalog, panel) {
  const params = {};
  for (const { name } of catalog) if (panel[name].on) params[name] = panel[name].value;
  return params;
}

/** Overrides of a lane, as sent: those that are no different from the shared ones are left out. */
export function sentOverrides(catalog, panel, overrides) {
  const sent = {};
  for (const { name } of catalog) {
    if (!(name in overrides)) continue;
    const shared = panel[name].on ? panel[name].value : null;
    if (!sameValue(shared, overrides[name])) sent[name] = overrides[name];
  }
  return sent;
}

/** The parameters that are on here and that this model's engine does not have: [{name, label, why}]. */
export function impossible(catalog, panel, overrides, model) {
  const cannot = model?.cannot ?? {};
  return catalog
    .filter((parameter) => cannot[parameter.name] && resolve(parameter, panel, overrides).on)
    .map(({ name, label }) => ({ name, label, why: cannot[name] }));
}

/** What one control shows: is it on, with which value, whose value is it, and what holds while it is off. */
export function resolve(parameter, panel, overrides = null, model = null) {
  const shared = panel[parameter.name];
  const own = overrides && parameter.name in overrides;
  const given = own ? overrides[parameter.name] : shared.on ? shared.value : null;
  return {
    on: given !== null,
    value: given ?? shared.value ?? startOf(parameter),
    modified: Boolean(own) && !sameValue(given, shared.on ? shared.value : null),
    off: whileOff(parameter, model),
    cannot: model?.cannot?.[parameter.name] ?? null,
  };
}

/** In words, what holds while a parameter is off. */
export function whileOff(parameter, model) {
  const own = model?.defaults?.[parameter.name];
  if (own !== undefined && own !== null) return `off: model's own default ${formatValue(own)} (generation_config)`;
  return `off: ${parameter.neutral}`;
}

/** The nearest value that the parameter may have, or null where the text is no number. */
export function cleanNumber(parameter, text) {
  const value = typeof text === "number" ? text : Number.parseFloat(String(text).replace(",", "."));
  if (!Number.isFinite(value)) return null;
  const [low, high] = parameter.bounds;
  const bounded = Math.min(high, Math.max(low, value));
  if (parameter.kind === "integer") return Math.round(bounded);
  return Number(bounded.toFixed(4)); // sliders add up steps such as 0.1 in binary
}

/** Texts without empty and repeated ones, as many and as long as a worker takes. */
export function cleanStrings(texts, most, chars) {
  const unique = [...new Set(texts.filter((text) => text !== "").map((text) => text.slice(0, chars)))];
  return unique.slice(0, most);
}

/** The token id in a text, or null. */
export function cleanId(text) {
  const id = Number(String(text).trim() || "none");
  return Number.isInteger(id) && id >= 0 && id < 2 ** 31 ? id : null;
}

/** A bias from -most to most, or null. */
export function cleanBias(text, most) {
  const bias = Number(String(text).replace(",", ".").trim() || "none");
  return Number.isFinite(bias) ? Math.min(most, Math.max(-most, bias)) : null;
}

export function sameValue(a, b) {
  return a === b || (typeof a === "object" && typeof b === "object" && fingerprint(a) === fingerprint(b));
}

/** One text for equal values, whatever the order of their keys. */
export function fingerprint(value) {
  return JSON.stringify(value, (_, inner) =>
    inner && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

export function formatValue(value) {
  if (Array.isArray(value)) return value.length ? value.map((item) => JSON.stringify(item)).join(" ") : "none";
  if (value && typeof value === "object") return value.kind ? formatConstraint(value) : formatBiases(value);
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toFixed(4)));
  return String(value);
}

function formatConstraint({ kind, ...fields }) {
  const text = Object.values(fields).flat().join(" | ");
  const words = { json_object: "a JSON object", json_schema: "JSON schema", regex: "regex", choice: "one of", grammar: "grammar" }[kind] ?? kind;
  return text ? `${words} ${text.length > 300 ? `${text.slice(0, 300)}…` : text}` : words;
}

function formatBiases(biases) {
  const entries = Object.entries(biases);
  return entries.length ? entries.map(([id, bias]) => `${id}: ${bias > 0 ? "+" : ""}${bias}`).join(", ") : "none";
}

/** Where a control stands when it is first switched on. */
export function startOf(parameter) {
  return { strings: [], ids: [], biases: {}, constraint: { kind: "json_object" } }[parameter.kind] ?? parameter.start;
}
