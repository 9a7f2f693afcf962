// Token rows of texts by tokenizers: {module, cases: [{json, manifest, inputs, texts}]} in, [[ids, types], …] for each case out.
import { readFileSync } from "node:fs";

const { module, cases } = JSON.parse(readFileSync(0, "utf8"));
const { Tokeniser } = await import(`${module}/tokenise.js`);
const rowsOf = ({ json, manifest, inputs, texts }) => {
  try {
    const tokeniser = new Tokeniser(JSON.parse(json), manifest, inputs, "tokenizer.json");
    return texts.map((text) => {
      const { ids, types } = tokeniser.row([text].flat());
      return [ids, types];
    });
  } catch (error) {
    return { name: error.name, message: error.message };
  }
};
process.stdout.write(JSON.stringify(cases.map(rowsOf)));
