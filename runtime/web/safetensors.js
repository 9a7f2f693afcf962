import { BundleError, TaskError, reason } from "./errors.js";
import { taskInfo } from "./manifest.js";

/** @typedef {{ dtype: "uint8" | "float32", shape: number[], data: Uint8Array<ArrayBuffer> | Float32Array }} Tensor */
/** @typedef {import("./manifest.js").TaskInfo} TaskInfo */
/** @typedef {Map<string, Tensor>} Tensors */
/** @typedef {{ task: string, info: TaskInfo, prototype: string, backbone: string, tensors: Tensors }} Pack */

const TYPES = { U8: ["uint8", 1], F32: ["float32", 4] };
const LENGTH_BYTES = 8; // a file begins with the length of its header
const NAME = /^[a-z0-9][a-z0-9_.-]{0,63}$/;
const SEALED = /^(.+),"content_sha256":"([0-9a-f]{64})"\}$/s;

/** SHA-256 in hexadecimal digits. @param {Uint8Array<ArrayBuffer>} bytes */
export async function sha256(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Tensors of a safetensors file by name, and what its metadata says of it, as text.
 * @param {Uint8Array<ArrayBuffer>} bytes @param {string} source names the file in errors
 */
export function readTensors(bytes, source) {
  try {
    const start = LENGTH_BYTES + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    if (start > bytes.length) throw new Error("its header is incomplete");
    const header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(LENGTH_BYTES, start)));
    const { __metadata__: metadata, ...entries } = header;
    return { tensors: tensorsOf(entries, bytes.subarray(start)), description: String(metadata?.propetl) };
  } catch (error) {
    const found = `not a readable safetensors file (${reason(error)})`;
    throw new BundleError(`${source}: ${found}; it was truncated or damaged`);
  }
}

/** Tensors have to fill `values` one after the other. @param {any} entries @param {Uint8Array<ArrayBuffer>} values */
function tensorsOf(entries, values) {
  /** @type {Map<string, Tensor>} */
  const tensors = new Map();
  let place = 0;
  const items = Object.entries(entries).map(([name, item]) => ({ name, ...item, places: item.data_offsets }));
  items.sort(({ places: [a, c] }, { places: [b, d] }) => a - b || c - d); // one without values stands before the next
  for (const { name, dtype: code, shape, places: [first, last] } of items) {
    if (!Object.hasOwn(TYPES, code)) throw new Error(`${name} is of type ${code}, known: ${Object.keys(TYPES)}`);
    const [dtype, size] = TYPES[code];
    const counts = shape.every((count) => Number.isSafeInteger(count) && count >= 0);
    if (!counts) throw new Error(`${name} has shape ${shape}`);
    const end = place + shape.reduce((total, count) => total * count, size);
    if (first !== place || last !== end) throw new Error(`bytes ${first} to ${last} are not those of ${name}`);
    if (end > values.length) throw new Error(`${name} ends at byte ${end} of ${values.length}`);
    const own = values.slice(place, end); // a copy, so that floats are aligned
    tensors.set(name, { dtype, shape, data: dtype === "uint8" ? own : new Float32Array(own.buffer) });
    place = end;
  }
  if (place !== values.length) throw new Error(`${values.length} bytes of values, where its header says ${place}`);
  return tensors;
}

/**
 * A task pack; whether it fits an artifact is for the artifact to say.
 * @param {Uint8Array<ArrayBuffer>} bytes @param {string} source
 * @param {boolean} alone no manifest vouches for it: the SHA-256 that it holds is checked
 * @returns {Promise<Pack>}
 */
export async function readPack(bytes, source, alone) {
  const { tensors, description } = readTensors(bytes, source);
  if (alone) await checkSeal(description, tensors, source);
  try {
    const value = JSON.parse(description);
    if (value.format !== "propetl-task-pack") throw new Error(`its format is ${value.format}`);
    if (value.version !== 1) throw new Error(`version ${value.version} is not known here (known: 1); upgrade propetl`);
    if (!NAME.test(value.task) || value.task.includes("..")) throw new Error(`its task is ${value.task}`);
    for (const [name, { dtype, data }] of tensors) {
      const finite = dtype !== "float32" || data.every(Number.isFinite);
      if (!finite) throw new Error(`${name} has numbers that are not finite`);
    }
    const { task, prototype_sha256: prototype, backbone_fingerprint: backbone } = value;
    return { task, info: taskInfo(value), prototype, backbone, tensors };
  } catch (error) {
    if (error instanceof TaskError) throw new TaskError(`${source}: ${error.message}`);
    throw new BundleError(`${source}: not a valid task pack (${reason(error)})`);
  }
}

/**
 * Over the description and, by name, the line `name dtype shape` and the bytes of each tensor.
 * @param {string} description @param {Map<string, Tensor>} tensors @param {string} source
 */
async function checkSeal(description, tensors, source) {
  const [, told, stated] = SEALED.exec(description) ?? [];
  const parts = [...tensors].sort(([a], [b]) => (a < b ? -1 : 1)).flatMap(([name, { dtype, shape, data }]) => [
    `\n${name} ${dtype} [${shape.join(", ")}]\n`,
    /** @type {BlobPart} */ (data),
  ]);
  const content = new Uint8Array(await new Blob([`${told}}`, ...parts]).arrayBuffer());
  if ((await sha256(content)) === stated) return;
  throw new BundleError(`${source}: its content is not what its content_sha256 says; it was changed or damaged`);
}
