#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# merge_props.sh: what must hold of every merge method that the program lists: a model merged with itself is
# that model, weights of 0 and 1, other orders, seeds; and bytes that nothing can be seen in but models, merge
# file and seed: not threads, budget, format of inputs or output, shards, nor that it was killed and resumed. Under
# sanitizers every method has one of the threads and budgets and one of the forms, another order or seed, in turn, and one
# is killed.
# shellcheck source=tests/cli_lib.sh
cost=slow
. "$(dirname "$0")/../cli_lib.sh"
cd "$W" || exit 1

"$LBRX" merge --methods --json >methods.json || exit 1
cat >gen.py <<'END'
# gen.py: one for all, since starts of Python would be half of this suite. Lines of stdin, fields by tabs, each answered by
# a line:
#   OUT METHOD[/INNER] OPTIONS MODEL...   writes a merge file; the first model is the base where the method has one.
#       OPTIONS: JSON: weights of the models beside the base, nobase, all parameters at their most lossless.
#   fact METHOD[/INNER]                   how many models it is given here, its base, whether it is random, whether it has
#                                         weights.
import json, re, sys
methods = {m["name"]: m for m in json.load(open("methods.json"))}

def fact(name):
    name, _, inner = name.partition("/")
    m, inner = methods[name], methods[inner or name]
    has_base = m["base"] != "none"
    n = 4 if has_base else 3
    if m["max_models"]:
        n = min(n, m["max_models"])
    if m["max_beside_base"]:
        n = min(n, m["max_beside_base"] + has_base)
    names = {p["name"] for p in m["parameters"]}
    return f'{n} {m["base"]} {"random" if m["random"] or inner["random"] else "fixed"} {"weight" if "weight" in names else "plain"}'

def merge_file(name, options, names):
    name, _, inner = name.partition("/")
    m, o = methods[name], json.loads(options)
    if m["adapters"]: # model i is the base, in the form of the others, with adapter i
        base = "m1" if names[1].startswith("same") else re.sub("[0-9]", "1", names[1], count=1)
        names = [base] + [f"{base}+{'zero' if n.startswith('same') else 'a'}{re.search('[0-9]', n)[0]}" for n in names[1:]]
    given = {"t": 0.3, "density": 0.6, "select_topk": 0.6, "scale": 1.0, "importance": "im.dat", "k": 1}
    if o.get("whole"):
        given.update(density=1.0, select_topk=1.0)
    base = None if m["base"] == "none" or (o.get("nobase") and m["base"] == "optional") else 0
    shared, models, weights = {}, [], list(o.get("weights", [0.25, 0.5, 0.75, 0.125]))
    for i, name in enumerate(names):
        own = {}
        for p in m["parameters"]:
            if p["of"] != "model" or i == base:
                continue
            if p["name"] == "weight":
                own["weight"] = weights.pop(0)
            elif p["name"] in given:
                own[p["name"]] = given[p["name"]]
            elif p["required"]:
                raise ValueError(f"{m['name']}: no value for {p['name']}")
        models.append({"model": name, "parameters": own})
    for p in m["parameters"]:
        if p["of"] == "all" and (p["name"] in given or p["required"]):
            shared[p["name"]] = given[p["name"]]
    if "t" in o and "t" in shared:
        shared["t"] = o["t"]
    if inner:
        shared["inner_method"] = inner
    out = {"merge_method": m["name"], "models": models, "parameters": shared, **o.get("more", {})}
    if base == 0:
        out["base_model"] = names[0]
    return json.dumps(out)

for line in iter(sys.stdin.readline, ""):
    out, name, *rest = line.rstrip("\n").split("\t")
    answer = "done"
    try:
        if out == "fact":
            answer = fact(name)
        else:
            text = merge_file(name, rest[0], rest[1:])
            with open(out, "w") as f:
                print(text, file=f)
    except (LookupError, ValueError) as e:
        answer = f"{type(e).__name__}: {e}"
    print(answer, flush=True)
END
mkfifo asked answered
python3 -S gen.py <asked >answered &
exec 7>asked 8<answered
# ask FIELD...: $answer
ask() {
    {
        printf '%s' "$1"
        shift
        printf '\t%s' "$@"
        echo
    } >&7
    read -r answer <&8
}
# gen OUT METHOD OPTIONS MODEL...
gen() {
    ask "$@"
    [ "$answer" = "done" ] || fail "$1" "no merge file: $answer"
}
python3 -c 'import json; print(*(m["name"] for m in json.load(open("methods.json"))))' >names
# and one of each kind within another: by elements, at random, by singular values
for inner in ties dare_ties iso_c tsv; do
    echo "core_space/$inner" >>names
done

# ---- models: four of one shape in f32, in every form ----
shape="layers=2 hidden=64 ffn=96 heads=4 kv_heads=2 head_dim=16 vocab=96 dtype=f32"
for m in 1 2 3 4; do
    # shellcheck disable=SC2086
    make_model gguf llama "made$m" $shape seed=$m
    mv "made$m/model.gguf" "g$m.gguf"
    ok "model $m" "$LBRX" convert "g$m.gguf" -o "m$m" --to hf --dtype f32 --no-sync
    ok "model $m in shards" "$LBRX" convert "m$m" -o "s$m" --to hf --dtype f32 --max-shard-size 40kB --no-sync
    ok "model $m in GGUF shards" "$LBRX" split "g$m.gguf" -o "p$m.gguf" --max-shard-size 60kB --no-sync
    ln -s m1 "same$m"
done
make_model imatrix llama im.dat layers=2 hidden=64 ffn=96 heads=4 kv_heads=2 head_dim=16 vocab=96
# ---- adapters of the first, and such that change nothing ----
cat >zero.py <<'END'
import json, os, struct, sys
src, dst = sys.argv[1:]
os.mkdir(dst)
data = bytearray(open(src + "/adapter_model.safetensors", "rb").read())
n = 8 + struct.unpack("<Q", data[:8])[0]
for name, t in json.loads(data[8:n]).items():
    if "lora_B" in name:
        a, b = t["data_offsets"]
        data[n + a:n + b] = bytes(b - a)
open(dst + "/adapter_model.safetensors", "wb").write(data)
open(dst + "/adapter_config.json", "w").write(open(src + "/adapter_config.json").read())
END
P=base_model.model.model.layers
for m in 2 3 4; do
    r=$((m * m)) list=
    for at in "0.self_attn.q_proj 64 64" "1.self_attn.k_proj 32 64" "1.mlp.down_proj 64 96"; do
        # shellcheck disable=SC2086
        set -- $at
        list="$list $P.$1.lora_A.weight:$r:$3 $P.$1.lora_B.weight:$2:$r"
    done
    # shellcheck disable=SC2086
    python3 "$root/tests/tool/make_adapter.py" "a$m" "{\"peft_type\": \"LORA\", \"r\": $r, \"lora_alpha\": 5}" $list
    python3 zero.py "a$m" "zero$m"
done
[ "$(find s2 -name '*.safetensors' | wc -l)" -gt 2 ] && pass || fail shards "not several"

merge() { # NAME FILE ARGUMENTS...
    what=$1 file=$2
    shift 2
    ok "$what" "$LBRX" merge "$file" --no-sync --no-provenance --force "$@"
}
first() { # N PREFIX SUFFIX: the first N models of that form, the base always as a folder
    for i in $(seq 1 "$1"); do
        if [ "$i" = 1 ] && [ "$2" != same ] && [ "$2" != s ]; then printf 'm1 '; else printf '%s ' "$2$i$3"; fi
    done
}
tensors() { # FILE: a sum of the bytes of the tensors, without the header
    tail -c +$(($(od -An -tu8 -N8 "$1") + 9)) "$1" | sha256sum
}
p1=$(find . -maxdepth 1 -name 'p2*-00001-of-*' | head -1)
[ -n "$p1" ] && pass || fail "GGUF shards" "none"
part=${p1#./p2}

# Methods whose result depends on the order of the models: by definition, or since the draws go by it.
ordered=" passthrough slerp nuslerp nearswap arcee_fusion cabs "
for method in $(cat names); do
    turn=$((turn + 1))
    m=$(echo "$method" | tr / -)
    ask fact "$method"
    read -r n base random weight <<END
$answer
END
    # shellcheck disable=SC2046
    gen "$m.yml" "$method" '{}' $(first "$n" m '')
    merge "$m" "$m.yml" -o "$m"

    # a model merged with itself
    # shellcheck disable=SC2046
    gen self.yml "$method" '{}' $(first "$n" same '')
    merge "$m: itself" self.yml -o self
    ok "$m: itself is itself" "$LBRX" diff m1 self --tolerance 1e-6
    if [ "$n" -gt 2 ] && [ "$base" = optional ]; then
        # shellcheck disable=SC2046
        gen self.yml "$method" '{"nobase": true}' $(first $((n - 1)) same '')
        merge "$m: itself, no base" self.yml -o self
        ok "$m: itself is itself, no base" "$LBRX" diff m1 self --tolerance 1e-6
    fi
    # weights of 0, and of 1 for one of the models: these have no weight, or directions instead of sums
    case $m in
    nuslerp | multislerp | linear | importance) ;;
    *)
        if [ "$base" != none ] && [ "$weight" = weight ]; then
            # shellcheck disable=SC2046
            gen zero.yml "$method" '{"weights": [0, 0, 0, 0]}' $(first "$n" m '')
            merge "$m: nothing" zero.yml -o zero
            ok "$m: nothing is the base" "$LBRX" diff m1 zero
        fi
        ;;
    esac
    case $m in
    linear | importance)
        gen one.yml "$method" '{"weights": [0, 1, 0]}' m1 m2 m3
        merge "$m: all of one" one.yml -o one
        ok "$m: all of one is that" "$LBRX" diff m2 one
        ;;
    task_arithmetic | ties | dare_* | della* | breadcrumbs*)
        gen one.yml "$method" '{"weights": [0, 1, 0], "whole": true}' m1 m2 m3 m4
        merge "$m: all of one" one.yml -o one
        case $m in
        breadcrumbs*) ;; # the largest are left away
        *) ok "$m: all of one is that" "$LBRX" diff m3 one --tolerance 1e-6 ;;
        esac
        ;;
    esac

    # other orders
    case $ordered in
    *" $m "*) ;;
    *)
        if [ "$random" = fixed ] && in_turn 0 2; then
            if [ "$base" != none ]; then
                gen order.yml "$method" '{"weights": [0.75, 0.5, 0.25]}' m1 m4 m3 m2
            else
                gen order.yml "$method" '{"weights": [0.75, 0.5, 0.25]}' m3 m2 m1
            fi
            merge "$m: another order" order.yml -o order
            ok "$m: another order is the same" "$LBRX" diff "$m" order --tolerance 2e-6
        fi
        ;;
    esac

    # seeds
    if [ "$random" = random ] || in_turn 1 2; then
        merge "$m: another seed" "$m.yml" -o seed --seed 7
    fi
    if [ "$random" = random ]; then
        exits 5 "$m: a seed is seen" "$LBRX" diff "$m" seed
        merge "$m: the seed again" "$m.yml" -o seed --seed 7
        merge "$m: the seed again" "$m.yml" -o seed2 --seed 7 -t 1
        same "$m: seeds" seed/model.safetensors seed2/model.safetensors
    elif in_turn 1 2; then
        same "$m: seeds" "$m/model.safetensors" seed/model.safetensors
    fi

    # threads and budgets
    way=-1
    for how in "-t 1" "-t 2 --memory 64MiB" "-t 7 --memory 2GiB" "-t 3 --memory 24MiB"; do
        way=$((way + 1))
        in_turn $way 4 || continue
        # shellcheck disable=SC2086
        merge "$m: $how" "$m.yml" -o how $how
        same "$m: $how" "$m/model.safetensors" how/model.safetensors
    done
    # the order of the output: GGUF's, and in shards
    if in_turn 0 2; then
        merge "$m: to GGUF" "$m.yml" -o "$m.gguf"
        ok "$m: to GGUF" "$LBRX" diff "$m" "$m.gguf"
    fi
    if in_turn 1 2; then
        merge "$m: in shards" "$m.yml" -o how --max-shard-size 50kB
        ok "$m: in shards" "$LBRX" diff "$m" how
    fi
    # the form of the inputs
    way=-1
    for form in "g .gguf" "s " "p $part"; do
        way=$((way + 1))
        in_turn $way 3 || continue
        # shellcheck disable=SC2046
        gen form.yml "$method" '{}' $(first "$n" "${form%% *}" "${form#* }")
        merge "$m: from $form" form.yml -o form
        if [ "$(tensors "$m/model.safetensors")" = "$(tensors form/model.safetensors)" ]; then pass; else fail "$m: from $form" "other bytes"; fi
    done
    rm -rf how form seed seed2 order self zero one "$m.gguf"
done

# ---- killed again and again, and resumed: with threads and budgets that change ----
shape="layers=4 hidden=512 ffn=1024 heads=8 kv_heads=8 head_dim=64 vocab=4096 dtype=bf16"
for m in 1 2 3; do
    # shellcheck disable=SC2086
    make_model gguf llama "big" $shape seed=$m
    ok "large model $m" "$LBRX" convert big/model.gguf -o "b$m" --to hf --no-sync
    rm -r big
done
kills=0
# a sum, a stat first, draws whose state goes from tensor to tensor
for m in task_arithmetic model_stock dare_ties; do
    grep -qw "$m" names || continue
    ! is_sanitized || [ $m = dare_ties ] || continue
    gen kill.yml "$m" '{}' b1 b2 b3
    merge "$m: straight" kill.yml -o straight
    rm -rf k k.lbrx-*
    tries=0
    while [ ! -e k/config.json ] || [ -e k.lbrx-journal ]; do
        tries=$((tries + 1))
        "$LBRX" merge kill.yml -o k --no-provenance -q --resume -t $((1 + tries % 3)) --memory $((64 + tries % 2 * 300))MiB \
            >out 2>err </dev/null &
        pid=$!
        if [ "$tries" -lt 30 ]; then
            sleep "0.0$((tries * 3 % 10))$((tries * 7 % 10))"
            kill -9 $pid 2>/dev/null && kills=$((kills + 1))
        fi
        wait $pid 2>/dev/null
        [ "$tries" -lt 40 ] || break
    done
    same "$m: killed and resumed" straight/model.safetensors k/model.safetensors
done
[ "$kills" -gt 0 ] && pass || fail killed "never in time"
finish
