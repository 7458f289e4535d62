#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# device_run.sh: models on a device: tiny ones of every family against the golden log-probabilities that transformers
# computes in f32 (tests/golden/logits), on the devices' kernels as C; what a device does not do is refused by name; the
# commands with the stand-in for NVIDIA's driver.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cost=slow
LOGITS=${LOGITS:-$root/build/cc/tests/logits}
ran=0

# on_device BOUND WHAT FILE LABEL [OPTION...]
on_device() {
    bound=$1 how="$2" file=$3 label=$4
    shift 4
    "$LBRX" score "$W/hf" --jsonl --top 10 --kv-type f32 --device emulated -q "$@" <"$W/ids" >"$W/got" 2>"$W/err"
    status=$?
    if [ $status != 0 ]; then
        fail "$how" "exit $status: $(head -1 "$W/err")"
    elif "$LOGITS" check "$file" "$label" $bound <"$W/got" >"$W/out" 2>"$W/err"; then
        ran=$((ran + 1))
        pass
    else
        fail "$how" "log-probabilities differ by $(cat "$W/out")"
    fi
}

for file in "$GOLDEN"/logits/*.json; do
    family=$(basename "$file" .json)
    "$LOGITS" list "$file" >"$W/cases" || exit 1
    while read -r label tokenizer forms; do
        turn=$((turn + 1))
        in_turn 0 6 || continue
        rm -rf "$W/hf"
        "$LOGITS" make "$file" "$label" "$W/hf" && "$LOGITS" ids "$file" "$label" >"$W/ids" || exit 1
        : "$tokenizer" "$forms"
        # Of delta nets the CPU's own values, too, are 2.5e-4 from transformers': it sums in another order (in chunks).
        case $family in qwen3_[5n]*) exact=5e-4 ;; *) exact=1e-4 ;; esac
        on_device $exact "$family $label" "$file" "$label" --exact
        in_turn 0 12 || continue
        case $family in # products of tiles of f16; latent heads and the like feel them more
        cohere2 | gemma2 | gemma4 | gpt2 | gpt_oss | lfm2 | llama | mixtral | nemotron | olmo2 | phi3 | qwen2_moe | starcoder2)
            on_device 5e-2 "$family $label tiled" "$file" "$label"
            ;;
        esac
        case $family in # every layer shared by two devices
        cohere2 | gpt2) on_device 1e-4 "$family $label shared" "$file" "$label" --exact --device emulated,emulated --split-mode row ;;
        esac
        case $family in # the CPU, a device and another
        cohere2 | deepseek_v2 | gemma2 | gemma4 | gpt_oss | lfm2 | nemotron | qwen2_moe | qwen3_next)
            on_device $exact "$family $label in parts" "$file" "$label" --device emulated,emulated --gpu-layers 2 --exact
            ;;
        esac
    done <"$W/cases"
done
least=90
! is_sanitized || least=15
[ $ran -ge $least ] && pass || fail "families" "$ran cases were computed"

# Experts whose tiles are more than a budget's share of scratch go by one after the other: the same bytes, and
# not those of products that are not of tiles.
for family in mixtral gpt_oss; do
    file=$GOLDEN/logits/$family.json
    label=$("$LOGITS" list "$file" | awk 'NR == 1 { print $1 }')
    rm -rf "$W/hf"
    "$LOGITS" make "$file" "$label" "$W/hf" && "$LOGITS" ids "$file" "$label" >"$W/ids" || exit 1
    for how in "" "--device-memory 8MB --batch 64" "--exact"; do
        # shellcheck disable=SC2086 # words
        "$LBRX" score "$W/hf" --jsonl --top 10 -q --device emulated $how <"$W/ids" >"$W/grouped${how%% *}" 2>"$W/err" ||
            fail "experts of $family $how" "$(head -1 "$W/err")"
    done
    same "experts of $family in parts" "$W/grouped" "$W/grouped--device-memory"
    ! cmp -s "$W/grouped" "$W/grouped--exact" && pass || fail "experts of $family" "are not multiplied in tiles"
done

# ---- types ----
# near WHAT MODEL: the CPU's log-probabilities, whose activations are exact
near() {
    for d in cpu emulated; do
        "$LBRX" score "$2" --jsonl --top 10 --exact --kv-type f32 -q --device $d <"$W/ids" >"$W/$d.near" 2>"$W/err" ||
            fail "$1: $d" "$(head -1 "$W/err")"
    done
    python3 - "$W/cpu.near" "$W/emulated.near" <<'PY' && pass || fail "$1" "other log-probabilities"
import json, sys
def flat(x):
    if isinstance(x, list):
        for y in x:
            yield from flat(y)
    elif isinstance(x, dict):
        for k in sorted(x):
            yield from flat(x[k])
    elif isinstance(x, (int, float)):
        yield x
a, b = (list(flat(json.loads(open(p).readline()))) for p in sys.argv[1:])
sys.exit(not (len(a) == len(b) > 50 and all(abs(x - y) < 1e-4 for x, y in zip(a, b))))
PY
}

# shared WHAT MODEL [DEVICES]: the same with every layer shared by two devices
shared() {
    "$LBRX" score "$2" --jsonl --exact --kv-type f32 -q --device cpu <"$W/ids" >"$W/cpu.near" 2>"$W/err" || fail "$1" "$(head -1 "$W/err")"
    "$LBRX" score "$2" --jsonl --exact --kv-type f32 -q --device "${3:-emulated,emulated}" --split-mode row <"$W/ids" >"$W/shared.near" \
        2>"$W/err" || fail "$1, shared" "$(head -1 "$W/err")"
    python3 - "$W/cpu.near" "$W/shared.near" <<'PY' && pass || fail "$1, shared" "other log-probabilities"
import json, sys
a, b = (json.loads(open(p).readline())["logprobs"][1:] for p in sys.argv[1:])
sys.exit(not (len(a) == len(b) == 3 and all(abs(x - y) < 1e-4 for x, y in zip(a, b))))
PY
}

echo '{"ids":[5,17,200,31]}' >"$W/ids"
make_model gguf llama "$W/wide" layers=2 vocab=320 hidden=128 ffn=768 heads=4 kv_heads=2 head_dim=128
make_model hf llama "$W/broad" layers=2 vocab=320 hidden=128 ffn=384 heads=4 kv_heads=2 head_dim=128
for t in q4_0 q4_k q6_k; do
    exits 0 "shared $t" "$LBRX" quantize "$W/wide/model.gguf" -o "$W/typed.gguf" --type $t --pure --no-sync -q --force \
        --override 'token_embd|output=q8_0' && shared "$t" "$W/typed.gguf"
done
for t in mlx-q3 mlx-mxfp4 mlx-nvfp4; do
    rm -rf "$W/typed"
    exits 0 "shared $t" "$LBRX" quantize "$W/broad" -o "$W/typed" --to mlx --type $t --no-sync -q && shared "$t" "$W/typed"
done
rm -rf "$W/typed"
exits 0 "shared fp8-block" "$LBRX" quantize "$W/broad" -o "$W/typed" --to hf --type fp8-block --no-sync -q &&
    shared fp8-block "$W/typed"
make_model gguf llama "$W/made" layers=1 vocab=320
make_model hf llama "$W/folder" layers=1 vocab=320
make_model imatrix llama "$W/importance" layers=1 vocab=320
for t in q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs iq3_s iq3_xxs iq2_xxs iq2_xs iq2_s iq1_s iq1_m tq1_0 tq2_0 \
    q1_0 q2_0 mxfp4 nvfp4 f16 bf16; do
    turn=$((turn + 1))
    in_turn 0 5 || continue
    exits 0 "$t" "$LBRX" quantize "$W/made/model.gguf" -o "$W/typed.gguf" --type $t --pure --no-sync -q --force \
        --imatrix "$W/importance" --override 'token_embd|output=q8_0' && near "$t" "$W/typed.gguf"
done
for t in mlx-q2 mlx-q3 mlx-q4 mlx-q5 mlx-q6 mlx-q8 mlx-mxfp4 mlx-mxfp8 mlx-nvfp4; do
    turn=$((turn + 1))
    in_turn 0 5 || continue
    rm -rf "$W/typed"
    exits 0 "$t" "$LBRX" quantize "$W/folder" -o "$W/typed" --to mlx --type $t --no-sync -q && near "$t" "$W/typed"
done
for t in fp8 fp8-block; do
    rm -rf "$W/typed"
    exits 0 "$t" "$LBRX" quantize "$W/folder" -o "$W/typed" --to hf --type $t --no-sync -q && near "$t" "$W/typed"
done

# ---- the commands ----
file=$GOLDEN/logits/llama.json
label=$("$LOGITS" list "$file" | awk '$2 == "bpe" { print $1; exit }')
rm -rf "$W/hf"
mkdir "$W/hf"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
"$LOGITS" make "$file" "$label" "$W/hf" || exit 1
TEXT="the cat sat on"

# commands DEVICE: the CPU's answers
commands() {
    for d in cpu "$1"; do
        "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos --device "$d" >"$W/out" 2>"$W/err" ||
            fail "$1: generate" "$(head -1 "$W/err")"
        sed 's/,"timings".*//' "$W/out" >"$W/$d.ids"
        exits 0 "$d: draft" "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos --device "$d" \
            --draft "$W/hf"
        sed 's/,"timings".*//' "$W/out" >"$W/$d.draft"
        cats 8 >"$W/book"
        exits 0 "$d: perplexity" "$LBRX" perplexity "$W/hf" -f "$W/book" --ctx 32 -q --json --device "$d"
        sed 's/.*"perplexity": *\([0-9.]*\).*/\1/' "$W/out" >"$W/$d.ppl"
    done
    same "$1: the same tokens" "$W/cpu.ids" "$W/$1.ids"
    same "$1: the same tokens with a draft" "$W/cpu.draft" "$W/$1.draft"
    # Its logarithm is a mean of log-probabilities, whose bound is 1e-4.
    paste "$W/cpu.ppl" "$W/$1.ppl" | awk '$1 > 1 && ($1 - $2) ^ 2 < ($1 * 1e-4) ^ 2 { ok = 1 } END { exit !ok }' &&
        pass || fail "$1: perplexity" "$(cat "$W/$1.ppl")"
    exits 0 "$1: bench" "$LBRX" bench "$W/hf" -p 8 -n 2 -r 1 --json -q --device "$1"
    says "$1: bench" "\"device\":\"$2\""
    printf 'hello\n' | "$LBRX" chat "$W/hf" --device "$1" -n 3 --json -q >"$W/out" 2>"$W/err" && pass ||
        fail "$1: chat" "$(head -1 "$W/err")"
}
commands emulated emulated

# ---- parts of a model ----
# said WHAT TEXT: on stderr
said() {
    grep -q -- "$2" "$W/err" && pass || fail "$1" "$(head -1 "$W/err")"
}
# parts OPTION...: the tokens of a run whose activations are exact, wherever they are computed
parts() {
    "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 6 --ids --json --ignore-eos --exact --device "$@" >"$W/out" 2>"$W/err" ||
        fail "$*" "$(head -1 "$W/err")"
    sed 's/,"timings".*//' "$W/out" >"$W/parts.ids"
}
parts cpu
mv "$W/parts.ids" "$W/whole.ids"
for how in "emulated,emulated" "emulated --gpu-layers 1" "emulated --gpu-layers 0" "emulated --gpu-layers 99" \
    "emulated,emulated --tensor-split 0,1" "emulated,emulated --gpu-layers 1" "emulated --split-mode row"; do
    # shellcheck disable=SC2086 # words
    parts $how
    same "$how" "$W/whole.ids" "$W/parts.ids"
done
parts emulated --gpu-layers 1
said "one layer" "layers 0 to [0-9]* on the CPU (.*B), [0-9]* to [0-9]* on emulated (.*B)"
exits 0 "bench in parts" "$LBRX" bench "$W/hf" -p 4 -n 1 -r 1 --json -q --device emulated,emulated --gpu-layers 2
says "bench in parts" '"device":"cpu,emulated,emulated"'

# Layers that keep states, latent attention, gates: drafts go back to where they were, prompts that begin alike share
# what has been read, several answers are made at a time.
printf '"the cat sat on"\n"the cat sat on the mat"\n"a dog"\n"%s"\n' "$(cats 6 | tr '\n' ' ')" >"$W/prompts"
for family in lfm2 qwen3_next deepseek_v2; do
    turn=$((turn + 1))
    in_turn 0 2 || [ $family = deepseek_v2 ] || continue
    file=$GOLDEN/logits/$family.json
    rm -rf "$W/other"
    mkdir "$W/other"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/other"
    "$LOGITS" make "$file" "$("$LOGITS" list "$file" | awk 'NR == 1 { print $1 }')" "$W/other" || exit 1
    for d in cpu emulated "emulated,emulated --gpu-layers 2"; do
        how=${d%% *}
        # shellcheck disable=SC2086 # words
        exits 0 "$family, $how: draft" "$LBRX" generate "$W/other" -p "$TEXT" --temp 0 -n 12 --ids --json --ignore-eos --device $d \
            --exact --kv-type f32 --draft "$W/other" --lookup 2
        sed 's/,"timings".*//' "$W/out" >"$W/$how.draft"
        # shellcheck disable=SC2086 # words
        exits 0 "$family, $how: prompts" "$LBRX" generate "$W/other" --jsonl -f "$W/prompts" --parallel 2 --temp 0 -n 6 --ids \
            --ignore-eos --device $d --exact --kv-type f32
        sed 's/,"timings".*//' "$W/out" >"$W/$how.prompts"
        same "$family, $how: the same tokens with a draft" "$W/cpu.draft" "$W/$how.draft"
        same "$family, $how: the same answers" "$W/cpu.prompts" "$W/$how.prompts"
    done
    # a context that is full
    for d in cpu emulated "emulated,emulated --gpu-layers 2"; do
        [ "$family" = deepseek_v2 ] || break
        # shellcheck disable=SC2086 # words
        exits 0 "$d: shift" "$LBRX" generate "$W/other" -p "$TEXT" --temp 0 -n 40 --ids --json --ignore-eos --device $d --exact \
            --kv-type f32 --ctx 24 --context-shift --keep 2
        sed 's/,"timings".*//' "$W/out" >"$W/${d%% *}.shift"
        same "$d: a context that is shifted" "$W/cpu.shift" "$W/${d%% *}.shift"
    done
    # saved on one, gone on with on the other
    for d in "cpu cpu" "cpu emulated" "emulated cpu" "emulated,emulated cpu"; do
        rm -f "$W/s"
        for where in $d; do
            exits 0 "$family, $d: session" "$LBRX" generate "$W/other" -p "$TEXT" --temp 0 -n 6 --ids --json --ignore-eos \
                --device "$where" --exact --kv-type f32 --session "$W/s"
        done
        sed 's/,"timings".*//' "$W/out" >"$W/session"
        [ "$d" != "cpu cpu" ] || cp "$W/session" "$W/session.cpu"
        same "$family, $d: a session goes on" "$W/session.cpu" "$W/session"
    done
done

# ---- what would lie where ----
exits 0 "dry run" "$LBRX" bench "$W/hf" --dry-run --json --device emulated,emulated --gpu-layers 2
python3 - "$W/out" <<'PY' && pass || fail "dry run" "$(cat "$W/out")"
import json, sys
plan = json.load(open(sys.argv[1]))
parts = plan["parts"]
borders = [p["layers"] for p in parts]
assert [p["device"] for p in parts] == ["cpu", "emulated", "emulated"] and plan["ctx"] > 0
assert borders[0][0] == 0 and all(a[1] == b[0] for a, b in zip(borders, borders[1:]))
assert borders[2][1] - borders[0][1] == 2
assert all(p["weights_bytes"] > 0 and p["kv_bytes"] > 0 and p["buffers_bytes"] > 0 for p in parts)
PY
for command in "generate $W/hf -p x" "chat $W/hf" "score $W/hf --jsonl" "perplexity $W/hf -f $W/book" "bench $W/hf"; do
    # shellcheck disable=SC2086 # words
    exits 0 "dry run: $command" "$LBRX" $command --dry-run </dev/null
    says "dry run: $command" "keys and values"
done

# ---- refusals ----
for wrong in "cpu --gpu-layers 1" "cpu --tensor-split 1" "cpu --split-mode layer" "emulated --gpu-layers some" \
    "emulated --gpu-layers -1" "emulated --tensor-split 1,2" "emulated --tensor-split 0" "emulated --tensor-split 1,x" \
    "emulated --tensor-split inf" "emulated,emulated --split-mode row --tensor-split 1,1" "emulated --split-mode none" "emulated,emulated --tensor-split 1" "emulated,cuda:0" "cuda:0,cuda:0" "metal,metal"; do
    # shellcheck disable=SC2086 # words
    exits 2 "$wrong" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device $wrong
done
"$LOGITS" make "$GOLDEN/logits/mixtral.json" "$("$LOGITS" list "$GOLDEN/logits/mixtral.json" | awk 'NR == 1 { print $1 }')" "$W/experts"
exits 3 "shared experts" "$LBRX" score "$W/experts" --jsonl --device emulated,emulated --split-mode row </dev/null
complains "shared experts" "--split-mode row: layer 0 has experts (2 devices): use --split-mode layer"
exits 3 "shared heads" "$LBRX" score "$W/wide/model.gguf" --jsonl --device emulated,emulated,emulated --split-mode row </dev/null
complains "shared heads" "heads of queries or keys that these devices cannot share evenly (3 devices)"
exits 2 "selftest of two" "$LBRX" selftest --device cuda:0,cuda:1
complains "selftest of two" "this command computes on one device"
exits 4 "all layers" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device emulated --device-memory 300KB --gpu-layers all
complains "all layers" "do not fit --device-memory of 300 kB: use fewer --gpu-layers"
rm -rf "$W/other"
mkdir "$W/other"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/other"
file=$GOLDEN/logits/hunyuan_v1_dense.json
"$LOGITS" make "$file" "$("$LOGITS" list "$file" | awk 'NR == 1 { print $1 }')" "$W/other" || exit 1
# keys that are normalised behind their rotation turn on the host
for d in cpu emulated; do
    exits 0 "$d: shift" "$LBRX" generate "$W/other" -p "$TEXT" --temp 0 -n 40 --ids --json --ignore-eos --device $d --exact \
        --kv-type f32 --ctx 24 --context-shift --keep 2
    sed 's/,"timings".*//' "$W/out" >"$W/$d.shift"
done
same "shift, late norms" "$W/cpu.shift" "$W/emulated.shift"
exits 0 "kind" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cpu --session "$W/kind"
exits 2 "kind" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device emulated --session "$W/kind"
complains "kind" "made without --exact, as which a device computes"
exits 2 "repack" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device emulated --repack
complains "repack" "--repack: weights go to emulated: leave it out"
exits 4 "budget" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device emulated --device-memory 100KB
complains "budget" "--device-memory"
exits 2 "budget of the CPU" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cpu --device-memory 1GB
complains "budget of the CPU" "whose limit is --memory"
exits 2 "another command" "$LBRX" inspect "$W/hf" --device emulated
complains "another command" "this command computes on the CPU alone"

if [ -z "${LB_TEST_STUB_CUDA:-}" ] || [ ! -f "$LB_TEST_STUB_CUDA" ]; then
    skip "stand-in" "no stand-in for the CUDA driver"
    finish
fi
LD_LIBRARY_PATH=$(dirname "$LB_TEST_STUB_CUDA")
export LD_LIBRARY_PATH
commands cuda "cuda:0"
exits 0 "bench on two" "$LBRX" bench "$W/hf" -p 4 -n 2 -r 1 --json -q --device cuda:0,cuda:1
says "bench on two" '"device":"cuda:0,cuda:1"'
for how in "cuda --split-mode layer" "cuda:1,cuda:0 --tensor-split 1,3" "cuda:1 --gpu-layers 2"; do
    # shellcheck disable=SC2086 # words
    parts $how
    same "$how" "$W/whole.ids" "$W/parts.ids"
done
for nccl in "" none; do
    STUB_NCCL=$nccl shared "NCCL '$nccl'" "$W/wide/model.gguf" cuda:0,cuda:1
done
STUB_NCCL_LOST=3 exits 1 "a lost sum" "$LBRX" bench "$W/wide/model.gguf" -p 4 -n 1 -r 1 -q --device cuda --split-mode row
complains "a lost sum" "nccl: a sum over 2 GPUs failed"
exits 0 "dry run with limits" "$LBRX" bench "$W/hf" --dry-run --device cuda --device-memory 5MB
says "dry run with limits" "5.00 MB"
STUB_CUDA=none exits 3 "no GPU" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda
complains "no GPU" "the driver sees no GPU"
STUB_CUDA_MEMORY=20000 exits 1 "memory" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda
complains "memory" "do not fit their free memory of 40.0 kB, nor does one layer"
STUB_CUDA_MEMORY=20000 exits 1 "memory of one" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda:1
complains "memory of one" "cuda:1: weights and a session"

STUB_CUDA_LOST=20 exits 1 "lost" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda
complains "lost" "the device was lost"

# what was there stays as it was
echo old >"$W/im.dat"
STUB_CUDA_LOST=100 exits 1 "lost, an imatrix" "$LBRX" imatrix "$W/hf" -f "$W/book" -o "$W/im.dat" --ctx 32 --device cuda --force
[ "$(cat "$W/im.dat")" = old ] && pass || fail "lost, an imatrix" "the file is another"
exits 0 "a session" "$LBRX" generate "$W/hf" -p "$TEXT" -n 2 --temp 0 --ignore-eos --device cuda --session "$W/lost.session"
cp "$W/lost.session" "$W/lost.before"
exits 1 "lost, a session" env STUB_CUDA_LOST=90 "$LBRX" generate "$W/hf" -p "$TEXT" -n 8 --temp 0 --ignore-eos --device cuda --session "$W/lost.session"
same "lost, a session" "$W/lost.before" "$W/lost.session"

# ---- a GPU that nobody has named ----
# chosen WHAT DEVICE WARNING OPTION...: which one computes without --device, and the line that says why (empty: none)
chosen() {
    what=$1 device=$2 warning=$3
    shift 3
    exits 0 "auto, $what" "$LBRX" bench "$W/hf" -p 4 -n 2 -r 1 --json "$@"
    says "auto, $what" "\"device\":\"$device\""
    grep '^warning: ' "$W/err" >"$W/warnings"
    if [ -z "$warning" ]; then
        [ ! -s "$W/warnings" ] && pass || fail "auto, $what" "$(cat "$W/warnings")"
    else
        [ "$(wc -l <"$W/warnings")" = 1 ] && grep -q "$warning.*; the CPU computes$" "$W/warnings" && pass ||
            fail "auto, $what" "$(cat "$W/err")"
    fi
}
chosen "a GPU" cuda:0 ""
chosen "a part of it" cpu,cuda:0 "" --gpu-layers 2
chosen "no layer" cpu "" --gpu-layers 0
chosen "what the CPU alone does" cpu "" --fast
chosen "memory of the CPU's" cpu "" --repack
STUB_CUDA=none chosen "no GPU" cpu ""
STUB_CUDA=old chosen "an old driver" cpu "the driver is too old, of CUDA 10.2"
STUB_CUDA=noinit chosen "a driver that fails" cpu "the driver does not start"
STUB_CUDA=cc70 chosen "an old GPU" cpu "has compute capability 7.0"
STUB_CUDA=ptx chosen "kernels that are refused" cpu "does not take the kernels"
STUB_CUDA=jit chosen "kernels that fail" cpu "does not compile the kernels: ptxas: line 7"
STUB_CUDA=wrong chosen "a wrong kernel" cpu "cuda:0: kernel attend_few_64 fails its test"
STUB_CUDA_MEMORY=20000 chosen "little memory" cpu "nor does one layer"
STUB_CUDA_LOST=3 chosen "lost at first" cpu "the device was lost"
exits 0 "auto, a plan" "$LBRX" bench "$W/hf" --dry-run
says "auto, a plan" "cuda:0"
STUB_CUDA_MEMORY=20000 exits 0 "auto, a plan for little memory" "$LBRX" bench "$W/hf" --dry-run
complains "auto, a plan for little memory" "; the CPU computes"
STUB_CUDA=none exits 2 "auto, layers of none" "$LBRX" bench "$W/hf" -p 4 --gpu-layers 2
complains "auto, layers of none" "--gpu-layers: --device auto is no GPU"
# named, they are errors
STUB_CUDA=wrong exits 5 "a wrong kernel" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda
complains "a wrong kernel" "cuda:0: kernel attend_few_64 fails its test"
STUB_CUDA=jit exits 3 "kernels that fail" "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --device cuda
# Kernels that a prompt or the sampler takes and one token does not: others do their work, whether the GPU is named or
# not, and one line says so.
make_model gguf llama "$W/prompt" layers=1 vocab=320 hidden=128 ffn=128 heads=2 kv_heads=1 head_dim=64
awk 'BEGIN { printf "{\"ids\":["; for (i = 0; i < 100; i++) printf "%s%d", i ? "," : "", i * 37 % 300 + 5; print "]}" }' >"$W/ids"
prompted=$W/prompt/model.gguf
scored() {
    what=$1
    shift
    "$LBRX" score "$prompted" --jsonl "$@" <"$W/ids" >"$W/out" 2>"$W/err" && pass || fail "$what" "$(head -1 "$W/err")"
}
# goes_on BAD NAMES LIKE [OPTION...]: with kernels that fail as STUB_CUDA_BAD says, named in the warning; the bytes are
# those of another run (LIKE: a file; empty: another way of attention)
goes_on() {
    bad=$1 names=$2 like=$3
    shift 3
    STUB_CUDA_BAD=$bad scored "$bad" "$@"
    grep '^warning: ' "$W/err" >"$W/warnings"
    [ "$(wc -l <"$W/warnings")" = 1 ] && grep -q "cuda:0: kernel $names; others do its work$" "$W/warnings" && pass ||
        fail "$bad" "$(cat "$W/err")"
    [ -z "$like" ] || same "$bad" "$like" "$W/out"
}
scored "all kernels"
cp "$W/out" "$W/with.tiles"
scored "no tiles" --exact
cp "$W/out" "$W/no.tiles"
! cmp -s "$W/with.tiles" "$W/no.tiles" && pass || fail "tiles" "the prompt does not take them"
goes_on jit:gemm "gemm fails its test: cuda:0: the driver does not compile the kernels: ptxas: line 7; so do gemm_gated" "$W/no.tiles"
goes_on launch:unpack "unpack_bf16 fails its test: .* (701)" "$W/no.tiles" --device cuda
goes_on wrong:attend_mma "attend_mma_64 fails its test: case 0: .*" ""
! cmp -s "$W/with.tiles" "$W/out" && pass || fail "attention" "it was not computed otherwise"
# Delta nets go through the golden prompts in chunks, which is seen by the bytes of tokens one by one, and both are right.
file=$GOLDEN/logits/qwen3_next.json
label=$("$LOGITS" list "$file" | awk 'NR == 1 { print $1 }')
prompted=$W/net
"$LOGITS" make "$file" "$label" "$prompted" && "$LOGITS" ids "$file" "$label" >"$W/ids" || exit 1
scored "chunks" --top 10 --exact --kv-type f32
cp "$W/out" "$W/with.chunks"
goes_on wrong:delta_chunks "delta_chunks fails its test: case 0: .*" "" --top 10 --exact --kv-type f32
cp "$W/out" "$W/no.chunks"
! cmp -s "$W/with.chunks" "$W/no.chunks" && pass || fail "chunks" "the prompt does not take them"
goes_on jit:delta_chunks "delta_chunks fails its test: cuda:0: the driver does not compile the kernels: ptxas: line 7" "$W/no.chunks" \
    --top 10 --exact --kv-type f32
for how in with no; do
    "$LOGITS" check "$file" "$label" 5e-4 <"$W/$how.chunks" >"$W/out" 2>"$W/err" && pass || fail "$how chunks" "$(cat "$W/out" "$W/err")"
done
# a full context is shifted by the CPU: latent attention, layers whose keys do not turn
for family in deepseek_v2 cohere2; do
    rm -rf "$W/other"
    mkdir "$W/other"
    cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/other"
    file=$GOLDEN/logits/$family.json
    "$LOGITS" make "$file" "$("$LOGITS" list "$file" | awk 'NR == 1 { print $1 }')" "$W/other" || exit 1
    bad=kv_take
    [ $family = deepseek_v2 ] || bad=kv_move
    for d in cpu cuda; do
        STUB_CUDA_BAD=jit:$bad exits 0 "$family, $d: no shift there" "$LBRX" generate "$W/other" -p "$TEXT" --temp 0 -n 40 --ids --json \
            --ignore-eos --device $d --exact --kv-type f32 --ctx 24 --context-shift --keep 2
        sed 's/,"timings".*//' "$W/out" >"$W/$d.shift"
    done
    same "$family: no shift there" "$W/cpu.shift" "$W/cuda.shift"
    [ "$(grep -c "^warning: cuda:0: kernel $bad fails its test.*; others do its work$" "$W/err")" = 1 ] && pass ||
        fail "$family: no shift there" "$(cat "$W/err")"
done
STUB_CUDA_BAD=jit:top_ exits 0 "no choice there" "$LBRX" generate "$W/hf" -p "$TEXT" --temp 0 -n 6 --ids --json --ignore-eos --exact
sed 's/,"timings".*//' "$W/out" >"$W/parts.ids"
same "no choice there" "$W/whole.ids" "$W/parts.ids"
[ "$(grep -c "^warning: cuda:0: kernel top_chunks fails its test" "$W/err")" = 1 ] && pass || fail "no choice there" "$(cat "$W/err")"
# in the middle
STUB_CUDA_LOST=400 exits 1 "auto, lost later" "$LBRX" bench "$W/hf" -p 4 -n 40 -r 1
complains "auto, lost later" "the device was lost"
# two processes share one: this one gets less than it was told
# share BYTES DEVICE
share() {
    STUB_CUDA=taken STUB_CUDA_MEMORY=$1 "$LBRX" generate "$W/hf" -p "$TEXT" -n 1 --ctx 256 --batch 256 --device "$2" >"$W/out" 2>"$W/err"
}
no_room="cuda:0: \(a buffer of\|its memory has no room\)"
share 3000000 cuda
[ $? = 1 ] && grep -q "$no_room" "$W/err" && pass || fail "shared memory" "$(cat "$W/err")"
share 3000000 auto && grep -q "^warning: $no_room.*; the CPU computes" "$W/err" && pass || fail "shared memory, auto" "$(cat "$W/err")"
# at some size there is room for smaller batches alone
for bytes in 4000000 4500000 5000000 5500000 6000000 7000000 8000000; do
    ! share $bytes cuda || break
done
grep -q "^note: batches of [0-9]* tokens: cuda:0 has no room for more" "$W/err" && pass || fail "smaller batches" "$bytes: $(cat "$W/err")"
finish
