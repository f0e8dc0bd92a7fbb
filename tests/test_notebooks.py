"""What nbval does not see: the form of the stored notebooks, their code against utils/siglip.py, and the exercises."""

import ast
import contextlib
import copy
import io
import re
import warnings
from pathlib import Path

from utils.notebooks import PATHS, execute, normalise, read

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
MACHINE_PATH = re.compile(r"/home/|/root/|/tmp/|/Users/|site-packages|ipykernel_")

# The learner, played: for each exercise, answers that are wrong and what the check must say about them.
WRONG_ANSWERS = {
    "to_bytes": [
        ("def to_bytes(p): return ((p[0] * 0.5 + 0.5) * 255).round().to(torch.uint8)", "the shape is (3, 224, 224)"),
        (
            "def to_bytes(p): return (p[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)",
            "away from the reference",
        ),
        ("def to_bytes(p): return (p[0].permute(1, 2, 0) * 0.5 + 0.5) * 255", "should be torch.uint8"),
    ],
    "mended": [
        ("def mended(image, size): return broken(image, size)", "rows and columns are exchanged"),
        ("def mended(image, size): return preprocess(image, size).flip(1)", "red and blue are exchanged"),
    ],
    "preprocess_with_torch": [
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return (torch.nn.functional.interpolate(x, (size, size), mode='bicubic').clamp(0, 1) - 0.5) / 0.5",
            "without antialias=True",
        ),
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return (torch.nn.functional.interpolate(x, (size, size), mode='bicubic', antialias=True) - 0.5) / 0.5",
            "stripes: up to",
        ),
        ("def preprocess_with_torch(image, size): return preprocess(image, size) * 0.5 + 0.5", "stay in [0, 1]"),
    ],
    "one_patch": [
        ("def one_patch(p, row, column): return by_hand[row * side + column]", "away from the reference"),
        ("def one_patch(p, row, column): return by_hand[column * side + row] + positions[0]", "away from the reference"),
        ("def one_patch(p, row, column): return by_hand + positions", "the shape is (196, 192), it should be (192)"),
    ],
    "mended_embeddings": [
        ("def mended_embeddings(block, x): return broken(block, x)", "that cuts the vectors to pieces"),
        (
            "def mended_embeddings(block, x): return block.patch_embedding(x).transpose(2, 3).flatten(2).transpose(1, 2)"
            " + block.position_embedding.weight",
            "read column after column",
        ),
        ("def mended_embeddings(block, x): return block.patch_embedding(x).flatten(2).transpose(1, 2)", "are not added"),
    ],
    "put_together": [
        ("def put_together(patches): return patches.reshape(1, 3, side * patch, side * patch)", "away from the reference"),
        (
            "def put_together(patches):\n"
            "    grid = patches.view(side, side, 3, patch, patch)\n"
            "    return grid.permute(2, 1, 3, 0, 4).reshape(1, 3, side * patch, side * patch)",
            "away from the reference",
        ),
    ],
    "attend": [
        ("def attend(q, k, v): return (q @ k.transpose(-1, -2)).softmax(-1) @ v", "not divided by sqrt(head width)"),
        (
            "def attend(q, k, v): return (q @ k.transpose(-1, -2) / config.hidden_size**0.5).softmax(-1) @ v",
            "divided by sqrt(width) instead of sqrt(head width)",
        ),
        (
            "def attend(q, k, v): return (q @ k.transpose(-1, -2) / q.shape[-1]**0.5).softmax(-2) @ v",
            "each query's weights must sum to one",
        ),
    ],
    "mended_head": [
        ("def mended_head(head, x): return broken(head, x)", "queries and keys are exchanged"),
        (
            "def mended_head(head, x): return ((head.q_proj(x) @ head.v_proj(x).transpose(-1, -2) / 8).softmax(-1)"
            " @ head.k_proj(x))",
            "keys and values are exchanged",
        ),
    ],
    "mean_distance": [
        ("def mean_distance(w): return measure.mean_distance(w).mean()", "the shape is (), it should be (196)"),
        ("def mean_distance(w): return measure.mean_distance(w.T)", "away from the reference"),
    ],
    "merge_heads": [
        ("def merge_heads(x): return x.reshape(len(x), x.shape[2], -1)", "away from the reference"),
        ("def merge_heads(x): return x.transpose(1, 2)", "the shape is (1, 196, 3, 64), it should be (1, 196, 192)"),
    ],
    "mended_attention": [
        ("def mended_attention(block, x): return broken(block, x)", "divided by sqrt(width) instead of sqrt(head width)"),
        (
            "def mended_attention(block, x):\n"
            "    q, k, v = (block.split_heads(f(x)) for f in (block.q_proj, block.k_proj, block.v_proj))\n"
            "    weights = (q @ k.transpose(-1, -2) * block.head_width**-0.5).softmax(-1)\n"
            "    return block.out_proj((weights @ v).reshape(x.shape))",
            "merged without transposing them back",
        ),
    ],
    "without_head": [
        ("def without_head(block, x, head): return block(x)", "away from the reference"),
        (
            "def without_head(block, x, head):\n"
            "    k = merged.clone()\n"
            "    k[..., head::block.heads] = 0\n"
            "    return block.out_proj(k)",
            "away from the reference",
        ),
    ],
    "layer_norm": [
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias",
            "averaged over width - 1",
        ),
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True).sqrt() + eps) * weight + bias",
            "it belongs to the variance, inside the root",
        ),
        ("def layer_norm(x, weight, bias, eps): return F.layer_norm(x, x.shape[-1:], weight, bias)", "usual 1e-5"),
    ],
    "mended_layer": [
        ("def mended_layer(layer, x): return broken(layer, x)", "what attention added is lost"),
        (
            "def mended_layer(layer, x):\n"
            "    attended = layer.self_attn(layer.layer_norm1(x))\n"
            "    return attended + layer.mlp(layer.layer_norm2(attended))",
            "the input is not added back after attention",
        ),
    ],
    "without_each_layer": [
        ("def without_each_layer(encoder, x): return torch.ones(len(encoder.layers))", "away from the reference"),
        ("def without_each_layer(encoder, x): return measure.without_each_layer(encoder, x).flip(0)", "away from"),
    ],
    "count_from": [
        ("def count_from(config): return 12 * config.hidden_size**2 * config.num_hidden_layers", "too few"),
        ("def count_from(config): return count(ours)", "base: 5,968,704, not 92,884,224: 86,915,520 too few"),
    ],
    "mended_pooling": [
        ("def mended_pooling(head, x): return broken(head, x)", "it is packed as q, k, v"),
        ("def mended_pooling(head, x): return head(x) - head.mlp(head.layernorm(x.mean(1)))", "away from the reference"),
        ("def mended_pooling(head, x): return x.mean(1)", "the patches' mean is taken instead of the head"),
    ],
    "clip_loss": [
        ("def clip_loss(logits): return F.cross_entropy(logits, torch.arange(len(logits)))", "away from the reference"),
        ("def clip_loss(logits): return sigmoid_loss(logits)", "away from the reference"),
    ],
    "mended_loss": [
        ("def mended_loss(logits): return broken(logits)", "the mean over all pairs is taken"),
        ("def mended_loss(logits): return -F.logsigmoid(logits.diagonal()).mean()", "only the diagonal is judged"),
        ("def mended_loss(logits): return sigmoid_loss(-logits)", "the sign of the labels is turned round"),
    ],
    "gradient": [
        ("def gradient(logits): return logits.sigmoid() - torch.eye(len(logits))", "away from the reference"),
        ("def gradient(logits): return -(logits.sigmoid() - torch.eye(len(logits))) / len(logits)", "away from the reference"),
    ],
    "probabilities": [
        ("def probabilities(logits): return logits.softmax(dim=1)", "it forces them to share one whole"),
        ("def probabilities(logits): return 1 / (1 + logits.exp())", "away from the reference"),
    ],
    "mended_logits": [
        ("def mended_logits(model, pixels, ids): return broken(model, pixels, ids)", "it comes after"),
        ("def mended_logits(model, pixels, ids): return model(pixels, ids).T", "these are logits_per_text"),
        (
            "def mended_logits(model, pixels, ids):\n"
            "    images, texts = model.encode(pixels, ids)\n"
            "    return images @ texts.T * model.logit_scale + model.logit_bias",
            "it is the logarithm of the scale",
        ),
    ],
    "ensemble": [
        ("def ensemble(names, templates): return texts", "away from the reference"),
        (
            "def ensemble(names, templates):\n"
            "    return sum(ours.text_model(reference.tokenize(*[t.format(n) for n in names]))[1] for t in templates)",
            "away from the reference",
        ),
    ],
    "cache_bytes": [
        ("def cache_bytes(c, n): return c.num_hidden_layers * c.num_key_value_heads * c.head_dim * n * 4", "too few"),
        ("def cache_bytes(c, n): return 2 * c.num_hidden_layers * c.num_attention_heads * c.head_dim * n * 4", "too many"),
    ],
    "mended_merge": [
        ("def mended_merge(model, seen, ids): return broken(model, seen, ids)", "away from the reference"),
        (
            "def mended_merge(model, seen, ids):\n"
            "    words = F.embedding(ids, model.language_model.embed_tokens.weight)\n"
            "    return torch.cat([model.projector(seen), words], dim=1)",
            "away from the reference",
        ),
        ("def mended_merge(model, seen, ids): return model.projector(seen)", "the shape is (1, 196, 256)"),
    ],
    "log_probability": [
        (
            "def log_probability(model, seen, caption):\n"
            "    row, length = reference.tokenize(prompt, caption)\n"
            "    return -answer_loss(model.read(seen, row, length), row, length, padding)",
            "away from the reference",
        ),
        ("def log_probability(model, seen, caption): return torch.tensor([-1.0])", "the shape is (1), it should be ()"),
    ],
    "pictures_that_fit": [
        ("def pictures_that_fit(config, gigabytes): return 1000", "too few"),
        (
            "def pictures_that_fit(config, gigabytes):\n"
            "    patches = (config.image_size // config.patch_size) ** 2\n"
            "    return gigabytes * 10**9 // (config.num_hidden_layers * patches * config.hidden_size * 4)",
            "too many",
        ),
    ],
    "first_layers": [
        ("def first_layers(config, weights, layers): return tower", "444,864 too many"),
        (
            "def first_layers(config, weights, layers):\n"
            "    shorter = copy.deepcopy(config)\n"
            "    shorter.num_hidden_layers = layers\n"
            "    return TrimmedTower(shorter)",
            "away from the reference",
        ),
        (
            "def first_layers(config, weights, layers):\n"
            "    config.num_hidden_layers = layers\n"
            "    tower = TrimmedTower(config)\n"
            "    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})\n"
            "    return tower",
            "layers in the config",
        ),
    ],
    "mended_norm": [
        ("def mended_norm(vision, x): return broken(vision, x)", "away from the reference"),
        (
            "def mended_norm(vision, x): return vision(x, output_hidden_states=True).hidden_states[-1]",
            "away from the reference",
        ),
    ],
    "probe_shares": [
        ("def probe_shares(head, x): return probe_looks.mean(0)", "the shape is (196), it should be (3, 196)"),
        (
            "def probe_shares(head, x):\n"
            "    wq, wk, _ = head.attention.in_proj_weight.chunk(3)\n"
            "    query, keys = head.split_heads(F.linear(head.probe, wq)), head.split_heads(F.linear(x.transpose(0, 1), wk))\n"
            "    return (query @ keys.transpose(1, 2)).softmax(-1)[:, 0]",
            "away from the reference",
        ),
    ],
}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return read(path)


def test_it_is_valid_and_small(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nbformat.validate(read(path))
    assert path.stat().st_size < 1_000_000


def test_cell_ids_are_unique(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_it_was_run_whole_and_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_its_outputs_hold_no_error_no_warning_and_no_machine_path(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
            assert not MACHINE_PATH.search(str(output.get("text", output.get("data", {}).get("text/plain")))), cell.source


def test_it_is_stored_in_the_normal_form(path, notebook):
    normalise(notebook)
    assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8")


def test_headings_start_with_one_title_and_skip_no_level(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in zip(levels, levels[1:]))


def test_every_picture_has_words(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert all(alt for alt, _ in re.findall(r"!\[(.*?)\]\((.*?)\)", cell.source)), cell.source
        else:
            for output in cell.outputs:
                for form in output.get("data", {}):
                    if form.startswith("image/"):
                        alt = output.metadata.get(form, {}).get("alt")
                        below = [o.data.get("text/markdown") for o in cell.outputs if "data" in o]
                        assert alt and f"*{alt}*" in below, cell.source


def test_every_link_to_a_file_leads_somewhere(path, notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+?)\)", cell.source):
                assert "://" in target or (path.parent / target).exists(), target


def test_cells_are_short(notebook):
    """But for the finished block: it is shown whole, its parts were built above."""
    for cell in code_cells(notebook):
        if not re.match(r"class \w+\(nn.Module\)|@torch.no_grad\(\)\ndef generate\(", cell.source):
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 18, cell.source


def test_its_blocks_are_the_ones_in_utils(notebook):
    sources = [(ROOT / "utils" / name).read_text(encoding="utf-8") for name in ("siglip.py", "vlm.py")]
    parsed = [node for source in sources for node in ast.parse(source).body]
    finished = {node.name: ast.dump(node) for node in parsed if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    blocks = [node for cell in code_cells(notebook) for node in ast.parse(cell.source).body if hasattr(node, "name")]
    shared = [node for node in blocks if node.name in finished]
    assert shared, "a notebook builds at least one block of utils/siglip.py or utils/vlm.py"
    for node in shared:
        assert ast.dump(node) == finished[node.name], node.name


def test_its_minutes_add_up_and_stand_in_the_readme(path, notebook):
    """The exercises' minutes are the sum of their own, to the nearest five."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    reading, exercises = map(int, re.search(r"takes about (\d+) minutes, the exercises (\d+) more", text).groups())
    assert exercises == 5 * round(sum(map(int, re.findall(r"\*\* \(\w+, (\d+) minutes\)", text))) / 5)
    row = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if path.name in line)
    assert row.endswith(f"| {reading} + {exercises} |")


def what_it_says(cell):
    """A cell's outputs, pictures included, without their numbers."""
    return [{name: output.get(name) for name in ("name", "text", "data", "evalue")} for output in cell.outputs]


@pytest.mark.slow
def test_every_cell_can_be_run_twice_and_says_the_same(notebook):
    """Each cell twice in a row; and after all of them, in the same order, those that check an exercise once more."""
    once = code_cells(notebook)
    checks = [cell for cell in once if tagged(cell, "check") or tagged(cell, "solution")]
    notebook.cells = [twin for cell in once for twin in (cell, copy.deepcopy(cell))] + copy.deepcopy(checks)
    execute(notebook)
    again = notebook.cells[1 : 2 * len(once) : 2] + notebook.cells[2 * len(once) :]
    for first, second in zip(once + checks, again, strict=True):
        assert tagged(first, "nbval-ignore-output") or what_it_says(first) == what_it_says(second), first.source


# The exercises


def exercises(notebook):
    """(name of the stub, stub cell, check cell, solution cell) of each exercise."""
    cells = code_cells(notebook)
    for index, cell in enumerate(cells):
        if tagged(cell, "exercise"):
            check, solution = cells[index + 1], cells[index + 2]
            assert tagged(check, "check") and tagged(solution, "solution")
            assert solution.metadata.jupyter.source_hidden
            yield ast.parse(cell.source).body[0].name, cell, check, solution


def run(source, names):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "<cell>", "exec"), names)
    return printed.getvalue()


@pytest.fixture
def names(path, notebook, monkeypatch):
    """Everything that the notebook defines outside its exercises, and outside cells that time or train for long."""
    monkeypatch.chdir(path.parent)
    names = {}
    for cell in code_cells(notebook):
        if not any(tagged(cell, tag) for tag in ("exercise", "check", "solution", "nbval-ignore-output")):
            run(cell.source, names)
    return names


def test_exercises_answer_the_learner(notebook, names):
    found = list(exercises(notebook))
    assert 2 <= len(found) <= 4
    for name, stub, check, solution in found:
        assert "not attempted yet" in run(stub.source + "\n" + check.source, names)
        right = run(solution.source + f"\n{name} = {name}_solution\n" + check.source, dict(names))
        assert "Not yet" not in right and "not attempted" not in right
        assert len(WRONG_ANSWERS[name]) >= 2
        for answer, verdict in WRONG_ANSWERS[name]:
            said = run(answer + "\n" + check.source, dict(names))
            assert "Not yet" in said and verdict in said, said
