/* SPDX-License-Identifier: Apache-2.0 */
/* method_mean.c: multislerp, karcher and model_stock. */
#include "merge/sphere.h"
#include "kernel/angle.h"
#include <math.h>

/* ---- multislerp ---- */

/* What of it depends on data. param: type, eps, weights. */
typedef struct multi {
    double type, eps;
    const double *w; /* [n] */
    u32 n;
    double norm[LB_GRAM_MAX], by[LB_GRAM_MAX]; /* norms; what vectors are divided by */
    double mean_norm, dots[LB_GRAM_MAX], average;
    bool flat; /* no directions, or two that cancel: the weighted sum is taken as it is */
} multi;

static const char *multi_fill(const lb_formula *f, const double *dot, u32 n, multi *k) {
    double sum = 0, all = 0;
    *k = (multi){.type = f->param[0], .eps = f->param[1], .w = f->param + 2, .n = n};
    for (u32 i = 0; i < n; i++) {
        all += dot[lb_gram_at(i, i)];
        k->norm[i] = lb_merge_typed_number(k->type, sqrt(dot[lb_gram_at(i, i)]));
        k->by[i] = lb_merge_typed_number(k->type, k->norm[i] + k->eps);
        if (k->by[i] == 0) /* f16 has no 1e-8 */
            k->by[i] = 1;
        k->average += lb_merge_typed_number(k->type, k->w[i] * k->norm[i]);
    }
    k->average = lb_merge_typed_number(k->type, k->average);
    k->flat = all == 0; /* nothing differs from the base */
    if (k->flat)
        return NULL;
    for (u32 i = 0; i < n; i++)
        for (u32 j = 0; j < n; j++)
            sum += k->w[i] / k->by[i] * k->w[j] / k->by[j] * dot[lb_gram_at(i, j)];
    double mean = sqrt(fmax(sum, 0)); /* rounding may leave a negative nothing */
    k->mean_norm = lb_merge_typed_number(k->type, mean);
    if (k->mean_norm < fmax(k->eps, 1e-7)) { /* of exact cancellation so much is left */
        k->flat = true;
        return n == 2 ? NULL
                      : "the weighted directions of the models cancel out: multislerp has no mean "
                        "(choose other weights)";
    }
    for (u32 i = 0; i < n; i++) {
        for (u32 j = 0; j < n; j++)
            k->dots[i] += dot[lb_gram_at(i, j)] / k->by[i] * k->w[j] / k->by[j] / mean;
        k->dots[i] = lb_merge_typed_number(k->type, k->dots[i]);
    }
    return NULL;
}

/* The mean's direction times the mean norm: in exact arithmetic the tangents at the weighted mean
 * add up to nothing. out: a coefficient a model. */
static const char *multi_mix(const lb_formula *f, const double *dot, u32 n, double *out) {
    multi k;
    const char *why = multi_fill(f, dot, n, &k);
    for (u32 i = 0; i < n && !why; i++)
        out[i] = k.flat ? k.w[i] : k.average / k.mean_norm * k.w[i] / k.by[i];
    return why;
}

/* out: [n] what vectors are divided by, [n] their products with the mean's direction, the norm of
 * the mean, factors of the mean and of the tangent, the mean norm. */
static const char *multi_parts(const lb_formula *f, const double *dot, u32 n, double *out) {
    multi k;
    const char *why = multi_fill(f, dot, n, &k);
    double left = 0, *more = out + (size_t)2 * n;
    for (u32 i = 0; i < n; i++) {
        out[i] = k.flat ? 1 : k.by[i];
        out[n + i] = k.flat ? 0 : k.dots[i];
        left += k.w[i] * k.dots[i];
    }
    more[0] = k.flat ? 1 : k.mean_norm;
    /* the tangent is what rounding leaves: its norm only has to be of the right size */
    double tangent = lb_merge_typed_number(k.type, fabs(k.mean_norm - left) + k.eps);
    more[1] = k.flat ? 1 : lb_merge_typed_number(k.type, lb_cos_f64(tangent));
    more[2] = k.flat || tangent == 0
                  ? 0
                  : lb_merge_typed_number(
                        k.type, lb_merge_typed_number(k.type, lb_sin_f64(tangent)) / tangent);
    more[3] = k.flat ? 1 : k.average;
    return why;
}

/* sum w_i x_i, each product and the sum rounded as the work type has it. */
static lb_node_id weighted_sum(const lb_merge_job *j, const lb_node_id *x, const double *w, u32 n,
                               lb_node_id *scratch) {
    for (u32 i = 0; i < n; i++)
        scratch[i] = lb_merge_round(j, lb_expr_map1(j->g, LB_MAP_MUL_C, x[i], LB_CONST(w[i])));
    return lb_merge_sum(j, scratch, n);
}

/* Step by step as multislerp.py of mergekit 0.1.5 goes, in the work type. */
static lb_node_id multi_steps(const lb_merge_job *j, const lb_merge_points *p, const double *w,
                              lb_node_id stat) {
    lb_node_id unit[LB_GRAM_MAX] = {0}, scratch[LB_GRAM_MAX];
    u32 n = p->n;
    for (u32 i = 0; i < n; i++)
        unit[i] = lb_merge_by(j, LB_MAP_DIV_C, p->point[i], stat, i);
    lb_node_id mean =
        lb_merge_by(j, LB_MAP_DIV_C, weighted_sum(j, unit, w, n, scratch), stat, 2 * n);
    for (u32 i = 0; i < n; i++)
        unit[i] =
            lb_merge_map2(j, LB_MAP_SUB, unit[i], lb_merge_by(j, LB_MAP_MUL_C, mean, stat, n + i));
    lb_node_id tangent = weighted_sum(j, unit, w, n, scratch);
    lb_node_id y = lb_merge_map2(j, LB_MAP_ADD, lb_merge_by(j, LB_MAP_MUL_C, mean, stat, 2 * n + 1),
                                 lb_merge_by(j, LB_MAP_MUL_C, tangent, stat, 2 * n + 2));
    y = lb_merge_by(j, LB_MAP_MUL_C, y, stat, 2 * n + 3);
    return p->base == LB_NODE_NONE ? y : lb_merge_map2(j, LB_MAP_ADD, y, p->base);
}

static lb_status multi_weights(const lb_merge_method *m, const lb_merge_job *j,
                               const lb_merge_points *p, double *w, lb_err *err) {
    double total = 0;
    for (u32 i = 0; i < p->n; i++) {
        w[i] = lb_merge_of(m, p->in[i], "weight");
        if (j->rounding == LB_MERGE_MERGEKIT)
            w[i] = lb_merge_round_number(j, w[i]);
        total += w[i];
    }
    if (lb_merge_shared(m, j, "normalize_weights") == 0)
        return LB_OK;
    if (total == 0)
        return lb_fail(err, LB_E_USAGE,
                       "tensor '%.*s': the weights add up to zero: they cannot be normalized",
                       LB_FMT(j->name));
    if (j->rounding == LB_MERGE_MERGEKIT)
        total = lb_merge_round_number(j, total);
    for (u32 i = 0; i < p->n; i++)
        w[i] = j->rounding == LB_MERGE_MERGEKIT ? lb_merge_round_number(j, w[i] / total)
                                                : w[i] / total;
    return LB_OK;
}

static lb_status build_multislerp(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                  lb_err *err) {
    lb_merge_points p;
    double param[2 + LB_GRAM_MAX] = {lb_merge_number_type(j), lb_merge_shared(m, j, "eps")};
    bool compat = j->rounding == LB_MERGE_MERGEKIT;
    LB_TRY(lb_merge_points_make(m, j, false, &p, err));
    if (p.n == 1) { /* nothing between which to go */
        *out = lb_merge_typed(j, p.in[0]);
        return lb_graph_status(j->g, err);
    }
    LB_TRY(multi_weights(m, j, &p, param + 2, err));
    lb_formula f = {.name = m->name,
                    .run = compat ? multi_parts : multi_mix,
                    .param = param,
                    .n_params = 2 + p.n,
                    .n_out = compat ? 2 * p.n + 4 : p.n};
    lb_node_id stat = lb_expr_gram(j->g, p.point, p.n, &f);
    *out =
        compat ? multi_steps(j, &p, param + 2, stat) : lb_merge_mix(j, p.point, p.n, stat, p.base);
    return lb_graph_status(j->g, err);
}

static const lb_merge_param multislerp_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .required = true},
    {.name = "normalize_weights", .kind = LB_MERGE_BOOL, .initial = 1},
    {.name = "eps", .initial = 1e-8},
};

const lb_merge_method lb_merge_multislerp = {
    .name = "multislerp",
    .title = "Multi-SLERP",
    .source = "https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
    .params = multislerp_params,
    .n_params = LB_LEN(multislerp_params),
    .base = LB_BASE_OPTIONAL,
    .min_non_base = 1,
    .build = build_multislerp,
};

/* ---- karcher ---- */

/* The mean as a combination of unit vectors, and what is known of it. */
typedef struct karcher {
    double tol;
    u32 n_valid, valid[LB_GRAM_MAX];
    double norm[LB_GRAM_MAX], c[LB_GRAM_MAX]; /* of all; coefficients of the valid ones */
    const double *dot;
} karcher;

static double unit_dot(const karcher *k, u32 a, u32 b) {
    u32 i = k->valid[a], j = k->valid[b];
    return k->dot[lb_gram_at(i, j)] / k->norm[i] / k->norm[j];
}

/* Of sum c_a u_a. */
static double length_of(const karcher *k, const double *c) {
    double s = 0;
    for (u32 a = 0; a < k->n_valid; a++)
        for (u32 b = 0; b < k->n_valid; b++)
            s += c[a] * c[b] * unit_dot(k, a, b);
    return sqrt(fmax(s, 0));
}

/* One step; false: the mean stays. */
static bool karcher_step(karcher *k) {
    double tangent[LB_GRAM_MAX] = {0}, weight = 1.0 / k->n_valid, size;
    for (u32 a = 0; a < k->n_valid; a++) {
        double d = 0;
        for (u32 b = 0; b < k->n_valid; b++)
            d += k->c[b] * unit_dot(k, a, b);
        d = d > 1 ? 1 : d < -1 ? -1 : d;
        double angle = lb_acos_f64(d);
        double sine = lb_sin_f64(angle);
        if (angle < k->tol || sine < 1e-7) /* opposite: no direction is nearer */
            continue;
        double by = weight * angle / sine;
        tangent[a] += by;
        for (u32 b = 0; b < k->n_valid; b++)
            tangent[b] -= by * d * k->c[b];
    }
    size = length_of(k, tangent);
    if (size < k->tol)
        return false;
    for (u32 a = 0; a < k->n_valid; a++)
        k->c[a] = lb_cos_f64(size) * k->c[a] + lb_sin_f64(size) / size * tangent[a];
    size = length_of(k, k->c);
    for (u32 a = 0; a < k->n_valid && size > k->tol; a++)
        k->c[a] /= size;
    return true;
}

static void karcher_run(karcher *k, double max_iter) {
    double length, weight = 1.0 / LB_MAX(k->n_valid, 1u);
    for (u32 a = 0; a < k->n_valid; a++)
        k->c[a] = weight;
    length = length_of(k, k->c);
    for (u32 a = 0; a < k->n_valid; a++)
        k->c[a] = length < k->tol ? a == 0 : weight / length;
    for (double i = 0; i < max_iter && karcher_step(k); i++)
        ;
}

/* param: type, tolerance, steps, whether coefficients are those of unit vectors. out: [n]
 * coefficients, [n] norms to divide by, the mean norm: whole, or in the coefficients. */
static const char *karcher_formula(const lb_formula *f, const double *dot, u32 n, double *out) {
    karcher k = {.tol = f->param[1], .dot = dot};
    double scale = 0;
    for (u32 i = 0; i < n; i++) {
        k.norm[i] = sqrt(dot[lb_gram_at(i, i)]);
        scale += k.norm[i] / n;
        if (k.norm[i] > k.tol)
            k.valid[k.n_valid++] = i;
        out[i] = 0;
        out[n + i] = k.norm[i] > 0 ? k.norm[i] : 1;
    }
    karcher_run(&k, f->param[2]);
    out[2 * (size_t)n] = lb_merge_typed_number(f->param[0], scale);
    for (u32 a = 0; a < k.n_valid; a++)
        out[k.valid[a]] = f->param[3] != 0 ? k.c[a] : k.c[a] * scale / k.norm[k.valid[a]];
    return NULL;
}

/* On the unit sphere, all models alike, the base too; scaled by the mean of their norms (karcher.py
 * of mergekit 0.1.5). All steps are made on the dot products, in double. With mergekit's rounding
 * unit vectors, their mean and the result are rounded to its work type; but not the angles:
 * mergekit passes over models whose angle rounds to 0, which of models that are near each other
 * takes some and leaves others out. */
static lb_status build_karcher(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                               lb_err *err) {
    lb_merge_points p;
    bool compat = j->rounding == LB_MERGE_MERGEKIT;
    double param[4] = {lb_merge_number_type(j), lb_merge_shared(m, j, "tol"),
                       lb_merge_shared(m, j, "max_iter"), compat};
    LB_TRY(lb_merge_points_make(m, j, true, &p, err));
    *out = p.point[0];
    if (p.n == 1)
        return lb_graph_status(j->g, err);
    lb_formula f = {.name = m->name,
                    .run = karcher_formula,
                    .param = param,
                    .n_params = 4,
                    .n_out = 2 * p.n + 1};
    lb_node_id stat = lb_expr_gram(j->g, p.point, p.n, &f);
    for (u32 i = 0; i < p.n && compat; i++)
        p.point[i] = lb_merge_by(j, LB_MAP_DIV_C, p.point[i], stat, p.n + i);
    *out = lb_merge_round(j, lb_merge_mix(j, p.point, p.n, stat, LB_NODE_NONE));
    if (compat)
        *out = lb_merge_by(j, LB_MAP_MUL_C, *out, stat, 2 * p.n);
    return lb_graph_status(j->g, err);
}

static const lb_merge_param karcher_params[] = {
    {.name = "max_iter", .kind = LB_MERGE_INT, .initial = 10, .max = 100000},
    {.name = "tol", .initial = 1e-5},
};

const lb_merge_method lb_merge_karcher = {
    .name = "karcher",
    .title = "Karcher Mean",
    .source = "https://arxiv.org/abs/2603.04972",
    .params = karcher_params,
    .n_params = LB_LEN(karcher_params),
    .min_in = 1,
    .build = build_karcher,
};

/* ---- model_stock ---- */

/* param: type. out: t, 1 - t; t / n for each of the n differences. */
static const char *stock_formula(const lb_formula *f, const double *dot, u32 n, double *out) {
    double type = f->param[0], sum = 0, norm[LB_GRAM_MAX], t;
    for (u32 i = 0; i < n; i++)
        norm[i] = lb_merge_typed_number(type, sqrt(dot[lb_gram_at(i, i)]));
    for (u32 i = 0; i < n; i++)
        for (u32 j = i + 1; j < n; j++) {
            double by = fmax(lb_merge_typed_number(type, norm[i] * norm[j]),
                             lb_merge_typed_number(type, 1e-6));
            double c = lb_merge_typed_number(
                type, lb_merge_typed_number(type, dot[lb_gram_at(i, j)]) / by);
            sum += c > 1 ? 1 : c < -1 ? -1 : c;
        }
    double mean = lb_merge_typed_number(type, sum / ((double)n * (n - 1) / 2));
    double by =
        lb_merge_typed_number(type, 1 + lb_merge_typed_number(type, ((double)n - 1) * mean));
    t = fabs(by) < 1e-6
            ? 0
            : lb_merge_typed_number(type, lb_merge_typed_number(type, (double)n * mean) / by);
    out[0] = t;
    out[1] = lb_merge_typed_number(type, 1 - t);
    for (u32 i = 0; i < n; i++)
        out[2 + i] = t / n;
    return NULL;
}

/* x times number `result` of the whole, or of its row. */
static lb_node_id stock_by(const lb_merge_job *j, lb_node_id x, const lb_merge_points *p,
                           const lb_formula *f, lb_node_id stat, u32 result) {
    if (stat != LB_NODE_NONE)
        return lb_merge_by(j, LB_MAP_MUL_C, x, stat, result);
    return lb_merge_map2(j, LB_MAP_MUL, x, lb_expr_row_formula(j->g, p->point, p->n, f, result));
}

/* As mergekit rounds it: t mean + (1 - t) base. */
static lb_node_id stock_steps(const lb_merge_job *j, const lb_merge_points *p, const lb_formula *f,
                              lb_node_id stat) {
    lb_node_id sum = LB_NODE_NONE;
    for (u32 i = 0; i < p->n; i++) {
        lb_node_id x = lb_merge_typed(j, p->in[i]);
        sum = i ? lb_merge_map2(j, LB_MAP_ADD, sum, x)
                : lb_expr_map1(j->g, LB_MAP_ADD_C, x, LB_CONST(0));
    }
    sum = lb_merge_round(j, lb_expr_map1(j->g, LB_MAP_DIV_C, sum, LB_CONST(p->n)));
    return lb_merge_map2(j, LB_MAP_ADD, stock_by(j, sum, p, f, stat, 0),
                         stock_by(j, p->base, p, f, stat, 1));
}

/* base + t (mean - base) with t by the mean cosine of the differences (model_stock.py of mergekit
 * 0.1.5): of the whole, or of each row. */
static lb_status build_model_stock(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                   lb_err *err) {
    lb_merge_points p;
    double param = lb_merge_number_type(j);
    bool rows = lb_merge_shared(m, j, "filter_wise") != 0;
    LB_TRY(lb_merge_points_make(m, j, false, &p, err));
    lb_formula f = {
        .name = m->name, .run = stock_formula, .param = &param, .n_params = 1, .n_out = 2 + p.n};
    lb_node_id stat = rows ? LB_NODE_NONE : lb_expr_gram(j->g, p.point, p.n, &f);
    if (j->rounding == LB_MERGE_MERGEKIT) {
        *out = stock_steps(j, &p, &f, stat);
    } else if (rows) {
        lb_node_id sum = lb_merge_sum(j, p.point, p.n);
        *out = lb_merge_map2(j, LB_MAP_ADD, p.base, stock_by(j, sum, &p, &f, stat, 2));
    } else {
        *out = p.base;
        for (u32 i = 0; i < p.n; i++)
            *out = lb_expr_map2(j->g, LB_MAP_FMA_C, p.point[i], *out,
                                (lb_scalar){.stat = stat, .result = 2 + i});
    }
    return lb_graph_status(j->g, err);
}

static const lb_merge_param model_stock_params[] = {
    {.name = "filter_wise", .kind = LB_MERGE_BOOL},
};

const lb_merge_method lb_merge_model_stock = {
    .name = "model_stock",
    .title = "Model Stock",
    .source = "https://arxiv.org/abs/2403.19522",
    .params = model_stock_params,
    .n_params = LB_LEN(model_stock_params),
    .base = LB_BASE_REQUIRED,
    .min_in = 3,
    .lack = LB_LACK_BASE_OR_NOTHING,
    .build = build_model_stock,
};
