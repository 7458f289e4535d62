#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quantize.sh: GGUF files of llama-quantize's bytes (tests/golden/quant/quantize.txt), several in one
# read, and what is refused before anything stands under the output's name.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1
Q="$LBRX quantize"

# nothing NAME PATH...: neither an output nor what --resume would go on with.
nothing() {
    what=$1
    shift
    for path; do
        for left in "$path" "$path".lbrx-*; do
            [ ! -e "$left" ] && [ ! -L "$left" ] && continue
            fail "$what" "$left exists"
            return
        done
    done
    pass
}

# ---- whole files ----
set -f
while read -r word which rest; do
    case $word in
    model)
        family=${rest%% *}
        # shellcheck disable=SC2086 # KEY=VALUE...
        make_model gguf "$family" "$which" ${rest#* }
        # shellcheck disable=SC2086
        make_model imatrix "$family" "$which.dat" ${rest#* }
        ;;
    keep)
        set +f
        # shellcheck disable=SC2046 # KEY=VALUE...
        make_model gguf $(sed -n "s/^model $which //p" "$GOLDEN/quant/quantize.txt" | sed 's/ / parts shard=200000 /')
        for one in ${rest#: }; do
            ok "kept: $one" $Q parts/*-00001-of-*.gguf -o kept.gguf --type "${one%%=*}" --keep-split --no-provenance
            got=$(cat kept-*.gguf | sha256sum | cut -c1-16)
            if [ "$got" = "${one##*=}" ]; then pass; else fail "kept: $one" "other bytes"; fi
            rm -f kept-*.gguf
        done
        rm -r parts
        set -f
        ;;
    run)
        options=${rest%%: *} list='' want=''
        for one in ${rest##*: }; do
            list=$list,${one%%=*}
            want="$want ${one##*=}"
        done
        cp "$which.dat" i.dat
        # shellcheck disable=SC2086 # options
        ok "$which $options: $list" $Q "$which/model.gguf" -o 'all-{type}.gguf' --type "${list#,}" --no-provenance \
            --no-sync $options
        for one in ${rest##*: }; do
            got=$(sha256sum <"all-${one%%=*}.gguf" | cut -c1-16)
            if [ "$got" = "${one##*=}" ]; then pass; else fail "$which $options: ${one%%=*}" "other bytes"; fi
            rm -f "all-${one%%=*}.gguf"
        done
        ;;
    esac
done <"$GOLDEN/quant/quantize.txt"
set +f
G=dense/model.gguf
make_model hf llama "$W/hf" tok=bytes vocab=4096
cp dense.dat i.dat

# ---- one alone, threads, budgets, processors: the same bytes ----
ok alone $Q "$G" -o alone.gguf --type q4_k_m --imatrix i.dat --no-provenance --no-sync -t 1
for how in "-t 2" "-t 7" "--memory 32MiB" "--memory 2GiB -t 3" "--to gguf"; do
    # shellcheck disable=SC2086
    ok "$how" $Q "$G" -o how.gguf --type q4_k_m --imatrix i.dat --no-provenance --no-sync --force $how
    same "$how" alone.gguf how.gguf
done
for cpu in ref avx2 avx512; do
    LBRX_CPU=$cpu $Q "$G" -o cpu.gguf --type q4_k_m --imatrix i.dat --no-provenance --force -q >"$W/out" 2>"$W/err"
    if grep -q "LBRX_CPU" "$W/err"; then continue; fi
    same "LBRX_CPU=$cpu" alone.gguf cpu.gguf
done
ok "beside others" $Q "$G" -o 'x-{type}.gguf' --type q8_0,q4_k_m,f16 --imatrix i.dat --no-provenance
same "beside others" alone.gguf x-q4_k_m.gguf
# experts that keep their codes in one of the outputs and are weighted each in the other
M=again/model.gguf
ok "codes alone" $Q "$M" -o one.gguf --type q8_0 --imatrix again.dat --no-provenance
ok "codes beside others" $Q "$M" -o 'y-{type}.gguf' --type q4_0,q8_0 --imatrix again.dat --no-provenance
same "codes beside others" one.gguf y-q8_0.gguf
ok "every place of the type" $Q "$G" -o 'z-{type}-{type}.gguf' --type q8_0,q4_0
if [ -s z-q8_0-q8_0.gguf ] && [ -s z-q4_0-q4_0.gguf ]; then pass; else fail "every place of the type" "$(ls)"; fi

# ---- inputs and outputs in parts ----
make_model gguf llama parts shard=100000 layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=bf16
ok "from parts" $Q parts/model-00001-of-*.gguf -o joined.gguf --type q4_k_m --imatrix i.dat --no-provenance
same "from parts" alone.gguf joined.gguf
mkdir cut
ok "into parts" $Q "$G" -o 'cut/{type}.gguf' --type q4_k_m,q8_0 --imatrix i.dat --no-provenance --max-shard-size 100kB
ok "into parts" "$LBRX" join cut/q4_k_m-00001-of-*.gguf -o cut.gguf --no-provenance
ok "into parts" "$LBRX" diff alone.gguf cut.gguf

# ---- what is not a number, or too large for a scale ----
make_model gguf llama wide layers=1 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=f32
F=wide/model.gguf
for bad in '\000\000\300\177' '\000\000\200\177' '\000\000\200\377'; do
    turn=$((turn + 1)) way=-1
    for tensor in blk.0.ffn_up.weight blk.0.attn_norm.weight token_embd.weight; do
        way=$((way + 1))
        in_turn $way 3 || continue
        value "$F" $tensor f32 17 "$bad"
        for type in q4_k_m q8_0 iq4_xs f16 copy; do
            exits 3 "$bad in $tensor, $type" $Q bad.gguf -o out.gguf --type $type
            complains "$bad in $tensor, $type" "tensor '$tensor': 1 values are NaN or infinite"
            nothing "$bad in $tensor, $type" out.gguf
        done
        exits 3 "$bad in $tensor, two" $Q bad.gguf -o 'out-{type}.gguf' --type q8_0,q6_k
        nothing "$bad in $tensor, two" out-q8_0.gguf out-q6_k.gguf
    done
done
value "$G" output.weight bf16 3 '\300\177'
exits 3 "NaN in bf16" $Q bad.gguf -o out.gguf --type q5_k_m
complains "NaN in bf16" "tensor 'output.weight': 1 values"
value "$F" blk.0.ffn_up.weight f32 17 '\312\362\111\161' # 1e30
for type in q4_0 q8_0 q5_1 q2_k q4_k_m q2_0 tq2_0; do
    exits 3 "scale of $type" $Q bad.gguf -o out.gguf --type $type
    complains "scale of $type" "tensor 'blk.0.ffn_up.weight': 1 blocks have a scale that is NaN or infinite"
    nothing "scale of $type" out.gguf
done
exits 3 "beyond f16" $Q bad.gguf -o out.gguf --type f16
complains "beyond f16" "too large for its type"
nothing "beyond f16" out.gguf
ok "beyond f16 is not beyond bf16" $Q bad.gguf -o out.gguf --type bf16
rm out.gguf
value "$F" blk.0.ffn_up.weight f32 17 '\001\000\000\000' # the least denormal
ok denormals $Q bad.gguf -o out.gguf --type q4_k_m
rm out.gguf

# ---- types, names, options ----
exits 2 "unknown type" $Q "$G" -o out.gguf --type q9_k
complains "unknown type" "no such type"
complains "unknown type" " iq4_xs "
exits 2 "no type" $Q "$G" -o out.gguf --type ''
exits 2 "a hole in the list" $Q "$G" -o 'o-{type}.gguf' --type q8_0,,q4_0
exits 2 "a type twice" $Q "$G" -o 'o-{type}.gguf' --type q4_k,q4_k_m
complains "a type twice" "named twice"
exits 2 "no {type}" $Q "$G" -o out.gguf --type q8_0,q4_0
complains "no {type}" "write {type} in the name"
exits 2 "{type} in the folder" $Q "$G" -o 'd-{type}/out.gguf' --type q8_0,q4_0
exits 2 "a type of another format" $Q "$G" -o out.gguf --type mlx-q4
complains "a type of another format" "which holds q1_0"
exits 2 "an override of nothing" $Q "$G" -o out.gguf --type q8_0 --override 'attn_z=q4_0'
complains "an override of nothing" 'override "attn_z": the pattern is in no tensor'
exits 2 "a broken pattern" $Q "$G" -o out.gguf --type q8_0 --override '(=q4_0'
exits 2 "a type of an override" $Q "$G" -o out.gguf --type q8_0 --override 'attn=q4_k_m'
complains "a type of an override" "choose one of f32"
exits 2 "no type of an override" $Q "$G" -o out.gguf --type q8_0 --override 'attn'
printf '# all\nattn_v = q5_0\nnothing=q8_0\n' >rules
exits 2 "rules" $Q "$G" -o out.gguf --type q8_0 --rules rules
complains "rules" "rules, line 2"
exits 2 "an option's type" $Q "$G" -o out.gguf --type q8_0 --output-tensor-type q77
complains "an option's type" "--output-tensor-type"
exits 2 "weights without a file" $Q "$G" -o out.gguf --type q8_0 --include-weights attn
exits 3 "rows that an option's type does not fit" $Q rows32/model.gguf -o out.gguf --type q8_0 --output-tensor-type q4_k
complains "rows that an option's type does not fit" "choose another type for the output"
exits 3 "rows for which there is no type" $Q rows32/model.gguf -o out.gguf --type q1_0
complains "rows for which there is no type" "no other type stands in"
exits 2 "importance is needed" $Q "$G" -o out.gguf --type iq2_xs
complains "importance is needed" "--imatrix"
exits 2 "parts of a folder" $Q "$W/hf" -o out.gguf --type q8_0 --keep-split
complains "parts of a folder" "--keep-split is for a GGUF in parts"
exits 2 "parts kept and cut" $Q "$G" -o out.gguf --type q8_0 --keep-split --max-shard-size 1MB
exits 2 "output is the input" $Q "$G" -o "$G" --type q8_0 --force
echo mine >there.gguf
exits 2 "output exists" $Q "$G" -o there.gguf --type q8_0
exits 2 "one of two outputs exists" $Q "$G" -o 'x-{type}.gguf' --type q8_0,q5_k_m
nothing "one of two outputs exists" x-q5_k_m.gguf
[ "$(cat there.gguf)" = mine ] && pass || fail "output exists" "it was replaced"
exits 2 "a key" $Q "$G" -o out.gguf --type q8_0 --override-kv general.name=int:seven
exits 2 "a key's type" $Q "$G" -o out.gguf --type q8_0 --override-kv general.name=text:x
nothing options out.gguf

# ---- what is no model, or another's ----
exits 3 "another's importance" $Q "$G" -o out.gguf --type q8_0 --imatrix moe.dat
complains "another's importance" "an importance matrix of another model"
exits 3 "importance as a model" $Q i.dat -o out.gguf --type q8_0
complains "importance as a model" "an importance matrix, not a model"
mkdir lora
echo '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}' >lora/adapter_config.json
safetensors lora/adapter_model.safetensors '{"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}' 'ab'
exits 3 "an adapter" $Q lora -o out.gguf --type q8_0
complains "an adapter" "adapter"
nothing "no model" out.gguf

# ---- what people are told ----
ok "warnings" $Q "$G" -o out.gguf --type q3_k_s --no-provenance
complains "warnings" "token_embd.weight has fewer than 6 bit (q3_k)"
complains "warnings" "--protect"
complains "warnings" "rows of 2 tensors are no whole blocks of their type: another stands in"
ok "protected" $Q "$G" -o safe.gguf --type q3_k_s --protect
complains "protected" "token_embd.weight raised from q3_k to q6_k (--protect)"
ok "protected" "$LBRX" inspect safe.gguf --json
says "protected" '"token_embd.weight", "type": "q6_k"'
says "protected" '"blk.0.ffn_up.weight", "type": "q3_k"'
ok "again" $Q "$M" -o twice.gguf --type q4_k_m
complains "again" "are quantized already"
ok "without effect" $Q "$G" -o float.gguf --type f16 --override attn_v=q8_0
complains "without effect" "without effect"
ok "no importance for some" $Q moe/model.gguf -o some.gguf --type q4_0 --imatrix moe.dat
complains "no importance for some" "1 tensors have no importance in the file, the first token_embd.weight"

# ---- the plan ----
ok plan $Q "$G" -o planned.gguf --type q4_k_m,q8_0 -o 'planned-{type}.gguf' --dry-run
nothing plan planned-q4_k_m.gguf planned-q8_0.gguf
says plan "token_embd.weight"
says plan "q4_k"
ok "plan as JSON" $Q "$G" -o planned.gguf --type q4_k_m --dry-run --json
says "plan as JSON" '"dry_run": true'
nothing "plan as JSON" planned.gguf
exits 2 "a plan is refused alike" $Q "$G" -o planned.gguf --type q4_k_m --override nothing=q8_0 --dry-run

# ---- keys ----
echo '{{ a_template }}' >template
ok keys $Q "$G" -o keys.gguf --type q4_k_m --set general.name=str:Mine --unset llama.vocab_size --chat-template template
ok keys "$LBRX" inspect keys.gguf --json
says keys '"general.name": "Mine"'
says keys 'a_template'
says keys '"general.file_type": 15'
ok "a file type of one's own" $Q "$G" -o ft.gguf --type q4_k_m --set general.file_type=u32:7
ok "a file type of one's own" "$LBRX" inspect ft.gguf --json
says "a file type of one's own" '"general.file_type": 7'

# ---- layers that are left out ----
rm -f out.gguf
ok "a key of layers" $Q deep/model.gguf -o nine.gguf --type copy --set 'qwen2.attention.head_count_kv=u32[]:[1,2,3,4,5,6,7,8,9]'
ok pruned $Q nine.gguf -o five.gguf --type q4_0 --prune-layers 7,0,3,4
ok pruned "$LBRX" inspect five.gguf --json
says pruned '"qwen2.block_count": 5'
says pruned '"blk.4.ffn_up.weight"'
if grep -q '"blk.5.' "$W/out"; then fail pruned "a sixth layer"; else pass; fi
ok pruned sh -c '"$LBRX" inspect five.gguf --metadata | grep "head_count_kv u*\[*"'
says pruned '[2, 3, 6, 7, 9]'
for layers in 9 1,9 0,1,2,3,4,5,6,7,8 '1,' ',1' x -1 ''; do
    exits 2 "layers '$layers'" $Q deep/model.gguf -o out.gguf --type q4_0 --prune-layers "$layers"
done
exits 2 "layers of a folder" $Q deep/model.gguf -o folder --to mlx --type mlx-q4 --prune-layers 1
nothing layers out.gguf folder
ok "a limit of llama-quantize" $Q "$G" -o buffer.gguf --type q8_0 --max-buffer-size 100
complains "a limit of llama-quantize" "without effect"

# ---- killed at any moment ----
make_model gguf llama large layers=4 hidden=256 ffn=512 heads=2 kv_heads=1 head_dim=32 vocab=2048 dtype=f16
L=large/model.gguf
ok straight $Q "$L" -o 'straight-{type}.gguf' --type q4_k_m,q5_k_m,q2_k --no-provenance
rounds=3
! is_sanitized || rounds=1
[ -z "${LB_TEST_LONG:-}" ] || rounds=40
i=0 kills=0
while [ "$i" -lt "$rounds" ]; do
    i=$((i + 1)) tries=0
    rm -rf k-*
    while [ ! -e k-q4_k_m.gguf ] || [ ! -e k-q5_k_m.gguf ] || [ ! -e k-q2_k.gguf ]; do
        tries=$((tries + 1))
        $Q "$L" -o 'k-{type}.gguf' --type q4_k_m,q5_k_m,q2_k --no-provenance --resume -q -t $((1 + tries % 3)) \
            --memory $((24 + tries % 2 * 300))MiB >"$W/out" 2>"$W/err" &
        pid=$!
        if [ "$tries" -lt 12 ]; then
            sleep "0.$(((i * 7 + tries * 3) % 5))$((i % 10))"
            kill -9 $pid 2>/dev/null && kills=$((kills + 1))
        fi
        wait $pid 2>/dev/null
        [ "$tries" -lt 20 ] || break
    done
    for type in q4_k_m q5_k_m q2_k; do
        same "killed" straight-$type.gguf k-$type.gguf
    done
done
[ "$kills" -gt 0 ] && pass || fail killed "never in time"
finish
