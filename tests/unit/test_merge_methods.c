/* SPDX-License-Identifier: Apache-2.0 */
/* test_merge_methods.c: merge methods on small matrices: what mergekit made of them
 * (golden/merge/make_methods.py), a model merged with itself, weights of 0 and 1, other orders,
 * what has no result. */
#include "plan_double.h"
#include "test.h"
#include "base/os.h"
#include "merge/method.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ROWS 3
#define COLS 8
#define N (ROWS * COLS)
#define N_MAX 5

typedef struct trial {
    char method[32];
    lb_dtype dtype;
    int n, base;
    u32 layer;
    u64 n_layers;
    char name[2 * N_MAX + 8][32];
    int of[2 * N_MAX + 8]; /* input, or -1: shared */
    double value[2 * N_MAX + 8];
    int n_values;
    float in[N_MAX][N], out[N];
} trial;

static void set(trial *t, int of, const char *name, double value) {
    (void)snprintf(t->name[t->n_values], sizeof t->name[0], "%s", name);
    t->of[t->n_values] = of;
    t->value[t->n_values++] = value;
}

/* What the method makes of the trial; false: it or its formula says why not. */
static bool run(const trial *t, lb_merge_rounding rounding, float *out) {
    lb_arena arena = {0};
    lb_graph g;
    lb_err err = {0};
    lb_merge_input in[N_MAX] = {0};
    const lb_merge_method *m = lb_merge_method_find(lb_str_c(t->method));
    const lb_shape shape = {2, {ROWS, COLS}};
    lb_merge_job j = {.g = &g,
                      .perm = &arena,
                      .name = LB_STR("w"),
                      .shape = &shape,
                      .in = in,
                      .n_in = (u32)t->n,
                      .layer = t->layer,
                      .n_layers = t->n_layers,
                      .work = t->dtype,
                      .rounding = rounding};
    lb_node_id y = LB_NODE_NONE;
    u64 len = 0;
    lb_graph_init(&g, &arena, NULL, 0);
    for (u32 p = 0; p < m->n_params; p++) {
        j.param[p] = m->params[p].initial;
        for (int i = 0; i < t->n; i++)
            in[i].param[p] = m->params[p].initial;
    }
    for (int i = 0; i < t->n; i++) {
        in[i].x = lb_expr_const(&g, ROWS, COLS, t->in[i]);
        in[i].dtype = t->dtype;
        in[i].importance = LB_NODE_NONE;
        in[i].is_base = i == t->base;
    }
    for (int k = 0; k < t->n_values; k++) {
        u32 p = lb_merge_param_find(m, lb_str_c(t->name[k]));
        LB_ASSERT(p < m->n_params);
        *(t->of[k] < 0 ? &j.param[p] : &in[t->of[k]].param[p]) = t->value[k];
    }
    bool ok = m->build(m, &j, &y, &err) == LB_OK;
    u8 *bytes = ok ? lb_double_bytes(&g, lb_expr_encode(&g, y, LB_F32), &len) : NULL;
    if (bytes)
        memcpy(out, bytes, N * sizeof *out);
    free(bytes);
    lb_arena_deinit(&arena);
    return bytes != NULL;
}

/* ---- golden ---- */

static void read_bits(const char *text, float *out) {
    for (u32 i = 0; i < N; i++) {
        char *end;
        out[i] = lb_f32_from_bits((u32)strtoul(text, &end, 16));
        CHECK(end != text);
        text = end;
    }
}

static bool is_exact(const trial *t) {
    static const char *const exact[] = {"passthrough", "linear",      "task_arithmetic",
                                        "ties",        "breadcrumbs", "breadcrumbs_ties",
                                        "nearswap",    "ram"};
    for (u32 i = 0; i < LB_LEN(exact); i++)
        if (strcmp(t->method, exact[i]) == 0)
            return true;
    return false;
}

/* One unit in the last place of v: of so many bits. */
static double unit_of(double v, lb_dtype d) {
    int e;
    (void)frexp(v, &e);
    return ldexp(1, e - (d == LB_BF16 ? 8 : d == LB_F16 ? 11 : 24));
}

static void check_golden(const trial *t) {
    float got[N], plain[N];
    if (!run(t, LB_MERGE_MERGEKIT, got) || !run(t, LB_MERGE_F32, plain)) {
        lb_test_fail(__FILE__, __LINE__, "%s: no result", t->method);
        return;
    }
    for (u32 i = 0; i < N; i++) {
        double want = (double)t->out[i], size = 0;
        for (int k = 0; k < t->n; k++)
            size += fabs((double)t->in[k][i]);
        /* coefficients that are off by 2^-20, or 2^-7 where mergekit has them in a short type */
        double off = fabs((double)got[i] - want);
        double allowed = unit_of(want, t->dtype) + ldexp(size, t->dtype == LB_F32 ? -20 : -7);
        if (is_exact(t) ? lb_f32_bits(got[i]) != lb_f32_bits(t->out[i]) : !(off <= allowed))
            lb_test_fail(__FILE__, __LINE__, "%s, type %d, element %u: %.9g, not %.9g", t->method,
                         (int)t->dtype, i, (double)got[i], want);
        allowed = 4 * ldexp(size, t->dtype == LB_BF16 ? -8 : t->dtype == LB_F16 ? -11 : -22);
        if (!(fabs((double)plain[i] - want) <= allowed) && strcmp(t->method, "nearswap") != 0 &&
            strcmp(t->method, "arcee_fusion") != 0) /* thresholds by other roundings */
            lb_test_fail(__FILE__, __LINE__, "%s in f32, type %d, element %u: %.9g, not %.9g",
                         t->method, (int)t->dtype, i, (double)plain[i], want);
    }
}

LB_TEST(golden) {
    FILE *f = fopen(lb_test_golden("merge/methods.txt"), "r");
    char line[1024], kind[16], name[32];
    trial t = {0};
    u32 n_cases = 0;
    int of;
    double value;
    CHECK(f != NULL);
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "case %31s %15s %d %d", t.method, kind, &t.n, &t.base) == 4) {
            t.n_values = 0;
            t.dtype = strcmp(kind, "f32") == 0   ? LB_F32
                      : strcmp(kind, "f16") == 0 ? LB_F16
                                                 : LB_BF16;
        } else if (sscanf(line, "shared %31s %lf", name, &value) == 2) {
            set(&t, -1, name, value);
        } else if (sscanf(line, "own %d %31s %lf", &of, name, &value) == 3) {
            set(&t, of, name, value);
        } else if (sscanf(line, "in %d", &of) == 1) {
            read_bits(line + 5, t.in[of]);
        } else {
            read_bits(line + 4, t.out);
            check_golden(&t);
            n_cases++;
        }
    }
    CHECK(n_cases == 75);
    if (f)
        (void)fclose(f);
}

/* ---- properties ---- */

static trial make(const char *method, int n, int base) {
    trial t = {.dtype = LB_F32, .n = n, .base = base};
    (void)snprintf(t.method, sizeof t.method, "%s", method);
    for (int i = 0; i < n; i++)
        for (u32 k = 0; k < N; k++)
            t.in[i][k] = lb_test_normal() + (float)k * 0.1f;
    return t;
}

static void weights(trial *t, const double *w) {
    for (int i = 0; i < t->n; i++)
        if (i != t->base)
            set(t, i, "weight", w[i]);
}

static void check_near(const trial *t, const float *want, double allowed) {
    float got[N];
    for (int rounding = 0; rounding < 2; rounding++) {
        bool ok = run(t, (lb_merge_rounding)rounding, got);
        CHECK(ok);
        for (u32 i = 0; i < N && ok; i++)
            if (!(fabs((double)got[i] - (double)want[i]) <=
                  allowed * fmax(1, fabs((double)want[i]))))
                lb_test_fail(__FILE__, __LINE__, "%s (%d, base %d), element %u: %.9g, not %.9g",
                             t->method, rounding, t->base, i, (double)got[i], (double)want[i]);
    }
}

static const double some[N_MAX] = {0.25, 0.5, 0.75, 0.125, 1};

/* A model merged with itself, with a base too: itself. */
LB_TEST(itself) {
    static const struct {
        const char *method;
        int n, base;
        const char *shared;
        bool weighted;
    } list[] = {
        {"linear", 3, -1, NULL, true},      {"task_arithmetic", 4, 1, NULL, true},
        {"slerp", 2, 0, "t", false},        {"nuslerp", 2, -1, NULL, true},
        {"nuslerp", 3, 2, NULL, true},      {"multislerp", 3, -1, NULL, true},
        {"multislerp", 4, 0, NULL, true},   {"multislerp", 3, 1, NULL, true},
        {"karcher", 4, -1, NULL, false},    {"model_stock", 3, 0, NULL, false},
        {"nearswap", 2, 1, "t", false},     {"ram", 3, 0, NULL, false},
        {"ramplus_tl", 4, 2, NULL, false},  {"lines", 4, 1, NULL, true},
        {"consensus_ta", 4, 3, NULL, true}, {"cabs", 3, 0, NULL, true},
        {"iso_c", 3, 0, NULL, true},        {"star", 4, 2, NULL, true},
        {"tsv", 3, 1, NULL, true},
    };
    for (u32 i = 0; i < LB_LEN(list); i++) {
        trial t = make(list[i].method, list[i].n, list[i].base);
        for (int k = 1; k < t.n; k++)
            memcpy(t.in[k], t.in[0], sizeof t.in[0]);
        if (list[i].weighted)
            weights(&t, some);
        if (list[i].shared)
            set(&t, -1, list[i].shared, 0.3);
        check_near(&t, t.in[0], 1e-6);
    }
}

LB_TEST(all_or_nothing) {
    const double first[] = {1, 0, 0}, last[] = {0, 0, 1};
    for (u32 i = 0; i < 2; i++) {
        trial t = make("linear", 3, -1), a = make("task_arithmetic", 3, 1), s = make("slerp", 2, 1);
        weights(&t, i ? last : first);
        check_near(&t, t.in[i ? 2 : 0], 0);
        weights(&a, i ? last : first);
        check_near(&a, a.in[i ? 2 : 0], 1e-6);
        set(&s, -1, "t", i);
        check_near(&s, s.in[i ? 0 : 1], 0);
        t = make("nuslerp", 3, 1);
        weights(&t, i ? last : first);
        check_near(&t, t.in[i ? 2 : 0], 2e-6);
    }
    trial a = make("task_arithmetic", 3, 1), n = make("nearswap", 2, 0);
    weights(&a, (double[]){0, 0, 0});
    check_near(&a, a.in[1], 0);
    set(&n, -1, "t", 0);
    check_near(&n, n.in[0], 0);
    n.value[0] = 1e9;
    check_near(&n, n.in[1], 0);
}

/* Inputs in another order. */
LB_TEST(orders) {
    static const char *const list[] = {"linear",     "task_arithmetic", "multislerp",
                                       "karcher",    "model_stock",     "ram",
                                       "ramplus_tl", "lines",           "consensus_ta"};
    for (u32 i = 0; i < LB_LEN(list); i++) {
        bool weighted = i < 3 || i > 6, based = i != 0 && i != 3;
        trial t = make(list[i], 5, based ? 2 : -1), u;
        float out[N];
        u = t;
        for (int k = 0; k < 5; k++)
            memcpy(u.in[k], t.in[4 - k], sizeof t.in[0]); /* the base stays in the middle */
        if (weighted) {
            weights(&t, some);
            weights(&u, (double[]){some[4], some[3], some[2], some[1], some[0]});
        }
        CHECK(run(&t, LB_MERGE_F32, out));
        check_near(&u, out, 5e-6);
    }
}

/* Scales of layers: alpha outside and in the first, alpha + beta in the last. */
LB_TEST(lines) {
    trial t = make("lines", 2, 0);
    float got[N];
    for (u32 layer = 0; layer < 6; layer++) {
        t.n_values = 0;
        t.layer = layer == 5 ? UINT32_MAX : layer;
        t.n_layers = 5;
        set(&t, -1, "alpha", 0.25);
        set(&t, -1, "beta", 0.5);
        CHECK(run(&t, LB_MERGE_F32, got));
        double s = 0.25 + (layer == 5 ? 0 : 0.5 * layer / 4);
        for (u32 i = 0; i < N; i++)
            CHECK(fabs((double)got[i] - ((double)t.in[0][i] +
                                         s * ((double)t.in[1][i] - (double)t.in[0][i]))) < 1e-6);
    }
    t.n_values = 0;
    t.n_layers = 1;
    t.layer = 0;
    check_near(&t, t.in[1], 1e-6); /* of one model alpha is 1 */
}

/* 2 of 8 for each of five models: four fill the row, the fifth overlaps. */
LB_TEST(cabs) {
    trial t = make("cabs", 5, 0);
    float got[N];
    memset(t.in[0], 0, sizeof t.in[0]);
    for (int i = 1; i < 5; i++) {
        set(&t, i, "n", 2);
        set(&t, i, "m", 8);
    }
    CHECK(run(&t, LB_MERGE_F32, got));
    for (u32 row = 0; row < ROWS; row++) {
        u32 kept[5] = {0};
        for (u32 c = 0; c < COLS; c++)
            for (u32 i = 1; i < 5; i++)
                kept[i] += got[row * COLS + c] == t.in[i][row * COLS + c];
        for (u32 i = 1; i < 5; i++)
            CHECK(kept[i] == 2);
    }
    set(&t, 4, "n", 9);
    CHECK(!run(&t, LB_MERGE_F32, got)); /* 9 of 8 */
}

/* Opposite models: the mean of two is nothing in no direction; of more there is none. */
LB_TEST(no_result) {
    float out[N], zero[N] = {0};
    trial t = make("multislerp", 2, -1), k = make("karcher", 2, -1);
    for (u32 i = 0; i < N; i++) {
        t.in[1][i] = -t.in[0][i];
        k.in[1][i] = -k.in[0][i];
    }
    weights(&t, (double[]){0.5, 0.5});
    check_near(&t, zero, 1e-6);
    check_near(&k, k.in[0], 1e-6); /* the first */
    t = make("linear", 2, -1);
    weights(&t, (double[]){1, -1});
    CHECK(!run(&t, LB_MERGE_F32, out));
    t = make("multislerp", 2, -1);
    weights(&t, (double[]){1, -1});
    CHECK(!run(&t, LB_MERGE_F32, out));
    for (u32 i = 0; i < N; i++)
        k.in[0][i] = k.in[1][i] = 0;
    check_near(&k, zero, 0);
}

LB_TEST_MAIN("fast")
