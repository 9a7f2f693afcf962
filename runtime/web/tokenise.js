import { BPE, ByteLevelPreTokenizer, WordPiece } from "@huggingface/tokenizers";
import { ArtifactError, BackendError, ConfigurationError, reason } from "./errors.js";
import { BLANK, CHINESE, CONTROL, LETTER, MARK, NUMBER, PUNCTUATION, decomposed, regex } from "./unicode.js";

/** @typedef {{ ids: number[], types: number[], places: number[] }} TokenRow places: each word's first token, or -1 */
/** @typedef {{ ids?: number[], text?: number, type: number }} Part of a row: special tokens, or the text of an index */

const [CONTROLS, BLANKS, IDEOGRAPHS, MARKS] = [CONTROL, BLANK, CHINESE, MARK].map((set) => regex(set));
const [AT_START, AT_END] = [`^${BLANK}*`, `${BLANK}*$`].map((pattern) => regex(pattern, "sv"));
const BERT_WORDS = regex(`${PUNCTUATION}|(?:(?!${PUNCTUATION}|${BLANK}).)+`);
const [LETTERS, NUMBERS, OTHERS] = [LETTER, NUMBER, `(?:(?!${LETTER}|${NUMBER}|${BLANK}).)`].map((set) => ` ?${set}+`);
const ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d";
const BYTE_WORDS = regex(`${ENDINGS}|${LETTERS}|${NUMBERS}|${OTHERS}|${BLANK}+(?=${BLANK}|$)|${BLANK}+`);
const TAGGED_WORDS = /[ \t\r\n]*[^ \t\r\n]+|[ \t\r\n]+$/g; // with the blanks of ASCII before them, which part words
const ONLY_BLANKS = /^[ĠĊĉč]*$/;

/** The tokenizer of an artifact: the ids that Python gives, or an error where these are not certain. */
export class Tokeniser {
  /** @param {any} json `tokenizer.json` @param {any} manifest @param {string[]} inputs @param {string} source */
  constructor(json, manifest, inputs, source) {
    this.source = source;
    this.inputs = inputs;
    this.length = manifest.max_length;
    this.padId = manifest.pad_token_id;
    try {
      this.normalise = this.normaliser(json.normalizer);
      this.words = this.splitter(json.pre_tokenizer);
      this.model = this.modelOf(json.model);
      this.layouts = this.layoutsOf(json.post_processor);
      const whole = json.added_tokens.find((token) => token.single_word);
      if (whole) throw this.uncertain(`added token ${whole.content} that is a single word`);
      this.raw = finder(json.added_tokens.filter((token) => !token.normalized), (text) => text);
      this.changed = finder(json.added_tokens.filter((token) => token.normalized), this.normalise);
    } catch (error) {
      if (error instanceof BackendError) throw error;
      throw new ArtifactError(`${source}: not a readable tokenizer (${reason(error)}); restore it`);
    }
    const special = this.room([0, 0]);
    if (special > 0) return;
    const found = `max_length ${this.length} leaves no room beside ${this.length - special} special tokens`;
    throw new ConfigurationError(`${source}: ${found}; train with more`);
  }

  /** @param {string} what */
  uncertain(what) {
    return new BackendError(`${this.source}: ${what} may give other ids here than in Python; run this artifact there`);
  }

  /** @param {any} json @returns {(text: string) => string} */
  normaliser(json) {
    if (!json) return (text) => text;
    if (json.type !== "BertNormalizer") throw this.uncertain(`normalizer ${json.type}`);
    return (text) => {
      if (json.clean_text) text = text.replace(CONTROLS, "").replace(BLANKS, " ");
      if (json.handle_chinese_chars) text = text.replace(IDEOGRAPHS, " $& ");
      if (json.strip_accents ?? json.lowercase) text = decomposed(text).replace(MARKS, "");
      return json.lowercase ? Array.from(text, (letter) => letter.toLowerCase()).join("") : text; // no final sigma
    };
  }

  /** @param {any} json @returns {(text: string) => string[]} */
  splitter(json) {
    if (json?.type === "BertPreTokenizer") return (text) => text.match(BERT_WORDS) ?? [];
    if (json?.type !== "ByteLevel" || json.use_regex === false) throw this.uncertain(`pre-tokenizer ${json?.type}`);
    const bytes = new ByteLevelPreTokenizer({ type: "ByteLevel", use_regex: false, add_prefix_space: false });
    return (text) => {
      const whole = json.add_prefix_space && !text.startsWith(" ") ? ` ${text}` : text;
      return (whole.match(BYTE_WORDS) ?? []).flatMap((word) => bytes.pre_tokenize_text(word, {}));
    };
  }

  /** @param {any} json */
  modelOf(json) {
    if (json.type === "WordPiece") return new WordPiece(json);
    const others = ["dropout", "fuse_unk", "byte_fallback", "end_of_word_suffix", "continuing_subword_prefix"];
    if (json.type === "BPE" && others.every((key) => !json[key])) return new BPE(json);
    throw this.uncertain(`model ${json.type}`);
  }

  /** What a row of one text, and one of two, is made of. @param {any} json @returns {Part[][]} */
  layoutsOf(json) {
    const all = json?.type === "Sequence" ? json.processors : [json];
    const steps = all.filter((step) => step && step.type !== "ByteLevel");
    const [{ type, single, pair, special_tokens: tokens, cls, sep } = { type: "none" }] = steps;
    const part = ({ SpecialToken: special, Sequence: text }) =>
      special
        ? { ids: tokens[special.id].ids, type: special.type_id }
        : { text: text.id === "A" ? 0 : 1, type: text.type_id };
    const begin = () => [{ ids: [cls[1]], type: 0 }, { text: 0, type: 0 }, { ids: [sep[1]], type: 0 }];
    const end = (type) => [{ text: 1, type }, { ids: [sep[1]], type }];
    const one = { text: 0, type: 0 };
    if (type === "none") return [[one], [one, { text: 1, type: 1 }]];
    if (steps.length === 1 && type === "TemplateProcessing") return [single.map(part), pair.map(part)];
    if (steps.length === 1 && type === "BertProcessing") return [begin(), [...begin(), ...end(1)]];
    if (steps.length === 1 && type === "RobertaProcessing") return [begin(), [...begin(), begin()[2], ...end(0)]];
    throw this.uncertain(`post-processor ${steps.map((step) => step.type).join(", ")}`);
  }

  /** Token ids and token texts of a text, without the special tokens around it. @param {string} text */
  tokens(text) {
    const plain = (piece) =>
      this.model.encode(this.words(piece)).map((text) => ({ id: this.model.tokens_to_ids.get(text), text }));
    const pieces = this.raw(text).map((piece) => (typeof piece === "string" ? this.normalise(piece) : piece));
    const parts = pieces.flatMap((piece) => (typeof piece === "string" ? this.changed(piece) : [piece]));
    const tokens = parts.flatMap((piece) => (typeof piece === "string" ? plain(piece) : [piece]));
    if (tokens.every(({ id }) => Number.isInteger(id))) return tokens;
    throw new ArtifactError(`${this.source}: its model gives a token that is not in its vocabulary; restore it`);
  }

  /** Tokens that fit beside the special ones of a row of so many texts. @param {unknown[]} texts */
  room(texts) {
    return this.layouts[texts.length - 1].reduce((left, part) => left - (part.ids?.length ?? 0), this.length);
  }

  /** A text or a pair, truncated: the longer text loses first. @param {string[]} texts @returns {TokenRow} */
  row(texts, withWords = false) {
    const ids = texts.map((text) => this.tokens(text).map((token) => token.id));
    const kept = longestFirst(ids.map((text) => text.length), this.room(texts));
    const parts = this.layouts[texts.length - 1].map(({ ids: special, text, type }) => {
      const mine = special ?? ids[text].slice(0, kept[text]);
      return { mine, types: mine.map(() => type), before: text === undefined ? 0 : -1 };
    });
    const first = this.layouts[0].slice(0, this.layouts[0].findIndex((part) => part.text === 0));
    const before = first.reduce((total, part) => total + part.ids.length, 0);
    const places = withWords ? this.places(texts[0], ids[0]).map((place) => (place < kept[0] ? place : -1)) : [];
    return {
      ids: parts.flatMap(({ mine }) => mine),
      types: parts.flatMap(({ types }) => types),
      places: places.map((place) => (place < 0 ? -1 : place + before)),
    };
  }

  /** The first token of each word, or -1. @param {string} text @param {number[]} whole its ids */
  places(text, whole) {
    const words = Array.from(text.matchAll(TAGGED_WORDS), ([word]) => ({ word, tokens: this.tokens(word) }));
    if (words.flatMap(({ tokens }) => tokens.map(({ id }) => id)).join() !== whole.join()) {
      throw this.uncertain("a text whose words are not tokenised one by one");
    }
    let start = 0;
    return words.filter(({ word }) => /[^ \t\r\n]/.test(word)).map(({ tokens }) => {
      const own = tokens.findIndex((token) => !ONLY_BLANKS.test(token.text));
      start += tokens.length;
      return own < 0 ? -1 : start - tokens.length + own;
    });
  }

  /** Model inputs of rows, padded to the longest of them. @param {TokenRow[]} rows */
  pad(rows) {
    const width = Math.max(...rows.map((row) => row.ids.length));
    const filled = { input_ids: [], attention_mask: [], token_type_ids: [] };
    for (const { ids, types } of rows) {
      for (let place = 0; place < width; place++) {
        filled.input_ids.push(ids[place] ?? this.padId);
        filled.attention_mask.push(place < ids.length ? 1 : 0);
        filled.token_type_ids.push(types[place] ?? 0);
      }
    }
    const shape = [rows.length, width];
    return this.inputs.map((name) => ({ name, dtype: "int64", data: BigInt64Array.from(filled[name], BigInt), shape }));
  }
}

/**
 * Splits a text at added tokens, of which the longest at a place counts.
 * @param {any[]} added @param {(text: string) => string} shown how a token stands in the text
 */
function finder(added, shown) {
  /** @type {Map<string, any>} */
  const known = new Map(added.map((token) => [shown(token.content), token]));
  known.delete("");
  const texts = [...known.keys()].sort((a, b) => b.length - a.length);
  const escaped = texts.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const found = escaped.length ? new RegExp(escaped.join("|"), "gu") : null;
  return (text) => {
    const pieces = [];
    let last = 0;
    for (const { 0: content, index } of found ? text.matchAll(found) : []) {
      const { id, lstrip, rstrip } = known.get(content);
      const before = text.slice(last, index);
      pieces.push(lstrip ? before.replace(AT_END, "") : before, { id, text: content });
      last = index + content.length;
      if (rstrip) last += AT_START.exec(text.slice(last))[0].length;
    }
    return [...pieces, text.slice(last)].filter((piece) => piece !== "");
  };
}

/** Lengths to which texts are cut so that they fit together. @param {number[]} lengths @param {number} room */
function longestFirst(lengths, room) {
  if (lengths.reduce((a, b) => a + b) <= room) return lengths;
  const kept = [...lengths];
  const order = lengths.map((_, index) => index).sort((a, b) => lengths[a] - lengths[b]);
  order.forEach((index, done) => {
    kept[index] = Math.min(lengths[index], Math.floor(room / (order.length - done)));
    room -= kept[index];
  });
  return kept;
}
