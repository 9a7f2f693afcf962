import { ArtifactError, BundleError, ConfigurationError, ProPETLError, TaskError, reason } from "./errors.js";
import { Files } from "./files.js";
import { readPack } from "./safetensors.js";

/** @typedef {{ problem: string, labels: string[], columns: string[], outputs: number, perToken: boolean }} TaskInfo */
/** @typedef {{ name: string, dtype: string, shape: (number | string)[] }} Signature */
/** @typedef {{ path: string, inputs: Signature[], outputs: Signature[] }} Graph */
/** @typedef {{ graphs?: Record<string, Graph>, stages?: { apply: Graph, run: { model: Graph } } }} Form */

const FORMAT = "propetl-artifact";
const VERSION = 1;
const PRECISIONS = ["fp32", "tf32", "fp16", "bf16", "int8", "int8-static", "int4"];
const PROBLEMS = ["classification", "regression", "tagging"];
const FORMS = ["switchable", "folded", "bank"]; // in the order in which one is chosen
const TOKEN_INPUTS = ["input_ids", "attention_mask", "token_type_ids"];

/** @param {unknown} holds @param {string} what */
function expect(holds, what) {
  if (!holds) throw new Error(what);
}

/** What a manifest or a pack says of a task. @param {any} value @returns {TaskInfo} */
export function taskInfo(value) {
  const { problem, labels, columns } = value;
  if (problem === "text") throw new TaskError("tasks that are answered in text are not run here; run them in Python");
  expect(PROBLEMS.includes(problem), `problem is ${problem}, known: ${PROBLEMS.join(", ")}; upgrade propetl`);
  for (const [key, texts] of Object.entries({ labels, columns })) {
    expect(Array.isArray(texts) && texts.every((text) => typeof text === "string"), `${key} are no list of texts`);
  }
  expect((problem === "regression") === (labels.length === 0), `a ${problem} has ${labels.length} labels`);
  expect(columns.length === 1 || (columns.length === 2 && problem !== "tagging"), `it has ${columns.length} columns`);
  return { problem, labels, columns, outputs: Math.max(1, labels.length), perToken: problem === "tagging" };
}

/** An artifact whose manifest was checked. */
export class Artifact {
  /** @param {Files} files @param {any} value `artifact.json` */
  constructor(files, value) {
    this.files = files;
    this.value = value;
    this.url = files.url;
    expect(value?.format === FORMAT, `expected format ${FORMAT}, found ${value?.format}`);
    expect(value.version === VERSION, `version ${value.version} is not known here, ${VERSION} is; upgrade propetl`);
    expect(PRECISIONS.includes(value.precision), `precision ${value.precision} is unknown; upgrade propetl`);
    for (const [key, least] of Object.entries({ max_length: 1, pad_token_id: 0 })) {
      expect(Number.isSafeInteger(value[key]) && value[key] >= least, `${key} is ${value[key]}`);
    }
    for (const [path, record] of Object.entries(value.files)) files.records.set(plain(path), record);
    /** @type {Map<string, TaskInfo>} */
    this.tasks = new Map(Object.entries(value.tasks).map(([name, task]) => [name, taskInfo(task)]));
    this.forms = FORMS.filter((name) => name in value.forms);
    /** Whether graphs for any task answer at every token. */
    this.perToken = [...this.tasks.values()].some((info) => info.perToken);
  }

  /** @param {string | URL} url of the folder, or its path under Node */
  static async read(url) {
    const files = new Files(url);
    const content = await files.unchecked("artifact.json");
    try {
      return new Artifact(files, JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content)));
    } catch (error) {
      if (error instanceof ProPETLError) throw error;
      throw new ArtifactError(`${files.url}/artifact.json: not a valid manifest (${reason(error)}); restore it`);
    }
  }

  /** The name of the form asked for, or of the first there is. @param {string} [form] */
  choose(form) {
    const known = this.forms.join(", ");
    if (!known) throw new ArtifactError(`${this.url}: it has no form that a session can run; export with --form`);
    if (form && !this.forms.includes(form)) {
      throw new ConfigurationError(`form '${form}' is not in ${this.url}; it has ${known}`);
    }
    return form ?? this.forms[0];
  }

  /** The pack of a task that the manifest lists. @param {string} name */
  async pack(name) {
    const { pack: path } = this.value.tasks[name];
    const source = `${this.url}/${path}`;
    const pack = await readPack(await this.files.read(path), source, false);
    const same = pack.task === name && JSON.stringify(pack.info) === JSON.stringify(this.tasks.get(name));
    if (!same) throw new ArtifactError(`${source}: is not what the manifest says of task '${name}'; restore both`);
    return this.belonging(pack, source);
  }

  /** A pack that travels alone. @param {Uint8Array<ArrayBuffer>} bytes @param {string} source */
  async addable(bytes, source) {
    const pack = this.belonging(await readPack(bytes, source, true), source);
    if (!pack.info.perToken || this.perToken) return pack;
    const found = `task '${pack.task}' tags words, and no graph of ${this.url} answers at every token`;
    throw new TaskError(`${source}: ${found}; export it together with a task that does`);
  }

  /** @param {import("./safetensors.js").Pack} pack @param {string} source */
  belonging(pack, source) {
    const { backbone: { fingerprint }, prototype_sha256: prototype } = this.value;
    const refused = (what, its, mine, remedy) => {
      const found = `made for ${what} ${String(its).slice(0, 12)}, but this one is ${String(mine).slice(0, 12)}`;
      return new TaskError(`${source}: ${found}; ${remedy}`);
    };
    if (pack.backbone !== fingerprint) {
      throw refused("backbone", pack.backbone, fingerprint, "train the task again on this backbone");
    }
    if (pack.prototype !== prototype) {
      throw refused("prototype", pack.prototype, prototype, "train the task with --add-to this bundle");
    }
    return pack;
  }
}

/** The tokens that a graph takes. @param {Graph} graph */
export const tokenInputs = (graph) => TOKEN_INPUTS.filter((name) => graph.inputs.some((item) => item.name === name));

/**
 * A pack's tensors as `graph` takes them, with a leading axis of 1.
 * @param {import("./safetensors.js").Pack} pack @param {Graph} graph
 */
export function tensorsFor({ task, info, tensors }, graph) {
  const known = graph.inputs.map((item) => item.name);
  const odd = [...tensors.keys()].find((name) => !known.includes(name));
  if (odd) throw new BundleError(`the pack of ${task}: the graphs take no ${odd}, but ${known.join(", ")}`);
  return graph.inputs.map(({ name, dtype, shape }) => {
    const found = tensors.get(name) ?? { dtype: "none", shape: [], data: null };
    const wanted = `${dtype}[${shape.slice(1).map((size) => (size === "labels" ? info.outputs : size))}]`;
    const told = `${found.dtype}[${found.shape}]`;
    if (told !== wanted) throw new BundleError(`the pack of ${task}: ${name} is ${told}, expected ${wanted}`);
    return { name, dtype, data: found.data, shape: [1, ...found.shape] };
  });
}

/** @param {string} path */
function plain(path) {
  const inside = !/[\\:\0]/.test(path) && path.split("/").every((part) => !["", ".", ".."].includes(part));
  expect(inside, `it names ${path.slice(0, 100)}, which is not a path inside the folder; do not use it`);
  return path;
}
