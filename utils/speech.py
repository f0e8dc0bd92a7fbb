"""What a model says: captions made and read, and which of their words are right."""

from collections import Counter
from types import SimpleNamespace

from utils.vlm import added_mask, answer_loss, prefix_mask

import inflect
import torch

english = inflect.engine()


@torch.no_grad()
def describe(model, reference, seen, prompt="describe", limit=24, hidden=None):
    """What a VLM says about many pictures, decoded together. seen (pictures, patches, width) -> a sentence each

    As `utils.vlm.generate` does for one picture. A sentence that has ended is continued until all have, and cut.
    `hidden`, (patches) or (pictures, patches) of bool: what the rows that predict a word, and they alone, may not look at.
    """
    seen = seen.to(model.projector.weight.device)
    start = reference.tokenize(prompt)[0].to(seen.device)
    end, gemma, cache, total, said = reference.tokenizer.eos_token_id, model.language_model, None, 0, []
    new = model.merge(seen, start.expand(len(seen), -1))
    while len(said) < limit and not (said and (torch.stack(said) == end).any(dim=0).all()):
        total += new.shape[1]
        mask = torch.zeros(len(seen), 1, new.shape[1], total, device=seen.device)
        if hidden is not None:  # the last row predicts the next word
            mask[:, 0, -1, : seen.shape[1]].masked_fill_(hidden.to(seen.device), torch.finfo(mask.dtype).min)
        positions = torch.arange(total - new.shape[1] + 1, total + 1, device=seen.device)[None]
        run = gemma(inputs_embeds=new, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        cache = run.past_key_values
        said.append((run.last_hidden_state[:, -1] @ gemma.embed_tokens.weight.T).argmax(dim=-1))  # (pictures)
        new = gemma.embed_tokens(said[-1][:, None])
    rows = torch.stack(said, dim=1).cpu().tolist()
    return [reference.decode(row[: row.index(end)] if end in row else row) for row in rows]


@torch.no_grad()
def read_and_look(model, seen, token_ids, prompt):
    """What a VLM's rows say that predict a token of the answer, and where on the picture they look.

    seen (1, patches, width), token ids (1, tokens), how many of them are prompt
    -> logits (rows, vocabulary), attention (rows, patches), the mean of all layers and heads
    """
    sequence, patches = model.merge(seen, token_ids), seen.shape[1]
    rows = slice(patches + prompt - 1, -1)  # the row before a token predicts it; the last row has nothing left to predict
    may_look = prefix_mask(patches + prompt, sequence.shape[1])
    options = {"position_ids": torch.arange(1, len(may_look) + 1)[None], "output_attentions": True}
    run = model.language_model(inputs_embeds=sequence, attention_mask=added_mask(may_look), **options)
    logits = run.last_hidden_state[0, rows] @ model.language_model.embed_tokens.weight.T
    return logits, torch.cat(run.attentions).mean(dim=(0, 1))[rows, :patches]


def reader_of(merge, reads, prompt):
    """A function of (VLM, what its tower sees, token ids) -> the logits of what `merge` makes of them, or None if nothing.

    The VLM `reads` gives them: it is none of the inputs, which a learner's `merge` may change.
    """

    def read(model, seen, token_ids):
        sequence = merge(model, seen, token_ids)
        if sequence is not None:
            reader = SimpleNamespace(merge=lambda *_: sequence, language_model=reads.language_model)
            return type(reads).read(reader, seen, token_ids, prompt)

    read.__wrapped__ = merge  # an error is reported in the learner's own lines
    return read


def log_probability(logits, token_ids, prompt):
    """The logarithm of how likely the whole answer is. logits (1, patches + tokens, words), ids (1, tokens) -> scalar"""
    return -answer_loss(logits, token_ids, prompt, padding=-100) * (token_ids.shape[1] - prompt)


def likeliest(logits, tokenizer, number=3):
    """The likeliest next tokens, each with its probability in percent. logits (vocabulary) or (rows, vocabulary) -> text"""
    if logits.dim() == 2:
        return "\n".join(likeliest(row, tokenizer, number) for row in logits)
    best = logits.softmax(dim=-1).topk(number)
    return ", ".join(f"{tokenizer.decode(token)!r} {share:.0%}" for share, token in zip(*best))


def things_named(caption):
    """How many things a caption names: "a cat and two suns on a red background" -> 3."""
    numbers = {"a": 1, "an": 1, "two": 2, "three": 3}
    return sum(numbers.get(word, 0) for word in caption.partition(" on ")[0].split())


def share_right(captions, scenes, part=str):
    """How many captions are right, to the letter or in a `part` of theirs. [sentences], [(picture, right caption)] -> 0 to 1"""
    return sum(part(said) == part(truth) for said, (_, truth) in zip(captions, scenes)) / len(scenes)


def two_and_named(captions, names):
    """How many captions speak of two things, and how many name the thing of their place in `names`. -> two numbers"""
    two = sum(things_named(caption) == 2 for caption in captions)
    return two, sum(f" {name} " in caption for caption, name in zip(captions, names))


def things_told(caption):
    """Which things a caption tells of, however it words them. "a sun, a cat and a sun on a red …" -> {"sun": 2, "cat": 1}"""
    counts = Counter()
    for part in caption.partition(" on ")[0].replace(" and ", ", ").split(", "):
        number, _, form = part.partition(" ")
        if form:  # a model that has learned little may write anything
            counts[form if number in ("a", "an") else english.singular_noun(form) or form] += things_named(part)
    return counts


def names_told(caption):
    """The names of the things that a caption tells of. "a sun, a cat and a sun on a red …" -> {"sun", "cat"}"""
    return set(things_told(caption))


def background_told(caption):
    """ "a cat on a red background" -> "a red background"."""
    return caption.partition(" on ")[2]


def marked(captions, scenes, chosen):
    """Some captions, each with a mark: is it right? Under a wrong one stands what is. -> {title: picture}"""
    titles = {}
    for said, (picture, truth) in ((captions[index], scenes[index]) for index in chosen):
        titles[f"✓ {said}" if said == truth else f"✗ {said}\nright: {truth.partition(' on ')[0]}"] = picture
    return titles


def in_one_line(titles):
    """Titles of more than one line, for what describes the whole picture. -> text"""
    return "; ".join(title.replace("\n", ", ") for title in titles) + "."


def film_title(step, captions, scenes):
    """What stands over the captions of one step of a training: how many are right. -> three lines"""
    background = share_right(captions, scenes, background_told)
    return f"step {step}\n{share_right(captions, scenes):.0%} of the test right,\nbackground: {background:.0%}"


def film_of(film, scenes, also):
    """A training in pictures: the first and the last scene that it gets right in the end, and the one at place `also`.

    film {step: [a caption for each scene]}, [(picture, right caption)] -> pictures, right captions, {title: [captions]}
    """
    good = [index for index, (_, truth) in enumerate(scenes) if film[max(film)][index] == truth]
    chosen = [*good[:1], *good[1:][-1:], also]
    pictures, truths = zip(*(scenes[index] for index in chosen))
    frames = {film_title(step, said, scenes): [said[index] for index in chosen] for step, said in film.items()}
    return pictures, truths, frames


def one_of(name):
    """ "key" -> "a key", "ant" -> "an ant"."""
    return english.a(name)


def two_of(name):
    """ "key" -> "two keys"."""
    return f"two {english.plural(name)}"
