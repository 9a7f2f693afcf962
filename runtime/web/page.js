import { Session } from "./session.js";

/** @typedef {import("./session.js").Prediction} Prediction */

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);
const [first, second, problem, cards, picker] = ["first", "second", "error", "tasks", "pack"].map(byId);
const folder = new URL(new URLSearchParams(location.search).get("artifact") ?? "..", location.href);
/** @type {Session} */
let session;
let asked = 0; // counts the questions: an answer to an older one is dropped

/** An element of a class. @param {string} tag @param {string} name @param {(Node | string)[]} children */
function element(tag, name, ...children) {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...children); // texts stay texts, whatever stands in a pack
  return made;
}

/** Runs `work`, and shows the line of what goes wrong in it. @param {() => Promise<void>} work */
async function showingErrors(work) {
  try {
    problem.textContent = "";
    await work();
  } catch (error) {
    problem.textContent = error.message;
  }
}

/** A card for each task: its name, its answer and how long that took. */
function showCards() {
  cards.replaceChildren(...session.tasks.map((name) => {
    const remove = element("button", "remove", "×");
    remove.title = `Remove ${name}`;
    remove.onclick = () => showingErrors(async () => {
      session.removeTask(name);
      card.remove();
    });
    const header = element("header", "", element("b", "", name), element("span", "time"), remove);
    const card = element("article", "", header, element("div", "body"));
    card.dataset.task = name;
    return card;
  }));
}

/** Asks every task that has its texts, one after the other. */
async function answerAll() {
  const mine = ++asked;
  for (const card of [...cards.children]) {
    if (!card.isConnected) continue; // removed meanwhile
    const name = card.dataset.task;
    const { columns } = session.task(name);
    const texts = [first.value, second.value].slice(0, columns.length);
    const whole = texts.every((text) => text.trim());
    const start = performance.now();
    const [found] = whole ? await session.predict(name, [columns.length === 2 ? [texts[0], texts[1]] : texts[0]]) : [];
    if (mine !== asked) return;
    card.querySelector(".time").textContent = whole ? `${(performance.now() - start).toFixed(1)} ms` : "";
    const hint = element("div", "answer none", `waits for ${columns.length === 2 ? "two texts" : "a text"}`);
    card.querySelector(".body").replaceChildren(...(found ? shown(found) : [hint]));
    card.dataset.answer = JSON.stringify(found ?? null);
  }
}

/** @param {Prediction} found */
function shown(found) {
  if (found.words) {
    const words = found.words.map(({ word, label }) => (label ? `${word}/${label}` : word));
    return [element("div", "answer", words.join(" "))];
  }
  const bars = Object.entries(found.scores).map(([label, score]) => {
    const bar = element("i", "");
    bar.style.width = `${100 * score}%`;
    return element("div", "score", element("span", "", label), bar, element("em", "", score.toFixed(3)));
  });
  return [element("div", "answer", found.label ?? found.score.toFixed(3)), ...bars];
}

/** @param {Iterable<File>} files */
const addPacks = (files) => showingErrors(async () => {
  for (const file of files) await session.addTask(await file.arrayBuffer());
  showCards();
  await answerAll();
});

const start = performance.now();
await showingErrors(async () => {
  session = await Session.open(folder);
  const { backbone, precision } = session.artifact.value;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  const what = `${backbone.name}, ${precision}, form ${session.form}`;
  byId("status").textContent = `${what}: loaded in ${seconds} s. Nothing leaves this page.`;
  for (const field of [first, second]) {
    field.disabled = false;
    field.oninput = () => showingErrors(answerAll);
  }
  picker.onchange = () => addPacks(picker.files);
  document.ondragover = (event) => event.preventDefault();
  document.ondragenter = () => document.body.classList.add("over");
  document.ondragleave = (event) => event.relatedTarget || document.body.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    addPacks(event.dataTransfer.files);
  };
  showCards();
  await answerAll();
});
document.body.dataset.ready = String(session !== undefined);
