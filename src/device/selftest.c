/* SPDX-License-Identifier: Apache-2.0 */
/* selftest.c: the run of one kernel's cases, what they share. */
#include "device/selftest.h"
#include "device/backend.h"
#include "device/selftest_cases.h"
#include <math.h>
#include <stdio.h>

#define CANARY_BYTES 256u
#define CANARY 0xa5

u32 lb_selftest_u32(lb_selftest *t) {
    u32 x = t->random; /* xorshift */
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return t->random = x;
}

float lb_selftest_float(lb_selftest *t) {
    return (float)(i32)lb_selftest_u32(t) * 0x1p-31f;
}

float *lb_selftest_floats(lb_selftest *t, u64 n, float scale) {
    float *x = lb_arena_new(&t->arena, float, n);
    for (u64 i = 0; x && i < n; i++)
        x[i] = scale * lb_selftest_float(t);
    return x;
}

void lb_selftest_compare(lb_selftest *t, u64 i, float got, double want, double bound) {
    lb_selftest_row *row = t->row;
    const double error = fabs((double)got - want);
    double share = bound > 0 ? error / bound : error == 0 ? 0 : (double)INFINITY;
    if ((double)got == want || (isnan(got) && isnan(want)))
        share = 0;
    if (isnan(share))
        share = (double)INFINITY;
    if (!(share <= 1) && row->status == LB_OK) {
        row->status = LB_E_DIFFERENT;
        (void)snprintf(row->why, sizeof row->why, "%s: element %llu is %.9g, not %.9g (bound %.3g)",
                       t->where, (unsigned long long)i, (double)got, want, bound);
    }
    row->worst = fmax(row->worst, share);
}

/* The bytes of a buffer and, where the device rounds sizes up anyway, a canary behind them. */
static u8 *fill(lb_selftest *t, const lb_selftest_data *data, u64 canary) {
    const u64 all = LB_MAX(data->size_bytes + canary, 1);
    u8 *bytes = lb_arena_push(&t->arena, (size_t)all, 16);
    if (!bytes)
        return NULL;
    if (data->ptr)
        memcpy(bytes, data->ptr, (size_t)data->size_bytes);
    else
        memset(bytes, 0xff, (size_t)data->size_bytes);
    memset(bytes + data->size_bytes, CANARY, (size_t)canary);
    return bytes;
}

static lb_status upload(lb_selftest *t, const u8 *bytes, u64 n, lb_dev_buf **out, lb_err *err) {
    LB_TRY(lb_dev_buf_new(t->dev, LB_DEV_OWN, LB_MAX(n, 1), out, err));
    return lb_dev_queue_write(t->queue, *out, 0, bytes, LB_MAX(n, 1), err);
}

static lb_status download(lb_selftest *t, lb_dev_buf *from, u64 bytes, u64 canary, void *out,
                          lb_err *err) {
    u8 rest[CANARY_BYTES];
    LB_TRY(lb_dev_queue_barrier(t->queue, err));
    LB_TRY(lb_dev_queue_read(t->queue, out, from, 0, bytes, err));
    LB_TRY(lb_dev_queue_read(t->queue, rest, from, bytes, canary, err));
    LB_TRY(lb_dev_queue_wait(t->queue, err));
    for (u64 i = 0; i < canary; i++)
        if (rest[i] != CANARY)
            return lb_fail(err, LB_E_DIFFERENT, "%s: byte %llu beyond the result was written",
                           t->where, (unsigned long long)i);
    if (t->opts->damage && bytes)
        ((u8 *)out)[(lb_selftest_u32(t) % (bytes / 4)) * 4 + 2] ^= 0x40; /* of a float: large */
    return LB_OK;
}

lb_status lb_selftest_launch_of(lb_selftest *t, lb_dev_kernel k, const lb_selftest_data *bufs,
                                const void *val, void *const *outs, lb_err *err) {
    const char *signature = lb_dev_kernel_signature(k);
    const u64 most = lb_dev_info_get(t->dev)->kind != LB_DEV_CPU ? CANARY_BYTES : 0;
    u64 canary[LB_DEV_BUFS_MAX];
    u8 *bytes[LB_DEV_BUFS_MAX];
    lb_dev_launch l = {.kernel = k,
                       .n_bufs = (u32)strlen(signature) - 1,
                       .val = val,
                       .val_bytes = lb_dev_kernel_val_bytes(k)};
    lb_status st = LB_OK;
    for (u32 i = 0; i < l.n_bufs; i++) {
        canary[i] = signature[i] == 'o' ? most : 0;
        bytes[i] = fill(t, &bufs[i], canary[i]);
        if (!bytes[i])
            return lb_fail(err, LB_E_NOMEM, "out of memory for a case");
    }
    lb_lock(t->lock);
    for (u32 i = 0; i < l.n_bufs && st == LB_OK; i++)
        st = upload(t, bytes[i], bufs[i].size_bytes + canary[i], &l.buf[i].buf, err);
    if (st == LB_OK)
        st = lb_dev_queue_launch(t->queue, &l, err);
    for (u32 i = 0; i < l.n_bufs && st == LB_OK; i++)
        if (signature[i] == 'o')
            st = download(t, l.buf[i].buf, bufs[i].size_bytes, canary[i], outs[i], err);
    for (u32 i = 0; i < l.n_bufs; i++)
        lb_dev_buf_free(&l.buf[i].buf);
    lb_unlock(t->lock);
    return st;
}

lb_status lb_selftest_launch_all(lb_selftest *t, const lb_selftest_data *bufs, const void *val,
                                 void *const *outs, lb_err *err) {
    return lb_selftest_launch_of(t, t->row->kernel, bufs, val, outs, err);
}

lb_status lb_selftest_launch(lb_selftest *t, const lb_selftest_data *bufs, const void *val,
                             void *out, lb_err *err) {
    void *outs[LB_DEV_BUFS_MAX];
    for (u32 i = 0; i < LB_DEV_BUFS_MAX; i++)
        outs[i] = out;
    return lb_selftest_launch_all(t, bufs, val, outs, err);
}

typedef lb_status cases_fn(lb_selftest *t, u32 i, bool *more, lb_err *err);

static cases_fn *cases_of(lb_dev_kernel k) {
    switch (k) {
    case LB_DK_rms_norm:
    case LB_DK_layer_norm:
    case LB_DK_softmax:
    case LB_DK_argmax:
    case LB_DK_rope:
    case LB_DK_add:
        return lb_selftest_others;
    case LB_DK_kv_store:
    case LB_DK_attend:
    case LB_DK_attend_tile:
    case LB_DK_attend_join:
        return lb_selftest_attend;
    case LB_DK_attend_mma_64:
    case LB_DK_attend_mma_96:
    case LB_DK_attend_mma_128:
    case LB_DK_attend_mma_192:
    case LB_DK_attend_mma_256:
    case LB_DK_attend_few_64:
    case LB_DK_attend_few_128:
    case LB_DK_attend_few_192:
    case LB_DK_attend_few_256:
    case LB_DK_rope_store:
        return lb_selftest_flash;
    case LB_DK_top_chunks:
    case LB_DK_top_merge:
    case LB_DK_top_take:
        return lb_selftest_sample;
    case LB_DK_route:
    case LB_DK_experts_sum:
    case LB_DK_bias_experts:
    case LB_DK_scale_routes:
    case LB_DK_routes_group:
        return lb_selftest_experts;
    case LB_DK_route_two:
    case LB_DK_move_heads:
    case LB_DK_times_rows:
    case LB_DK_times_sigmoid:
    case LB_DK_times_silu:
    case LB_DK_l2_norm_heads:
        return lb_selftest_heads;
    case LB_DK_conv_steps:
    case LB_DK_conv_keep:
    case LB_DK_delta_gates:
        return lb_selftest_state;
    case LB_DK_delta_steps:
    case LB_DK_delta_chunks:
        return lb_selftest_delta;
    case LB_DK_kv_put:
    case LB_DK_attend_wide:
    case LB_DK_mix_rows:
    case LB_DK_kv_take:
    case LB_DK_kv_move:
        return lb_selftest_wide;
    case LB_DK_column_sums:
        return lb_selftest_sums;
    case LB_DK_tile_rows:
    case LB_DK_gemm:
    case LB_DK_gemm_gated:
        return lb_selftest_tiles;
    case LB_DK_routes_count:
    case LB_DK_routes_tiles:
    case LB_DK_tile_routes:
    case LB_DK_gemm_experts:
    case LB_DK_gemm_experts_gated:
        return lb_selftest_grouped;
    case LB_DK_enc_mlx_affine:
    case LB_DK_enc_mlx_float:
        return lb_selftest_encode_mlx;
    default:
        return k < LB_DK_rms_norm    ? lb_selftest_weights
               : k >= LB_DK_enc_q2_k ? lb_selftest_encode
                                     : lb_selftest_maps;
    }
}

/* All cases of t's kernel. */
static lb_status run_cases(lb_selftest *t, lb_err *why) {
    lb_status st = LB_OK;
    bool more = true;
    bool seen = false; /* damage */
    for (u32 i = 0; more && st == LB_OK && !seen && !(t->opts->quick && i == 2);
         i++, t->row->n_cases++) {
        t->at = 0;
        st = cases_of(t->row->kernel)(t, i, &more, why);
        if (st != LB_OK) { /* what was submitted still reads the arena */
            lb_err ignored;
            lb_lock(t->lock);
            (void)lb_dev_queue_wait(t->queue, &ignored);
            lb_unlock(t->lock);
        }
        lb_arena_deinit(&t->arena);
        seen = t->opts->damage && !(t->row->worst <= 1);
    }
    lb_arena_deinit(&t->kept);
    return st;
}

static lb_status test_one(lb_selftest *t, lb_dev_kernel k, lb_err *err) {
    lb_selftest_row *row = t->row;
    lb_err why = {0};
    t->random = 0x9e3779b9u + (u32)k;
    *row = (lb_selftest_row){.kernel = k};
    lb_lock(t->lock);
    lb_status st = lb_dev_queue_new(t->dev, &t->queue, &why);
    lb_unlock(t->lock);
    if (st == LB_OK)
        st = run_cases(t, &why);
    lb_lock(t->lock);
    lb_dev_queue_free(&t->queue);
    lb_unlock(t->lock);
    if (st == LB_OK)
        return LB_OK;
    row->status = st;
    (void)snprintf(row->why, sizeof row->why, "%.255s", why.msg);
    if (st == LB_E_NOMEM && err)
        *err = why;
    return st == LB_E_NOMEM ? st : LB_OK;
}

lb_status lb_dev_selftest(lb_dev *d, lb_dev_kernel k, const lb_selftest_opts *opts,
                          lb_selftest_row *out, lb_err *err) {
    return lb_dev_selftest_all(d, &k, 1, opts, out, err);
}

/* ---- several kernels at a time ---- */

/* A case of a model's size takes up to 180 MB of the host; the longest kernel's test is about a
 * tenth of all references' time, so that more threads would wait for it. */
#define THREADS_MAX 16u

typedef struct several {
    lb_dev *dev;
    const lb_dev_kernel *kernels;
    const lb_selftest_opts *opts;
    lb_selftest_row *out;
    lb_mutex device, lock; /* lock: of next */
    u32 n, next;
} several;

static lb_status take(several *s, u32 i, lb_err *err) {
    lb_selftest t = {.dev = s->dev, .lock = &s->device, .opts = s->opts, .row = &s->out[i]};
    return test_one(&t, s->kernels[i], err);
}

static void *take_all(void *arg) {
    several *s = arg;
    for (;;) {
        lb_lock(&s->lock);
        const u32 i = s->next < s->n ? s->next++ : s->n;
        lb_unlock(&s->lock);
        if (i == s->n)
            return NULL;
        (void)take(s, i, NULL); /* out of memory: below */
    }
}

lb_status lb_dev_selftest_all(lb_dev *d, const lb_dev_kernel *kernels, u32 n,
                              const lb_selftest_opts *opts, lb_selftest_row *out, lb_err *err) {
    several s = {.dev = d, .kernels = kernels, .opts = opts, .out = out, .n = n};
    const u32 n_threads = LB_MIN(LB_MIN(LB_MAX(opts->threads, 1u), n), THREADS_MAX);
    lb_thread more[THREADS_MAX - 1] = {0};
    lb_err ignored;
    lb_status st = LB_OK;
    lb_mutex_init(&s.device);
    lb_mutex_init(&s.lock);
    for (u32 i = 0; i + 1 < n_threads; i++) /* those that do not start are missed by nobody */
        (void)lb_thread_start(&more[i], take_all, &s, &ignored);
    (void)take_all(&s);
    for (u32 i = 0; i + 1 < n_threads; i++)
        lb_thread_join(&more[i]);
    for (u32 i = 0; i < n && st == LB_OK; i++) /* with all of the memory */
        if (out[i].status == LB_E_NOMEM)
            st = take(&s, i, err);
    lb_mutex_deinit(&s.lock);
    lb_mutex_deinit(&s.device);
    return st;
}

lb_status lb_dev_prove(lb_dev *d, lb_dev_kernel k, bool *right, lb_err *why) {
    const lb_selftest_opts quick = {.quick = true};
    lb_selftest_row row;
    *right = d->proof[k] != LB_PROOF_REFUSED;
    if (!*right) {
        (void)lb_fail(why, LB_E_UNSUPPORTED, "kernel %s: it cannot be used: %s",
                      lb_dev_kernel_name(k), d->refusal);
        return LB_OK;
    }
    if (d->proof[k] == LB_PROOF_RIGHT || d->info.kind == LB_DEV_CPU)
        return LB_OK;
    LB_TRY(lb_dev_selftest(d, k, &quick, &row, why));
    LB_TRY(lb_dev_alive(d, why));
    *right = row.status == LB_OK;
    if (*right) {
        d->proof[k] = LB_PROOF_RIGHT;
        return LB_OK;
    }
    (void)lb_fail(why, row.status, "kernel %s fails its test: %s", lb_dev_kernel_name(k), row.why);
    if (row.status == LB_E_LIMIT)
        return row.status;
    lb_dev_refuse(d, k, row.why);
    return LB_OK;
}

lb_status lb_dev_prove_all(lb_dev *d, const lb_dev_proving *p, lb_err *err) {
    for (u32 i = 0; i < (p->list ? p->n : LB_DEV_KERNEL_COUNT); i++) {
        const lb_dev_kernel k = p->list ? p->list[i] : (lb_dev_kernel)i;
        bool right = true;
        lb_err why = {0};
        if (!lb_dev_has(d, k) || (!p->list && !lb_dev_launched(d, k)))
            continue;
        const lb_status st = lb_dev_prove(d, k, &right, &why);
        if (!p->all && (st == LB_E_NOMEM || st == LB_E_LIMIT))
            continue;
        if (st != LB_OK) {
            if (err)
                *err = why;
            return st;
        }
        if (!right && !p->wrong(p->user, d, k, &why))
            return LB_OK;
    }
    return LB_OK;
}
