"""Fetch a checkpoint from the Hugging Face hub, into its standard cache. -> python -m utils.hub OWNER/NAME

huggingface_hub downloads; this asks first, with a time limit, so that a fault is one clear line within seconds.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import sys
import threading
import time
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from utils.errors import LessonError

from huggingface_hub import close_session, constants, get_session, get_token, hf_hub_download, hf_hub_url
from tqdm import tqdm

PATIENCE = 6  # seconds without an answer, or without a byte
# Not 10 MB: a slow network, which does not bring those within PATIENCE, is told from a dead one.
constants.DOWNLOAD_CHUNK_SIZE = 2**16
constants.HF_HUB_DISABLE_XET = True  # its transfers report no bytes until whole blocks are there
INDEX = "model.safetensors.index.json"  # which of several files holds which weight
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer.model")
FILES = ("config.json", "*.safetensors", INDEX, *PROCESSORS, *TOKENIZERS)
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
    # MTEB has no NaFlex. Ten public repositories pin this one; for so400m none was found, so there the newest is taken.
    "google/siglip2-base-patch16-naflex": "b53b807d3a2d5e2b3911292f2d69e5341cdc064c",
}
WANTED = {
    "siglip": "choose a fixed-resolution SigLIP (a NaFlex one is for notebook 12)",
    "siglip or siglip2": "choose a SigLIP",
    "paligemma": "choose a PaliGemma (the first, not PaliGemma 2)",
}
COPY = "or copy the checkpoint's files to models/ (TROUBLESHOOTING.md#the-hub)"
# What the client says when a request fails (the exceptions that led to it, "Type: text") -> what to tell the reader.
FAILURES = {
    "socksio": "ALL_PROXY or HTTPS_PROXY names a SOCKS proxy, which needs one more package: `pip install socksio`, or unset it",
    "Unknown scheme for proxy|InvalidURL": "HF_ENDPOINT, HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not like http://HOST:PORT",
    "ProxyError: 407": "{via} wants a name and a password; set HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT, {copy}",
    "ProxyError": "{via} does not let through to {server} ({last}); ask who runs the network, {copy}",
    "certificate (has expired|is not yet valid)": "the certificate of {server} is not valid today; check this computer's date",
    "CERTIFICATE_VERIFY_FAILED": "the certificate that answers for {server} is not trusted here (a network that opens TLS?): "
    "{last}; set SSL_CERT_FILE to the file with your organisation's certificate, {copy}",
    "NO_CERTIFICATE|FileNotFoundError": "SSL_CERT_FILE or SSL_CERT_DIR names no certificates; correct it, or unset it",
    "WRONG_VERSION_NUMBER": "{via} speaks no TLS (a proxy's address begins with http://, also in HTTPS_PROXY); correct it",
    "gaierror": "the name in {via} is not found; check the network (does it want a proxy? set HTTPS_PROXY), {copy}",
    "ConnectionRefusedError": "no connection to {via}; check the network, {copy} (connection refused)",
    "Timeout": "{via} does not answer; try again later, {copy}",
    "UnicodeEncodeError": "the token in HF_TOKEN or of `hf auth login` holds a character that no token has; copy it again",
    "": "no connection to {via}; check the network (a firewall?), {copy} ({last})",
}


def is_hub_id(checkpoint):
    """Whether this is "owner/name" as on the hub; models/ is a folder here."""
    return bool(re.fullmatch(r"(?!models/)\w[\w.-]*/\w[\w.-]*", checkpoint))


def read_json(folder, name, shown):
    """The object in one of a checkpoint's .json files, as a dict. A LessonError that names the file if there is none."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise LessonError(f"{shown} has no readable {name}; copy all files of the checkpoint there")
    return content


def check_config(folder, shown, expected="siglip"):
    """Refuse a folder that holds another kind of model, before transformers makes of it what it can."""
    model_type = read_json(folder, "config.json", shown).get("model_type")
    if model_type not in expected.split(" or "):
        raise LessonError(f"{shown} holds a model of type {model_type!r}, not {expected!r}; {WANTED[expected]}")


def cache_folder(checkpoint):
    """Where huggingface_hub keeps all versions of this checkpoint."""
    return Path(constants.HF_HUB_CACHE) / f"models--{checkpoint.replace('/', '--')}"


def incomplete(checkpoint):
    """The sizes of the files that are being downloaded, by this process or by another one that this one waits for."""
    sizes = {}
    for path in cache_folder(checkpoint).glob("blobs/*.incomplete"):
        with contextlib.suppress(FileNotFoundError):  # it has just become complete
            sizes[path.name] = path.stat().st_size
    return sizes


def snapshots(checkpoint):
    """The folders in the cache that hold the pinned version of this checkpoint, or any version, the newest first."""
    folder = cache_folder(checkpoint) / "snapshots"
    return sorted(folder.glob(REVISIONS.get(checkpoint, "*")), key=os.path.getmtime, reverse=True)


def missing_from(names, weights):
    """The files that a model is loaded from and that are not among these names. -> how to call each"""
    needed = [("config.json",), *((name,) for name in weights), PROCESSORS, TOKENIZERS, ("tokenizer_config.json",)]
    return [" or ".join(group) for group in needed if not set(group) & set(names)]


def lacking(folder, shown):
    """The files that a model is loaded from and that are not there; weights may lie in several, which an index names."""
    names, weights = [path.name for path in folder.iterdir() if path.exists()], ["model.safetensors"]
    if INDEX in names and "model.safetensors" not in names:
        places = read_json(folder, INDEX, shown).get("weight_map")
        if not places or not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise LessonError(f"{shown} has no readable {INDEX}; copy all files of the checkpoint there")
        weights = sorted(set(places.values()))
    return missing_from(names, weights)


def drop_damaged(folder):
    """Remove files from the cache whose contents are not what their names say (sha256, or git's sha1). -> names"""
    damaged = []
    for path in sorted(folder.iterdir()):
        blob = path.resolve()
        digest = {64: sha256, 40: git_sha1}.get(len(blob.name))
        if digest and blob.exists() and digest(blob) != blob.name:
            blob.unlink()
            path.unlink()
            damaged.append(path.name)
    return damaged


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_sha1(path):
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def fetch(checkpoint, expected="siglip"):
    """Hub id "owner/name" -> folder with its files: from the cache, with no request at all, or downloaded into it once."""
    try:
        return from_cache(checkpoint, expected) or from_hub(checkpoint, expected)
    except OSError as error:
        way_out = "make room, or set HF_HOME to a folder on another disk"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            way_out = "set HF_HOME to a folder that you may write to"
        raise LessonError(f"{checkpoint} cannot be stored in {constants.HF_HUB_CACHE}: {error.strerror}; {way_out}") from None


def from_cache(checkpoint, expected):
    """-> the folder of a whole version in the cache, or None"""
    for folder in snapshots(checkpoint):
        if damaged := drop_damaged(folder):
            print(f"{checkpoint}: {', '.join(damaged)} was damaged in the cache and is fetched again")
        elif not lacking(folder, checkpoint):
            check_config(folder, checkpoint, expected)
            return folder
    if constants.HF_HUB_OFFLINE:
        raise LessonError(f"{checkpoint} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset it once")
    return None


def from_hub(checkpoint, expected):
    """-> the folder in the cache into which the files were downloaded"""
    close_session()  # it would keep the proxies and certificates that the environment named when it was opened
    commit, files = ask_for_files(checkpoint)
    if missing := missing_from(files, [] if INDEX in files else ["model.safetensors"]):
        raise LessonError(f"{checkpoint} on the hub lacks {', '.join(missing)}; choose another checkpoint")
    for name in files:
        folder = download(checkpoint, commit, name).parent
        if name == "config.json":  # before the large files
            check_config(folder, checkpoint, expected)
    if damaged := drop_damaged(folder):
        raise LessonError(f"{checkpoint}: {', '.join(damaged)} arrived damaged and was removed; try again")
    if missing := lacking(folder, checkpoint):
        raise LessonError(f"{checkpoint} on the hub lacks {', '.join(missing)}; choose another checkpoint")
    return folder


def watch(work, silence, progress=lambda: None):
    """Run `work()` in a thread of its own, for the client itself may wait for minutes. -> its result; raises what it raises.

    A LessonError(silence) when `progress()` has returned the same for PATIENCE seconds.
    """
    result = {}

    def run():
        try:
            result["value"] = work()
        except Exception as error:  # handed to the thread that waits
            result["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    seen, since = progress(), time.monotonic()
    while thread.is_alive():
        thread.join(0.1)
        if (now := progress()) != seen:
            seen, since = now, time.monotonic()
        if thread.is_alive() and time.monotonic() - since > PATIENCE:
            raise LessonError(silence)
    if "error" in result:
        raise result["error"]
    return result["value"]


def ask(url, checkpoint, method="GET"):
    """One request with a time limit. -> response; a LessonError that says what is wrong, and what to do."""
    if not re.match("https?://[^/]", url):
        raise LessonError(f"HF_ENDPOINT is {constants.ENDPOINT!r}, which is no address; begin it with https://, or unset it")

    def request():
        token = get_token()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # A file's address leads to a store elsewhere that is made for one download and refuses to be asked about it.
        follow = method == "GET"
        return get_session().request(method, url, headers=headers, timeout=PATIENCE / 2, follow_redirects=follow)

    try:
        # Watched too: the limit holds for one step, and names to look up, several addresses, a trickle of bytes are many.
        answer = watch(request, FAILURES["Timeout"].format(via=way_to(url), copy=COPY))
    except LessonError:
        raise
    except Exception as error:
        raise LessonError(why_it_failed(error, url)) from None
    explain(answer, checkpoint)
    return answer


def origin(url):
    """The server's part of an address, without a password: https://host:port"""
    parts = urlsplit(str(url))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def way_to(url):
    """What a request is sent to: the server, or the proxy that the environment names, without its password."""
    scheme, host = urlsplit(url).scheme, urlsplit(url).hostname
    proxy = getproxies().get(scheme) or getproxies().get("all")
    return f"the proxy {re.sub('//[^/]*@', '//', proxy)}" if proxy and not proxy_bypass(host) else origin(url)


def chain(error):
    """An exception, and those that led to it."""
    causes = []
    while error and error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__
    return causes


def why_it_failed(error, url):
    """-> one line: why no answer came from this address, and the way out"""
    causes = chain(error)
    said = "\n".join(f"{type(cause).__name__}: {cause}" for cause in causes)
    line = next(line for sign, line in FAILURES.items() if re.search(sign, said))
    last = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
    return line.format(server=origin(url), via=way_to(url), last=last, copy=COPY)


def explain(answer, checkpoint):
    """Raise the LessonError that an HTTP status calls for; return if it is none."""
    status, code, said = answer.status_code, answer.headers.get("X-Error-Code"), answer.headers.get("X-Error-Message", "")
    server, via = origin(answer.url), way_to(str(answer.url))
    if status == 407:
        raise LessonError(FAILURES["ProxyError: 407"].format(via=via, copy=COPY))
    if status == 511:
        raise LessonError("this network wants you to log in first; open a browser and log in")
    if code == "GatedRepo":
        raise LessonError(f"{checkpoint} is gated: accept its licence on its page on the hub, then `hf auth login`")
    page, elsewhere = "html" in answer.headers.get("Content-Type", ""), answer.url.host != urlsplit(constants.ENDPOINT).hostname
    if not code and status in (401, 403, 404) and (page or elsewhere):
        raise LessonError(f"{server} is kept from you (error {status}), as by a network's firewall; ask who runs it, {COPY}")
    if "authorization" in answer.request.headers and (status == 401 and not code or status == 403 and "token" in said):
        reason = f" ({said})" if said else ""
        raise LessonError(f"{server} refuses your token{reason}; correct or unset HF_TOKEN, or `hf auth login` again")
    if "disabled" in said:
        raise LessonError(f"{checkpoint} is disabled on the hub; choose another checkpoint")
    if status == 451:
        raise LessonError(f"{checkpoint} is barred here by law, or by the network (error 451); ask who runs it, {COPY}")
    if status == 403:
        raise LessonError(f"{checkpoint} is gated: accept its licence on its page on the hub, then `hf auth login`")
    if code == "RevisionNotFound":
        raise LessonError(f"the version of {checkpoint} that utils/hub.py pins is gone from the hub; take it out there")
    if code == "RepoNotFound" or status in (401, 404):
        raise LessonError(f"{checkpoint} does not exist on the hub, or is private; check the name, or `hf auth login`")
    if status == 429:
        raise LessonError(f"{server} limits requests from this address (429); wait some minutes, {COPY}")
    if status >= 400:
        behind = "" if via == server else f", or {via}"
        raise LessonError(f"{server}{behind} has a fault of its own (error {status}); try again later, {COPY}")


def ask_for_files(checkpoint):
    """-> the commit of the pinned or the newest version, the names of its files that are needed, config.json first"""
    answer = ask(f"{constants.ENDPOINT}/api/models/{checkpoint}/revision/{REVISIONS.get(checkpoint, 'main')}", checkpoint)
    try:
        known = answer.json()
        commit, names = known["sha"], [file["rfilename"] for file in known["siblings"]]
        # "/": what lies in a subfolder is another model.
        needed = [name for name in names if "/" not in name and any(fnmatch(name, pattern) for pattern in FILES)]
    except (ValueError, KeyError, TypeError):
        raise LessonError(
            f"what answers as {origin(constants.ENDPOINT)} is not the hub (a network's log-in page?); open a browser and log in"
        ) from None
    return commit, sorted(needed, key=lambda name: (name != "config.json", name))


def download(checkpoint, commit, name):
    """One file into the cache, watched. -> path; an OSError if it cannot be stored"""
    url = hf_hub_url(checkpoint, name, revision=commit, endpoint=constants.ENDPOINT)
    store = urljoin(url, ask(url, checkpoint, "HEAD").headers.get("Location", ""))

    silence = f"the download of {name} from {origin(store)} stands still; try again: {checkpoint} is not half-written"
    try:
        work = partial(hf_hub_download, checkpoint, name, revision=commit, tqdm_class=tqdm)
        return Path(watch(work, silence, partial(incomplete, checkpoint)))
    except LessonError:
        print(file=sys.stderr)  # what follows begins on a line of its own
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        for cause in chain(error):
            if getattr(cause, "response", None) is not None:
                explain(cause.response, checkpoint)
        raise LessonError(f"the download of {name} broke off ({why_it_failed(error, store)}); try again") from None


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
