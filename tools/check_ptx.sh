#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_ptx.sh: the committed PTX was made of the kernels' present text, and has every kernel of the table.
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
now=$(sh tools/kernel_text.sh | { sha256sum 2>/dev/null || shasum -a 256; } | cut -d' ' -f1)
for ptx in src/device/kern/kernels.ptx.gz src/device/kern/kernels_mm.ptx.gz src/device/kern/kernels_hopper.ptx.gz; do
    made=$(gzip -dc "$ptx" | sed -n '1s/^.* //p')
    if [ "$now" != "$made" ]; then
        echo "$ptx: made of another text (src/device/kern has changed): run tools/make_ptx.sh"
        status=1
    fi
done
exit $status
