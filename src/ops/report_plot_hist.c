/* SPDX-License-Identifier: Apache-2.0 */
/* report_plot_hist.c: histograms of codes, scales and values, small plots that stand side by side.
 */
#include "io/size.h"
#include "ops/report_internal.h"
#include <math.h>
#include <stdio.h>

#define WIDTH 320.0
#define HEIGHT 150.0
#define LEFT 40.0
#define TOP 14.0
#define BASE 124.0
#define BARS_MAX 64

static void begin(lb_out *out, const lb_report *r, u32 model, u32 type, const char *what,
                  const char *says) {
    lb_buf *b = &out->buf;
    lb_buf_printf(b,
                  "<svg viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\" role=\"img\">"
                  "<title>%s of %s: %s, ",
                  WIDTH, HEIGHT, WIDTH, HEIGHT, what, r->types[type].label,
                  r->models[model].letter);
    lb_html_name(b, r->models[model].source->label);
    lb_buf_printf(b, "</title><desc>%s</desc>\n", says);
}

static void mark(lb_out *out, const char *class, double x, double y, const char *text) {
    lb_buf_printf(&out->buf, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", class, x, y,
                  text);
}

static void axis(lb_out *out, double most, double base, double most_down) {
    char text[32];
    lb_buf_printf(&out->buf, "<path class=\"grid\" d=\"M%.1f %.1fH%.1fM%.1f %.1fH%.1f\"/>\n", LEFT,
                  base, WIDTH - 4, LEFT, TOP, WIDTH - 4);
    (void)snprintf(text, sizeof text, most < 0.0995 ? "%.1f%%" : "%.0f%%", most * 100);
    mark(out, "ax e", LEFT - 5, TOP + 4, text);
    mark(out, "ax e", LEFT - 5, base + 4, "0");
    (void)snprintf(text, sizeof text, most_down < 0.0995 ? "%.1f%%" : "%.0f%%", most_down * 100);
    if (BASE - base > 14) /* else there is no room for it */
        mark(out, "ax e", LEFT - 5, BASE + 4, text);
}

/* What bin i is called: the code less that of zero; a float's order. */
static void code_name(const lb_report_hist *h, u32 bin, char out[16]) {
    static const char *const e2m1[] = {"-6", "-4", "-3", "-2",  "-1.5", "-1", "-.5", "-0",
                                       "0",  ".5", "1",  "1.5", "2",    "3",  "4",   "6"};
    if (h->signed_magnitude && h->n_codes == 16)
        (void)snprintf(out, 16, "%s", e2m1[bin]);
    else
        (void)snprintf(out, 16, "%d", (i32)bin - h->zero);
}

void lb_plot_codes(const lb_report *r, u32 model, u32 type, lb_out *out) {
    const lb_report_hist *h = r->models[model].hist[type];
    u32 per_bar = (h->n_codes + BARS_MAX - 1) / BARS_MAX, n = (h->n_codes + per_bar - 1) / per_bar;
    u64 all = 0, bars[BARS_MAX] = {0}, most = 1;
    char name[16], last[16];
    for (u32 i = 0; i < h->n_codes; i++) {
        bars[i / per_bar] += h->codes[i];
        all += h->codes[i];
        most = LB_MAX(most, bars[i / per_bar]);
    }
    begin(out, r, model, type, "Codes",
          "How often each code is used; the table of histograms has the counts.");
    axis(out, (double)most / (double)LB_MAX(all, 1), BASE, 0);
    double w = (WIDTH - LEFT - 6) / (double)n, free_from = 0;
    i32 step = n > 32 ? (i32)(8 * per_bar) : n > 16 ? 4 : n > 8 ? 2 : 1;
    for (u32 i = 0; i < n; i++) {
        double hgt = (double)bars[i] / (double)most * (BASE - TOP), x = LEFT + w * (double)i;
        u32 first = i * per_bar, end = LB_MIN(first + per_bar, h->n_codes) - 1;
        code_name(h, first, name);
        code_name(h, end, last);
        lb_buf_printf(&out->buf,
                      "<g><title>code %s%s%s: %.3f%%</title><rect class=\"t%u\" "
                      "x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/></g>\n",
                      name, per_bar > 1 ? " to " : "", per_bar > 1 ? last : "",
                      (double)bars[i] / (double)LB_MAX(all, 1) * 100, r->types[type].color, x + 0.5,
                      BASE - hgt, fmax(w - 1, 0.5), hgt);
        double half = 3.5 * (double)strlen(name), at = x + w / 2;
        if (((i32)first - h->zero) % step != 0)
            continue;
        if (at - half < free_from)
            continue;
        mark(out, "ax m", at, BASE + 15, name);
        free_from = at + half + 4;
    }
    lb_buf_put_c(&out->buf, "</svg>\n");
}

/* ---- magnitudes ---- */

typedef struct range {
    u32 first, end, per_bar;
} range;

static u64 sum_of(const lb_report_logs *l) {
    u64 n = 0;
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        n += l->n[i];
    return n;
}

static range range_of(const lb_report_logs *a, const lb_report_logs *b) {
    range x = {.first = LB_REPORT_LOG_BINS, .per_bar = 1};
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        if (a->n[i] || b->n[i]) {
            x.first = LB_MIN(x.first, i);
            x.end = i + 1;
        }
    if (x.end == 0)
        return (range){LB_REPORT_LOG_ZERO, LB_REPORT_LOG_ZERO + 2, 1};
    x.first &= ~1u; /* whole octaves */
    x.end = (x.end + 1) & ~1u;
    while ((x.end - x.first) / x.per_bar > BARS_MAX)
        x.per_bar *= 2;
    return x;
}

static void log_bars(lb_out *out, const lb_report_logs *l, const range *x, double scale,
                     double base, u32 color) {
    double w = (WIDTH - LEFT - 6) / (double)((x->end - x->first + x->per_bar - 1) / x->per_bar);
    u32 bar = 0;
    for (u32 i = x->first; i < x->end; i += x->per_bar, bar++) {
        u64 n = 0;
        for (u32 k = i; k < LB_MIN(i + x->per_bar, x->end); k++)
            n += l->n[k];
        if (n == 0)
            continue;
        double h = (double)n * scale, hgt = fabs(h);
        lb_buf_printf(&out->buf, "<g><title>from 2^%g up: ", (double)i / 2 - 149);
        lb_html_digits(&out->buf, n);
        lb_buf_printf(&out->buf,
                      "</title><rect class=\"t%u\" x=\"%.1f\" y=\"%.1f\" "
                      "width=\"%.1f\" height=\"%.1f\"/></g>\n",
                      color, LEFT + w * bar + 0.5, h < 0 ? base : base - hgt, fmax(w - 1, 0.5),
                      fmax(hgt, 0.4));
    }
    lb_out_spill(out);
}

static void log_marks(lb_out *out, const range *x) {
    double w = (WIDTH - LEFT - 6) / (double)((x->end - x->first + x->per_bar - 1) / x->per_bar);
    u32 octaves = (x->end - x->first) / 2, step = 1;
    char text[16];
    double free_from = 0;
    while (octaves / step > 6)
        step *= 2;
    for (u32 i = x->first; i < x->end; i += 2) {
        i32 e = (i32)i / 2 - 149;
        if (e % (i32)step != 0)
            continue;
        (void)snprintf(text, sizeof text, "2^%d", e);
        double at = LEFT + w * (double)(i - x->first) / (double)x->per_bar;
        double half = 3.5 * (double)strlen(text);
        if (at - half < free_from || at + half > WIDTH)
            continue;
        mark(out, "ax m", at, HEIGHT - 11, text);
        free_from = at + half + 4;
    }
}

void lb_plot_logs(const lb_report *r, u32 model, u32 type, bool scales, lb_out *out) {
    const lb_report_hist *h = r->models[model].hist[type];
    const lb_report_logs *up = scales ? &h->scales : &h->plus;
    const lb_report_logs *down = scales ? &h->scales : &h->minus;
    range x = range_of(up, down);
    bool both = !scales && sum_of(down) != 0;
    u64 most = 1, most_down = 0, all = 0;
    for (u32 i = x.first; i < x.end; i += x.per_bar) {
        u64 a = 0, b = 0;
        for (u32 k = i; k < LB_MIN(i + x.per_bar, x.end); k++) {
            a += up->n[k];
            b += scales ? 0 : down->n[k];
        }
        most = LB_MAX(most, a);
        most_down = LB_MAX(most_down, b);
        all += a + b;
    }
    all += up->n_zero + up->n_bad + (scales ? 0 : down->n_zero + down->n_bad);
    begin(out, r, model, type, scales ? "Scales" : "Values",
          !both ? "How often they are so large, in half octaves; the table has the counts."
                : "How often values are so large, in half octaves: positive ones upwards, "
                  "negative ones downwards; the table has the counts.");
    double scale = (BASE - TOP) / ((double)most + (double)most_down);
    double base = TOP + (double)most * scale, share = (double)LB_MAX(all, 1);
    axis(out, (double)most / share, base, (double)most_down / share);
    log_bars(out, up, &x, scale, base, r->types[type].color);
    if (both)
        log_bars(out, down, &x, -scale, base, r->types[type].color);
    log_marks(out, &x);
    lb_buf_put_c(&out->buf, "</svg>\n");
}
