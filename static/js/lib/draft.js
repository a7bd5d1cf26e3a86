// What a person is working on: prompt, shared parameters, lanes. Plain data, changed by functions that return a new one.
//
// {mode, messages: [{id, role, content, ...}], text, tools, continueFinal, xray, beliefs, params: panel,
//  lanes: [{key, model, overrides, strength, prefix, shadows}],
//  preset: null | {id, number, newest, name, description, spec}, bound: null | {run, roots: {key: lane}},
//  pending: null | {client_id, spec}}
// `xray`: the models only read the prompt. `beliefs`: each lane has the others of its base as shadows.
// `bound` ties columns to the lanes of the run that they show; `pending` is a start that the server has not confirmed.

import { shadowsFor } from "./beliefs.js";
import { fingerprint, newPanel, sentOverrides, sentParams } from "./params.js";

export { fingerprint };
export const XRAY_TOP = 5; // alternatives for each token of an X-ray, where nothing else is chosen

let counter = 0;
export const newKey = () => `${Date.now().toString(36)}-${(counter++).toString(36)}`;
export const newMessage = (role, content = "", more = {}) => ({ ...more, id: newKey(), role, content });
/** A column for a LaneSpec. */
export function newLane({ model, overrides = {}, strength = null, prefix = [], shadows = [] }, key = newKey()) {
  return { key, model, overrides: { ...overrides }, strength, prefix, shadows };
}

export function fromSpec(catalog, spec) {
  const chat = spec.prompt.mode === "chat";
  const params = spec.params ?? {};
  const xray = params.max_tokens === 0 && typeof params.prompt_logprobs === "number";
  return {
    mode: spec.prompt.mode,
    messages: chat
      ? spec.prompt.messages.map(({ role, content, ...more }) => newMessage(role, content, more))
      : [newMessage("user")],
    text: chat ? "" : spec.prompt.text,
    tools: spec.prompt.tools ?? [],
    continueFinal: spec.prompt.continue_final ?? false,
    xray,
    beliefs: spec.lanes.some((lane) => lane.shadows?.length),
    params: newPanel(catalog, params),
    lanes: spec.lanes.map((lane) => newLane(lane)),
    preset: null, bound: null, pending: null,
  };
}

/** A draft that was kept by a page which knew fewer parameters. */
export function withCatalog(catalog, draft) {
  return { ...draft, params: { ...newPanel(catalog, {}), ...draft.params } };
}

export function emptyDraft(catalog, welcome) {
  const draft = fromSpec(catalog, welcome);
  const params = newPanel(catalog, draft.xray ? welcome.params : null);
  return { ...draft, messages: [newMessage("user")], text: "", params };
}

/** What Run sends and Save keeps. */
export function toSpec(catalog, draft) {
  return {
    prompt: draft.mode === "chat" ? chatOf(draft) : { mode: "completion", text: draft.text },
    lanes: draft.lanes.map((lane) => toLaneSpec(catalog, draft, lane)),
    params: sharedParams(catalog, draft),
  };
}

/** The parameters of all lanes, as sent. An X-ray asks for no answer: nothing that shapes one is sent with it. */
export function sharedParams(catalog, draft) {
  const params = sentParams(catalog, draft.params);
  return draft.xray ? { max_tokens: 0, prompt_logprobs: params.prompt_logprobs ?? XRAY_TOP } : params;
}

export function toLaneSpec(catalog, draft, lane) {
  const spec = { model: lane.model, overrides: draft.xray ? {} : sentOverrides(catalog, draft.params, lane.overrides) };
  if ((lane.strength ?? null) !== null) spec.strength = lane.strength;
  if (lane.prefix?.length) spec.prefix = lane.prefix;
  if (lane.shadows?.length) spec.shadows = lane.shadows;
  return spec;
}

function chatOf(draft) {
  const prompt = { mode: "chat", messages: draft.messages.map(({ id: _, ...message }) => message) };
  if (draft.tools?.length) prompt.tools = draft.tools;
  if (draft.continueFinal && draft.messages.at(-1)?.role === "assistant") prompt.continue_final = true;
  return prompt;
}

/** The draft as it must be after a change of its lanes: whose answers are read by whom. */
export function withBeliefs(draft, models) {
  if (!draft.beliefs || models.length === 0) return draft;
  const shadows = shadowsFor(draft.lanes, models);
  const lanes = draft.lanes.map((lane, at) => (fingerprint(lane.shadows ?? []) === fingerprint(shadows[at]) ? lane : { ...lane, shadows: shadows[at] }));
  return lanes.some((lane, at) => lane !== draft.lanes[at]) ? { ...draft, lanes } : draft;
}

/** Switch the comparison of beliefs on or off. */
export function setBeliefs(draft, on, models) {
  if (on) return withBeliefs({ ...draft, beliefs: true }, models);
  return { ...draft, beliefs: false, lanes: draft.lanes.map((lane) => ({ ...lane, shadows: [] })) };
}

/** What `spec` asked and an answer to it, to be read by the models of the draft. */
export function xrayOf(catalog, draft, spec, text) {
  const { mode, messages, text: begun, tools, continueFinal } = fromSpec(catalog, spec);
  const last = messages.at(-1);
  const joined = continueFinal && last.role === "assistant" ? messages.with(-1, { ...last, content: last.content + text }) : [...messages, newMessage("assistant", text)];
  const asked = mode === "chat" ? { messages: joined, tools, continueFinal: true } : { text: begun + text };
  return { ...draft, mode, ...asked, xray: true, preset: null, bound: null, pending: null };
}

/** `fingerprint` of a spec that came from elsewhere, brought into the form in which this page would send it. */
export const fingerprintOf = (catalog, spec) => fingerprint(toSpec(catalog, fromSpec(catalog, spec)));

/** Why this draft cannot run, with the message it is about; or null. */
export function complaint(draft, limits) {
  const chars = draft.mode === "chat" ? draft.messages.reduce((sum, m) => sum + m.content.length, 0) : draft.text.length;
  if (chars > limits.prompt_chars) {
    return { text: `The prompt has ${chars} characters; at most ${limits.prompt_chars} can be sent. Shorten it.` };
  }
  if (draft.lanes.length === 0) return { text: "Add a lane first." };
  if (draft.mode === "completion") return draft.text ? null : { text: "Write a prompt first." };
  if (draft.messages.length === 0) return { text: "Add a message first." };
  const empty = draft.messages.findIndex((message) => message.role !== "system" && message.content.trim() === "");
  if (empty < 0 || draft.messages[empty].tool_calls?.length) return null;
  return { text: `Message ${empty + 1} is empty: write it or remove it.`, message: draft.messages[empty].id };
}

/** `list` with the item at `from` moved to `to`. */
export function moved(list, from, to) {
  if (from === to || from < 0 || to < 0 || from >= list.length || to >= list.length) return list;
  const next = list.toSpliced(from, 1);
  next.splice(to, 0, list[from]);
  return next;
}

/** Lanes whose models nobody serves get ones that are served: a base, and a model that was tuned from it. */
export function withServedModels(lanes, models) {
  const known = new Set(models.map((model) => model.id));
  if (models.length === 0 || lanes.every((lane) => known.has(lane.model))) return lanes;
  const base = models.find((model) => !model.base && model.id === lanes[0]?.model) ?? models.find((model) => !model.base);
  const tuned = models.find((model) => model.base && model.base === base?.id) ?? models.find((model) => model.base) ?? base;
  return lanes.map((lane, index) =>
    known.has(lane.model) ? lane : { ...lane, model: ((index === 0 ? base : tuned) ?? models[0]).id },
  );
}
