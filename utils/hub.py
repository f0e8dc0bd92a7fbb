"""Fetch a checkpoint from the Hugging Face hub, into its standard cache. -> python -m utils.hub OWNER/NAME

huggingface_hub downloads; this asks first, with a time limit, so that a fault is one clear line within seconds.
"""

import errno
import hashlib
import json
import os
import re
import sys
import threading
import time
from fnmatch import fnmatch
from pathlib import Path

import requests
from huggingface_hub import constants, get_token, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from tqdm import tqdm

from utils.errors import LessonError

PATIENCE = 6  # seconds without an answer, or without a byte
# Not 10 MB: a slow network, which does not bring those within PATIENCE, is told from a dead one.
constants.DOWNLOAD_CHUNK_SIZE = 2**16
constants.HF_HUB_DISABLE_XET = True  # its transfers report no bytes until whole blocks are there
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer.model")
FILES = ("config.json", "*.safetensors", "*.safetensors.index.json", *PROCESSORS, *TOKENIZERS)
FILES += ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
# As the public benchmark MTEB pins them (mteb/models/model_implementations/siglip_models.py at commit 634a1bb).
REVISIONS = {
    "google/siglip-base-patch16-224": "7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
    "google/siglip-base-patch16-256": "b078df89e446d623010d890864d4207fe6399f61",
    "google/siglip-base-patch16-384": "41aec1c83b32e0a6fca20ad88ba058aa5b5ea394",
    "google/siglip-base-patch16-512": "753a949581523b60257d93e18391e8c27f72eb22",
    "google/siglip-base-patch16-256-multilingual": "8952a4eafcde3cb7ab46b1dd629b33f8784ca9c6",
    "google/siglip-large-patch16-256": "d0da9f876e7d66b4e250cd2450c3ba2ce735e447",
    "google/siglip-large-patch16-384": "ce005573a40965dfd21fd937fbdeeebf2439fc35",
    "google/siglip-so400m-patch14-224": "d04cf29fca7b6374f74d8bea1969314492266b5e",
    "google/siglip-so400m-patch14-384": "9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
    "google/siglip-so400m-patch16-256-i18n": "365d321c0cfdea96bc28e3a29787a11a062681a1",
    "google/siglip2-base-patch32-256": "94dffa8cb1179de3e03f091dbc3917e5d5a9ae84",
    "google/siglip2-base-patch16-224": "75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    "google/siglip2-base-patch16-256": "3f9f96cb90da5dbc758b01813f2f6f1aee24c1ab",
    "google/siglip2-base-patch16-384": "f775b65a79762255128c981547af89addcfe0f88",
    "google/siglip2-base-patch16-512": "a89f5c5093f902bf39d3cd4d81d2c09867f0724b",
    "google/siglip2-large-patch16-256": "787800c8990e6f058423089178e718139608408c",
    "google/siglip2-large-patch16-384": "1b426889ea62b5a72bf9839009a1b184bfc9c178",
    "google/siglip2-large-patch16-512": "49488218e80259885f3be61d7a9455faf833b7a8",
    "google/siglip2-so400m-patch14-224": "78e403963a4f6a3640d07803284752326fdf4edf",
    "google/siglip2-so400m-patch14-384": "e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    "google/siglip2-so400m-patch16-256": "e8708ab72d125807e45b36fb7d4e0aacbb59f379",
    "google/siglip2-so400m-patch16-384": "dd658faac399427308559e2c3ac1e99cbe43845d",
    "google/siglip2-so400m-patch16-512": "ceea1cba8130d8271436da4828633198c176a775",
    "google/siglip2-giant-opt-patch16-256": "46d7129e1aa1527cc5a44d86fb35250df3abf0aa",
    "google/siglip2-giant-opt-patch16-384": "a713301b217d38485fb2204c808367d10bc3cc40",
}
WANTED = {"siglip": "choose a fixed-resolution SigLIP", "paligemma": "choose a PaliGemma (the first, not PaliGemma 2)"}


def is_hub_id(checkpoint):
    """Whether this is "owner/name" as on the hub; models/ is a folder here."""
    return bool(re.fullmatch(r"(?!models/)\w[\w.-]*/\w[\w.-]*", checkpoint))


def check_config(folder, shown, expected="siglip"):
    """Refuse a folder that holds another kind of model, before transformers makes of it what it can."""
    try:
        model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError):
        raise LessonError(f"{shown} has no readable config.json; copy all files of the checkpoint there") from None
    if model_type != expected:
        raise LessonError(f"{shown} holds a model of type {model_type!r}, not {expected!r}; {WANTED[expected]}")


def snapshots(checkpoint):
    """The folders in the cache that hold the pinned version of this checkpoint, or any version, the newest first."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{checkpoint.replace('/', '--')}" / "snapshots"
    return sorted(folder.glob(REVISIONS.get(checkpoint, "*")), key=os.path.getmtime, reverse=True)


def lacking(folder):
    """The files that a model is loaded from and that are not there; weights may lie in several, which an index names."""
    index = folder / "model.safetensors.index.json"
    weights = set(json.loads(index.read_text())["weight_map"].values()) if index.exists() else {"model.safetensors"}
    needed = [("config.json",), *((name,) for name in sorted(weights)), PROCESSORS, TOKENIZERS]
    return [" or ".join(names) for names in needed if not any((folder / name).exists() for name in names)]


def drop_damaged(folder):
    """Remove weights from the cache whose contents are not what their name says (it is their sha256). -> names"""
    damaged = []
    for path in folder.glob("*.safetensors"):
        blob = path.resolve()
        if len(blob.name) == 64 and sha256(blob) != blob.name:
            blob.unlink()
            path.unlink()
            damaged.append(path.name)
    return damaged


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(checkpoint, expected="siglip"):
    """Hub id "owner/name" -> folder with its files: from the cache, with no request at all, or downloaded into it once."""
    for folder in snapshots(checkpoint):
        if damaged := drop_damaged(folder):
            print(f"{checkpoint}: {', '.join(damaged)} was damaged in the cache and is fetched again")
        elif not lacking(folder):
            check_config(folder, checkpoint, expected)
            return folder
    if constants.HF_HUB_OFFLINE:
        raise LessonError(f"{checkpoint} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset it once")
    commit, files = ask_for_files(checkpoint)
    try:
        for name in files:
            path = download(checkpoint, commit, name)
            if name == "config.json":  # before the large files
                check_config(path.parent, checkpoint, expected)
    except OSError as error:  # HfHubHTTPError is one, too, but was explained already
        way_out = "make room, or set HF_HOME to a folder on another disk"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            way_out = "set HF_HOME to a folder that you may write to"
        raise LessonError(f"{checkpoint} cannot be stored in {constants.HF_HUB_CACHE}: {error.strerror}; {way_out}") from None
    if damaged := drop_damaged(path.parent):
        raise LessonError(f"{checkpoint}: {', '.join(damaged)} arrived damaged and was removed; try again")
    if missing := lacking(path.parent):
        raise LessonError(f"{checkpoint} on the hub lacks {', '.join(missing)}; choose another checkpoint")
    return path.parent


def ask(url, checkpoint, method="get"):
    """One request with a time limit. -> response; a LessonError that says what is wrong, and what to do."""
    server = constants.ENDPOINT
    headers = {"authorization": f"Bearer {get_token()}"} if get_token() else {}
    try:
        # A file's address leads to a store elsewhere that is made for one download and refuses to be asked about it.
        follow = method == "get"
        answer = requests.request(method, url, headers=headers, timeout=PATIENCE / 2, allow_redirects=follow)
    except requests.Timeout:
        raise LessonError(f"{server} does not answer; try again later, or copy the checkpoint's files to models/") from None
    except requests.RequestException:
        raise LessonError(f"no connection to {server}; check the network, or copy the checkpoint's files to models/") from None
    explain(answer.status_code, answer.headers.get("X-Error-Code", ""), checkpoint)
    return answer


def explain(status, code, checkpoint):
    """Raise the LessonError that an HTTP status calls for; return if it is none."""
    if code == "GatedRepo" or status == 403:
        raise LessonError(f"{checkpoint} is gated: accept its licence on its page on the hub, then `hf auth login`")
    if code == "RevisionNotFound":
        raise LessonError(f"the version of {checkpoint} that utils/hub.py pins is gone from the hub; take it out there")
    if code == "RepoNotFound" or status in (401, 404):
        raise LessonError(f"{checkpoint} does not exist on the hub, or is private; check the name, or `hf auth login`")
    if status == 429:
        raise LessonError(
            f"{constants.ENDPOINT} limits requests from this address (429); wait some minutes, or copy the files to models/"
        )
    if status >= 400:
        raise LessonError(f"{constants.ENDPOINT} has a fault of its own (error {status}); try again later")


def ask_for_files(checkpoint):
    """-> the commit of the pinned or the newest version, the names of its files that are needed, config.json first"""
    answer = ask(f"{constants.ENDPOINT}/api/models/{checkpoint}/revision/{REVISIONS.get(checkpoint, 'main')}", checkpoint)
    try:
        known = answer.json()
        names = [file["rfilename"] for file in known["siblings"]]
    except (ValueError, KeyError, TypeError):
        raise LessonError(
            f"what answers as {constants.ENDPOINT} is not the hub (a network's log-in page?); open a browser and log in"
        ) from None
    needed = [name for name in names if any(fnmatch(name, pattern) for pattern in FILES)]
    return known["sha"], sorted(needed, key=lambda name: (name != "config.json", name))


def download(checkpoint, commit, name):
    """One file into the cache, in a thread of its own, watched: the client itself would wait for minutes. -> path"""
    ask(hf_hub_url(checkpoint, name, revision=commit, endpoint=constants.ENDPOINT), checkpoint, "head")
    last, result = [time.monotonic()], {}

    class Bar(tqdm):
        def update(self, n=1):
            last[0] = time.monotonic()
            return super().update(n)

    def work():
        try:
            result["path"] = hf_hub_download(checkpoint, name, revision=commit, tqdm_class=Bar)
        except Exception as error:  # handed to the thread that waits
            result["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() - last[0] > PATIENCE:
            print(file=sys.stderr)  # what follows begins on a line of its own
            raise LessonError(f"the download of {name} stands still; try again: {checkpoint} is not half-written")
    if error := result.get("error"):
        if isinstance(error, HfHubHTTPError) and error.response is not None:
            explain(error.response.status_code, error.response.headers.get("X-Error-Code", ""), checkpoint)
        if isinstance(error, OSError) and error.errno:
            raise error
        raise LessonError(f"the download of {name} broke off ({str(error).splitlines()[0]}); try again") from None
    return Path(result["path"])


def main():
    if len(sys.argv) != 2 or not is_hub_id(sys.argv[1]):
        raise SystemExit("download: say which: make download CHECKPOINT=google/siglip-base-patch16-224")
    try:
        folder = fetch(sys.argv[1])
    except LessonError as error:
        raise SystemExit(f"download: {error}") from None
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{sys.argv[1]}: {size / 1e6:,.0f} MB in {folder}")


if __name__ == "__main__":
    main()
