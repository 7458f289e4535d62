/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c: see bench.h. */
#include "ops/bench.h"
#include "base/os.h"
#include "model/team.h"
#include <stdatomic.h>
#include <stdio.h>

#define WARM_UP_TOKENS 16u
#define PIECE_BYTES (256u << 10) /* that a thread reads at a time */

void lb_bench_name(const lb_bench_test *t, char out[LB_BENCH_NAME_BYTES]) {
    char depth[20] = "";
    if (t->depth)
        (void)snprintf(depth, sizeof depth, " @ d%u", t->depth);
    if (t->n_prompt && t->n_gen)
        (void)snprintf(out, LB_BENCH_NAME_BYTES, "pp%u+tg%u%s", t->n_prompt, t->n_gen, depth);
    else if (t->n_prompt)
        (void)snprintf(out, LB_BENCH_NAME_BYTES, "pp%u%s", t->n_prompt, depth);
    else
        (void)snprintf(out, LB_BENCH_NAME_BYTES, "tg%u%s", t->n_gen, depth);
}

/* ---- tokens ---- */

typedef struct feed {
    lb_context *c;
    const lb_bench_opts *o;
    u32 state, n_vocab;
    u32 *ids;      /* [n_ids] */
    float *logits; /* of one token */
} feed;

/* Knuth's multiplier modulo 2^32; the upper bits are the good ones. */
static u32 next_id(feed *f) {
    f->state = f->state * 1664525u + 1013904223u;
    return (u32)(((u64)f->state * f->n_vocab) >> 32);
}

static lb_status stopped(const feed *f, lb_err *err) {
    if (f->o->stop && f->o->stop(f->o->user))
        return lb_fail(err, LB_E_INTERRUPTED, "interrupted");
    return LB_OK;
}

static lb_status read_prompt(feed *f, u32 n, lb_err *err) {
    if (!n)
        return LB_OK;
    LB_TRY(stopped(f, err));
    for (u32 i = 0; i < n; i++)
        f->ids[i] = next_id(f);
    return lb_context_eval(f->c, &(lb_batch){.n = n, .id = f->ids}, f->logits, err);
}

static lb_status generate(feed *f, u32 n, lb_err *err) {
    for (u32 i = 0; i < n; i++) {
        u32 id = next_id(f);
        LB_TRY(stopped(f, err));
        LB_TRY(lb_context_eval(f->c, &(lb_batch){.n = 1, .id = &id}, f->logits, err));
    }
    return LB_OK;
}

static lb_status run_once(feed *f, const lb_bench_test *t, double *rate, lb_err *err) {
    f->state = 1;
    (void)lb_context_cut(f->c, 0, 0);
    LB_TRY(read_prompt(f, t->depth, err));
    u64 begin = lb_os_now_us();
    LB_TRY(read_prompt(f, t->n_prompt, err));
    LB_TRY(generate(f, t->n_gen, err));
    u64 us = LB_MAX(lb_os_now_us() - begin, (u64)1);
    *rate = ((double)t->n_prompt + (double)t->n_gen) * 1e6 / (double)us;
    return LB_OK;
}

static lb_bench_test warm_up_of(const lb_bench_test *t, const lb_bench_opts *o) {
    return (lb_bench_test){.n_prompt = o->whole ? t->n_prompt : LB_MIN(t->n_prompt, WARM_UP_TOKENS),
                           .n_gen = LB_MIN(t->n_gen, 1u)};
}

u64 lb_bench_warm_up(const lb_bench_test *t, const lb_bench_opts *o) {
    const lb_bench_test warm = warm_up_of(t, o);
    return o->warm_up ? (u64)warm.n_prompt + warm.n_gen : 0;
}

static lb_status run_all(feed *f, const lb_bench_test *t, double *rate, lb_err *err) {
    const lb_bench_test warm = warm_up_of(t, f->o);
    double unused;
    if (f->o->warm_up)
        LB_TRY(run_once(f, &warm, &unused, err));
    for (u32 i = 0; i < f->o->n_reps; i++)
        LB_TRY(run_once(f, t, &rate[i], err));
    return LB_OK;
}

lb_status lb_bench_run(lb_context *c, const lb_bench_test *t, const lb_bench_opts *o, double *rate,
                       lb_err *err) {
    feed f = {.c = c, .o = o, .n_vocab = lb_model_n_vocab(lb_context_model(c))};
    f.ids = lb_alloc(LB_MAX(LB_MAX(t->n_prompt, t->depth), 1u) * sizeof *f.ids);
    float *row = lb_context_row(c), *own = row ? NULL : lb_alloc(f.n_vocab * sizeof *own);
    f.logits = row ? row : own;
    lb_status st = f.ids && f.logits ? run_all(&f, t, rate, err)
                                     : lb_fail(err, LB_E_NOMEM, "out of memory for a prompt");
    lb_free(f.ids);
    lb_free(own);
    return st;
}

/* ---- bandwidth ---- */

#define READ_AHEAD_BYTES 2048
#define PASSES 6u /* timed ones */

typedef struct piece {
    const u8 *at;
    u64 n; /* bytes */
} piece;

typedef struct reading {
    const piece *list;
    _Atomic u64 sum; /* so that nothing is left out as useless */
} reading;

typedef u64 lanes __attribute__((vector_size(32), aligned(1), may_alias));

static void read_piece(void *ctx, u64 item, void *scratch) {
    reading *r = ctx;
    const u8 *p = r->list[item].at, *end = p + r->list[item].n / 128 * 128;
    lanes a = {0}, b = {0}, c = {0}, d = {0};
    (void)scratch;
    for (; p < end; p += 128) {
        /* the processor's own reading ahead ends where a page does */
        __builtin_prefetch(p + READ_AHEAD_BYTES);
        __builtin_prefetch(p + READ_AHEAD_BYTES + 64);
        a ^= *(const lanes *)(const void *)p;
        b ^= *(const lanes *)(const void *)(p + 32);
        c ^= *(const lanes *)(const void *)(p + 64);
        d ^= *(const lanes *)(const void *)(p + 96);
    }
    a ^= b ^ c ^ d;
    atomic_fetch_xor_explicit(&r->sum, a[0] ^ a[1] ^ a[2] ^ a[3], memory_order_relaxed);
}

static u64 mat_bytes(const lb_mat *m) {
    return m->n_rows * m->row_bytes;
}

u64 lb_bench_weights_bytes(const lb_mweights *w) {
    u64 n = 0;
    for (u64 i = 0; i < w->n; i++)
        for (u32 k = 0; k < w->list[i].n_mats; k++)
            n += mat_bytes(&w->list[i].mats[k]);
    return n;
}

/* Pieces of the weights up to max_bytes; list NULL: counts them. */
static u64 cut(const lb_mweights *w, u64 max_bytes, piece *list, u64 *bytes) {
    u64 n = 0;
    *bytes = 0;
    for (u64 i = 0; i < w->n; i++)
        for (u32 k = 0; k < w->list[i].n_mats; k++) {
            const lb_mat *m = &w->list[i].mats[k];
            /* the last row may end before its stride does */
            u64 total = m->n_rows ? (m->n_rows - 1) * m->row_bytes : 0;
            for (u64 at = 0; at < total && *bytes < max_bytes; at += PIECE_BYTES, n++) {
                u64 size = LB_MIN(total - at, (u64)PIECE_BYTES);
                if (list)
                    list[n] = (piece){m->codes + at, size};
                *bytes += size;
            }
        }
    return n;
}

lb_status lb_bench_bandwidth(const lb_mweights *w, u32 threads, u64 max_bytes, double *rate,
                             lb_err *err) {
    u64 bytes, n = cut(w, max_bytes, NULL, &bytes);
    piece *list = lb_alloc_zero(LB_MAX(n, (u64)1), sizeof *list);
    lb_team *team = NULL;
    reading r = {.list = list};
    *rate = 0;
    if (!list)
        return lb_fail(err, LB_E_NOMEM, "out of memory to measure how fast memory is");
    (void)cut(w, max_bytes, list, &bytes);
    lb_status st = lb_team_new(&team, threads, 64, err);
    if (st == LB_OK) {
        lb_team_run(team, n, read_piece, &r);
        const u64 begin = lb_os_now_us();
        for (u32 i = 0; i < PASSES; i++)
            lb_team_run(team, n, read_piece, &r);
        const u64 us = LB_MAX(lb_os_now_us() - begin, (u64)1);
        *rate = (double)bytes * PASSES * 1e6 / (double)us;
    }
    if (team)
        lb_team_free(&team);
    lb_free(list);
    return st;
}
