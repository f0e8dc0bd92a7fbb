"""Where the pretrained SigLIP comes from: the bundled model, or the one that SIGLIP_CHECKPOINT names."""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

# tqdm warns, when transformers imports it, about a notebook widget that nobody needs here.
warnings.filterwarnings("ignore", message="IProgress not found")

from transformers import (  # noqa: E402
    AutoTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)
from transformers.utils import logging  # noqa: E402

from utils.errors import LessonError  # noqa: E402
from utils.hub import check_config, fetch, is_hub_id, lacking  # noqa: E402
from utils.siglip import preprocess  # noqa: E402

# No advice about packages that this project does not use, no bars for a load that takes a tenth of a second.
logging.set_verbosity_error()
logging.disable_progress_bar()

ROOT = Path(__file__).parents[1]
BUNDLED, BUNDLED_VLM = "siglip-mini-patch16-224", "paligemma-mini-224"


@dataclass(frozen=True)
class Snapshot:
    """The bundled model at one moment of its training: filters (width, 3, patch, patch), positions (patches, width)."""

    step: int
    filters: torch.Tensor
    positions: torch.Tensor
    logit_scale: float
    logit_bias: float


def preprocess_all(images, config, image_processor):
    """PIL images -> (images, 3, size, size), in the config's size and with the processor's resampling."""
    return torch.cat([preprocess(image, config.vision_config.image_size, image_processor.resample) for image in images])


@dataclass(frozen=True)
class Reference:
    """A pretrained SigLIP as transformers runs it: float32, in evaluation mode, with eager attention."""

    name: str
    source: str
    model: SiglipModel
    config: SiglipConfig
    image_processor: SiglipImageProcessorPil
    tokenizer: object

    def preprocess(self, *images):
        """PIL images -> (images, 3, size, size), by hand (`utils.siglip.preprocess`), in this model's size and resampling."""
        return preprocess_all(images, self.config, self.image_processor)

    def tokenize(self, *sentences):
        """Sentences -> ids (sentences, tokens), padded to the full length.

        Lower-cased first: SigLIP 2's tokenizer, too, was trained so, but is Gemma's and keeps capitals.
        """
        length = self.config.text_config.max_position_embeddings
        options = dict(padding="max_length", padding_side="right", truncation=True, max_length=length)
        return self.tokenizer([sentence.lower() for sentence in sentences], **options, return_tensors="pt").input_ids


@dataclass(frozen=True)
class VLMReference:
    """A trained PaliGemma as transformers runs it: float32, in evaluation mode, with eager attention."""

    name: str
    source: str
    model: PaliGemmaForConditionalGeneration
    config: PaliGemmaConfig
    processor: PaliGemmaProcessor

    @property
    def tokenizer(self):
        return self.processor.tokenizer

    def preprocess(self, *images):
        """PIL images -> (images, 3, size, size), by hand, in this model's size and resampling."""
        return preprocess_all(images, self.config, self.processor.image_processor)

    def tokenize(self, prompt, *answers):
        """bos, prompt, newline; with answers a row for each: then the answer, end, padding.

        -> ids (answers or 1, tokens), how many of the tokens are prompt
        """
        tokenizer = self.tokenizer
        start = tokenizer(f"{tokenizer.bos_token}{prompt}\n").input_ids
        ends = [tokenizer(f"{answer}{tokenizer.eos_token}").input_ids for answer in answers] or [[]]
        longest = max(map(len, ends))
        rows = [start + end + [tokenizer.pad_token_id] * (longest - len(end)) for end in ends]
        return torch.tensor(rows), len(start)

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def find_folder(checkpoint, variable="SIGLIP_CHECKPOINT", expected="siglip"):
    """A folder of that path, or of that name under models/, or a name on the hub. -> (folder, how to call it in print)"""
    path = Path(checkpoint).expanduser()
    bundled = ROOT / "models" / path.name
    for folder, shown in ((path, str(checkpoint)), (bundled, f"models/{path.name}")):
        if folder.is_dir():
            check_config(folder, shown, expected)
            if missing := lacking(folder):
                raise LessonError(f"{shown} lacks {', '.join(missing)}; copy all files of the checkpoint there")
            return folder, shown
    if is_hub_id(checkpoint):
        return fetch(checkpoint, expected), checkpoint
    raise LessonError(
        f"no model found: looked for the folders {checkpoint} and models/{path.name}; "
        f"unset {variable} to use the bundled model, or put the checkpoint's files there"
    )


def load(folder, shown, *parts):
    """Load each of the classes `parts` from a folder, the first one as a model. Raises a LessonError if anything is missing."""
    try:
        model = parts[0].from_pretrained(folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager")
        return model.eval(), *(part.from_pretrained(folder, local_files_only=True) for part in parts[1:])
    except SafetensorError as error:
        raise LessonError(f"the weights in {shown} are damaged ({error}); copy model.safetensors there again") from None
    except OSError as error:
        raise LessonError(f"{shown} cannot be loaded: {str(error).splitlines()[0]}") from None


def load_reference():
    """The pretrained model that every notebook compares with; prints what was loaded. Never falls back to another model."""
    folder, shown = find_folder(os.environ.get("SIGLIP_CHECKPOINT", BUNDLED))
    model, image_processor, tokenizer = load(folder, shown, SiglipModel, SiglipImageProcessorPil, AutoTokenizer)
    vision = model.config.vision_config
    name = Path(shown).name
    print(
        f"Reference: {name} from {shown}: {vision.image_size} px, patches of {vision.patch_size} px, "
        f"width {vision.hidden_size}, {vision.num_hidden_layers} layers"
    )
    return Reference(name, shown, model, model.config, image_processor, tokenizer)


def load_vlm():
    """The trained vision-language model of notebook 10, or the folder that VLM_CHECKPOINT names; prints what was loaded."""
    folder, shown = find_folder(os.environ.get("VLM_CHECKPOINT", BUNDLED_VLM), "VLM_CHECKPOINT", "paligemma")
    model, processor = load(folder, shown, PaliGemmaForConditionalGeneration, PaliGemmaProcessor)
    vision, text = model.config.vision_config, model.config.text_config
    name = Path(shown).name
    print(
        f"Reference: {name} from {shown}: tower of width {vision.hidden_size} with {vision.num_hidden_layers} layers, "
        f"Gemma of width {text.hidden_size} with {text.num_hidden_layers}"
    )
    return VLMReference(name, shown, model, model.config, processor)


def load_training_record():
    """The bundled model's training as history.json keeps it: "loss", "scores", "stages", "snapshots", "seconds"."""
    return json.loads((ROOT / "models" / BUNDLED / "history.json").read_text())


def load_history():
    """How the bundled model came about: a Snapshot at each of several moments, from the random start to the end."""
    tensors = load_file(ROOT / "models" / BUNDLED / "history.safetensors")
    return [
        Snapshot(
            filters=tensors[f"{index}.filters"].float() * tensors[f"{index}.filter_scale"],
            positions=tensors[f"{index}.positions"].float(),
            **scalars,
        )
        for index, scalars in enumerate(load_training_record()["snapshots"])
    ]
