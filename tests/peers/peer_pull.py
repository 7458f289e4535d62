#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# needs: huggingface_hub
"""peer_pull.py: `lbrx pull` and huggingface_hub from the same server (tests/tool/hub_server.c, named by HUB_SERVER):
the same cache, file by file; each goes on with what the other has fetched, and huggingface_hub finds lbrx's offline.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

START = time.time()
ROOT = pathlib.Path(__file__).resolve().parents[2]
LBRX = os.environ.get("LBRX", "build/lbrx")
SERVER = os.environ.get("HUB_SERVER", str(ROOT / "build/cc/tests/hub_server"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
passed = failed = skipped = 0


def check(ok, what):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    if not ok:
        print("FAILED: " + what)


def tree(cache):
    """Every file and link of a cache but locks and the other tool's notes."""
    out = {}
    for p in sorted(cache.rglob("*")):
        rel = str(p.relative_to(cache))
        if ".locks" in rel or ".no_exist" in rel or "CACHEDIR.TAG" in rel or "/trees/" in rel:
            continue
        if p.is_symlink():
            out[rel] = "-> " + os.readlink(p)
        elif p.is_file():
            out[rel] = p.read_bytes()
    return out


def hub(cache, endpoint, offline=False):
    code = "import huggingface_hub as h; print(h.snapshot_download('some/Tiny', ignore_patterns=['*.bin']))"
    env = dict(os.environ, HF_HUB_CACHE=str(cache), HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="1" if offline else "0",
               HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)


def pull(cache, endpoint):
    env = dict(os.environ, HF_HUB_CACHE=str(cache), HF_ENDPOINT=endpoint)
    return subprocess.run([LBRX, "pull", "hf://some/Tiny", "-q"], env=env, capture_output=True, text=True)


def one(work, faults):
    global skipped
    model = work / "hub" / "some" / "Tiny"
    if not model.exists():
        (model / "sub").mkdir(parents=True)
        (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}" + bytes(range(256)) * 2000)
        (model / "config.json").write_text("{}")
        (model / "sub" / "a b.txt").write_text("text")
        (model / "pytorch_model.bin").write_bytes(b"x")
    port = work / "port"
    port.unlink(missing_ok=True)
    server = subprocess.Popen([SERVER, str(work / "hub"), str(port), str(work / "log"), *faults])
    try:
        while not port.exists() or not port.read_text():
            time.sleep(0.02)
        endpoint = "http://127.0.0.1:" + port.read_text().strip()
        ours, theirs = work / ("ours" + "".join(faults)), work / ("theirs" + "".join(faults))
        a, b = pull(ours, endpoint), hub(theirs, endpoint)
        what = "%s" % (faults or "plain")
        check(a.returncode == 0, what + ": lbrx: " + a.stderr)
        if b.returncode:
            skipped += 1
            print("skip: peer_pull: %s: huggingface_hub: %s" % (what, b.stderr.strip()[-200:]))
            return
        x, y = tree(ours), tree(theirs)
        check(x.keys() == y.keys(), "%s: %s" % (what, sorted(x.keys() ^ y.keys())))
        check(x == y, what + ": other contents")
        c = hub(ours, endpoint, offline=True)
        check(c.returncode == 0 and c.stdout.strip().endswith(COMMIT), what + ": offline: " + c.stderr[-300:])
        d = pull(theirs, endpoint)
        check(d.returncode == 0 and tree(theirs) == y, what + ": lbrx after huggingface_hub: " + d.stderr)
    finally:
        server.kill()


if not pathlib.Path(SERVER).exists():
    skipped = 1
    print("skip: peer_pull: no hub_server: make build/cc/tests/hub_server")
else:
    with tempfile.TemporaryDirectory(prefix="lbrx-pull-") as d:
        for faults in ([], ["bare"], ["tree"]):
            one(pathlib.Path(d), faults)
print("peer_pull: %d passed, %d failed, %d skipped [cost: slow] %.1f s" % (passed, failed, skipped, time.time() - START))
sys.exit(failed != 0)
