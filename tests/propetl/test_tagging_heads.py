"""Tagging heads against transformers' own token classifiers, of every family that has them."""

import pytest
import torch
from transformers import AutoModelForTokenClassification

from propetl.families import FAMILIES
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import tagging_info

LABELS = ("O", "B-X", "I-X")


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.takes_heads])
@pytest.mark.parametrize("head", ["linear", "own"])
def test_a_bare_backbone_tags_as_transformers_does(backbones, asked, family: str, head: str) -> None:
    backbone, (text, _) = backbones[family], asked
    model = ProPETLModel(backbone, PrototypeConfig("head"), head, {"ner": tagging_info(LABELS)}).eval()
    theirs = AutoModelForTokenClassification.from_pretrained(backbone.info.name, num_labels=3).eval()
    classifier = theirs.score if hasattr(theirs, "score") else theirs.classifier
    assert {name: value.shape for name, value in model.head_tensors("ner").items()} == {
        name: value.shape for name, value in classifier.named_parameters()
    }
    with torch.no_grad():
        for name, value in classifier.named_parameters():
            value.copy_(model.head_tensors("ner")[name])
        found, expected = model("ner", **text).logits, theirs(**text).logits
    real = text["attention_mask"].bool()
    torch.testing.assert_close(found[real], expected[real], rtol=1e-5, atol=1e-5)


def test_the_loss_is_that_of_tagged_tokens(bert, text) -> None:
    model = ProPETLModel(bert, PrototypeConfig(bottleneck=4), tasks={"ner": tagging_info(LABELS)}).eval()
    labels = torch.full((3, 8), -100)
    labels[0, 2], labels[1, 1] = 1, 2
    output = model("ner", **text, labels=labels)
    chosen = output.logits[[0, 1], [2, 1]].log_softmax(dim=-1)
    torch.testing.assert_close(output.loss, -(chosen[0, 1] + chosen[1, 2]) / 2)
    model.label_smoothing = 0.3
    smoothed = 0.7 * output.loss - 0.3 * chosen.mean(dim=-1).mean()
    torch.testing.assert_close(model("ner", **text, labels=labels).loss, smoothed)


def test_dropout_is_applied_at_every_token(bert, text) -> None:
    model = ProPETLModel(bert, PrototypeConfig("head"), tasks={"ner": tagging_info(LABELS)})
    model.eval()
    model.dropout.train()
    model.dropout.p = 0.5
    first, second = (model("ner", **text).logits.detach() for _ in range(2))
    assert ((first - second).abs().amax(dim=-1) > 0).all()
