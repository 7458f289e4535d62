#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_layers.sh: a file under src/ includes only headers of its own layer and of lower ones.
set -u
cd "$(dirname "$0")/.." || exit 1

# shellcheck disable=SC2046 # names in src/ hold no spaces
awk '
BEGIN {
    n = split("base io tensor format kernel device arch plan quant text model merge ops serve cli", layer, " ")
    for (i = 1; i <= n; i++)
        rank[layer[i]] = i
    # Arithmetic on the caller'\''s buffers knows no files.
    only["kernel"] = " base tensor kernel "
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    split(FILENAME, own, "/")
    split(part[2], other, "/")
    from = own[2]
    to = other[1]
    if (!(from in rank))
        bad = "unknown layer " from
    else if (!(to in rank))
        bad = "include is not LAYER/file"
    else if (rank[to] > rank[from])
        bad = from " may not include " to
    else if (from in only && index(only[from], " " to " ") == 0)
        bad = from " may include only" only[from]
    else
        next
    printf "%s:%d: %s: %s\n", FILENAME, FNR, part[2], bad
    failed = 1
}
END { exit failed }
' $(find src -name '*.[ch]' -o -name '*.def' | sort)
