"""Where the pretrained SigLIP comes from: the bundled model, or the one that SIGLIP_CHECKPOINT names."""

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

# tqdm warns, when transformers imports it, about a notebook widget that nobody needs here.
warnings.filterwarnings("ignore", message="IProgress not found")

from utils.errors import LessonError  # noqa: E402
from utils.hub import PROCESSORS, TOKENIZERS, check_config, fetch, is_hub_id, lacking, read_json  # noqa: E402
from utils.naflex import flex_weights, preprocess_any  # noqa: E402
from utils.siglip import preprocess  # noqa: E402

from transformers import (  # noqa: E402
    AutoTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)
from transformers.utils import logging  # noqa: E402

# No advice about packages that this project does not use, no bars for a load that takes a tenth of a second.
logging.set_verbosity_error()
logging.disable_progress_bar()

ROOT = Path(__file__).parents[1]
BUNDLED, BUNDLED_VLM = "siglip-mini-patch16-224", "paligemma-mini-224"
# What transformers reads a tokenizer from, besides chat templates.
WORDS = (*TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
CHAT = ("chat_template.json", "chat_template.jinja")


@dataclass(frozen=True)
class Snapshot:
    """The bundled model at one moment of its training: filters (width, 3, patch, patch), positions (patches, width)."""

    step: int
    filters: torch.Tensor
    positions: torch.Tensor
    logit_scale: float
    logit_bias: float


def refuse_list(given, verb, what):
    """Raise a LessonError if a list was given where `what` are expected one by one, or nothing at all."""
    if not given:
        raise LessonError(f"{verb} got no {what}; give it at least one")
    for one in given:
        if isinstance(one, (list, tuple, dict, set)):
            raise LessonError(f"{verb} takes {what} one by one, not a {type(one).__name__} of them; unpack it: {verb}(*{what})")


def refuse_other_than_text(sentences):
    refuse_list(sentences, "tokenize", "sentences")
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise LessonError(f"tokenize takes text, not a {type(sentence).__name__}; put each sentence in quotes")


def preprocess_all(images, config, image_processor):
    """PIL images -> (images, 3, size, size), in the config's size and with the processor's resampling."""
    refuse_list(images, "preprocess", "images")
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
        refuse_other_than_text(sentences)
        length = self.config.text_config.max_position_embeddings
        options = dict(padding="max_length", padding_side="right", truncation=True, max_length=length)
        return self.tokenizer([sentence.lower() for sentence in sentences], **options, return_tensors="pt").input_ids


@dataclass(frozen=True)
class AnyShapeReference(Reference):
    """A NaFlex SigLIP as transformers runs it: float32, in evaluation mode, with eager attention."""

    def preprocess(self, *images, most=None):
        """PIL images -> patches, grids and mask, by hand (`utils.naflex.preprocess_any`); at most as many as in its table."""
        refuse_list(images, "preprocess", "images")
        vision = self.config.vision_config
        return preprocess_any(images, most or vision.num_patches, vision.patch_size)


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
        refuse_other_than_text((prompt, *answers))
        tokenizer = self.tokenizer
        start = tokenizer(f"{tokenizer.bos_token}{prompt}\n").input_ids
        ends = [tokenizer(f"{answer}{tokenizer.eos_token}").input_ids for answer in answers] or [[]]
        longest = max(map(len, ends))
        rows = [start + end + [tokenizer.pad_token_id] * (longest - len(end)) for end in ends]
        return torch.tensor(rows), len(start)

    def decode(self, ids):
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def find_folder(variable, default, expected):
    """The checkpoint that an environment variable names: a folder, the name of one under models/, or a name on the hub.

    -> (folder, how to call it in print). A LessonError if there is none, or if it lacks files.
    """
    checkpoint = os.environ.get(variable, "").strip() or default
    path = os.path.expanduser(checkpoint)
    # A path is typed in the shell that starts Jupyter (PWD) or `make`; a notebook's kernel runs in notebooks/.
    bases = [Path.cwd(), Path(os.environ.get("PWD", ROOT)), ROOT]
    bundled = ROOT / "models" / Path(path).name
    places = {base / path: checkpoint for base in bases}
    places.setdefault(bundled, f"models/{bundled.name}")
    for folder, shown in places.items():
        if os.path.isdir(folder):
            check_config(folder, shown, expected)
            if missing := lacking(folder, shown):
                raise LessonError(f"{shown} lacks {', '.join(missing)}; copy all files of the checkpoint there")
            return folder, shown
    looked_for = ", ".join(map(str, places))
    if is_hub_id(checkpoint):
        try:
            return fetch(checkpoint, expected), checkpoint
        except LessonError as error:
            raise LessonError(f"{error} (and there is no such folder: looked for {looked_for})") from None
    raise LessonError(
        f"no model found: looked for the folders {looked_for}; "
        f"unset {variable} to use the bundled model, or put the checkpoint's files there"
    )


def some(names):
    """-> how many names there are and what the first three are"""
    return f"{len(names)} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"


def check_weights(info, shown):
    """Refuse weights that are not exactly those of the config: transformers puts random numbers where one is missing."""
    # The hub's old files hold some numbers that are counted, not learned.
    extra = [name for name in info["unexpected_keys"] if not re.search(r"position_ids$|rotary_emb\.inv_freq$", name)]
    wrong = {
        "are missing": list(info["missing_keys"]),
        "have another shape": [name for name, *_ in info["mismatched_keys"]],
        "have no place in it": extra,
    }
    found = [f"{some(names)} {how}" for how, names in wrong.items() if names]
    if found:
        raise LessonError(
            f"the weights in {shown} are not those of the model in its config.json: {'; '.join(found)}; "
            "copy both from the same, whole checkpoint"
        )


def check_files(folder, shown):
    """Refuse files of a checkpoint that cannot be read, by their names: transformers would ignore some of them in silence."""
    settings = [folder / name for name in (*PROCESSORS, *WORDS, *CHAT, "generation_config.json")]
    for path in filter(Path.exists, [*settings, *sorted(folder.glob("model*.safetensors"))]):
        try:
            with open(path, "rb") as file:
                start = file.read(24)
        except OSError as error:
            raise LessonError(f"{path.name} in {shown} cannot be read ({error.strerror}); copy it there again") from None
        if start == b"version https://git-lfs.":
            raise LessonError(f"{path.name} in {shown} is only a Git LFS pointer; run `git lfs pull` there")
        if path.suffix == ".json":
            read_json(folder, path.name, shown)
        elif not start:
            raise LessonError(f"{path.name} in {shown} is empty; copy it there again")
    if "tokenizer_class" not in read_json(folder, "tokenizer_config.json", shown):
        raise LessonError(f"tokenizer_config.json in {shown} does not say which tokenizer it is for; copy it there again")


def load_part(part, names, folder, shown, **options):
    """One of transformers' classes from a folder. A LessonError that names those of the files `names` that are there."""
    try:
        return part.from_pretrained(folder, local_files_only=True, **options)
    except SafetensorError as error:
        damaged = ", ".join(path.name for path in sorted(folder.glob("*.safetensors")) if not whole(path))
        raise LessonError(f"the weights in {shown} are damaged ({error}); copy {damaged or 'them'} there again") from None
    except Exception as error:  # a file that is JSON, but not what it should be, makes transformers raise any kind
        there = " or ".join(name for name in names if (folder / name).exists())
        reason = shorten(f"{type(error).__name__}: {error}", 120)
        raise LessonError(f"{there} in {shown} cannot be used ({reason}); copy it there again") from None


def load(folder, shown, model_class, others):
    """Load a model, and `others` ({class of transformers: names of its files}). A LessonError that names the file at fault."""
    if torch.get_default_dtype() != torch.float32:
        raise LessonError(
            f"torch's default type is {torch.get_default_dtype()}, and all that is compared here is in float32; "
            "torch.set_default_dtype(torch.float32), and run this cell again"
        )
    check_files(folder, shown)
    options = dict(dtype=torch.float32, attn_implementation="eager", output_loading_info=True, ignore_mismatched_sizes=True)
    model, info = load_part(model_class, ["config.json"], folder, shown, **options)
    check_weights(info, shown)
    for parameter in model.parameters():
        # Where a number begins in the file, it begins in memory; from an odd place, torch may add in another order.
        parameter.data = parameter.data.clone()
    return model.eval(), *(load_part(part, names, folder, shown) for part, names in others.items())


def whole(path):
    """Whether a .safetensors file has as many bytes as its header says."""
    try:
        with safe_open(path, "pt"):
            return True
    except SafetensorError:
        return False


def load_reference():
    """The pretrained model that every notebook compares with; prints what was loaded. Never falls back to another model."""
    folder, shown = find_folder("SIGLIP_CHECKPOINT", BUNDLED, "siglip")
    others = {SiglipImageProcessorPil: PROCESSORS, AutoTokenizer: (*WORDS, *CHAT)}
    model, image_processor, tokenizer = load(folder, shown, SiglipModel, others)
    vision = model.config.vision_config
    if not hasattr(model.vision_model, "head"):
        raise LessonError(f"{shown} has no pooling head, so that its images have no vector; choose a whole SigLIP")
    name = Path(shown).name
    print(
        f"Reference: {name} from {shown}:\n  {vision.image_size} px, patches of {vision.patch_size} px, "
        f"width {vision.hidden_size}, {vision.num_hidden_layers} layers"
    )
    return Reference(name, shown, model, model.config, image_processor, tokenizer)


def as_flexible(model):
    """A SigLIP of fixed resolution -> a NaFlex model of transformers with the same weights"""
    config = model.config.to_dict()
    vision = {name: size for name, size in config["vision_config"].items() if name not in ("image_size", "model_type")}
    vision["num_patches"] = (config["vision_config"]["image_size"] // vision["patch_size"]) ** 2
    text = {name: size for name, size in config["text_config"].items() if name != "model_type"}
    flexible = Siglip2Model._from_config(Siglip2Config(vision_config=vision, text_config=text), attn_implementation="eager")
    flexible.load_state_dict(flex_weights(model.state_dict()))
    return flexible.eval()


def takes_any_shape():
    """Whether SIGLIP_CHECKPOINT names a NaFlex checkpoint."""
    folder, shown = find_folder("SIGLIP_CHECKPOINT", BUNDLED, "siglip or siglip2")
    return read_json(folder, "config.json", shown)["model_type"] == "siglip2"


def load_any_shape():
    """The NaFlex model of notebook 12: what SIGLIP_CHECKPOINT names, or the weights of a fixed resolution in NaFlex's form."""
    folder, shown = find_folder("SIGLIP_CHECKPOINT", BUNDLED, "siglip or siglip2")
    if not takes_any_shape():
        fixed = load_reference()
        model, tokenizer, how = as_flexible(fixed.model), fixed.tokenizer, ", its weights laid out as NaFlex has them"
    else:
        others = {Siglip2ImageProcessorPil: PROCESSORS, AutoTokenizer: (*WORDS, *CHAT)}
        model, _, tokenizer = load(folder, shown, Siglip2Model, others)
        how = f" from {shown}"
    vision = model.config.vision_config
    processor = Siglip2ImageProcessorPil(patch_size=vision.patch_size, max_num_patches=vision.num_patches)
    name = Path(shown).name
    print(f"NaFlex: {name}{how}:\n  up to {vision.num_patches} patches of {vision.patch_size} px, of any shape")
    return AnyShapeReference(name, shown, model, model.config, processor, tokenizer)


def load_vlm():
    """The trained VLM of notebooks 10 and 11, or the folder that VLM_CHECKPOINT names; prints what was loaded."""
    folder, shown = find_folder("VLM_CHECKPOINT", BUNDLED_VLM, "paligemma")
    model, processor = load(
        folder, shown, PaliGemmaForConditionalGeneration, {PaliGemmaProcessor: (*PROCESSORS, *WORDS, *CHAT)}
    )
    vision, text = model.config.vision_config, model.config.text_config
    name = Path(shown).name
    print(
        f"Reference: {name} from {shown}:\n  tower of width {vision.hidden_size} with {vision.num_hidden_layers} layers, "
        f"Gemma of width {text.hidden_size} with {text.num_hidden_layers}"
    )
    return VLMReference(name, shown, model, model.config, processor)


def load_training_record():
    """The bundled model's training as history.json keeps it: "loss", "scores", "stages", "snapshots", "seconds"."""
    return read_json(ROOT / "models" / BUNDLED, "history.json", f"models/{BUNDLED}")


def load_history():
    """How the bundled model came about: a Snapshot at each of several moments, from the random start to the end."""
    path = ROOT / "models" / BUNDLED / "history.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise LessonError(f"models/{BUNDLED}/{path.name} cannot be read ({error}); copy it there again") from None
    return [
        Snapshot(
            filters=tensors[f"{index}.filters"].float() * tensors[f"{index}.filter_scale"],
            positions=tensors[f"{index}.positions"].float(),
            **scalars,
        )
        for index, scalars in enumerate(load_training_record()["snapshots"])
    ]
