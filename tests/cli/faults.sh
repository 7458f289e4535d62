#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# faults.sh: the program on full disks, at limits of the system, killed at any moment; splits that
# replace others. The engine's own calls fail one by one in tests/unit/test_fault_*.c.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

# nothing NAME PATH: nothing stands under the final name.
nothing() {
    if [ -e "$2" ]; then fail "$1" "$2 exists"; else pass; fi
}

# tree NAME A B: two folders with equal files.
tree() {
    if diff -r "$2" "$3" >"$W/out" 2>"$W/err"; then pass; else fail "$1" "$2 and $3 differ"; fi
}

make_model hf llama "$W/hf" shard=300000
mkdir "$W/g" "$W/d"
make_model gguf llama "$W/g"
G=$W/g/model.gguf
ok "straight" "$LBRX" convert "$W/hf" -o "$W/straight" --dtype f32 --sha256
ok "straight file" "$LBRX" convert "$G" -o "$W/straight.gguf" --no-sync
size=$(wc -c <"$W/straight.gguf")

# ---- a limit on the size of files: as a full disk, not a signal ----
exits 1 "file size limit" sh -c 'ulimit -f 1000; exec "$LBRX" convert "$1" -o "$2"' sh "$G" "$W/lim.gguf"
complains "file size limit" "lim.gguf.lbrx-partial"
nothing "file size limit" "$W/lim.gguf"
ok "without the limit" "$LBRX" convert "$G" -o "$W/lim.gguf" --resume --no-sync
same "without the limit" "$W/straight.gguf" "$W/lim.gguf"

# ---- a disk of our own ----
pages=$(((size + 4095) / 4096 * 4))
if mount -t tmpfs -o "size=${pages}k" tmpfs "$W/d" 2>/dev/null; then
    # The data fit, but nothing beside them.
    exits 1 "disk full" "$LBRX" convert "$G" -o "$W/d/x.gguf"
    complains "disk full" "No space left"
    complains "disk full" "x.gguf.lbrx-"
    nothing "disk full" "$W/d/x.gguf"
    mount -o "remount,size=$((pages + 200))k" "$W/d"
    ok "more room" "$LBRX" convert "$G" -o "$W/d/x.gguf" --resume
    same "more room" "$W/straight.gguf" "$W/d/x.gguf"
    rm "$W/d/x.gguf"
    mount -o "remount,size=$((pages / 2))k" "$W/d"
    exits 4 "seen beforehand" "$LBRX" convert "$G" -o "$W/d/x.gguf"
    complains "seen beforehand" "not enough disk space"
    [ -z "$(ls "$W/d")" ] && pass || fail "seen beforehand" "$(ls "$W/d")"
    mount -o "remount,size=$((pages + 200))k,ro" "$W/d"
    exits 1 "read-only disk" "$LBRX" convert "$G" -o "$W/d/x.gguf"
    complains "read-only disk" "x.gguf"
    umount "$W/d"
else
    skip "a full disk" "cannot mount a tmpfs here"
fi

# ---- killed at any moment, again and again ----
rounds=6
[ -z "${LB_TEST_LONG:-}" ] || rounds=100
i=0 kills=0
while [ "$i" -lt "$rounds" ]; do
    i=$((i + 1)) tries=0
    rm -rf "$W/k" "$W"/k.lbrx-*
    while [ ! -e "$W/k/SHA256SUMS" ] || [ -e "$W/k.lbrx-journal" ]; do
        tries=$((tries + 1))
        "$LBRX" convert "$W/hf" -o "$W/k" --dtype f32 --sha256 --resume -q -t $((1 + tries % 3)) \
            --memory $((64 + tries % 2 * 300))MiB >"$W/out" 2>"$W/err" &
        pid=$!
        if [ "$tries" -lt 40 ]; then
            sleep "0.0$(((i * 7 + tries * 3) % 10))$((i % 10))"
            kill -9 $pid 2>/dev/null && kills=$((kills + 1))
        fi
        wait $pid 2>/dev/null
        [ "$tries" -lt 60 ] || break
    done
    tree "killed" "$W/straight" "$W/k"
done
[ "$kills" -gt 0 ] && pass || fail killed "never in time"

# ---- a split that replaces another ----
mkdir "$W/s"
ok "split" "$LBRX" split "$G" -o "$W/s/m.gguf" --max-shard-size 700kB --no-sync
n=$(find "$W/s" -name 'm-*-of-*.gguf' | wc -l)
exits 2 "split again" "$LBRX" split "$G" -o "$W/s/m.gguf" --max-shard-size 300kB
complains "split again" "m-00001-of-0000$n.gguf' exists"
ok "split by force" "$LBRX" split "$G" -o "$W/s/m.gguf" --max-shard-size 300kB --force --no-sync
more=$(find "$W/s" -name 'm-*-of-*.gguf' | wc -l)
[ "$more" -gt "$n" ] && [ ! -e "$W/s/m-00001-of-0000$n.gguf" ] && pass ||
    fail "split by force" "old parts remain"
ok "its parts are whole" "$LBRX" join "$W"/s/m-00001-of-*.gguf -o "$W/joined.gguf" --no-sync
ok "its parts are whole" "$LBRX" diff "$G" "$W/joined.gguf"
exits 2 "split over its input" "$LBRX" split "$W"/s/m-00001-of-*.gguf -o "$W/s/m.gguf" --max-shard-size 700kB --force
complains "split over its input" "the input"

# ---- an input under a name that would be removed ----
cp "$G" "$W/p.gguf.lbrx-partial"
exits 2 "input is the partial" "$LBRX" convert "$W/p.gguf.lbrx-partial" -o "$W/p.gguf"
same "input is the partial" "$G" "$W/p.gguf.lbrx-partial"
cp -R "$W/hf" "$W/q.lbrx-partial"
exits 2 "input is the partial folder" "$LBRX" convert "$W/q.lbrx-partial" -o "$W/q"
tree "input is the partial folder" "$W/hf" "$W/q.lbrx-partial"

# ---- links to the input ----
ln -s "$G" "$W/link.gguf"
exits 2 "output is a link to the input" "$LBRX" convert "$G" -o "$W/link.gguf" --force
ln -s "$W/hf" "$W/link"
exits 2 "output is a link to the input folder" "$LBRX" convert "$W/hf" -o "$W/link" --force
echo mine >"$W/other.gguf"
ln -s "$W/other.gguf" "$W/over.gguf"
exits 2 "output is a link" "$LBRX" convert "$G" -o "$W/over.gguf"
ok "a link is replaced, not followed" "$LBRX" convert "$G" -o "$W/over.gguf" --force --no-sync
same "a link is replaced, not followed" "$W/straight.gguf" "$W/over.gguf"
[ "$(cat "$W/other.gguf")" = mine ] && pass || fail "a link" "was followed"

# ---- one tensor of more than 1 GiB (long) ----
if [ -n "${LB_TEST_LONG:-}" ]; then
    make_model hf llama "$W/big" sparse=1 layers=1 hidden=2048 heads=16 ffn=2048 vocab=600000 tied=1
    ok "large" "$LBRX" convert "$W/big" -o "$W/large" --dtype f16 --no-sync
    "$LBRX" convert "$W/big" -o "$W/cut" --dtype f16 --no-sync -q >"$W/out" 2>"$W/err" &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        grep -q '^span' "$W/cut.lbrx-journal" 2>/dev/null && kill -9 $pid 2>/dev/null
    done
    wait $pid 2>/dev/null
    if grep -q '^span' "$W/cut.lbrx-journal"; then pass; else fail large "no span"; fi
    ok "large, resumed" "$LBRX" convert "$W/big" -o "$W/cut" --dtype f16 --no-sync --resume -t 1 --memory 96MiB --json
    read=$(sed -n 's/.*"bytes_written": \([0-9]*\).*/\1/p' "$W/out")
    [ "${read:-0}" -lt 1500000000 ] && pass || fail "large, resumed" "all was written again"
    tree "large, resumed" "$W/large" "$W/cut"
fi
finish
