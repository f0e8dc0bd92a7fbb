"""What the notebooks measure, and compare exercises with."""

import copy
import functools
import time
import weakref
from itertools import combinations
from types import SimpleNamespace

from utils.pictures import our_patch
from utils.siglip import Encoder, VisionTransformer, attention_weights, split_heads
from utils.vlm import added_mask, prefix_mask

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def spread(weights):
    """Over how many tokens each row of attention weights is spread: e to the power of its entropy. (..., tokens) -> (...)

    All tokens if the weights are equal, 1 if one token has all of it.
    """
    # clamp: 0 times the logarithm of 0 is to be 0, not NaN
    return (-(weights * weights.clamp(min=1e-12).log()).sum(dim=-1)).exp()


def mean_distance(weights):
    """How far each patch looks: distances in patches, weighted by its attention. (..., patches, patches) -> (..., patches)"""
    side = round(weights.shape[-1] ** 0.5)
    number = torch.arange(side * side)
    places = torch.stack([number // side, number % side], dim=1).float()  # (patches, 2)
    return (weights * torch.cdist(places, places)).sum(dim=-1)


def in_common(looks, order=None):
    """How much of their attention two heads of a layer share, in percent; the mean of all tokens and of all pairs of heads.

    (layers, heads, tokens, tokens) -> (layers). `order` (tokens): what the second of the two looks at is put in this order.
    """
    one, other = torch.tensor([*combinations(range(looks.shape[1]), 2)]).T
    others = looks[:, other] if order is None else looks[:, other][..., order]
    return 100 * torch.minimum(looks[:, one], others).sum(dim=-1).mean(dim=(1, 2))


def stays(looks, pixel_values, part, patch):
    """How many percent of a look stay in its own part of a picture; the mean of all patches that aren't blank paper.

    looks (patches, patches), pixel_values (1, 3, height, width), part (patches): which part each patch belongs to -> number
    """
    drawn = ~is_paper(pixel_values, patch)[0]
    return 100 * (looks * (part[:, None] == part)).sum(dim=-1)[drawn].mean().item()


def kept_inside(looks, drawing, middles):
    """How much of their looks some patches keep in their own drawing; their mean.

    looks (..., patches, patches), drawing (patches): which drawing each lies in, middles: the patches -> (...)
    """
    return torch.stack([looks[..., at, drawing == drawing[at]].sum(dim=-1) for at in middles]).mean(dim=0)


def wins(fit, right):
    """How often a question's right answer fits better than one of the wrong ones, in percent.

    fit (questions, answers), right (questions): the place of the right answer -> number
    """
    beaten = fit.gather(1, right[:, None]) > fit
    return 100 * beaten.sum().item() / (beaten.numel() - len(beaten))


def quarters(side):
    """Which of four drawings, two above, two below, each patch lies in, and the patch in the middle of each.

    -> tensor (patches) of 0 to 3, list of four patches
    """
    far = torch.arange(side) >= side / 2
    middles = [row * side + column for row in (side // 4, 3 * side // 4) for column in (side // 4, 3 * side // 4)]
    return (2 * far[:, None] + far).flatten(), middles


def is_paper(pixels, patch):
    """Which patches show nothing but white paper. (pictures, 3, height, width) in [-1, 1] -> (pictures, patches) of bool"""
    darkest = -F.max_pool2d(-pixels.amin(dim=1), patch)  # (pictures, rows, columns)
    return darkest.flatten(1) > 0.9


def kinds_of_pairs(pixels, patch):
    """Which pairs of a scene's patches lie in the same drawing, in different drawings, in a drawing and on paper.

    A scene of four drawings, two above, two below: (1, 3, height, width) in [-1, 1] -> {kind: (patches, patches) of bool}
    """
    paper = is_paper(pixels, patch)[0]
    drawing, _ = quarters(round(len(paper) ** 0.5))
    same, both = drawing[:, None] == drawing, ~paper[:, None] & ~paper
    return {
        "same drawing": same & both & ~torch.eye(len(paper), dtype=torch.bool),
        "different drawings": ~same & both,
        "a drawing and paper": ~paper[:, None] & paper,
    }


def like_paper(state, paper):
    """The cosine similarity of each patch with the mean of the paper patches' directions. (1, patches, width) -> (patches)"""
    unit = F.normalize(state[0], dim=-1)
    return unit @ F.normalize(unit[paper].mean(dim=0), dim=-1)


def looks_by_step(weights, reach):
    """How much a patch looks at the one so many rows further down and columns to the right, in equal shares of the tokens.

    Attention (scenes, heads, patches, tokens) -> the mean of all patches that have one there, (heads, steps, steps); where
    none has one, 0
    """
    patches, tokens = weights.shape[-2:]
    side = round(patches**0.5)
    grid = tokens * weights[..., :patches].mean(dim=0).unflatten(-1, (side, side)).unflatten(1, (side, side))
    steps = torch.zeros(len(grid), 2 * reach + 1, 2 * reach + 1)
    furthest = min(reach, side - 1)
    for down in range(-furthest, furthest + 1):
        for right in range(-furthest, furthest + 1):
            rows = torch.arange(max(0, -down), min(side, side - down))
            columns = torch.arange(max(0, -right), min(side, side - right))
            there = grid[:, rows[:, None], columns, rows[:, None] + down, columns + right]  # (heads, rows, columns)
            steps[:, down + reach, right + reach] = there.mean(dim=(1, 2))
    return steps


def made_up_attention(block, heads, shared, tokens=6):
    """A random attention with so many heads of queries and of keys, and inputs for it.

    block: GroupedQueryAttention -> the attention, x (2, tokens, width), mask (1, 1, tokens, tokens), places (tokens)
    """
    torch.manual_seed(heads)
    config = SimpleNamespace(num_attention_heads=heads, num_key_value_heads=shared, head_dim=8, hidden_size=24)
    config.attention_bias, config.rope_parameters = False, {"rope_theta": 10_000.0}
    attention, x = block(config), torch.randn(2, tokens, config.hidden_size)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.5)
    return attention, x, added_mask(prefix_mask(3, tokens)), torch.arange(1, tokens + 1)


def strength_of_colour(pixels):
    """How strong the colours of drawings on white paper are: 0 for grey, 2 for pure red. (drawings, 3, ...) -> (drawings)"""
    drawn = pixels.amin(dim=1) < 0.9
    strength = (pixels.amax(dim=1) - pixels.amin(dim=1)) * drawn
    return strength.sum(dim=(1, 2)) / drawn.sum(dim=(1, 2))


@torch.no_grad()
def with_neighbours_swapped(layers, x):
    """Cosine similarity of the layers' result with and without a layer and its next one exchanged. -> (layers - 1)"""
    right, similarities = nn.Sequential(*layers)(x), []
    for i in range(len(layers) - 1):
        order = [*layers]
        order[i], order[i + 1] = order[i + 1], order[i]
        swapped = nn.Sequential(*order)(x)
        similarities.append(F.cosine_similarity(swapped, right, dim=-1).mean())
    return torch.stack(similarities)


def pool_in_torchs_order(head, x):
    """What the pooling head makes of x, computed as nn.MultiheadAttention does: not one bit differs from transformers.

    Tokens come first, heads are folded into the batch, and one matrix product makes keys and values.
    """
    batch, tokens, width = x.shape
    weight, bias = head.attention.in_proj_weight, head.attention.in_proj_bias
    x, probe = x.transpose(0, 1), head.probe.repeat(1, batch, 1)
    keys_and_values = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)  # each (tokens, batch, width)
    queries, keys, values = (
        part.reshape(len(part), batch * head.attention.num_heads, -1).transpose(0, 1)
        for part in (F.linear(probe, weight[:width], bias[:width]), *keys_and_values)
    )  # each (batch * heads, tokens, head_width)
    scores = queries * queries.shape[-1] ** -0.5 @ keys.transpose(1, 2)
    pooled = head.attention.out_proj((scores.softmax(dim=-1) @ values).reshape(batch, width))
    return pooled + head.mlp(head.layernorm(pooled))


def pool_by_mask(head, x, hidden):
    """What the pooling head makes of x if its probe can't see some patches, by torch's own mask. `hidden` (patches) of bool"""
    probe, mask = head.probe.repeat(len(x), 1, 1), hidden.repeat(len(x), 1)
    pooled = head.attention(probe, x, x, key_padding_mask=mask)[0][:, 0]
    return pooled + head.mlp(head.layernorm(pooled))


@torch.no_grad()
def mean_tokens(tower, small, size, batch=42):
    """The mean of a picture's tokens, before the first layer and after each. -> (layers + 1, pictures, width)

    small (pictures, 3, height, width): pictures in [-1, 1], which are first enlarged to `size`
    """
    pieces = []
    for pixels in F.interpolate(small, size, mode="bicubic", antialias=True).clamp(-1, 1).split(batch):
        x = tower.embeddings(pixels)
        means = [x.mean(dim=1)]
        for layer in tower.encoder.layers:
            x = layer(x)
            means.append(x.mean(dim=1))
        pieces.append(torch.stack(means))
    return torch.cat(pieces, dim=1)


def read_by_own(tower, styles, drawings):
    """How many drawings a reader of its own names right in each state of a tower: a matrix fitted to other styles' mean tokens.

    styles (names * styles, 3, height, width), drawings (names, 3, size, size), both in [-1, 1] -> [a number for each state]
    """
    names, size = len(drawings), drawings.shape[-1]
    target = torch.eye(names).repeat_interleave(len(styles) // names, dim=0)
    seen, asked = (mean_tokens(tower, pixels, size) for pixels in (styles, drawings))
    said = torch.stack([fit_linear_probe(fitted_to, target)(x).argmax(dim=1) for fitted_to, x in zip(seen, asked)])
    return (said == torch.arange(names)).sum(dim=1).tolist()


class SmallNamer(nn.Module):
    """A small tower that learns to name pictures: cut them up, run the layers, take the mean token, one output a name.

    `run(layers, x)`: the hidden states, as the notebook's layers make them. (batch, 3, height, width) -> (batch, names)
    """

    def __init__(self, run, depth, names, size, patch=12, width=64):
        super().__init__()
        config = SimpleNamespace(hidden_size=width, intermediate_size=4 * width, num_attention_heads=2)
        config.num_hidden_layers, config.layer_norm_eps = depth, 1e-6
        self.run, self.layers = run, Encoder(config).layers
        self.cut = nn.Conv2d(3, width, patch, stride=patch)
        self.positions = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, names)
        xavier(self.layers)

    def forward(self, pixel_values):
        x = self.cut(pixel_values).flatten(2).transpose(1, 2) + self.positions
        return self.out(self.norm(self.run(self.layers, x)[-1]).mean(dim=1))


def losses_of_small_namer(run, depth, drawings, warmup=1, rate=1e-3, steps=48, every=4):
    """Train a `SmallNamer` on drawings (names, styles, 3, size, size); the rate grows over the first `warmup` steps.

    -> the steps at the end of each `every`, the mean loss over each `every`
    """
    torch.manual_seed(0)
    names, styles, _, _, size = drawings.shape
    model, losses = SmallNamer(run, depth, names, size), []
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, (step + 1) / warmup))
    for _ in range(steps):
        which, style = torch.randint(names, (64,)), torch.randint(styles, (64,))
        loss = F.cross_entropy(model(drawings[which, style]), which)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return range(every, steps + 1, every), torch.tensor(losses).view(-1, every).mean(dim=1)


def count_patches(size, patch):
    """How many whole patches fit into a square image, in pixels along a side of it and of a patch."""
    return (size // patch) ** 2


def count_numbers(module, trained=False):
    """How many numbers are in a module's parameters. `trained`: only in those that aren't frozen."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad or not trained)


def relative_gradients(tower):
    """The gradient's length, in lengths of the weights that it belongs to, in parts of a vision tower. -> {part: number}"""
    embeddings, layer = tower.embeddings, tower.encoder.layers[0]
    parts = {"filters": embeddings.patch_embedding.weight, "positions": embeddings.position_embedding.weight}
    parts |= {name: getattr(layer.self_attn, f"{name}_proj").weight for name in ("q", "k", "v", "out")}
    parts |= {"MLP": layer.mlp.fc1.weight, "probe": tower.head.probe}
    return {name: (weight.grad.norm() / weight.norm()).item() for name, weight in parts.items()}


@torch.no_grad()
def look_inside(tower, fresh, pixels):
    """What a training has made of a tower that began as `fresh`: what was added to its filters, and its position table.

    And "looks": the attention (patches, patches) of head 0 in the first layer, the mean of all pixels (images, 3, size, size).
    """
    embeddings, layer = tower.embeddings, tower.encoder.layers[0]
    x, attention = layer.layer_norm1(embeddings(pixels)), layer.self_attn
    queries, keys = (split_heads(project(x), attention.heads) for project in (attention.q_proj, attention.k_proj))
    filters = embeddings.patch_embedding.weight - fresh.embeddings.patch_embedding.weight
    looks = attention_weights(queries, keys)[:, 0].mean(dim=0)
    return {"filters": filters.cpu(), "positions": embeddings.position_embedding.weight.cpu().clone(), "looks": looks.cpu()}


def losses_by_stage(record, mean_of=5):
    """The curve of each stage of a recorded training: {its images and batch: (steps, losses)}.

    Each loss is the mean of the last `mean_of` that were recorded, within one stage.
    """
    first, curves = 0, {}
    for stage in record["stages"]:
        last = first + stage["steps"]
        steps, losses = zip(*[(step, loss) for step, loss in record["loss"] if first < step <= last])
        smooth = torch.tensor(losses).unfold(0, mean_of, 1).mean(dim=1)
        curves[f"{stage['canvas']} px, batch of {stage['batch']}"] = steps[mean_of - 1 :], smooth
        first = last
    return curves


def training_device():
    """The accelerator that torch finds here, or the CPU."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def xavier(layers):
    """Fresh random layers, in place: Xavier weights (Glorot and Bengio 2010), biases of zero. -> the layers"""
    for module in layers.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    return layers


def fresh_embeddings(embeddings):
    """Fresh random patch embeddings, in place, of the size that SigLIP's training starts with. -> the embeddings"""
    filters, positions = embeddings.patch_embedding, embeddings.position_embedding
    nn.init.normal_(filters.weight, std=filters.weight[0].numel() ** -0.5)
    nn.init.zeros_(filters.bias)
    nn.init.normal_(positions.weight, std=positions.embedding_dim**-0.5)
    return embeddings


def best_named(numbers, names, count=3):
    """The largest numbers, largest first, with their names. (names) -> {name: number}"""
    best = numbers.topk(count)
    return {names[index]: number.item() for index, number in zip(best.indices, best.values)}


@torch.no_grad()
def without_head(block, x, head):
    """What attention returns if one head is silent: out_proj doesn't hear it. (batch, tokens, width) -> the same shape"""
    deaf, size = copy.deepcopy(block), block.out_proj.in_features // block.heads
    deaf.out_proj.weight[:, head * size : (head + 1) * size] = 0
    return deaf(x)


@torch.no_grad()
def unit_vectors(tower, *inputs):
    """What a tower makes of many pictures or sentences, a few at a time: a vector of length 1 for each. -> (pictures, width)

    `inputs`: the tensors that the tower takes, each with a row for every picture or sentence.
    """
    batches = zip(*(tensor.split(14) for tensor in inputs))
    return F.normalize(torch.cat([tower(*few)[1] for few in batches]), dim=-1)


def judged(logits):
    """How a model judges pictures, of which picture 0 shows what caption 0 says, and so on. (pictures, captions) -> 3 numbers

    How many it names right; for how many it says yes to their own caption; for how many no to all, once that is missing.
    """
    own = torch.eye(len(logits), dtype=torch.bool)
    named = (logits.argmax(dim=1) == torch.arange(len(logits))).sum().item()
    refused = (logits.masked_fill(own, -torch.inf) <= 0).all(dim=1).sum().item()
    return named, (logits.diagonal() > 0).sum().item(), refused


def share_by_quarter(grids):
    """How much of what is positive in each grid lies top left, top right, bottom left, bottom right.

    (grids, rows, columns) -> (grids, 4); the middle of an odd grid belongs to both sides
    """
    sums = F.adaptive_avg_pool2d(grids.clamp(min=0), 2).flatten(1)
    return sums / sums.sum(dim=1, keepdim=True)


def quarter_means(sequence):
    """The mean vector of each quarter's patches, without an odd grid's last row and column.

    (pictures, patches, width) -> (pictures, 4, width): top left, top right, bottom left, bottom right
    """
    side = round(sequence.shape[1] ** 0.5)
    half = side // 2
    grid = sequence.unflatten(1, (side, side))[:, : 2 * half, : 2 * half]
    return grid.unflatten(2, (2, half)).unflatten(1, (2, half)).mean(dim=(2, 4)).flatten(1, 2)


@torch.no_grad()
def quarters_of_states(vision, pixels):
    """The quarters' mean vectors in each hidden state, and in the "normed" one. -> {state: (pictures * 4, width)}"""
    found = {}
    for batch in pixels.split(14):
        run = vision(batch, output_hidden_states=True)
        for name, state in [*enumerate(run.hidden_states), ("normed", run.last_hidden_state)]:
            found.setdefault(name, []).append(quarter_means(state).flatten(0, 1))
    return {name: torch.cat(means) for name, means in found.items()}


def pixel_shuffle(sequence):
    """Four patches that form a square become one token. (batch, patches, width) -> (batch, patches / 4, 4 * width)"""
    batch, patches, width = sequence.shape
    side = round(patches**0.5)
    columns = F.unfold(sequence.mT.reshape(batch, width, side, side), kernel_size=2, stride=2)
    return columns.view(batch, width, 4, -1).permute(0, 3, 2, 1).flatten(2)


def tried_tower(build, config, weights, layers, pixels):
    """What a learner's `build` makes of (config, weights, layers): what it sees, what it holds, how careful it is."""
    misspelt = {name.replace("fc1", "fcl"): weight for name, weight in weights.items()}
    try:
        swallowed = build(config, misspelt, layers) is not None
    except Exception:  # whichever
        swallowed = False
    tower = build(config, weights, layers)
    if tower is None:
        return None
    if not isinstance(tower, nn.Module):
        return tower
    kept = [name in weights and torch.equal(tensor, weights[name]) for name, tensor in tower.state_dict().items()]
    return {
        "layers held": len(tower.encoder.layers),
        "tensors filled with the given weights": sum(kept),
        "what it sees": tower(pixels),
        "parameters held": count_numbers(tower),
        "layers in the given config, which stays as it is": config.num_hidden_layers,
        "misspelt names that raise no error": int(swallowed),
    }


def right_tower(config, weights, layers, pixels):
    """The same of a vision tower of which only the first so many layers are run, and counted."""
    whole = VisionTransformer(config)
    whole.load_state_dict(weights)
    first = whole.encoder.layers[:layers]
    return {
        "layers held": layers,
        "tensors filled with the given weights": len(whole.embeddings.state_dict()) + len(first.state_dict()),
        "what it sees": nn.Sequential(whole.embeddings, *first)(pixels),
        "parameters held": count_numbers(whole.embeddings) + count_numbers(first),
        "layers in the given config, which stays as it is": config.num_hidden_layers,
        "misspelt names that raise no error": 0,
    }


@torch.no_grad()
def at_every_place(text_model, ids):
    """What the text tower's head would give if it read another place than the last. (texts, tokens) -> (tokens, texts, width)

    Every vector has length 1.
    """
    hidden, _ = text_model(ids)
    return F.normalize(text_model.head(hidden), dim=-1).transpose(0, 1)


def clip_loss(logits):
    """CLIP's loss: each image picks its text by softmax, each text its image. Radford et al. 2021. (pairs, pairs) -> scalar"""
    picked = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
    return -picked.mean() / 2


def fit_linear_probe(vectors, targets, ridge=100.0):
    """What can one matrix read from vectors? It is fitted by least squares, with a penalty on large weights.

    vectors (examples, width), targets (examples, labels) -> a function from vectors (..., width) to scores (..., labels)
    """
    mean, share = vectors.mean(dim=0), targets.mean(dim=0)
    size = vectors.std(dim=0).clamp_min(1e-6)  # a number that never changes, as a white corner's, gets no weight
    inputs = ((vectors - mean) / size).double()
    gram = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, inputs.T @ (targets - share).double()).float()
    return lambda new: (new - mean) / size @ weights + share


@torch.no_grad()
def share_in_top(scores, right):
    """How many of the right names are among the highest scores, of which it takes as many as there are right names?

    scores (pictures, names), indices of the right names (pictures, how many) -> their share, from 0 to 1
    """
    best = scores.topk(right.shape[1]).indices
    return (best[:, None] == right[:, :, None]).any(dim=-1).float().mean().item()


def seconds_in_turns(models, pixel_values, rounds=9):
    """Seconds of `rounds` passes through each of the models, run in turns so that all meet the same machine.

    {name: model} -> {name: [seconds]}
    """
    seconds = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model(pixel_values)
            seconds[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in seconds.items()}  # the first round warms up


class CountMemory(TorchDispatchMode):
    """While it is on, adds up the bytes of all tensors that operations have made and that still live; keeps the peak."""

    def __init__(self):
        super().__init__()
        self.live, self.outside, self.peak = {}, set(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        self.outside |= given - self.live.keys()  # weights and inputs were there before
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.live.keys() | self.outside:
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def peak_megabytes(model, pixel_values):
    """The most memory that a pass needs at once, beyond the weights and the input."""
    with torch.no_grad(), CountMemory() as memory:
        model(pixel_values)
    return memory.peak / 1e6


def neighbours_alike(table):
    """The mean cosine of the vectors of two places side by side, and of all other pairs of places.

    (patches, width) -> two numbers of two decimals
    """
    side, unit = round(len(table) ** 0.5), F.normalize(table, dim=-1)
    row, column = (axis.flatten() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
    steps = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    return [round((unit @ unit.T)[pairs].mean().item(), 2) + 0.0 for pairs in (steps == 1, steps > 1)]  # never −0


def losses_of_linear_namer(drawings, step_sizes, steps=100):
    """One linear layer learns, from zeros, to name drawings: its mean loss in the second half of the steps.

    A mean, because beyond the best step size the last loss alone hangs on rounding.
    drawings (names, styles, 3, size, size), shrunk to a third -> [a loss for each step size]
    """
    inputs = F.avg_pool2d(drawings.flatten(0, 1), 3).flatten(1)  # (names * styles, numbers)
    targets, losses = torch.arange(len(drawings)).repeat_interleave(drawings.shape[1]), []
    for step_size in step_sizes:
        layer = nn.Linear(inputs.shape[1], len(drawings))
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        optimizer, recorded = torch.optim.SGD(layer.parameters(), lr=step_size), []
        for _ in range(steps):
            loss = F.cross_entropy(layer(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recorded.append(loss.item())
        losses.append(sum(recorded[steps // 2 :]) / (steps - steps // 2))
    return losses


def like_our_patch(vectors):
    """The cosine of each place's vector with that of our patch's place. (patches, width) -> (side, side)"""
    side = round(len(vectors) ** 0.5)
    return F.cosine_similarity(vectors, vectors[our_patch(side)], dim=-1).view(side, side)


def places_read(vectors, among=None):
    """One matrix is fitted to read the number of the place from each vector of two thirds of the pictures.

    (pictures, patches, width) -> the share of the other pictures' vectors from which it reads the exact place; of those
    `among` (pictures, patches) of bool
    """
    pictures, patches, _ = vectors.shape
    learn = 2 * pictures // 3
    read = fit_linear_probe(vectors[:learn].flatten(0, 1), torch.eye(patches).repeat(learn, 1), ridge=1.0)
    right = read(vectors[learn:]).argmax(dim=-1) == torch.arange(patches)  # (pictures, patches)
    return (right if among is None else right[among[learn:]]).float().mean().item()


@torch.no_grad()
def look(vision, pixels):
    """What a vision tower makes of many pictures, a few at a time. (pictures, 3, height, width) -> two tensors

    The head's pooled vectors (pictures, width), and the normed sequences (pictures, patches, width).
    """
    runs = [vision(few) for few in pixels.split(14)]
    return torch.cat([run.pooler_output for run in runs]), torch.cat([run.last_hidden_state for run in runs])


def shuffled(sequences, seed):
    """Each picture's patches in a random order of its own. (pictures, patches, width) -> the same shape"""
    chance = torch.rand(sequences.shape[:2], generator=torch.Generator().manual_seed(seed))
    return sequences.take_along_dim(chance.argsort(dim=1)[..., None], dim=1)


def dealt(pictures, order, patch=8):
    """Pictures cut into their patches and put together in another order: place i gets patch order[i].

    (pictures, 3, height, width), (patches) -> the same shape
    """
    columns = F.unfold(pictures, patch, stride=patch)  # (pictures, numbers of a patch, patches)
    return F.fold(columns[:, :, order], pictures.shape[-2:], patch, stride=patch)


def trials_of_towers(build, pixels):
    """`tried_tower` of a learner's `build`, and `right_tower`: two functions of (config, weights, layers)"""

    @functools.wraps(build)  # so that an error is told by the line of the learner's function
    def tried(*inputs):
        return tried_tower(build, *inputs, pixels)

    return tried, lambda *inputs: right_tower(*inputs, pixels)


def percent_matched(images, texts):
    """How many percent of the images fit their own text best, of those in their group. -> number

    `images`, `texts`: a tensor (pictures, width) for each group, picture 0 and text 0 belong together, and so on.
    """
    fits = [(some @ others.T).argmax(dim=1) == torch.arange(len(others)) for some, others in zip(images, texts)]
    return 100 * torch.cat(fits).float().mean().item()


def mean_lengths(kinds):
    """The mean length of the vectors of each kind. {kind: (..., width)} -> {kind: number}"""
    return {kind: vectors.norm(dim=-1).mean().item() for kind, vectors in kinds.items()}


def without_margin(grids, mask, down=(0, 1), across=(0, 1)):
    """The mask without the patches that lie wholly in a margin. grids (pictures, 2), mask (pictures, most) -> (pictures, most)

    `down` and `across`: the margin's share of the height and of the width, on either side, as (part, whole).
    """
    mask = mask.clone()
    for seen, (rows, columns) in zip(mask, grids.tolist()):
        top, left = (side * part // whole for side, (part, whole) in ((rows, down), (columns, across)))
        inside = torch.zeros(rows, columns, dtype=torch.bool)
        inside[top : rows - top, left : columns - left] = True
        seen[: rows * columns] &= inside.flatten()
    return mask


def cache_bytes(text_config, tokens):
    """The bytes of what Gemma keeps of so many tokens, measured on a model without weights."""
    from transformers import GemmaModel  # takes seconds to import, and most notebooks do without

    with torch.device("meta"):
        sequence = torch.zeros(1, tokens, text_config.hidden_size)
        run = GemmaModel(text_config)(inputs_embeds=sequence, use_cache=True)
    kept = [part for layer in run.past_key_values.layers for part in (layer.keys, layer.values)]
    return sum(part.nbytes for part in kept)
