"""A vision-language model, as notebook 11 builds it: trimmed tower, norm, projector, and Gemma."""

from utils.siglip import TrimmedTower

import torch
import torch.nn.functional as F
from torch import nn


def prefix_mask(prefix, total):
    """Who may look at whom: all at the whole prefix, the answer's tokens also back at the answer.

    -> (total, total), True where row may look at column.
    Beyer et al. 2024, PaliGemma, arXiv 2407.07726, section 3.
    """
    may_look = torch.ones(total, total, dtype=torch.bool).tril()
    may_look[:, :prefix] = True
    return may_look


def added_mask(may_look):
    """(rows, columns) of True and False -> what is added to the scores, (1, 1, rows, columns)"""
    lowest = torch.finfo(torch.float32).min
    return torch.zeros(may_look.shape).masked_fill(~may_look, lowest)[None, None]


class VisionLanguageModel(nn.Module):
    """PaliGemma's way: what the tower sees, then prompt and answer, as one sequence for Gemma.

    pixel values (batch, 3, height, width), token ids (batch, tokens), how many of them are prompt
    -> logits of each next token (batch, patches + tokens, vocabulary).
    Beyer et al. 2024, arXiv 2407.07726.
    """

    def __init__(self, config, language_model):
        super().__init__()
        vision = config.vision_config
        self.tower = TrimmedTower(vision)
        self.post_layernorm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.projector = nn.Linear(vision.hidden_size, config.text_config.hidden_size)
        self.language_model = language_model

    def see(self, pixel_values):
        return self.post_layernorm(self.tower(pixel_values))  # (batch, patches, vision width)

    def merge(self, seen, token_ids):
        tokens = self.language_model.embed_tokens(token_ids)  # times sqrt(text width), inside
        return torch.cat([self.projector(seen), tokens], dim=1)  # (batch, patches + tokens, width)

    def read(self, seen, token_ids, prompt):
        sequence = self.merge(seen, token_ids)
        total = sequence.shape[1]
        hidden = self.language_model(
            inputs_embeds=sequence,
            attention_mask=added_mask(prefix_mask(seen.shape[1] + prompt, total)),
            position_ids=torch.arange(1, total + 1)[None],
        ).last_hidden_state
        return hidden @ self.language_model.embed_tokens.weight.T

    def forward(self, pixel_values, token_ids, prompt):
        return self.read(self.see(pixel_values), token_ids, prompt)


def load_parts(model, theirs):
    """Copy tower, norm and projector of transformers' PaliGemma into ours, which has its Gemma."""
    vision = theirs.model.vision_tower.state_dict()
    model.tower.load_state_dict({name: vision[name] for name in model.tower.state_dict()})
    model.post_layernorm.load_state_dict(theirs.model.vision_tower.post_layernorm.state_dict())
    model.projector.load_state_dict(theirs.model.multi_modal_projector.linear.state_dict())
    return model


def answer_loss(logits, token_ids, prompt, padding):
    """How surprising the answer is: the mean cross-entropy of its tokens, given all before each.

    logits (batch, patches + tokens, vocabulary), token ids (batch, tokens) -> scalar.
    The first `prompt` tokens are not judged, nor is padding.
    """
    answer = token_ids[:, prompt:]
    predicted = logits[:, -answer.shape[1] - 1 : -1]  # the row before a token predicts it
    return F.cross_entropy(predicted.flatten(0, 1), answer.flatten(), ignore_index=padding)


@torch.no_grad()
def generate(model, seen, token_ids, end, limit=24):
    """Greedy: always the most likely next token, until `end`. One picture; -> list of token ids

    The keys and values of all tokens so far are kept (KV cache): each step reads one new token.
    """
    gemma, cache, total, answer = model.language_model, None, 0, []
    new = model.merge(seen, token_ids)  # first the whole prefix (1, patches + tokens, width)
    while len(answer) < limit:
        total += new.shape[1]
        mask = torch.zeros(1, 1, new.shape[1], total)  # a new token sees all that is there
        positions = torch.arange(total - new.shape[1] + 1, total + 1)[None]
        inputs = dict(inputs_embeds=new, attention_mask=mask, position_ids=positions)
        run = gemma(**inputs, past_key_values=cache, use_cache=True)
        cache = run.past_key_values
        best = (run.last_hidden_state[:, -1] @ gemma.embed_tokens.weight.T).argmax(dim=-1)  # (1)
        if best.item() == end:
            break
        answer.append(best.item())
        new = gemma.embed_tokens(best[None])  # then one token after the other (1, 1, width)
    return answer
