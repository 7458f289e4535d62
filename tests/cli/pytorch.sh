#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# pytorch.sh: .bin and .pt files through the commands, and files made to break their readers: each
# is refused with exit 3 and one line that names the file and the place. All forms of hostile values
# are tried in test_pytorch; here are the commands.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
P=$GOLDEN/pytorch

# ---- what works ----
ok "inspect a folder" "$LBRX" inspect "$P/sharded" --tensors
says "inspect a folder" "pytorch_model-00002-of-00002.bin"
for to in hf mlx; do
    ok "to $to" "$LBRX" convert "$P/sharded" -o "$W/$to" --to $to -q
    ok "to $to: diff" "$LBRX" diff "$P/sharded" "$W/$to"
    says "to $to: diff" "3 tensors compared, 0 different"
    ok "to $to: verify" "$LBRX" verify "$W/$to"
    ok "to $to: safetensors" test -s "$W/$to/model.safetensors"
    exits 1 "to $to: no .bin" test -e "$W/$to/pytorch_model.bin"
done
ok "verify" "$LBRX" verify "$P/sharded"
for form in views proto3 proto4 proto5; do
    ok "$form" "$LBRX" convert "$P/$form.pt" -o "$W/$form.safetensors" --no-provenance -q
    ok "$form: as legacy" "$LBRX" diff "$P/legacy.pt" "$W/$form.safetensors"
    ok "$form: format" "$LBRX" inspect "$W/$form.safetensors" --json
    says "$form: format" '"format": "safetensors"'
    same "$form: the same bytes" "$W/views.safetensors" "$W/$form.safetensors"
done
# Views lie otherwise than their values: 0 2 4 1 3 5; 1 2 5 6 9 10.
for v in strided:000000000000004000008040:0000803f000040400000a040 columns:0000803f000000400000a040:0000c0400000104100002041; do
    form=${v%%:*}
    ok "$form" "$LBRX" convert "$P/$form.pt" -o "$W/$form.safetensors" --no-provenance -q
    have=$(tail -c 24 "$W/$form.safetensors" | od -An -v -tx1 | tr -d ' \n')
    want=$(echo "${v#*:}" | tr -d :)
    [ "$have" = "$want" ] && pass || fail "$form" "$have instead of $want"
    ok "$form: diff" "$LBRX" diff "$P/$form.pt" "$W/$form.safetensors"
    says "$form: diff" "1 tensors compared, 0 different"
    ok "$form: verify" "$LBRX" verify "$P/$form.pt"
    ok "$form: f16" "$LBRX" convert "$P/$form.pt" -o "$W/$form.16.safetensors" --dtype f16 -q
    ok "$form: f16" "$LBRX" diff "$P/$form.pt" "$W/$form.16.safetensors" --tolerance 0
done
mkdir "$W/adapter"
cp "$P/strided.pt" "$W/adapter/adapter_model.bin"
echo '{"peft_type": "LORA"}' >"$W/adapter/adapter_config.json"
ok "an adapter" "$LBRX" convert "$W/adapter" -o "$W/adapter2" -q
ok "an adapter" "$LBRX" diff "$W/adapter" "$W/adapter2"
ok "an adapter: safetensors" test -s "$W/adapter2/adapter_model.safetensors"
ok "a nested state dict" "$LBRX" inspect "$P/nested.pt"
says "a nested state dict" "the tensors are those of the entry 'model'"
mkdir "$W/both"
cp "$P/views.pt" "$W/both/pytorch_model.bin"
ok "alone" "$LBRX" inspect "$W/both" --tensors
says "alone" one_row
safetensors "$W/both/model.safetensors" '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' 1234
ok "safetensors first" "$LBRX" inspect "$W/both" --json
says "safetensors first" '"parameters": 1,'
ok "safetensors first" "$LBRX" inspect "$W/both"
says "safetensors first" "safetensors go before pytorch_model*.bin"

# ---- attacks ----
f=$W/x.pt

# refuses NAME TEXT: $f with inspect, convert and verify.
refuses() {
    exits 3 "$1" "$LBRX" inspect "$f" || return
    if [ "$(wc -l <"$W/err")" != 1 ]; then
        fail "$1" "more than one line"
    fi
    complains "$1" "x.pt"
    complains "$1" "$2"
    exits 3 "$1, convert" "$LBRX" convert "$f" -o "$W/made" --to hf
    exits 3 "$1, verify" "$LBRX" verify "$f"
    [ ! -e "$W/made" ] || fail "$1" "an output was made"
}
# The legacy form up to its object: magic number, 1001, {"little_endian": True}.
legacy() {
    printf '\200\002\212\012l\374\234F\371 j\250P\031.\200\002M\351\003.'
    printf '\200\002}X\015\000\000\000little_endian\210s.\200\002'
}
# object NAME TEXT PICKLE: PICKLE (printf's escapes) as the object of a legacy file.
object() {
    # shellcheck disable=SC2059
    {
        legacy
        printf "$3"
    } >"$f"
    refuses "$1" "$2"
}
# repeat N TEXT
repeat() {
    awk -v n="$1" -v t="$2" 'BEGIN { for (i = 0; i < n; i++) printf "%s", t }'
}

touch "$W/canary"
object "a command" "byte 47: GLOBAL 'posix.system' is refused" \
    "cposix\nsystem\nX\021\000\000\000rm $W/canary tR."
object "a command by STACK_GLOBAL" "STACK_GLOBAL 'os.system' is refused" \
    '\214\002os\214\006system\223\214\002ls\205R.'
object "eval" "GLOBAL '__builtin__.eval'" 'c__builtin__\neval\nX\001\000\000\0001\205R.'
object "a class of torch" "GLOBAL 'torch.nn.modules.linear.Linear'" 'ctorch.nn.modules.linear\nLinear\n)R.'
object "loading again" "GLOBAL 'torch.load'" 'ctorch\nload\nX\001\000\000\000x\205R.'
object "a name in a name" "GLOBAL 'torch._utils._rebuild_tensor_v2.__globals__'" \
    'ctorch._utils\n_rebuild_tensor_v2.__globals__\n.'
object "INST" "INST is refused" '(ios\nsystem\n.'
object "OBJ" "OBJ is refused" '(No.'
object "EXT" "EXT4 is refused" '\204\001\000\000\000.'
object "NEWOBJ" "NEWOBJ is refused" 'ccollections\nOrderedDict\n)\201.'
object "BUILD of a list" "BUILD of a list" ']}b.'
object "a call of a type" "'torch.FloatStorage' is refused" 'ctorch\nFloatStorage\n)R.'
object "a module by its id" "BINPERSID of a 'module'" '(X\006\000\000\000moduleNNNtQ.'
object "a list that holds itself" "holds a list" ']q\000h\000a.\200\002].'
object "a dictionary that holds itself" "no dictionary of tensors" \
    '}q\000X\005\000\000\000modelh\000s.\200\002].'
object "a huge string" "BINUNICODE needs 4294967295 bytes" 'X\377\377\377\377.'
object "a string of 2^64-1" "BINUNICODE8 needs" '\215\377\377\377\377\377\377\377\377.'
object "a huge integer" "LONG4 needs" '\213\377\377\377\177.'
object "a huge frame" "FRAME needs" '\225\377\377\377\377\377\377\377\177.'
object "a memo of 2^32-1" "LONG_BINPUT 4294967295: an index beyond" 'Nr\377\377\377\377.'
object "a memo that is not there" "BINGET 9" 'h\011.'
object "no mark" "TUPLE finds no mark" 't.'
object "bytes behind" "bytes behind" '}.\200\002].tail'
object "an escape in a name" "'os.?[2J'" 'cos\n\033[2J\n.'
# Each tuple holds the one before twice: 2^100000 values if anyone counted them.
{
    legacy
    printf 'N'
    repeat 100000 "2$(printf '\206')"
    printf '.\200\002].'
} >"$f"
refuses "tuples of tuples" "not a dictionary"
{
    legacy
    repeat 500000 '('
} >"$f"
refuses "marks" "needs 1 bytes"
{
    legacy
    repeat 300000 ']'
    repeat 299999 a
    printf '.\200\002].'
} >"$f"
refuses "lists in lists" "holds a list"

# A storage of one float in a legacy file; a tensor over it from OFFSET, SIZE, STRIDE.
tensor() {
    printf 'ctorch._utils\n_rebuild_tensor_v2\n((X\007\000\000\000storagectorch\nFloatStorage\n'
    printf 'X\001\000\000\0000X\003\000\000\000cpuK\001NtQ'
    # shellcheck disable=SC2059
    printf "$1$2$3"
    printf '\211}tR'
}
keys() {
    printf '.\200\002]X\001\000\000\0000a.\001\000\000\000\000\000\000\0001234'
}
one() {
    {
        legacy
        printf '}X\001\000\000\000w'
        tensor "$1" "$2" "$3"
        printf s
        keys
    } >"$f"
}
one 'K\000' 'K\001\205' 'K\001\205'
ok "one float" "$LBRX" verify "$f"
one 'K\001' 'K\001\205' 'K\001\205'
refuses "behind its storage" "'w': shape [1] from element 1 does not lie in its storage '0'"
one 'K\000' 'J\377\377\377\177J\377\377\377\177\206' 'J\377\377\377\177K\001\206'
refuses "a shape beyond" "does not lie in its storage"
one '\212\010\377\377\377\377\377\377\377\177' 'K\001\205' 'K\001\205'
refuses "an offset that wraps" "does not lie in its storage"
one 'J\377\377\377\377' 'K\001\205' 'K\001\205'
refuses "a negative offset" "offset, size and stride"
one 'K\000' 'K\005\205' 'K\000\205'
refuses "stride 0" "tensor 'w' of shape [5] is a view with strides [0]"
{
    legacy
    printf '}(X\001\000\000\000w'
    tensor 'K\000' 'K\001\205' 'K\001\205'
    printf 'X\001\000\000\000wK\001u'
    keys
} >"$f"
refuses "an entry twice" "the entry 'w' stands twice"
{
    legacy
    printf '}X\001\000\000\000w'
    tensor 'K\000' 'K\001\205' 'K\001\205'
    printf 's.\200\002]X\001\000\000\0000a.\377\377\377\377\377\377\377\1771234'
} >"$f"
refuses "a storage of 2^63-1" "a storage of 9223372036854775807 elements"

# Zip archives: entry NAME METHOD FLAGS DATA adds one, finish_zip writes the directory.
u16() {
    # shellcheck disable=SC2059
    printf "\\$(printf %03o $(($1 % 256)))\\$(printf %03o $(($1 / 256)))"
}
entry() {
    n=$(printf "$4" | wc -c) off=$(wc -c <"$f")
    for where in "$f" "$W/dir"; do
        {
            if [ "$where" = "$f" ]; then printf 'PK\003\004'; else printf 'PK\001\002\000\000'; fi
            printf '\000\000'
            u16 "$3"
            u16 "$2"
            head -c 8 /dev/zero
            u16 "$n" # packed, and not
            u16 0
            u16 "$n"
            u16 0
            u16 ${#1}
            u16 0
            if [ "$where" != "$f" ]; then
                head -c 10 /dev/zero
                u16 "$off"
                u16 0
            fi
            printf %s "$1"
        } >>"$where"
    done
    # shellcheck disable=SC2059
    printf "$4" >>"$f"
    entries=$((entries + 1))
}
begin_zip() {
    : >"$f"
    : >"$W/dir"
    entries=0
}
finish_zip() {
    off=$(wc -c <"$f")
    {
        cat "$W/dir"
        printf 'PK\005\006\000\000\000\000'
        u16 $entries
        u16 $entries
        u16 "$(wc -c <"$W/dir")"
        u16 0
        u16 "$off"
        u16 0
        u16 0
    } >>"$f"
}
# archive NAME TEXT ENTRY...: one of each name, with an empty dictionary.
archive() {
    title=$1 text=$2
    shift 2
    begin_zip
    for e; do entry "$e" 0 0 '\200\002}.'; done
    finish_zip
    refuses "$title" "$text"
}
archive "no tensors" "no dictionary of tensors" a/data.pkl
archive "a name that climbs" "'../../etc/data.pkl' at byte" a/data.pkl ../../etc/data.pkl
archive "an absolute name" "not a plain relative name" a/data.pkl /etc/passwd
archive "a drive" "not a plain relative name" a/data.pkl 'C:\x'
archive "an entry twice" "the name stands twice" a/data.pkl a/data.pkl
archive "two pickles" "a second data.pkl" a/data.pkl b/data.pkl
archive "TorchScript" "TorchScript" a/data.pkl a/constants.pkl
archive "npz" "not a file of torch.save" x.npy
begin_zip
entry a/data.pkl 8 0 '\200\002}.'
finish_zip
refuses "compressed" "'a/data.pkl' at byte 44 is compressed"
begin_zip
entry a/data.pkl 0 1 '\200\002}.'
finish_zip
refuses "encrypted" "is encrypted"
begin_zip
entry a/data.pkl 0 0 'cos\nsystem\n.'
finish_zip
refuses "no protocol" "GLOBAL comes first"
begin_zip
entry a/data.pkl 0 0 '\200\002cos\nsystem\n.'
finish_zip
refuses "a command in an archive" "byte 42: GLOBAL 'os.system' is refused"
head -c 100 "$P/views.pt" >"$f"
refuses "cut off" "damaged or incomplete"
ok "nothing was run" test -e "$W/canary"

# ---- folders ----
mkdir "$W/folder"
for shard in ../x.bin "$W/x.bin" 'sub\\x.bin' .. '' x.pt; do
    printf '{"weight_map":{"a":"%s"}}' "$shard" >"$W/folder/pytorch_model.bin.index.json"
    exits 3 "index names '$shard'" "$LBRX" inspect "$W/folder"
    complains "index names '$shard'" "pytorch_model.bin.index.json"
done
finish
