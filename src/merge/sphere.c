/* SPDX-License-Identifier: Apache-2.0 */
/* sphere.c: slerp and nuslerp; and what methods over dot products share. */
#include "merge/sphere.h"
#include "kernel/angle.h"
#include "kernel/half.h"
#include <math.h>

double lb_merge_number_type(const lb_merge_job *j) {
    return j->rounding == LB_MERGE_MERGEKIT ? (double)j->work + 1 : 0;
}

double lb_merge_typed_number(double type, double x) {
    if (type == (double)LB_F16 + 1)
        return lb_f16_to_f32(lb_f16_from_f32((float)x));
    if (type == (double)LB_BF16 + 1)
        return lb_bf16_to_f32(lb_bf16_from_f32((float)x));
    return type == 0 ? x : (float)x;
}

lb_status lb_merge_points_make(const lb_merge_method *m, const lb_merge_job *j, bool with_base,
                               lb_merge_points *out, lb_err *err) {
    const lb_merge_input *base = with_base ? NULL : lb_merge_base_of(j);
    u32 n = j->n_in - (base != NULL);
    *out = (lb_merge_points){.base = LB_NODE_NONE};
    if (n > LB_GRAM_MAX)
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s': %s takes up to %d models, not %u",
                       LB_FMT(j->name), m->name, LB_GRAM_MAX, n);
    out->point = lb_arena_new(j->perm, lb_node_id, n + 1);
    out->in = lb_arena_new(j->perm, const lb_merge_input *, n + 1);
    if (!out->point || !out->in)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a merge");
    if (base)
        out->base = lb_merge_typed(j, base);
    for (u32 i = 0; i < j->n_in; i++) {
        if (&j->in[i] == base)
            continue;
        lb_node_id x = lb_merge_typed(j, &j->in[i]);
        out->in[out->n] = &j->in[i];
        out->point[out->n++] = base ? lb_merge_map2(j, LB_MAP_SUB, x, out->base) : x;
    }
    return LB_OK;
}

lb_node_id lb_merge_map2(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id b) {
    return lb_merge_round(j, lb_expr_map2(j->g, op, a, b, LB_CONST(0)));
}

lb_node_id lb_merge_by(const lb_merge_job *j, lb_map_op op, lb_node_id a, lb_node_id stat,
                       u32 result) {
    return lb_merge_round(j,
                          lb_expr_map1(j->g, op, a, (lb_scalar){.stat = stat, .result = result}));
}

lb_node_id lb_merge_mix(const lb_merge_job *j, const lb_node_id *x, u32 n, lb_node_id stat,
                        lb_node_id start) {
    lb_node_id sum = start;
    for (u32 i = 0; i < n; i++) {
        lb_scalar c = {.stat = stat, .result = i};
        sum = sum == LB_NODE_NONE ? lb_expr_map1(j->g, LB_MAP_MUL_C, x[i], c)
                                  : lb_expr_map2(j->g, LB_MAP_FMA_C, x[i], sum, c);
    }
    return sum;
}

static double clamp_1(double x) {
    return x > 1 ? 1 : x < -1 ? -1 : x;
}

/* ---- slerp ---- */

/* param: t. out: the coefficients of both. */
static const char *slerp_formula(const lb_formula *f, const double *dot, u32 n, double *out) {
    double t = f->param[0], norm[2];
    (void)n;
    for (u32 i = 0; i < 2; i++) {
        norm[i] = sqrt(dot[lb_gram_at(i, i)]);
        norm[i] = norm[i] > 1e-8 ? norm[i] : 1;
    }
    double c = clamp_1(dot[lb_gram_at(0, 1)] / norm[0] / norm[1]);
    out[0] = 1 - t;
    out[1] = t;
    if (!(fabs(c) > 0.9995)) {
        double angle = lb_acos_f64(c);
        out[0] = lb_sin_f64((1 - t) * angle) / lb_sin_f64(angle);
        out[1] = lb_sin_f64(t * angle) / lb_sin_f64(angle);
    }
    return NULL;
}

/* On the whole tensor as one vector, base first (slerp.py of mergekit 0.1.5): in f32, one rounding.
 */
static lb_status build_slerp(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                             lb_err *err) {
    u32 base = j->in[0].is_base ? 0 : 1;
    double t = lb_merge_shared(m, j, "t");
    if (j->rounding == LB_MERGE_MERGEKIT)
        t = (float)t;
    lb_node_id x[2] = {lb_merge_typed(j, &j->in[base]), lb_merge_typed(j, &j->in[1 - base])};
    lb_formula f = {.name = m->name, .run = slerp_formula, .param = &t, .n_params = 1, .n_out = 2};
    *out = lb_merge_round(j, lb_merge_mix(j, x, 2, lb_expr_gram(j->g, x, 2, &f), LB_NODE_NONE));
    return lb_graph_status(j->g, err);
}

static const lb_merge_param slerp_params[] = {{.name = "t", .required = true}};

const lb_merge_method lb_merge_slerp = {
    .name = "slerp",
    .title = "SLERP",
    .source = "https://en.wikipedia.org/wiki/Slerp",
    .params = slerp_params,
    .n_params = LB_LEN(slerp_params),
    .base = LB_BASE_REQUIRED,
    .min_in = 2,
    .max_in = 2,
    .lack = LB_LACK_COPY_ONE,
    .build = build_slerp,
};

/* ---- nuslerp ---- */

/* param: type, t. out: factors of both, what their sum is divided by. */
static const char *nuslerp_parts(const lb_formula *f, const double *dot, u32 n, double *out) {
    double type = f->param[0], t = f->param[1], norm[2];
    (void)n;
    for (u32 i = 0; i < 2; i++)
        norm[i] = fmax(lb_merge_typed_number(type, sqrt(dot[lb_gram_at(i, i)])),
                       lb_merge_typed_number(type, 1e-7));
    double c = clamp_1(lb_merge_typed_number(type, dot[lb_gram_at(0, 1)] / norm[0] / norm[1]));
    double square = lb_merge_typed_number(type, c * c);
    out[0] = 1 - t;
    out[1] = t;
    out[2] = 1;
    if (1 - square > 1e-16) {
        double angle = lb_merge_typed_number(type, lb_acos_f64(c));
        out[0] =
            lb_merge_typed_number(type, lb_sin_f64(lb_merge_typed_number(type, (1 - t) * angle)));
        out[1] = lb_merge_typed_number(type, lb_sin_f64(lb_merge_typed_number(type, t * angle)));
        out[2] = lb_merge_typed_number(type, lb_sin_f64(angle));
    }
    return NULL;
}

/* The same without roundings: two coefficients. */
static const char *nuslerp_mix(const lb_formula *f, const double *dot, u32 n, double *out) {
    double part[3];
    const char *why = nuslerp_parts(f, dot, n, part);
    out[0] = part[0] / part[2];
    out[1] = part[1] / part[2];
    return why;
}

static double nuslerp_t(const lb_merge_method *m, const lb_merge_points *p) {
    double w[2] = {lb_merge_of(m, p->in[0], "weight"), lb_merge_of(m, p->in[1], "weight")};
    double total = w[0] + w[1];
    return fabs(total) < 1e-6 ? 0.5 : w[1] / total;
}

/* The whole as one vector, each row or each column by itself. */
static lb_status nuslerp_way(const lb_merge_method *m, const lb_merge_job *j, bool *rows,
                             bool *turned, lb_err *err) {
    *rows = lb_merge_shared(m, j, "nuslerp_flatten") == 0;
    *turned = *rows && j->shape->rank > 1 && lb_merge_shared(m, j, "nuslerp_row_wise") != 0;
    if (*turned && j->shape->rank > 2)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': nuslerp_row_wise is for matrices, not for %u dimensions",
                       LB_FMT(j->name), (unsigned)j->shape->rank);
    return LB_OK;
}

/* Where the numbers of a nuslerp come from. */
typedef struct nuslerp_numbers {
    const lb_node_id *point;
    const lb_formula *f;
    lb_node_id stat; /* of the whole; LB_NODE_NONE: by row */
} nuslerp_numbers;

/* a times number `result`, or divided by it. */
static lb_node_id nuslerp_by(const lb_merge_job *j, bool divided, lb_node_id a,
                             const nuslerp_numbers *k, u32 result) {
    if (k->stat != LB_NODE_NONE)
        return lb_merge_by(j, divided ? LB_MAP_DIV_C : LB_MAP_MUL_C, a, k->stat, result);
    return lb_merge_map2(j, divided ? LB_MAP_DIV : LB_MAP_MUL, a,
                         lb_expr_row_formula(j->g, k->point, 2, k->f, result));
}

/* Slerp of two models, or of their differences to a base, by weights (nuslerp.py of mergekit
 * 0.1.5): in the work type. */
static lb_status build_nuslerp(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                               lb_err *err) {
    lb_merge_points p;
    bool compat = j->rounding == LB_MERGE_MERGEKIT, rows, turned;
    LB_TRY(nuslerp_way(m, j, &rows, &turned, err));
    LB_TRY(lb_merge_points_make(m, j, false, &p, err));
    double param[2] = {lb_merge_number_type(j), nuslerp_t(m, &p)};
    lb_formula f = {.name = m->name,
                    .run = compat ? nuslerp_parts : nuslerp_mix,
                    .param = param,
                    .n_params = 2,
                    .n_out = compat ? 3 : 2};
    for (u32 i = 0; i < 2 && turned; i++)
        p.point[i] = lb_expr_transpose(j->g, p.point[i]);
    lb_node_id stat = rows ? LB_NODE_NONE : lb_expr_gram(j->g, p.point, 2, &f);
    if (!compat && !rows) {
        *out = lb_merge_mix(j, p.point, 2, stat, p.base);
        return lb_graph_status(j->g, err);
    }
    nuslerp_numbers k = {p.point, &f, stat};
    lb_node_id part[2];
    for (u32 i = 0; i < 2; i++)
        part[i] = nuslerp_by(j, false, p.point[i], &k, i);
    *out = lb_merge_map2(j, LB_MAP_ADD, part[0], part[1]);
    if (compat)
        *out = nuslerp_by(j, true, *out, &k, 2);
    if (turned)
        *out = lb_expr_transpose(j->g, *out);
    if (p.base != LB_NODE_NONE)
        *out = lb_merge_map2(j, LB_MAP_ADD, p.base, *out);
    return lb_graph_status(j->g, err);
}

static const lb_merge_param nuslerp_params[] = {
    {.name = "weight", .scope = LB_MERGE_NON_BASE, .required = true},
    {.name = "nuslerp_flatten", .kind = LB_MERGE_BOOL, .initial = 1},
    {.name = "nuslerp_row_wise", .kind = LB_MERGE_BOOL},
};

const lb_merge_method lb_merge_nuslerp = {
    .name = "nuslerp",
    .title = "NuSLERP",
    .source = "merge_methods/nuslerp.py of mergekit 0.1.5",
    .params = nuslerp_params,
    .n_params = LB_LEN(nuslerp_params),
    .base = LB_BASE_OPTIONAL,
    .min_non_base = 2,
    .max_non_base = 2,
    .lack = LB_LACK_COPY_ONE,
    .build = build_nuslerp,
};
