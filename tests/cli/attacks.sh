#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# attacks.sh: files made to break readers, after the advisories against other programs: each is
# refused with exit 3 and one line that names the file and the place. What makes a value hostile is
# tried through all its forms in test_gguf, test_safetensors and test_damage; here are the commands.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# le BYTES VALUE: little-endian, VALUE below 2^63; ones BYTES: all bits set.
le() {
    i=0 v=$2
    while [ $i -lt "$1" ]; do
        # shellcheck disable=SC2059
        printf "\\$(printf %03o $((v % 256)))"
        v=$((v / 256)) i=$((i + 1))
    done
}
ones() {
    i=0
    while [ $i -lt "$1" ]; do
        printf '\377'
        i=$((i + 1))
    done
}
zeros() {
    head -c "$1" /dev/zero
}
str() {
    le 8 ${#1}
    printf %s "$1"
}
# GGUF: head TENSORS PAIRS; info NAME TYPE OFFSET DIM..., fastest first; pairs.
head3() {
    printf GGUF
    le 4 3
    le 8 "$1"
    le 8 "$2"
}
info() {
    str "$1"
    type=$2 off=$3
    shift 3
    le 4 $#
    for dim; do le 8 "$dim"; done
    le 4 "$type"
    le 8 "$off"
}
kv_u32() {
    str "$1"
    le 4 4
    le 4 "$2"
}
kv_str() {
    str "$1"
    le 4 8
    str "$2"
}

# refuses NAME FILE TEXT: inspect and convert, one line with the file's name and TEXT, no output.
refuses() {
    exits 3 "$1" "$LBRX" inspect "$2" || return
    if [ "$(wc -l <"$W/err")" != 1 ]; then
        fail "$1" "more than one line"
    fi
    complains "$1" "$(basename "$2")"
    complains "$1" "$3"
    exits 3 "$1, convert" "$LBRX" convert "$2" -o "$W/made" --to hf
    exits 3 "$1, verify" "$LBRX" verify "$2"
    [ ! -e "$W/made" ] || fail "$1" "an output was made"
}

# ---- GGUF ----
g=$W/x.gguf
{
    head3 1 0
    info wraps 0 0 4294967296 4294967296 # CVE-2024-21802
    zeros 4096
} >"$g"
refuses "product of dimensions" "$g" "'wraps'"
{
    head3 1 0
    info huge 24 0 1 4611686018427387904 # CVE-2026-33298
    zeros 4096
} >"$g"
refuses "bytes of a tensor" "$g" "'huge'"
{
    head3 3 0
    info a 25 0 4611686018427387904 # CVE-2025-53630, CVE-2026-27940
    info b 25 9223372036854775807 4611686018427387904
    info c 0 0 16
    zeros 4096
} >"$g"
refuses "sum of tensors" "$g" "tensor"
{
    printf GGUF
    le 4 3
    ones 8 # CVE-2024-23496
    le 8 0
    zeros 64
} >"$g"
refuses "number of tensors" "$g" "tensors do not fit"
{
    printf GGUF
    le 4 3
    le 8 0
    ones 8 # CVE-2024-23605
    zeros 64
} >"$g"
refuses "number of pairs" "$g" "pairs do not fit"
{
    head3 0 1
    ones 8 # CVE-2024-21825
    zeros 64
} >"$g"
refuses "length of a key" "$g" "cut off"
{
    head3 0 1
    str k
    le 4 8
    ones 8
    zeros 64
} >"$g"
refuses "length of a string" "$g" "cut off"
{
    head3 0 1
    str k
    le 4 9
    le 4 4
    le 8 4611686018427387904 # CVE-2024-21836, ollama 17042
    zeros 64
} >"$g"
refuses "length of an array" "$g" "key 'k'"
{
    head3 0 1
    str nest
    le 4 9
    le 4 9
    le 8 1
    zeros 64
} >"$g"
refuses "array of arrays" "$g" "nest"
{
    head3 1 1
    kv_u32 general.alignment 0
    info t 0 0 1
    zeros 64
} >"$g"
refuses "alignment 0" "$g" "general.alignment"
{
    head3 1 0
    info five 0 0 1 1 1 1 1 # gguflib, openvino 4170
    zeros 64
} >"$g"
refuses "five dimensions" "$g" "'five'"
{
    head3 2 0 # CVE-2026-7482: bytes beyond the file would be read and written into a model
    info inside 0 0 8
    info beyond 0 32 4096
    zeros 256
} >"$g"
refuses "range beyond the file" "$g" "'beyond'"
{
    head3 1 0
    info off 0 9223372036854775776 8
    zeros 256
} >"$g"
refuses "offset that wraps" "$g" "'off'"
printf 'GGUF\003\000\000\000' >"$g"
refuses "only a head" "$g" "cut off"

# A model that is whole but for a number of its metadata.
model() {
    head3 1 $((7 + $1))
    kv_str general.architecture llama
    kv_u32 llama.block_count "$2"
    kv_u32 llama.embedding_length 32
    kv_u32 llama.feed_forward_length 32
    kv_u32 llama.attention.head_count "$3"
    kv_u32 llama.context_length 64
    str llama.attention.layer_norm_rms_epsilon
    le 4 6
    le 4 925353388 # 1e-5
}
# bad NAME TEXT: convert refuses it, naming the file and TEXT.
bad() {
    exits 3 "$1" "$LBRX" convert "$g" -o "$W/made" --to hf
    complains "$1" "$2"
    complains "$1" x.gguf
    [ ! -e "$W/made" ] || fail "$1" "an output was made"
}
{
    model 0 4000000000 2 # llama.cpp 25821: layers beyond a fixed array
    info token_embd.weight 0 0 32 1
    zeros 256
} >"$g"
bad "too many layers" "layers"
{
    model 0 1 0
    info token_embd.weight 0 0 32 1
    zeros 256
} >"$g"
bad "no heads" "attention.head_count"
{
    model 2 1 2
    kv_str tokenizer.ggml.model llama
    str tokenizer.ggml.tokens
    le 4 9
    le 4 0 # llama.cpp 26690: u8 where strings belong
    le 8 4
    zeros 4
    info token_embd.weight 0 0 32 1
    zeros 512
} >"$g"
bad "tokens of another type" "tokenizer.ggml.tokens"
{
    head3 0 1
    kv_str "$(printf 'bad\nkey\033[2J')" x
} >"$g"
ok "control bytes in a key" "$LBRX" inspect "$g"
if LC_ALL=C grep -q "$(printf '\033')" "$W/out"; then
    fail "control bytes in a key" "an escape reached the terminal"
fi

# ---- safetensors ----
s=$W/x.safetensors
one='{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
safetensors "$s" '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}' 1234
refuses "shape that wraps" "$s" "'a'"
safetensors "$s" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' 12345678
refuses "a hole" "$s" "'a'"
safetensors "$s" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}' 123456
refuses "overlap" "$s" "'b'"
safetensors "$s" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}' 12345678
refuses "end before begin" "$s" "'a'"
safetensors "$s" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}}' 1234
refuses "offset 2^64-1" "$s" "'a'"
safetensors "$s" '{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}' 1
refuses "half a byte" "$s" "'a'"
safetensors "$s" "$one" 1234tail
refuses "bytes behind the data" "$s" ""
safetensors "$s" "$one" 12
refuses "cut off" "$s" ""
safetensors "$s" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' 12345678
refuses "a name twice" "$s" "twice"
safetensors "$s" '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}' 1234
refuses "a negative dimension" "$s" "'a'"
safetensors "$s" '{"__metadata__":{"format":1},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' 1234
refuses "metadata that is no text" "$s" "__metadata__"
safetensors "$s" "{\"$(printf '\377')\":1}" ''
refuses "no UTF-8" "$s" ""
safetensors "$s" " $one" 1234
refuses "white space first" "$s" ""
{
    ones 8
    printf '{}'
} >"$s"
refuses "header of 2^64-1 bytes" "$s" ""
{
    le 8 1
    printf '{'
} >"$s"
refuses "header of one byte" "$s" ""
{
    le 8 100000001
    printf '{'
    zeros 100000000
} >"$s"
refuses "header of 100 MB" "$s" ""
safetensors "$s" "$(awk 'BEGIN { for (i = 0; i < 300; i++) printf "{\"a\":"; printf "1" }')" ''
refuses "deep nesting" "$s" ""

# ---- folders ----
f=$W/folder
mkdir "$f"
echo '{}' >"$f/config.json"
safetensors "$W/secret.safetensors" "$one" 1234
for shard in ../secret.safetensors "$W/secret.safetensors" 'sub\\secret.safetensors' .. ''; do
    printf '{"weight_map":{"a":"%s"}}' "$shard" >"$f/model.safetensors.index.json"
    exits 3 "index names '$shard'" "$LBRX" inspect "$f"
    complains "index names '$shard'" "model.safetensors.index.json"
done
rm "$f/model.safetensors.index.json"
safetensors "$f/model.safetensors" "$one" 1234
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "[" }' >"$f/config.json"
exits 3 "deep config" "$LBRX" inspect "$f"
complains "deep config" "config.json"
# ---- names that would forge lines, ids of no token ----
safetensors "$W/lines.safetensors" '{"a\u001b[2J\nlbrx: done":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' '1234'
ok "a line's end in a name" "$LBRX" convert "$W/lines.safetensors" -o "$W/lines2.safetensors" --dry-run
says "a line's end in a name" 'a\x1b[2J\x0albrx: done f32 [1] <- copy <- read a\x1b[2J\x0albrx: done'
make_model gguf llama "$W/ids"
ok "ids of no token" "$LBRX" convert "$W/ids/model.gguf" -o "$W/ids.gguf" -q \
    --set tokenizer.ggml.padding_token_id=u32:4294967295 --set tokenizer.ggml.bos_token_id=u32:320
ok "ids of no token, to HF" "$LBRX" convert "$W/ids.gguf" -o "$W/ids-hf" --to hf
complains "ids of no token, to HF" "tokenizer.ggml.padding_token_id is 4294967295, which no token has: left out"
complains "ids of no token, to HF" "tokenizer.ggml.bos_token_id is 320, which no token has: left out"
if grep -e '"pad_token_id"' -e '"bos_token_id"' "$W"/ids-hf/*config.json; then fail "ids of no token" "in the config"; else pass; fi
finish
