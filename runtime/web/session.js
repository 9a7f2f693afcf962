import { AnswerError, ConfigurationError, TaskError } from "./errors.js";
import { Engine, onnxRuntime } from "./engine.js";
import { packBytes } from "./files.js";
import { openForm } from "./forms.js";
import { Artifact } from "./manifest.js";
import { Tokeniser } from "./tokenise.js";

export * from "./errors.js";

/** @typedef {string | [string, string]} Text one row: a text, or a pair of texts */
/** @typedef {Float32Array | Float32Array[]} Logits of a row; where a task tags, of each word, NaN without a token */
/** @typedef {{ label: string | null, score: number | null, scores: Record<string, number> }} Answer */
/** @typedef {Answer & { word: string, start: number, end: number }} TaggedWord its label is its tag */
/** @typedef {Answer & { words?: TaggedWord[] }} Prediction `score` of a regression is the value */
/** @typedef {import("./forms.js").Task} Task */
/** @typedef {{ task: Task, texts: string[], where: string }} Row */

const WEIGHTS = "backbone.data";
const TOKENIZER = "tokenizer/tokenizer.json";
const TASK_MEMORY = 64 << 20;
const LEAST = { batchSize: 1, threads: 1, taskMemory: 0 };
const DECODERS = ["gpt2", "llama", "qwen2"]; // their heads read the last token
const ENCODERS = ["bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet"];
const IS_BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/; // as str.strip sees it

/** An artifact, loaded and ready. Calls may overlap: a task that is added or removed does not reach those begun. */
export class Session {
  /**
   * Opens the artifact in the folder at `url`; under Node also a path.
   * @param {string | URL} url
   * @param {{ form?: string, batchSize?: number, threads?: number, taskMemory?: number }} [options]
   *   `form`: switchable, folded or bank; else the first of these that is there.
   *   `taskMemory`: bytes that may be kept for weights of tasks.
   */
  static async open(url, { form, batchSize = 32, threads, taskMemory = TASK_MEMORY } = {}) {
    for (const [name, value] of Object.entries({ batchSize, threads: threads ?? 1, taskMemory })) {
      if (Number.isSafeInteger(value) && value >= LEAST[name]) continue;
      throw new ConfigurationError(`${name} is a whole number of at least ${LEAST[name]}; got ${value}`);
    }
    const artifact = await Artifact.read(url);
    const name = artifact.choose(form);
    const json = JSON.parse(new TextDecoder().decode(await artifact.files.read(TOKENIZER)));
    const [ort, weights] = [await onnxRuntime(), await artifact.files.read(WEIGHTS)];
    const load = (graph) => Engine.load(ort, artifact, graph, weights, threads);
    const running = await openForm(name, artifact.value.forms[name], load, taskMemory);
    const tokeniser = new Tokeniser(json, artifact.value, running.tokens, `${artifact.url}/${TOKENIZER}`);
    return new Session(artifact, name, running, tokeniser, batchSize);
  }

  /** Use {@link Session.open}. */
  constructor(artifact, form, running, tokeniser, batchSize) {
    this.artifact = artifact;
    this.form = form;
    this.running = running;
    this.tokeniser = tokeniser;
    this.batchSize = batchSize;
    this.closed = false;
    /** @type {Set<Promise<Logits[]>>} those that run now */
    this.calls = new Set();
    const tasks = [...artifact.tasks].map(([name, info]) => ({ name, info, pack: () => artifact.pack(name) }));
    /** @type {Map<string, Task>} */
    this.known = new Map(tasks.map((task) => [task.name, task]));
  }

  /** Names of the tasks that can be run now. */
  get tasks() {
    return [...this.known.keys()];
  }

  /** Problem, labels and columns of a task. @param {string} name */
  task(name) {
    return this.bound(name).info;
  }

  /** Logits of each row. @param {string} task @param {Text[]} texts */
  async run(task, texts) {
    if (Array.isArray(texts)) return this.runMixed(texts.map((text) => [task, text]));
    throw new ConfigurationError(`task '${task}': expected a list of texts, found ${typeof texts}`);
  }

  /**
   * Labels with probabilities, values, or tagged words.
   * @param {string} task @param {Text[]} texts @returns {Promise<Prediction[]>}
   */
  async predict(task, texts) {
    const { info } = this.bound(task);
    const read = (found, row) => (info.perToken ? tagged([texts[row]].flat()[0], found, info) : answer(found, info));
    return (await this.run(task, texts)).map(read);
  }

  /** Logits of rows of any tasks, in their order. @param {[string, Text][]} rows @returns {Promise<Logits[]>} */
  async runMixed(rows) {
    const call = this.answered(rows);
    this.calls.add(call);
    return call.finally(() => this.calls.delete(call));
  }

  /** @param {[string, Text][]} rows @returns {Promise<Logits[]>} */
  async answered(rows) {
    if (!rows.length) throw new ConfigurationError("no rows were given; give at least one");
    const checked = rows.map(([task, text], row) => checkedRow(this.bound(task), text, `row ${row}`));
    const groups = this.running.mixes ? [checked] : [...new Set(checked.map(({ task }) => task))]
      .map((task) => checked.filter((row) => row.task === task));
    /** @type {Map<Row, Logits>} */
    const found = new Map();
    for (const group of groups) await this.answerInto(found, group);
    return checked.map((row) => found.get(row));
  }

  /** Runs rows in batches of like length, shortest first. @param {Map<Row, Logits>} found @param {Row[]} rows */
  async answerInto(found, rows) {
    const encoded = rows.map((row) => ({ row, tokens: this.tokeniser.row(row.texts, row.task.info.perToken) }));
    encoded.sort((a, b) => a.tokens.ids.length - b.tokens.ids.length);
    for (let start = 0; start < encoded.length; start += this.batchSize) {
      const batch = encoded.slice(start, start + this.batchSize);
      const feeds = this.tokeniser.pad(batch.map(({ tokens }) => tokens));
      const { data, dims } = await this.running.infer(batch.map(({ row }) => row.task), feeds);
      const [width, length] = [dims.at(-1), dims.length === 3 ? dims[1] : 1];
      batch.forEach(({ row, tokens }, index) => {
        const { outputs, perToken } = row.task.info;
        const at = (place) => {
          const first = (index * length + place) * width;
          const logits = data.slice(first, first + outputs);
          if (logits.every(Number.isFinite)) return logits;
          throw notFinite(row);
        };
        const none = new Float32Array(outputs).fill(NaN);
        const words = tokens.places.map((place) => (place < 0 ? none : at(place)));
        found.set(row, perToken ? words : at(length > 1 ? this.read(tokens) : 0));
      });
    }
  }

  /** The token that heads read, where graphs answer at every one. @param {import("./tokenise.js").TokenRow} tokens */
  read(tokens) {
    const { family } = this.artifact.value.backbone;
    if (ENCODERS.includes(family)) return 0;
    if (DECODERS.includes(family)) return tokens.ids.length - 1;
    throw new TaskError(`family ${family} is not known here, nor which token its heads read; upgrade propetl`);
  }

  /**
   * Adds the task of a pack, by URL or bytes, and returns its name. Form switchable only.
   * @param {string | URL | ArrayBuffer | Uint8Array<ArrayBuffer>} pack
   */
  async addTask(pack) {
    this.checkOpen();
    const source = typeof pack === "string" || pack instanceof URL ? String(pack) : "task pack";
    const added = await this.artifact.addable(await packBytes(pack), source);
    this.changing(added.task, "added");
    const task = { name: added.task, info: added.info, pack: async () => added };
    if (!this.known.has(added.task)) await this.running.weights(task);
    if (this.known.has(added.task)) {
      this.running.drop(task);
      throw new TaskError(`task '${added.task}' is in this session already; remove it first, or rename the new one`);
    }
    this.known.set(added.task, task);
    return added.task;
  }

  /** Forgets a task; calls that run it now end as they began. @param {string} name */
  removeTask(name) {
    const task = this.bound(name);
    if (this.form === "bank") this.changing(name, "removed");
    this.known.delete(name);
    this.running.drop(task);
  }

  /** Lets go of all graphs once the calls that run now have ended. */
  async close() {
    if (this.closed) return;
    this.closed = true;
    await Promise.allSettled(this.calls);
    for (const engine of await this.running.engines()) await engine.session.release();
  }

  /** @param {string} name @returns {Task} */
  bound(name) {
    this.checkOpen();
    const task = this.known.get(name);
    if (task) return task;
    throw new TaskError(`task '${name}' is not in this session; it has ${this.tasks.sort().join(", ") || "none"}`);
  }

  checkOpen() {
    if (this.closed) throw new ConfigurationError(`this session on ${this.artifact.url} was closed; open it again`);
  }

  /** @param {string} task @param {string} how */
  changing(task, how) {
    if (!this.running.fixed) return;
    const remedy = "export the bundle again, or open form switchable";
    throw new TaskError(`task '${task}' cannot be ${how}: ${this.running.fixed}; ${remedy}`);
  }
}

/** A row as a task takes it. @param {Task} task @param {any} text @param {string} where in messages @returns {Row} */
function checkedRow(task, text, where) {
  const texts = Array.isArray(text) ? text : [text];
  if (!texts.every((part) => typeof part === "string")) {
    const found = JSON.stringify(text)?.slice(0, 40);
    throw new ConfigurationError(`${where}: expected a text or a pair of texts, found ${found}`);
  }
  const { columns } = task.info;
  if (texts.length !== columns.length) {
    const wanted = columns.length === 2 ? "a pair of texts" : "one text";
    throw new TaskError(`${where}: task '${task.name}' takes ${wanted} (${columns.join(", ")}), found ${texts.length}`);
  }
  texts.forEach((part, index) => {
    const refused = (why) => new ConfigurationError(`${where}: ${columns[index]} is ${why}`);
    if (IS_BLANK.test(part)) throw refused("blank; give some text, or leave the row out");
    if (!part.isWellFormed()) throw refused("not valid Unicode (lone surrogate); clean it");
  });
  return { task, texts, where };
}

/** @param {Row} row */
const notFinite = ({ where, task }) =>
  new AnswerError(`${where}: task '${task.name}' gives numbers that are not finite; validate the artifact`);

/** @param {Logits} logits @param {import("./manifest.js").TaskInfo} info @returns {Answer} */
function answer(logits, { problem, labels }) {
  const numbers = Array.from(/** @type {Float32Array} */ (logits));
  if (problem === "regression") return { label: null, score: numbers[0], scores: {} };
  const most = Math.max(...numbers);
  const powers = numbers.map((logit) => Math.exp(logit - most));
  const total = powers.reduce((a, b) => a + b);
  const best = numbers.indexOf(most);
  const scores = Object.fromEntries(labels.map((label, index) => [label, powers[index] / total]));
  return { label: labels[best], score: powers[best] / total, scores };
}

/** @param {string} text @param {Logits} logits @param {import("./manifest.js").TaskInfo} info @returns {Prediction} */
function tagged(text, logits, info) {
  const words = Array.from(text.matchAll(/[^ \t\r\n]+/g), ({ 0: word, index: start }, place) => {
    const found = /** @type {Float32Array} */ (logits[place]);
    const tag = found.some(Number.isNaN) ? { label: null, score: null, scores: {} } : answer(found, info);
    return { word, start, end: start + word.length, ...tag };
  });
  return { label: null, score: null, scores: {}, words };
}
