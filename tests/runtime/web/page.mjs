// A page in headless Chromium: {chromium, profile, url, texts, packs, mixed, picture} in; what it showed and computed out.
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const given = JSON.parse(readFileSync(0, "utf8"));
const features = ["background-networking", "component-update", "sync", "quic", "gpu"].map((name) => `--disable-${name}`);
const browser = await chromium.launchPersistentContext(given.profile, {
  executablePath: given.chromium,
  args: ["--headless", "--no-sandbox", "--no-first-run", ...features],
  viewport: { width: 960, height: 720 },
});
const page = await browser.newPage();
const [hosts, errors] = [new Set(), []];
page.on("request", (request) => hosts.add(new URL(request.url()).host));
page.on("pageerror", (error) => errors.push(error.message));

/** The cards, once all that can be are answered. */
async function shown(answered) {
  const done = "[data-answer]:not([data-answer=null])";
  await page.waitForFunction(([all, count]) => document.querySelectorAll(all).length === count, [done, answered]);
  await page.waitForFunction(() => document.querySelectorAll("article:not([data-answer])").length === 0);
  const cards = await page.locator("article").evaluateAll((all) =>
    all.map(({ dataset, innerText }) => ({ task: dataset.task, text: innerText, answer: JSON.parse(dataset.answer ?? "null") })),
  );
  return { cards, error: await page.textContent("#error") };
}

async function drop({ path, answered, refused }) {
  const data = await page.evaluateHandle((bytes) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([new Uint8Array(bytes)], "pack.safetensors"));
    return transfer;
  }, [...readFileSync(path)]);
  await page.dispatchEvent("body", "drop", { dataTransfer: data });
  if (refused) await page.waitForFunction(() => document.getElementById("error").textContent);
  return shown(answered);
}

await page.goto(given.url);
await page.waitForSelector("body[data-ready]", { timeout: 120_000 });
const found = { status: await page.textContent("#status"), typed: [], dropped: [] };
for (const { field, text, answered } of given.texts) {
  await page.fill(field, text);
  found.typed.push(await shown(answered));
}
for (const pack of given.packs) found.dropped.push(await drop(pack));
found.mixed = await page.evaluate(async (rows) => {
  const { Session } = await import("./session.js");
  const session = await Session.open(new URL("..", location.href));
  return (await session.runMixed(rows)).map((logits) => Array.from(logits));
}, given.mixed);
if (given.picture) await page.screenshot({ path: given.picture, fullPage: true });
await browser.close();
process.stdout.write(JSON.stringify({ ...found, hosts: [...hosts], errors }));
