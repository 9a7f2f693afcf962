import { ArtifactError, BackendError, reason } from "./errors.js";
import { inNode } from "./files.js";

/** @typedef {import("onnxruntime-common").Tensor} Tensor */
/** @typedef {import("./manifest.js").Graph} Graph */
/** @typedef {{ name: string, dtype: string, data: any, shape: readonly number[] }} Item not yet ONNX Runtime's */

const WEIGHTS = "backbone.data";
const NOWHERE = "/dev/null"; // no file is below it: weights come from bytes that were hashed, or not at all

/** ONNX Runtime as this machine runs it: native under Node, WebAssembly in a page. */
export async function onnxRuntime() {
  if (inNode) process.env.ORT_DISABLE_TELEMETRY ??= "1"; // before it is loaded
  try {
    return await (inNode ? import("onnxruntime-node") : import("onnxruntime-web/wasm"));
  } catch (error) {
    const name = inNode ? "onnxruntime-node" : "onnxruntime-web";
    throw new BackendError(`${name} is not there (${reason(error)}); run npm install in the folder of this module`);
  }
}

/** One graph, loaded. */
export class Engine {
  /** @param {any} ort @param {import("onnxruntime-common").InferenceSession} session @param {Graph} graph */
  constructor(ort, session, graph) {
    this.ort = ort;
    this.session = session;
    this.graph = graph;
  }

  /**
   * @param {any} ort @param {import("./manifest.js").Artifact} artifact @param {Graph} graph
   * @param {Uint8Array} weights content of the file that all graphs share
   * @param {number} [threads]
   */
  static async load(ort, artifact, graph, weights, threads) {
    const bytes = await artifact.files.read(graph.path);
    const source = `${artifact.url}/${graph.path}`;
    let session;
    try {
      session = await ort.InferenceSession.create(bytes, {
        executionProviders: [inNode ? "cpu" : "wasm"],
        externalData: [{ path: WEIGHTS, data: weights }],
        logSeverityLevel: 3,
        ...(threads && { intraOpNumThreads: threads }),
        // x64quantprecision: int8 products of x86 CPUs without VNNI would saturate.
        ...(inNode && {
          extra: { session: { model_external_initializers_file_folder_path: NOWHERE, x64quantprecision: "1" } },
        }),
      });
    } catch (error) {
      throw new ArtifactError(`${source}: ONNX Runtime cannot load it: ${reason(error)}`);
    }
    for (const [key, found] of [["inputs", session.inputMetadata], ["outputs", session.outputMetadata]]) {
      if (lines(found) === lines(graph[key])) continue;
      throw new ArtifactError(`${source}: its ${key} are ${lines(found)}, but the manifest says ${lines(graph[key])}`);
    }
    return new Engine(ort, session, graph);
  }

  /**
   * All outputs by name.
   * @param {Item[]} items @param {Record<string, Tensor>} [more] @returns {Promise<Record<string, Tensor>>}
   */
  async run(items, more = {}) {
    const made = items.map(({ name, dtype, data, shape }) => [name, new this.ort.Tensor(dtype, data, shape)]);
    try {
      return await this.session.run({ ...Object.fromEntries(made), ...more });
    } catch (error) {
      throw new BackendError(`${this.graph.path}: ONNX Runtime refused the inputs: ${reason(error)}`);
    }
  }
}

/** Names, types and shapes in one text. @param {readonly any[]} items */
const lines = (items) =>
  items.map(({ name, dtype, type, shape }) => `${name}: ${dtype ?? type}[${shape.join(", ")}]`).sort().join("; ");
