/* SPDX-License-Identifier: Apache-2.0 */
/* report_json.c: what a report plots, for machines: one object, every tensor in it. */
#include "io/json.h"
#include "ops/report_internal.h"

static void number(lb_buf *out, const char *key, double x) {
    lb_buf_printf(out, "\"%s\": ", key);
    lb_json_write_number(out, x);
}

static void count(lb_buf *out, const char *key, u64 n) {
    lb_buf_printf(out, "\"%s\": %llu", key, (unsigned long long)n);
}

static void place(lb_buf *out, const lb_report_item *it) {
    lb_buf_put_c(out, "{\"name\": ");
    lb_json_write_str(out, it->name, false);
    if (it->layer == UINT64_MAX)
        lb_buf_put_c(out, ", \"layer\": null");
    else
        lb_buf_printf(out, ", \"layer\": %llu", (unsigned long long)it->layer);
}

static void put_logs(lb_buf *out, const char *key, const lb_report_logs *l) {
    bool any = false;
    lb_buf_printf(out, "\"%s\": {\"zero\": %llu, \"not_finite\": %llu, \"half_octaves\": [", key,
                  (unsigned long long)l->n_zero, (unsigned long long)l->n_bad);
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        if (l->n[i]) {
            lb_buf_printf(out, "%s[%g, %llu]", any ? ", " : "", (double)i / 2 - 149,
                          (unsigned long long)l->n[i]);
            any = true;
        }
    lb_buf_put_c(out, "]}");
}

static void put_hist(lb_buf *out, const lb_report *r, const lb_report_hist *h) {
    if (!h || h->n_sampled == 0) {
        lb_buf_put_c(out, "null");
        return;
    }
    lb_buf_put_c(out, "{");
    count(out, "sampled", h->n_sampled);
    lb_buf_put_c(out, ", ");
    if (h->n_codes == 0) {
        put_logs(out, "above", &h->plus);
        lb_buf_put_c(out, ", ");
        put_logs(out, "below", &h->minus);
        lb_buf_put_c(out, "}");
        return;
    }
    lb_buf_printf(out, "\"zero_code\": %d, ", h->zero);
    number(out, "entropy", lb_report_entropy(r, h));
    lb_buf_put_c(out, ", \"codes\": [");
    for (u32 i = 0; i < h->n_codes; i++)
        lb_buf_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)h->codes[i]);
    lb_buf_put_c(out, "], ");
    put_logs(out, "scales", &h->scales);
    lb_buf_put_c(out, "}");
}

static void put_types(lb_buf *out, const lb_report *r, const lb_report_model *m) {
    bool any = false;
    lb_buf_put_c(out, "\"types\": [");
    for (u32 t = 0; t < r->n_types; t++) {
        const lb_report_sum *s = &m->sum[t];
        if (s->n_weights == 0)
            continue;
        lb_buf_printf(out, "%s\n{\"type\": \"%s\", ", any ? "," : "", r->types[t].label);
        count(out, "tensors", s->n_weights);
        lb_buf_put_c(out, ", ");
        count(out, "parameters", s->n_params);
        lb_buf_put_c(out, ", ");
        count(out, "bytes", s->size_bytes);
        lb_buf_put_c(out, ", ");
        number(out, "bpw", s->n_params ? (double)s->size_bytes * 8 / (double)s->n_params : 0);
        lb_buf_put_c(out, ", \"histogram\": ");
        put_hist(out, r, m->hist[t]);
        lb_buf_put_c(out, "}");
        any = true;
    }
    lb_buf_put_c(out, "]");
}

static void put_tensors(lb_buf *out, const lb_report *r, const lb_report_model *m) {
    lb_buf_put_c(out, "\"tensors\": [");
    for (u64 i = 0; i < m->source->n_weights; i++) {
        lb_buf_put_c(out, i ? ",\n" : "\n");
        place(out, &m->items[i]);
        lb_buf_put_c(out, ", \"role\": ");
        lb_json_write_str(out, m->axis.roles[m->items[i].role], false);
        lb_buf_printf(out, ", \"type\": \"%s\", ", r->types[m->types[i]].label);
        count(out, "parameters", m->items[i].n_params);
        lb_buf_put_c(out, ", ");
        count(out, "bytes", m->bytes[i]);
        lb_buf_put_c(out, "}");
    }
    lb_buf_put_c(out, "]");
}

static void put_error(lb_buf *out, double rel, double rmse, double cosine, double max_abs) {
    number(out, "rel", rel);
    lb_buf_put_c(out, ", ");
    number(out, "rmse", rmse);
    lb_buf_put_c(out, ", ");
    number(out, "cosine", cosine);
    lb_buf_put_c(out, ", ");
    number(out, "max_abs", max_abs);
}

static void put_errors(lb_buf *out, const lb_report *r, const lb_report_model *m) {
    const lb_diff *d = &m->diff;
    bool any = false;
    if (!m->compared) {
        lb_buf_put_c(out, "\"errors\": null");
        return;
    }
    lb_buf_put_c(out, "\"errors\": {\"total\": {");
    put_error(out, d->total.rel, d->total.rmse, d->total.cosine, d->total.max_abs);
    lb_buf_put_c(out, "}, \"tensors\": [");
    for (u64 i = 0; i < d->n_rows; i++) {
        const lb_diff_row *row = &d->rows[i];
        if (!row->same_shape)
            continue;
        lb_buf_put_c(out, any ? ",\n" : "\n");
        place(out, &m->pair.items[i]);
        lb_buf_printf(out, ", \"type\": \"%s\", ", r->types[m->pair.types[i]].label);
        put_error(out, row->rel, row->rmse, row->cosine, row->max_abs);
        lb_buf_put_c(out, "}");
        any = true;
    }
    lb_buf_put_c(out, "]}");
}

lb_status lb_report_json(const lb_report *r, const char *output, u64 size_bytes, lb_buf *out,
                         lb_err *err) {
    lb_buf_put_c(out, "{\"output\": ");
    lb_json_write_str(out, lb_str_c(output), false);
    lb_buf_put_c(out, ", ");
    count(out, "bytes_written", size_bytes);
    lb_buf_put_c(out, ", \"models\": [");
    for (u32 i = 0; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        lb_buf_put_c(out, i ? ",\n{\"name\": " : "\n{\"name\": ");
        lb_json_write_str(out, m->source->label, false);
        lb_buf_printf(
            out, ", \"format\": \"%s\", \"architecture\": ", lb_format_name(m->source->format));
        if (m->inspect.architecture.len)
            lb_json_write_str(out, m->inspect.architecture, false);
        else
            lb_buf_put_c(out, "null");
        lb_buf_put_c(out, ", ");
        count(out, "parameters", m->inspect.n_params);
        lb_buf_put_c(out, ", ");
        count(out, "bytes", m->inspect.size_bytes);
        lb_buf_put_c(out, ", ");
        number(out, "bpw", lb_inspect_bpw(&m->inspect));
        lb_buf_put_c(out, ", ");
        count(out, "sample", m->n_sample);
        lb_buf_put_c(out, ",\n");
        put_types(out, r, m);
        lb_buf_put_c(out, ",\n");
        put_tensors(out, r, m);
        lb_buf_put_c(out, ",\n");
        put_errors(out, r, m);
        lb_buf_put_c(out, "}");
    }
    lb_buf_put_c(out, "]}\n");
    return lb_buf_status(out, err);
}
