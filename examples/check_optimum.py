"""Loads a folded task's folder with optimum, which knows nothing of ProPETL, and prints its answer to a text.

Called by `make check-optimum FOLDER=artifact/folded/TASK TEXT="some text"`.
"""

import sys

from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer


def main() -> None:
    """Prints logits and label as optimum computes them."""
    folder, text = sys.argv[1:3]
    model = ORTModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = model(**tokenizer([text], return_tensors="pt")).logits[0]
    print(logits.tolist(), model.config.id2label[int(logits.argmax())])


if __name__ == "__main__":
    main()
