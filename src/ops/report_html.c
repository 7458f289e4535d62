/* SPDX-License-Identifier: Apache-2.0 */
/* report_html.c: text that files brought, on a page: it can neither leave its element nor steer how
 * the page is read. What is written is well-formed XML, too. Then the pieces that tables are made
 * of. */
#include "ops/report_internal.h"
#include <math.h>

/* Bytes of the character at the front; 0: no UTF-8. */
static u32 character(lb_str s, u32 *code) {
    u8 c = (u8)s.ptr[0];
    u32 n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (n == 0 || n > s.len || !lb_str_is_utf8(lb_str_sub(s, 0, n)))
        return 0;
    *code = n == 1 ? c : c & (0x7fu >> n);
    for (u32 i = 1; i < n; i++)
        *code = *code << 6 | ((u8)s.ptr[i] & 63);
    return n;
}

/* Control characters, marks without width or of direction, what XML has no place for. */
static bool is_hidden(u32 c) {
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
           (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || (c >= 0xfe00 && c <= 0xfe0f) || c == 0xfeff ||
           (c >= 0xfff9 && c <= 0xfffb) || (c & 0xfffe) == 0xfffe || (c >= 0xfdd0 && c <= 0xfdef) ||
           c >= 0xe0000;
}

/* One character or one byte that is none; returns how many bytes it took. */
static u32 put_character(lb_buf *out, lb_str s) {
    u32 code = 0, n = character(s, &code);
    if (n == 0) {
        lb_buf_printf(out, "\\x%02x", (u8)s.ptr[0]);
        return 1;
    }
    if (code < 0x80 && is_hidden(code))
        lb_buf_printf(out, "\\x%02x", code);
    else if (is_hidden(code))
        lb_buf_printf(out, "\\u%04x", code);
    else if (code == '&')
        lb_buf_put_c(out, "&amp;");
    else if (code == '<')
        lb_buf_put_c(out, "&lt;");
    else if (code == '>')
        lb_buf_put_c(out, "&gt;");
    else if (code == '"')
        lb_buf_put_c(out, "&quot;");
    else if (code == '\'')
        lb_buf_put_c(out, "&#39;");
    else
        lb_buf_put(out, s.ptr, n);
    return n;
}

void lb_html_text(lb_buf *out, lb_str s) {
    for (size_t i = 0; i < s.len;)
        i += put_character(out, lb_str_sub(s, i, s.len));
}

static u64 count_characters(lb_str s) {
    u64 n = 0;
    u32 code;
    for (size_t i = 0; i < s.len; n++) {
        u32 k = character(lb_str_sub(s, i, s.len), &code);
        i += k ? k : 1;
    }
    return n;
}

void lb_html_cut(lb_buf *out, lb_str s, u32 n_max) {
    u64 n = count_characters(s), keep = n_max / 2, at = 0;
    u32 code;
    if (n <= n_max) {
        lb_html_text(out, s);
        return;
    }
    for (size_t i = 0; i < s.len; at++) {
        lb_str rest = lb_str_sub(s, i, s.len);
        u32 k = character(rest, &code);
        if (at == keep)
            lb_buf_put_c(out, "\xe2\x80\xa6");
        if (at < keep || at >= n - (n_max - 1 - keep))
            k = put_character(out, rest);
        i += k ? k : 1;
    }
}

void lb_html_name(lb_buf *out, lb_str s) {
    lb_html_cut(out, s, LB_REPORT_NAME_CHARS);
}

void lb_html_digits(lb_buf *out, u64 n) {
    char text[32], *p = text + sizeof text;
    u32 k = 0;
    *--p = '\0';
    do {
        if (k && k % 3 == 0)
            *--p = ',';
        *--p = (char)('0' + n % 10);
        k++;
    } while (n /= 10);
    lb_buf_put_c(out, p);
}

void lb_html_error(lb_buf *out, double x) {
    if (isnan(x))
        lb_buf_put_c(out, "no number");
    else if (isinf(x))
        lb_buf_put_c(out, "\xe2\x88\x9e");
    else if (x == 0)
        lb_buf_put_c(out, "0");
    else
        lb_buf_printf(out, x < 1e-4 ? "%.2e" : "%.3g", x);
}

void lb_html_percent(lb_buf *out, double x) {
    double p = x * 100;
    if (!isfinite(p) || p == 0 || p < 0.00995)
        lb_html_error(out, p);
    else
        lb_buf_printf(out,
                      p < 0.9995  ? "%.3f"
                      : p < 9.995 ? "%.2f"
                      : p < 99.95 ? "%.1f"
                                  : "%.0f",
                      p);
    if (isfinite(p))
        lb_buf_put_c(out, "%");
}

/* ---- pieces of a page ---- */

void lb_page_put(lb_page *p, const char *s) {
    lb_buf_put_c(p->b, s);
}

void lb_page_cell_digits(lb_page *p, u64 n) {
    lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%llu\">", (unsigned long long)n);
    lb_html_digits(p->b, n);
    lb_page_put(p, "</td>");
}

void lb_page_cell_percent(lb_page *p, double x) {
    lb_buf_put_c(p->b, "<td class=\"n\" data-v=\"");
    lb_buf_printf(p->b, isfinite(x) ? "%.9g\">" : "1e999\">", x);
    lb_html_percent(p->b, x);
    lb_page_put(p, "</td>");
}

void lb_page_cell_error(lb_page *p, double x) {
    lb_buf_put_c(p->b, "<td class=\"n\" data-v=\"");
    lb_buf_printf(p->b, isfinite(x) ? "%.9g\">" : "1e999\">", x);
    lb_html_error(p->b, x);
    lb_page_put(p, "</td>");
}

/* heads: separated by '|'; those of numbers begin with '#'. */
void lb_page_begin_table(lb_page *p, const char *class, const char *caption, const char *heads) {
    lb_buf_printf(p->b, "<table class=\"%s\"><caption>%s</caption><thead><tr>", class, caption);
    while (*heads) {
        size_t n = strcspn(heads, "|");
        bool number = heads[0] == '#';
        lb_buf_printf(p->b, "<th scope=\"col\"%s>%.*s</th>", number ? " class=\"n\"" : "",
                      (int)(n - number), heads + number);
        heads += n + (heads[n] == '|');
    }
    lb_page_put(p, "</tr></thead><tbody>\n");
}

void lb_page_end_table(lb_page *p) {
    lb_page_put(p, "</tbody></table>\n");
    lb_out_spill(p->out);
}

/* A box that scrolls by itself, with the keyboard too. */
void lb_page_begin_scroll(lb_page *p, const char *label) {
    lb_buf_printf(p->b, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">\n",
                  label);
}

void lb_page_begin_details(lb_page *p, const char *summary) {
    lb_buf_printf(p->b, "<details><summary>%s</summary>\n", summary);
    lb_page_begin_scroll(p, summary);
}

void lb_page_end_details(lb_page *p) {
    lb_page_put(p, "</div></details>\n");
}

void lb_page_model(lb_page *p, const lb_report_model *m) {
    if (p->r->n_models > 1)
        lb_buf_printf(p->b, "<span class=\"tag\">%s</span>", m->letter);
    lb_html_name(p->b, m->source->label);
}

void lb_page_merged(lb_page *p, const lb_report_axis *a) {
    if (a->n_groups && a->groups[0].per_slot > 1)
        lb_buf_printf(p->b, "<p class=\"note\">Of the many layers, %llu share a column.</p>\n",
                      (unsigned long long)a->groups[0].per_slot);
    if (a->n_groups_merged) {
        lb_page_put(p, "<p class=\"note\">Numbered parts of the model under ");
        lb_html_digits(p->b, a->n_groups_merged);
        lb_page_put(p, " smaller names count as outside the layers.</p>\n");
    }
    if (a->n_roles_merged) {
        lb_page_put(p, "<p class=\"note\">The ");
        lb_html_digits(p->b, a->n_roles_merged);
        lb_page_put(p, " smallest roles share the last row.</p>\n");
    }
}
