# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's reader and writers of importance matrices, as make_imatrix.py and tests/peers/peer_imatrix.py call them:
imatrix_host.cpp built from the sources that LBRX_CONVERT_HF_TO_GGUF stands in."""
import os
import pathlib
import subprocess

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = ("common/imatrix-loader.cpp", "ggml/src/gguf.cpp", "ggml/src/ggml-threading.cpp", "ggml/src/ggml.c",
           "ggml/src/ggml-quants.c")


def build(folder):
    """Path of the program, or None where there are no sources. Most of llama.cpp is not linked, nor called."""
    script = os.environ.get("LBRX_CONVERT_HF_TO_GGUF", "")
    root = pathlib.Path(script).parent
    if not script or not (root / SOURCES[0]).is_file():
        return None
    folder = pathlib.Path(folder)
    (folder / "ggml-version.h").write_text('#define GGML_VERSION "x"\n#define GGML_COMMIT "x"\n')
    include = [f"-I{p}" for p in (folder, root, *(root / s for s in ("common", "include", "ggml/include", "ggml/src", "src")))]
    objects = []
    for source in (str(HERE / "imatrix_host.cpp"), *(str(root / s) for s in SOURCES)):
        objects.append(str(folder / (pathlib.Path(source).name + ".o")))
        cc = ["gcc", "-D_GNU_SOURCE"] if source.endswith(".c") else ["g++", "-std=c++17"]
        subprocess.run([*cc, "-O1", "-w", *include, "-c", source, "-o", objects[-1]], check=True)
    program = folder / "imatrix_host"
    subprocess.run(["g++", "-no-pie", "-o", str(program), *objects, "-Wl,--unresolved-symbols=ignore-all", "-lm", "-lpthread"],
                   check=True)
    return program


def read(program, path, dump):
    """What llama-quantize makes of a file, as bytes of text, or None where it stops:
    "chunks N", "dataset NAME"..., "entry NAME N BITS..." with the bits of each f32 in hexadecimal, by name."""
    pathlib.Path(dump).unlink(missing_ok=True)
    run = subprocess.run([program, "read", path, dump], capture_output=True)
    return pathlib.Path(dump).read_bytes() if run.returncode == 0 else None


def write(program, path, form, chunks, tokens, dataset, entries):
    """entries: name -> (values, counts), sums of squares and numbers of tokens; form: gguf or dat."""
    text = [f"{chunks} {tokens} {dataset}"]
    for name, (values, counts) in entries.items():
        text.append(f"{name} {len(values)} {len(counts)}")
        text += [float(v).hex() for v in values] + [str(c) for c in counts]
    subprocess.run([program, "write", path, form], input="\n".join(text), text=True, check=True)


class Writer(gguf.GGUFWriter):
    def add_architecture(self):
        """A file of this kind has none."""


def write_gguf(path, datasets, chunks, tokens, tensors, alignment=None):
    """By gguf-py: tensors as they are given, in their order."""
    w = Writer(path, "")
    w.add_type("imatrix")
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_array("imatrix.datasets", datasets)
    w.add_uint32("imatrix.chunk_count", chunks)
    w.add_uint32("imatrix.chunk_size", tokens)
    for name, values in tensors.items():
        w.add_tensor(name, np.ascontiguousarray(values, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
