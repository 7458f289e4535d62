# SPDX-License-Identifier: Apache-2.0
# kernels.awk: preprocessed kernels (clang -E, include/metal_stdlib) with a table of them and a caller of each behind them,
# in C++: what a Metal library says of its functions. One kernel's head stands on one line. A `constant T &` of a head
# becomes a T: Metal copies values out of that address space, clang does not. The threadgroup's memory of each kernel lies
# in a section of its own.
function fail(why) {
    printf "#error kernel %s: %s\n", name, why
}
{
    text = $0
    is_head = text ~ /annotate\("msl_kernel"\)/
    while (is_head && match(text, /const __attribute__\(\(address_space\(2\)\)\) [A-Za-z0-9_]+ &/)) {
        type = substr(text, RSTART, RLENGTH - 2)
        sub(/^.* /, "", type)
        text = substr(text, 1, RSTART - 1) "const " type " " substr(text, RSTART + RLENGTH)
    }
    if (is_head) {
        line = $0
        sub(/^.*annotate\("msl_kernel"\)\)\) *void */, "", line)
        name = line
        sub(/\(.*$/, "", name)
    }
    if (text !~ /^static/) # what stands outside of kernels is all kernels'
        gsub(/section\("lbk_tg"\)/, "section(\"lbk_tg_" name "\")", text)
    print text
}
is_head {
    sub(/^[A-Za-z0-9_]*\(/, "", line)
    sub(/\) *\{?[^)\]]*$/, "", line)
    n = split(line, param, ",")
    types = values = args = ""
    n_bufs = 0
    for (i = 1; i <= n; i++) {
        p = param[i]
        comma = i > 1 ? ", " : ""
        if (match(p, /\[\[buffer\([0-9]+\)\]\]/)) {
            at = substr(p, RSTART + 9, RLENGTH - 12)
            is_value = p ~ /address_space\(2\)/
            kind = is_value ? 2 : p ~ /address_space\(1\)/ ? (p ~ /const/ ? 0 : 1) : -1
            if (kind < 0)
                fail("argument " i " is neither device nor constant")
            type = p
            if (is_value)
                sub(/ *&.*$/, "", type)
            else
                sub(/ *\*.*$/, "", type)
            sub(/^.* /, "", type)
            types = types comma (is_value ? type : "void *")
            values = values comma (is_value ? "*(const " type " *)" : "") "a[" at "]"
            args = args "{" at ", " kind ", sizeof(" type ")}, "
            n_bufs++
        } else if (p ~ /\[\[threadgroup_position_in_grid\]\]/ && p ~ /^ *uint3 /) {
            types = types comma "uint3"
            values = values comma "uint3{p[0], p[1], p[2]}"
        } else if (p ~ /^ *uint .*\[\[thread_index_in_threadgroup\]\]/) {
            types = types comma "uint"
            values = values comma "p[3]"
        } else if (p ~ /^ *uint .*\[\[thread_index_in_simdgroup\]\]/) {
            types = types comma "uint"
            values = values comma "p[3] & 31u"
        } else if (p ~ /^ *uint .*\[\[simdgroup_index_in_threadgroup\]\]/) {
            types = types comma "uint"
            values = values comma "p[3] >> 5"
        } else
            fail("argument " i " has no attribute that is known:" p)
    }
    calls = calls "static void lbk_call_" name "(void *const *a, const uint *p) {\n"
    calls = calls "    ((void (*)(" types "))(void *)" name ")(" values ");\n}\n"
    own = "__attribute__((weak, visibility(\"hidden\")));\n"
    calls = calls "extern char lbk_begin_" name "[] __asm__(\"__start_lbk_tg_" name "\") " own
    calls = calls "extern char lbk_end_" name "[] __asm__(\"__stop_lbk_tg_" name "\") " own
    table = table "    {\"" name "\", lbk_call_" name ", lbk_begin_" name ", lbk_end_" name ", " n_bufs ", {" args "}},\n"
}
END {
    printf "%s", calls
    print "struct lbk_msl_arg { uint index, kind; ulong bytes; };"
    print "struct lbk_msl_kernel { const char *name; void (*call)(void *const *, const uint *); char *begin, *end; uint n_bufs; lbk_msl_arg arg[31]; };"
    print "extern \"C\" __attribute__((visibility(\"default\"))) const lbk_msl_kernel lbk_msl_kernels[] = {"
    print table "    {nullptr, nullptr, nullptr, nullptr, 0, {}}};"
}
