// What a person is working on: prompt, shared parameters, lanes. Plain data, changed by functions that return a new one.
//
// {mode, messages: [{id, role, content}], text, params: panel, lanes: [{key, model, overrides}],
//  preset: null | {id, number, newest, name, description, spec}, bound: null | {run, roots: {key: lane}},
//  pending: null | {client_id, spec}}
// `bound` ties columns to the lanes of the run that they show; `pending` is a start that the server has not confirmed.

import { newPanel, sentOverrides, sentParams } from "./params.js";

let counter = 0;
export const newKey = () => `${Date.now().toString(36)}-${(counter++).toString(36)}`;
export const newMessage = (role, content = "") => ({ id: newKey(), role, content });
export const newLane = (model, overrides = {}) => ({ key: newKey(), model, overrides });

export function fromSpec(catalog, spec) {
  const chat = spec.prompt.mode === "chat";
  return {
    mode: spec.prompt.mode,
    messages: chat
      ? spec.prompt.messages.map(({ role, content }) => newMessage(role, content))
      : [newMessage("user")],
    text: chat ? "" : spec.prompt.text,
    params: newPanel(catalog, spec.params ?? {}),
    lanes: spec.lanes.map(({ model, overrides }) => newLane(model, { ...overrides })),
    preset: null, bound: null, pending: null,
  };
}

export function emptyDraft(catalog, welcome) {
  const draft = fromSpec(catalog, welcome);
  return { ...draft, messages: [newMessage("user")], params: newPanel(catalog) };
}

/** What Run sends and Save keeps. */
export function toSpec(catalog, draft) {
  const prompt =
    draft.mode === "chat"
      ? { mode: "chat", messages: draft.messages.map(({ role, content }) => ({ role, content })) }
      : { mode: "completion", text: draft.text };
  return {
    prompt,
    lanes: draft.lanes.map((lane) => toLaneSpec(catalog, draft, lane)),
    params: sentParams(catalog, draft.params),
  };
}

export function toLaneSpec(catalog, draft, lane) {
  return { model: lane.model, overrides: sentOverrides(catalog, draft.params, lane.overrides) };
}

/** One text for equal specs, whatever the order of their keys. */
export function fingerprint(spec) {
  return JSON.stringify(spec, (_, value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
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
  if (empty < 0) return null;
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
