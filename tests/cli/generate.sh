#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# generate.sh: `lbrx generate`, `score` and `perplexity` on a tiny model with a tokenizer: the same from every format,
# number of threads and instruction set, from a merge that is not written, in batches; and what goes wrong.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

file=$GOLDEN/logits/llama.json
label=$("$LOGITS" list "$file" | awk '$2 == "bpe" { print $1; exit }')
mkdir "$W/hf"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
"$LOGITS" make "$file" "$label" "$W/hf" || exit 1
ok "gguf" "$LBRX" convert "$W/hf" -o "$W/x.gguf" --to gguf --dtype f32 --no-sync -q --set tokenizer.ggml.pre=str:gpt-2
ok "mlx" "$LBRX" convert "$W/hf" -o "$W/mlx" --to mlx --no-sync -q
ok "quantized" "$LBRX" quantize "$W/x.gguf" -o "$W/q8.gguf" --type q8_0 --no-sync -q

# answer NAME COMMAND...: what is said without timings, in $W/NAME.
answer() {
    into=$1
    shift
    ok "$into" "$@" && sed 's/,"timings".*//' "$W/out" >"$W/$into"
}
TEXT="the cat sat on"
answer want "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos
says "want" '"finish_reason":"length"'
for m in x.gguf mlx; do
    answer "$m-out" "$LBRX" generate "$W/$m" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos
    same "$m: the same ids" "$W/want" "$W/$m-out"
done
answer threads "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos -t 3 --batch 2
same "three threads, batches of two" "$W/want" "$W/threads"
answer isa env LBRX_CPU=ref "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos
same "without SIMD" "$W/want" "$W/isa"
printf '%s' "$TEXT" >"$W/prompt"
answer fromfile "$LBRX" generate "$W/hf" -f "$W/prompt" --temp 0 -n 12 --ids --json --ignore-eos
same "a prompt from a file" "$W/want" "$W/fromfile"
answer stdin sh -c "'$LBRX' generate '$W/hf' -f - --temp 0 -n 12 --ids --json --ignore-eos <'$W/prompt'"
same "a prompt from stdin" "$W/want" "$W/stdin"

answer seed1 "$LBRX" generate "$W/hf" -p "$TEXT" --seed 7 -n 20 --ids --json --ignore-eos -t 1
answer seed2 "$LBRX" generate "$W/hf" -p "$TEXT" --seed 7 -n 20 --ids --json --ignore-eos -t 2
same "a seed, one thread and two" "$W/seed1" "$W/seed2"
answer seed3 "$LBRX" generate "$W/hf" -p "$TEXT" --seed 8 -n 20 --ids --json --ignore-eos
cmp -s "$W/seed1" "$W/seed3" && fail "another seed" "the same text" || pass

# the text as it comes is the text as JSON
ok "text" "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ignore-eos
cp "$W/out" "$W/text"
python_free=$(sed 's/.*"text":"//; s/","finish_reason.*//' "$W/want")
printf '%b\n' "$python_free" >"$W/text_want"
same "text as it comes" "$W/text_want" "$W/text"

# ---- a merge that is not written: of a model with itself, that model ----
cp -r "$W/hf" "$W/hf2"
cat >"$W/merge.yml" <<END
merge_method: linear
models:
  - model: $W/hf
    parameters: {weight: 0.5}
  - model: $W/hf2
    parameters: {weight: 0.5}
dtype: bfloat16
END
answer merged "$LBRX" generate "$W/merge.yml" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos
same "a merge file" "$W/want" "$W/merged"

# ---- score ----
echo '{"text": "the cat sat on the mat"}' >"$W/lines"
echo '{"ids": [5, 6, 7, 8]}' >>"$W/lines"
ok "score" sh -c "'$LBRX' score '$W/hf' --jsonl --top 3 <'$W/lines'"
cp "$W/out" "$W/score"
says "score" '"ids":[5,6,7,8],"logprobs":[null,-'
ok "score, batches of one" sh -c "'$LBRX' score '$W/hf' --jsonl --top 3 --batch 1 <'$W/lines'"
awk 'BEGIN { printf "{\"ids\": ["; for (i = 0; i < 2500; i++) printf "%s%d", i ? "," : "", 5 + i * i % 91; print "]}" }' \
    >"$W/long"
ok "a long text" sh -c "'$LBRX' score '$W/hf' --jsonl --top 3 -t 2 <'$W/long'"
cp "$W/out" "$W/score"
for how in "--batch 1 -t 2" "--batch 5 -t 1" "--batch 70 -t 3"; do
    ok "a long text, $how" sh -c "'$LBRX' score '$W/hf' --jsonl --top 3 $how <'$W/long'"
    same "a long text, $how" "$W/score" "$W/out"
done
exits 3 "no JSON" sh -c "echo x | '$LBRX' score '$W/hf' --jsonl"
complains "no JSON" "stdin, line 1"
exits 3 "neither" sh -c "echo '{}' | '$LBRX' score '$W/hf' --jsonl"
exits 3 "an id beyond the vocabulary" sh -c "echo '{\"ids\": [1, 99999999]}' | '$LBRX' score '$W/hf' --jsonl"
complains "an id beyond the vocabulary" "99999999"
exits 2 "score without --jsonl" "$LBRX" score "$W/hf"
ok "score nothing" sh -c "echo '{\"ids\": []}' | '$LBRX' score '$W/hf' --jsonl"
exits 4 "score beyond --ctx" sh -c "echo '{\"ids\": [5, 6, 7, 8]}' | '$LBRX' score '$W/hf' --jsonl --ctx 3"

# ---- perplexity ----
cats 60 >"$W/book"
ok "perplexity" "$LBRX" perplexity "$W/hf" -f "$W/book" --ctx 64 --json -q
says "perplexity" '{"perplexity":'
cp "$W/out" "$W/ppl"
ok "perplexity, threads" "$LBRX" perplexity "$W/hf" -f "$W/book" --ctx 64 --json -q -t 3
same "perplexity with three threads" "$W/ppl" "$W/out"
ok "perplexity, quantized" "$LBRX" perplexity "$W/q8.gguf" -f "$W/book" --ctx 64 --kv-type f32 -q --chunks 2
exits 2 "too short" "$LBRX" perplexity "$W/hf" -f "$W/prompt" --ctx 512
complains "too short" "at least 1024"
exits 2 "no text" "$LBRX" perplexity "$W/hf"

# ---- quantized on the way: the same as in two steps, and nothing stays behind ----
mkdir "$W/cache"
for type in q8_0 mlx-q8 q4_0; do
    case $type in mlx*) to=mlx ;; *) to=gguf ;; esac
    ok "$type" "$LBRX" quantize "$W/hf" -o "$W/two.$to" --to $to --type $type --no-sync -q --force
    answer two "$LBRX" generate "$W/two.$to" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos
    answer one env TMPDIR="$W/cache" "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos --type $type
    complains "$type on the way" "first, in $W/cache/lbrx-run-"
    same "$type on the way" "$W/two" "$W/one"
done
printf 'merge_method: linear\ndtype: float32\nmodels:\n- {model: %s, parameters: {weight: 0.5}}\n- {model: %s, parameters: {weight: 0.5}}\n' \
    "$W/hf" "$W/x.gguf" >"$W/merge.yml"
answer one env TMPDIR="$W/cache" "$LBRX" generate "$W/merge.yml" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos --type q4_0 -q
same "a merge, quantized on the way" "$W/two" "$W/one"
mkdir "$W/cache/lbrx-run-0" && : >"$W/cache/lbrx-run-0/lock" # what a run that was killed has left
exits 2 "no such type" env TMPDIR="$W/cache" "$LBRX" generate "$W/hf" -p "$TEXT" --type q9
exits 2 "two types" "$LBRX" generate "$W/hf" -p "$TEXT" --type q8_0,q4_0
[ -z "$(ls -A "$W/cache")" ] && pass || fail "on the way" "left behind: $(ls "$W/cache")"

# ---- what goes wrong ----
exits 2 "no prompt" "$LBRX" generate "$W/hf"
exits 2 "two prompts" "$LBRX" generate "$W/hf" -p a -f "$W/prompt"
exits 4 "a prompt beyond the context" "$LBRX" generate "$W/hf" -f "$W/book" --ctx 16
complains "a prompt beyond the context" "ctx"
exits 3 "no such file" "$LBRX" generate "$W/hf" -f "$W/none"
exits 4 "no memory" "$LBRX" generate "$W/hf" -p "$TEXT" --ctx 1000000 --batch 65536 --memory 24MB
ok "nothing to generate" "$LBRX" generate "$W/hf" -p "$TEXT" -n 0 --json
says "nothing to generate" '"text":""'
finish
