/* SPDX-License-Identifier: Apache-2.0 */
/* moe_gates.c: see moe_gates.h. Source: moe/router.py of mergekit 0.1.5. */
#include "ops/moe_gates.h"
#include "base/sysinfo.h"
#include "plan/run.h"
#include "text/encode.h"
#include <math.h>
#include <stdlib.h>

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the routers");
}

/* ---- prompts to tokens ---- */

typedef struct reader {
    const lb_encoder *encoder;
    const lb_moe_config *config;
    lb_str bos;
    u64 n_rows;
    lb_buf ids, ends; /* u32 of all prompts; u64 where each ends */
    lb_moe_lists *out;
    lb_err *err;
} reader;

static lb_status read_prompt(reader *r, const lb_moe_expert *e, lb_str prompt) {
    lb_buf text = {0};
    size_t before = r->ids.len;
    lb_buf_put_str(&text, r->bos);
    lb_buf_put_str(&text, prompt);
    lb_status st = lb_buf_status(&text, r->err);
    if (st == LB_OK)
        st = lb_encoder_encode(r->encoder, lb_buf_str(&text), false, &r->ids, r->err);
    lb_buf_deinit(&text);
    const u32 *id = (const u32 *)(const void *)(r->ids.ptr + before);
    for (u64 i = 0; st == LB_OK && i < (r->ids.len - before) / sizeof *id; i++)
        if (id[i] >= r->n_rows)
            st = lb_fail(r->err, LB_E_FORMAT, "token %u, and the embedding has %llu rows", id[i],
                         (unsigned long long)r->n_rows);
    if (st != LB_OK)
        lb_err_context(r->err, "%.*s: line %u: prompt '%.*s'", LB_FMT(r->config->refs.what),
                       e->line, (int)LB_MIN(prompt.len, 40), prompt.ptr);
    lb_buf_put_u64(&r->ends, r->ids.len / sizeof(u32));
    r->out->n_prompts++;
    return st;
}

static lb_status read_gate(reader *r, const lb_moe_expert *e) {
    u64 *ends = r->out->list_ends + 2 * r->out->n_gates++;
    for (u32 i = 0; i < e->n_positive; i++)
        LB_TRY(read_prompt(r, e, e->positive[i]));
    ends[0] = r->out->n_prompts;
    for (u32 i = 0; i < e->n_negative; i++)
        LB_TRY(read_prompt(r, e, e->negative[i]));
    ends[1] = r->out->n_prompts;
    return LB_OK;
}

static void *kept(lb_arena *perm, const lb_buf *b, size_t size) {
    void *p = lb_arena_push_array(perm, b->len / size + 1, size, size);
    if (p && b->len)
        memcpy(p, b->ptr, b->len);
    return p;
}

static lb_status read_all(reader *r, lb_arena *perm) {
    const lb_moe_config *c = r->config;
    r->out->list_ends = lb_arena_new(perm, u64, 2 * ((u64)c->n_experts + c->n_shared) + 1);
    if (!r->out->list_ends)
        return oom(r->err);
    for (u32 i = 0; i < c->n_experts; i++)
        LB_TRY(read_gate(r, &c->experts[i]));
    for (u32 i = 0; i < c->n_shared && c->shared[0].n_positive; i++)
        LB_TRY(read_gate(r, &c->shared[i]));
    LB_TRY(lb_buf_status(&r->ids, r->err));
    LB_TRY(lb_buf_status(&r->ends, r->err));
    r->out->ids = kept(perm, &r->ids, sizeof(u32));
    r->out->prompt_ends = kept(perm, &r->ends, sizeof(u64));
    return r->out->ids && r->out->prompt_ends ? LB_OK : oom(r->err);
}

lb_status lb_moe_lists_read(const lb_moe_config *c, const lb_source *base, u64 n_rows,
                            lb_arena *perm, lb_moe_lists *out, lb_err *err) {
    lb_encoder *encoder = NULL;
    reader r = {.config = c, .n_rows = n_rows, .out = out, .err = err};
    *out = (lb_moe_lists){0};
    lb_status st = lb_encoder_open(&encoder, base, err);
    if (st == LB_OK) {
        r.encoder = encoder;
        r.bos = lb_encoder_special(encoder, "bos_token");
        st = read_all(&r, perm);
    }
    lb_buf_deinit(&r.ids);
    lb_buf_deinit(&r.ends);
    lb_encoder_close(&encoder);
    return st;
}

/* ---- tokens, counted ---- */

static int by_id(const void *a, const void *b) {
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return (x > y) - (x < y);
}

lb_status lb_moe_prompts_count(const lb_moe_lists *l, lb_arena *perm, lb_moe_prompts *out,
                               lb_err *err) {
    const u64 n = l->n_prompts ? l->prompt_ends[l->n_prompts - 1] : 0;
    *out = (lb_moe_prompts){.tokens = lb_arena_new(perm, u64, n + 1)};
    if (!out->tokens)
        return oom(err);
    for (u64 i = 0; i < n; i++)
        out->tokens[i] = l->ids[i];
    if (n)
        qsort(out->tokens, n, sizeof *out->tokens, by_id);
    for (u64 i = 0; i < n; i++)
        if (out->n == 0 || out->tokens[out->n - 1] != out->tokens[i])
            out->tokens[out->n++] = out->tokens[i];
    out->positive = lb_arena_new(perm, float, l->n_gates * out->n + 1);
    out->negative = lb_arena_new(perm, float, l->n_gates * out->n + 1);
    if (!out->positive || !out->negative)
        return oom(err);
    memset(out->positive, 0, l->n_gates * out->n * sizeof(float));
    memset(out->negative, 0, l->n_gates * out->n * sizeof(float));
    for (u64 list = 0, i = 0, prompt = 0; list < 2 * l->n_gates; list++)
        for (; prompt < l->list_ends[list]; prompt++)
            for (; i < l->prompt_ends[prompt]; i++) {
                const u64 key = l->ids[i];
                const u64 *at = bsearch(&key, out->tokens, out->n, sizeof key, by_id);
                float *counts = list % 2 ? out->negative : out->positive;
                counts[list / 2 * out->n + (u64)(at - out->tokens)] += 1;
                out->any_negative |= list % 2 == 1;
            }
    return LB_OK;
}

/* ---- expressions ---- */

/* The sum of the tokens' rows, each as often as it is counted, to length 1: of each gate a row. */
static lb_node_id directions(lb_plan *p, const lb_moe_gates *g, lb_node_id rows,
                             const float *counts) {
    lb_graph *x = &p->graph;
    lb_node_id none = lb_expr_fill(x, g->n_gates, g->n_cols, 0);
    lb_node_id often = lb_expr_const(x, g->n_gates, g->prompts->n, counts);
    return lb_expr_row(x, LB_ROW_L2, lb_expr_lowrank(x, none, often, rows, 1));
}

void lb_moe_gates_begin(lb_moe_gates *g, lb_plan *p, lb_node_id embed) {
    lb_graph *x = &p->graph;
    g->all = LB_NODE_NONE;
    lb_kernels_init(&g->kernels, lb_sys_isa());
    lb_mt19937_init(&g->generator, &g->kernels, g->seed);
    if (g->mode != LB_MOE_CHEAP_EMBED)
        return;
    lb_node_id rows =
        lb_expr_decode(x, lb_expr_gather(x, embed, g->prompts->tokens, g->prompts->n));
    lb_node_id all = directions(p, g, rows, g->prompts->positive);
    if (g->prompts->any_negative)
        all = lb_expr_row(x, LB_ROW_L2,
                          lb_expr_map2(x, LB_MAP_SUB, all,
                                       directions(p, g, rows, g->prompts->negative), LB_CONST(0)));
    g->all = all;
}

static lb_node_id drawn(lb_moe_gates *g, lb_plan *p, u64 first, u64 n) {
    lb_graph *x = &p->graph;
    bool normal = g->mode == LB_MOE_RANDOM;
    lb_node_id u = lb_expr_draw(x, n, g->n_cols,
                                lb_draw_torch(normal ? LB_DRAW_TORCH_NORMAL : LB_DRAW_TORCH_UNIFORM,
                                              first, g->n_layers * g->n_gates * g->n_cols,
                                              &g->generator, &g->kernels, &p->perm));
    if (normal)
        return u;
    const double scale = sqrt(1.0 / (double)g->n_cols); /* as torch.nn.Linear begins */
    u = lb_expr_map1(x, LB_MAP_MUL_C, u, LB_CONST(2));
    u = lb_expr_map1(x, LB_MAP_MUL_C, u, LB_CONST(scale));
    return lb_expr_map1(x, LB_MAP_ADD_C, u, LB_CONST(-scale));
}

lb_node_id lb_moe_gates_of(lb_moe_gates *g, lb_plan *p, u64 layer, u64 from, u64 n) {
    if (g->mode == LB_MOE_CHEAP_EMBED)
        return n == g->n_gates ? g->all : lb_expr_rows(&p->graph, g->all, from, 1, n);
    if (lb_moe_gate_reads_states(g->mode))
        return lb_expr_const(&p->graph, n, g->n_cols,
                             g->states + (layer * g->n_gates + from) * g->n_cols);
    return drawn(g, p, (layer * g->n_gates + from) * g->n_cols, n);
}

/* ---- whether routers tell experts apart ---- */

/* Eigenvalues of a symmetric matrix by Jacobi's rotations, into its diagonal. */
static void diagonalise(double *a, u32 n) {
    for (u32 sweep = 0; sweep < 50; sweep++) {
        double off = 0;
        for (u32 p = 0; p < n; p++)
            for (u32 q = p + 1; q < n; q++) {
                const double x = a[p * n + q];
                off += x * x;
                if (x == 0)
                    continue;
                const double r = (a[q * n + q] - a[p * n + p]) / (2 * x);
                const double t = (r < 0 ? -1 : 1) / (fabs(r) + sqrt(r * r + 1));
                const double c = 1 / sqrt(t * t + 1), s = t * c;
                for (u32 k = 0; k < n; k++) {
                    const double u = a[k * n + p], v = a[k * n + q];
                    a[k * n + p] = c * u - s * v;
                    a[k * n + q] = s * u + c * v;
                }
                for (u32 k = 0; k < n; k++) {
                    const double u = a[p * n + k], v = a[q * n + k];
                    a[p * n + k] = c * u - s * v;
                    a[q * n + k] = s * u + c * v;
                }
            }
        if (off < 1e-30)
            return;
    }
}

/* The greatest singular value through the least. */
static const char *condition(const lb_formula *f, const double *dot, u32 n, double *out) {
    double a[LB_GRAM_MAX * LB_GRAM_MAX], most = 0, least = HUGE_VAL;
    (void)f;
    for (u32 i = 0; i < n; i++)
        for (u32 k = 0; k < n; k++)
            a[i * n + k] = dot[lb_gram_at(i, k)];
    diagonalise(a, n);
    for (u32 i = 0; i < n; i++) {
        most = LB_MAX(most, a[i * n + i]);
        least = LB_MIN(least, a[i * n + i]);
    }
    *out = least > 0 ? sqrt(most / least) : 3e38;
    return NULL;
}

static lb_status survey(lb_plan *s, lb_node_id gates, double *out, lb_err *err) {
    static const lb_formula f = {.name = "condition", .run = condition, .n_out = 1};
    const u32 n = (u32)lb_graph_node(&s->graph, gates)->n_rows;
    lb_node_id rows[LB_GRAM_MAX];
    lb_kernels kernels;
    lb_kernels_init(&kernels, lb_sys_isa());
    for (u32 i = 0; i < n; i++)
        rows[i] = lb_expr_rows(&s->graph, gates, i, 1, 1);
    lb_node_id x = lb_expr_row_formula(&s->graph, rows, n, &f, 0);
    lb_node_id root = lb_expr_stat(&s->graph, LB_STAT_RANGE, x, LB_NODE_NONE, 0);
    LB_TRY(lb_graph_status(&s->graph, err));
    lb_job *j = lb_plan_job(s, LB_STR("routers"), NULL, 0);
    if (j)
        lb_plan_segment(s, &root);
    lb_plan_limits limits = {.memory_bytes = UINT64_MAX / 2, .threads = 1};
    LB_TRY(lb_plan_close(s, &limits, err));
    lb_run_report report;
    LB_TRY(lb_run(s, &(lb_run_options){.kernels = &kernels}, &report, err));
    *out = s->jobs[0].stat[1];
    return LB_OK;
}

lb_status lb_moe_condition(lb_plan *p, lb_node_id gates, double *out, lb_err *err) {
    lb_plan *s = NULL;
    LB_TRY(lb_plan_survey(&s, p, err));
    lb_status st = survey(s, gates, out, err);
    lb_plan_free(&s);
    return st;
}
