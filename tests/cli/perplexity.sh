#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# perplexity.sh: `lbrx perplexity --save-logits` and `--kl` on a tiny model: the same file from any number of threads and
# without SIMD, figures against those that a script computes from the files, other texts and damaged files.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

# model FAMILY DIR: with the tokenizer of tests/golden/family.
model() {
    label=$("$LOGITS" list "$GOLDEN/logits/$1.json" | awk '$2 == "bpe" { print $1; exit }')
    mkdir "$2"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$2"
    "$LOGITS" make "$GOLDEN/logits/$1.json" "$label" "$2" || exit 1
}
model llama "$W/hf"
ok "gguf" "$LBRX" convert "$W/hf" -o "$W/x.gguf" --to gguf --dtype f32 --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
ok "quantized" "$LBRX" quantize "$W/x.gguf" -o "$W/q.gguf" --type q4_0 --no-sync -q
cats 60 >"$W/book"
sed 's/dog 1/cow 1/' "$W/book" >"$W/other"
head -c 400 "$W/book" >"$W/short"
# ppl MODEL MORE...: with chunks of 64 tokens.
ppl() {
    m=$1
    shift
    "$LBRX" perplexity "$m" -f "$W/book" --ctx 64 -q "$@"
}

# ---- writing ----
ok "save" ppl "$W/hf" --save-logits "$W/a.logits" --json
says "save" '"bytes_written":'
cp "$W/out" "$W/saved"
ok "without saving" ppl "$W/hf" --json
sed 's/,"logits".*/}/' "$W/saved" >"$W/alone"
same "the same perplexity" "$W/alone" "$W/out"
[ "$(ls "$W"/*partial* "$W"/*journal* 2>/dev/null)" = "" ] && pass || fail "save" "something is left beside the file"
ok "three threads" ppl "$W/hf" --save-logits "$W/b.logits" -t 3
same "three threads: the same file" "$W/a.logits" "$W/b.logits"
ok "without SIMD" env LBRX_CPU=ref "$LBRX" perplexity "$W/hf" -f "$W/book" --ctx 64 -q --save-logits "$W/c.logits"
same "without SIMD: the same file" "$W/a.logits" "$W/c.logits"
cp "$W/a.logits" "$W/c.logits"
exits 2 "it exists" ppl "$W/q.gguf" --save-logits "$W/c.logits"
complains "it exists" "c.logits"
same "it exists: untouched" "$W/a.logits" "$W/c.logits"
ok "--force" ppl "$W/q.gguf" --save-logits "$W/c.logits" --force --no-sync
cmp -s "$W/a.logits" "$W/c.logits" && fail "--force" "not replaced" || pass
exits 2 "over the model" ppl "$W/q.gguf" --save-logits "$W/q.gguf" --force
exits 2 "in the model's folder" ppl "$W/hf" --save-logits "$W/hf/a.logits"
exits 2 "over the file of --kl" ppl "$W/hf" --kl "$W/a.logits" --save-logits "$W/a.logits" --force
exits 1 "no such folder" ppl "$W/hf" --save-logits "$W/none/a.logits"
exits 2 "too short a text" "$LBRX" perplexity "$W/hf" -f "$W/short" --ctx 512 --save-logits "$W/d.logits" -q
exits 1 "a file that may not be so large" sh -c "ulimit -f 8; '$LBRX' perplexity '$W/hf' -f '$W/book' --ctx 64 -q --save-logits '$W/d.logits' 2>'$W/limit'; rc=\$?; cat '$W/limit' >&2; exit \$rc"
[ "$(ls "$W"/d.logits* 2>/dev/null)" = "" ] && pass || fail "a failure" "something is left of the file"

# ---- comparing ----
ok "with itself" ppl "$W/hf" --kl "$W/a.logits" --json
says "with itself" '"kl_mean":0.0,"kl_stderr":0.0,"kl_median":0.0,"kl_p99":0.0,"kl_max":0.0,"top1_agreement":1.0'
says "with itself" '"log_ratio":0.0,'
ok "with itself, from GGUF" ppl "$W/x.gguf" --kl "$W/a.logits"
says "with itself, from GGUF" "same most likely token: 100.000"
ok "ctx from the file" "$LBRX" perplexity "$W/hf" -f "$W/book" --kl "$W/a.logits" --json -q
says "ctx from the file" '"ctx":64'
ok "quantized" ppl "$W/q.gguf" --kl "$W/a.logits" --json
cp "$W/out" "$W/q.json"
says "quantized" '"kl_mean":'
if command -v python3 >/dev/null 2>&1; then
    ok "figures" python3 "$root/tests/tool/compare_logits.py" --check "$W/q.json" "$W/a.logits" "$W/c.logits"
    ok "the other way round" ppl "$W/hf" --kl "$W/c.logits" --json
    cp "$W/out" "$W/r.json"
    ok "figures" python3 "$root/tests/tool/compare_logits.py" --check "$W/r.json" "$W/c.logits" "$W/a.logits"
    exits 1 "other figures" python3 "$root/tests/tool/compare_logits.py" --check "$W/r.json" "$W/a.logits" "$W/c.logits"
else
    skip "figures" "no python3"
fi
ok "quantized, three threads" ppl "$W/q.gguf" --kl "$W/a.logits" --json -t 3
same "quantized, three threads" "$W/q.json" "$W/out"
ok "quantized, for people" ppl "$W/q.gguf" --kl "$W/a.logits"
says "quantized, for people" "divergence (nats) "
says "quantized, for people" "root mean square"
ok "the first chunks" ppl "$W/q.gguf" --kl "$W/a.logits" --chunks 2 --json
says "the first chunks" '"tokens":62,'
ok "both" ppl "$W/q.gguf" --kl "$W/a.logits" --save-logits "$W/d.logits"
same "both: the same file" "$W/c.logits" "$W/d.logits"
ok "a file of fewer chunks" ppl "$W/hf" --chunks 3 --save-logits "$W/few.logits"
ok "a file of fewer chunks" ppl "$W/hf" --kl "$W/few.logits" --json
says "a file of fewer chunks" '"tokens":93,'
exits 2 "more chunks than there are" ppl "$W/hf" --kl "$W/few.logits" --chunks 4
complains "more chunks than there are" "has 3"

# ---- files that do not belong to it ----
exits 3 "another text" "$LBRX" perplexity "$W/hf" -f "$W/other" --kl "$W/a.logits" -q
complains "another text" "of another text or another tokenizer: token "
exits 3 "a shorter text" "$LBRX" perplexity "$W/hf" -f "$W/short" --kl "$W/a.logits" -q
complains "a shorter text" "the text has"
exits 3 "another ctx" "$LBRX" perplexity "$W/hf" -f "$W/book" --ctx 32 --kl "$W/a.logits" -q
complains "another ctx" "--ctx is 32"
printf '\001' | dd of="$W/b.logits" bs=1 seek=12 conv=notrunc 2>/dev/null # its vocabulary
exits 3 "another vocabulary" ppl "$W/hf" --kl "$W/b.logits"
cp "$W/a.logits" "$W/b.logits"
flip "$W/b.logits" 20
exits 3 "another beginning" ppl "$W/hf" --kl "$W/b.logits"
complains "another beginning" "begins a text in another way"
cp "$W/a.logits" "$W/b.logits"
flip "$W/b.logits" 70
exits 3 "damaged tokens" ppl "$W/hf" --kl "$W/b.logits"
complains "damaged tokens" "damaged"
cp "$W/a.logits" "$W/b.logits"
n_chunks=$(od -An -tu8 -j 24 -N 8 "$W/b.logits" | tr -d ' ')
flip "$W/b.logits" $((64 + n_chunks * 64 * 4 + 9)) # in the first row
exits 3 "a damaged row" ppl "$W/hf" --kl "$W/b.logits"
complains "a damaged row" "row 1 of chunk 1"
head -c 5000 "$W/a.logits" >"$W/b.logits"
exits 3 "cut off" ppl "$W/hf" --kl "$W/b.logits"
complains "cut off" "incomplete"
printf '_logits_%064d' 0 >"$W/b.logits"
exits 3 "llama-perplexity's" ppl "$W/hf" --kl "$W/b.logits"
complains "llama-perplexity's" "16 bits"
exits 3 "a model" ppl "$W/hf" --kl "$W/q.gguf"
complains "a model" "no file of logits"
exits 3 "no file" ppl "$W/hf" --kl "$W/none"
exits 1 "a folder" ppl "$W/hf" --kl "$W/hf"
exits 3 "a number of chunks that cannot be" sh -c "{ head -c 24 '$W/a.logits'; printf '\377\377\377\377\377\377\377\177'; tail -c +33 '$W/a.logits'; } >'$W/b.logits'; '$LBRX' perplexity '$W/hf' -f '$W/book' --kl '$W/b.logits' -q"


# ---- what activations are rounded to ----
# 1115.1837 by llama-cpp-python 0.3.36: llama-perplexity -m q.gguf -f book -c 64
ok "a GGUF" ppl "$W/q.gguf" --json
cp "$W/out" "$W/ggml"
awk -F '[:,]' '{ exit !($2 > 1115.1837 * 0.999 && $2 < 1115.1837 * 1.001) }' "$W/out" && pass || fail "llama-perplexity's" "$(cat "$W/out")"
ok "ggml" ppl "$W/q.gguf" --json --activations ggml -t 3
same "ggml is the default" "$W/ggml" "$W/out"
ok "ggml without SIMD" env LBRX_CPU=ref "$LBRX" perplexity "$W/q.gguf" -f "$W/book" --ctx 64 -q --json
same "ggml without SIMD" "$W/ggml" "$W/out"
for how in '--activations usual' --exact --fast; do
    # shellcheck disable=SC2086 # words
    ok "$how" ppl "$W/q.gguf" --json $how
    cmp -s "$W/ggml" "$W/out" && fail "$how" "as ggml" || pass
done
ok "a folder" ppl "$W/hf" --json --activations usual
same "a folder has no activations of ggml" "$W/alone" "$W/out"
finish
