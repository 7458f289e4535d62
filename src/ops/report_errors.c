/* SPDX-License-Identifier: Apache-2.0 */
/* report_errors.c: the part of the page that compares models with the first: sums, plots, the
 * tensors with the largest errors. */
#include "ops/report_internal.h"

#define WORST 20        /* tensors that are listed at once */
#define ERRORS_MAX 1000 /* and when asked for */

static void error_rows(lb_page *p, const lb_report_model *m, u64 first, u64 n) {
    const lb_report *r = p->r;
    for (u64 i = first; i < first + n; i++) {
        u64 row = m->pair.worst[i];
        const lb_diff_row *d = &m->diff.rows[row];
        lb_page_put(p, "<tr><td class=\"name\">");
        lb_html_name(p->b, d->name);
        lb_buf_printf(p->b, "</td><td>%s</td>", r->types[m->pair.types[row]].label);
        lb_page_cell_digits(p, d->n_values);
        lb_page_cell_percent(p, d->rel);
        lb_buf_printf(p->b, "<td class=\"n\" data-v=\"%.17g\">%.8f</td>", d->cosine, d->cosine);
        lb_page_cell_error(p, d->rmse);
        lb_page_cell_error(p, d->max_abs);
        lb_page_put(p, "</tr>\n");
        lb_out_spill(p->out);
    }
}

#define ERROR_HEADS "tensor|type|#values|#relative error|#cosine|#rmse|#max abs"

static void error_tables(lb_page *p, const lb_report_model *m) {
    u64 n = LB_MIN(m->pair.n_worst, WORST), rest = LB_MIN(m->pair.n_worst, ERRORS_MAX) - n;
    lb_page_begin_scroll(p, "Table: tensors with the largest relative error");
    lb_page_begin_table(p, "sort", "Tensors with the largest relative error", ERROR_HEADS);
    error_rows(p, m, 0, n);
    lb_page_end_table(p);
    lb_page_put(p, "</div>\n");
    if (rest == 0)
        return;
    lb_page_begin_details(p, m->pair.n_worst > ERRORS_MAX ? "The following tensors"
                                                          : "All other tensors");
    lb_page_begin_table(p, "sort", "Other tensors by relative error", ERROR_HEADS);
    error_rows(p, m, n, rest);
    lb_page_end_table(p);
    lb_page_end_details(p);
    if (m->pair.n_worst > ERRORS_MAX) {
        lb_page_put(p, "<p class=\"note\">");
        lb_html_digits(p->b, m->pair.n_worst - ERRORS_MAX);
        lb_page_put(
            p, " tensors with smaller errors are not listed here; lbrx diff prints all, and lbrx "
               "report --json has them.</p>\n");
    }
}

static void error_sums(lb_page *p, const lb_report_model *m) {
    const lb_diff *d = &m->diff;
    u64 other = d->n_rows - d->total.n_rows;
    lb_page_put(p, "<p>All values together: relative error <b>");
    lb_html_percent(p->b, d->total.rel);
    lb_buf_printf(p->b, "</b>, cosine <b>%.8f</b>, rmse ", d->total.cosine);
    lb_html_error(p->b, d->total.rmse);
    lb_page_put(p, ", largest difference ");
    lb_html_error(p->b, d->total.max_abs);
    lb_page_put(p, "; ");
    lb_html_digits(p->b, d->total.n_rows);
    lb_page_put(p, " tensors, ");
    lb_html_digits(p->b, d->n_different);
    lb_page_put(p, " of them different.");
    if (other || d->n_only_in_a || d->n_only_in_b) {
        lb_page_put(p, " Not compared: ");
        lb_html_digits(p->b, other);
        lb_page_put(p, " of another shape, ");
        lb_html_digits(p->b, d->n_only_in_a);
        lb_page_put(p, " only in A, ");
        lb_html_digits(p->b, d->n_only_in_b);
        lb_buf_printf(p->b, " only in %s.", m->letter);
    }
    lb_page_put(p, "</p>\n");
}

void lb_page_errors(lb_page *p) {
    const lb_report *r = p->r;
    if (r->n_models < 2)
        return;
    lb_page_put(p, "<section><h2 id=\"errors\">Errors</h2>\n<p>Against <b>");
    lb_page_model(p, &r->models[0]);
    lb_page_put(p, "</b>, tensor by tensor and by value: relative error = |a \xe2\x88\x92 b| / |a| "
                   "(Frobenius norms), as lbrx diff has it.</p>\n");
    for (u32 i = 1; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        lb_page_put(p, "<h3>");
        lb_page_model(p, m);
        lb_page_put(p, "</h3>\n");
        if (!m->compared) {
            lb_page_put(p, "<p>Not compared: ");
            lb_html_text(p->b, m->why_not);
            lb_page_put(p, ".</p>\n");
            continue;
        }
        error_sums(p, m);
        lb_plot_legend(r, i, 1, p->out);
        lb_page_put(
            p, "<figure><figcaption>A point for each tensor, coloured by its type; the line is the "
               "error of each layer as a whole.</figcaption>\n");
        lb_page_begin_scroll(p, "Plot: error by tensor");
        lb_plot_errors(r, i, p->out);
        lb_page_put(p, "</div>\n");
        if (m->pair.n_worst > 4000)
            lb_page_put(
                p, "<p class=\"note\">Of the many tensors, the worst of each role and column is "
                   "drawn.</p>\n");
        lb_page_merged(p, &m->pair.axis);
        error_tables(p, m);
        lb_page_put(
            p, "</figure>\n<figure><figcaption>Relative error in per cent, a row for each role, a "
               "column for each layer.</figcaption>\n");
        lb_page_begin_scroll(p, "Plot: error map");
        lb_plot_error_map(r, i, p->out);
        lb_page_put(p, "</div>\n");
        lb_plot_error_legend(p->out);
        lb_page_put(p, "</figure>\n");
    }
    lb_page_put(p, "</section>\n");
}
