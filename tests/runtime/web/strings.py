"""Texts that tokenizers stumble over: any Unicode, marks, control characters, special tokens, any length."""

from random import Random

SPECIAL = ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]", "<s>", "</s>", "<mask>", "<pad>", "[cls]", "<S>", "[ SEP ]")
HIDDEN = ("[SE\0P]", "<\x01s>")
WORDS = ("the", "film", "was", "good", "Wonderful", "naïve", "ΣΊΣΥΦΟΣ", "İstanbul", "STRASSE", "ﬁne", "don't", "we'll")
BLANKS = (" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\x0b", "\x0c", "\x85", "\u2028", "\ufeff", "")
CONTROLS = ("\0", "\x01", "\x1b", "\x1f", "\x7f", "\x9f", "\u00ad", "\u061c", "\u200b", "\u200d", "\ufffd", "\u0890")
MARKS = ("\u0301", "\u0327", "\u0345", "\u05b0", "\u0897", "\u1734", "\u180b", "\U0001e000", "\U00011a01", "\u0338")
SCRIPTS = (
    (0x20, 0x7E), (0xA1, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF), (0x700, 0x8FF), (0x900, 0xDFF),
    (0xE00, 0x17FF), (0x1800, 0x1FFF), (0x2000, 0x2BFF), (0x2E00, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF),
    (0xA000, 0xABFF), (0xAC00, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x11FFF), (0x12000, 0x1FFFF), (0x20000, 0x323AF),
    (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF),
)  # fmt: skip


def text_of(random: Random, pieces: int) -> str:
    """A text of so many pieces, which is not blank."""
    return "".join(_piece(random) for _ in range(pieces)) + random.choice(WORDS)


def rows_of(count: int, seed: int, longest: int) -> list[str | tuple[str, str]]:
    """Texts and pairs, half of them of about ``longest`` tokens."""
    random = Random(seed)
    texts = []
    for _ in range(count):
        pieces = random.choice((random.randint(1, 8), random.randint(longest // 3, 2 * longest)))
        text = text_of(random, pieces)
        pair = random.random() < 0.4
        texts.append((text, text_of(random, random.choice((1, 3, pieces)))) if pair else text)
    return texts


def _piece(random: Random) -> str:
    kind = random.random()
    if kind < 0.35:
        return random.choice(WORDS) + random.choice(BLANKS[:3])
    if kind < 0.75:
        first, last = random.choice(SCRIPTS)
        return "".join(chr(random.randint(first, last)) for _ in range(random.randint(1, 4)))
    return random.choice(random.choice((SPECIAL, HIDDEN, BLANKS, CONTROLS, MARKS, MARKS)))
