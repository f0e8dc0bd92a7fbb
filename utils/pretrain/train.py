"""Pretrain the small SigLIP on scenes: `python -m utils.pretrain`, or `torchrun --nproc-per-node N -m utils.pretrain.train`."""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

from utils.pretrain.drawings import PretrainError, prepare, write_whole
from utils.pretrain.evaluate import naming_accuracy
from utils.pretrain.scenes import SceneMaker
from utils.pretrain.tokenizer import TEXT_LENGTH, VOCABULARY, make_tokenizer
from utils.siglip import SigLIP

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm
from transformers import SiglipConfig, SiglipModel

FOLDER = Path("build/pretrain")
CHECKPOINT_SECONDS = 180
SNAPSHOTS = 10


@dataclass(frozen=True)
class Stage:
    """So many steps at one canvas size; `batch` counts the images of all processes together."""

    canvas: int
    batch: int
    steps: int


class Staged:
    """A recipe whose `stages` follow each other, each of so many `steps`."""

    @property
    def steps(self):
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step):
        """-> the stage, and the step counted from its start"""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(f"the recipe ends {step + 1} steps earlier")


@dataclass(frozen=True)
class Recipe(Staged):
    stages: tuple[Stage, ...]
    width: int = 192
    vision_layers: int = 12
    text_layers: int = 3
    learning_rate: float = 3e-3
    warm_up: int = 150
    weight_decay: float = 0.05
    seed: int = 0


RECIPE = Recipe((Stage(64, 256, 1300), Stage(128, 128, 2000), Stage(224, 64, 1300)))


def make_config(recipe):
    """SigLIP's architecture, base size but for the width and the text tower's depth."""
    size = dict(
        hidden_size=recipe.width,
        intermediate_size=4 * recipe.width,
        num_attention_heads=recipe.width // 64,
        layer_norm_eps=1e-6,
        hidden_act="gelu_pytorch_tanh",
    )
    text = dict(
        vocab_size=VOCABULARY,
        max_position_embeddings=TEXT_LENGTH,
        num_hidden_layers=recipe.text_layers,
        projection_size=recipe.width,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=1,
    )
    vision = dict(image_size=recipe.stages[0].canvas, patch_size=16, num_hidden_layers=recipe.vision_layers)
    return SiglipConfig(text_config=text | size, vision_config=vision | size)


def make_model(recipe):
    """The hand-built model with transformers' initial weights, and the paper's scale 10 and bias -10."""
    torch.manual_seed(recipe.seed)
    config = make_config(recipe)
    model = SigLIP(config)
    model.load_state_dict(SiglipModel(config).state_dict())
    nn.init.constant_(model.logit_scale, math.log(10))
    nn.init.constant_(model.logit_bias, -10)
    return model


def make_optimizers(model, recipe):
    """Muon for the encoders' matrices, AdamW for all else: embeddings, norms, biases, pooling head, scale and bias."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".encoder." in name]
    scalars = [model.logit_scale, model.logit_bias]
    known = {id(p) for p in matrices + scalars}
    others = [p for p in model.parameters() if id(p) not in known]
    rate = recipe.learning_rate
    groups = [
        {"params": others, "lr": rate / 2, "weight_decay": recipe.weight_decay},
        {"params": scalars, "lr": 5 * rate, "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True), muon]


def learning_rate_factor(step, plan):
    """Up in a straight line, then down to zero in another. `plan`: what has `steps` and `warm_up`."""
    return min((step + 1) / plan.warm_up, (plan.steps - step) / (plan.steps - plan.warm_up))


def set_canvas(model, optimizers, canvas):
    """Move to another image size: the position table is interpolated bicubically; its optimizer state starts anew."""
    table = model.vision_model.embeddings.position_embedding
    old, new = math.isqrt(table.num_embeddings), canvas // 16
    if old == new:
        return
    grid = table.weight.data.view(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    table.weight.data = grid.permute(0, 2, 3, 1).reshape(new * new, -1)
    table.weight.grad = None
    table.num_embeddings = new * new
    for optimizer in optimizers:
        optimizer.state.pop(table.weight, None)


def world():
    """This process' rank and the number of processes; (0, 1) without torchrun."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def pass_on(tensor, step):
    """Give `tensor` to the process `step` places further round the ring; return the one that arrives."""
    rank, size = world()
    arriving = torch.empty_like(tensor)
    operations = [
        dist.P2POp(dist.isend, tensor.contiguous(), (rank + step) % size),
        dist.P2POp(dist.irecv, arriving, (rank - step) % size),
    ]
    for request in dist.batch_isend_irecv(operations):
        request.wait()
    return arriving


class PassOn(torch.autograd.Function):
    """One step round the ring; the gradient travels back the other way."""

    @staticmethod
    def forward(ctx, tensor):
        return pass_on(tensor, 1)

    @staticmethod
    def backward(ctx, gradient):
        return pass_on(gradient, -1)


def sigmoid_loss(images, texts, logit_scale, logit_bias):
    """Each pair is judged alone: -log sigmoid(+-logit), summed over all pairs, divided by the number of images.

    images, texts: unit vectors (batch, width) of this process' pairs -> scalar. With several processes this is the
    chunked loss of Zhai et al. 2023 (arXiv 2303.15343), section 3.3: a process computes one block (batch, batch) of the
    pair matrix after the other while the text blocks travel round the ring; for `backward`, torch keeps what it recorded
    of each. The mean over processes is the whole batch's loss.
    """
    batch = len(images)
    sign = 2 * torch.eye(batch, device=images.device) - 1  # +1 on the diagonal, the true pairs; -1 elsewhere
    loss = 0.0
    for block in range(world()[1]):
        if block:
            texts, sign = PassOn.apply(texts), -torch.ones_like(sign)
        logits = images @ texts.T * logit_scale.exp() + logit_bias
        loss = loss - F.logsigmoid(sign * logits).sum() / batch
    return loss


def average(tensors):
    """Replace each tensor, in place, by its mean over all processes."""
    if world()[1] > 1:
        flat = nn.utils.parameters_to_vector(tensors)
        dist.all_reduce(flat)
        nn.utils.vector_to_parameters(flat / world()[1], tensors)


def snapshot(model, step):
    """What the notebooks draw of the training: patch filters (8 bits each, with one scale a filter), positions, scalars."""
    embeddings = model.vision_model.embeddings
    filters = embeddings.patch_embedding.weight.detach().cpu()
    scale = filters.abs().amax((1, 2, 3), keepdim=True) / 127
    return {
        "step": step,
        "filters": (filters / scale).round().to(torch.int8),
        "filter_scale": scale,
        "positions": embeddings.position_embedding.weight.detach().cpu().half(),
        "logit_scale": model.logit_scale.item(),
        "logit_bias": model.logit_bias.item(),
    }


def save_checkpoint(path, model, optimizers, step, history):
    state = {
        "model": model.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "step": step,
        "history": history,
    }
    write_whole(path, lambda temporary: torch.save(state, temporary))


def load_checkpoint(path, model, optimizers, recipe):
    """Restore everything in place; return the next step and the history."""
    state = torch.load(path, map_location="cpu")
    patches = state["model"]["vision_model.embeddings.position_embedding.weight"].shape[0]
    set_canvas(model, optimizers, math.isqrt(patches) * 16)
    return restore(state, model, optimizers)


def restore(state, model, optimizers):
    """Put what `save_checkpoint` has saved back in place; return the next step and the history."""
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"]):
        optimizer.load_state_dict(saved)
    return state["step"], state["history"]


def train(recipe, drawings, folder=FOLDER, checkpoint_seconds=CHECKPOINT_SECONDS):
    """Train from the last checkpoint in `folder`, or from the start; return the model and the history.

    What a step sees depends on the seed and the step's number alone, so that a run that was killed and started again
    ends with the same weights.
    """
    first = world()[0] == 0
    device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    scenes = SceneMaker(drawings, device=device)
    tokenizer = make_tokenizer(folder, scenes)
    model = make_model(recipe).to(device)
    optimizers = make_optimizers(model, recipe)
    step, path = 0, folder / "checkpoint.pt"
    history = {"loss": [], "scores": [], "snapshots": [], "seconds": 0.0}
    if path.exists():
        step, history = load_checkpoint(path, model, optimizers, recipe)
    snapshot_steps = {round(recipe.steps * (i / (SNAPSHOTS - 1)) ** 2) for i in range(SNAPSHOTS)}
    if first and step == 0:
        history["snapshots"].append(snapshot(model, step))
    saved = time.monotonic()
    with tqdm(total=recipe.steps, initial=step, unit=" steps", disable=not first, mininterval=1) as bar:
        while step < recipe.steps:
            started = time.monotonic()
            stage, _ = recipe.stage_at(step)
            set_canvas(model, optimizers, stage.canvas)
            loss = training_step(model, optimizers, recipe, stage, scenes, tokenizer, step)
            step += 1
            bar.update()
            if first and step % 10 == 0:
                history["loss"].append([step, round(loss.item(), 4)])
                bar.set_postfix_str(f"{stage.canvas} px, loss {loss:.3f}, {images_per_second(bar, stage):.0f} images/s")
            if first and step in snapshot_steps:
                history["snapshots"].append(snapshot(model, step))
            if first and (step % 200 == 0 or step == recipe.steps):
                scores = naming_accuracy(model, scenes, tokenizer, drawings, stage.canvas)
                history["scores"].append({"step": step, "canvas": stage.canvas} | scores)
                bar.write(f"step {step}: {scores}")
            history["seconds"] += time.monotonic() - started
            if first and (time.monotonic() - saved > checkpoint_seconds or step == recipe.steps):
                save_checkpoint(path, model, optimizers, step, history)
                saved = time.monotonic()
    return model, history


def take_step(model, optimizers, factor, step):
    """Clip the gradients, set the learning rate to `factor` times its peak, move the weights."""
    if not nn.utils.clip_grad_norm_(model.parameters(), 1.0).isfinite():
        raise PretrainError(f"the gradient is not finite at step {step}; the last checkpoint is good: lower the learning rate")
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group.get("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        optimizer.zero_grad()


def images_per_second(bar, stage):
    return stage.batch * (bar.format_dict["rate"] or 0)


def training_step(model, optimizers, recipe, stage, scenes, tokenizer, step):
    """Draw this process' share of the batch, take one optimizer step; return the loss."""
    rank, processes = world()
    device = model.logit_scale.device
    batch = scenes.training_batch(f"{recipe.seed} {step}", stage.batch, stage.canvas)
    share = batch[rank * stage.batch // processes : (rank + 1) * stage.batch // processes]
    pixels = scenes.draw(share, stage.canvas) * 2 - 1
    ids = tokenizer([scene.caption for scene in share], padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.autocast(device.type, dtype=torch.bfloat16):
        images, texts = model.encode(pixels, ids.to(device))
    loss = sigmoid_loss(images.float(), texts.float(), model.logit_scale, model.logit_bias)
    loss.backward()
    loss = loss.detach()
    average([loss, *(p.grad for p in model.parameters())])
    take_step(model, optimizers, learning_rate_factor(step, recipe), step)
    return loss


def main():
    """Train under torchrun: the first process fetches and renders, then all start together."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    try:
        if world()[0] == 0:
            make_tokenizer(FOLDER, SceneMaker(prepare(FOLDER)))
        dist.barrier()
        train(RECIPE, prepare(FOLDER))
    except PretrainError as error:
        raise SystemExit(f"pretrain: {error}") from None
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
