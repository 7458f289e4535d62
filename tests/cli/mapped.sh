#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mapped.sh: files of a model that go away while it runs: one line and exit code 1, no core dump.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
LOGITS=${LOGITS:-$root/build/cc/tests/logits}

file=$GOLDEN/logits/llama.json
label=$("$LOGITS" list "$file" | awk '$2 == "bpe" { print $1; exit }')
mkdir "$W/hf"
cp "$GOLDEN/family/tokenizer.json" "$GOLDEN/family/tokenizer_config.json" "$W/hf"
"$LOGITS" make "$file" "$label" "$W/hf" || exit 1
ok "gguf" "$LBRX" convert "$W/hf" -o "$W/x.gguf" --to gguf --dtype f32 --no-sync -q --set tokenizer.ggml.pre=str:gpt-2

for m in gguf hf; do
    if [ $m = gguf ]; then model=$W/cut.gguf path=$model; else model=$W/cut path=$W/cut/model.safetensors; fi
    cp -r "$W/$([ $m = gguf ] && echo x.gguf || echo hf)" "$model"
    size=$(wc -c <"$path")
    ends_running "$m: cut" "$model" "--ctx 60000" truncate -s 100 "$path"
    complains "$m: cut" "lbrx: $path: was cut to 100 bytes while it was in use: it had $size"
done

# No half of a file of logits stays, nor its journal.
cats 12 >"$W/line"
i=0
while [ $i -lt 2000 ]; do
    cat "$W/line"
    i=$((i + 1))
done >"$W/text"
cp "$W/x.gguf" "$W/cut.gguf"
mkdir "$W/logits"
"$LBRX" perplexity "$W/cut.gguf" -f "$W/text" --ctx 64 --save-logits "$W/logits/z" -q >"$W/out" 2>"$W/err" </dev/null &
pid=$!
while [ ! -e "$W/logits/z.lbrx-partial" ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
truncate -s 100 "$W/cut.gguf"
wait $pid
got=$?
if [ $got = 1 ]; then pass; else fail "logits" "exit $got, expected 1"; fi
complains "logits" "was cut to 100 bytes"
if [ -z "$(ls -A "$W/logits")" ]; then pass; else fail "logits" "left behind: $(ls "$W/logits")"; fi

# Nothing stands in the way of a file that is replaced: its pages stay.
cp "$W/x.gguf" "$W/moved.gguf"
answer() {
    rm -f "$W/out"
    "$LBRX" generate "$W/moved.gguf" -p "the cat sat on" -n 600 --temp 0 --ignore-eos >"$W/out" 2>"$W/err" </dev/null &
    pid=$!
    while [ ! -s "$W/out" ] && kill -0 $pid 2>/dev/null; do sleep 0.05; done
    mv "$W/moved.gguf" "$W/elsewhere.gguf"
    cp "$GOLDEN/logits/llama.json" "$W/moved.gguf"
    wait $pid
}
if answer; then pass; else fail "replaced" "exit $?"; fi
finish
