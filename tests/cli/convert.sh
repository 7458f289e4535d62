#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# convert.sh: `lbrx convert`, `split`, `join`: exit codes, one-line errors, what is left on the disk,
# interruption and --resume. Values are compared in test_convert.c and tests/peers.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# gone NAME PATH: nothing stands there, nor beside it under the names of an unfinished output.
gone() {
    for left in "$2" "$2".lbrx-*; do
        if [ -e "$left" ]; then
            fail "$1" "$left exists"
            return
        fi
    done
    pass
}

# tree NAME A B: two folders with equal files.
tree() {
    if diff -r "$2" "$3" >"$W/out" 2>"$W/err"; then pass; else fail "$1" "$2 and $3 differ"; fi
}

mkdir "$W/g"
make_model gguf llama "$W/g"
make_model hf llama "$W/hf" shard=300000
G=$W/g/model.gguf

# ---- usage ----
exits 2 "no model" "$LBRX" convert -o "$W/x"
exits 2 "no output" "$LBRX" convert "$W/hf"
complains "no output" "-o PATH"
exits 2 "unknown target" "$LBRX" convert "$W/hf" -o "$W/x" --to onnx
complains "unknown target" "onnx"
exits 2 "unknown dtype" "$LBRX" convert "$W/hf" -o "$W/x" --dtype f8
complains "unknown dtype" "f8"
exits 2 "set without a type" "$LBRX" convert "$G" -o "$W/x.gguf" --set general.name=x
complains "set without a type" "KEY=TYPE:VALUE"
exits 2 "set with a wrong type" "$LBRX" convert "$G" -o "$W/x.gguf" --set general.name=text:x
complains "set with a wrong type" "text"
exits 2 "set out of range" "$LBRX" convert "$G" -o "$W/x.gguf" --set a.b=u8:256
exits 2 "set no number" "$LBRX" convert "$G" -o "$W/x.gguf" --set a.b=f32:1.5x
exits 2 "set no truth" "$LBRX" convert "$G" -o "$W/x.gguf" --set a.b=bool:maybe
exits 2 "set beyond f32" "$LBRX" convert "$G" -o "$W/x.gguf" --set a.b=f32:1e39
exits 2 "set a blank" "$LBRX" convert "$G" -o "$W/x.gguf" --set "a.b=u8: 5"
exits 2 "set a key with a blank" "$LBRX" convert "$G" -o "$W/x.gguf" --set "a b=u8:5"
exits 2 "set a key of the layout" "$LBRX" convert "$G" -o "$W/x.gguf" --set split.count=u16:3
exits 2 "no room in a file" "$LBRX" convert "$W/hf" -o "$W/x" --max-shard-size 0
printf '\377\376' >"$W/bad.jinja"
exits 3 "template that is no text" "$LBRX" convert "$G" -o "$W/x.gguf" --chat-template "$W/bad.jinja"
exits 2 "template for a lone file" "$LBRX" convert "$W"/hf/model-00001-of-*.safetensors \
    -o "$W/x.safetensors" --chat-template "$W/bad.jinja"
exits 2 "unset an absent key" "$LBRX" convert "$G" -o "$W/x.gguf" --unset no.such
complains "unset an absent key" "no.such"
exits 2 "set for a folder" "$LBRX" convert "$G" -o "$W/x" --to hf --set a.b=u8:1
exits 2 "split without a size" "$LBRX" split "$G" -o "$W/x.gguf"
complains "split without a size" "--max-shard-size SIZE or --max-shard-tensors N"
ok "split by tensors" "$LBRX" split "$G" -o "$W/by.gguf" --max-shard-tensors 10 -q --no-sync
"$LBRX" inspect "$W"/by-00001-of-*.gguf --json >"$W/by.json"
have=$(grep -c '"file": "by-00002-of-' "$W/by.json")
[ "$have" = 10 ] && pass || fail "split by tensors" "$have in the second file"
ok "joined" "$LBRX" join "$W"/by-00001-of-*.gguf -o "$W/by.gguf" -q --no-sync
ok "joined" "$LBRX" diff "$W/by.gguf" "$G"
exits 2 "two ways to cut" "$LBRX" split "$G" -o "$W/by2.gguf" --max-shard-tensors 10 --max-shard-size 1MB
exits 2 "folders by size" "$LBRX" convert "$W/hf" -o "$W/x" --max-shard-tensors 10
exits 2 "join with a size" "$LBRX" join "$G" -o "$W/x.gguf" --max-shard-size 1MB
gone "usage leaves nothing" "$W/x"
gone "usage leaves no file" "$W/x.gguf"

# ---- tensors that the family does not have ----
make_model hf qwen3 "$W/q3" layers=2
sed -i 's/"Qwen3ForCausalLM"/"LlamaForCausalLM"/; s/"qwen3"/"llama"/' "$W/q3/config.json"
exits 0 "strange tensors go along" "$LBRX" convert "$W/q3" -o "$W/q3-mlx" --to mlx
complains "strange tensors are counted" "4 tensors that are none of the llama family's, the first model.layers."
exits 3 "strange tensors have no place" "$LBRX" convert "$W/q3" -o "$W/q3.gguf"
rm -rf "$W/q3" "$W/q3-mlx"

# ---- outputs that must not be written ----
mkdir "$W/there"
echo mine >"$W/there/thesis.tex"
exits 2 "folder exists" "$LBRX" convert "$W/hf" -o "$W/there"
complains "folder exists" "--force"
exits 2 "force keeps strangers" "$LBRX" convert "$W/hf" -o "$W/there" --force
complains "force keeps strangers" "thesis.tex"
[ "$(ls "$W/there")" = thesis.tex ] && pass || fail "the folder was touched" "$(ls "$W/there")"
echo mine >"$W/there.gguf"
exits 2 "file exists" "$LBRX" convert "$G" -o "$W/there.gguf"
complains "file exists" "--force"
[ "$(cat "$W/there.gguf")" = mine ] && pass || fail "the file was touched" ""
ok "force replaces a file" "$LBRX" convert "$G" -o "$W/there.gguf" --force
ok "the replaced file is a model" "$LBRX" inspect "$W/there.gguf"
exits 2 "output is the input" "$LBRX" convert "$W/hf" -o "$W/hf" --force
exits 2 "output inside the input" "$LBRX" convert "$W/hf" -o "$W/hf/out"
exits 2 "file inside the input" "$LBRX" convert "$W/hf" -o "$W/hf/out.safetensors"
exits 2 "output holds the input" "$LBRX" convert "$W/hf" -o "$W" --force
ln -s "$W/hf" "$W/link"
exits 2 "output inside, by a link" "$LBRX" convert "$W/hf" -o "$W/link/out"
ln "$G" "$W/hard.gguf"
exits 2 "output is the input, by another name" "$LBRX" convert "$G" -o "$W/hard.gguf" --force
gone "nothing inside the input" "$W/hf/out"

# ---- inputs that cannot be read ----
exits 3 "missing input" "$LBRX" convert "$W/absent" -o "$W/x"
complains "missing input" "absent"
head -c 100000 "$G" >"$W/cut.gguf"
exits 3 "cut GGUF" "$LBRX" convert "$W/cut.gguf" -o "$W/x" --to hf
complains "cut GGUF" "cut.gguf"
cp -R "$W/hf" "$W/cut"
for f in "$W"/cut/model-00002*; do
    head -c 5000 "$f" >"$W/short"
    mv "$W/short" "$f"
done
exits 3 "cut shard" "$LBRX" convert "$W/cut" -o "$W/x"
complains "cut shard" "model-00002"
cp -R "$W/hf" "$W/lost"
rm "$W"/lost/model-00001*
exits 3 "missing shard" "$LBRX" convert "$W/lost" -o "$W/x"
complains "missing shard" "model-00001"
mkdir "$W/odd"
safetensors "$W/odd/model.safetensors" '{"a.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}' \
    '\000\000\200\077\001\000\200\077\000\000\000\000\000\000\000\000'
echo '{"architectures":["OddForCausalLM"],"model_type":"odd"}' >"$W/odd/config.json"
exits 3 "unknown family to GGUF" "$LBRX" convert "$W/odd" -o "$W/x.gguf"
complains "unknown family to GGUF" "dd"
mkdir "$W/native"
cp "$W/odd/model.safetensors" "$W/native"
echo '{"dim": 2}' >"$W/native/params.json"
exits 3 "Mistral's own form" "$LBRX" convert "$W/native" -o "$W/x.gguf"
complains "Mistral's own form" "params.json"
ok "unknown family to MLX" "$LBRX" convert "$W/odd" -o "$W/odd-mlx" --to mlx
complains "unknown family to MLX" "of no known family"
exits 3 "lossless" "$LBRX" convert "$W/odd" -o "$W/x" --dtype bf16 --lossless
complains "lossless" "a.weight"
gone "lossless leaves nothing" "$W/x"
if grep -q resume "$W/err"; then fail "lossless" "advises to go on"; else pass; fi
gone "malformed input leaves nothing" "$W/x"

# ---- limits ----
exits 4 "tiny budget" "$LBRX" convert "$G" -o "$W/x" --to hf --memory 64KiB
complains "tiny budget" "at least"
exits 4 "no budget" "$LBRX" convert "$G" -o "$W/x" --to hf --memory 5
complains "no budget" "5 B"
gone "a plan that cannot fit leaves nothing" "$W/x"
least=$(sed -n 's/.*at least \([0-9]*\) MiB.*/\1/p' "$W/err")
ok "the named budget fits" "$LBRX" convert "$G" -o "$W/least" --to hf --memory "${least:-1}MiB"
ok "plenty" "$LBRX" convert "$G" -o "$W/most" --to hf
tree "budget changes no byte" "$W/least" "$W/most"

# ---- configs ----
cp -R "$W/hf" "$W/first"
cp "$GOLDEN/family/tokenizer.json" "$W/first"
echo '{"tokenizer_class": "PreTrainedTokenizerFast"}' >"$W/first/tokenizer_config.json"
sed 's/"bos_token_id":/"pad_token_id": -1, &/' "$W/hf/config.json" >"$W/first/config.json"
ok "-1 is no token" "$LBRX" convert "$W/first" -o "$W/first.gguf" \
    --set tokenizer.ggml.pre=str:gpt-2
ok "-1 is no token: keys" "$LBRX" inspect "$W/first.gguf" --metadata
says "-1 is no token" "tokenizer.ggml.bos_token_id"
if grep -q padding_token_id "$W/out"; then fail "-1 is no token" "it is one"; else pass; fi
sed 's/"bos_token_id":/"pad_token_id": -2, &/' "$W/hf/config.json" >"$W/first/config.json"
exits 3 "-2 is refused" "$LBRX" convert "$W/first" -o "$W/x.gguf"
complains "-2 is refused" "pad_token_id"

# ---- forms of the result ----
ok "json" "$LBRX" convert "$W/hf" -o "$W/j" --json --sha256
for field in output format tensors bytes_read bytes_written seconds peak_rss_bytes pool allocations \
    reuses peak_bytes outstanding bytes_moved; do
    says "json" "\"$field\":"
done
says "json" '"outstanding": 0'
[ "$(wc -l <"$W/out")" -eq 1 ] && pass || fail json "not one line"
[ -s "$W/j/SHA256SUMS" ] && pass || fail sha256 "no SHA256SUMS"
ok "json of one file" "$LBRX" convert "$G" -o "$W/j.gguf" --json --sha256
says "json of one file" '"sha256":'
ok "none" "$LBRX" convert "$W/hf" --to none --json
says "none" '"output": null'
ok "dry run" "$LBRX" convert "$G" -o "$W/dry" --to hf --dry-run
says "dry run" "model.layers.0.self_attn.q_proj.weight"
says "dry run" "peak memory"
gone "dry run" "$W/dry"
ok "quiet" "$LBRX" convert "$W/hf" -o "$W/q" -q
[ ! -s "$W/err" ] && pass || fail quiet "something on stderr"

# ---- named chat templates: a folder inside, which belongs to the model ----
cp -R "$W/hf" "$W/named"
mkdir "$W/named/additional_chat_templates"
printf '{{ a }}' >"$W/named/chat_template.jinja"
printf '{{ b }}' >"$W/named/additional_chat_templates/tool-use.jinja"
cat >"$W/named/tokenizer.json" <<'END'
{"version":"1.0","added_tokens":[],"normalizer":null,"post_processor":null,"decoder":{"type":"ByteLevel"},
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}
END
echo '{}' >"$W/named/tokenizer_config.json"
for to in hf mlx; do
    ok "templates to $to" "$LBRX" convert "$W/named" -o "$W/named-$to" --to $to --sha256
    tree "templates to $to" "$W/named/additional_chat_templates" "$W/named-$to/additional_chat_templates"
    ok "templates are part of a model" "$LBRX" convert "$W/named" -o "$W/named-$to" --to $to --force
done
ok "templates to gguf" "$LBRX" convert "$W/named-mlx" -o "$W/named.gguf" --to gguf
ok "templates from gguf" "$LBRX" convert "$W/named.gguf" -o "$W/named-hf" --to hf --force --sha256
ok "the tokenizer from gguf" cmp "$W/named/tokenizer.json" "$W/named-hf/tokenizer.json"
tree "templates from gguf" "$W/named/additional_chat_templates" "$W/named-hf/additional_chat_templates"
grep -q '  additional_chat_templates/tool-use.jinja$' "$W/named-hf/SHA256SUMS" && pass ||
    fail "sums of templates" "none in SHA256SUMS"
echo mine >"$W/named-hf/additional_chat_templates/notes.tex"
exits 2 "strangers among templates" "$LBRX" convert "$W/named" -o "$W/named-hf" --to hf --force
rm -r "$W"/named*

# ---- split and join ----
P="--no-provenance --no-sync"
# shellcheck disable=SC2086 # P is a list
{
    ok "plain copy" "$LBRX" convert "$G" -o "$W/one.gguf" $P
    ok split "$LBRX" split "$W/one.gguf" -o "$W/cuts.gguf" --max-shard-size 700KB $P
    n=$(find "$W" -name 'cuts-0*-of-*.gguf' | wc -l)
    [ "$n" -ge 3 ] && pass || fail split "$n files"
    ok join "$LBRX" join "$W"/cuts-00001-of-*.gguf -o "$W/again.gguf" $P
    same "split and join of GGUF" "$W/one.gguf" "$W/again.gguf"
    ok "how it was made" "$LBRX" join "$W"/cuts-00001-of-*.gguf -o "$W/made.gguf" --no-sync
    ok "how it was made" "$LBRX" inspect "$W/made.gguf" --metadata
    says "how it was made" 'lbrx.operation str = "join --to gguf"'
    ok "how it was made, lossless" "$LBRX" convert "$W/one.gguf" -o "$W/made2.gguf" --lossless --no-sync
    ok "how it was made, lossless" "$LBRX" inspect "$W/made2.gguf" --metadata
    says "how it was made, lossless" "lbrx.operation str = \"convert --to gguf --lossless\""
    exits 2 "a part that is not the first" "$LBRX" convert "$W"/cuts-00002-of-*.gguf -o "$W/x.gguf"
    exits 2 "parts exist" "$LBRX" split "$W/one.gguf" -o "$W/cuts.gguf" --max-shard-size 700KB $P
    ok "join a folder" "$LBRX" join "$W/hf" -o "$W/whole" $P
    [ -f "$W/whole/model.safetensors" ] && pass || fail "join a folder" "no model.safetensors"
    ok "split a folder" "$LBRX" split "$W/whole" -o "$W/parts" --max-shard-size 300KB $P
    ok "join it again" "$LBRX" join "$W/parts" -o "$W/whole2" $P
    tree "split and join of a folder" "$W/whole" "$W/whole2"
}

# ---- a plain copy ----
cp -R "$W/hf" "$W/texts"
printf '{"a" :  1e-05, "model_type": "llama", "x": 1000000000000000019884624838656,\n\t"y": [ ] }' \
    >"$W/texts/config.json"
printf '{"tokenizer_class":"X", "model_max_length": 1000000000000000019884624838656}' \
    >"$W/texts/tokenizer_config.json"
printf '\357\273\277 no JSON at all' >"$W/texts/notes.txt"
for flags in "" "--max-shard-size 300KB" "--to hf --no-sync"; do
    rm -rf "$W/texts2"
    # shellcheck disable=SC2086
    ok "plain copy $flags" "$LBRX" convert "$W/texts" -o "$W/texts2" $flags
    for f in config.json tokenizer_config.json notes.txt; do
        same "plain copy $flags: $f" "$W/texts/$f" "$W/texts2/$f"
    done
done

# ---- codes of others, copied: said ----
mkdir "$W/fp8"
safetensors "$W/fp8/model.safetensors" '{"x.weight":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]},"x.weight_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' \
    '\070\070\070\070\000\000\200\077'
echo '{"model_type":"odd","quantization_config":{"quant_method":"fp8","weight_block_size":[2,2]}}' >"$W/fp8/config.json"
ok "codes are copied" "$LBRX" convert "$W/fp8" -o "$W/fp8-copy"
complains "codes are copied" "1 quantized tensors are copied as they are: --dtype bf16"
same "codes are copied" "$W/fp8/config.json" "$W/fp8-copy/config.json"
ok "codes become values" "$LBRX" convert "$W/fp8" -o "$W/fp8-values" --dtype bf16 --lossless
[ -s "$W/err" ] && fail "codes become values" "something is said" || pass

exits 2 "--base of no adapter" "$LBRX" convert "$W/fp8" -o "$W/none" --base "$W/fp8"
complains "--base of no adapter" "'fp8' is none"

# ---- codes of MLX ----
mkdir "$W/codes"
safetensors "$W/codes/model.safetensors" '{"x.weight":{"dtype":"U32","shape":[2,4],"data_offsets":[0,32]},"x.scales":{"dtype":"F16","shape":[2,1],"data_offsets":[32,36]},"x.biases":{"dtype":"F16","shape":[2,1],"data_offsets":[36,40]}}' \
    "$(printf '\\000%.0s' 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9)"
echo '{"model_type":"odd","quantization":{"group_size":32,"bits":4}}' >"$W/codes/config.json"
ok "codes are kept" "$LBRX" convert "$W/codes" -o "$W/codes2"
same "codes are kept" "$W/codes/config.json" "$W/codes2/config.json"
for to in hf mlx; do
    ok "codes to bf16, $to" "$LBRX" convert "$W/codes" -o "$W/plain-$to" --to $to --dtype bf16
    if grep -q quantization "$W/plain-$to/config.json"; then
        fail "codes to bf16, $to" "the config still says quantized"
    else
        pass
    fi
done

# ---- interruption ----
make_model hf qwen3 "$W/big" sparse=1 layers=8 hidden=768 ffn=2048 heads=12 vocab=16000
ok "uninterrupted" "$LBRX" convert "$W/big" -o "$W/straight" --dtype f32 --no-sync
tries=0 code=0
while [ "$tries" -lt 8 ]; do
    tries=$((tries + 1))
    "$LBRX" convert "$W/big" -o "$W/stopped" --dtype f32 --no-sync -t 1 -q >"$W/out" 2>"$W/err" &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        if [ -f "$W/stopped.lbrx-journal" ] && [ "$(wc -l <"$W/stopped.lbrx-journal")" -gt 3 ]; then
            kill -INT $pid 2>/dev/null
            break
        fi
    done
    wait $pid
    code=$?
    [ "$code" = 130 ] && break
    rm -rf "$W/stopped" "$W"/stopped.lbrx-*
done
if [ "$code" = 130 ]; then
    pass
    complains interrupted "--resume"
    [ "$(wc -l <"$W/err")" -eq 1 ] && pass || fail interrupted "not one line on stderr"
    [ ! -e "$W/stopped" ] && pass || fail interrupted "the output stands under its name"
    exits 3 "another plan's journal" "$LBRX" convert "$W/big" -o "$W/stopped" --dtype f16 --resume
    complains "another plan's journal" "without --resume"
    ok resume "$LBRX" convert "$W/big" -o "$W/stopped" --dtype f32 --no-sync --resume --json
    if grep -q '"tensors_kept": 0' "$W/out"; then fail resume "nothing was kept"; else pass; fi
    tree "resumed bytes" "$W/straight" "$W/stopped"
    gone "resume clears up" "$W/stopped.lbrx-journal"
else
    fail interrupted "exit $code in each of $tries runs"
fi

finish
