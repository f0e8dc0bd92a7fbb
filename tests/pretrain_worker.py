"""A tiny recipe on made-up drawings, for test_pretrain.py: in its own process, in another one, or in several by torchrun.

`pretrain_worker.py FOLDER [STEP]` does what `run` does; with STEP, it dies as if killed while it saves that step.
"""

import os
import sys
from pathlib import Path

from utils.pretrain.concepts import NAMES
from utils.pretrain.drawings import SIZE
from utils.pretrain.train import Recipe, Stage, sigmoid_loss, train, world

import torch
import torch.distributed as dist

TINY = Recipe((Stage(64, 8, 6), Stage(96, 8, 6)), width=64, vision_layers=1, text_layers=1, warm_up=2)
PAIRS, WIDTH = 8, 16


def made_up_drawings():
    """Two coloured squares for each name: one style to train on, and the held-out one."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.randint(0, 256, (2 * len(NAMES), 4, 1, 1), generator=generator, dtype=torch.uint8)
    colours[:, 3] = 255
    styles = ["noto"] * len(NAMES) + ["fxemoji"] * len(NAMES)
    return {"pixels": colours.repeat(1, 1, SIZE, SIZE), "name": NAMES * 2, "style": styles, "tags": {n: ["tag"] for n in NAMES}}


def fixed_batch():
    """Unit vectors of images and texts, scale and bias, the same in every process."""
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(2, PAIRS, WIDTH, generator=generator)
    images, texts = vectors / vectors.norm(dim=-1, keepdim=True)
    return images, texts, torch.tensor([2.3]), torch.tensor([-10.0])


def loss_of_share():
    """The loss of this process' share of the fixed batch, and its gradients on images, texts, scale and bias."""
    rank, processes = world()
    images, texts, scale, bias = fixed_batch()
    mine = slice(rank * PAIRS // processes, (rank + 1) * PAIRS // processes)
    leaves = [images[mine].clone(), texts[mine].clone(), scale, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = sigmoid_loss(*leaves)
    loss.backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves)]


def run(folder):
    """Train to the end, from the last checkpoint in `folder` if there is one. -> {"model", "history", "loss"}

    On one thread: the sums of several may round differently from one process to the next.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, history = train(TINY, made_up_drawings(), folder, checkpoint_seconds=0)
    torch.set_num_threads(threads)
    return {"model": model.state_dict(), "history": history, "loss": loss_of_share()}


def die_while_saving(step):
    """From now on the process ends at once, and cleans nothing up, when half of this step's checkpoint is written."""
    save = torch.save

    def save_half(state, path):
        save(state, path)
        if state["step"] == step:
            os.truncate(path, os.path.getsize(path) // 2)
            os._exit(1)

    torch.save = save_half


if __name__ == "__main__":
    work_folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        die_while_saving(int(sys.argv[2]))
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    result = run(work_folder)
    torch.save(result, work_folder / f"result-{world()[0]}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()
