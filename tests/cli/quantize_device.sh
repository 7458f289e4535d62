#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# quantize_device.sh: files whose blocks a device makes are those of the CPU, byte by byte: every type there is a kernel
# for, on the kernels as C and with the stand-in for NVIDIA's driver; what is refused, and what a device that fails leaves.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"
cost=slow
cd "$W" || exit 1
Q="$LBRX quantize"
dense="llama layers=2 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=bf16"
moe="qwen3moe layers=1 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 experts=3 used=1 dtype=f16"
make_both() {
    family=$1 to=$2
    shift 2
    make_model gguf "$family" "$to" "$@"
    make_model imatrix "$family" "$to.dat" "$@"
}
# shellcheck disable=SC2086 # KEY=VALUE...
make_both llama dense ${dense#* }
# shellcheck disable=SC2086
make_both qwen3moe moe ${moe#* }

# alike WHAT DEVICE MODEL TYPES OPTIONS...: in one read on the CPU and on the device
alike() {
    title=$1 device=$2 model=$3 types=$4
    shift 4
    ok "$title: cpu" $Q "$model" -o 'cpu-{type}.gguf' --type "$types" --no-provenance --no-sync --force "$@"
    # shellcheck disable=SC2086 # and its options
    ok "$title: $device" env LBRX_LOG=1 $Q "$model" -o 'dev-{type}.gguf' --type "$types" --no-provenance --no-sync --force \
        --device $device "$@"
    grep -q " values quantized in " "$W/err" && pass || fail "$title: $device" "nothing was quantized there"
    for one in $(echo "$types" | tr , ' '); do
        same "$title: $one on $device" "cpu-$one.gguf" "dev-$one.gguf"
    done
    rm -f cpu-*.gguf dev-*.gguf
}

plain=q2_k,q3_k_m,q4_k_m,q5_k_m,q6_k,iq4_nl,iq4_xs,iq3_s
weighted=iq2_xxs,iq2_xs,iq2_s,iq3_xxs,iq1_s,iq1_m,iq2_m
! is_sanitized || weighted=iq2_xxs,iq3_xxs,iq1_m
alike "importance" emulated dense/model.gguf $weighted --imatrix dense.dat
alike "experts" emulated moe/model.gguf iq2_xs,q4_k_m --imatrix moe.dat -t 1
if is_sanitized; then
    alike "plain" emulated dense/model.gguf q3_k_m,iq4_xs -t 3
    alike "refined" emulated dense/model.gguf q4_k_m --refine
else
    alike "plain" emulated dense/model.gguf $plain
    alike "importance" emulated dense/model.gguf $plain --imatrix dense.dat
    alike "refined" emulated dense/model.gguf q3_k_m,q4_k_m --refine
    alike "little memory" emulated dense/model.gguf iq4_xs,q4_k_m --memory 80MB -t 3
fi

# folders WHAT DEVICE MODEL TYPE OPTIONS...: the same of a folder of MLX's
folders() {
    title=$1 device=$2 model=$3 type=$4
    shift 4
    ok "$title: cpu" $Q "$model" -o cpu-mlx --to mlx --type "$type" --no-provenance --no-sync --force "$@"
    # shellcheck disable=SC2086 # and its options
    ok "$title: $device" env LBRX_LOG=1 $Q "$model" -o dev-mlx --to mlx --type "$type" --no-provenance --no-sync --force \
        --device $device "$@"
    grep -q " values quantized in [1-9]" "$W/err" && pass || fail "$title: $device" "nothing was quantized there"
    for one in cpu-mlx/*; do
        same "$title: ${one#cpu-mlx/} on $device" "$one" "dev-mlx/${one#cpu-mlx/}"
    done
    rm -rf cpu-mlx dev-mlx
}
make_model gguf llama half layers=1 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=f16
make_model gguf llama whole layers=1 hidden=256 ffn=256 heads=2 kv_heads=1 head_dim=32 vocab=64 dtype=f32
for bits in 1 2 3 4 5 6 8; do
    ! is_sanitized || [ $((bits % 3)) = 0 ] || continue
    folders "mlx-q$bits" emulated dense/model.gguf mlx-q$bits --group-size $((32 << bits % 3))
    [ $((bits % 4)) != 0 ] ||
        folders "mlx-q$bits, cpu's rule" emulated half/model.gguf mlx-q$bits --group-size $((32 << (bits + 1) % 3)) --mlx-rule cpu
done
folders "mlx of f32" emulated whole/model.gguf mlx-q4 --group-size 64 -t 3
folders "mlx of experts" emulated moe/model.gguf mlx-mixed_3_6
for type in mlx-mxfp4 mlx-mxfp8 mlx-nvfp4; do
    folders $type emulated dense/model.gguf $type
done
ok "mxfp4 by the CPU's rule" $Q dense/model.gguf -o x --to mlx --type mlx-mxfp4 --mlx-rule cpu --device emulated --dry-run
says "mxfp4 by the CPU's rule" "q_proj.weight u32 [64, 32] <- quantize <- decode bf16"

# ---- what is made where ----
ok "dry run" $Q dense/model.gguf -o x.gguf --type q4_k_m --device emulated --dry-run
says "dry run" "blk.0.attn_q.weight q4_k [64, 256] <- quantize on emulated <- decode bf16"
says "dry run" "blk.0.attn_output.weight q5_0 [256, 64] <- quantize <- decode bf16"
ok "refined" $Q dense/model.gguf -o x.gguf --type q4_k_m --refine --device emulated --dry-run
says "refined" "blk.0.attn_q.weight q4_k [64, 256] <- quantize on emulated <- decode bf16"
ok "refined, not there" $Q dense/model.gguf -o x --to mlx --type mlx-q4 --refine --device emulated --dry-run
says "refined, not there" "q_proj.weight u32 [64, 32] <- quantize <- decode bf16"
ok "nothing there" $Q dense/model.gguf -o eight.gguf --type q8_0 --device emulated
complains "nothing there" "note: nothing was quantized on emulated, which makes K- and IQ-quants, and MLX's groups without --refine"
exits 2 "no quantizer" "$LBRX" convert dense/model.gguf -o x.gguf --device emulated
complains "no quantizer" "this command computes on the CPU alone: use --device cpu"
exits 3 "metal" $Q dense/model.gguf -o x.gguf --type q4_k_m --device metal
complains "metal" "metal may flush subnormal numbers"
exits 4 "device memory" $Q dense/model.gguf -o x.gguf --type q4_k_m --device emulated --device-memory 1MB
[ ! -e x.gguf ] && pass || fail "refusals" "something was written"
cp dense/model.gguf other.gguf
printf 'merge_method: linear\nmodels:\n- {model: dense/model.gguf, parameters: {weight: 1}}\n- {model: other.gguf, parameters: {weight: 0.5}}\n' >m.yml
ok "a merge" "$LBRX" merge m.yml -o m.gguf --type q4_k_m --no-provenance --device emulated
ok "a merge" "$LBRX" merge m.yml -o n.gguf --type q4_k_m --no-provenance
same "a merge" m.gguf n.gguf

# values whose group's scale does not fit f16 are the CPU's, which refuses them
value half/model.gguf blk.0.ffn_up.weight f16 3 '\377\173'
cp bad.gguf one.gguf
value one.gguf blk.0.ffn_up.weight f16 5 '\377\373'
for device in cpu emulated; do
    exits 3 "scale on $device" $Q bad.gguf -o x --to mlx --type mlx-q1 --device $device
    complains "scale on $device" "up_proj.weight': 1 values"
    [ ! -e x ] && pass || fail "scale on $device" "something was written"
done
mv one.gguf bad.gguf
folders "large values" emulated bad.gguf mlx-q8

# ---- the driver's stand-in ----
if [ -z "${LB_TEST_STUB_CUDA:-}" ] || [ ! -f "$LB_TEST_STUB_CUDA" ]; then
    skip "cuda" "no stand-in for the CUDA driver"
    finish
fi
LD_LIBRARY_PATH=$(dirname "$LB_TEST_STUB_CUDA")
export LD_LIBRARY_PATH
alike "cuda" cuda dense/model.gguf q4_k_m,q6_k,iq4_xs
alike "cuda" cuda:1 moe/model.gguf iq2_xxs,iq1_m,q3_k_m --imatrix moe.dat
folders "cuda" cuda dense/model.gguf mlx-q4
folders "cuda, few lanes" "cuda --device-memory 16MB" moe/model.gguf mlx-q6
alike "few lanes" "cuda --device-memory 16MB" dense/model.gguf q4_k_m,iq4_nl,q2_k
STUB_CUDA_MEMORY=3000000 exits 1 "memory" $Q dense/model.gguf -o x.gguf --type q4_k_m --device cuda
complains "memory" "a buffer of"
STUB_CUDA_LOST=3 exits 1 "lost at first" $Q dense/model.gguf -o x.gguf --type q4_k_m --no-provenance --device cuda
complains "lost at first" "cuda:0: the device was lost"
[ ! -e x.gguf ] && pass || fail "lost at first" "a file is there"
STUB_CUDA_LOST=8 exits 1 "lost" $Q dense/model.gguf -o x.gguf --type q4_k_m --no-provenance --device cuda
complains "lost" "cuda:0: the device was lost"
[ ! -e x.gguf ] && pass || fail "lost" "a file is there"
ok "lost, then on the CPU" $Q dense/model.gguf -o x.gguf --type q4_k_m --no-provenance --resume
ok "lost, then on the CPU" $Q dense/model.gguf -o y.gguf --type q4_k_m --no-provenance
same "lost, then on the CPU" x.gguf y.gguf
# a kernel that fails: its values are the CPU's, the others' are not, and one line says so
for bad in jit:enc_q4_k launch:enc_q4_k wrong:enc_q4_k wrong:enc_; do
    ok "$bad" env STUB_CUDA_BAD=$bad LBRX_LOG=1 $Q dense/model.gguf -o x.gguf --type q4_k_m --no-provenance --no-sync --force --device cuda
    [ "$(grep -c "^warning: cuda:0: kernel enc_q[46]_k fails its test: .*; the CPU quantizes instead$" "$W/err")" = 1 ] && pass ||
        fail "$bad" "$(cat "$W/err")"
    grep -Eq ": $([ $bad = wrong:enc_ ] && echo 0 || echo '[1-9][0-9]*') values quantized in " "$W/err" && pass || fail "$bad" "$(cat "$W/err")"
    same "$bad" x.gguf y.gguf
done
STUB_CUDA=none exits 3 "no GPU" $Q dense/model.gguf -o z.gguf --type q4_k_m --device cuda
complains "no GPU" "the driver sees no GPU"
finish
