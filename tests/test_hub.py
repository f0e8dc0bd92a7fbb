"""Checkpoints from the hub: fetched once, and every fault on the way is one clear line, quickly, with nothing half-written.

The real client of huggingface_hub, in a process of its own, against a server on 127.0.0.1 that plays the hub.
"""

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import COMMIT, serve

from utils.hub import REVISIONS
from utils.parity import CHECKPOINTS

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "models" / "siglip-mini-patch16-224"
FILES = {
    "config.json": b'{"model_type": "siglip"}',
    "model.safetensors": bytes(range(256)) * 20_000,
    "preprocessor_config.json": b"{}",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"not needed",
    "README.md": b"not needed",
}


@pytest.fixture
def home(tmp_path):
    return tmp_path / "hf"


def environment(url, home, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_", "SIGLIP_"))}
    return kept | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | more


def start(url, home, name="tiny/siglip", **more):
    command = [sys.executable, "-m", "utils.hub", name]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment(url, home, **more), text=True, **pipes)


def fetch(url, home, name="tiny/siglip", **more):
    """-> exit status, what was printed, the last line of the errors, seconds"""
    began = time.monotonic()
    process = start(url, home, name, **more)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, (err.strip().splitlines() or [""])[-1], time.monotonic() - began


def cached(home):
    return {path.name for path in home.glob(f"hub/models--tiny--siglip/snapshots/{COMMIT}/*")}


NEEDED = set(FILES) - {"pytorch_model.bin", "README.md"}


def test_it_is_fetched_once_with_only_what_is_needed_and_then_needs_no_request(home):
    with serve(FILES) as hub:
        status, out, _, _ = fetch(hub.url, home)
        assert status == 0 and "tiny/siglip: 5 MB in " in out
        assert cached(home) == NEEDED
        hub.requests.clear()
        assert fetch(hub.url, home)[0] == 0
        assert hub.requests == []
    assert fetch(hub.url, home)[0] == 0, "the cache is enough without a server, too"
    assert fetch(hub.url, home, HF_HUB_OFFLINE="1")[0] == 0


def test_a_checkpoint_of_the_table_is_fetched_at_its_pinned_version_and_no_other_counts(home):
    assert set(REVISIONS) == set(CHECKPOINTS)
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in REVISIONS.values())
    name, pinned = "google/siglip-base-patch16-224", REVISIONS["google/siglip-base-patch16-224"]
    versions = home / "hub" / "models--google--siglip-base-patch16-224" / "snapshots"
    with serve(FILES) as hub:
        (versions / COMMIT).mkdir(parents=True)
        for file, body in FILES.items():
            (versions / COMMIT / file).write_bytes(body)
        assert fetch(hub.url, home, name)[0] == 0
        assert ("GET", f"/api/models/{name}/revision/{pinned}") in hub.requests
        assert {path.name for path in (versions / pinned).iterdir()} == NEEDED
        hub.requests.clear()
        assert fetch(hub.url, home, name)[0] == 0
        assert hub.requests == []


def test_a_progress_bar_shows_the_size(home):
    with serve(FILES) as hub:
        _, err = start(hub.url, home).communicate(timeout=60)
    assert "model.safetensors: 100%" in err and "5.12M" in err


FAULTS = {
    "silent": ("silent", "does not answer"),
    "log-in page": ("log-in page", "is not the hub .*log-in page"),
    "rate limit": (("always", 429, ""), "limits requests from this address"),
    "unknown name": (("always", 401, "RepoNotFound"), "does not exist on the hub, or is private; check the name"),
    "unknown name, 404": (("always", 404, "RepoNotFound"), "does not exist on the hub"),
    "version gone": (("always", 404, "RevisionNotFound"), "that utils/hub.py pins is gone from the hub; take it out there"),
    "gated": (("files", 401, "GatedRepo"), "is gated: accept its licence"),
    "forbidden": (("files", 403, ""), "is gated: accept its licence"),
    "server error": (("always", 500, ""), r"fault of its own \(error 500\)"),
    "unavailable": (("always", 503, ""), r"fault of its own \(error 503\)"),
    "server error at the files": (("files", 500, ""), r"fault of its own \(error 500\)"),
    "rate limit at the files": (("files", 429, ""), "limits requests"),
    "stalls": ("stalls", "stands still; try again"),
    "cut always": ("cut always", "model.safetensors (stands still|broke off)"),
    "wrong bytes": ("wrong bytes", "model.safetensors arrived damaged and was removed; try again"),
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_clear_line_within_ten_seconds_and_the_next_try_works(home, fault, says):
    with serve(FILES, fault) as hub:
        status, out, line, seconds = fetch(hub.url, home)
        assert status == 1 and out == ""
        assert line.startswith("download: ") and re.search(says, line), line
        assert seconds < 10
        hub.fault = None
        assert fetch(hub.url, home)[0] == 0
        assert cached(home) == NEEDED


def test_no_network_is_one_clear_line_at_once(home):
    status, _, line, seconds = fetch("http://127.0.0.1:9", home)
    assert status == 1 and "no connection to http://127.0.0.1:9; check the network, or copy" in line
    assert seconds < 5


def test_a_slow_network_is_not_taken_for_a_dead_one(home):
    with serve(FILES, "trickles") as hub:
        status, _, line, seconds = fetch(hub.url, home)
    assert status == 0, line
    assert seconds > 8, "longer than the patience with a network that brings nothing"


def test_weights_that_lie_in_a_store_elsewhere_are_fetched(home):
    with serve(FILES, "store elsewhere") as hub:
        assert fetch(hub.url, home)[0] == 0
        assert ("GET", "/store/model.safetensors") in hub.requests
    assert cached(home) == NEEDED


def test_a_download_that_is_cut_is_resumed(home):
    with serve(FILES, "cut once") as hub:
        assert fetch(hub.url, home)[0] == 0
        assert hub.was_cut
    assert (home / f"hub/models--tiny--siglip/snapshots/{COMMIT}/model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize(
    "damage", [lambda body: bytes(len(body)), lambda body: body[:1000], lambda body: b""], ids=["bytes", "cut", "empty"]
)
def test_weights_that_are_damaged_in_the_cache_are_fetched_again(home, damage):
    with serve(FILES) as hub:
        fetch(hub.url, home)
        weights = home / f"hub/models--tiny--siglip/snapshots/{COMMIT}/model.safetensors"
        weights.resolve().write_bytes(damage(FILES["model.safetensors"]))
        status, out, _, _ = fetch(hub.url, home)
        assert status == 0 and "model.safetensors was damaged in the cache and is fetched again" in out
        assert weights.read_bytes() == FILES["model.safetensors"]


def test_offline_with_an_empty_cache_is_one_clear_line(home):
    status, _, line, _ = fetch("http://127.0.0.1:9", home, HF_HUB_OFFLINE="1")
    assert status == 1 and "tiny/siglip is not in the cache, and HF_HUB_OFFLINE forbids to fetch it" in line


def test_a_naflex_checkpoint_is_refused_before_its_weights_are_fetched(home):
    with serve(FILES | {"config.json": b'{"model_type": "siglip2"}'}) as hub:
        status, _, line, _ = fetch(hub.url, home)
        assert status == 1 and "holds a model of type 'siglip2', not 'siglip'; choose a fixed-resolution SigLIP" in line
        assert not any("safetensors" in path for _, path in hub.requests)


def test_a_repository_without_weights_in_safetensors_is_refused(home):
    with serve({name: body for name, body in FILES.items() if name != "model.safetensors"}) as hub:
        status, _, line, _ = fetch(hub.url, home)
    assert status == 1 and "tiny/siglip on the hub lacks model.safetensors; choose another" in line


def test_weights_in_several_files_are_all_fetched(home):
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    parts = {"model-00001-of-00002.safetensors": b"one" * 100, "model-00002-of-00002.safetensors": b"two" * 100}
    files = {name: body for name, body in FILES.items() if name != "model.safetensors"}
    with serve(files | parts | {"model.safetensors.index.json": index}) as hub:
        assert fetch(hub.url, home)[0] == 0
    assert set(parts) <= cached(home)


def test_a_cache_that_cannot_be_written_is_one_clear_line(home):
    home.mkdir()
    (home / "hub").write_text("a file where the folder should be: root may write into any folder")
    with serve(FILES) as hub:
        status, _, line, _ = fetch(hub.url, home)
    assert status == 1 and "cannot be stored in" in line and "set HF_HOME to a folder that you may write to" in line


def test_a_full_disk_is_one_clear_line_and_the_next_try_works(home):
    def no_file_over_a_megabyte():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    with serve(FILES) as hub:
        command = [sys.executable, "-m", "utils.hub", "tiny/siglip"]
        options = dict(cwd=ROOT, env=environment(hub.url, home), capture_output=True, text=True)
        done = subprocess.run(command, preexec_fn=no_file_over_a_megabyte, **options)
        line = done.stderr.strip().splitlines()[-1]
        assert (
            done.returncode == 1
            and "cannot be stored in" in line
            and "make room, or set HF_HOME to a folder on another disk" in line
        )
        assert "model.safetensors" not in cached(home)
        assert fetch(hub.url, home)[0] == 0


def test_a_command_without_a_name_says_how_it_is_used():
    done = subprocess.run([sys.executable, "-m", "utils.hub"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "download: say which: make download CHECKPOINT=google/siglip-base-patch16-224\n"


def test_two_processes_at_once_both_succeed(home):
    with serve(FILES, "slow") as hub:
        both = [start(hub.url, home) for _ in range(2)]
        assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert cached(home) == NEEDED


def test_the_notebooks_loader_takes_a_hub_name(home):
    files = {
        path.name: path.read_bytes() for path in BUNDLED.iterdir() if path.is_file() and path.suffix not in (".md", ".png")
    }
    program = "from utils.reference import load_reference; load_reference()"
    with serve(files) as hub:
        more = {"SIGLIP_CHECKPOINT": "tiny/siglip"}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment(hub.url, home, **more), capture_output=True, text=True
        )
    assert "Reference: siglip from tiny/siglip: 224 px" in done.stdout, done.stderr
