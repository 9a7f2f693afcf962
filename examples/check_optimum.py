"""Loads a folded task's folder with optimum, which knows nothing of ProPETL, and prints its answer to a text.

Called by `make check-optimum FOLDER=artifact/folded/TASK TEXT="some text"`. For a task that is answered in text,
TEXT is the whole input, its prompt included.
"""

import os
import sys
from pathlib import Path


def main() -> None:
    """Prints logits and label, or the tokens and the text that are generated, as optimum computes them."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when ONNX Runtime is loaded
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer

    folder, text = sys.argv[1:3]
    inputs = AutoTokenizer.from_pretrained(folder)([text], return_tensors="pt")
    if Path(folder, "generation_config.json").exists():
        _print_generated(folder, inputs)
    else:
        model = ORTModelForSequenceClassification.from_pretrained(folder)
        logits = model(**inputs).logits[0]
        print(logits.tolist(), model.config.id2label[int(logits.argmax())])


def _print_generated(folder: str, inputs: dict) -> None:
    from optimum.onnxruntime import ORTModelForCausalLM, ORTModelForSeq2SeqLM
    from transformers import AutoTokenizer

    if Path(folder, "encoder_model.onnx").exists():
        merged = Path(folder, "decoder_model_merged.onnx").exists()  # as propetl export --merge-decoders leaves it
        model = ORTModelForSeq2SeqLM.from_pretrained(folder, use_merged=merged)
    else:
        model = ORTModelForCausalLM.from_pretrained(folder)
    tokens = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
    print(tokens.tolist(), AutoTokenizer.from_pretrained(folder).decode(tokens, skip_special_tokens=True))


if __name__ == "__main__":
    main()
