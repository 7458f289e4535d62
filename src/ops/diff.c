/* SPDX-License-Identifier: Apache-2.0 */
/* diff.c: pairs the weights of two models, compares them in chunks on all threads, adds the chunks'
 * sums in order. */
#include "ops/diff.h"
#include "ops/adapter.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "io/json.h"
#include "kernel/kernel.h"
#include "ops/canon.h"
#include "ops/convert.h"
#include "ops/diff_internal.h"
#include "ops/values.h"
#include "ops/work.h"
#include <math.h>

/* Elements of a chunk: what one thread compares at a time. One partial result each (64 bytes), so a
 * trillion values need 16 MB of them. */
#define CHUNK_ELEMS ((u64)4 << 20)

typedef struct pair {
    lb_diff_row *row;
    lb_values a, b;
    lb_values_cut cut;
    bool wide; /* integers or f64: compared as double */
    u64 chunk0, n_chunks, tiles_per_chunk;
} pair;

typedef struct diff_job {
    const lb_diff_options *o;
    const lb_source *a, *b;
    lb_fds *fds_a, *fds_b;
    lb_arena scratch; /* of all lists but the result's: a kilobyte a pair */
    pair *pairs;
    u64 n_pairs;
    lb_compare *partials; /* one a chunk */
    u32 *chunk_pair;
    u64 n_chunks;
    u8 *memory; /* worker_bytes a worker: scratch a, scratch b, three tiles */
    u64 worker_bytes, scratch_a_bytes, scratch_b_bytes, tile_elems;
    lb_mutex progress_lock; /* of the next */
    u64 done_bytes;
    u64 total_bytes;
} diff_job;

/* ---- values that f32 cannot hold ---- */

static bool is_wide(const lb_values *v) {
    return !v->codec.decodes || v->codec.dtype == LB_F64;
}

/* Integers beyond 2^53 lose their last bits here; equality is decided on the bytes (add_wide). */
static double wide_value(lb_dtype t, const u8 *p) {
    u64 u = 0;
    double d;
    memcpy(&u, p, lb_dtype_get(t)->block_bytes);
    switch (t) {
    case LB_F64:
        memcpy(&d, p, sizeof d);
        return d;
    case LB_I8:
        return (i8)u;
    case LB_I16:
        return (i16)u;
    case LB_I32:
        return (i32)u;
    case LB_I64:
        return (double)(i64)u;
    default:
        return (double)u;
    }
}

typedef struct wide_tile {
    const u8 *stored; /* NULL: values holds f32 */
    const float *values;
    lb_dtype dtype;
    u32 elem_bytes;
} wide_tile;

static double wide_get(const wide_tile *t, u64 i) {
    return t->stored ? wide_value(t->dtype, t->stored + i * t->elem_bytes) : (double)t->values[i];
}

static void add_wide(lb_compare *p, const wide_tile *a, const wide_tile *b, u64 n) {
    bool by_bytes = a->stored && b->stored && a->dtype == b->dtype && a->dtype != LB_F64;
    for (u64 i = 0; i < n; i++) {
        double x = wide_get(a, i), y = wide_get(b, i);
        bool equal = by_bytes ? memcmp(a->stored + i * a->elem_bytes, b->stored + i * b->elem_bytes,
                                       a->elem_bytes) == 0
                              : x == y || (isnan(x) && isnan(y));
        lb_compare_pair(p, x, y, equal);
    }
}

/* ---- the usual case ---- */

static void add_tile(lb_compare *p, const lb_kernels *k, const lb_values_tile *t, const float *a,
                     const float *b, float *d) {
    for (u64 r = 0; r < t->nr; r++)
        for (u64 c = 0; c < t->nc; c += LB_FOLD_LEAF) {
            u64 at = r * t->nc + c;
            lb_compare_leaf(p, k, LB_MIN(t->nc - c, LB_FOLD_LEAF), a + at, b + at, d);
        }
}

/* Reads one side of a wide pair: as stored where f32 cannot hold it. */
static lb_status read_wide(const lb_values *v, const lb_values_io *io, const lb_values_tile *t,
                           float *values, wide_tile *out, lb_err *err) {
    lb_dtype dtype = v->codec.dtype;
    if (!is_wide(v)) {
        *out = (wide_tile){.values = values};
        return lb_values_read(v, io, t, values, err);
    }
    *out = (wide_tile){io->scratch, NULL, dtype, lb_dtype_get(dtype)->block_bytes};
    if (dtype == LB_C64) /* real and imaginary part, each a value */
        *out = (wide_tile){.values = (const float *)(const void *)io->scratch};
    return lb_values_read_stored(v, io, t, err);
}

static void report_progress(diff_job *j, u64 bytes) {
    lb_lock(&j->progress_lock);
    j->done_bytes += bytes;
    if (j->o->progress)
        j->o->progress(j->o->user, j->done_bytes, j->total_bytes);
    lb_unlock(&j->progress_lock);
}

static lb_status compare_chunk(void *ctx, u32 worker, u64 chunk, lb_err *err) {
    diff_job *j = ctx;
    pair *x = &j->pairs[j->chunk_pair[chunk]];
    lb_compare p = {0};
    u8 *memory = j->memory + worker * j->worker_bytes;
    lb_values_io io_a = {j->fds_a, j->o->kernels, memory};
    lb_values_io io_b = {j->fds_b, j->o->kernels, memory + j->scratch_a_bytes};
    float *a = (float *)(void *)(io_b.scratch + j->scratch_b_bytes);
    float *b = a + j->tile_elems, *d = b + j->tile_elems;
    u64 first = (chunk - x->chunk0) * x->tiles_per_chunk;
    u64 last = LB_MIN(first + x->tiles_per_chunk, x->cut.n_tiles);
    for (u64 i = first; i < last; i++) {
        lb_values_tile t = lb_values_cut_get(&x->cut, i);
        LB_TRY(lb_interrupt_check(err));
        if (x->wide) {
            wide_tile wa, wb;
            LB_TRY(read_wide(&x->a, &io_a, &t, a, &wa, err));
            LB_TRY(read_wide(&x->b, &io_b, &t, b, &wb, err));
            add_wide(&p, &wa, &wb, t.nr * t.nc * (x->a.codec.dtype == LB_C64 ? 2 : 1));
        } else {
            LB_TRY(lb_values_read(&x->a, &io_a, &t, a, err));
            LB_TRY(lb_values_read(&x->b, &io_b, &t, b, err));
            add_tile(&p, j->o->kernels, &t, a, b, d);
        }
        report_progress(j, lb_values_stored_bytes(&x->a, &t) + lb_values_stored_bytes(&x->b, &t));
    }
    j->partials[chunk] = p;
    return LB_OK;
}

/* ---- pairing ---- */

typedef struct side {
    const lb_source *source;
    lb_canon_weight *canon; /* what its weights hold */
    u64 n, cap;
    lb_map by_name;
    u8 *met; /* one each: has a partner */
} side;

static lb_status push(side *x, const lb_canon_weight *w, lb_arena *perm, lb_err *err) {
    bool existed;
    if (x->n == x->cap) {
        u64 cap = x->cap ? 2 * x->cap : x->source->n_weights + 1;
        lb_canon_weight *c = lb_arena_new(perm, lb_canon_weight, cap);
        if (!c)
            return lb_fail(err, LB_E_NOMEM, "out of memory for %llu weights",
                           (unsigned long long)cap);
        if (x->n)
            memcpy(c, x->canon, x->n * sizeof *c);
        x->canon = c;
        x->cap = cap;
    }
    x->canon[x->n] = *w;
    LB_TRY(lb_map_put(&x->by_name, w->name, x->n, &existed, err));
    if (existed) { /* two stored names for one role: each keeps its own */
        const lb_weight *stored = &x->source->weights[w->weight];
        x->canon[x->n] =
            (lb_canon_weight){.weight = w->weight, .name = stored->name, .shape = stored->shape};
        LB_TRY(lb_map_put(&x->by_name, stored->name, x->n, NULL, err));
    }
    x->n++;
    return LB_OK;
}

static lb_status name_weights(side *x, const lb_canon *known, bool use_arch, lb_arena *perm,
                              lb_err *err) {
    const lb_source *s = x->source;
    lb_canon canon = {0};
    if (use_arch)
        canon = *known;
    for (u64 i = 0; i < s->n_weights; i++) {
        lb_canon_weight *list;
        u64 n;
        LB_TRY(lb_canon_find(&canon, s, i, perm, &list, &n, err));
        for (u64 k = 0; k < n; k++)
            LB_TRY(push(x, &list[k], perm, err));
    }
    x->met = lb_arena_push_array(perm, x->n + 1, 1, 1);
    return x->met ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory");
}

static lb_status values_of(lb_values *v, const lb_source *s, const lb_canon_weight *c,
                           lb_err *err) {
    u64 rows =
        c->run ? (c->n_rows - 1) / c->run * c->step + (c->n_rows - 1) % c->run + 1 : c->n_rows;
    LB_TRY(lb_values_init(v, s, &s->weights[c->weight], err));
    if (c->channels)
        LB_TRY(lb_values_as_rows(v, c->channels, err));
    if (c->n_rows)
        LB_TRY(lb_values_slice(v, c->first_row, rows, err));
    if (c->run) {
        const lb_strides runs = {.run = c->run, .n = UINT64_MAX, .step = c->step};
        LB_TRY(lb_values_order(v, &runs, c->n_rows, err));
    }
    if (c->moved) {
        lb_values_as_column(v);
        LB_TRY(lb_values_order(v, &c->order, v->n_rows, err));
    }
    if (c->moved_cols)
        LB_TRY(lb_values_order_cols(v, &c->order, err));
    if (c->transposed)
        LB_TRY(lb_values_transpose(v, err));
    if (c->col_step)
        LB_TRY(lb_values_every(v, c->col_from, c->col_step, err));
    return lb_values_heads(v, c->heads, err);
}

/* The values of v as the other side has them. Sums are rounded as the reference and mlx-lm do: f16
 * to f16 in GGUF, to the stored type in MLX. */
static void make_alike(lb_values *v, const lb_canon_weight *own, const lb_canon_weight *other,
                       const lb_values *there) {
    bool gguf = there->source->format == LB_FORMAT_GGUF, as_it_is = own->change == other->change;
    v->round = LB_F32;
    if (other->change == LB_CHANGE_NONE || (as_it_is && gguf))
        return;
    v->add_one = !as_it_is && other->change == LB_CHANGE_ADD_ONE;
    v->neg_exp = !as_it_is && other->change == LB_CHANGE_NEG_EXP;
    v->round = !gguf ? there->codec.dtype : v->codec.dtype == LB_F16 ? LB_F16 : LB_F32;
}

static lb_status set_up_pair(pair *x, const side *a, u64 i, const side *b, u64 k, lb_err *err) {
    const lb_canon_weight *ca = &a->canon[i], *cb = &b->canon[k];
    lb_diff_row *row = x->row;
    row->name = ca->name;
    row->a = &a->source->weights[ca->weight];
    row->b = &b->source->weights[cb->weight];
    row->shape_a = ca->shape;
    row->shape_b = cb->shape;
    LB_TRY(values_of(&x->a, a->source, ca, err));
    LB_TRY(values_of(&x->b, b->source, cb, err));
    make_alike(&x->a, ca, cb, &x->b);
    make_alike(&x->b, cb, ca, &x->a);
    if (ca->shape.rank == 1 && x->a.n_cols != x->b.n_cols) {
        lb_values_as_column(&x->a);
        lb_values_as_column(&x->b);
    }
    bool cut = ca->cut_vocab || cb->cut_vocab;
    row->same_shape =
        lb_shape_eq(&ca->shape, &cb->shape) ||
        (cut && x->a.n_cols == x->b.n_cols && ca->shape.rank == 2 && cb->shape.rank == 2);
    x->wide = is_wide(&x->a) || is_wide(&x->b);
    if ((x->a.codec.dtype == LB_C64) != (x->b.codec.dtype == LB_C64))
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s': complex values are not compared with real ones",
                       LB_FMT(row->a->name));
    if (row->same_shape)
        lb_values_cut_init(&x->cut, &x->a, &x->b);
    return LB_OK;
}

/* What has no partner goes to `only`, or to out->left_out: a weight that is cut up, once. */
static lb_status list_rest(lb_diff *out, const side *x, lb_str **only, u64 *n_only, lb_arena *perm,
                           lb_err *err) {
    *only = lb_arena_new(perm, lb_str, x->n + 1);
    if (!*only)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    for (u64 i = 0; i < x->n; i++) {
        if (x->met[i])
            continue;
        lb_str name =
            x->canon[i].n_rows ? x->canon[i].name : x->source->weights[x->canon[i].weight].name;
        if (x->canon[i].may_lack)
            out->left_out[out->n_left_out++] = name;
        else
            (*only)[(*n_only)++] = name;
    }
    return LB_OK;
}

static bool has_foreign(const lb_source *s) {
    bool hf = s->format != LB_FORMAT_MLX && s->format != LB_FORMAT_GGUF;
    for (u64 i = 0; i < s->n_weights; i++) {
        lb_enc_kind k = s->weights[i].enc.kind;
        if (k >= LB_ENC_FOREIGN || (hf && k != LB_ENC_PLAIN && k != LB_ENC_VIEW))
            return true;
    }
    return false;
}

/* Whether a holds a tensor in a later form than the table's first, and b has none of its name. */
static bool has_form_of_its_own(const lb_canon *a, const lb_source *sa, const lb_source *sb) {
    for (u64 i = 0; a->arch && i < sa->n_weights; i++) {
        lb_arch_match m;
        lb_str name = sa->weights[i].name;
        if (lb_arch_find(a->arch, &a->hparams, a->world, name, &m) &&
            lb_arch_first_form(a->arch, &m).row != m.row && !lb_source_weight(sb, name))
            return true;
    }
    return false;
}

static lb_status make_pairs(lb_diff *out, diff_job *j, side *a, side *b, lb_arena *perm,
                            lb_err *err) {
    lb_canon ca, cb;
    LB_TRY(lb_canon_init(&ca, a->source, &j->scratch, err));
    LB_TRY(lb_canon_init(&cb, b->source, &j->scratch, err));
    /* Within one format and class names and layouts are the same by themselves, unless codes of
     * other tools lie their own way, or experts are stacked in one of the two. */
    bool use_arch = a->source->format != b->source->format ||
                    ca.hparams.outer != cb.hparams.outer ||
                    has_foreign(a->source) != has_foreign(b->source) ||
                    has_form_of_its_own(&ca, a->source, b->source) ||
                    has_form_of_its_own(&cb, b->source, a->source);
    LB_TRY(name_weights(a, &ca, use_arch, &j->scratch, err));
    LB_TRY(name_weights(b, &cb, use_arch, &j->scratch, err));
    u64 n_a = a->n, n_b = b->n;
    out->rows = lb_arena_new(perm, lb_diff_row, n_a + 1);
    j->pairs = lb_arena_new(&j->scratch, pair, n_a + 1);
    out->left_out = lb_arena_new(perm, lb_str, n_a + n_b + 1);
    if (!out->rows || !j->pairs || !out->left_out)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %llu weights", (unsigned long long)n_a);
    for (u64 i = 0; i < n_a; i++) {
        u64 k;
        if (!lb_map_find(&b->by_name, a->canon[i].name, &k))
            continue;
        a->met[i] = b->met[k] = 1;
        pair *x = &j->pairs[j->n_pairs++];
        x->row = &out->rows[out->n_rows++];
        LB_TRY(set_up_pair(x, a, i, b, k, err));
    }
    LB_TRY(list_rest(out, a, &out->only_in_a, &out->n_only_in_a, perm, err));
    return list_rest(out, b, &out->only_in_b, &out->n_only_in_b, perm, err);
}

/* ---- chunks and memory ---- */

static lb_status make_chunks(diff_job *j, lb_err *err) {
    for (u64 i = 0; i < j->n_pairs; i++) {
        pair *x = &j->pairs[i];
        if (!x->row->same_shape || x->cut.n_tiles == 0)
            continue;
        u64 elems = x->cut.tile_rows * x->cut.tile_cols;
        x->tiles_per_chunk = LB_MAX(CHUNK_ELEMS / elems, (u64)1);
        x->chunk0 = j->n_chunks;
        x->n_chunks = lb_ceil_div_u64(x->cut.n_tiles, x->tiles_per_chunk);
        j->n_chunks += x->n_chunks;
        j->tile_elems =
            LB_MAX(j->tile_elems, LB_MIN(x->cut.tile_rows, x->cut.n_rows) * x->cut.tile_cols);
        j->scratch_a_bytes = LB_MAX(j->scratch_a_bytes, lb_values_scratch_bytes(&x->a, &x->cut));
        j->scratch_b_bytes = LB_MAX(j->scratch_b_bytes, lb_values_scratch_bytes(&x->b, &x->cut));
        lb_values_tile all = {0, x->cut.n_rows, 0, x->cut.n_cols};
        j->total_bytes += lb_values_stored_bytes(&x->a, &all) + lb_values_stored_bytes(&x->b, &all);
    }
    j->tile_elems = (j->tile_elems + 15) & ~(u64)15; /* keeps the third tile aligned to 64 bytes */
    j->worker_bytes = j->scratch_a_bytes + j->scratch_b_bytes + 2 * j->tile_elems * sizeof(float) +
                      LB_FOLD_LEAF * sizeof(float);
    j->partials = lb_arena_new(&j->scratch, lb_compare, j->n_chunks + 1);
    j->chunk_pair = lb_arena_new(&j->scratch, u32, j->n_chunks + 1);
    if (!j->partials || !j->chunk_pair)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    for (u64 i = 0; i < j->n_pairs; i++)
        for (u64 c = 0; c < j->pairs[i].n_chunks; c++)
            j->chunk_pair[j->pairs[i].chunk0 + c] = (u32)i;
    return LB_OK;
}

/* Threads that half of the budget holds; the rest is for directories. */
static lb_status choose_threads(const diff_job *j, u32 *n, lb_err *err) {
    u64 room = j->o->memory_bytes / 2, fit = room / LB_MAX(j->worker_bytes, (u64)1);
    if (fit == 0)
        return lb_fail(err, LB_E_LIMIT, "--memory: comparing these models needs at least %llu MB",
                       (unsigned long long)(2 * j->worker_bytes / 1000000 + 1));
    *n = (u32)LB_MIN((u64)LB_MAX(j->o->n_threads, 1u), LB_MIN(fit, (u64)LB_WORK_THREADS_MAX));
    return LB_OK;
}

static double relative(double norm_d, double norm_a) {
    return norm_d == 0 ? 0 : norm_d / norm_a;
}

static double cosine_of(double dot, double norm_a, double norm_b) {
    if (norm_a == 0 || norm_b == 0)
        return norm_a == norm_b ? 1 : 0;
    return fmax(-1, fmin(1, dot / (norm_a * norm_b)));
}

void lb_diff_add(lb_diff_total *t, const lb_diff_row *r) {
    t->n_rows++;
    t->n_values += r->n_values;
    t->max_abs = fmax(t->max_abs, r->max_abs);
    t->sum_dd += r->sum_dd;
    t->sum_aa += r->sum_aa;
    t->sum_bb += r->sum_bb;
    t->sum_ab += r->sum_ab;
    double n = (double)t->n_values;
    bool infinite = !isfinite(t->sum_dd);
    t->rmse = n > 0 ? sqrt(t->sum_dd / n) : 0;
    t->rel = infinite ? INFINITY : relative(sqrt(t->sum_dd), sqrt(t->sum_aa));
    t->cosine = t->sum_dd == 0 ? 1 : cosine_of(t->sum_ab, sqrt(t->sum_aa), sqrt(t->sum_bb));
}

void lb_diff_fill(lb_diff_row *row, const lb_compare *sum, u64 n, double tolerance) {
    double norm_a = sqrt(sum->sum_aa), norm_b = sqrt(sum->sum_bb), norm_d = sqrt(sum->sum_dd);
    bool infinite = sum->n_infinite != 0;
    row->max_abs = infinite ? INFINITY : sum->max_abs;
    row->rmse = infinite ? INFINITY : n > 0 ? norm_d / sqrt((double)n) : 0;
    row->rel = infinite ? INFINITY : relative(norm_d, norm_a);
    row->cosine = sum->n_different == 0 ? 1 : cosine_of(sum->sum_ab, norm_a, norm_b);
    row->sum_dd = infinite ? INFINITY : sum->sum_dd;
    row->sum_aa = sum->sum_aa;
    row->sum_bb = sum->sum_bb;
    row->sum_ab = sum->sum_ab;
    row->n_values = n;
    row->identical = sum->n_different == 0 || (tolerance > 0 && row->rel <= tolerance);
}

static void finish_row(const diff_job *j, const pair *x, double tolerance) {
    lb_diff_row *row = x->row;
    lb_compare sum = {0};
    if (!row->same_shape)
        return;
    for (u64 c = 0; c < x->n_chunks; c++)
        lb_compare_add(&sum, &j->partials[x->chunk0 + c]);
    lb_diff_fill(row, &sum, x->cut.n_rows * x->cut.n_cols, tolerance);
}

/* Names and layouts of an adapter's matrices differ between its forms: compared as they are, each
 * would have all of its own and nothing of the other's. */
static lb_status check_forms(const lb_source *a, const lb_source *b, lb_err *err) {
    const char *x = lb_adapter_form_name(lb_adapter_form_of(a)),
               *y = lb_adapter_form_name(lb_adapter_form_of(b));
    if (!x || !y || strcmp(x, y) == 0)
        return LB_OK;
    return lb_fail(err, LB_E_UNSUPPORTED,
                   "adapters are compared in one form, and these are %s's and %s's: convert one of "
                   "them first (lbrx convert ADAPTER --to %s)",
                   x, y,
                   strcmp(x, "MLX") == 0    ? "mlx"
                   : strcmp(x, "PEFT") == 0 ? "hf"
                                            : "gguf");
}

void lb_diff_count(lb_diff *d, const lb_diff_row *r) {
    d->n_different += !r->identical;
    if (!r->same_shape)
        return;
    lb_diff_add(&d->total, r);
    if (r->max_abs != 0)
        lb_diff_add(&d->differ, r);
}

/* Names that the result keeps. */
static lb_status keep_names(lb_str *names, u64 n, size_t stride, lb_arena *perm, lb_err *err) {
    for (u64 i = 0; i < n; i++) {
        lb_str *name = (lb_str *)(void *)((u8 *)names + i * stride);
        *name = lb_arena_str(perm, *name);
        if (!name->ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    }
    return LB_OK;
}

lb_status lb_diff_keep_names(lb_diff *d, lb_arena *perm, lb_err *err) {
    LB_TRY(keep_names(&d->rows->name, d->n_rows, sizeof *d->rows, perm, err));
    LB_TRY(keep_names(d->only_in_a, d->n_only_in_a, sizeof *d->only_in_a, perm, err));
    LB_TRY(keep_names(d->only_in_b, d->n_only_in_b, sizeof *d->only_in_b, perm, err));
    return keep_names(d->left_out, d->n_left_out, sizeof *d->left_out, perm, err);
}

lb_status lb_diff_run(lb_diff *out, const lb_source *a, const lb_source *b,
                      const lb_diff_options *o, lb_arena *perm, lb_err *err) {
    side sa = {.source = a}, sb = {.source = b};
    diff_job j = {.o = o, .a = a, .b = b};
    u32 n_threads = 0;
    u64 size = 0;
    lb_status st;
    memset(out, 0, sizeof *out);
    LB_TRY(check_forms(a, b, err));
    if (a->computed || b->computed)
        return lb_diff_computed(out, a, b, o, perm, err);
    lb_mutex_init(&j.progress_lock);
    LB_TRY_DONE(st, make_pairs(out, &j, &sa, &sb, perm, err));
    LB_TRY_DONE(st, lb_diff_keep_names(out, perm, err));
    LB_TRY_DONE(st, make_chunks(&j, err));
    LB_TRY_DONE(st, choose_threads(&j, &n_threads, err));
    LB_TRY_DONE(st, lb_fds_new(&j.fds_a, a->files, a->n_files, LB_WORK_FILES_MAX / 2, err));
    LB_TRY_DONE(st, lb_fds_new(&j.fds_b, b->files, b->n_files, LB_WORK_FILES_MAX / 2, err));
    size = n_threads * j.worker_bytes;
    j.memory = lb_os_map_anon(size);
    if (size && !j.memory) {
        st = lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
        goto done;
    }
    LB_TRY_DONE(st, lb_work_run(n_threads, j.n_chunks, compare_chunk, &j, err));
    out->identical = out->n_only_in_a == 0 && out->n_only_in_b == 0;
    for (u64 i = 0; i < j.n_pairs; i++) {
        finish_row(&j, &j.pairs[i], o->tolerance);
        lb_diff_count(out, j.pairs[i].row);
    }
    out->identical &= out->n_different == 0;
    out->bytes_read = j.done_bytes;
done:
    lb_os_unmap(j.memory, size);
    lb_fds_free(&j.fds_a);
    lb_fds_free(&j.fds_b);
    lb_map_deinit(&sa.by_name);
    lb_map_deinit(&sb.by_name);
    lb_mutex_deinit(&j.progress_lock);
    lb_arena_deinit(&j.scratch);
    return st;
}

/* ---- JSON ---- */

static void put_shape(lb_buf *out, const lb_shape *s) {
    lb_buf_put_c(out, "[");
    for (u32 d = 0; d < s->rank; d++)
        lb_buf_printf(out, "%s%llu", d ? ", " : "", (unsigned long long)s->dim[d]);
    lb_buf_put_c(out, "]");
}

static void put_figures(lb_buf *out, double max_abs, double rmse, double rel, double cosine) {
    lb_buf_put_c(out, "\"max_abs\": ");
    lb_json_write_number(out, max_abs);
    lb_buf_put_c(out, ", \"rmse\": ");
    lb_json_write_number(out, rmse);
    lb_buf_put_c(out, ", \"rel\": ");
    lb_json_write_number(out, rel);
    lb_buf_put_c(out, ", \"cosine\": ");
    lb_json_write_number(out, cosine);
}

static void put_row(lb_buf *out, const lb_diff_row *r) {
    lb_buf_put_c(out, "{\"name\": ");
    lb_json_write_str(out, r->name, false);
    if (r->same_shape) {
        lb_buf_put_c(out, ", ");
        put_figures(out, r->max_abs, r->rmse, r->rel, r->cosine);
    } else {
        lb_buf_put_c(out, ", \"max_abs\": null, \"rmse\": null, \"rel\": null, \"cosine\": null, "
                          "\"shape_a\": ");
        put_shape(out, &r->shape_a);
        lb_buf_put_c(out, ", \"shape_b\": ");
        put_shape(out, &r->shape_b);
    }
    lb_buf_printf(out, ", \"identical\": %s}", r->identical ? "true" : "false");
}

static void put_names(lb_buf *out, const char *key, const lb_str *names, u64 n) {
    lb_buf_printf(out, ", \"%s\": [", key);
    for (u64 i = 0; i < n; i++) {
        if (i)
            lb_buf_put_c(out, ", ");
        lb_json_write_str(out, names[i], false);
    }
    lb_buf_put_c(out, "]");
}

lb_status lb_diff_json(const lb_diff *d, lb_buf *out, lb_err *err) {
    lb_buf_printf(out, "{\"identical\": %s, \"tensors\": [", d->identical ? "true" : "false");
    for (u64 i = 0; i < d->n_rows; i++) {
        lb_buf_put_c(out, i ? ",\n" : "\n");
        put_row(out, &d->rows[i]);
    }
    lb_buf_put_c(out, "]");
    put_names(out, "only_in_a", d->only_in_a, d->n_only_in_a);
    put_names(out, "only_in_b", d->only_in_b, d->n_only_in_b);
    put_names(out, "left_out", d->left_out, d->n_left_out);
    lb_buf_put_c(out, ", \"differing\": {");
    put_figures(out, d->differ.max_abs, d->differ.rmse, d->differ.rel, d->differ.cosine);
    lb_buf_printf(out, ", \"values\": %llu}", (unsigned long long)d->differ.n_values);
    lb_buf_put_c(out, ", \"total\": {");
    put_figures(out, d->total.max_abs, d->total.rmse, d->total.rel, d->total.cosine);
    lb_buf_printf(out, ", \"values\": %llu}}\n", (unsigned long long)d->total.n_values);
    return lb_buf_status(out, err);
}
