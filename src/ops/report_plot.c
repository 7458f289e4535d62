/* SPDX-License-Identifier: Apache-2.0 */
/* report_plot.c: plots over layers as inline SVG: bytes, types and errors on one x axis, so that
 * they can be read one below the other.
 *
 * Every plot has a title and a description for readers that do not see it, and a table beside it
 * (report_page.c). Colours are classes of the style (t0... by bits a weight, e0... by error): they
 * differ between light and dark. */
#include "io/size.h"
#include "ops/report_internal.h"
#include <math.h>
#include <stdio.h>

#define WIDTH 960.0
#define LEFT 190.0 /* names of roles, marks of the y axis */
#define RIGHT 12.0
#define OUTSIDE_WIDTH 34.0 /* of what stands outside the layers */
#define GAP 10.0           /* between stacks of layers */
#define LAYER_MAX 34.0
#define ROW 21.0
#define CELL 19.0
#define ROLE_CHARS 24
#define DOTS_MAX 4000 /* beyond it the largest error of each role and layer */

typedef struct xaxis {
    const lb_report_axis *axis;
    double layer, end;  /* width of a layer's column; right end */
    double base, scale; /* of bars: where they stand, height of a byte */
} xaxis;

static xaxis x_axis(const lb_report_axis *a) {
    xaxis x = {.axis = a};
    double room = WIDTH - LEFT - RIGHT - OUTSIDE_WIDTH - GAP * (double)LB_MAX(a->n_groups, 1);
    x.layer = a->n_slots > 1 ? fmin(room / (double)(a->n_slots - 1), LAYER_MAX) : LAYER_MAX;
    x.end = LEFT + OUTSIDE_WIDTH + GAP * (double)a->n_groups + x.layer * (double)(a->n_slots - 1);
    return x;
}

static double slot_x(const xaxis *x, u32 slot) {
    return slot == 0 ? LEFT
                     : LEFT + OUTSIDE_WIDTH + GAP * (double)(x->axis->slots[slot].group + 1) +
                           x->layer * (double)(slot - 1);
}

static double slot_width(const xaxis *x, u32 slot) {
    return slot == 0 ? OUTSIDE_WIDTH : x->layer;
}

/* ---- pieces ---- */

static void begin_svg(lb_out *out, double width, double height, const char *what,
                      const lb_report_model *m, const char *says) {
    lb_buf *b = &out->buf;
    lb_buf_printf(b,
                  "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\">"
                  "<title>%s",
                  width, height, width, height, what);
    if (m) {
        lb_buf_printf(b, ": %s, ", m->letter);
        lb_html_name(b, m->source->label);
    }
    lb_buf_printf(b, "</title><desc>%s</desc>\n", says);
}

static void text(lb_out *out, const char *class, double x, double y, const char *s) {
    lb_buf_printf(&out->buf, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", class, x, y,
                  s);
}

static void line(lb_out *out, const char *class, double x1, double y1, double x2, double y2) {
    lb_buf_printf(&out->buf,
                  "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class,
                  x1, y1, x2, y2);
}

static void rect(lb_out *out, double x, double y, double w, double h) {
    lb_buf_printf(&out->buf, " x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", x, y, w, h);
}

/* Names of stacks of layers, in two lines in turn: each has room to the one after the next. */
static void stack_marks(lb_out *out, const xaxis *x, double y) {
    const lb_report_axis *a = x->axis;
    double begin[LB_REPORT_GROUPS_MAX + 2];
    for (u32 g = 0; g < LB_LEN(begin); g++)
        begin[g] = WIDTH;
    for (u32 s = a->n_slots; s-- > 1;)
        begin[a->slots[s].group] = slot_x(x, s);
    for (u32 g = 0; g < a->n_groups; g++) {
        u32 chars = (u32)((begin[g + 2] - begin[g]) / 7);
        lb_buf_printf(&out->buf, "<text class=\"ax\" x=\"%.1f\" y=\"%.1f\">", begin[g],
                      y + (g % 2 ? 48 : 33));
        if (chars >= 6)
            lb_html_cut(&out->buf, a->groups[g].prefix, LB_MIN(chars, 60u));
        lb_buf_put_c(&out->buf, "</text>\n");
    }
}

/* Numbers of layers below the columns, where there is room for them. */
static void layer_marks(lb_out *out, const xaxis *x, double y) {
    const lb_report_axis *a = x->axis;
    double free_from = 0;
    text(out, "ax m", LEFT + OUTSIDE_WIDTH / 2, y + 17, "other");
    for (u32 s = 1; s < a->n_slots; s++) {
        char number[32];
        double at = slot_x(x, s) + x->layer / 2;
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)a->slots[s].first);
        double half = 3.6 * (double)strlen(number) + 3;
        bool round = a->slots[s].first % 4 == 0 || x->layer > 18 || a->slots[s].n > 1;
        if (at - half < free_from || !round)
            continue;
        text(out, "ax m", at, y + 17, number);
        free_from = at + half;
    }
    text(out, "ax e", LEFT - 8, y + 17, "layer");
    if (a->n_groups > 1)
        stack_marks(out, x, y);
}

static double marks_height(const lb_report_axis *a) {
    return a->n_groups > 1 ? 56 : 25;
}

/* ---- legend and shares ---- */

void lb_plot_legend(const lb_report *r, u32 first, u32 n, lb_out *out) {
    lb_buf_put_c(&out->buf, "<ul class=\"legend\" aria-label=\"Types\">");
    for (u32 t = 0; t < r->n_types; t++) {
        const lb_report_type *x = &r->types[t];
        bool any = false;
        for (u32 i = first; i < first + n; i++)
            any |= r->models[i].sum[t].n_weights != 0;
        if (!any)
            continue;
        lb_buf_printf(&out->buf,
                      "<li><svg class=\"key\" width=\"12\" height=\"12\" "
                      "aria-hidden=\"true\"><rect class=\"t%u\" width=\"12\" "
                      "height=\"12\" rx=\"3\"/></svg>%s <span class=\"dim\">%.4g</span></li>",
                      x->color, x->label,
                      x->n_params ? (double)x->size_bytes * 8 / (double)x->n_params : 0.0);
    }
    lb_buf_put_c(&out->buf, "</ul>\n");
}

static void share_bar(const lb_report *r, const lb_report_model *m, bool params, double width,
                      double y, lb_out *out) {
    u64 all = params ? m->inspect.n_params : m->inspect.size_bytes, before = 0;
    char size[LB_SIZE_TEXT];
    for (u32 t = 0; t < r->n_types && all; t++) {
        u64 n = params ? m->sum[t].n_params : m->sum[t].size_bytes;
        if (n == 0)
            continue;
        double x = (double)before / (double)all * width, w = (double)n / (double)all * width;
        before += n;
        double share = (double)n / (double)all * 100;
        lb_buf_printf(&out->buf, "<g><title>%s: %.2f%% of the %s, %s</title><rect class=\"t%u\"",
                      r->types[t].label, share, params ? "parameters" : "bytes",
                      params ? lb_count_text(n, size) : lb_size_text(n, size), r->types[t].color);
        rect(out, LEFT + x, y, fmax(w - 1, 0.5), 24);
        if (w > 8.0 * (double)strlen(r->types[t].label) + 8)
            lb_buf_printf(&out->buf, "<text class=\"in m\" x=\"%.1f\" y=\"%.1f\">%s</text>",
                          LEFT + x + w / 2, y + 16, r->types[t].label);
        lb_buf_put_c(&out->buf, "</g>\n");
    }
}

void lb_plot_bars(const lb_report *r, lb_out *out) {
    double room = WIDTH - LEFT - 80, height = 62.0 * (double)r->n_models + 4;
    u64 most = 1;
    char size[LB_SIZE_TEXT];
    begin_svg(out, WIDTH, height, "Share of each type", NULL,
              "For each model two bars: its parameters, all of the same length, and its bytes, as "
              "long as the model is large, divided by type. The table below has the numbers.");
    for (u32 i = 0; i < r->n_models; i++)
        most = LB_MAX(most, r->models[i].inspect.size_bytes);
    for (u32 i = 0; i < r->n_models; i++) {
        const lb_report_model *m = &r->models[i];
        double y = 62.0 * (double)i + 2;
        double w = (double)m->inspect.size_bytes / (double)most * room;
        lb_buf_printf(&out->buf, "<text class=\"ax s\" x=\"0\" y=\"%.1f\">%s</text>\n", y + 17,
                      r->n_models > 1 ? m->letter : "");
        text(out, "ax e", LEFT - 8, y + 16, "parameters");
        text(out, "ax e", LEFT - 8, y + 43, "bytes");
        share_bar(r, m, true, room, y, out);
        share_bar(r, m, false, w, y + 27, out);
        text(out, "ax", LEFT + room + 6, y + 16, lb_count_text(m->inspect.n_params, size));
        text(out, "ax", LEFT + w + 6, y + 43, lb_size_text(m->inspect.size_bytes, size));
        lb_out_spill(out);
    }
    lb_buf_put_c(&out->buf, "</svg>\n");
}

/* ---- bytes by layer ---- */

/* 1, 2 or 5 times a power of ten: at most five marks up to x. */
static u64 mark_step(u64 x) {
    u64 step = 1;
    static const u64 next[] = {2, 5, 10};
    for (u64 ten = 1; step * 5 < x && ten < UINT64_MAX / 100; ten *= 10)
        for (u32 i = 0; i < 3 && step * 5 < x; i++)
            step = ten * next[i];
    return step;
}

static void slot_bar(const lb_report *r, const lb_report_model *m, u32 slot, const xaxis *x,
                     lb_out *out) {
    double base = x->base, scale = x->scale;
    char size[LB_SIZE_TEXT];
    double y = base, left = slot_x(x, slot), w = slot_width(x, slot), pad = w > 6 ? 1 : 0.25;
    u64 all = 0;
    for (u32 t = 0; t < r->n_types; t++)
        all += m->slot_bytes[(u64)slot * r->n_types + t];
    /* what stands outside may be far more than a layer: cut, with its size above */
    double cut = (double)all * scale > base - 24 ? (base - 24) / (double)all : scale;
    for (u32 t = 0; t < r->n_types; t++) {
        u64 n = m->slot_bytes[(u64)slot * r->n_types + t];
        if (n == 0)
            continue;
        double h = (double)n * cut;
        y -= h;
        lb_buf_put_c(&out->buf, "<g><title>");
        lb_report_slot_text(x->axis, slot, &out->buf);
        lb_buf_printf(&out->buf, ": %s, %s of ", r->types[t].label, lb_size_text(n, size));
        lb_buf_printf(&out->buf, "%s</title><rect class=\"t%u\"", lb_size_text(all, size),
                      r->types[t].color);
        rect(out, left + pad, y, w - 2 * pad, fmax(h, 0.3));
        lb_buf_put_c(&out->buf, "</g>\n");
    }
    if (cut < scale) {
        lb_buf_printf(&out->buf,
                      "<path class=\"cut\" d=\"M%.1f %.1fl%.1f -6M%.1f %.1fl%.1f -6\"/>\n",
                      left - 2, base * 0.55 + 4, w + 4, left - 2, base * 0.55 + 9, w + 4);
        text(out, "ax", left, 14, lb_size_text(all, size));
    }
    lb_out_spill(out);
}

void lb_plot_layers(const lb_report *r, u32 model, u64 most_bytes, lb_out *out) {
    const lb_report_model *m = &r->models[model];
    xaxis x = x_axis(&m->axis);
    double base = 200, height = base + marks_height(&m->axis);
    double scale = (base - 34) / (double)LB_MAX(most_bytes, 1);
    char size[LB_SIZE_TEXT];
    x.base = base;
    x.scale = scale;
    begin_svg(out, WIDTH, height, "Bytes by layer", m,
              "A column for each layer, divided by type; what stands outside the layers is at the "
              "left, cut where it is far larger. The table below has the numbers.");
    u64 step = mark_step(most_bytes);
    for (u64 v = 0; v <= most_bytes; v += step) {
        line(out, "grid", LEFT, base - (double)v * scale, x.end, base - (double)v * scale);
        text(out, "ax e", LEFT - 8, base - (double)v * scale + 4, v ? lb_size_text(v, size) : "0");
        if (step > UINT64_MAX - v)
            break;
    }
    for (u32 s = 0; s < m->axis.n_slots; s++)
        slot_bar(r, m, s, &x, out);
    layer_marks(out, &x, base);
    lb_buf_put_c(&out->buf, "</svg>\n");
}

/* ---- grids of roles and layers ---- */

static void begin_grid(lb_out *out, const xaxis *x, const char *what, const lb_report_model *m,
                       const char *says) {
    const lb_report_axis *a = x->axis;
    double height = ROW * (double)a->n_roles + marks_height(a) + 2;
    begin_svg(out, WIDTH, height, what, m, says);
    for (u32 i = 0; i < a->n_roles; i++) {
        lb_buf_printf(&out->buf, "<g><title>");
        lb_html_name(&out->buf, a->roles[i]);
        lb_buf_printf(&out->buf, "</title><text class=\"ax e\" x=\"%.1f\" y=\"%.1f\">", LEFT - 8,
                      ROW * (double)i + 14);
        lb_html_cut(&out->buf, a->roles[i], ROLE_CHARS);
        lb_buf_put_c(&out->buf, "</text></g>\n");
    }
    for (u32 i = 0; i < a->n_roles; i++) {
        lb_buf_put_c(&out->buf, "<rect class=\"bg\"");
        rect(out, LEFT, ROW * (double)i, x->end - LEFT, CELL);
        lb_buf_put_c(&out->buf, "\n");
    }
    layer_marks(out, x, ROW * (double)a->n_roles);
}

/* A cell's mark and figure; the caller has begun it with its tooltip. */
static void end_cell(lb_out *out, const xaxis *x, u32 role, u32 slot, const char *class,
                     const char *figure) {
    double left = slot_x(x, slot), w = slot_width(x, slot), pad = w > 6 ? 1 : 0.25;
    lb_buf_printf(&out->buf, "</title><rect class=\"%s\"", class);
    rect(out, left + pad, ROW * (double)role, w - 2 * pad, CELL);
    if (6.0 * (double)strlen(figure) + 2 <= w)
        lb_buf_printf(&out->buf, "<text class=\"f%c%c m\" x=\"%.1f\" y=\"%.1f\">%s</text>",
                      class[0], class[0] == 't' ? 'x' : class[1], left + w / 2,
                      ROW * (double)role + 13.5, figure);
    lb_buf_put_c(&out->buf, "</g>\n");
    lb_out_spill(out);
}

/* "4.5", "16": three characters, halves upwards (4.25: 4.3). */
static void bits_text(double bits, char out[16]) {
    double tenths = floor(bits * 10 + 0.5);
    bool whole = tenths >= 100 || tenths == floor(tenths / 10) * 10;
    (void)snprintf(out, 16, whole ? "%.0f" : "%.1f", whole ? floor(bits + 0.5) : tenths / 10);
}

void lb_plot_types(const lb_report *r, u32 model, lb_out *out) {
    const lb_report_model *m = &r->models[model];
    const lb_report_axis *a = &m->axis;
    xaxis x = x_axis(a);
    lb_buf *b = &out->buf;
    begin_grid(out, &x, "Type map", m,
               "A row for each role of a tensor, a column for each layer; the colour is the type, "
               "the figure the bits a weight. The table below lists them.");
    for (u32 i = 0; i < a->n_roles; i++)
        for (u32 s = 0; s < a->n_slots; s++) {
            const lb_report_cell *c = &m->cells[(u64)i * a->n_slots + s];
            char figure[16], class[16];
            if (c->n_weights == 0)
                continue;
            double bpw = c->n_params ? (double)c->size_bytes * 8 / (double)c->n_params : 0;
            lb_buf_put_c(b, "<g><title>");
            lb_html_name(b, a->roles[i]);
            lb_buf_put_c(b, ", ");
            lb_report_slot_text(a, s, b);
            lb_buf_printf(b, ": %s%s, %.4g bits a weight, ", c->mixed ? "mostly " : "",
                          r->types[c->type].label, bpw);
            lb_html_digits(b, c->n_params);
            lb_buf_put_c(b, " parameters");
            if (c->n_weights > 1)
                lb_buf_printf(b, ", %llu tensors", (unsigned long long)c->n_weights);
            bits_text(bpw, figure);
            (void)snprintf(class, sizeof class, c->mixed ? "t%u mix" : "t%u",
                           r->types[c->type].color);
            end_cell(out, &x, i, s, class, figure);
        }
    lb_buf_put_c(b, "</svg>\n");
}

/* ---- errors ---- */

static u32 error_level(double rel) {
    static const double from[] = {0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.2};
    u32 k = 0;
    while (k < LB_LEN(from) && !(rel < from[k]))
        k++;
    return k;
}

/* Per cent, of at most four characters. */
static void percent_text(double rel, char out[16]) {
    double p = rel * 100;
    if (rel == 0)
        (void)snprintf(out, 16, "0");
    else if (!isfinite(rel))
        (void)snprintf(out, 16, "\xe2\x88\x9e");
    else
        (void)snprintf(out, 16,
                       p < 0.095  ? "<.1"
                       : p < 9.95 ? "%.1f"
                       : p < 999  ? "%.0f"
                                  : ">999",
                       p);
}

void lb_plot_error_map(const lb_report *r, u32 model, lb_out *out) {
    const lb_report_model *m = &r->models[model];
    const lb_report_axis *a = &m->pair.axis;
    xaxis x = x_axis(a);
    lb_buf *b = &out->buf;
    u64 n = (u64)a->n_roles * a->n_slots;
    lb_diff_total *cells = lb_alloc_zero(n, sizeof *cells);
    if (!cells) {
        b->oom = true;
        return;
    }
    for (u64 i = 0; i < m->diff.n_rows; i++) {
        const lb_report_item *it = &m->pair.items[i];
        if (m->diff.rows[i].same_shape)
            lb_diff_add(&cells[(u64)it->role * a->n_slots + it->slot], &m->diff.rows[i]);
    }
    begin_grid(out, &x, "Error map", m,
               "A row for each role of a tensor, a column for each layer; the darker, the larger "
               "the relative error; the figure is in per cent. The table below has the numbers.");
    for (u64 i = 0; i < n; i++) {
        const lb_diff_total *c = &cells[i];
        u32 role = (u32)(i / a->n_slots), slot = (u32)(i % a->n_slots);
        char figure[16], class[16];
        if (c->n_rows == 0)
            continue;
        lb_buf_put_c(b, "<g><title>");
        lb_html_name(b, a->roles[role]);
        lb_buf_put_c(b, ", ");
        lb_report_slot_text(a, slot, b);
        lb_buf_put_c(b, ": relative error ");
        lb_html_percent(b, c->rel);
        lb_buf_printf(b, ", cosine %.6f", c->cosine);
        percent_text(c->rel, figure);
        (void)snprintf(class, sizeof class, c->rel == 0 ? "ez" : "e%u", error_level(c->rel));
        end_cell(out, &x, role, slot, class, figure);
    }
    lb_buf_put_c(b, "</svg>\n");
    lb_free(cells);
}

void lb_plot_error_legend(lb_out *out) {
    lb_buf *b = &out->buf;
    lb_buf_put_c(b, "<ul class=\"legend\" aria-label=\"Relative error\">");
    static const char *const words[] = {"below 0.1 %", "0.1 to 0.3 %", "0.3 to 1 %",
                                        "1 to 3 %",    "3 to 6 %",     "6 to 10 %",
                                        "10 to 20 %",  "20 % and more"};
    for (u32 i = 0; i < LB_LEN(words) + 1; i++)
        lb_buf_printf(
            b,
            "<li><svg class=\"key\" width=\"12\" height=\"12\" aria-hidden=\"true\"><rect "
            "class=\"e%c\" width=\"12\" height=\"12\" rx=\"3\"/></svg>%s</li>",
            i ? (char)('0' + i - 1) : 'z', i ? words[i - 1] : "none");
    lb_buf_put_c(b, "</ul>\n");
}

typedef struct yaxis {
    double lo, hi, top, bottom; /* decades; places of them; zeros stand below, infinities above */
} yaxis;

static double error_y(const lb_report *r, const yaxis *y, double rel) {
    if (rel == 0)
        return y->bottom + 16;
    if (!isfinite(rel))
        return y->top - 12;
    double at = (lb_report_log10(r, rel) - y->lo) / (y->hi - y->lo);
    return y->bottom - fmax(0, fmin(1, at)) * (y->bottom - y->top);
}

static yaxis error_axis(const lb_report *r, const lb_report_model *m) {
    yaxis y = {.lo = 0, .hi = -20, .top = 26, .bottom = 250};
    for (u64 i = 0; i < m->pair.n_worst; i++) {
        double rel = m->diff.rows[m->pair.worst[i]].rel;
        if (rel == 0 || !isfinite(rel))
            continue;
        double l = lb_report_log10(r, rel);
        y.lo = fmin(y.lo, floor(l));
        y.hi = fmax(y.hi, ceil(l));
    }
    y.lo = fmax(y.lo, -8); /* what is smaller lies on the axis */
    y.hi = fmin(fmax(y.hi, y.lo + 1), 4);
    y.lo = fmin(y.lo, y.hi - 1);
    return y;
}

static void error_marks(const lb_report *r, const yaxis *y, double end, lb_out *out) {
    char number[32];
    double decade = 1;
    for (i32 d = (i32)y->lo; d < 0; d++)
        decade /= 10;
    for (i32 d = 0; d < (i32)y->lo; d++)
        decade *= 10;
    for (i32 d = (i32)y->lo; d <= (i32)y->hi; d++, decade *= 10) {
        double at = error_y(r, y, decade);
        line(out, "grid", LEFT, at, end, at);
        (void)snprintf(number, sizeof number, "%.6g%%", decade * 100);
        text(out, "ax e", LEFT - 8, at + 4, number);
        for (u32 k = 2; k < 10 && d < (i32)y->hi && y->hi - y->lo < 4; k += k == 2 ? 3 : 5) {
            at = error_y(r, y, decade * k);
            line(out, "minor", LEFT, at, end, at);
        }
    }
    text(out, "ax e", LEFT - 8, y->bottom + 20, "exact");
    line(out, "minor", LEFT, y->bottom + 16, end, y->bottom + 16);
}

static void error_dot(const lb_report *r, const lb_report_model *m, u64 row, const xaxis *x,
                      const yaxis *y, lb_out *out) {
    const lb_diff_row *d = &m->diff.rows[row];
    const lb_report_item *it = &m->pair.items[row];
    lb_buf *b = &out->buf;
    double w = slot_width(x, it->slot), n = (double)LB_MAX(x->axis->n_roles, 1);
    double at = slot_x(x, it->slot) + w / 2 + (((double)it->role + 0.5) / n - 0.5) * w * 0.7;
    lb_buf_printf(b, "<circle class=\"d t%u\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"><title>",
                  r->types[m->pair.types[row]].color, at, error_y(r, y, d->rel),
                  x->layer > 12 ? 3.4 : 2.4);
    lb_html_name(b, d->name);
    lb_buf_printf(b, " (%s): relative error ", r->types[m->pair.types[row]].label);
    lb_html_percent(b, d->rel);
    lb_buf_printf(b, ", cosine %.6f</title></circle>\n", d->cosine);
    lb_out_spill(out);
}

/* All rows, or of each role and layer the worst: rows come in order of their error. */
static void error_dots(const lb_report *r, const lb_report_model *m, const xaxis *x, const yaxis *y,
                       lb_out *out) {
    u64 n = (u64)x->axis->n_roles * x->axis->n_slots;
    u8 *met = lb_alloc_zero(n, 1);
    if (!met) {
        out->buf.oom = true;
        return;
    }
    for (u64 i = 0; i < m->pair.n_worst; i++) {
        const lb_report_item *it = &m->pair.items[m->pair.worst[i]];
        u8 *cell = &met[(u64)it->role * x->axis->n_slots + it->slot];
        if (m->pair.n_worst <= DOTS_MAX || !*cell)
            error_dot(r, m, m->pair.worst[i], x, y, out);
        *cell = 1;
    }
    lb_free(met);
}

/* The error of each layer as a whole. */
static void error_line(const lb_report *r, const lb_report_model *m, const xaxis *x, const yaxis *y,
                       lb_out *out) {
    u32 n = x->axis->n_slots, group = 0;
    lb_diff_total *sum = lb_alloc_zero(n, sizeof *sum);
    if (!sum) {
        out->buf.oom = true;
        return;
    }
    for (u64 i = 0; i < m->diff.n_rows; i++)
        if (m->diff.rows[i].same_shape)
            lb_diff_add(&sum[m->pair.items[i].slot], &m->diff.rows[i]);
    lb_buf_put_c(&out->buf, "<path class=\"trend\" d=\"");
    for (u32 s = 1, drawn = 0; s < n; s++) {
        if (x->axis->slots[s].group != group)
            drawn = 0;
        group = x->axis->slots[s].group;
        if (sum[s].n_rows == 0)
            continue;
        lb_buf_printf(&out->buf, "%s%.1f %.1f", drawn++ ? "L" : "M", slot_x(x, s) + x->layer / 2,
                      error_y(r, y, sum[s].rel));
    }
    lb_buf_put_c(&out->buf, "\"><title>The error of each layer as a whole</title></path>\n");
    lb_free(sum);
}

void lb_plot_errors(const lb_report *r, u32 model, lb_out *out) {
    const lb_report_model *m = &r->models[model];
    xaxis x = x_axis(&m->pair.axis);
    yaxis y = error_axis(r, m);
    begin_svg(out, WIDTH, y.bottom + 26 + marks_height(x.axis), "Error by tensor", m,
              "A point for each tensor over its layer, its relative error on a logarithmic scale, "
              "coloured by type; the line is the error of each layer as a whole. The table below "
              "lists the largest.");
    error_marks(r, &y, x.end, out);
    error_line(r, m, &x, &y, out);
    error_dots(r, m, &x, &y, out);
    layer_marks(out, &x, y.bottom + 26);
    lb_buf_put_c(&out->buf, "</svg>\n");
}
