/* SPDX-License-Identifier: Apache-2.0 */
/* shift.c: keys and values of a shifted context against those of one that has read the shorter text
 * from the start, for tests/cli/shift.sh.
 *
 *   shift MODEL f32|f16|q8_0|q4_0
 *
 * In the first layer both depend on a token and its position alone, so they must be equal but for
 * rounding. Prints the largest difference over the largest key, for several cuts. Exit 3: the model
 * cannot be shifted (the reason on stderr); 4: the first layer keeps no keys. */
#include "base/cpu.h"
#include "model/graph.h"
#include "ops/load.h"
#include "ops/open.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 200 };

static lb_err err;
static lb_kernels kernels;

static int fail(const char *what) {
    fprintf(stderr, "shift: %s: %s\n", what, err.msg);
    return 1;
}

static lb_status read_ids(lb_context *c, const u32 *ids, u32 n) {
    static u8 want[N];
    return lb_context_eval(c, &(lb_batch){.n = n, .id = ids, .want = want}, NULL, &err);
}

/* Row of a head at a position, as f32. */
static void row_of(const lb_context *c, u32 pos, u32 head, bool keys, float *out) {
    const lb_cache_layer *l = &c->cache.layer[0];
    u32 page = c->cache.seq[0].page[pos / LB_PAGE_ROWS], i = pos % LB_PAGE_ROWS;
    const u8 *at = keys ? lb_cache_keys(&c->cache, 0, page, head) + (size_t)i * l->k_bytes
                        : lb_cache_values(&c->cache, 0, page, head) + (size_t)i * l->v_bytes;
    const lb_layer_params *p = &c->m->p.layer[0];
    lb_kernels_decode(&kernels, c->cache.type)(keys ? p->k_dim : p->v_dim, out, at);
}

static double compare(const lb_context *a, const lb_context *b, u32 n) {
    const lb_layer_params *p = &a->m->p.layer[0];
    static float x[8192], y[8192];
    double most = 0, worst = 0;
    for (int keys = 0; keys < 2; keys++)
        for (u32 pos = 0; pos < n; pos++)
            for (u32 h = 0; h < p->n_head_kv; h++) {
                row_of(a, pos, h, keys, x);
                row_of(b, pos, h, keys, y);
                for (u32 i = 0; i < (keys ? p->k_dim : p->v_dim); i++) {
                    worst = fmax(worst, fabs((double)x[i] - (double)y[i]));
                    most = fmax(most, fabs((double)y[i]));
                }
            }
    return most > 0 ? worst / most : INFINITY;
}

static int cut(const lb_model *m, lb_dtype type, u32 keep, u32 drop, double *worst) {
    const lb_context_opts o = {.n_ctx = N, .threads = 2, .kv_type = type, .acts = LB_ACTS_EXACT};
    lb_context *a = NULL, *b = NULL;
    u32 ids[N], left = N - drop;
    int rc = 0;
    for (u32 i = 0; i < N; i++)
        ids[i] = (i * i * 7 + i * 3 + 1) % lb_model_n_vocab(m);
    if (lb_context_new(&a, m, &o, &err) || lb_context_new(&b, m, &o, &err) || read_ids(a, ids, N))
        rc = fail("context");
    if (!rc && lb_context_shift(a, 0, keep, drop, &err))
        rc = fail("shift");
    memmove(ids + keep, ids + keep + drop, (N - keep - drop) * sizeof *ids);
    if (!rc && (lb_context_length(a, 0) != left || read_ids(b, ids, left) ||
                lb_context_common(a, 0, ids, left) != left))
        rc = fail("tokens");
    if (!rc && !a->cache.layer[0].k_bytes)
        rc = 4;
    if (!rc)
        *worst = fmax(*worst, compare(a, b, left));
    if (!rc && read_ids(a, ids, drop)) /* and it goes on */
        rc = fail("behind");
    lb_context_free(&a);
    lb_context_free(&b);
    return rc;
}

int main(int argc, char **argv) {
    static const u32 cuts[][2] = {{0, 1}, {0, 64}, {5, 97}, {64, 64}, {70, 3}, {1, 199}, {199, 1}};
    lb_source *s = NULL;
    lb_loaded *l = NULL;
    lb_dtype type;
    double worst = 0;
    int rc = 0;
    if (argc != 3 || !lb_dtype_find(lb_str_c(argv[2]), &type))
        return 2;
    lb_kernels_init(&kernels, lb_cpu_isa());
    if (lb_open(&s, argv[1], &err) ||
        lb_load(&l, s,
                &(lb_load_opts){.kernels = &kernels, .threads = 1, .memory_bytes = 64 * LB_MIB},
                &err))
        rc = fail(argv[1]);
    if (!rc && lb_model_can_shift(lb_loaded_model(l), &err))
        rc = 3 * fail(argv[1]);
    for (u32 i = 0; !rc && i < LB_LEN(cuts); i++)
        rc = cut(lb_loaded_model(l), type, cuts[i][0], cuts[i][1], &worst);
    if (!rc)
        printf("%.3g\n", worst);
    lb_loaded_free(&l);
    lb_source_close(&s);
    return rc;
}
