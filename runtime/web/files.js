import { ArtifactError, BackendError, BundleError, reason } from "./errors.js";
import { sha256 } from "./safetensors.js";

export const inNode = typeof process === "object" && Boolean(process.versions?.node);

/** The content of a file by URL, under Node also by path. @param {string} url */
async function readFrom(url) {
  if (inNode && !/^https?:/.test(url)) {
    const { readFile } = await import("node:fs/promises");
    return new Uint8Array(await readFile(url.startsWith("file:") ? new URL(url) : url));
  }
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`the server says ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** The bytes of a pack. @param {string | URL | ArrayBuffer | Uint8Array<ArrayBuffer>} pack */
export async function packBytes(pack) {
  if (pack instanceof ArrayBuffer) return new Uint8Array(pack);
  if (pack instanceof Uint8Array) return pack;
  try {
    return await readFrom(String(pack));
  } catch (error) {
    throw new BundleError(`${pack}: cannot be read (${reason(error)}); give the URL of a task pack, or its bytes`);
  }
}

/** The files below one folder: no byte of the manifest's files is given out whose hash was not checked. */
export class Files {
  /** @type {Map<string, { sha256: string, bytes: number }>} */
  records = new Map();

  /** @param {string | URL} url of the folder, or its path under Node */
  constructor(url) {
    this.url = String(url).replace(/\/+$/, "");
    if (!globalThis.crypto?.subtle) {
      throw new BackendError(`${this.url}: WebCrypto, which checks hashes, is not here; serve over https or localhost`);
    }
  }

  /** A file that nothing vouches for: the manifest. @param {string} relative */
  async unchecked(relative) {
    const local = inNode && !/^(https?|file):/.test(this.url);
    try {
      const encoded = relative.split("/").map(encodeURIComponent).join("/");
      return await readFrom(`${this.url}/${local ? relative : encoded}`);
    } catch (error) {
      const found = `${relative} is missing or cannot be read (${reason(error)})`;
      throw new ArtifactError(`${this.url}: ${found}; restore the folder from its source`);
    }
  }

  /** A file of the manifest, of the size and SHA-256 that stand there. @param {string} relative */
  async read(relative) {
    const record = this.records.get(relative);
    if (!record) throw new ArtifactError(`${this.url}: ${relative} is not among its files; restore it from its source`);
    const bytes = await this.unchecked(relative);
    if (bytes.length !== record.bytes) {
      const stated = `its manifest says ${record.bytes}; it was truncated or replaced`;
      throw new ArtifactError(`${this.url}: ${relative} has ${bytes.length} bytes, ${stated}`);
    }
    if ((await sha256(bytes)) === record.sha256) return bytes;
    const stated = "is not the one in its manifest; the file was changed or damaged";
    throw new ArtifactError(`${this.url}: ${relative}: its SHA-256 ${stated}`);
  }
}
