import { ArtifactError } from "./errors.js";
import { tensorsFor, tokenInputs } from "./manifest.js";

/** @typedef {import("./engine.js").Item} Item */
/** @typedef {import("./engine.js").Tensor} Tensor */
/** @typedef {import("./engine.js").Engine} Engine */
/** @typedef {(graph: import("./manifest.js").Graph) => Promise<Engine>} Load */
/** @typedef {import("./manifest.js").TaskInfo} TaskInfo */
/** @typedef {import("./safetensors.js").Pack} Pack */
/** @typedef {{ name: string, info: TaskInfo, pack: () => Promise<Pack> }} Task told from others by identity */

/**
 * The graphs of a form, ready to run.
 * @param {string} name @param {import("./manifest.js").Form} form @param {Load} load @param {number} budget
 */
export async function openForm(name, form, load, budget) {
  if (name === "folded") return new Folded(form.graphs, load);
  if (!form.stages) throw new ArtifactError(`form ${name} has no stages; export it again`);
  const [apply, run] = [await load(form.stages.apply), await load(form.stages.run.model)];
  return new Staged(apply, run, name === "bank" ? "the bank is a constant of its graph" : "", budget);
}

/** Switchable and bank: masks are applied once for each task; one graph then runs any batch, whatever its tasks. */
class Staged {
  mixes = true;
  /** @type {Map<Task, Promise<Record<string, Tensor>>>} the least recently used first */
  applied = new Map();

  /** @param {Engine} apply @param {Engine} engine @param {string} fixed why tasks stay @param {number} budget bytes */
  constructor(apply, engine, fixed, budget) {
    this.apply = apply;
    this.engine = engine;
    this.fixed = fixed;
    this.budget = budget;
    this.tokens = tokenInputs(engine.graph);
  }

  /** The weights that a task's masks select, with a leading axis of 1. @param {Task} task */
  weights(task) {
    const found = this.applied.get(task) ?? this.made(task);
    this.drop(task);
    this.applied.set(task, found);
    found.catch(() => this.drop(task));
    return found;
  }

  /** @param {Task} task */
  async made(task) {
    const weights = await this.apply.run(tensorsFor(await task.pack(), this.apply.graph));
    const bytes = Object.values(weights).reduce((total, item) => total + 4 * item.size, 0);
    const others = [...this.applied.keys()].slice(0, -Math.max(1, Math.floor(this.budget / bytes)));
    for (const other of others) this.drop(other);
    return weights;
  }

  /** @param {Task} task */
  drop(task) {
    this.applied.delete(task);
  }

  /** All that is loaded. */
  async engines() {
    return [this.apply, this.engine];
  }

  /** Logits of a batch. @param {Task[]} tasks one for each row @param {Item[]} tokens */
  async infer(tasks, tokens) {
    const weights = new Map();
    for (const task of new Set(tasks)) weights.set(task, await this.weights(task));
    if (weights.size === 1) return (await this.engine.run(tokens, weights.get(tasks[0]))).logits;
    return (await this.engine.run([...tokens, ...stacked(tasks.map((task) => weights.get(task)))])).logits;
  }
}

/** A graph for each task, loaded when the task is first used. */
class Folded {
  mixes = false;
  fixed = "folded graphs are made by export";
  /** @type {Map<string, Promise<Engine>>} */
  loaded = new Map();

  /** @param {Record<string, import("./manifest.js").Graph>} graphs @param {Load} load */
  constructor(graphs, load) {
    this.graphs = graphs;
    this.load = load;
    this.tokens = tokenInputs(Object.values(graphs)[0]);
  }

  /** @param {Task} task */
  drop(task) {
    this.loaded.delete(task.name);
  }

  /** All that is loaded. */
  engines() {
    return Promise.all(this.loaded.values());
  }

  /** Logits of a batch. @param {Task[]} tasks all the same @param {Item[]} tokens */
  async infer([task], tokens) {
    const engine = this.loaded.get(task.name) ?? this.load(this.graphs[task.name]);
    this.loaded.set(task.name, engine);
    engine.catch(() => this.drop(task));
    return (await (await engine).run(tokens)).logits;
  }
}

/** Rows one after the other; narrower heads are filled up with zeros. @param {Record<string, Tensor>[]} rows */
function stacked(rows) {
  return Object.keys(rows[0]).map((name) => {
    const parts = rows.map((row) => row[name]);
    const shape = parts[0].dims.map((_, axis) => Math.max(...parts.map((part) => part.dims[axis]))).slice(1);
    const size = shape.reduce((total, count) => total * count, 1);
    const data = new Float32Array(rows.length * size);
    parts.forEach((part, row) => {
      const own = data.subarray(row * size, (row + 1) * size);
      fill(own, shape, /** @type {Float32Array} */ (part.data), part.dims.slice(1));
    });
    return { name, dtype: "float32", data, shape: [rows.length, ...shape] };
  });
}

/**
 * Puts `from`, of sizes `own`, into the first places of `to` along every axis.
 * @param {Float32Array} to @param {number[]} sizes @param {Float32Array} from @param {number[]} own
 */
function fill(to, sizes, from, own) {
  if (own.length === 1 || to.length === from.length) return to.set(from);
  const [wide, narrow] = [to.length / sizes[0], from.length / own[0]];
  for (let index = 0; index < own[0]; index++) {
    const rest = from.subarray(index * narrow, (index + 1) * narrow);
    fill(to.subarray(index * wide, (index + 1) * wide), sizes.slice(1), rest, own.slice(1));
  }
}
