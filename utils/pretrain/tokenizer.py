"""The bundled model's tokenizer: SigLIP's own class, with a vocabulary small enough for captions of drawings."""

import io
import random

from utils.pretrain.drawings import write_whole

import sentencepiece
from transformers import SiglipTokenizer

TEXT_LENGTH = 16
VOCABULARY = 900


def load_tokenizer(folder):
    """A SentencePiece vocabulary -> a tokenizer that, like Google's, gives input ids only: padding is part of the text."""
    return SiglipTokenizer(
        vocab_file=str(folder / "spiece.model"), model_max_length=TEXT_LENGTH, model_input_names=["input_ids"]
    )


def make_tokenizer(folder, scene_maker):
    """Learn the vocabulary from captions, once. Ids as in SigLIP's: </s> = 1 ends and pads, <unk> = 2."""
    path = folder / "spiece.model"
    if not path.exists():
        rng = random.Random(0)
        captions = [scene.caption for seed in range(200) for scene in scene_maker.training_batch(f"text {seed}", 100, 64)]
        captions += [tag for tags in scene_maker.tags.values() for tag in tags]
        rng.shuffle(captions)

        vocabulary = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(caption.replace(",", "") for caption in captions),
            model_writer=vocabulary,
            vocab_size=VOCABULARY,
            model_type="bpe",
            character_coverage=1.0,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
        write_whole(path, lambda temporary: temporary.write_bytes(vocabulary.getvalue()))
    return load_tokenizer(folder)
