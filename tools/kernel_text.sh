#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# kernel_text.sh: all kernels as one text, on stdout: src/device/kern/all.k with its includes put in place.
# Includes of other folders are the host's and are left out.
set -eu
cd "$(dirname "$0")/.."
awk '
function put(file,    line, part) {
    while ((getline line < file) > 0) {
        if (line ~ /^#[ \t]*include[ \t]*"/) {
            split(line, part, "\"")
            if (part[2] ~ /^device\/kern\// && part[2] !~ /_cpu\.[hk]$/)
                put("src/" part[2])
        } else
            print line
    }
    close(file)
}
BEGIN { put("src/device/kern/all.k") }'
