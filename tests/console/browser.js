// As much of a browser as the console's page asks for. Calls wait in `calls` until a test answers them.
class Node {
  #value = "";
  constructor() { Object.assign(this, { textContent: "", className: "", children: [], options: [], elements: {} }) }
  append(...more) { this.children.push(...more) }
  replaceChildren(...all) { this.children = all }
  setAttribute() {}
  scrollIntoView() {}
  reportValidity() { return true }
  get value() { return this.#value }
  set value(given) { this.#value = String(given) }
  get firstChild() { return this.children[0] }
}
const known = { form: new Node() }, calls = [], questions = [], replies = [];
for (const name of ["relevance", "ctr", "click", "order", "author", "reason"]) known.form.elements[name] = new Node();
const document = { body: { dataset: {} }, getElementById: id => known[id] ??= new Node(), createElement: () => new Node(), createElementNS: () => new Node() };
globalThis.setTimeout = () => {};
const prompt = (question, proposed) => { questions.push([question, proposed ?? ""]); return replies.shift() ?? null };
const fetch = (path, { body }) => new Promise(resolve => calls.push({
  path, body: body ? JSON.parse(body) : null, answer: (ok, data) => resolve({ ok, statusText: "", json: async () => data }),
}));
const seen = node => [node.textContent, ...node.children.map(seen)].join(" ");
