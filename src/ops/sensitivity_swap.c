/* SPDX-License-Identifier: Apache-2.0 */
/* sensitivity_swap.c: rooms, recorded inputs, and tensors in other types: their codes and how far
 * their products are off. */
#include "base/os.h"
#include "kernel/quant.h"
#include "kernel/refine.h"
#include "model/logprob.h"
#include "ops/sensitivity_internal.h"
#include <stdatomic.h>

#define HEAP_BYTES_MAX (1 * LB_MIB) /* of a room */
#define ROWS_AT_A_TIME 16
#define ROWS_THERE 64 /* of a batch for a device */
#define TOKENS_AT_A_TIME 128u

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for measuring");
}

/* ---- rooms ---- */

lb_status lb_room_need(lb_room *r, u64 size_bytes, u64 keep, const char *temp_dir, lb_err *err) {
    lb_room big = {.size_bytes = size_bytes, .mapped = size_bytes > HEAP_BYTES_MAX};
    int fd = -1;
    if (size_bytes <= r->size_bytes)
        return LB_OK;
    if (big.mapped) {
        LB_TRY(lb_os_open_temp(temp_dir, &fd, err));
        big.ptr = lb_os_map_temp(fd, size_bytes);
        lb_os_close(&fd);
        if (!big.ptr)
            return lb_fail(err, LB_E_IO, "a temporary file of %llu bytes cannot be mapped",
                           (unsigned long long)size_bytes);
    } else if (!(big.ptr = lb_alloc((size_t)size_bytes))) {
        return oom(err);
    }
    if (keep)
        memcpy(big.ptr, r->ptr, (size_t)keep);
    lb_room_deinit(r);
    *r = big;
    return LB_OK;
}

void lb_room_deinit(lb_room *r) {
    if (r->mapped)
        lb_os_unmap(r->ptr, r->size_bytes);
    else
        lb_free(r->ptr);
    *r = (lb_room){0};
}

/* ---- inputs ---- */

/* Of a tensor of which two weights are halves the first stands for it. */
static bool is_target(const lb_recording *r, const lb_mweight *w) {
    return r->of && (w == r->of ||
                     (lb_str_eq(w->name, r->of->name) && w->mats[0].codes == r->of->mats[0].codes));
}

static lb_status add_block(lb_recording *r, u32 matrix, u64 n) {
    if (r->n == r->cap) {
        u64 cap = r->cap ? 2 * r->cap : 64;
        void *list = lb_realloc(r->list, (size_t)cap * sizeof *r->list);
        if (!list)
            return oom(&r->err);
        r->list = list;
        r->cap = cap;
    }
    r->list[r->n++] = (lb_recorded){matrix, r->n_rows, n};
    return LB_OK;
}

void lb_recording_take(lb_recording *r, const lb_mweight *w, u32 matrix, const float *x, u64 n,
                       size_t stride) {
    u64 row = w->n_cols * sizeof(float), has = r->n_rows * row, need = has + n * row;
    if (!is_target(r, w) || r->err.code != LB_OK)
        return;
    if (need > r->rows.size_bytes &&
        lb_room_need(&r->rows, LB_MAX(need, 2 * has), has, r->temp_dir, &r->err) != LB_OK)
        return;
    if (add_block(r, matrix == LB_NO_INDEX ? 0 : matrix, n) != LB_OK)
        return;
    for (u64 i = 0; i < n; i++)
        memcpy((u8 *)r->rows.ptr + has + i * row, x + i * stride, (size_t)row);
    r->n_rows += n;
}

/* ---- another type ---- */

lb_status lb_recast_begin(lb_recast *r, const lb_mweight *w, lb_dtype t, bool refine, void **tables,
                          lb_arena *perm, lb_err *err) {
    size_t n = lb_quant_tables_bytes(t);
    if (n && !tables[t]) {
        tables[t] = lb_arena_push(perm, n, 64);
        if (!tables[t])
            return oom(err);
        lb_quant_tables_init(t, tables[t]);
    }
    r->w = w;
    r->dtype = t;
    r->has_codes = false;
    r->quant = (lb_quant){.kind = LB_QUANT_BLOCKS,
                          .dtype = t,
                          .refine = refine && lb_refine_has(t),
                          .tables = tables[t]};
    return lb_quant_device_try(r->encoder, &r->quant, err);
}

void lb_recast_end(lb_recast *r) {
    lb_free(r->mats);
    r->mats = NULL;
    r->has_codes = false;
}

void lb_recast_deinit(lb_recast *r) {
    lb_recast_end(r);
    lb_room_deinit(&r->codes);
    lb_room_deinit(&r->diff);
}

static u64 code_bytes(lb_dtype t, u64 n_cols) {
    u64 n = 0;
    return lb_dtype_bytes(t, n_cols, &n) ? n : 0;
}

static lb_mat mat_of(lb_dtype t, u64 n_rows, u64 n_cols, const void *codes) {
    return (lb_mat){.kind = LB_ENC_PLAIN,
                    .dtype = t,
                    .scale_dtype = LB_F32,
                    .times = 1,
                    .n_rows = n_rows,
                    .n_cols = n_cols,
                    .codes = codes,
                    .row_bytes = code_bytes(t, n_cols)};
}

static size_t up64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* Of a thread: a row, the row back from its codes, its codes, what decoding them needs. */
size_t lb_recast_scratch_bytes(const lb_mweight *w, lb_dtype t, u32 n_batch) {
    lb_mat m = mat_of(t, w->mats[0].n_rows, w->n_cols, NULL), d = m;
    d.dtype = LB_F32;
    size_t decode = LB_MAX(lb_matmul_scratch_bytes(&w->mats[0], 1), lb_matmul_scratch_bytes(&m, 1));
    size_t own = 2 * up64(w->n_cols * sizeof(float)) + up64(code_bytes(t, w->n_cols)) + decode;
    size_t product =
        LB_MAX(lb_matmul_scratch_bytes(&m, n_batch), lb_matmul_scratch_bytes(&d, n_batch));
    return LB_MAX(own, product);
}

/* Rows of one matrix, or of all (first 0). */
typedef struct rows_job {
    lb_recast *r;
    u64 first, n; /* rows of the whole tensor */
    float *diff;  /* NULL: codes are made */
    atomic_bool bad, failed;
    lb_err err; /* of the first that failed */
} rows_job;

static void read_row(const lb_recast *r, u64 row, float *x, void *scratch) {
    const lb_mat *m = r->w->mats;
    for (; row >= m->n_rows; m++)
        row -= m->n_rows;
    lb_mat_row(r->k, m, row, x, scratch);
}

static const float *importance_of(const lb_recast *r, u64 row) {
    return r->importance ? r->importance + row / (r->w->n_rows / r->n_mats) * r->w->n_cols : NULL;
}

static void encode_row(const lb_recast *r, u64 row, const float *x, u8 *codes, rows_job *j) {
    lb_quant q = r->quant;
    u8 *out[LB_QUANT_PARTS] = {codes};
    q.importance = importance_of(r, row);
    if (lb_quant_run(&q, r->k, r->w->n_cols, 0, x, out))
        atomic_store(&j->bad, true);
}

/* Codes of some rows, made on the device. */
static void do_rows_there(void *ctx, u64 item, void *scratch) {
    rows_job *j = ctx;
    const lb_recast *r = j->r;
    const u64 cols = r->w->n_cols, bytes = code_bytes(r->dtype, cols);
    const u64 from = item * ROWS_THERE, end = LB_MIN(from + ROWS_THERE, j->n);
    float *x = scratch, range[2];
    u8 *more = (u8 *)scratch + up64(cols * sizeof *x);
    lb_quant q[ROWS_THERE]; /* one for each vector of importance; they stay until the end */
    lb_encoding there;
    lb_err err = {0};
    u32 n = 0;
    lb_encoding_init(&there, r->encoder);
    for (u64 row = from; row < end; row++) {
        const float *importance = importance_of(r, row);
        if (!n || q[n - 1].importance != importance) {
            q[n] = r->quant;
            q[n++].importance = importance;
        }
        read_row(r, row, x, more);
        if (r->k->fold_range_f32((size_t)cols, x, range))
            atomic_store(&j->bad, true);
        else if (!lb_encoding_add(&there, (lb_encoding_at){.q = &q[n - 1], .n_cols = cols}, cols, x,
                                  (u8 *[LB_QUANT_PARTS]){(u8 *)r->codes.ptr + row * bytes}))
            encode_row(r, row, x, (u8 *)r->codes.ptr + row * bytes, j);
    }
    if (lb_encoding_end(&there, &err) != LB_OK && !atomic_exchange(&j->failed, true))
        j->err = err;
    lb_encoding_deinit(&there);
}

static void do_rows(void *ctx, u64 item, void *scratch) {
    rows_job *j = ctx;
    const lb_recast *r = j->r;
    u64 cols = r->w->n_cols, bytes = code_bytes(r->dtype, cols);
    float *x = scratch, *back = (float *)((u8 *)scratch + up64(cols * sizeof *x));
    u8 *codes = (u8 *)back + up64(cols * sizeof *x), *more = codes + up64(bytes);
    u64 end = LB_MIN((item + 1) * ROWS_AT_A_TIME, j->n);
    for (u64 i = item * ROWS_AT_A_TIME; i < end; i++) {
        u64 row = j->first + i;
        read_row(r, row, x, more);
        u8 *own = r->has_codes || !j->diff ? (u8 *)r->codes.ptr + row * bytes : codes;
        if (!r->has_codes)
            encode_row(r, row, x, own, j);
        if (!j->diff)
            continue;
        lb_mat q = mat_of(r->dtype, 1, cols, own);
        lb_mat_row(r->k, &q, 0, back, more);
        float *d = j->diff + i * cols;
        for (u64 k = 0; k < cols; k++)
            d[k] = back[k] - x[k];
    }
}

static lb_status run_rows(lb_recast *r, u64 first, u64 n, float *diff, lb_err *err) {
    rows_job j = {.r = r, .first = first, .n = n, .diff = diff};
    if (!diff && lb_recast_is_there(r))
        lb_context_each(r->c, lb_ceil_div_u64(n, ROWS_THERE), do_rows_there, &j);
    else
        lb_context_each(r->c, lb_ceil_div_u64(n, ROWS_AT_A_TIME), do_rows, &j);
    lb_context_let_go(r->c, r->w);
    if (atomic_load(&j.failed)) {
        *err = j.err;
        return j.err.code;
    }
    return atomic_load(&j.bad)
               ? lb_fail(err, LB_E_FORMAT, "tensor '%.*s': values that are NaN or infinite",
                         LB_FMT(r->w->name))
               : LB_OK;
}

bool lb_recast_is_there(const lb_recast *r) {
    return lb_quant_device_takes(r->encoder, &r->quant, r->w->n_cols);
}

lb_status lb_recast_codes(lb_recast *r, lb_err *err) {
    const lb_mweight *w = r->w;
    u64 bytes = code_bytes(r->dtype, w->n_cols), row = 0;
    LB_TRY(lb_room_need(&r->codes, w->n_rows * bytes, 0, r->temp_dir, err));
    LB_TRY(run_rows(r, 0, w->n_rows, NULL, err));
    r->mats = lb_alloc(w->n_mats * sizeof *r->mats);
    if (!r->mats)
        return oom(err);
    for (u32 i = 0; i < w->n_mats; row += w->mats[i++].n_rows)
        r->mats[i] =
            mat_of(r->dtype, w->mats[i].n_rows, w->n_cols, (const u8 *)r->codes.ptr + row * bytes);
    r->has_codes = true;
    return LB_OK;
}

/* ---- products of the difference ---- */

/* |D x|^2 of n rows: out[i], a sum in the order of D's rows. */
static lb_status squares(const lb_recast *r, const lb_mweight *d, u32 matrix, const float *x, u64 n,
                         double *out, lb_err *err) {
    u64 rows = d->n_rows / d->n_stack;
    u64 step = LB_MIN(LB_MAX(r->n_out / rows, (u64)1), (u64)TOKENS_AT_A_TIME);
    step = LB_MIN(step, (u64)lb_context_n_batch(r->c));
    for (u64 at = 0; at < n; at += step) {
        u64 k = LB_MIN(step, n - at);
        LB_TRY(lb_context_product(r->c, d, matrix, x + at * d->n_cols, (u32)k, r->out, err));
        for (u64 i = 0; i < k; i++) {
            const float *y = r->out + i * rows;
            out[at + i] = 0;
            for (u64 j = 0; j < rows; j++)
                out[at + i] += (double)y[j] * (double)y[j];
        }
    }
    return LB_OK;
}

static const float *row_of(const lb_recording *x, u64 i, u64 n_cols) {
    return (const float *)x->rows.ptr + i * n_cols;
}

lb_status lb_recast_scales(lb_recast *r, const lb_mweight *w, lb_recording *x, lb_err *err) {
    double logs = 0, mean;
    u64 n = 0;
    lb_free(x->scale);
    x->scale = lb_alloc((size_t)(x->n_rows + 1) * sizeof *x->scale);
    if (!x->scale)
        return oom(err);
    for (u64 i = 0; i < x->n; i++)
        LB_TRY(squares(r, w, x->list[i].matrix, row_of(x, x->list[i].first, w->n_cols),
                       x->list[i].n, x->scale + x->list[i].first, err));
    for (u64 i = 0; i < x->n_rows; i++)
        if (x->scale[i] > 0) {
            logs += lb_log_f64(x->scale[i]);
            n++;
        }
    mean = n ? lb_exp_f64(logs / (double)n) : 1;
    for (u64 i = 0; i < x->n_rows; i++)
        x->scale[i] += mean;
    return LB_OK;
}

static lb_status matrix_error(lb_recast *r, const lb_recording *x, u32 matrix, double *sum,
                              lb_err *err) {
    u64 rows = r->w->n_rows / r->w->n_stack;
    double *each = lb_alloc((size_t)(x->n_rows + 1) * sizeof *each);
    lb_status st = each ? run_rows(r, matrix * rows, rows, r->diff.ptr, err) : oom(err);
    lb_mat m = mat_of(LB_F32, rows, r->w->n_cols, r->diff.ptr);
    lb_mweight d = {.name = r->w->name,
                    .n_rows = rows,
                    .n_cols = r->w->n_cols,
                    .n_stack = 1,
                    .mats = &m,
                    .n_mats = 1};
    for (u64 i = 0; i < x->n && st == LB_OK; i++) {
        const lb_recorded *b = &x->list[i];
        if (b->matrix != matrix)
            continue;
        st = squares(r, &d, 0, row_of(x, b->first, d.n_cols), b->n, each, err);
        for (u64 k = 0; k < b->n && st == LB_OK; k++)
            *sum += each[k] / x->scale[b->first + k];
    }
    lb_free(each);
    return st;
}

lb_status lb_recast_error(lb_recast *r, const lb_recording *x, double *sum, lb_err *err) {
    u64 rows = r->w->n_rows / r->w->n_stack;
    *sum = 0;
    LB_TRY(lb_room_need(&r->diff, rows * r->w->n_cols * sizeof(float), 0, r->temp_dir, err));
    for (u32 m = 0; m < r->w->n_stack; m++) {
        bool met = false;
        for (u64 i = 0; i < x->n && !met; i++)
            met = x->list[i].matrix == m;
        if (met)
            LB_TRY(matrix_error(r, x, m, sum, err));
    }
    return LB_OK;
}
