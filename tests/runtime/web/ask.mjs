// Answers of sessions: {module, cases: [{artifact, options, steps: [[method, …arguments]]}]} in, results of steps out.
import { readFileSync } from "node:fs";

const { module, cases } = JSON.parse(readFileSync(0, "utf8"));
const { Session } = await import(`${module}/session.js`);

const failure = (error) => ({ error: error.name, message: error.message });
const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);

async function result(session, [method, ...given]) {
  try {
    if (method === "tasks" || method === "form") return session[method];
    if (method === "addBytes") return await session.addTask(new Uint8Array(readFileSync(given[0])));
    if (method === "together") return await Promise.all(given.map((step) => result(session, step)));
    return (await session[method](...given)) ?? null;
  } catch (error) {
    return failure(error);
  }
}

async function results({ artifact, options, steps }) {
  const found = [];
  try {
    const session = await Session.open(artifact, options);
    for (const step of steps) found.push(await result(session, step));
  } catch (error) {
    found.push(failure(error));
  }
  return found;
}

const all = [];
for (const one of cases) all.push(await results(one));
process.stdout.write(JSON.stringify(all, plain));
