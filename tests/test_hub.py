"""Checkpoints from the hub: fetched once, and every fault on the way is one clear line, with nothing half-written.

The real client of huggingface_hub against a server on 127.0.0.1 that plays the hub; in a process of its own where that matters.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

from utils import hub
from utils.errors import LessonError
from utils.parity import CHECKPOINTS
from utils.reference import load_reference

import pytest
from hub_server import COMMIT, serve
from huggingface_hub import constants

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "models" / "siglip-mini-patch16-224"
FILES = {
    "config.json": b'{"model_type": "siglip"}',
    "model.safetensors": bytes(range(256)) * 20_000,
    "preprocessor_config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b"{}",
    "pytorch_model.bin": b"not needed",
    "README.md": b"not needed",
    "onnx/model.safetensors": b"another model",
}
NEEDED = {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"}
NOWHERE = "http://127.0.0.1:9"  # where nothing listens
COMMAND = [sys.executable, "-m", "utils.hub", "tiny/siglip"]
# The same on a machine that is so busy that this server, too, answers late.
PATIENT = [sys.executable, "-c", "from utils import hub; hub.PATIENCE = 300; hub.main()", "tiny/siglip"]
OWN = re.compile("(HF_|HUGGING|TRANSFORMERS_|SIGLIP_|SSL_CERT_|(http|https|all|no)_proxy$)", re.IGNORECASE)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "hf"


@pytest.fixture
def fetch(monkeypatch, home, capsys):
    """A function that does what `python -m utils.hub NAME` does, in this process. -> what it printed, its error's line or ''"""
    for name in filter(OWN.match, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setattr(hub, "PATIENCE", 300)  # as PATIENT: only a test that is about patience sets less

    def fetch(url, name="tiny/siglip", **more):
        at = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
        at |= {"HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token")}
        at |= {"AGENT_HARNESSES_PATH": str(home / "agents")}  # which the client asks for, too, and keeps
        for constant, value in at.items():
            monkeypatch.setattr(constants, constant, value, raising=False)
        for variable, value in more.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setattr(sys, "argv", ["hub", name])
        line = ""
        try:
            hub.main()
        except SystemExit as error:
            line = error.code
        finally:
            for variable in more:
                monkeypatch.delenv(variable)
        assert "\n" not in line
        return capsys.readouterr().out, line

    return fetch


def environment(url, home):
    """For a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not OWN.match(name)}
    return kept | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}


def cached(home):
    return {path.name for path in home.glob(f"hub/models--tiny--siglip/snapshots/{COMMIT}/*")}


def test_it_is_fetched_once_with_only_what_is_needed_and_then_needs_no_request(fetch, home, monkeypatch):
    with serve(FILES) as server:
        out, line = fetch(server.url)
        assert not line and "tiny/siglip: 5 MB in " in out
        assert cached(home) == NEEDED
        assert not any("onnx" in path for _, path in server.requests)
        server.requests.clear()
        assert fetch(server.url) == (out, "")
        assert server.requests == []
    assert fetch(server.url) == (out, ""), "the cache is enough without a server, too"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(server.url) == (out, "")


def test_the_command_says_in_a_process_of_its_own_what_it_did_or_what_is_wrong(home):
    options = dict(cwd=ROOT, env=environment(NOWHERE, home), capture_output=True, text=True)
    done = subprocess.run(COMMAND, **options)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"download: no connection to {NOWHERE};") and done.stderr.count("\n") == 1
    with serve(FILES) as server:
        done = subprocess.run(PATIENT, **options | {"env": environment(server.url, home)})
    assert done.returncode == 0 and "tiny/siglip: 5 MB in " in done.stdout
    assert cached(home) == NEEDED
    done = subprocess.run(COMMAND, **options | {"env": environment(NOWHERE, home) | {"HF_HUB_OFFLINE": "1"}})
    assert done.returncode == 0


def test_a_command_without_a_name_says_how_it_is_used():
    done = subprocess.run(COMMAND[:-1], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "download: say which: make download CHECKPOINT=google/siglip-base-patch16-224\n"


def test_a_checkpoint_of_the_table_is_fetched_at_its_pinned_version_and_no_other_counts(fetch, home):
    assert set(hub.REVISIONS) == {*CHECKPOINTS, "google/siglip2-base-patch16-naflex"}
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in hub.REVISIONS.values())
    name, pinned = "google/siglip-base-patch16-224", hub.REVISIONS["google/siglip-base-patch16-224"]
    versions = home / "hub" / "models--google--siglip-base-patch16-224" / "snapshots"
    with serve(FILES) as server:
        (versions / COMMIT).mkdir(parents=True)
        for file in NEEDED:
            (versions / COMMIT / file).write_bytes(FILES[file])
        assert fetch(server.url, name)[1] == ""
        assert ("GET", f"/api/models/{name}/revision/{pinned}") in server.requests
        assert {path.name for path in (versions / pinned).iterdir()} == NEEDED
        server.requests.clear()
        assert fetch(server.url, name)[1] == ""
        assert server.requests == []


def test_a_progress_bar_shows_the_size(home):
    with serve(FILES) as server:
        done = subprocess.run(PATIENT, cwd=ROOT, env=environment(server.url, home), capture_output=True, text=True)
    assert "model.safetensors: 100%" in done.stderr and "5.12M" in done.stderr


# What the hub, or what answers in its place, can say


def code(name):
    return {"X_Error_Code": name}


HTML = {"Content_Type": "text/html; charset=utf-8"}
FINE_GRAINED = {"X_Error_Message": "Please enable access to public gated repositories in your fine-grained token settings"}
# name: where, status, headers, what the line says
ANSWERS = {
    "rate limit": ("/", 429, {}, "limits requests from this address"),
    "unknown name": ("/", 401, code("RepoNotFound"), "does not exist on the hub, or is private; check the name"),
    "unknown name, 404": ("/", 404, code("RepoNotFound"), "does not exist on the hub"),
    "version gone": ("/", 404, code("RevisionNotFound"), "that utils/hub.py pins is gone from the hub; take it out there"),
    "gated": ("/resolve/", 401, code("GatedRepo"), "is gated: accept its licence"),
    "gated, 403": ("/resolve/", 403, code("GatedRepo"), "is gated: accept its licence"),
    "forbidden": ("/resolve/", 403, {}, "is gated: accept its licence"),
    "disabled": (
        "/",
        403,
        {"X_Error_Message": "Access to this resource is disabled."},
        "is disabled on the hub; choose another",
    ),
    "server error": ("/", 500, {}, r"fault of its own \(error 500\)"),
    "unavailable": ("/", 503, {}, r"fault of its own \(error 503\)"),
    "server error at the files": ("/resolve/", 500, {}, r"fault of its own \(error 500\)"),
    "rate limit at the files": ("/resolve/", 429, {}, "limits requests"),
    "firewall": ("/", 403, HTML, r"is kept from you \(error 403\), as by a network's firewall; ask who runs it, or copy"),
    "firewall, 404": ("/", 404, HTML, r"is kept from you \(error 404\), as by a network's firewall"),
    "firewall at the store": (
        "/store/",
        403,
        {},
        r"localhost:\d+ is kept from you \(error 403\), as by a network's firewall",
    ),
    "barred by law": ("/", 451, {}, r"is barred here by law, or by the network \(error 451\)"),
    "log-in wanted": ("/", 511, {}, "wants you to log in first; open a browser"),
    "redirects without end": ("/", 302, {"Location": "/again"}, "no connection to .*redirects"),
}


@pytest.mark.parametrize(("where", "status", "headers", "says"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_refuses_is_one_clear_line_and_the_next_try_works(fetch, home, where, status, headers, says):
    with serve(FILES, (where, status, headers), store_elsewhere=where == "/store/") as server:
        out, line = fetch(server.url)
        assert line.startswith("download: ") and re.search(says, line), line
        assert not out
        assert len(server.requests) < 40, "it does not insist"
        server.fault = None
        assert fetch(server.url)[1] == ""
        assert cached(home) == NEEDED


FAULTS = {
    "log-in page": "is not the hub .*log-in page",
    "no HTTP": "no connection to",
    "wrong bytes": "model.safetensors arrived damaged and was removed; try again",
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_one_clear_line_and_the_next_try_works(fetch, home, fault, says):
    with serve(FILES, fault) as server:
        out, line = fetch(server.url)
        assert line.startswith("download: ") and re.search(says, line), line
        assert not out
        server.fault = None
        assert fetch(server.url)[1] == ""
        assert cached(home) == NEEDED


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "says"),
    {
        "silent": "does not answer; try again later, or copy",
        "stalls": r"model.safetensors from http://127.0.0.1:\d+ stands still; try again",
        "cut always": "model.safetensors .*(stands still|broke off)",
    }.items(),
)
def test_a_connection_that_brings_nothing_is_one_clear_line_and_the_next_try_works(home, fault, says):
    with serve(FILES, fault) as server:
        options = dict(cwd=ROOT, env=environment(server.url, home), capture_output=True, text=True)
        done = subprocess.run(COMMAND, **options)
        line = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and line.startswith("download: ") and re.search(says, line), line
        assert sum(path.startswith("/api/models") for _, path in server.requests) == 1, "it asks once"
        server.fault = None
        assert subprocess.run(PATIENT, **options).returncode == 0
        assert cached(home) == NEEDED


@pytest.mark.parametrize("fault", ["silent", "trickles headers"])
def test_a_hub_that_does_not_answer_is_asked_once_and_left_when_patience_ends(fetch, monkeypatch, fault):
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    with serve(FILES, fault) as server:
        assert "does not answer; try again later, or copy" in fetch(server.url)[1]
        assert len(server.requests) <= 1


def test_names_that_are_never_resolved_end_when_patience_ends(fetch, monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.5)
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60) or [])
    assert "http://hub.invalid does not answer" in fetch("http://hub.invalid")[1]
    over.set()


def test_every_request_has_a_time_limit_below_the_patience(fetch, monkeypatch):
    session, limits = hub.get_session, []

    class Recorded:
        def request(self, *arguments, timeout, **more):
            limits.append(timeout)
            return session().request(*arguments, timeout=timeout, **more)

    monkeypatch.setattr(hub, "get_session", Recorded)
    with serve(FILES) as server:
        assert fetch(server.url)[1] == ""
    assert len(limits) == 1 + len(NEEDED)
    assert all(0 < limit < hub.PATIENCE for limit in limits)


def test_whatever_grows_is_waited_for_and_whatever_stands_still_is_not(monkeypatch):
    monkeypatch.setattr(hub, "PATIENCE", 0.3)
    over, ticks = threading.Event(), iter(range(1, 10))
    assert hub.watch(lambda: over.wait(60) and "there", "silence", lambda: next(ticks, None) or over.set()) == "there"
    with pytest.raises(LessonError, match="silence"):
        hub.watch(lambda: threading.Event().wait(5), "silence", lambda: 1)
    with pytest.raises(ZeroDivisionError):
        hub.watch(lambda: 1 / 0, "silence")


# The network on the way


def test_no_network_is_one_clear_line(fetch):
    out, line = fetch(NOWHERE)
    assert not out and "no connection to http://127.0.0.1:9; check the network, or copy" in line


def test_a_name_that_is_not_found_is_one_clear_line(fetch, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert (
        "the name in http://hub.invalid is not found; check the network (does it want a proxy?"
        in fetch("http://hub.invalid")[1]
    )
    line = fetch("https://hub.invalid", HTTPS_PROXY="http://proxy.invalid:3128")[1]
    assert "the name in the proxy http://proxy.invalid:3128 is not found" in line


def test_a_proxy_is_used(fetch, home):
    with serve(FILES) as proxy:
        assert fetch("http://hub.invalid", http_proxy=proxy.url)[1] == ""
        assert proxy.requests
    assert cached(home) == NEEDED


PROXIES = {
    "unreachable": (
        {"HTTPS_PROXY": "http://me:secret@127.0.0.1:9"},
        None,
        "no connection to the proxy http://127.0.0.1:9; check",
    ),
    "password": ({"HTTPS_PROXY": "{url}"}, 407, "the proxy {url} wants a name and a password; set HTTPS_PROXY=http://NAME:"),
    "wrong password": ({"HTTPS_PROXY": "http://me:secret@{host}"}, 407, "the proxy http://{host} wants a name and a password"),
    "forbids": ({"HTTPS_PROXY": "{url}"}, 403, "the proxy {url} does not let through to https://hub.invalid (403 Forbidden)"),
    "https": (
        {"HTTPS_PROXY": "https://{host}"},
        403,
        "the proxy https://{host} speaks no TLS (a proxy's address begins with http",
    ),
    "socks": (
        {"ALL_PROXY": "socks5://127.0.0.1:1080"},
        None,
        "names a SOCKS proxy, which needs one more package: `pip install",
    ),
    "desktop": (
        {"ALL_PROXY": "socks://127.0.0.1:1080"},
        None,
        "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not like http://HOST:PORT",
    ),
    "misspelt": (
        {"HTTPS_PROXY": "http://proxy:port"},
        None,
        "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not like http://HOST:PORT",
    ),
}


@pytest.mark.parametrize(("variables", "status", "says"), PROXIES.values(), ids=PROXIES)
def test_a_proxy_that_does_not_lead_to_the_hub_is_named_without_its_password(fetch, variables, status, says):
    with serve({}, status) as proxy:
        address = {"url": proxy.url, "host": proxy.url.removeprefix("http://")}
        line = fetch("https://hub.invalid", **{name: value.format(**address) for name, value in variables.items()})[1]
    assert says.format(**address) in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("status", "says"), [(407, "wants a name and a password"), (503, "or the proxy .* has a fault of its own")]
)
def test_a_proxy_that_answers_in_place_of_the_hub_is_named(fetch, status, says):
    with serve({}, ("/", status, {})) as proxy:
        assert re.search(says, fetch("http://hub.invalid", http_proxy=proxy.url)[1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost that nobody trusts, with its key, as a network that opens TLS shows it."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split()
    subprocess.run([*make, "-keyout", path.with_name("key.pem"), "-out", path], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_name("key.pem").read_bytes())
    return path


def test_a_certificate_that_is_not_trusted_is_named_and_the_way_out_works_for_the_whole_download(fetch, home, certificate):
    with serve(FILES, certificate=certificate) as server:
        line = fetch(server.url)[1]
        assert f"the certificate that answers for {server.url} is not trusted here" in line
        assert "set SSL_CERT_FILE to the file with your organisation's certificate, or copy" in line
        assert fetch(server.url, SSL_CERT_FILE=str(certificate))[1] == ""
    assert cached(home) == NEEDED


def test_ssl_cert_file_that_holds_no_certificate_is_named(fetch, tmp_path):
    (tmp_path / "empty.pem").write_text("no certificate", encoding="utf-8")
    for path in ("/nowhere.pem", str(tmp_path / "empty.pem")):
        assert "SSL_CERT_FILE or SSL_CERT_DIR names no certificates; correct it" in fetch(NOWHERE, SSL_CERT_FILE=path)[1]


def test_what_the_client_says_is_told_from_the_exceptions_that_led_to_it():
    says = {
        ssl.SSLError(
            1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired"
        ): "computer's date",
        ConnectionResetError(
            104, "Connection reset by peer"
        ): r"no connection to https://hub.invalid; .*firewall.*reset by peer",
        TimeoutError("timed out"): "does not answer",
        RuntimeError(""): r"no connection to .*\(RuntimeError\)",
    }
    for cause, line in says.items():
        error = OSError("the client's own words")
        error.__cause__ = cause
        assert re.search(line, hub.why_it_failed(error, "https://hub.invalid/some/file"))


def test_an_endpoint_that_is_no_address_is_named(fetch):
    assert "HF_ENDPOINT is 'huggingface.co', which is no address; begin it with https://" in fetch("huggingface.co")[1]
    assert "HF_ENDPOINT, HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not like http://HOST" in fetch("http://hub:port")[1]


def test_a_mirror_is_named_without_its_password(fetch):
    line = fetch(NOWHERE.replace("//", "//me:secret@"))[1]
    assert f"no connection to {NOWHERE}" in line and "secret" not in line


# The token


def test_a_token_that_the_hub_refuses_is_named_although_the_model_is_public(fetch, home):
    with serve(FILES, "expired token") as server:
        line = fetch(server.url, HF_TOKEN="hf_" + "x" * 30)[1]
        assert (
            "refuses your token (Invalid credentials in Authorization header); correct or unset HF_TOKEN, or `hf auth" in line
        )
        assert "hf_x" not in line
        home.mkdir(exist_ok=True)
        (home / "token").write_text("hf_" + "x" * 30, encoding="utf-8")
        assert "refuses your token" in fetch(server.url)[1]
        (home / "token").unlink()
        assert fetch(server.url)[1] == ""


def test_a_token_without_the_right_to_gated_models_is_named(fetch):
    with serve(FILES, ("/resolve/", 403, FINE_GRAINED)) as server:
        assert "refuses your token (Please enable access to public gated" in fetch(server.url, HF_TOKEN="hf_x")[1]


def test_a_token_with_a_character_that_no_token_has_is_named(fetch):
    assert "the token in HF_TOKEN or of `hf auth login` holds a character" in fetch(NOWHERE, HF_TOKEN="hf_…")[1]


# The files


@pytest.mark.slow
def test_a_slow_network_is_not_taken_for_a_dead_one(home):
    """Longer than the patience with a network that brings nothing."""
    with serve(FILES, "trickles") as server:
        done = subprocess.run(COMMAND, cwd=ROOT, env=environment(server.url, home), capture_output=True, text=True)
        assert server.trickled > hub.PATIENCE
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_processes_at_once_both_succeed(home):
    """The second one waits longer than its patience with a network, while the first one downloads slowly."""
    with serve(FILES, "trickles") as server:
        both = [subprocess.Popen(COMMAND, cwd=ROOT, env=environment(server.url, home)) for _ in range(2)]
        assert [process.wait() for process in both] == [0, 0]
    assert cached(home) == NEEDED


def test_weights_that_lie_in_a_store_elsewhere_are_fetched(fetch, home):
    with serve(FILES, store_elsewhere=True) as server:
        assert fetch(server.url)[1] == ""
        assert ("GET", "/store/model.safetensors") in server.requests
    assert cached(home) == NEEDED


def test_a_download_that_is_cut_is_resumed(fetch, home):
    with serve(FILES, "cut once") as server:
        assert fetch(server.url)[1] == ""
        assert server.was_cut
    assert (home / f"hub/models--tiny--siglip/snapshots/{COMMIT}/model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize(
    "damage", [lambda body: bytes(len(body)), lambda body: body[:20], lambda body: b""], ids=["bytes", "cut", "empty"]
)
def test_files_that_are_damaged_in_the_cache_are_fetched_again(fetch, home, name, damage):
    with serve(FILES) as server:
        fetch(server.url)
        path = home / f"hub/models--tiny--siglip/snapshots/{COMMIT}/{name}"
        path.resolve().write_bytes(damage(FILES[name]))
        out, line = fetch(server.url)
        assert not line and f"{name} was damaged in the cache and is fetched again" in out
        assert path.read_bytes() == FILES[name]


def test_offline_with_an_empty_cache_is_one_clear_line(fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "tiny/siglip is not in the cache, and HF_HUB_OFFLINE forbids to fetch it" in fetch(NOWHERE)[1]


def test_a_naflex_checkpoint_is_refused_before_its_weights_are_fetched(fetch):
    with serve(FILES | {"config.json": b'{"model_type": "siglip2"}'}) as server:
        line = fetch(server.url)[1]
        assert "holds a model of type 'siglip2', not 'siglip'; choose a fixed-resolution SigLIP" in line
        assert not any("safetensors" in path for _, path in server.requests)


@pytest.mark.parametrize(
    ("name", "called"),
    {
        "model.safetensors": "model.safetensors",
        "config.json": "config.json",
        "tokenizer.json": "tokenizer.json or spiece.model or tokenizer.model",
    }.items(),
)
def test_a_repository_that_lacks_a_file_is_refused_before_anything_is_fetched(fetch, name, called):
    with serve({file: body for file, body in FILES.items() if file != name}) as server:
        assert f"tiny/siglip on the hub lacks {called}; choose another" in fetch(server.url)[1]
        assert not any("/resolve/" in path for _, path in server.requests)


def sharded(index):
    parts = {"model-00001-of-00002.safetensors": b"one" * 100, "model-00002-of-00002.safetensors": b"two" * 100}
    return {name: body for name, body in FILES.items() if name != "model.safetensors"} | parts | {hub.INDEX: index}


def test_weights_in_several_files_are_all_fetched(fetch, home):
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    with serve(sharded(index)) as server:
        assert fetch(server.url)[1] == ""
    assert {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} <= cached(home)


@pytest.mark.parametrize("index", [b"", b"[]", b'{"weight_map": []}', b'{"weight_map": {"a": 1}}', b'{"weight_map": {}}'])
def test_an_index_of_weights_that_says_nothing_is_one_clear_line(fetch, index):
    with serve(sharded(index)) as server:
        assert f"tiny/siglip has no readable {hub.INDEX}" in fetch(server.url)[1]


def test_a_cache_that_cannot_be_written_is_one_clear_line(fetch, home):
    home.mkdir()
    (home / "hub").write_text("a file where the folder should be: root may write into any folder", encoding="utf-8")
    with serve(FILES) as server:
        line = fetch(server.url)[1]
    assert "cannot be stored in" in line and "set HF_HOME to a folder that you may write to" in line


def test_a_full_disk_is_one_clear_line_and_the_next_try_works(home):
    resource = pytest.importorskip("resource", reason="only POSIX can limit the size of a file")

    def no_file_over_a_megabyte():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    with serve(FILES) as server:
        options = dict(cwd=ROOT, env=environment(server.url, home), capture_output=True, text=True)
        done = subprocess.run(PATIENT, preexec_fn=no_file_over_a_megabyte, **options)
        line = done.stderr.strip().splitlines()[-1]
        assert (
            done.returncode == 1
            and "cannot be stored in" in line
            and "make room, or set HF_HOME to a folder on another disk" in line
        )
        assert "model.safetensors" not in cached(home)
        assert subprocess.run(PATIENT, **options).returncode == 0


def test_the_notebooks_loader_takes_a_hub_name(fetch, capsys, monkeypatch):
    files = {
        path.name: path.read_bytes() for path in BUNDLED.iterdir() if path.is_file() and path.suffix not in (".md", ".png")
    }
    with serve(files) as server:
        fetch(server.url)
    monkeypatch.setenv("SIGLIP_CHECKPOINT", "tiny/siglip")
    load_reference()
    assert "Reference: siglip from tiny/siglip:\n  224 px" in capsys.readouterr().out


def test_a_name_that_could_be_a_folders_and_is_not_on_the_hub_says_both(fetch, monkeypatch):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", "checkpoints/mine")
    with serve(FILES, ("/", 404, code("RepoNotFound"))) as server:
        fetch(server.url)
        with pytest.raises(LessonError) as caught:
            load_reference()
    line = str(caught.value)
    assert "checkpoints/mine does not exist on the hub" in line
    assert f"there is no such folder: looked for {Path.cwd() / 'checkpoints/mine'}" in line
