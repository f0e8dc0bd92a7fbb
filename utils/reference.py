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

from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessorPil, SiglipModel  # noqa: E402
from transformers.utils import logging  # noqa: E402

from utils.errors import LessonError  # noqa: E402
from utils.siglip import preprocess  # noqa: E402

# No advice about packages that this project does not use, no bars for a load that takes a tenth of a second.
logging.set_verbosity_error()
logging.disable_progress_bar()

ROOT = Path(__file__).parents[1]
BUNDLED = "siglip-mini-patch16-224"


@dataclass(frozen=True)
class Snapshot:
    """The bundled model at one moment of its training: filters (width, 3, patch, patch), positions (patches, width)."""

    step: int
    filters: torch.Tensor
    positions: torch.Tensor
    logit_scale: float
    logit_bias: float


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
        size, resample = self.config.vision_config.image_size, self.image_processor.resample
        return torch.cat([preprocess(image, size, resample) for image in images])

    def tokenize(self, *sentences):
        """Sentences -> ids (sentences, tokens), padded to the full length."""
        return self.tokenizer(list(sentences), padding="max_length", truncation=True, return_tensors="pt").input_ids


def find_folder(checkpoint):
    """A folder of that path, or of that name under models/. -> (folder, how to call it in print)"""
    path = Path(checkpoint).expanduser()
    bundled = ROOT / "models" / path.name
    for folder, shown in ((path, str(checkpoint)), (bundled, f"models/{path.name}")):
        if folder.is_dir():
            return folder, shown
    raise LessonError(
        f"no SigLIP found: looked for the folders {checkpoint} and models/{path.name}; "
        f"unset SIGLIP_CHECKPOINT to use the bundled model, or put the checkpoint's files there"
    )


def check_config(folder, shown):
    """Refuse a folder that does not hold a SigLIP, before transformers makes of it what it can."""
    try:
        model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError):
        raise LessonError(f"{shown} has no readable config.json; copy all files of the checkpoint there") from None
    if model_type != "siglip":
        raise LessonError(f"{shown} holds a model of type {model_type!r}, not 'siglip'; choose a fixed-resolution SigLIP")


def load_reference():
    """The pretrained model that every notebook compares with; prints what was loaded. Never falls back to another model."""
    folder, shown = find_folder(os.environ.get("SIGLIP_CHECKPOINT", BUNDLED))
    check_config(folder, shown)
    try:
        model = SiglipModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32, attn_implementation="eager")
        image_processor = SiglipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except SafetensorError as error:
        raise LessonError(f"the weights in {shown} are damaged ({error}); copy model.safetensors there again") from None
    except OSError as error:
        raise LessonError(f"{shown} cannot be loaded: {str(error).splitlines()[0]}") from None
    vision = model.config.vision_config
    name = Path(shown).name
    print(
        f"Reference: {name} from {shown}: {vision.image_size} px, patches of {vision.patch_size} px, "
        f"width {vision.hidden_size}, {vision.num_hidden_layers} layers"
    )
    return Reference(name, shown, model.eval(), model.config, image_processor, tokenizer)


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
