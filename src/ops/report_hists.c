/* SPDX-License-Identifier: Apache-2.0 */
/* report_hists.c: the part of the page with histograms, and their counts as a table. */
#include "io/size.h"
#include "ops/report_internal.h"

static u64 sum_of(const lb_report_logs *l) {
    u64 n = l->n_zero + l->n_bad;
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        n += l->n[i];
    return n;
}

static void codes_rows(lb_page *p, const lb_report_model *m, u32 type) {
    const lb_report_hist *h = m->hist[type];
    u32 per = (h->n_codes + 63) / 64;
    for (u32 i = 0; i < h->n_codes; i += per) {
        u64 n = 0;
        u32 end = LB_MIN(i + per, h->n_codes);
        for (u32 k = i; k < end; k++)
            n += h->codes[k];
        lb_buf_printf(p->b, "<tr><td>%s</td><td>%s</td><td>codes</td><td class=\"n\">%d", m->letter,
                      p->r->types[type].label, (i32)i - h->zero);
        if (per > 1)
            lb_buf_printf(p->b, " to %d", (i32)end - 1 - h->zero);
        lb_page_put(p, "</td>");
        lb_page_cell_digits(p, n);
        lb_page_put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

static void logs_rows(lb_page *p, const lb_report_model *m, u32 type, const lb_report_logs *l,
                      const char *what) {
    for (u32 i = 0; i < LB_REPORT_LOG_BINS + 2; i++) {
        u64 n = i == 0 ? l->n_zero : i == 1 ? l->n_bad : l->n[i - 2];
        if (n == 0)
            continue;
        lb_buf_printf(p->b, "<tr><td>%s</td><td>%s</td><td>%s</td>", m->letter,
                      p->r->types[type].label, what);
        if (i < 2)
            lb_buf_printf(p->b, "<td class=\"n\">%s</td>", i ? "NaN or infinite" : "0");
        else
            lb_buf_printf(p->b, "<td class=\"n\">2^%g and more</td>", (double)(i - 2) / 2 - 149);
        lb_page_cell_digits(p, n);
        lb_page_put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

static void hist_table(lb_page *p, const lb_report_model *m) {
    lb_page_begin_table(p, "sort", "Counts behind the histograms", "model|type|of|#from|#count");
    for (u32 t = 0; t < p->r->n_types; t++) {
        const lb_report_hist *h = m->hist[t];
        if (!h || h->n_sampled == 0)
            continue;
        if (h->n_codes) {
            codes_rows(p, m, t);
            logs_rows(p, m, t, &h->scales, "scales");
        } else {
            logs_rows(p, m, t, &h->plus, "values above 0");
            logs_rows(p, m, t, &h->minus, "values below 0");
        }
    }
    lb_page_end_table(p);
}

static void sampled(lb_page *p, const lb_report_hist *h) {
    char a[LB_SIZE_TEXT], b[LB_SIZE_TEXT];
    lb_buf_printf(p->b, "%s of %s values", lb_count_text(h->n_sampled, a),
                  lb_count_text(h->n_all, b));
}

static void codes_figure(lb_page *p, u32 model, u32 type) {
    const lb_report_hist *h = p->r->models[model].hist[type];
    u32 used = 0;
    for (u32 i = 0; i < h->n_codes; i++)
        used += h->codes[i] != 0;
    lb_buf_printf(p->b,
                  "<figure><figcaption><b>%s</b> %s: %u of %u used, %.2f bits of information "
                  "each; ",
                  p->r->types[type].label, h->points ? "points of the codebook" : "codes", used,
                  h->n_codes, lb_report_entropy(p->r, h));
    sampled(p, h);
    lb_page_put(p, "</figcaption>");
    lb_plot_codes(p->r, model, type, p->out);
    lb_page_put(p, "</figure>\n");
}

static void logs_figure(lb_page *p, u32 model, u32 type, bool scales) {
    const lb_report_hist *h = p->r->models[model].hist[type];
    u64 zero = scales ? h->scales.n_zero : h->plus.n_zero + h->minus.n_zero;
    u64 bad = scales ? h->scales.n_bad : h->plus.n_bad + h->minus.n_bad;
    lb_buf_printf(p->b, "<figure><figcaption><b>%s</b> %s: ", p->r->types[type].label,
                  scales ? "|scales|" : "values, by magnitude");
    if (scales) {
        lb_html_digits(p->b, sum_of(&h->scales));
        lb_page_put(p, " of them");
    } else {
        sampled(p, h);
    }
    if (zero) {
        lb_page_put(p, ", ");
        lb_html_digits(p->b, zero);
        lb_page_put(p, " zero");
    }
    if (bad) {
        lb_page_put(p, ", <b>");
        lb_html_digits(p->b, bad);
        lb_page_put(p, " NaN or infinite</b>");
    }
    lb_page_put(p, "</figcaption>");
    lb_plot_logs(p->r, model, type, scales, p->out);
    lb_page_put(p, "</figure>\n");
}

void lb_page_hists(lb_page *p) {
    const lb_report *r = p->r;
    lb_page_put(
        p, "<section><h2 id=\"hist\">Histograms</h2>\n"
           "<p>What is stored: how often each code is used, and how large scales and unquantized "
           "values are, on a scale of powers of two in half octaves.</p>\n");
    for (u32 i = 0; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        if (r->n_models > 1) {
            lb_page_put(p, "<h3>");
            lb_page_model(p, m);
            lb_page_put(p, "</h3>\n");
        }
        lb_page_put(p, "<div class=\"small\">\n");
        for (u32 t = 0; t < r->n_types; t++) {
            const lb_report_hist *h = m->hist[t];
            if (!h || h->n_sampled == 0)
                continue;
            if (h->n_codes)
                codes_figure(p, i, t);
            if (h->n_codes == 0 || sum_of(&h->scales))
                logs_figure(p, i, t, h->n_codes != 0);
            lb_out_spill(p->out);
        }
        lb_page_put(p, "</div>\n");
        lb_page_begin_details(p, "Table of histograms");
        hist_table(p, m);
        lb_page_end_details(p);
    }
    lb_page_put(p, "</section>\n");
}
