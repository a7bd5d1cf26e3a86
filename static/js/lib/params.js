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

/** Stop sequences without empty and repeated ones, as many and as long as a worker takes. */
export function cleanStops(stops, limits) {
  const unique = [...new Set(stops.filter((stop) => stop !== ""))];
  return unique.map((stop) => stop.slice(0, limits.stop_chars)).slice(0, limits.stops);
}

export function sameValue(a, b) {
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((item, i) => item === b[i]);
  return a === b;
}

export function formatValue(value) {
  if (Array.isArray(value)) return value.length ? value.map((item) => JSON.stringify(item)).join(" ") : "none";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toFixed(4)));
  return String(value);
}

function startOf(parameter) {
  return parameter.kind === "strings" ? [] : parameter.start;
}
