"""transformers' models behind the interface of the loops: no cache, every step computes all anew."""

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from propetl.runtime.generation.steps import Scores, Tokens


class EncoderDecoderSteps:
    """A model with an encoder."""

    def __init__(self, model: PreTrainedModel, ids: Tokens, mask: Tokens) -> None:
        self._model = model
        self._mask = torch.from_numpy(mask)
        self._decoded = torch.full((len(ids), 1), model.config.decoder_start_token_id)
        with torch.no_grad():
            self._encoded = model.get_encoder()(torch.from_numpy(ids), self._mask).last_hidden_state

    def prompt(self) -> Tokens:
        return self._decoded.numpy()

    def first(self) -> Scores:
        return self._logits()

    def after(self, tokens: Tokens) -> Scores:
        self._decoded = torch.cat([self._decoded, torch.from_numpy(tokens)[:, None]], dim=1)
        return self._logits()

    def select(self, rows: Tokens) -> None:
        picked = torch.from_numpy(rows)
        self._encoded, self._mask, self._decoded = (
            tensor[picked] for tensor in (self._encoded, self._mask, self._decoded)
        )

    def _logits(self) -> Scores:
        with torch.no_grad():
            out = self._model(
                encoder_outputs=(self._encoded,),
                attention_mask=self._mask,
                decoder_input_ids=self._decoded,
                use_cache=False,
            )
        return out.logits[:, -1].numpy()


class DecoderSteps:
    """A model without an encoder; prompts are padded in front."""

    def __init__(self, model: PreTrainedModel, ids: Tokens, mask: Tokens) -> None:
        self._model = model
        self._ids, self._mask = torch.from_numpy(ids), torch.from_numpy(mask)

    def prompt(self) -> Tokens:
        return self._ids.numpy()

    def first(self) -> Scores:
        return self._logits()

    def after(self, tokens: Tokens) -> Scores:
        self._ids = _with(self._ids, torch.from_numpy(tokens))
        self._mask = _with(self._mask, torch.ones(len(tokens), dtype=torch.int64))
        return self._logits()

    def select(self, rows: Tokens) -> None:
        picked = torch.from_numpy(np.asarray(rows))
        self._ids, self._mask = self._ids[picked], self._mask[picked]

    def _logits(self) -> Scores:
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)
        with torch.no_grad():
            out = self._model(self._ids, attention_mask=self._mask, position_ids=positions, use_cache=False)
        return out.logits[:, -1].numpy()


def _with(tensor: Tensor, column: Tensor) -> Tensor:
    return torch.cat([tensor, column[:, None]], dim=1)
