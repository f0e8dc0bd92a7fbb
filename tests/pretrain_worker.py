"""One process of the pretraining tests: a tiny recipe on made-up drawings. Run by test_pretrain.py, alone or by torchrun.

`pretrain_worker.py train FOLDER` trains to the end (from the last checkpoint, if there is one);
`pretrain_worker.py loss FOLDER` writes this process' loss and gradients on its share of a fixed batch.
"""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from utils.pretrain.concepts import NAMES
from utils.pretrain.drawings import SIZE
from utils.pretrain.train import Recipe, Stage, sigmoid_loss, train, world

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


def write_loss(folder):
    rank, processes = world()
    images, texts, scale, bias = fixed_batch()
    mine = slice(rank * PAIRS // processes, (rank + 1) * PAIRS // processes)
    leaves = [images[mine].clone(), texts[mine].clone(), scale, bias]
    for leaf in leaves:
        leaf.requires_grad_()
    loss = sigmoid_loss(*leaves)
    loss.backward()
    torch.save([loss.detach(), *(leaf.grad for leaf in leaves)], folder / f"loss-{rank}-of-{processes}.pt")


def main(task, folder):
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    if task == "loss":
        write_loss(folder)
    else:
        model, history = train(TINY, made_up_drawings(), folder, checkpoint_seconds=0)
        if world()[0] == 0:
            torch.save({"model": model.state_dict(), "history": history}, folder / "result.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
