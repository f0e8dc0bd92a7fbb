"""What a mistake does to the answer: how many of the sample drawings the whole model still names right with it."""

from utils.mistakes import CATALOGUE, Edit
from utils.pictures import captioned_scenes, sample_drawings
from utils.siglip import (
    MLP,
    AttentionPoolingHead,
    Encoder,
    EncoderLayer,
    MultiHeadAttention,
    PatchEmbedding,
    SigLIP,
    TextTransformer,
    VisionTransformer,
)
from utils.speech import describe
from utils.vlm import added_mask, prefix_mask

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = {
    "embeddings": PatchEmbedding, "attention": MultiHeadAttention, "MLP": MLP, "layer norm": nn.LayerNorm,
    "encoder layer": EncoderLayer, "encoder": Encoder, "pooling head": AttentionPoolingHead,
    "last hidden state": VisionTransformer, "pooled vector": VisionTransformer, "text vector": TextTransformer,
}  # fmt: skip


def plant(wrong, part):
    """From now on the part computes what `wrong` makes of it and its inputs; `del part.forward` undoes it."""

    def forward(*inputs):
        del part.forward  # `wrong` may run the part itself, or a copy of it
        try:
            return wrong(part, *inputs)
        finally:
            part.forward = forward

    part.forward = forward


class Judge:
    """The whole hand-built model, asked for the name of each sample drawing: among the names of them all, by a caption each."""

    column = "named right"

    def __init__(self, reference, drawings=None):
        """`drawings`: other pictures of the sample's things, {name: PIL image}."""
        self.drawings, self.size = drawings or sample_drawings(), reference.config.vision_config.image_size
        self.model = SigLIP(reference.config).eval()
        self.model.load_state_dict(reference.model.state_dict())
        self.pixels, self.total = reference.preprocess(*self.drawings.values()), len(self.drawings)
        self.ids = reference.tokenize(*[f"a drawing of a {name}" for name in self.drawings])
        with torch.no_grad():
            runs = [self.model.vision_model(few) for few in self.pixels.split(14)]
            self.states = [states for states, _ in runs]
            self.images = F.normalize(torch.cat([vectors for _, vectors in runs]), dim=-1)
        self.texts = self.vectors(self.model.text_model, self.ids)
        self.said = {}

    def names(self, images, texts=None):
        """The name that each image vector is closest to. (images, width) -> list"""
        closest = (images @ (self.texts if texts is None else texts).T).argmax(dim=1)
        return [list(self.drawings)[index] for index in closest]

    def count_named(self, images):
        """How many drawings are closest to their own name. (images, width) -> number"""
        return sum(said == name for said, name in zip(self.names(images), self.drawings))

    def count_seen(self, pixels):
        """How many drawings are named right if these are their pixel values. (drawings, 3, size, size) -> number"""
        return self.count_named(self.vectors(self.model.vision_model, pixels))

    def says(self, mistake=None):
        """The name that each drawing gets while every block of the mistake's kind makes it; None if an error is raised."""
        if mistake not in self.said:
            try:
                self.said[mistake] = self.names(*self.with_mistake(mistake))
            except (RuntimeError, IndexError):  # a shape that no longer fits
                self.said[mistake] = None
        return self.said[mistake]

    def with_mistake(self, mistake):
        """-> the vectors of all drawings and of all names"""
        if mistake and mistake.stage == "preprocessing":
            pixels = torch.cat([mistake.wrong(drawing, self.size) for drawing in self.drawings.values()])
            return self.vectors(self.model.vision_model, pixels), self.texts
        if mistake and mistake.stage == "text vector":
            return self.images, self.vectors(self.model.text_model, self.ids, mistake)
        return (self.vectors(self.model.vision_model, self.pixels, mistake) if mistake else self.images), self.texts

    def count_right(self, mistake=None):
        """How many drawings are named right while every block of the mistake's kind makes it; None if an error is raised."""
        said = self.says(mistake)
        return None if said is None else sum(one == name for one, name in zip(said, self.drawings))

    @torch.no_grad()
    def vectors(self, tower, inputs, mistake=None):
        """What the tower makes of its inputs with a mistake in it, each of length 1."""
        blocks = []
        if mistake:
            if mistake.stage == "attention head":  # one head is no part of the model: the mistake of this name in all heads
                mistake = next(other for other in CATALOGUE if other.stage == "attention" and other.name == mistake.name)
            wrong = mistake.wrong
            if isinstance(wrong, Edit) and wrong.output is not None:
                wrong = Edit(wrong.block, *wrong.changes)  # all that the tower returns
            blocks = [part for part in tower.modules() if type(part) is BLOCKS[mistake.stage]]
            for part in blocks:
                plant(wrong, part)
        try:
            if mistake and mistake.stage == "pooling head":  # the states before it are right
                return F.normalize(torch.cat([tower.head(x) for x in self.states]), dim=-1)
            few = inputs.split(14)  # they stay in the processor's cache
            results = [result[1] if isinstance(result, tuple) else result for result in map(tower, few)]
            return F.normalize(torch.cat(results), dim=-1)
        finally:
            for part in blocks:
                del part.forward  # the class's own one is back


class CaptionJudge:
    """The hand-built Gemma, asked to describe scenes: how many of the captions does it say, to the letter?

    It is shown scenes, prompt and caption as one sequence, and says a caption if each token of it is the most likely one after
    those before it. `sequences` (scenes, tokens, width); `ids` (scenes, captions' tokens), filled up with `padding`.
    """

    column = "described as before"

    def __init__(self, model, sequences, ids, padding, mask, positions):
        self.model, self.sequences, self.ids, self.padding = model, sequences, ids, padding
        self.mask, self.positions, self.total = mask, positions, len(sequences)

    def count_right(self, mistake=None):
        """How many captions are said while every layer makes the mistake."""
        return self.said(mistake.wrong if mistake else None)

    @torch.no_grad()
    def said(self, run=None, positions=None):
        """How many captions are said, with other positions, or by layers that `run(layer, x, mask, positions)` runs."""
        count, positions = 0, self.positions if positions is None else positions
        for x, ids in zip(self.sequences.split(8), self.ids.split(8)):  # a few at a time stay in the processor's cache
            for layer in self.model.layers:
                x = run(layer, x, self.mask, positions) if run else layer(x, self.mask, positions)
            best = self.model.logits(self.model.norm(x[:, -ids.shape[1] - 1 : -1])).argmax(dim=-1)
            count += ((best == ids) | (ids == self.padding)).all(dim=1).sum().item()
        return count

    def fooled(self, tokens, positions, only=None):
        """How many captions are said if only `tokens`, when they look, are told these false positions.

        Attention has a row for each token that looks: it runs with true positions and with false ones, and `tokens`
        (tokens) of bool get their rows from the second run. In all layers, or in layer number `only`.
        """
        layers = list(self.model.layers) if only is None else [self.model.layers[only]]

        def run(layer, x, mask, true):
            normed = layer.input_layernorm(x)
            mixed = layer.self_attn(normed, mask, true)
            if layer in layers:
                mixed[:, tokens] = layer.self_attn(normed, mask, positions)[:, tokens]
            x = x + mixed
            return x + layer.mlp(layer.post_attention_layernorm(x))

        return self.said(run)

    def first(self, number):
        """The judge of the first scenes alone."""
        sequences, ids = self.sequences[:number], self.ids[:number]
        return CaptionJudge(self.model, sequences, ids, self.padding, self.mask, self.positions)


class ShapeJudge:
    """The hand-built NaFlex tower, asked for the name of each picture, among a text vector (names, width) for each."""

    column = "named right"

    def __init__(self, tower, inputs, texts):
        """`inputs`: the pictures' patches, grids and mask; picture 0 shows name 0, and so on."""
        self.tower, self.inputs, self.texts, self.total = tower, inputs, texts, len(texts)

    @torch.no_grad()
    def count_right(self, mistake=None):
        """How many pictures are named right while the tower makes the mistake."""
        count = 0
        for first in range(0, len(self.texts), 14):  # a few at a time stay in the processor's cache
            batch = [part[first : first + 14] for part in self.inputs]
            vectors = mistake.wrong(self.tower, *batch) if mistake else self.tower(*batch)[1]
            best = (vectors @ self.texts.T).argmax(dim=1)
            count += (best == torch.arange(first, first + len(best))).sum().item()
        return count


@torch.no_grad()
def judge_of_test_scenes(gemma, vlm, reference, prompt):
    """Of the scenes of the test, each with the caption that the model says, be it right or wrong. -> CaptionJudge"""
    seen = torch.cat([vlm.see(reference.preprocess(image)) for image, _ in captioned_scenes()[1]])
    ids, start = reference.tokenize(prompt, *describe(vlm, reference, seen, prompt))
    sequences = torch.cat([vlm.projector(seen), gemma.embed(ids)], dim=1)  # (scenes, tokens, width)
    total = sequences.shape[1]
    mask, positions = added_mask(prefix_mask(seen.shape[1] + start, total)), torch.arange(1, total + 1)
    return CaptionJudge(gemma, sequences, ids[:, start:], reference.tokenizer.pad_token_id, mask, positions)


class TokenJudge:
    """A VLM that reads a picture and its caption: how many of the caption's tokens are likeliest after those before them?"""

    column = "tokens right"

    def __init__(self, model, pixel_values, token_ids, prompt):
        self.model, self.inputs = model, (pixel_values, token_ids, prompt)
        self.answer = token_ids[0, prompt:]
        self.total = len(self.answer)

    @torch.no_grad()
    def count_right(self, mistake=None):
        """How many tokens are right while the model makes the mistake."""
        logits = mistake.wrong(self.model, *self.inputs) if mistake else self.model(*self.inputs)
        best = logits[0, -self.total - 1 : -1].argmax(dim=-1)  # the row before a token predicts it
        return (best == self.answer).sum().item()
