#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench.sh: `lbrx bench`: the tests, repetitions and threads that were asked for, as JSON and as a table; what goes wrong.
# shellcheck source=tests/cli_lib.sh
. "$(dirname "$0")/../cli_lib.sh"

make_model gguf llama "$W/m"
M=$W/m/model.gguf

# tests: the names in the JSON, one a line
names() {
    tr '{' '\n' <"$W/out" | sed -n 's/^"test":"\([^"]*\)".*"threads":\([0-9]*\).*/\1 \2/p' | tr '\n' ';'
}

ok "json" "$LBRX" bench "$M" -p 8,3 -n 4 -r 3 -t 1,2 --json -q
got=$(names)
want="pp8 1;pp3 1;tg4 1;pp8 2;pp3 2;tg4 2;"
if [ "$got" = "$want" ]; then pass; else fail "tests" "$got, not $want"; fi
tr '{' '\n' <"$W/out" | sed -n 's/.*"tokens_per_second":\[\([^]]*\)\].*/\1/p' >"$W/rates"
if awk -F, 'NF != 3 { bad = 1 } { for (i = 1; i <= NF; i++) if (!($i > 0)) bad = 1 } END { exit bad || NR != 6 }' \
    "$W/rates"; then pass; else fail "repetitions" "$(cat "$W/rates")"; fi
says "bandwidth of generation" '"bandwidth_share":'
if tr '{' '\n' <"$W/out" | grep '"test":"pp' | grep -q share; then fail "prompts" "have a bandwidth"; else pass; fi
says "peak" '"peak_rss_bytes":'
says "device" '"device":"cpu"'

ok "depth and pairs" "$LBRX" bench "$M" -p 4 -n 2 -d 0,5 --pg 3,2 -r 1 -t 1 --json -q --no-warmup --kv-type f32
got=$(names)
want="pp4 1;tg2 1;pp3+tg2 1;pp4 @ d5 1;tg2 @ d5 1;pp3+tg2 @ d5 1;"
if [ "$got" = "$want" ]; then pass; else fail "depth and pairs" "$got, not $want"; fi
ok "first token" "$LBRX" bench "$M" -p 0 -n 0 --ttft 16 -t 2 --json
says "first token" '[{"test":"ttft16","tokens_per_second":['
says "first token" '"seconds":'
ok "nothing" "$LBRX" bench "$M" -p 0 -n 0 --json
says "nothing" '[]'
ok "table" "$LBRX" bench "$M" -p 4 -n 4 -r 2 -t 1 --ttft 4
says "table" 'from the start to the first token behind 4'
says "table" 'pp4'
says "table" ' GB/s'

exits 2 "no list" "$LBRX" bench "$M" -p 4,
exits 2 "no number" "$LBRX" bench "$M" -p x
complains "no number" "--prompt"
exits 2 "no threads" "$LBRX" bench "$M" -t 0
exits 2 "too many threads" "$LBRX" bench "$M" -t 4000
exits 2 "a pair of one" "$LBRX" bench "$M" -p 0 -n 0 --pg 4
exits 2 "no repetitions" "$LBRX" bench "$M" -r 0
exits 3 "no model" "$LBRX" bench "$W/none"
exits 4 "no memory" "$LBRX" bench "$M" -p 4000000 -n 0 -r 1 --memory 20MB
finish
