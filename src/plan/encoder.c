/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.c: lanes between workers and a device (encoder.h).
 *
 * A lane is free, open (a worker fills it), ready, or under way. A worker that finds no free one
 * hands over what it has open before it waits; so lanes that nobody may wait for are being filled
 * by a worker that runs, or are the encoder's, and there is no deadlock. */
#include "plan/encoder.h"
#include "base/mem.h"
#include "base/thread.h"
#include "device/encode.h"
#include "device/selftest.h"
#include <stdatomic.h>
#include <stdio.h>

enum {
    LANES_MAX = 34,          /* 32 workers are enough for any disk and link */
    LANE_ELEMS = 512 * 1024, /* a tile may have several lanes */
    LANE_COLS = 128 * 1024   /* importance of a row */
};
/* The largest results: 8 bits a code and two floats for 32 of them; each part begins at a multiple
 * of LB_DEV_ALIGN. */
#define LANE_OUT_BYTES (LANE_ELEMS / 32 * (32 + 2 * 4))
/* Calls of a driver and self-tests are deeper than what other threads do. */
#define ENCODER_STACK_BYTES (4 * LB_MIB)

/* DONE: its owner copies the result where it belongs. */
typedef enum state { FREE, OPEN, READY, UNDER_WAY, DONE } state;

typedef struct lb_lane {
    state state;
    u64 number; /* of lanes that were handed over */
    lb_encoding *owner;
    const lb_quant *q;
    lb_round in_type;   /* of its values */
    u64 n_cols, col, n; /* col: of the first value, where there is importance */
    u8 *out[LB_QUANT_PARTS];
    lb_dev_queue *queue;
    lb_dev_buf *host_in, *host_out, *in, *imp, *blocks;
    lb_dev_buf *refined; /* of blocks; made when it is first needed */
} lb_lane;

struct lb_quant_device {
    lb_dev_opts opts;
    char id[16];
    lb_dev *dev; /* NULL: not open */
    bool emulated;
    u32 n_wanted; /* lanes */
    bool tried[LB_DEV_KERNEL_COUNT];
    atomic_bool ready;                /* is open; lanes and kernels do not change any more */
    lb_dev_buf *grid[LB_DTYPE_COUNT]; /* codebooks, when they are first needed */
    lb_lane lane[LANES_MAX];
    u32 n_lanes;
    lb_mutex mutex;       /* of all below, and of lanes' states */
    lb_cond free, handed; /* a lane became free, or the device has failed; a lane is ready */
    lb_cond opened;
    bool is_opening;
    lb_status open_st;
    u64 number;
    bool stop;
    lb_err err;
    char refusal[LB_ERR_MSG_MAX]; /* of lb_quant_device_try */
    lb_quant_device_stats stats;
    lb_thread thread;
};

static u32 value_bytes(lb_round type) {
    return type == LB_ROUND_NONE ? 4 : 2;
}

/* ---- opening ---- */

static void lane_free(lb_lane *l) {
    lb_dev_queue_free(&l->queue);
    lb_dev_buf_free(&l->host_in);
    lb_dev_buf_free(&l->host_out);
    lb_dev_buf_free(&l->in);
    lb_dev_buf_free(&l->imp);
    lb_dev_buf_free(&l->blocks);
    lb_dev_buf_free(&l->refined);
}

static lb_status lane_new(lb_dev *d, lb_lane *l, lb_err *err) {
    const u64 in = LANE_ELEMS * sizeof(float);
    LB_TRY(lb_dev_queue_new(d, &l->queue, err));
    LB_TRY(lb_dev_buf_new(d, LB_DEV_HOST, in, &l->host_in, err));
    LB_TRY(lb_dev_buf_new(d, LB_DEV_HOST, LANE_OUT_BYTES, &l->host_out, err));
    LB_TRY(lb_dev_buf_new(d, LB_DEV_OWN, in, &l->in, err));
    LB_TRY(lb_dev_buf_new(d, LB_DEV_OWN, LANE_COLS * sizeof(float), &l->imp, err));
    return lb_dev_buf_new(d, LB_DEV_OWN, LANE_OUT_BYTES, &l->blocks, err);
}

/* As many as there is room for; where that is fewer than wanted, the last one's is the codebooks'.
 */
static lb_status make_lanes(lb_quant_device *e, lb_err *err) {
    lb_err own = {0};
    lb_status st = LB_OK;
    while (e->n_lanes < e->n_wanted && st == LB_OK) {
        lb_lane *l = &e->lane[e->n_lanes];
        st = lane_new(e->dev, l, &own);
        if (st == LB_OK)
            e->n_lanes++;
        else
            lane_free(l);
    }
    if (st != LB_OK && e->n_lanes > 2)
        lane_free(&e->lane[--e->n_lanes]);
    lb_dev_pool_trim(e->dev);
    if (st == LB_OK || ((st == LB_E_NOMEM || st == LB_E_LIMIT) && e->n_lanes >= 2))
        return LB_OK;
    *err = own;
    return st;
}

static bool refuse(void *user, const lb_dev *d, lb_dev_kernel k, const lb_err *why) {
    lb_quant_device *e = user;
    (void)d;
    (void)k;
    if (!e->refusal[0])
        (void)snprintf(e->refusal, sizeof e->refusal, "%s", why->msg);
    return true;
}

static lb_status prove(lb_quant_device *e, const lb_dev_kernel k[], u32 n, lb_err *err) {
    const lb_dev_proving p = {.list = k, .n = n, .wrong = refuse, .user = e};
    return n ? lb_dev_prove_all(e->dev, &p, err) : LB_OK;
}

static lb_status open_and_prove(lb_quant_device *e, lb_err *err) {
    lb_dev_kernel list[LB_DEV_KERNEL_COUNT];
    u32 n = 0;
    LB_TRY(lb_dev_open(&e->dev, &e->opts, err));
    LB_TRY(make_lanes(e, err));
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++)
        if (e->tried[k])
            list[n++] = (lb_dev_kernel)k;
    return prove(e, list, n, err);
}

/* By this thread. */
static void open_here(lb_quant_device *e) {
    lb_err err = {0};
    const lb_status st = open_and_prove(e, &err);
    lb_lock(&e->mutex);
    e->is_opening = false;
    e->open_st = st;
    if (st != LB_OK)
        e->err = err;
    atomic_store(&e->ready, st == LB_OK);
    lb_wake_all(&e->opened);
    lb_unlock(&e->mutex);
}

/* ---- the encoder's thread ---- */

/* The codebook of a type, made of the quantizer's tables. */
static lb_status need_grid(lb_quant_device *e, lb_lane *l, lb_err *err) {
    const lb_dtype t = l->q->dtype;
    const u64 bytes = (u64)lb_dev_encode_table_words(t) * sizeof(u32);
    if (!bytes || e->grid[t])
        return LB_OK;
    u32 *words = lb_alloc((size_t)bytes);
    if (!words)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a codebook");
    lb_dev_encode_table(t, l->q->tables, words);
    lb_status st = lb_dev_buf_new(e->dev, LB_DEV_OWN, bytes, &e->grid[t], err);
    if (st == LB_OK)
        st = lb_dev_queue_write(l->queue, e->grid[t], 0, words, bytes, err);
    if (st == LB_OK)
        st = lb_dev_queue_wait(l->queue, err);
    lb_free(words);
    return st;
}

/* Bytes of a part of n values. */
static u64 part_bytes(const lb_quant *q, u32 part, u64 n) {
    const lb_dtype_info *t = lb_dtype_get(lb_quant_part_dtype(q, (lb_quant_part)part));
    const u64 elems = n / lb_quant_cols(q) * lb_quant_part_elems(q, (lb_quant_part)part);
    return elems / t->block_elems * t->block_bytes;
}

/* Where the parts of a lane's result lie, and behind the last one its end. */
static void lay_out(const lb_lane *l, u64 off[LB_QUANT_PARTS + 1]) {
    off[0] = 0;
    for (u32 k = 0; k < lb_quant_n_parts(l->q); k++)
        off[k + 1] =
            lb_ceil_div_u64(off[k] + part_bytes(l->q, k, l->n), LB_DEV_ALIGN) * LB_DEV_ALIGN;
}

/* What has the result: the blocks, or where they were refined. */
static lb_dev_buf *result_of(const lb_lane *l) {
    return l->q->refine ? l->refined : l->blocks;
}

static lb_status launch_blocks(lb_quant_device *e, lb_lane *l, lb_err *err) {
    const u32 block = lb_dtype_get(l->q->dtype)->block_elems;
    lb_dev_encode launch = {.type = l->q->dtype,
                            .val = {.n_blocks = (u32)(l->n / block),
                                    .row_blocks = l->q->importance ? (u32)(l->n_cols / block) : 1,
                                    .first_block = l->q->importance ? (u32)(l->col / block) : 0,
                                    .has_importance = l->q->importance != NULL},
                            .in = {l->in, 0},
                            .imp = {l->imp, 0},
                            .grid = {e->grid[l->q->dtype], 0},
                            .out = {l->blocks, 0}};
    LB_TRY(lb_dev_encode_launch(l->queue, &launch, err));
    if (!l->q->refine)
        return LB_OK;
    LB_TRY(lb_dev_queue_barrier(l->queue, err));
    launch.out.buf = l->refined;
    return lb_dev_refine_launch(l->queue, &launch, (lb_dev_arg){l->blocks, 0}, err);
}

static u32 float_type(lb_round r) {
    return r == LB_ROUND_F16 ? LB_DEV_F16 : r == LB_ROUND_BF16 ? LB_DEV_BF16 : LB_DEV_F32;
}

static lb_status launch_groups(lb_lane *l, const u64 off[], lb_err *err) {
    const lb_quant *q = l->q;
    const lb_dev_encode_mlx launch = {
        .affine = q->kind == LB_QUANT_AFFINE,
        .val = {.n_groups = (u32)(l->n / lb_quant_cols(q)),
                .group = lb_quant_cols(q),
                .bits = 32 * lb_quant_part_elems(q, LB_QUANT_CODES) / lb_quant_cols(q),
                .in_type = float_type(l->in_type),
                .out_type = float_type(q->round),
                .cpu_rule = q->cpu_rule},
        .in = {l->in, 0},
        .codes = {l->blocks, off[0]},
        .scales = {l->blocks, off[1]},
        .biases = {l->blocks, off[2]}};
    return lb_dev_encode_mlx_launch(l->queue, &launch, err);
}

static lb_status submit(lb_quant_device *e, lb_lane *l, lb_err *err) {
    u64 off[LB_QUANT_PARTS + 1] = {0};
    lay_out(l, off);
    LB_TRY(need_grid(e, l, err));
    if (l->q->refine && !l->refined)
        LB_TRY(lb_dev_buf_new(e->dev, LB_DEV_OWN, LANE_OUT_BYTES, &l->refined, err));
    if (l->q->importance) /* first: a driver waits for the queue before it copies such memory */
        LB_TRY(lb_dev_queue_write(l->queue, l->imp, 0, l->q->importance, l->n_cols * sizeof(float),
                                  err));
    LB_TRY(lb_dev_queue_write(l->queue, l->in, 0, lb_dev_buf_host(l->host_in),
                              l->n * value_bytes(l->in_type), err));
    LB_TRY(lb_dev_queue_barrier(l->queue, err));
    if (l->q->kind == LB_QUANT_BLOCKS)
        LB_TRY(launch_blocks(e, l, err));
    else
        LB_TRY(launch_groups(l, off, err));
    LB_TRY(lb_dev_queue_barrier(l->queue, err));
    return lb_dev_queue_read(l->queue, lb_dev_buf_host(l->host_out), result_of(l), 0,
                             off[lb_quant_n_parts(l->q)], err);
}

/* Lock held. The one that was handed over first. */
static lb_lane *first_in(lb_quant_device *e, state s) {
    lb_lane *first = NULL;
    for (u32 i = 0; i < e->n_lanes; i++)
        if (e->lane[i].state == s && (!first || e->lane[i].number < first->number))
            first = &e->lane[i];
    return first;
}

/* Lock held. The lane's result is there, or it has failed. */
static void finish(lb_quant_device *e, lb_lane *l, lb_status st, const lb_err *err) {
    if (st != LB_OK && e->err.code == LB_OK) {
        e->err = *err;
        lb_wake_all(&e->free);
    }
    e->stats.n_batches++;
    e->stats.n_elems += l->n;
    l->state = DONE;
    lb_wake_one(&l->owner->done);
}

static void *encoder_main(void *arg) {
    lb_quant_device *e = arg;
    lb_lane *l;
    if (!e->dev)
        open_here(e);
    lb_lock(&e->mutex);
    for (;;) {
        lb_err err = {0};
        lb_status st;
        if ((l = first_in(e, READY)) != NULL) {
            l->state = UNDER_WAY;
            st = e->err.code;
            lb_unlock(&e->mutex);
            if (st == LB_OK)
                st = submit(e, l, &err);
            lb_lock(&e->mutex);
            if (st != LB_OK)
                finish(e, l, st, &err);
        } else if ((l = first_in(e, UNDER_WAY)) != NULL) {
            lb_unlock(&e->mutex);
            st = lb_dev_queue_wait(l->queue, &err);
            lb_lock(&e->mutex);
            finish(e, l, st, &err);
        } else if (e->stop) {
            break;
        } else {
            lb_wait(&e->handed, &e->mutex);
        }
    }
    lb_unlock(&e->mutex);
    return NULL;
}

/* ---- workers ---- */

void lb_encoding_init(lb_encoding *x, lb_quant_device *e) {
    *x = (lb_encoding){.e = e};
    if (e)
        lb_cond_init(&x->done);
}

void lb_encoding_deinit(lb_encoding *x) {
    if (x->e)
        lb_cond_deinit(&x->done);
    x->e = NULL;
}

/* Lock held. */
static void hand_over(lb_encoding *x, u32 root) {
    lb_lane *l = x->open[root];
    if (!l)
        return;
    x->open[root] = NULL;
    x->pending++;
    l->number = x->e->number++;
    l->state = READY;
    lb_wake_one(&x->e->handed);
}

static void hand_over_all(lb_encoding *x) {
    for (u32 i = 0; i < LB_ENCODING_MAX; i++)
        hand_over(x, i);
}

/* Copies a lane's result where it belongs. */
static void deliver(const lb_lane *l) {
    u64 off[LB_QUANT_PARTS + 1];
    const u8 *from = lb_dev_buf_host(l->host_out);
    lay_out(l, off);
    for (u32 k = 0; k < lb_quant_n_parts(l->q); k++)
        memcpy(l->out[k], from + off[k], (size_t)part_bytes(l->q, k, l->n));
}

/* Lock held, and given back while copying. Takes back those of the worker's lanes that are done;
 * waits where none is, if it may. */
static void collect(lb_encoding *x, bool waits) {
    lb_quant_device *e = x->e;
    bool any = false;
    for (u32 i = 0; i < e->n_lanes; i++) {
        lb_lane *l = &e->lane[i];
        if (l->state != DONE || l->owner != x)
            continue;
        if (e->err.code == LB_OK) {
            lb_unlock(&e->mutex);
            deliver(l);
            lb_lock(&e->mutex);
        }
        l->state = FREE;
        x->pending--;
        any = true;
        lb_wake_one(&e->free);
    }
    if (!any && waits)
        lb_wait(&x->done, &e->mutex);
}

/* Lock held. NULL: the device has failed, or none is free and the worker does not wait. Who has
 * lanes under way waits for its own, which nobody else gives back. */
static lb_lane *take(lb_encoding *x, bool waits) {
    lb_quant_device *e = x->e;
    lb_lane *l = NULL;
    while (e->err.code == LB_OK && !(l = first_in(e, FREE))) {
        hand_over_all(x);
        if (x->pending)
            collect(x, waits);
        else if (waits)
            lb_wait(&e->free, &e->mutex);
        if (!waits) {
            l = first_in(e, FREE);
            break;
        }
    }
    if (l)
        l->state = OPEN;
    return l;
}

/* Searches for scales and codebooks cost the CPU a hundred times what they cost a device: they are
 * waited for. */
static bool is_slow(const lb_quant *q) {
    return q->refine || q->tables != NULL;
}

/* Whether values that go to out are the next ones of an open lane. */
static bool follows(const lb_lane *l, const lb_encoding_at *at, u8 *const out[]) {
    for (u32 k = 0; k < lb_quant_n_parts(l->q); k++)
        if (l->out[k] + part_bytes(l->q, k, l->n) != out[k])
            return false;
    return l->n < LANE_ELEMS && l->q == at->q && l->in_type == at->in_type &&
           (!at->q->importance || (l->col + l->n) % at->n_cols == at->col);
}

/* A lane for them; NULL: none is free now, or the device has failed. */
static lb_lane *lane_for(lb_encoding *x, const lb_encoding_at *at, bool waits, u8 *const out[]) {
    lb_lane *l = x->open[at->root];
    if (l && follows(l, at, out))
        return l;
    lb_lock(&x->e->mutex);
    hand_over(x, at->root);
    l = take(x, waits);
    lb_unlock(&x->e->mutex);
    if (!l)
        return NULL;
    l->owner = x;
    l->q = at->q;
    l->in_type = at->in_type;
    l->n_cols = at->n_cols;
    l->col = at->col;
    l->n = 0;
    for (u32 k = 0; k < lb_quant_n_parts(at->q); k++)
        l->out[k] = out[k];
    return x->open[at->root] = l;
}

bool lb_encoding_add(lb_encoding *x, lb_encoding_at at, u64 n, const void *in,
                     u8 *const out[LB_QUANT_PARTS]) {
    const u32 size = value_bytes(at.in_type);
    const u8 *from = in;
    u8 *to[LB_QUANT_PARTS] = {NULL};
    bool waits = is_slow(at.q) || n > LANE_ELEMS;
    for (u32 k = 0; k < lb_quant_n_parts(at.q); k++)
        to[k] = out[k];
    while (n) {
        lb_lane *l = lane_for(x, &at, waits, to);
        if (!l)
            return false;
        const u64 part = LB_MIN(n, LANE_ELEMS - l->n);
        memcpy((u8 *)lb_dev_buf_host(l->host_in) + l->n * size, from, (size_t)(part * size));
        l->n += part;
        n -= part;
        from += part * size;
        for (u32 k = 0; k < lb_quant_n_parts(at.q); k++)
            to[k] += part_bytes(at.q, k, part);
        at.col = (at.col + part) % at.n_cols;
        waits = true; /* all or nothing */
    }
    return true;
}

lb_status lb_encoding_end(lb_encoding *x, lb_err *err) {
    lb_quant_device *e = x->e;
    lb_lock(&e->mutex);
    hand_over_all(x);
    while (x->pending)
        collect(x, true);
    const lb_status st = e->err.code;
    if (st != LB_OK && err)
        *err = e->err;
    lb_unlock(&e->mutex);
    return st;
}

/* ---- all of it ---- */

/* How many lanes are wanted: two more than workers. Of the kernels as C both sides are the host's.
 */
static u32 lanes_for(const lb_quant_device *e, u32 threads, u64 memory_bytes) {
    const u64 lane = (e->emulated ? 2 : 1) * (LANE_ELEMS * sizeof(float) + LANE_OUT_BYTES);
    const u64 fit = LB_MAX(memory_bytes / 4 / lane, 2);
    return (u32)LB_MIN(LB_MIN((u64)threads + 2, fit), LANES_MAX);
}

lb_status lb_quant_device_new(lb_quant_device **out, const lb_dev_opts *dev, u32 threads,
                              u64 memory_bytes, lb_err *err) {
    *out = NULL;
    if (!lb_dev_encode_exact(dev->kind))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "--device: %s may flush subnormal numbers, so that the bytes might not be "
                       "those of the CPU: nothing is quantized there: use --device cpu",
                       lb_dev_kind_name(dev->kind));
    lb_quant_device *e = *out = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a device's lanes");
    e->opts = *dev;
    e->emulated = dev->kind == LB_DEV_CPU;
    e->n_wanted = lanes_for(e, threads, memory_bytes);
    if (e->emulated)
        (void)snprintf(e->id, sizeof e->id, "emulated");
    else
        (void)snprintf(e->id, sizeof e->id, "%s:%u", lb_dev_kind_name(dev->kind), dev->index);
    lb_mutex_init(&e->mutex);
    lb_cond_init(&e->free);
    lb_cond_init(&e->handed);
    lb_cond_init(&e->opened);
    return LB_OK;
}

static lb_status start(lb_quant_device *e, lb_err *err) {
    if (e->thread.started)
        return LB_OK;
    return lb_thread_start_deep(&e->thread, encoder_main, e, ENCODER_STACK_BYTES, err);
}

lb_status lb_quant_device_open(lb_quant_device *e, lb_err *err) {
    if (!e->thread.started && !e->dev)
        open_here(e);
    LB_TRY(lb_quant_device_wait(e, err));
    return start(e, err);
}

lb_status lb_quant_device_open_beside(lb_quant_device *e, lb_err *err) {
    const bool opens = !e->thread.started && !e->dev;
    e->is_opening |= opens;
    const lb_status st = start(e, err);
    if (st != LB_OK && opens) /* nobody does */
        e->is_opening = false;
    return st;
}

lb_status lb_quant_device_wait(lb_quant_device *e, lb_err *err) {
    lb_lock(&e->mutex);
    while (e->is_opening)
        lb_wait(&e->opened, &e->mutex);
    const lb_status st = e->open_st;
    if (st != LB_OK && err)
        *err = e->err;
    lb_unlock(&e->mutex);
    return st;
}

void lb_quant_device_free(lb_quant_device **out) {
    lb_quant_device *e = *out;
    if (!e)
        return;
    lb_lock(&e->mutex);
    e->stop = true;
    lb_wake_one(&e->handed);
    lb_unlock(&e->mutex);
    lb_thread_join(&e->thread);
    for (u32 i = 0; i < e->n_lanes; i++)
        lane_free(&e->lane[i]);
    for (u32 i = 0; i < LB_DTYPE_COUNT; i++)
        lb_dev_buf_free(&e->grid[i]);
    lb_dev_close(&e->dev);
    lb_cond_deinit(&e->free);
    lb_cond_deinit(&e->handed);
    lb_cond_deinit(&e->opened);
    lb_mutex_deinit(&e->mutex);
    lb_free(e);
    *out = NULL;
}

const char *lb_quant_device_id(const lb_quant_device *e) {
    return e->id;
}

u64 lb_quant_device_pinned_bytes(const lb_quant_device *e) {
    return e->emulated ? 0 : e->n_wanted * (LANE_ELEMS * sizeof(float) + LANE_OUT_BYTES);
}

/* What makes it, one after the other; 0: no kernels do. */
static u32 kernels_of(const lb_quant *q, lb_dev_kernel k[2]) {
    if (q->kind == LB_QUANT_BLOCKS) {
        const bool has = lb_dev_encode_of(q->dtype, &k[0]);
        if (!q->refine)
            return has ? 1 : 0;
        return has && lb_dev_refine_of(q->dtype, &k[1]) ? 2 : 0;
    }
    k[0] = q->kind == LB_QUANT_AFFINE ? LB_DK_enc_mlx_affine : LB_DK_enc_mlx_float;
    return !q->refine && (q->kind == LB_QUANT_AFFINE || (!q->cpu_rule && !lb_quant_is_hf(q)));
}

lb_status lb_quant_device_try(lb_quant_device *e, const lb_quant *q, lb_err *err) {
    lb_dev_kernel k[2];
    const u32 n = e ? kernels_of(q, k) : 0;
    for (u32 i = 0; i < n; i++)
        e->tried[k[i]] = true;
    return n && e->dev ? prove(e, k, n, err) : LB_OK;
}

bool lb_quant_device_has_any(const lb_quant_device *e) {
    bool any = false;
    for (u32 k = 0; k < LB_DEV_KERNEL_COUNT; k++)
        any |= e->tried[k];
    return any;
}

const char *lb_quant_device_refusal(const lb_quant_device *e) {
    return e->refusal[0] ? e->refusal : NULL;
}

bool lb_quant_device_takes(const lb_quant_device *e, const lb_quant *q, u64 n_cols) {
    lb_dev_kernel k[2];
    const u32 n = e && atomic_load(&e->ready) ? kernels_of(q, k) : 0;
    bool has = n && (q->kind != LB_QUANT_BLOCKS || !q->importance || n_cols <= LANE_COLS);
    for (u32 i = 0; i < n; i++)
        has = has && lb_dev_has(e->dev, k[i]);
    return has;
}

float lb_quant_device_most(const lb_quant *q) {
    if (q->kind == LB_QUANT_AFFINE && q->round == LB_ROUND_F16)
        return 0x1p14f;
    return q->kind == LB_QUANT_NVFP4 ? 0x1p11f : 0x1p126f;
}

void lb_quant_device_stats_get(lb_quant_device *e, lb_quant_device_stats *out) {
    lb_lock(&e->mutex);
    *out = e->stats;
    lb_unlock(&e->mutex);
}
