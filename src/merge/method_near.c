/* SPDX-License-Identifier: Apache-2.0 */
/* method_near.c: nearswap, ram and ramplus_tl: element by element. */
#include "merge/sphere.h"
#include <math.h>

/* ---- nearswap ---- */

/* w x + (1 - w) base with w = clamp(t / max(|base - x|, 1e-6), 0, 1) (nearswap.py of mergekit
 * 0.1.5). torch makes t times the reciprocal of it, and rounds 1e-6 to the work type. */
static lb_status build_nearswap(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                                lb_err *err) {
    lb_graph *g = j->g;
    u32 b = j->in[0].is_base ? 0 : 1;
    double t = lb_merge_shared(m, j, "t");
    /* of equal elements f16 has an infinite one, which times 0 is NaN in mergekit */
    bool reciprocal = j->rounding == LB_MERGE_MERGEKIT && t != 0;
    lb_node_id base = lb_merge_typed(j, &j->in[b]), x = lb_merge_typed(j, &j->in[1 - b]);
    lb_node_id w = lb_merge_map2(j, LB_MAP_SUB, base, x);
    w = lb_expr_map1(g, LB_MAP_ABS, w, LB_CONST(0));
    w = lb_expr_map1(g, LB_MAP_MAX_C, w, LB_CONST(lb_merge_round_number(j, 1e-6)));
    w = lb_merge_round(j, lb_expr_map1(g, LB_MAP_RDIV_C, w, LB_CONST(reciprocal ? 1 : t)));
    if (reciprocal)
        w = lb_merge_round(j, lb_expr_map1(g, LB_MAP_MUL_C, w, LB_CONST(t)));
    w = lb_expr_map1(g, LB_MAP_MAX_C, w, LB_CONST(0));
    w = lb_expr_map1(g, LB_MAP_MIN_C, w, LB_CONST(1));
    lb_node_id rest = lb_expr_map1(g, LB_MAP_MUL_C, w, LB_CONST(-1));
    rest = lb_merge_round(j, lb_expr_map1(g, LB_MAP_ADD_C, rest, LB_CONST(1)));
    *out = lb_merge_map2(j, LB_MAP_ADD, lb_merge_map2(j, LB_MAP_MUL, w, x),
                         lb_merge_map2(j, LB_MAP_MUL, rest, base));
    return lb_graph_status(g, err);
}

static const lb_merge_param nearswap_params[] = {{.name = "t", .required = true}};

const lb_merge_method lb_merge_nearswap = {
    .name = "nearswap",
    .title = "NearSwap",
    .source = "https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
    .params = nearswap_params,
    .n_params = LB_LEN(nearswap_params),
    .base = LB_BASE_REQUIRED,
    .min_in = 2,
    .max_in = 2,
    .lack = LB_LACK_COPY_BASE,
    .build = build_nearswap,
};

/* ---- ram ---- */

/* The differences, where they count, and how many do. */
typedef struct ram {
    lb_merge_points p;
    lb_node_id mask[LB_GRAM_MAX];
    lb_node_id count;
} ram;

static lb_status ram_prepare(const lb_merge_method *m, const lb_merge_job *j, ram *r, lb_err *err) {
    float epsilon = lb_merge_round_number(j, lb_merge_shared(m, j, "epsilon"));
    LB_TRY(lb_merge_points_make(m, j, false, &r->p, err));
    for (u32 i = 0; i < r->p.n; i++) {
        r->mask[i] = lb_expr_map1(j->g, LB_MAP_ABOVE_C, r->p.point[i], LB_CONST(epsilon));
        r->p.point[i] = lb_expr_map2(j->g, LB_MAP_MUL, r->p.point[i], r->mask[i], LB_CONST(0));
        r->count =
            i ? lb_expr_map2(j->g, LB_MAP_ADD, r->count, r->mask[i], LB_CONST(0)) : r->mask[0];
    }
    return LB_OK;
}

/* base + the mean of the differences that are above epsilon (ram.py of mergekit 0.1.5). */
static lb_status build_ram(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                           lb_err *err) {
    ram r;
    LB_TRY(ram_prepare(m, j, &r, err));
    *out = r.p.base;
    if (r.p.n == 0)
        return lb_graph_status(j->g, err);
    lb_node_id by = lb_expr_map1(j->g, LB_MAP_OR_ONE, r.count, LB_CONST(0));
    for (u32 i = 0; i < r.p.n; i++)
        r.p.point[i] = lb_merge_map2(j, LB_MAP_DIV, r.p.point[i], by);
    *out = lb_merge_map2(j, LB_MAP_ADD, r.p.base, lb_merge_sum(j, r.p.point, r.p.n));
    return lb_graph_status(j->g, err);
}

static const lb_merge_param ram_params[] = {{.name = "epsilon", .initial = 1e-5}};

const lb_merge_method lb_merge_ram = {
    .name = "ram",
    .title = "Reinforced Agent Merging",
    .source = "https://arxiv.org/abs/2601.13572",
    .params = ram_params,
    .n_params = LB_LEN(ram_params),
    .base = LB_BASE_REQUIRED,
    .build = build_ram,
};

/* ---- ramplus_tl ---- */

/* dot: of the masks, and with them that of shared elements, which is the last. param: r, alpha,
 * epsilon. out: by how much a model's own elements are enlarged, beyond 1. */
static const char *ramplus_formula(const lb_formula *f, const double *dot, u32 n, double *out) {
    for (u32 i = 0; i + 1 < n; i++) {
        double shared = dot[lb_gram_at(i, n - 1)], own = dot[lb_gram_at(i, i)] - shared;
        double ratio = shared / fmax(own, f->param[2]);
        out[i] = f->param[0] * fmin(fmax(ratio, 0), f->param[1]);
    }
    return NULL;
}

/* As ram, but elements that one model alone changes are enlarged by 1 + r clamp(shared / own, 0,
 * alpha), counted in the tensor. torch goes on in f32 behind that factor. */
static lb_status build_ramplus(const lb_merge_method *m, const lb_merge_job *j, lb_node_id *out,
                               lb_err *err) {
    lb_graph *g = j->g;
    ram r;
    double param[3] = {lb_merge_shared(m, j, "r"), lb_merge_shared(m, j, "alpha"),
                       lb_merge_shared(m, j, "epsilon")};
    LB_TRY(ram_prepare(m, j, &r, err));
    u32 n = r.p.n;
    *out = r.p.base;
    if (n == 0)
        return lb_graph_status(g, err);
    if (n == LB_GRAM_MAX)
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s': %s takes up to %d models beside the base",
                       LB_FMT(j->name), m->name, LB_GRAM_MAX - 1);
    lb_node_id by = lb_expr_map1(g, LB_MAP_OR_ONE, r.count, LB_CONST(0));
    r.mask[n] = lb_expr_map1(g, LB_MAP_ABOVE_C, r.count, LB_CONST(1));
    lb_formula f = {
        .name = m->name, .run = ramplus_formula, .param = param, .n_params = 3, .n_out = n};
    lb_node_id stat = lb_expr_gram(g, r.mask, n + 1, &f), sum = LB_NODE_NONE;
    for (u32 i = 0; i < n; i++) {
        /* 1 + more where the model is alone: its own elements are those that are not shared */
        lb_node_id own = lb_expr_map2(g, LB_MAP_MUL, r.mask[i], r.mask[n], LB_CONST(0));
        own = lb_expr_map2(g, LB_MAP_SUB, r.mask[i], own, LB_CONST(0));
        own = lb_expr_map1(g, LB_MAP_MUL_C, own, (lb_scalar){.stat = stat, .result = i});
        own = lb_expr_map1(g, LB_MAP_ADD_C, own, LB_CONST(1));
        lb_node_id x = lb_merge_map2(j, LB_MAP_DIV, r.p.point[i], by);
        x = lb_expr_map2(g, LB_MAP_MUL, x, own, LB_CONST(0));
        sum = i ? lb_expr_map2(g, LB_MAP_ADD, sum, x, LB_CONST(0)) : x;
    }
    *out = lb_expr_map2(g, LB_MAP_ADD, r.p.base, sum, LB_CONST(0));
    return lb_graph_status(g, err);
}

static const lb_merge_param ramplus_params[] = {
    {.name = "r", .initial = 0.1},
    {.name = "alpha", .initial = 0.2},
    {.name = "epsilon", .initial = 1e-5},
};

const lb_merge_method lb_merge_ramplus_tl = {
    .name = "ramplus_tl",
    .title = "Reinforced Agent Merging Plus (Tensor-Local)",
    .source = "https://arxiv.org/abs/2601.13572",
    .params = ramplus_params,
    .n_params = LB_LEN(ramplus_params),
    .base = LB_BASE_REQUIRED,
    .build = build_ramplus,
};
