// What is seen of tokens: tints, texts, beliefs, branches. Whatever an engine leaves out, and whatever a token writes.

import assert from "node:assert/strict";
import test from "node:test";
import { foretold, hardest, meanKl, nextRemarkable, shadowsFor, tailOf, widest } from "../../static/js/lib/beliefs.js";
import { branchSpec, unbranchable } from "../../static/js/lib/branch.js";
import { levelOf, share, STEPS, TINTS, tintsFor } from "../../static/js/lib/tints.js";
import { Anchor, inLine, tokenAt, unscored, visible } from "../../static/js/lib/token_text.js";

const seen = (text, more = {}) => ({ id: 7, text, logprob: -0.5, rank: 1, entropy: 0.2, ...more });
const shaded = (...kls) => seen("x", { shades: kls.map((kl) => ({ logprob: -1, rank: 2, entropy: 1, kl, reverse_kl: kl })) });
const likely = (probability) => seen("x", { logprob: Math.log(probability) });

test("the tint grows with surprise, and each step has its words", () => {
  const levels = [0.99, 0.7, 0.4, 0.2, 0.05, 0.01, 0.0001].map((probability) => levelOf("probability", likely(probability)));
  assert.deepEqual(levels, [0, 1, 2, 3, 4, 5, 6]);
  for (const { edges, words } of Object.values(TINTS)) {
    assert.equal(words.length, STEPS);
    assert.deepEqual(edges, edges.toSorted((a, b) => a - b));
  }
});

test("what an engine does not tell has no tint, and is not offered", () => {
  const remote = seen("x", { rank: null, entropy: undefined });
  assert.equal(levelOf("rank", remote), null);
  assert.equal(levelOf("entropy", remote), null);
  assert.equal(levelOf("kl", remote), null);
  assert.equal(levelOf("probability", null), null);
  assert.equal(levelOf("probability", seen("x", { logprob: Number.NaN })), null);
  assert.deepEqual(tintsFor([null, remote]), ["probability"]);
  assert.deepEqual(tintsFor([shaded(0)]), ["probability", "rank", "entropy", "kl"]);
});

test("only what is certain is 100 %, and nothing that is possible is 0 %", () => {
  assert.deepEqual([0, -0.0001, -0.01, Math.log(0.34), -5, -9, -30].map(share), ["100 %", "> 99.9 %", "99 %", "34 %", "0.7 %", "0.012 %", "< 0.001 %"]);
  assert.equal(share(undefined), "unknown");
  assert.equal(share(Number.NaN), "unknown");
});

test("nothing that a token writes can hide, turn the text around it, or be nothing", () => {
  assert.equal(visible("\u202eabc\u0000\u0007\u200b"), "‹202E›abc␀␇‹200B›");
  assert.equal(visible(""), "∅");
  assert.equal(visible("a\n\tb"), "a\n\tb");
  assert.equal(inLine(" a\n\t"), "␣a⏎⇥");
  assert.equal(visible("\u200d"), "‹200D›");
  assert.equal(visible("👩\u200d🚀"), "👩\u200d🚀"); // a joiner at its work
  assert.equal(visible("مرحبا"), "مرحبا");
  assert.equal(visible("<b>&"), "<b>&");
});

test("tokens are found in the text although parts of characters and holes lie between them", () => {
  const text = "a 👋b café <b>c";
  const tokens = [seen("a "), seen("\ufffd"), seen("\ufffd"), seen("\ufffd"), seen("b"), null, null, seen(" <b>"), seen("c")];
  assert.equal(tokenAt(text, tokens, 0), 0);
  assert.equal(tokenAt(text, tokens, 2), 1); // the wave, by its first part
  assert.equal(tokenAt(text, tokens, 4), 4);
  assert.equal(tokenAt(text, tokens, 7), 5); // in the hole
  assert.equal(tokenAt(text, tokens, text.length - 1), 8);
  const anchor = new Anchor();
  assert.equal(anchor.find("xyz", "q"), null);
  assert.deepEqual(anchor.find("xyz", "xy"), { start: 0, end: 2 });
});

test("what stands before the first judged token is the rest of the prompt, or unknown", () => {
  assert.equal(unscored("The quick fox", [seen(" quick"), seen(" fox")]), "The");
  assert.equal(unscored("The quick fox", [seen("other")]), "");
  assert.equal(unscored("The", []), "");
});

test("lanes of one base shadow each other, each model at each strength once, and at most three", () => {
  const models = [{ id: "b" }, { id: "t", base: "b" }, { id: "u", base: "b" }, { id: "other" }, { id: "deaf", base: "b", cannot: { shadows: "no" } }];
  const lane = (model, strength = null) => ({ model, strength });
  assert.deepEqual(shadowsFor([lane("b"), lane("t"), lane("other")], models), [[{ model: "t" }], [{ model: "b" }], []]);
  assert.deepEqual(shadowsFor([lane("t"), lane("t", 0.5), lane("t", 1), lane("t", 0.5)], models), [
    [{ model: "t", strength: 0.5 }], [{ model: "t" }], [{ model: "t", strength: 0.5 }], [{ model: "t" }],
  ]);
  const many = shadowsFor([lane("b"), ...[0, 0.5, 1.5, 2].map((strength) => lane("t", strength))], models);
  assert.deepEqual(many.map((shadows) => shadows.length), [3, 3, 3, 3, 3]);
  assert.deepEqual(shadowsFor([lane("b"), lane("deaf")], models), [[{ model: "deaf" }], []]);
});

test("the mean of KL is over the tokens that tell it, for each shadow", () => {
  const tokens = [null, shaded(1, 0), seen("x"), shaded(0.5, 3)];
  assert.deepEqual(meanKl(tokens, [{}, {}, {}]), [0.75, 1.5, null]);
  assert.equal(widest(tokens), 3);
  assert.equal(widest([null, seen("x")]), -1);
});

test("the next disagreement is found in both directions, and round the end", () => {
  const tokens = [shaded(0.9), shaded(0), null, shaded(0.6), shaded(0)];
  assert.equal(nextRemarkable(tokens, -1), 0);
  assert.equal(nextRemarkable(tokens, 0), 3);
  assert.equal(nextRemarkable(tokens, 3), 0);
  assert.equal(nextRemarkable(tokens, 0, -1), 3);
  const many = Array.from({ length: 100 }, (_, i) => shaded(i % 10 === 3 ? 2 : 1)); // a tenth of many stands out
  assert.deepEqual([nextRemarkable(many, -1), nextRemarkable(many, 3), nextRemarkable(many, 3, -1)], [3, 13, 93]);
  assert.equal(nextRemarkable([likely(0.9), null, likely(0.01)], -1), 2); // without shadows a surprise
  assert.equal(nextRemarkable([likely(0.9)], -1), -1);
  assert.equal(nextRemarkable([], -1), -1);
});

test("a text is judged by its tokens alone", () => {
  assert.deepEqual(foretold([null, seen("a", { logprob: -1 }), seen("b", { logprob: -3 })]), { count: 2, mean: -2, perplexity: Math.exp(2) });
  assert.equal(foretold([null]), null);
  assert.deepEqual(hardest([likely(0.4), null, likely(0.01), likely(0.9), likely(0.2)], 0, 2), [2, 4]);
  assert.deepEqual(hardest([likely(0.01), likely(0.2)], 1), [1]);
});

test("the tokens of the last message are those at the end that make its text", () => {
  const tokens = ["<user>", "Hi", "\n", "Yes", ", in", "deed"].map((text) => seen(text));
  assert.equal(tailOf(tokens, "Yes, indeed"), 3);
  assert.equal(tailOf(tokens, "s, indeed"), 3); // its first token brought more
  assert.equal(tailOf(tokens, "No, indeed"), -1);
  assert.equal(tailOf(tokens, ""), -1);
  assert.equal(tailOf([null, seen("deed")], "indeed"), -1);
  assert.equal(tailOf(tokens, "before <user>Hi\nYes, indeed"), -1);
});

const take = (more = {}) => ({
  lane: 1, model: "m", overrides: { top_p: 0.5 }, strength: null, shadows: [], used: { seed: 42, dice: undefined },
  insight: [seen("a", { id: 1 }), seen("b", { id: 2 }), seen("c", { id: 3 })], ...more,
});
const limits = { prefix: 8192 };

test("a branch repeats the tokens before it and takes the other one, with the same dice", () => {
  assert.deepEqual(branchSpec(take(), 2, 9), { model: "m", overrides: { top_p: 0.5, seed: 42 }, prefix: [1, 2, 9] });
  assert.deepEqual(branchSpec(take(), 0, 9).prefix, [9]);
  const whole = take({ strength: 0.5, shadows: [{ model: "b" }], used: { seed: 7, dice: "own" } });
  assert.deepEqual(branchSpec(whole, 1, 9), { model: "m", overrides: { top_p: 0.5, seed: 7, dice: "same" }, prefix: [1, 9], strength: 0.5, shadows: [{ model: "b" }] });
});

test("a branch needs to know every token before it, and an engine that takes a beginning", () => {
  assert.equal(unbranchable(take(), 2, {}, limits), null);
  assert.match(unbranchable(take({ insight: [null, seen("b")] }), 1, {}, limits), /not known/);
  assert.match(unbranchable(take({ insight: [seen("a", { id: null }), seen("b")] }), 1, {}, limits), /not known/);
  assert.equal(unbranchable(take({ insight: [null, seen("b")] }), 0, {}, limits), null);
  assert.equal(unbranchable(take(), 1, { cannot: { prefix: "This server takes none." } }, limits), "This server takes none.");
  assert.match(unbranchable(take(), 2, {}, { prefix: 2 }), /first 2 tokens/);
});
