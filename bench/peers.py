# SPDX-License-Identifier: Apache-2.0
"""peers.py: the other tools of the benchmarks, from PyPI into a work folder; shared by the scripts beside it."""
import os
import subprocess
import sys
import tarfile

LLAMA = "llama-cpp-python==0.3.36"  # its source package carries llama.cpp with the tools and the converter


def run(cmd, **kw):
    """Its stdout and stderr together; ends the script where it fails."""
    r = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **kw)
    if r.returncode:
        sys.exit(f"{' '.join(map(str, cmd))}: exit {r.returncode}\n{r.stdout[-2000:]}")
    return r.stdout


def venv(work, packages):
    """The Python of a virtual environment with the packages."""
    python, marks = os.path.join(work, "venv", "bin", "python"), os.path.join(work, "venv", "installed")
    if not os.path.exists(python):
        run([sys.executable, "-m", "venv", os.path.join(work, "venv")])
    there = set(open(marks).read().split()) if os.path.exists(marks) else set()
    if not there.issuperset(packages):
        run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages])
        with open(marks, "w") as f:
            f.write("\n".join(sorted(there.union(packages))))
    return python


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def llama_source(work):
    """The folder of llama.cpp's source."""
    top = os.path.join(work, LLAMA.replace("-", "_").replace("==", "-"))
    if not os.path.exists(top):
        run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
             "--no-binary", ":all:", LLAMA, "-d", work])
        with tarfile.open(top + ".tar.gz") as t:
            t.extractall(work, filter="data")
    return os.path.join(top, "vendor", "llama.cpp")


def llama_tools(work, given=None, names=("llama-quantize", "llama-imatrix", "llama-perplexity")):
    """The folder with llama.cpp's tools: given, or built (cmake, for this processor)."""
    out = given or os.path.join(work, "llama-build", "bin")
    if not all(os.path.exists(os.path.join(out, n)) for n in names):
        if given:
            sys.exit(f"not all of {', '.join(names)} are in {given}")
        build = os.path.dirname(out)
        off = ["LLAMA_CURL", "LLAMA_OPENSSL", "LLAMA_BUILD_UI", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_TESTS",
               "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_MTMD", "BUILD_SHARED_LIBS"]
        run(["cmake", "-S", llama_source(work), "-B", build, "-DCMAKE_BUILD_TYPE=Release", *(f"-D{n}=OFF" for n in off)])
        run(["cmake", "--build", build, "-j", str(cores()), "--target", *names])
    return out


def processor():
    """The model of the processor, as the system names it."""
    try:
        with open("/proc/cpuinfo") as f:
            info = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
        info = {k.strip(): v.strip() for k, v in info.items()}
        name = info.get("model name") or info.get("CPU part", "unknown processor")
        if "cpu family" in info:
            name += f" (family {info['cpu family']}, model {info['model']})"
        return f"{name}, {cores()} cores"
    except OSError:
        return run(["sysctl", "-n", "machdep.cpu.brand_string"]).strip()
