#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pull.sh: fetching a model from a server that speaks the hub's API (tests/tool/hub_server.c), with
# what can go wrong on the way.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
HUB_SERVER=${HUB_SERVER:-$root/build/cc/tests/hub_server}
commit=0123456789abcdef0123456789abcdef01234567
unset HF_TOKEN HF_HOME XDG_CACHE_HOME http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY
server=

# serve FAULT...: a fresh server with a fresh log.
serve() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -f "$W/port" "$W/log"*
    "$HUB_SERVER" "$W/hub" "$W/port" "$W/log" "$@" &
    server=$!
    i=0
    while [ ! -s "$W/port" ] && [ $i -lt 100 ]; do
        i=$((i + 1))
        sleep 0.05
    done
    HF_ENDPOINT=http://127.0.0.1:$(cat "$W/port")
    export HF_ENDPOINT
}

# fresh NAME: an empty cache.
fresh() {
    HF_HUB_CACHE=$W/cache-$1
    rm -rf "$HF_HUB_CACHE"
    export HF_HUB_CACHE
    snap=$HF_HUB_CACHE/models--some--Tiny/snapshots/$commit
}

model=$W/hub/some/Tiny
mkdir -p "$model/original" "$model/onnx"
make_model hf llama "$W/made" layers=2 hidden=256
cp "$W/made"/* "$model"
echo '# Tiny' >"$model/README.md"
echo 'old' >"$model/pytorch_model.bin"
echo 'older' >"$model/original/params.json"
: >"$model/.gitattributes"
printf 'a b' >"$model/odd name+.txt"

serve
fresh plain
if ! "$LBRX" pull hf://some/Tiny >"$W/out" 2>"$W/err" && grep -q libcurl "$W/err"; then
    kill "$server"
    skip everything "no libcurl on this machine"
    finish
fi
fresh plain
ok "pull" "$LBRX" pull hf://some/Tiny
says "the snapshot's path" "$snap"
for f in config.json model.safetensors README.md "odd name+.txt" .gitattributes; do
    same "$f" "$model/$f" "$snap/$f"
    [ -L "$snap/$f" ] && pass || fail "$f" "is no link"
done
[ ! -e "$snap/pytorch_model.bin" ] && pass || fail "second form" "was fetched"
complains "what was left aside" "2 of"
[ "$(cat "$HF_HUB_CACHE/models--some--Tiny/refs/main")" = $commit ] && pass || fail refs "not written"
sum=$(sha256sum "$model/model.safetensors" 2>/dev/null || shasum -a 256 "$model/model.safetensors")
[ "$(readlink "$snap/model.safetensors")" = "../../blobs/${sum%% *}" ] && pass || fail link "leads elsewhere"
find "$HF_HUB_CACHE" -name '*.incomplete' -o -name '*partial*' | grep . >"$W/out" &&
    fail leftovers "there are some" || pass
: >"$W/log"
ok "again" "$LBRX" pull some/Tiny --json
says "nothing fetched" '"bytes_fetched": 0'
[ "$(grep -c . "$W/log")" = 1 ] && pass || fail "again" "asked for more than the list"
ok "the model is read from there" "$LBRX" inspect hf://some/Tiny
ok "all" "$LBRX" pull hf://some/Tiny --all -q
same "a file in a folder" "$model/original/params.json" "$snap/original/params.json"
fresh other
ok "dry run" "$LBRX" pull hf://some/Tiny --dry-run
says "dry run" "skipped"
[ ! -e "$HF_HUB_CACHE" ] && pass || fail "dry run" "wrote something"
ok "by commit" "$LBRX" pull hf://some/Tiny --revision $commit --include '*.json' --exclude 'tok*'
[ -e "$snap/config.json" ] && [ ! -e "$snap/model.safetensors" ] && pass || fail include "wrong files"
fresh file
ok "one file" "$LBRX" pull hf://some/Tiny/config.json
[ "$(find "$snap" -type l | wc -l)" -eq 1 ] && pass || fail "one file" "more than one"

# Nothing to fetch and nothing to write: the ref stays the file that it is.
fresh ref
ok "for the ref" "$LBRX" pull hf://some/Tiny -q
ref=$HF_HUB_CACHE/models--some--Tiny/refs/main
inode=$(ls -i "$ref")
ok "again, for the ref" "$LBRX" pull hf://some/Tiny -q
[ "$(ls -i "$ref")" = "$inode" ] && pass || fail "ref" "written again"
# Links and the ref made by several at once.
n=0
while [ $n -lt 5 ]; do
    n=$((n + 1))
    rm -rf "$HF_HUB_CACHE/models--some--Tiny/snapshots" "$ref"
    for i in 1 2 3 4; do
        "$LBRX" pull hf://some/Tiny -q >/dev/null 2>>"$W/many" &
        eval "many$i=$!"
    done
    # shellcheck disable=SC2154
    for i in $many1 $many2 $many3 $many4; do
        wait "$i" && pass || fail "four at once" "$(cat "$W/many")"
    done
    same "four at once" "$model/model.safetensors" "$snap/model.safetensors"
done

# Files of GGUF are not fetched all together where one model is wanted.
mkdir -p "$W/hub/some/Quants"
printf GGUF >"$W/hub/some/Quants/a.gguf"
printf GGUF >"$W/hub/some/Quants/b.gguf"
exits 3 "which of them" "$LBRX" inspect hf://some/Quants
complains "which of them" "hf://some/Quants/a.gguf"
[ ! -e "$HF_HUB_CACHE/models--some--Quants/blobs" ] && pass || fail "which of them" "fetched"
ok "all of them" "$LBRX" pull hf://some/Quants -q

# A command fetches what it is given.
fresh auto
exits 3 "a dry run fetches nothing" "$LBRX" convert hf://some/Tiny --dry-run -o "$W/copy"
complains "a dry run fetches nothing" "lbrx pull hf://some/Tiny"
[ ! -e "$HF_HUB_CACHE" ] && pass || fail "dry run" "wrote something"
ok "inspect fetches" "$LBRX" inspect hf://some/Tiny
ok "convert" "$LBRX" convert hf://some/Tiny -o "$W/copy" -q
ok "copied" "$LBRX" diff "$model" "$W/copy"

# What of a model is in the cache already (its tokenizer and index, fetched by another tool) is completed.
mkdir -p "$W/hub/some/Parts"
make_model hf llama "$W/parts" layers=2 hidden=128 shard=300000
cp "$W/parts"/* "$W/hub/some/Parts"
fresh parts
ok "a part of it" "$LBRX" pull hf://some/Parts --include '*.json' -q
ok "the rest of it" "$LBRX" inspect hf://some/Parts
says "the rest of it" "some/Parts"

# The token goes to the hub and nowhere else, and is never shown.
serve private
fresh private
exits 3 "no token" "$LBRX" pull hf://some/Tiny
complains "no token" "HF_TOKEN"
HF_TOKEN=wrong exits 3 "wrong token" "$LBRX" pull hf://some/Tiny
grep -q wrong "$W/err" && fail "wrong token" "is shown" || pass
HF_TOKEN=secret ok "token" "$LBRX" pull hf://some/Tiny
grep -q secret "$W/err" "$W/out" && fail token "is shown" || pass
grep '^GET /cdn/' "$W/log" | grep -q token && fail token "was sent to another host" || pass
grep '^GET /some/' "$W/log" | grep -qv 'token$' && fail token "was not sent to the hub" || pass

# The file that `hf auth login` writes, unless the variable says otherwise; blanks around it are none of it.
mkdir -p "$W/home" "$W/xdg/huggingface"
printf '\nsecret \r\n' >"$W/home/token"
printf 'secret' >"$W/xdg/huggingface/token"
fresh tokenfile
HF_HOME=$W/home ok "token of a file" "$LBRX" pull hf://some/Tiny
grep -q secret "$W/err" "$W/out" && fail "token of a file" "is shown" || pass
fresh tokenfile
XDG_CACHE_HOME=$W/xdg HF_TOKEN='' ok "token of another file" "$LBRX" pull hf://some/Tiny -q
fresh tokenfile
# shellcheck disable=SC2088 # not expanded: the point
HOME=$W HF_HOME='~/home' ok "token of a file under ~" "$LBRX" pull hf://some/Tiny -q
fresh tokenfile
HF_TOKEN='secret
' ok "a token with a line's end" "$LBRX" pull hf://some/Tiny -q
fresh tokenfile
HF_HOME=$W/home HF_TOKEN=wrong exits 3 "the variable comes first" "$LBRX" pull hf://some/Tiny
complains "the variable comes first" "the present one may not"
: >"$W/home/token"
HF_HOME=$W/home exits 3 "an empty file" "$LBRX" pull hf://some/Tiny
complains "an empty file" "hf auth login"

# Too many requests: what the hub asks to wait is waited for, within reason.
serve wait=1
fresh wait
ok "429" "$LBRX" pull hf://some/Tiny --include config.json
complains "429" "note: 127.0.0.1:$(cat "$W/port") asks to wait 1 s (status 429)"
same "429" "$model/config.json" "$snap/config.json"
serve wait=86400
fresh wait
exits 1 "429 for a day" timeout 20 "$LBRX" pull hf://some/Tiny
complains "429 for a day" "asks to come back in 86400 s"

# Names that are no sums: said, and the size is compared.
serve odd
fresh odd
ok "odd names" "$LBRX" pull hf://some/Tiny
complains "odd names" "the hub gives no sum for"
same "odd names" "$model/model.safetensors" "$snap/model.safetensors"
ok "odd names, JSON" "$LBRX" pull hf://some/Tiny --json
says "odd names, JSON" '"sum": null'
serve odd long
fresh odd
exits 3 "odd names, another size" "$LBRX" pull hf://some/Tiny
complains "odd names, another size" "more than"

# One file that fails stops the others soon: the large one takes 250 ms a piece of 64 KiB.
serve deny pause=250
fresh deny
started=$(date +%s)
exits 3 "one is refused" "$LBRX" pull hf://some/Tiny
complains "one is refused" "README.md: the hub refuses it"
took=$(($(date +%s) - started)) all=$(($(wc -c <"$model/model.safetensors") / 65536 / 4))
[ $took -lt $((all / 2)) ] && pass || fail "one is refused" "the others went on for $took s of $all"

# Lists without sizes and sums: the files are asked for.
serve bare
fresh bare
ok "bare list" "$LBRX" pull hf://some/Tiny
same "bare list" "$model/model.safetensors" "$snap/model.safetensors"
[ "$(readlink "$snap/model.safetensors")" = "../../blobs/${sum%% *}" ] && pass || fail bare "another name"

serve tree
fresh tree
ok "a tree in pages" "$LBRX" pull hf://some/Tiny --all
for f in config.json model.safetensors original/params.json "odd name+.txt"; do
    same "tree: $f" "$model/$f" "$snap/$f"
done

HF_TOKEN=secret
export HF_TOKEN
serve tree elsewhere
fresh elsewhere
exits 3 "a list that goes on elsewhere" "$LBRX" pull hf://some/Tiny
complains "a list that goes on elsewhere" "elsewhere"
[ "$(grep -c . "$W/log")" = 2 ] && pass || fail elsewhere "the token went there"
unset HF_TOKEN
serve evil
exits 3 "a path that leads out" "$LBRX" pull hf://some/Tiny
complains "a path that leads out" "not a plain path"
[ ! -e "$W/evil" ] && pass || fail evil "written"
with_name=http://me:hush@${HF_ENDPOINT#http://}
HF_ENDPOINT=$with_name exits 3 "a password in the endpoint" "$LBRX" pull hf://some/None
grep -q hush "$W/err" && fail password "is shown" || pass
HF_ENDPOINT=http://me:hush@127.0.0.1:1 exits 1 "a password, no hub" "$LBRX" pull hf://some/Tiny
grep -q hush "$W/err" && fail password "is shown" || pass
serve long
fresh long
exits 3 "more than the file" "$LBRX" pull hf://some/Tiny
complains "more than the file" "more than"
size=$(wc -c <"$model/model.safetensors")
[ "$(find "$HF_HUB_CACHE" -name '*.incomplete' -size +$((size / 512 + 1)) | grep -c .)" = 0 ] && pass ||
    fail long "written behind its end"
serve
ok "more than the file, then not" "$LBRX" pull hf://some/Tiny
same "more than the file, then not" "$model/model.safetensors" "$snap/model.safetensors"

# A transfer that breaks off goes on where it stopped, as often as it gets on.
serve cutall=$((size / 7))
fresh cutall
ok "cut eight times" "$LBRX" pull hf://some/Tiny
same "cut eight times" "$model/model.safetensors" "$snap/model.safetensors"
fresh quiet
ok "quiet" "$LBRX" inspect hf://some/Tiny -q
[ ! -s "$W/err" ] && pass || fail quiet "$(cat "$W/err")"
rm -f "$W/log"*
fresh json
ok "progress" "$LBRX" inspect hf://some/Tiny --progress json
grep -q '^{.*pull' "$W/err" && pass || fail progress "no JSON: $(cat "$W/err")"
serve cutall=$((size / 7)) norange
fresh cutvain
exits 1 "cut in vain" "$LBRX" pull hf://some/Tiny
serve cut=70000
fresh cut
ok "cut" "$LBRX" pull hf://some/Tiny
same "cut" "$model/model.safetensors" "$snap/model.safetensors"
grep -q '^GET /cdn/some/Tiny/model.safetensors?sig=1 70000 ' "$W/log" && pass || fail cut "began anew"
serve cut=70000 norange
fresh norange
ok "no ranges" "$LBRX" pull hf://some/Tiny
same "no ranges" "$model/model.safetensors" "$snap/model.safetensors"
serve once=503
fresh once
ok "503 once" "$LBRX" pull hf://some/Tiny
same "503 once" "$model/model.safetensors" "$snap/model.safetensors"

# Killed and called again.
serve slow
fresh killed
"$LBRX" pull hf://some/Tiny -q >/dev/null 2>&1 &
pid=$!
i=0
while ! find "$HF_HUB_CACHE" -name '*.incomplete' -size +100k 2>/dev/null | grep -q . && [ $i -lt 100 ]; do
    i=$((i + 1))
    sleep 0.05
done
kill -9 $pid
wait $pid 2>/dev/null
[ ! -e "$snap/model.safetensors" ] && pass || fail killed "half a file has its name"
exits 3 "killed: no model" env HF_ENDPOINT=http://127.0.0.1:1 "$LBRX" inspect hf://some/Tiny
ok "after kill" "$LBRX" pull hf://some/Tiny
same "after kill" "$model/model.safetensors" "$snap/model.safetensors"
grep -q '^GET /cdn/some/Tiny/model.safetensors?sig=1 [1-9]' "$W/log" && pass || fail killed "began anew"
: >"$W/log"
fresh twice
"$LBRX" pull hf://some/Tiny -q >/dev/null 2>"$W/err2" &
pid=$!
ok "two at once" "$LBRX" pull hf://some/Tiny
wait $pid && pass || fail "two at once" "$(cat "$W/err2")"
[ "$(grep -c '^GET /cdn/some/Tiny/model.safetensors' "$W/log")" = 1 ] && pass || fail twice "fetched twice"
serve slow
fresh twice
"$LBRX" pull hf://some/Tiny -q >/dev/null 2>"$W/err2" &
pid=$!
sleep 0.3
ok "waiting" "$LBRX" pull hf://some/Tiny
wait $pid && pass || fail "waiting" "$(cat "$W/err2")"
complains "waiting" "waiting for another process that fetches the same file"

# What an earlier try left is damaged (the machine stopped before it was on the disk): anew.
serve
fresh damaged
blobs=$HF_HUB_CACHE/models--some--Tiny/blobs
mkdir -p "$blobs"
head -c 100000 /dev/zero >"$blobs/${sum%% *}.incomplete"
ok "damaged before" "$LBRX" pull hf://some/Tiny
same "damaged before" "$model/model.safetensors" "$snap/model.safetensors"
[ "$(grep -c '^GET /cdn/some/Tiny/model.safetensors' "$W/log")" = 2 ] && pass || fail damaged "not once more"

# Bytes that are not the file's.
serve flip
fresh flip
exits 3 "flipped byte" "$LBRX" pull hf://some/Tiny
complains "flipped byte" "checksum"
find "$HF_HUB_CACHE" -name "${sum%% *}*" -size +1k | grep . >"$W/out" && fail flip "kept" || pass
[ ! -e "$HF_HUB_CACHE/models--some--Tiny/refs/main" ] && pass || fail flip "a ref stands"

serve
fresh none
exits 3 "no such model" "$LBRX" pull hf://some/None
complains "no such model" "RepoNotFound"
exits 3 "no such revision" "$LBRX" pull hf://some/Tiny --revision v9
exits 3 "no such file" "$LBRX" pull hf://some/Tiny/none.bin
exits 2 "a bad name" "$LBRX" pull hf://some/../Tiny
exits 2 "a bad revision" "$LBRX" pull hf://some/Tiny --revision ../x
exits 2 "a bad revision" "$LBRX" pull hf://some/Tiny --revision a/../x
exits 2 "a bad revision" "$LBRX" pull hf://some/Tiny --revision a/
exits 2 "a bad revision" "$LBRX" pull hf://some/Tiny --revision a//b
ok "a pull request" "$LBRX" pull hf://some/Tiny --revision refs/pr/1
[ "$(cat "$HF_HUB_CACHE/models--some--Tiny/refs/refs/pr/1")" = $commit ] && pass || fail "pull request" "no ref"
HF_ENDPOINT=http://127.0.0.1:1 exits 1 "no hub" "$LBRX" pull hf://some/Tiny
HF_ENDPOINT=ftp://127.0.0.1 exits 2 "no http" "$LBRX" pull hf://some/Tiny
kill "$server" 2>/dev/null
finish
