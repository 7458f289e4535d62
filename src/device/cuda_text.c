/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_text.c: see cuda_text.h. As nvcc writes it, a kernel begins with ".visible .entry" at the
 * head of a line and ends with a line that is a brace; a table is a line that begins with .const
 * or .global, whose name stands in front of its bracket. */
#include "device/cuda_text.h"

#define ENTRY "\n.visible .entry "
#define END "\n}\n"

static bool is_table(lb_str line) {
    return lb_str_starts(line, LB_STR(".const ")) || lb_str_starts(line, LB_STR(".global "));
}

static void put_lines(lb_cuda_common *c, lb_str s) {
    while (s.len) {
        size_t end;
        if (!lb_str_find(s, LB_STR("\n"), &end))
            end = s.len - 1;
        const lb_str line = lb_str_sub(s, 0, end + 1);
        if (line.len > 1)
            lb_buf_put_str(is_table(line) ? &c->tables : &c->rest, line);
        s = lb_str_sub(s, end + 1, s.len);
    }
}

lb_status lb_cuda_common_of(const char *ptx, lb_cuda_common *out, lb_err *err) {
    *out = (lb_cuda_common){0};
    for (lb_str s = lb_str_c(ptx); s.len;) {
        size_t entry = s.len, end = s.len;
        if (lb_str_find(s, LB_STR(ENTRY), &entry)) {
            if (lb_str_find(lb_str_sub(s, entry, s.len), LB_STR(END), &end))
                end += entry + strlen(END) - 1; /* at the line's end, which may begin an ENTRY */
            else
                end = s.len;
        } else {
            entry = s.len;
        }
        put_lines(out, lb_str_sub(s, 0, LB_MIN(entry + 1, s.len)));
        s = lb_str_sub(s, LB_MIN(end, s.len), s.len);
    }
    if (!out->tables.oom && !out->rest.oom)
        return LB_OK;
    lb_cuda_common_deinit(out);
    return lb_fail(err, LB_E_NOMEM, "out of memory for the kernels' text");
}

void lb_cuda_common_deinit(lb_cuda_common *c) {
    lb_buf_deinit(&c->tables);
    lb_buf_deinit(&c->rest);
}

/* Whether a text names a table; line: its own. */
static bool names(lb_str text, lb_str line) {
    size_t end, at;
    if (!lb_str_find(line, LB_STR("["), &end))
        return true;
    size_t begin = end;
    while (begin && line.ptr[begin - 1] != ' ')
        begin--;
    return lb_str_find(text, lb_str_sub(line, begin, end), &at);
}

lb_status lb_cuda_text_of(const char *ptx, const lb_cuda_common *c, const char *name, lb_buf *out,
                          lb_err *err) {
    lb_buf head = {0};
    lb_buf_printf(&head, ENTRY "%s(", name);
    const bool oom = head.oom;
    const lb_str all = lb_str_c(ptx);
    size_t entry = 0, end = 0;
    const bool found = !oom && lb_str_find(all, lb_buf_str(&head), &entry) &&
                       lb_str_find(lb_str_sub(all, entry, all.len), LB_STR(END), &end);
    lb_buf_deinit(&head);
    if (!found)
        return oom ? lb_fail(err, LB_E_NOMEM, "out of memory for the kernels' text")
                   : lb_fail(err, LB_E_FORMAT, "the kernels' text has no %s", name);
    const lb_str kernel = lb_str_sub(all, entry + 1, entry + end + strlen(END));
    const lb_str rest = lb_buf_str(&c->rest);
    size_t first = 0; /* the line with the hash, then the version's and the target's */
    for (u32 lines = 0; first < rest.len && lines < 4; first++)
        lines += rest.ptr[first] == '\n';
    lb_buf_put(out, rest.ptr, first);
    for (lb_str s = lb_buf_str(&c->tables); s.len;) {
        size_t n;
        if (!lb_str_find(s, LB_STR("\n"), &n))
            n = s.len - 1;
        const lb_str line = lb_str_sub(s, 0, n + 1);
        if (names(kernel, line) || names(rest, line))
            lb_buf_put(out, line.ptr, line.len);
        s = lb_str_sub(s, n + 1, s.len);
    }
    lb_buf_put(out, rest.ptr + first, rest.len - first);
    lb_buf_put(out, kernel.ptr, kernel.len);
    lb_buf_put_u8(out, 0);
    return out->oom ? lb_fail(err, LB_E_NOMEM, "out of memory for the kernels' text") : LB_OK;
}

/* A copy of what is read once: the policy's name goes behind its last operand. */
static void put_once(lb_buf *out, lb_str line) {
    size_t begin, end;
    if (!lb_str_find(line, LB_STR(" ["), &begin) || !lb_str_find(line, LB_STR(";"), &end)) {
        lb_buf_put_str(out, line);
        return;
    }
    lb_buf_put_str(out, lb_str_sub(line, 0, begin));
    lb_buf_put_str(out, LB_STR(".L2::cache_hint"));
    lb_buf_put_str(out, lb_str_sub(line, begin, end));
    lb_buf_put_str(out, LB_STR(", %lbk_once;\n"));
}

lb_status lb_cuda_text_hopper(lb_buf *text, bool *waits, lb_err *err) {
    enum { BEGIN = 2, AFTER, WORDS };
    static const struct {
        const char *head, *line;
    } words[WORDS] = {{".version ", ".version 7.8\n"},
                      {".target ", ".target sm_90\n"},
                      {"//lbk begin", "griddepcontrol.launch_dependents;\n"},
                      {"//lbk after", "griddepcontrol.wait;\n"}};
    static const char policy[] = ".reg .b64 %lbk_once;\n"
                                 "createpolicy.fractional.L2::evict_first.b64 %lbk_once, 1.0;\n";
    const lb_str once = LB_STR("//lbk once\n");
    lb_buf out = {0};
    size_t ignored;
    const bool has_once = lb_str_find(lb_buf_str(text), once, &ignored);
    *waits = false;
    for (lb_str s = lb_buf_str(text); s.len;) {
        size_t n, w = 0;
        if (!lb_str_find(s, LB_STR("\n"), &n))
            n = s.len - 1;
        const lb_str line = lb_str_sub(s, 0, n + 1);
        const lb_str bare = lb_str_starts(line, LB_STR("\t")) ? lb_str_sub(line, 1, n + 1) : line;
        while (w < WORDS && !lb_str_starts(bare, lb_str_c(words[w].head)))
            w++;
        *waits |= w == AFTER;
        if (w < WORDS)
            lb_buf_put_str(&out, lb_str_c(words[w].line));
        else if (has_once && lb_str_ends(line, once))
            put_once(&out, bare);
        else
            lb_buf_put_str(&out, line);
        if (w == BEGIN && has_once)
            lb_buf_put_str(&out, lb_str_c(policy));
        s = lb_str_sub(s, n + 1, s.len);
    }
    if (out.oom) {
        lb_buf_deinit(&out);
        return lb_fail(err, LB_E_NOMEM, "out of memory for the kernels' text");
    }
    lb_buf_deinit(text);
    *text = out;
    return LB_OK;
}
