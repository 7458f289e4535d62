#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check_names.sh LIBRARY: names, places and habits that STYLE.md fixes.
set -u
cd "$(dirname "$0")/.." || exit 1
library=$1
status=0

# ban WHAT PATTERN ALLOWED: no line of src/ outside the ALLOWED files (a regular expression) may hold
# PATTERN. Comments and strings are taken out first: "free" is also a word.
ban() {
    hits=$(printf '%s\n' "$code" | grep -E "$2" | grep -vE "^($3):" || true)
    if [ -n "$hits" ]; then
        printf '%s\n%s\n' "$hits" "  ^ $1"
        status=1
    fi
}

# file:line:code of all sources without comments and the insides of strings.
# shellcheck disable=SC2046
code=$(awk '
FNR == 1 { inside = 0 }
{
    line = $0
    gsub(/\\./, "", line)
    gsub(/"[^"]*"/, "\"\"", line)
    out = ""
    while (line != "") {
        if (inside) {
            end = index(line, "*/")
            if (!end)
                break
            line = substr(line, end + 2)
            inside = 0
        } else {
            begin = index(line, "/*")
            if (!begin) {
                out = out line
                break
            }
            out = out substr(line, 1, begin - 1)
            line = substr(line, begin + 2)
            inside = 1
        }
    }
    if (out ~ /[^ \t]/)
        print FILENAME ":" FNR ":" out
}' $(find src -name '*.[ch]' -o -name '*.def' | sort))

call() {
    printf '(^|[^A-Za-z0-9_>.])(%s) *\\(' "$1"
}
ban 'only cli/main.c ends the program' "$(call '_?exit|_Exit|quick_exit|abort')" \
    'src/cli/main\.c|src/base/(error|mapped)\.c' # mapped: in a signal handler
ban 'allocate through base/mem.h' "$(call 'malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign|alloca')" \
    'src/base/[a-z_]*\.c'
ban 'only cli prints' "$(call 'printf|fprintf|puts|fputs|putchar|perror|vprintf|vfprintf')" \
    'src/cli/[a-z_]*\.c|src/base/error\.c|src/base/log\.c'
ban 'unbounded or unchecked' "$(call 'strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|system|popen|tmpnam|mktemp|setjmp|longjmp')" ' '
ban 'LB_ASSERT, and only for our own bugs' "$(call 'assert')" ' '
ban 'the environment is read in cli and base' "$(call 'getenv|setenv|putenv')" 'src/cli/[a-z_]*\.c|src/base/[a-z_]*\.c'
ban 'exp, log, sin... come from kernel/: libm differs from machine to machine' \
    "$(call '(exp|exp2|expm1|log|log2|log10|log1p|pow|sin|cos|tan|asin|acos|atan|atan2|sinh|cosh|tanh|erf|cbrt|tgamma|lgamma)[fl]?')" \
    'src/(cli|serve|model)/[a-z_]*\.[ch]|src/ops/score\.c|src/device/selftest_state\.c' # what is shown, no bytes of a model
ban 'dead code' ':[ \t]*#[ \t]*if[ \t]+[01]([^0-9]|$)' ' '

# shellcheck disable=SC2046
if grep -nE 'TODO|FIXME|XXX' $(find src tests -name '*.[ch]') | grep -vE 'TODO\(#[0-9]+\)|X{6}'; then
    echo '  ^ a TODO needs an issue number: TODO(#12)'
    status=1
fi
if grep -rnE '#[ \t]*include[ \t]*"[^"]*\.c"' src tests --include='*.[ch]'; then
    echo '  ^ no file includes a .c'
    status=1
fi
# shellcheck disable=SC2044 # names in src and tests hold no spaces
for file in $(find src tests -path tests/golden -prune -o -name '*.[ch]' -print); do
    case $(head -1 "$file") in
    *'SPDX-License-Identifier: Apache-2.0'*) ;;
    *)
        echo "$file: the first line is not the SPDX line"
        status=1
        ;;
    esac
done
# Paths of a machine, which say nothing to anybody else.
if grep -rnIE --exclude-dir=.git --exclude=.git --exclude-dir=build --exclude-dir=golden --exclude=check_names.sh \
    '(^|[^A-Za-z0-9._~-])[/](work|root|home|Users)/' .; then
    echo '  ^ the path of somebody'"'"'s machine'
    status=1
fi

# Symbols, as the compiler sees them.
command -v objdump >/dev/null 2>&1 || {
    [ $status -eq 0 ] || exit 1
    echo "objdump is not installed"
    exit 77
}
symbols=$(nm -A -g --defined-only "$library" 2>/dev/null)
bad=$(printf '%s\n' "$symbols" | awk '$2 ~ /^[A-TV-Z]$/ && $3 !~ /^lb_/ { print $1, $3 }')
if [ -n "$bad" ]; then
    printf '%s\n  ^ exported without the prefix lb_\n' "$bad"
    status=1
fi
bad=$(printf '%s\n' "$symbols" | awk '$2 == "T" && $3 ~ /^lb_k_/ &&
    $3 !~ /^lb_k_[a-z0-9_]+_(ref|avx2|avxvnni|avx512|avx512vnni|avx512vbmi|neon|dotprod|i8mm)$/ { print $1, $3 }')
if [ -n "$bad" ]; then
    printf '%s\n  ^ kernels are named lb_k_<op>_<dst>_<src>_<isa>\n' "$bad"
    status=1
fi
# Objects in .data and .bss are state. Allowed: the interruption flag, the counters and the seed of
# base/mem.c (fault injection, hash maps), which are atomic or set once.
bad=$(objdump -t "$library" 2>/dev/null | awk '
/^[^ ]*\.o: / { object = $1 }
$0 ~ / O (\.data|\.bss)(\.|[ \t])/ && $0 !~ /\.data\.rel\.ro/ { print object, $NF }
$0 ~ / O \*COM\*/ { print object, $NF }' | grep -vE "$(
    tr '\n' '|' <tools/state_allowed.txt | sed 's/|$//'
)")
if [ -n "$bad" ]; then
    printf '%s\n  ^ mutable state at file scope (tools/state_allowed.txt lists the few exceptions)\n' "$bad"
    status=1
fi
exit $status
