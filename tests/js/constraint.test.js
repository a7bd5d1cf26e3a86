// The editor of formats: what is complete is sent, what is not says why.

import assert from "node:assert/strict";
import test from "node:test";
import { readConstraint, writeConstraint } from "../../static/js/lib/constraint.js";

const limits = { constraint_chars: 100, choices: 3, stop_chars: 5 };

test("what is written comes back as it was", () => {
  for (const [kind, text] of [["json_schema", '{"type": "object"}'], ["regex", "[a-z]+\\d"], ["choice", "yes\nno"], ["grammar", 'start: "a"'], ["json_object", ""]]) {
    const { constraint, trouble } = readConstraint(kind, text, limits);
    assert.equal(trouble, "");
    assert.deepEqual(writeConstraint(constraint), { kind, text });
  }
});

test("what is incomplete is not sent, and says why", () => {
  const trouble = (kind, text) => {
    const read = readConstraint(kind, text, limits);
    assert.equal(read.constraint, null);
    return read.trouble;
  };
  assert.match(trouble("json_schema", ""), /write a JSON schema/);
  assert.match(trouble("json_schema", "{oops"), /not JSON/);
  assert.match(trouble("json_schema", "[1]"), /an object/);
  assert.match(trouble("regex", "x".repeat(101)), /at most 100/);
  assert.match(trouble("choice", "a\nb\nc\nd"), /at most 3/);
  assert.match(trouble("choice", "a\nfar too long"), /choice 2/);
  assert.match(trouble("grammar", "  "), /write a grammar/);
});

test("a choice twice is one, and empty lines are none", () => {
  assert.deepEqual(readConstraint("choice", "a\n\na\nb\n", limits).constraint, { kind: "choice", options: ["a", "b"] });
});
