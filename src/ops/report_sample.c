/* SPDX-License-Identifier: Apache-2.0 */
/* report_sample.c: which stored bytes are looked at for histograms, and how they are read.
 *
 * The rule: of each tensor at most n_sample values, in stretches of 65,536 whose places are equally
 * spaced, the first at its start and the last at its end. It depends on shapes alone. Codes and
 * scales come from the stored bytes, values of unquantized tensors from decoding. Counts are whole
 * numbers, so the order in which threads add theirs does not matter. */
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "ops/report_internal.h"
#include "ops/values.h"
#include "ops/work.h"
#include <math.h>

/* A stretch in bytes: 65,536 values of 8 bytes, or so many codes with what fills up their rows. */
#define BUFFER_BYTES (2 * LB_REPORT_STRETCH * sizeof(double))

typedef struct sampling {
    const lb_report *r;
    lb_report_model *m;
    lb_report_job *job;
    lb_fds *fds;
    u8 *memory; /* worker_bytes a worker: a stretch, values, scratch */
    u64 worker_bytes, values_bytes;
    lb_report_hist *local; /* one a worker */
    u64 total_bytes;
    lb_mutex lock; /* of what follows and of m->hist */
    u64 done_bytes;
} sampling;

typedef struct looking {
    sampling *s;
    const lb_weight *w;
    lb_report_hist *h;
    u8 *buffer;
} looking;

/* Of n stretches, how many are looked at, and which is the i-th. */
static u64 stretches(u64 n, u64 per_stretch, u64 n_sample) {
    return LB_MIN(n, LB_MAX(n_sample / LB_MAX(per_stretch, 1), 1));
}

static u64 stretch_at(u64 i, u64 m, u64 n) {
    return m < 2 ? 0 : (u64)((double)i * (double)(n - 1) / (double)(m - 1));
}

static lb_status read_bytes(looking *x, const lb_tensor *t, u64 off, u64 len, lb_err *err) {
    int fd;
    lb_fds *fds = x->s->fds;
    LB_ASSERT(len <= BUFFER_BYTES && off <= t->size_bytes && len <= t->size_bytes - off);
    LB_TRY(lb_interrupt_check(err));
    LB_TRY(lb_fds_get(fds, t->file, &fd, err));
    lb_status st = lb_os_pread(fd, x->s->m->source->files[t->file].path, x->buffer, len,
                               t->off_bytes + off, err);
    lb_fds_put(fds, t->file);
    return st;
}

/* ---- codes ---- */

static lb_status count_blocks(looking *x, const lb_tensor *t, lb_err *err) {
    const lb_dtype_info *d = lb_dtype_get(t->dtype);
    u64 all = t->size_bytes / d->block_bytes, per = LB_REPORT_STRETCH / d->block_elems;
    u64 n = lb_ceil_div_u64(all, per), m = stretches(n, LB_REPORT_STRETCH, x->s->m->n_sample);
    for (u64 i = 0; i < m; i++) {
        u64 first = stretch_at(i, m, n) * per, blocks = LB_MIN(per, all - first);
        LB_TRY(read_bytes(x, t, first * d->block_bytes, blocks * d->block_bytes, err));
        lb_report_count_blocks(t->dtype, x->buffer, blocks, x->h);
        x->h->n_sampled += blocks * d->block_elems;
    }
    return LB_OK;
}

/* Rows of codes, each of `stride` bytes; a stretch is some rows, or a part of one. */
typedef struct code_rows {
    u64 n_rows, n_cols, stride;
    u32 bits;
    bool upper_first; /* of two codes in a byte */
} code_rows;

static void count_row(looking *x, const code_rows *c, const u8 *p, u64 n) {
    lb_report_count_bits(p, n, c->bits, x->h);
    if (c->upper_first && n % 2) { /* the last code is in the upper half */
        x->h->codes[p[n / 2] & 15]--;
        x->h->codes[p[n / 2] >> 4]++;
    }
    x->h->n_sampled += n;
}

static lb_status count_rows(looking *x, const lb_tensor *t, const code_rows *c, lb_err *err) {
    u64 cols = LB_MIN(c->n_cols, LB_REPORT_STRETCH);
    if (c->n_rows == 0 || cols == 0)
        return LB_OK;
    u64 per_row = lb_ceil_div_u64(c->n_cols, cols);
    u64 rows = per_row > 1 ? 1 : LB_MAX(LB_REPORT_STRETCH / cols, 1);
    rows = LB_MIN(rows, LB_MAX(BUFFER_BYTES / c->stride, 1));
    u64 n = lb_ceil_div_u64(c->n_rows, rows) * per_row;
    u64 m = stretches(n, rows * cols, x->s->m->n_sample);
    for (u64 i = 0; i < m; i++) {
        u64 at = stretch_at(i, m, n), r0 = at / per_row * rows, c0 = at % per_row * cols;
        u64 nr = LB_MIN(rows, c->n_rows - r0), nc = LB_MIN(cols, c->n_cols - c0);
        u64 off = r0 * c->stride + c0 * c->bits / 8;
        u64 len = per_row > 1 ? lb_ceil_div_u64(nc * c->bits, 8) : nr * c->stride;
        LB_TRY(read_bytes(x, t, off, len, err));
        for (u64 r = 0; r < nr; r++)
            count_row(x, c, x->buffer + r * c->stride, nc);
    }
    return LB_OK;
}

/* GPTQ: codes of a column lie upon one another in rows of words; 32 of them are `bits` words. */
static lb_status count_columns(looking *x, const lb_tensor *t, u64 n_codes, u64 n_cols,
                               lb_err *err) {
    u32 bits = x->w->enc.bits;
    u64 cols = LB_MIN(n_cols, LB_REPORT_STRETCH / 32);
    u64 bands = lb_ceil_div_u64(n_codes, 32), per_band = lb_ceil_div_u64(n_cols, LB_MAX(cols, 1));
    u64 n = bands * per_band, m = stretches(n, 32 * cols, x->s->m->n_sample);
    for (u64 i = 0; i < m && n; i++) {
        u64 at = stretch_at(i, m, n), band = at / per_band, c0 = at % per_band * cols;
        u64 nc = LB_MIN(cols, n_cols - c0), codes = LB_MIN(32, n_codes - 32 * band);
        u64 words = lb_ceil_div_u64(codes * bits, 32);
        u8 *to = x->buffer;
        for (u64 k = 0; k < words; k++) { /* into the buffer one behind the other */
            LB_TRY(read_bytes(x, t, ((band * bits + k) * n_cols + c0) * 4, nc * 4, err));
            x->buffer += nc * 4;
        }
        x->buffer = to;
        for (u64 c = 0; c < nc; c++) {
            u8 column[32];
            for (u64 k = 0; k < words; k++)
                memcpy(column + 4 * k, to + (k * nc + c) * 4, 4);
            lb_report_count_bits(column, codes, bits, x->h);
        }
        x->h->n_sampled += nc * codes;
    }
    return LB_OK;
}

/* Floats and bytes that count from zero in order of value: codes as stored until here. */
static void put_in_order(lb_report_hist *h, bool is_signed) {
    u64 c[256], half = h->n_codes / 2;
    memcpy(c, h->codes, h->n_codes * sizeof *c);
    for (u64 i = 0; i < h->n_codes; i++)
        h->codes[is_signed ? i ^ half : i < half ? half + i : 2 * half - 1 - i] = c[i];
}

static lb_status count_coded(looking *x, lb_err *err) {
    const lb_weight *w = x->w;
    const lb_enc *e = &w->enc;
    const lb_tensor *t = &x->s->m->source->tensors[w->part[0]];
    u64 rows, cols;
    lb_shape_matrix(&w->shape, &rows, &cols);
    code_rows flat = {.n_rows = 1, .n_cols = rows * cols, .stride = t->size_bytes, .bits = e->bits};
    code_rows lines = {.n_rows = rows, .n_cols = cols, .bits = e->bits};
    switch (e->kind) {
    case LB_ENC_PACKED:
        lines.stride = lb_ceil_div_u64(cols * e->bits, 32) * 4;
        return count_rows(x, t, &lines, err);
    case LB_ENC_FP4:
    case LB_ENC_FP4_INVERSE:
        lines.bits = 4;
        lines.stride = lb_ceil_div_u64(cols, 2);
        return count_rows(x, t, &lines, err);
    case LB_ENC_BNB_NF4:
    case LB_ENC_BNB_FP4:
        flat.bits = 4;
        flat.upper_first = true;
        return count_rows(x, t, &flat, err);
    case LB_ENC_GPTQ:
        return count_columns(x, t, cols, rows, err);
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_NVFP4:
    case LB_ENC_AWQ:
        flat.bits = 4;
        return count_rows(x, t, &flat, err);
    case LB_ENC_FP8:
    case LB_ENC_INT8:
    case LB_ENC_BNB_INT8:
    case LB_ENC_MLX_MXFP8:
        flat.bits = 8;
        return count_rows(x, t, &flat, err);
    default:
        return count_rows(x, t, &flat, err);
    }
}

static void describe_codes(const lb_weight *w, lb_report_hist *h) {
    u32 bits = w->enc.bits;
    switch (w->enc.kind) {
    case LB_ENC_FP8:
    case LB_ENC_MLX_MXFP8:
        *h = (lb_report_hist){.n_codes = 256, .zero = 128, .signed_magnitude = true};
        break;
    case LB_ENC_INT8:
    case LB_ENC_BNB_INT8:
        *h = (lb_report_hist){.n_codes = 256, .zero = 128};
        break;
    case LB_ENC_FP4:
    case LB_ENC_FP4_INVERSE:
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_NVFP4:
        *h = (lb_report_hist){.n_codes = 16, .zero = 8, .signed_magnitude = true};
        break;
    case LB_ENC_BNB_NF4:
    case LB_ENC_BNB_FP4:
    case LB_ENC_AWQ:
        *h = (lb_report_hist){.n_codes = 16};
        break;
    case LB_ENC_PACKED:
        *h = (lb_report_hist){.n_codes = 1u << bits, .zero = 1 << (bits - 1)};
        break;
    default:
        *h = (lb_report_hist){.n_codes = 1u << bits};
        break;
    }
}

/* ---- scales that stand in a tensor of their own ---- */

/* Those of bitsandbytes may be quantized in turn: their codes say nothing. */
static bool has_scales(const lb_weight *w) {
    return w->n_parts > 1 && w->enc.kind != LB_ENC_GGUF_SCALED && !w->enc.nested_size;
}

static lb_status count_scales(looking *x, float *values, lb_err *err) {
    const lb_tensor *t = &x->s->m->source->tensors[x->w->part[1]];
    lb_dtype type = t->dtype;
    if (x->w->enc.kind == LB_ENC_MLX_NVFP4 && type == LB_U8)
        type = LB_F8_E4M3;
    const lb_dtype_info *d = lb_dtype_get(type);
    if (d->block_elems != 1 || (d->cls != LB_CLASS_FLOAT && type != LB_U8))
        return LB_OK;
    u64 n = lb_ceil_div_u64(t->n_elems, LB_REPORT_STRETCH);
    u64 m = stretches(n, LB_REPORT_STRETCH, x->s->m->n_sample);
    for (u64 i = 0; i < m; i++) {
        u64 first = stretch_at(i, m, n) * LB_REPORT_STRETCH;
        u64 k = LB_MIN(LB_REPORT_STRETCH, t->n_elems - first);
        LB_TRY(read_bytes(x, t, first * d->block_bytes, k * d->block_bytes, err));
        lb_codec_decode_floats(x->s->r->kernels, type, k, values, x->buffer);
        for (u64 j = 0; j < k; j++)
            lb_report_logs_add(&x->h->scales,
                               x->w->enc.kind == LB_ENC_BNB_INT8 ? values[j] / 127.0f : values[j]);
    }
    return LB_OK;
}

/* ---- values ---- */

static void count_values(lb_report_hist *h, const float *v, u64 n) {
    for (u64 i = 0; i < n; i++)
        lb_report_logs_add(v[i] < 0 ? &h->minus : &h->plus, v[i]);
    h->n_sampled += n;
}

static lb_status look_at_values(looking *x, float *values, u8 *scratch, lb_err *err) {
    sampling *s = x->s;
    lb_values v;
    lb_values_cut cut;
    lb_values_io io = {s->fds, s->r->kernels, scratch};
    LB_TRY(lb_values_init(&v, s->m->source, x->w, err));
    lb_values_cut_init(&cut, &v, NULL);
    u64 m = stretches(cut.n_tiles, cut.tile_rows * cut.tile_cols, s->m->n_sample);
    for (u64 i = 0; i < m && cut.n_tiles; i++) {
        lb_values_tile t = lb_values_cut_get(&cut, stretch_at(i, m, cut.n_tiles));
        LB_TRY(lb_interrupt_check(err));
        LB_TRY(lb_values_read(&v, &io, &t, values, err));
        count_values(x->h, values, t.nr * t.nc);
    }
    return LB_OK;
}

/* ---- all of a model ---- */

typedef enum what { NOTHING, VALUES, BLOCKS, CODES } what;

static what to_look_at(const lb_source *s, const lb_weight *w) {
    lb_dtype_class cls = lb_dtype_get(s->tensors[w->part[0]].dtype)->cls;
    if (w->enc.kind == LB_ENC_PLAIN || w->enc.kind == LB_ENC_VIEW)
        return cls == LB_CLASS_FLOAT ? VALUES : cls == LB_CLASS_BLOCK ? BLOCKS : NOTHING;
    return w->enc.kind == LB_ENC_GGUF_SCALED ? BLOCKS : CODES;
}

static void add_logs(lb_report_logs *to, const lb_report_logs *l) {
    for (u32 i = 0; i < LB_REPORT_LOG_BINS; i++)
        to->n[i] += l->n[i];
    to->n_zero += l->n_zero;
    to->n_bad += l->n_bad;
}

static void merge(sampling *s, u64 weight, const lb_report_hist *h) {
    lb_report_hist *to = s->m->hist[s->m->types[weight]];
    u64 bytes = s->m->bytes[weight];
    lb_lock(&s->lock);
    /* types that share one place because there are so many of them: codes of the first kind only */
    for (u32 i = 0; i < h->n_codes && h->n_codes == to->n_codes; i++)
        to->codes[i] += h->codes[i];
    to->n_sampled += h->n_sampled;
    to->n_all += s->m->items[weight].n_params;
    add_logs(&to->scales, &h->scales);
    add_logs(&to->minus, &h->minus);
    add_logs(&to->plus, &h->plus);
    s->done_bytes += bytes;
    if (s->job->o->progress)
        s->job->o->progress(s->job->o->user, s->job->done_bytes + s->done_bytes,
                            s->job->done_bytes + s->total_bytes);
    lb_unlock(&s->lock);
}

static void describe(const lb_source *s, const lb_weight *w, lb_report_hist *h) {
    *h = (lb_report_hist){0};
    what k = to_look_at(s, w);
    if (k == BLOCKS)
        (void)lb_report_codes_of(s->tensors[w->part[0]].dtype, h);
    else if (k == CODES)
        describe_codes(w, h);
}

static lb_status sample_weight(void *ctx, u32 worker, u64 item, lb_err *err) {
    sampling *s = ctx;
    u8 *memory = s->memory + worker * s->worker_bytes;
    float *values = (float *)(void *)(memory + BUFFER_BYTES);
    u8 *scratch = memory + BUFFER_BYTES + s->values_bytes;
    looking x = {
        .s = s, .w = &s->m->source->weights[item], .h = &s->local[worker], .buffer = memory};
    what k = to_look_at(s->m->source, x.w);
    if (k == NOTHING)
        return LB_OK;
    describe(s->m->source, x.w, x.h);
    if (k == VALUES)
        LB_TRY(look_at_values(&x, values, scratch, err));
    else if (k == BLOCKS)
        LB_TRY(count_blocks(&x, &s->m->source->tensors[x.w->part[0]], err));
    else
        LB_TRY(count_coded(&x, err));
    if (k == CODES && has_scales(x.w))
        LB_TRY(count_scales(&x, values, err));
    bool is_signed = x.w->enc.kind == LB_ENC_INT8 || x.w->enc.kind == LB_ENC_BNB_INT8;
    if (k == CODES && (x.h->signed_magnitude || is_signed))
        put_in_order(x.h, is_signed);
    merge(s, item, x.h);
    return LB_OK;
}

static lb_status set_up(sampling *s, u32 *n_threads, lb_arena *perm, lb_err *err) {
    lb_report_model *m = s->m;
    const lb_source *src = m->source;
    u64 scratch = 0, elems = LB_REPORT_STRETCH; /* of a tile, or scales */
    m->n_sample = LB_REPORT_BUDGET / LB_MAX(src->n_weights, 1);
    m->n_sample = LB_MIN(LB_MAX(m->n_sample, LB_REPORT_STRETCH), LB_REPORT_SAMPLE);
    m->hist = lb_arena_new(perm, lb_report_hist *, s->r->n_types);
    if (!m->hist)
        return lb_fail(err, LB_E_NOMEM, "out of memory for histograms");
    for (u64 i = 0; i < src->n_weights; i++) {
        const lb_weight *w = &src->weights[i];
        what k = to_look_at(src, w);
        s->total_bytes += k == NOTHING ? 0 : m->bytes[i];
        if (k == VALUES) {
            lb_values v;
            lb_values_cut cut;
            LB_TRY(lb_values_init(&v, src, w, err));
            lb_values_cut_init(&cut, &v, NULL);
            scratch = LB_MAX(scratch, lb_values_scratch_bytes(&v, &cut));
            elems = LB_MAX(elems, LB_MIN(cut.tile_rows, cut.n_rows) * cut.tile_cols);
        }
        if (k == NOTHING || m->hist[m->types[i]])
            continue;
        m->hist[m->types[i]] = lb_arena_new(perm, lb_report_hist, 1);
        if (!m->hist[m->types[i]])
            return lb_fail(err, LB_E_NOMEM, "out of memory for histograms");
        describe(src, w, m->hist[m->types[i]]);
    }
    s->values_bytes = (elems * sizeof(float) + 63) & ~(u64)63;
    s->worker_bytes = BUFFER_BYTES + s->values_bytes + ((scratch + 63) & ~(u64)63);
    u64 each = s->worker_bytes + sizeof(lb_report_hist), fit = s->job->o->memory_bytes / 2 / each;
    if (fit == 0)
        return lb_fail(err, LB_E_LIMIT, "--memory: this report needs at least %llu MB",
                       (unsigned long long)(2 * each / 1000000 + 1));
    *n_threads = (u32)LB_MIN(LB_MIN(fit, LB_WORK_THREADS_MAX), LB_MAX(s->job->o->n_threads, 1u));
    return LB_OK;
}

lb_status lb_report_sample(const lb_report *r, lb_report_model *m, lb_report_job *j, lb_arena *perm,
                           lb_err *err) {
    sampling s = {.r = r, .m = m, .job = j};
    u32 n_threads = 0;
    u64 size = 0;
    lb_status st;
    lb_mutex_init(&s.lock);
    LB_TRY_DONE(st, set_up(&s, &n_threads, perm, err));
    size = n_threads * s.worker_bytes;
    s.memory = lb_os_map_anon(size);
    s.local = lb_alloc_zero(n_threads, sizeof *s.local);
    if (!s.memory || !s.local) {
        st = lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
        goto done;
    }
    LB_TRY_DONE(st,
                lb_fds_new(&s.fds, m->source->files, m->source->n_files, LB_WORK_FILES_MAX, err));
    LB_TRY_DONE(st, lb_work_run(n_threads, m->source->n_weights, sample_weight, &s, err));
    j->done_bytes += s.total_bytes;
done:
    lb_os_unmap(s.memory, size);
    lb_free(s.local);
    lb_fds_free(&s.fds);
    lb_mutex_deinit(&s.lock);
    return st;
}

/* ---- figures ---- */

static double log_of(const lb_report *r, double x) {
    float y, in = (float)x;
    r->kernels->map_log_f32(1, &y, &in);
    return (double)y;
}

double lb_report_log10(const lb_report *r, double x) {
    return log_of(r, x) * 0.43429448190325182765;
}

double lb_report_log2(const lb_report *r, double x) {
    return log_of(r, x) * 1.44269504088896340736;
}

double lb_report_entropy(const lb_report *r, const lb_report_hist *h) {
    u64 all = 0;
    double bits = 0;
    for (u32 i = 0; i < h->n_codes; i++)
        all += h->codes[i];
    for (u32 i = 0; i < h->n_codes; i++)
        if (h->codes[i]) {
            double p = (double)h->codes[i] / (double)all;
            bits -= p * lb_report_log2(r, p);
        }
    return fabs(bits);
}
