#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_size.sh: STYLE.md's limits for files, functions, lines and arguments.
#
#   .c <= 1500 lines, above 1000 with a first comment `size: why`; .h <= 250, public 400;
#   *_tables.[ch] hold only tables and are exempt from the file limit; a line <= 100 columns;
#   a function <= 120 lines (aim 70) unless marked `long: ` on the lines before it;
#   at most 6 arguments beside lb_err *err (8 in kernel/, whose signatures are shapes and pointers).
set -u
cd "$(dirname "$0")/.." || exit 1

# shellcheck disable=SC2046
LC_ALL=C.UTF-8 awk '
function fail(line, what) {
    printf "%s:%d: %s\n", FILENAME, line, what
    failed = 1
}
function finish() {
    if (file == "")
        return
    limit = file ~ /\.c$/ ? 1500 : file ~ /^include\// ? 400 : 250
    if (file !~ /_tables\.[ch]$/) {
        if (lines > limit) {
            printf "%s: %d lines, limit %d\n", file, lines, limit
            failed = 1
        } else if (lines > 1000 && !explained) {
            printf "%s: %d lines without a `size:` comment\n", file, lines
            failed = 1
        }
    }
}
FNR == 1 {
    finish()
    file = FILENAME
    explained = inside = 0
    head = ""
    marked = 0
}
{ lines = FNR }
FNR <= 5 && /size: / { explained = 1 }
length($0) > 100 { fail(FNR, "line of " length($0) " columns") }
/^\/\* .*long: / || /^ \* .*long: / { marked = FNR }
# A definition: text at column 0 up to a line that ends with ") {".
!inside && /^[A-Za-z_]/ && !/^(typedef|struct|enum|union|extern|else)[ ]*[A-Za-z_]* *\{/ {
    head = $0
    start = FNR
}
!inside && /^[ \t]/ && head != "" { head = head $0 }
!inside && head != "" && /;[ \t]*$/ { head = "" }
!inside && head != "" && /\) \{$/ && head !~ /=[ ]*\{$/ {
    inside = 1
    open = index(head, "(")
    depth = 0
    args = 1
    for (i = open; i <= length(head); i++) {
        ch = substr(head, i, 1)
        if (ch == "(")
            depth++
        else if (ch == ")" && --depth == 0)
            break
        else if (ch == "," && depth == 1)
            args++
    }
    max_args = FILENAME ~ /^src\/kernel\// || FILENAME ~ /^tests\/kern\// ? 8 : 6
    if (head ~ /lb_err \*err\) \{$/)
        args--
    if (args > max_args && head !~ /^LB_/)
        fail(start, args " arguments, limit " max_args)
    head = ""
}
inside && /^\}/ {
    inside = 0
    n = FNR - start + 1
    if (n > 120 && !(marked && start - marked <= 12))
        fail(start, "function of " n " lines, limit 120")
    else if (n > 70)
        long++
}
END {
    finish()
    if (long)
        printf "remark: %d functions of more than 70 lines\n", long
    exit failed
}
' $(find src tests -path tests/golden -prune -o -name '*.[ch]' -print | sort)
