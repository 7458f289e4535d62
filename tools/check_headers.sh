#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_headers.sh: every header compiles by itself (templates *_tmpl.h are bodies, not headers).
set -u
cd "$(dirname "$0")/.." || exit 1
status=0
for header in $(find src tests -name '*.h' ! -name '*_tmpl.h' | sort); do
    flags=
    [ "$(uname -s)" != Darwin ] || flags="-I$(brew --prefix)/include"
    # shellcheck disable=SC2086
    "${CC:-cc}" -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-function -Wno-unused-const-variable \
        -Isrc -Itests -Itests/unit $flags -fsyntax-only -include "$header" -x c /dev/null || {
        echo "$header: does not compile by itself"
        status=1
    }
done
exit $status
