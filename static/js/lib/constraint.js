// The text of a constraint's editor and the object that is sent. Pure.

const FIELDS = { json_schema: "schema", regex: "pattern", grammar: "lark" };

/** {constraint, trouble}: the object for what was written, or null and why there is none yet. */
export function readConstraint(kind, text, limits) {
  if (kind === "json_object") return { constraint: { kind }, trouble: "" };
  if (text.trim() === "") return none({ json_schema: "write a JSON schema.", regex: "write a regular expression.", choice: "write one choice on each line.", grammar: "write a grammar." }[kind]);
  if (text.length > limits.constraint_chars) return none(`at most ${limits.constraint_chars} characters.`);
  if (kind === "choice") return readChoices(text, limits);
  if (kind === "json_schema") {
    const trouble = schemaTrouble(text);
    if (trouble) return none(trouble);
  }
  return { constraint: { kind, [FIELDS[kind]]: text }, trouble: "" };
}

/** {kind, text} for the editor. */
export function writeConstraint(constraint) {
  const { kind } = constraint;
  return { kind, text: kind === "choice" ? constraint.options.join("\n") : (constraint[FIELDS[kind]] ?? "") };
}

function readChoices(text, limits) {
  const options = [...new Set(text.split("\n").filter((line) => line !== ""))];
  if (options.length > limits.choices) return none(`at most ${limits.choices} choices.`);
  const long = options.findIndex((option) => option.length > limits.stop_chars);
  if (long >= 0) return none(`choice ${long + 1} has more than ${limits.stop_chars} characters.`);
  return { constraint: { kind: "choice", options }, trouble: "" };
}

function schemaTrouble(text) {
  try {
    const schema = JSON.parse(text);
    return schema !== null && typeof schema === "object" && !Array.isArray(schema) ? "" : "a JSON schema is an object.";
  } catch (error) {
    return `this is not JSON: ${error.message}.`;
  }
}

const none = (trouble) => ({ constraint: null, trouble });
