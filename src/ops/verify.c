/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c: scans every weight for values that are no numbers, checks sums, asks the architecture's
 * table what is missing. */
#include "ops/verify.h"
#include "arch/arch.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "base/thread.h"
#include "format/imatrix.h"
#include "io/json.h"
#include "ops/canon.h"
#include "ops/values.h"
#include "ops/verify_internal.h"
#include "ops/work.h"
#include <math.h>
#include <stdlib.h>

#define LBRX_JSON_MAX ((u64)256 << 20) /* a hash of every tensor: 100 bytes each */
#define SUMS_MAX ((u64)16 << 20)
#define FILE_CHUNK_BYTES LB_MIB

typedef struct scan {
    u64 n_nan, n_inf;
    lb_hash128 part[LB_PARTS_MAX];
} scan;

typedef struct sum_file { /* a file with a SHA-256 */
    lb_str name;
    const char *path;
    u64 size_bytes;
    lb_str want; /* 64 hex digits */
    char got[65];
} sum_file;

typedef struct verify_job {
    const lb_verify_options *o;
    const lb_source *s;
    lb_fds *fds;
    lb_values *values; /* one a weight */
    scan *scans;
    u64 *order; /* weights, large ones first */
    sum_file *sums;
    u64 n_sums, cap_sums;
    u8 *memory;
    u64 worker_bytes, scratch_bytes, total_bytes;
    lb_mutex lock; /* of the next */
    u64 done_bytes;
} verify_job;

lb_status lb_verify_add(lb_verify *v, lb_str where, lb_str what, lb_arena *perm, lb_err *err) {
    if (v->n_problems == v->cap_problems) {
        u64 cap = v->cap_problems ? 2 * v->cap_problems : 16;
        lb_verify_problem *p = lb_arena_new(perm, lb_verify_problem, cap);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory");
        if (v->n_problems)
            memcpy(p, v->problems, v->n_problems * sizeof *p);
        v->problems = p;
        v->cap_problems = cap;
    }
    if (!what.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    v->problems[v->n_problems++] = (lb_verify_problem){where, what};
    return LB_OK;
}

/* ---- what the architecture needs ---- */

static lb_status check_architecture(lb_verify *v, const lb_source *s, lb_arena *perm, lb_err *err) {
    lb_canon canon;
    lb_arch_seen seen = {0};
    lb_err missing = {0};
    LB_TRY(lb_canon_init(&canon, s, perm, err));
    if (!canon.arch)
        return LB_OK;
    v->architecture = lb_str_c(lb_arch_name(canon.arch));
    for (u64 i = 0; i < s->n_weights; i++) {
        lb_arch_match m;
        if (!lb_arch_find_extra(&canon.hparams, s->weights[i].name) &&
            lb_arch_find(canon.arch, &canon.hparams, canon.world, s->weights[i].name, &m))
            lb_arch_seen_add(&seen, &m, &s->weights[i].shape);
    }
    if (lb_arch_seen_check(canon.arch, &canon.hparams, &seen, canon.world, &missing) == LB_OK)
        return LB_OK;
    return lb_verify_add(v, LB_STR_NONE, lb_arena_printf(perm, "%s", missing.msg), perm, err);
}

/* ---- reading ---- */

static void report_progress(verify_job *j, u64 bytes) {
    lb_lock(&j->lock);
    j->done_bytes += bytes;
    if (j->o->progress)
        j->o->progress(j->o->user, j->done_bytes, j->total_bytes);
    lb_unlock(&j->lock);
}

/* Infinite values among n. */
static u64 count_inf(u64 n, const float *x) {
    u64 c = 0;
    for (u64 i = 0; i < n; i++)
        c += isinf(x[i]) != 0;
    return c;
}

/* A part that is not read along with the rows: one element a matrix. */
static lb_status hash_small_part(const verify_job *j, const lb_values *v, u32 p, u8 *buffer,
                                 lb_hash128 *out, lb_err *err) {
    const lb_tensor *t = &j->s->tensors[v->codec.part[p].tensor];
    lb_xxh h;
    int fd;
    lb_xxh_init(&h);
    LB_TRY(lb_fds_get(j->fds, t->file, &fd, err));
    lb_status st = LB_OK;
    for (u64 at = 0; at < t->size_bytes && st == LB_OK;) {
        u64 n = LB_MIN(t->size_bytes - at, LB_VALUES_TILE);
        st = lb_os_pread(fd, j->s->files[t->file].path, buffer, n, t->off_bytes + at, err);
        if (st == LB_OK)
            lb_xxh_update(&h, buffer, (size_t)n);
        at += n;
    }
    lb_fds_put(j->fds, t->file);
    *out = lb_xxh_digest(&h);
    return st;
}

/* What f32 cannot hold is counted as it is stored: F64; C64, a value where either part is none. */
static void count_wide(const lb_values *v, const u8 *stored, u64 n, scan *s) {
    for (u64 i = 0; i < n; i++) {
        double d;
        float c[2];
        if (v->codec.dtype == LB_F64) {
            memcpy(&d, stored + 8 * i, sizeof d);
        } else {
            memcpy(c, stored + 8 * i, sizeof c);
            d = isnan(c[0]) || isnan(c[1]) ? (double)NAN : (double)c[isinf(c[0]) ? 0 : 1];
        }
        s->n_nan += isnan(d) != 0;
        s->n_inf += isinf(d) != 0;
    }
}

static lb_status scan_weight(void *ctx, u32 worker, u64 item, lb_err *err) {
    verify_job *j = ctx;
    u64 w = j->order[item];
    const lb_values *v = &j->values[w];
    scan s = {0};
    lb_values_io io = {j->fds, j->o->kernels, j->memory + worker * j->worker_bytes};
    float *values = (float *)(void *)(io.scratch + j->scratch_bytes);
    lb_xxh h[LB_PARTS_MAX];
    lb_values_cut cut;
    lb_values_cut_init(&cut, v, NULL);
    for (u32 p = 0; p < v->codec.n_parts; p++)
        lb_xxh_init(&h[p]);
    for (u64 i = 0; i < cut.n_tiles; i++) {
        lb_values_tile t = lb_values_cut_get(&cut, i);
        float mm[2] = {INFINITY, -INFINITY};
        u64 n = t.nr * t.nc, len;
        LB_TRY(lb_interrupt_check(err));
        if (v->codec.dtype == LB_F64 || v->codec.dtype == LB_C64) {
            LB_TRY(lb_values_read_stored(v, &io, &t, err));
            count_wide(v, io.scratch, n, &s);
        } else if (v->codec.decodes) {
            LB_TRY(lb_values_read(v, &io, &t, values, err));
            u64 bad = j->o->kernels->fold_range_f32((size_t)n, values, mm);
            u64 inf = bad ? count_inf(n, values) : 0;
            s.n_inf += inf;
            s.n_nan += bad - inf;
        } else {
            LB_TRY(lb_values_read_stored(v, &io, &t, err));
        }
        for (u32 p = 0; p < v->codec.n_parts; p++)
            if (v->codec.part[p].kind == LB_PART_ROWS) {
                const u8 *at = lb_values_part(v, &io, &t, p, &len);
                lb_xxh_update(&h[p], at, (size_t)len);
            }
        report_progress(j, lb_values_stored_bytes(v, &t));
    }
    for (u32 p = 0; p < v->codec.n_parts; p++) {
        s.part[p] = lb_xxh_digest(&h[p]);
        if (v->codec.part[p].kind != LB_PART_ROWS)
            LB_TRY(hash_small_part(j, v, p, io.scratch, &s.part[p], err));
    }
    j->scans[w] = s;
    return LB_OK;
}

static lb_status hash_file(void *ctx, u32 worker, u64 item, lb_err *err) {
    verify_job *j = ctx;
    sum_file *f = &j->sums[item];
    u8 *buffer = j->memory + worker * j->worker_bytes;
    lb_sha256 sha;
    lb_status st = LB_OK;
    int fd = -1;
    lb_sha256_init(&sha);
    LB_TRY(lb_os_open_read(f->path, &fd, err));
    for (u64 at = 0; at < f->size_bytes && st == LB_OK;) {
        u64 n = LB_MIN(f->size_bytes - at, FILE_CHUNK_BYTES);
        st = lb_interrupt_check(err);
        if (st == LB_OK)
            st = lb_os_pread(fd, f->path, buffer, n, at, err);
        if (st == LB_OK)
            lb_sha256_update(&sha, buffer, (size_t)n);
        at += n;
        report_progress(j, n);
    }
    lb_os_close(&fd);
    lb_sha256_hex(&sha, f->got);
    return st;
}

/* ---- sums that stand beside the weights ---- */

static lb_status add_sum(verify_job *j, const sum_file *f, lb_arena *perm, lb_err *err) {
    if (j->n_sums == j->cap_sums) {
        u64 cap = j->cap_sums ? 2 * j->cap_sums : 16;
        sum_file *p = lb_arena_new(perm, sum_file, cap);
        if (!p)
            return lb_fail(err, LB_E_NOMEM, "out of memory");
        if (j->n_sums)
            memcpy(p, j->sums, j->n_sums * sizeof *p);
        j->sums = p;
        j->cap_sums = cap;
    }
    j->sums[j->n_sums++] = *f;
    j->total_bytes += f->size_bytes;
    return LB_OK;
}

/* One line's file: a weight file, or another one of the same folder. */
static lb_status find_summed(verify_job *j, lb_verify *v, lb_str want, lb_str name, lb_arena *perm,
                             lb_err *err) {
    const lb_source *s = j->s;
    sum_file f = {.name = name, .want = want};
    lb_fstat info = {0};
    for (u64 i = 0; i < s->n_files && !f.path; i++)
        if (lb_str_eq(s->files[i].name, name))
            f.path = s->files[i].path;
    if (!f.path && s->n_files) {
        lb_str dir = lb_arena_str(perm, lb_os_dir_name(lb_str_c(s->files[0].path)));
        if (!dir.ptr || !(f.path = lb_os_join(perm, dir.ptr, name)))
            return lb_fail(err, LB_E_NOMEM, "out of memory");
    }
    if (!f.path || lb_os_stat(f.path, &info, NULL) != LB_OK || !info.is_file)
        return lb_verify_add(v, name, LB_STR("has a SHA-256 and is not there"), perm, err);
    f.size_bytes = info.size_bytes;
    return add_sum(j, &f, perm, err);
}

/* "HEX  NAME" lines: of SHA256SUMS, or of FILE.sha256. Names in other folders are left to sha256sum
 * -c: a name that stands in a file does not lead out of the model. */
static lb_status parse_sums(verify_job *j, lb_verify *v, lb_str text, const char *path,
                            lb_arena *perm, lb_err *err) {
    while (text.len) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t n = end ? (size_t)(end - text.ptr) : text.len, slash;
        lb_str line = {text.ptr, n};
        text = lb_str_sub(text, n + (end != NULL), text.len);
        if (line.len == 0)
            continue;
        if (line.len < 67 || line.ptr[64] != ' ')
            return lb_fail(err, LB_E_FORMAT, "%s: a line is not 'HEX  NAME'", path);
        lb_str name = lb_str_sub(line, 66, line.len);
        if (lb_str_starts(name, LB_STR("./")))
            name = lb_str_sub(name, 2, name.len);
        if (!lb_str_find(name, LB_STR("/"), &slash))
            LB_TRY(find_summed(j, v, lb_str_sub(line, 0, 64), name, perm, err));
    }
    return LB_OK;
}

/* The sums of the parts of a split GGUF stand under the name that was asked for: x.gguf.sha256. */
static lb_str sums_of_parts(const lb_source *s, lb_arena *perm) {
    lb_str path = lb_str_c(s->files[0].path);
    size_t at;
    if (s->n_files < 2 || !lb_str_find(path, LB_STR("-00001-of-"), &at))
        return LB_STR_NONE;
    return lb_arena_printf(perm, "%.*s.gguf.sha256", LB_FMT(lb_str_sub(path, 0, at)));
}

static lb_status find_sums(verify_job *j, lb_verify *v, lb_arena *perm, lb_err *err) {
    const lb_source *s = j->s;
    const lb_side_file *side = lb_source_side(s, LB_STR("SHA256SUMS"));
    lb_str text;
    if (side) {
        LB_TRY(lb_side_read(side, SUMS_MAX, perm, &text, err));
        return parse_sums(j, v, text, side->path, perm, err);
    }
    for (u64 i = 0; i <= s->n_files && s->n_files; i++) {
        lb_str path = i < s->n_files ? lb_arena_printf(perm, "%s.sha256", s->files[i].path)
                                     : sums_of_parts(s, perm);
        if (i < s->n_files && !path.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory");
        if (!path.ptr || !lb_os_exists(path.ptr))
            continue;
        LB_TRY(lb_os_read_file(path.ptr, SUMS_MAX, perm, &text, err));
        LB_TRY(parse_sums(j, v, text, path.ptr, perm, err));
    }
    return LB_OK;
}

/* The hash that lbrx.json has for a tensor; false where it has none. */
static bool find_hash(const lb_map *by_name, lb_json *const *nodes, lb_str name, lb_hash128 *out) {
    u64 i;
    lb_str hex;
    return lb_map_find(by_name, name, &i) && lb_json_as_str(nodes[i], &hex) &&
           lb_hash_parse(hex, out);
}

static lb_status compare_hashes(lb_verify *v, const verify_job *j, const lb_json *tensors,
                                lb_arena *perm, lb_err *err) {
    const lb_source *s = j->s;
    lb_map by_name = {0};
    lb_json **nodes = lb_arena_new(perm, lb_json *, (tensors ? tensors->n : 0) + 1);
    u64 n = 0;
    lb_status st = LB_OK;
    if (!nodes)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    for (lb_json *x = tensors ? tensors->first : NULL; x; x = x->next) {
        nodes[n] = x;
        LB_TRY_DONE(st, lb_map_put(&by_name, x->key, n++, NULL, err));
        if (!lb_source_tensor(s, x->key))
            LB_TRY_DONE(st, lb_verify_add(v, x->key, LB_STR("stands in lbrx.json and is not there"),
                                          perm, err));
    }
    for (u64 i = 0; i < s->n_weights; i++)
        for (u32 p = 0; p < s->weights[i].n_parts; p++) {
            const lb_tensor *t = &s->tensors[s->weights[i].part[p]];
            lb_hash128 want;
            if (!find_hash(&by_name, nodes, t->name, &want)) {
                LB_TRY_DONE(
                    st, lb_verify_add(v, t->name, LB_STR("has no hash in lbrx.json"), perm, err));
                continue;
            }
            v->n_hashes++;
            if (lb_hash_eq(want, j->scans[i].part[p]))
                continue;
            v->n_hashes_different++;
            LB_TRY_DONE(st,
                        lb_verify_add(v, t->name,
                                      LB_STR("its bytes are not those of its hash in lbrx.json"),
                                      perm, err));
        }
done:
    lb_map_deinit(&by_name);
    return st;
}

static lb_status check_lbrx_json(lb_verify *v, const verify_job *j, lb_arena *perm, lb_err *err) {
    const lb_side_file *side = lb_source_side(j->s, LB_STR("lbrx.json"));
    lb_str text;
    lb_json *root;
    u64 schema;
    if (!side)
        return LB_OK;
    LB_TRY(lb_side_read(side, LBRX_JSON_MAX, perm, &text, err));
    LB_TRY(lb_json_parse(text, "lbrx.json", perm, &root, err));
    if (!lb_json_as_u64(lb_json_get(root, "schema"), &schema) || schema != 1)
        return lb_verify_add(v, LB_STR("lbrx.json"),
                             LB_STR("is of a schema that this version does not know"), perm, err);
    return compare_hashes(v, j, lb_json_get(root, "tensors"), perm, err);
}

/* ---- putting it together ---- */

static lb_status set_up(verify_job *j, lb_arena *perm, lb_err *err) {
    const lb_source *s = j->s;
    j->values = lb_arena_new(perm, lb_values, s->n_weights + 1);
    j->scans = lb_arena_new(perm, scan, s->n_weights + 1);
    j->order = lb_arena_new(perm, u64, s->n_weights + 1);
    u64 tile = 0;
    if (!j->values || !j->scans || !j->order)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %llu weights",
                       (unsigned long long)s->n_weights);
    j->scratch_bytes = FILE_CHUNK_BYTES;
    for (u64 i = 0; i < s->n_weights; i++) {
        lb_values_cut cut;
        LB_TRY(lb_values_init(&j->values[i], s, &s->weights[i], err));
        lb_values_cut_init(&cut, &j->values[i], NULL);
        tile = LB_MAX(tile, LB_MIN(cut.tile_rows, cut.n_rows) * cut.tile_cols);
        j->scratch_bytes = LB_MAX(j->scratch_bytes, lb_values_scratch_bytes(&j->values[i], &cut));
        for (u32 p = 0; p < s->weights[i].n_parts; p++)
            j->total_bytes += s->tensors[s->weights[i].part[p]].size_bytes;
        j->order[i] = i;
    }
    j->worker_bytes = j->scratch_bytes + ((tile + 15) & ~(u64)15) * sizeof(float);
    return LB_OK;
}

/* Large weights first, so that no thread begins the largest when the others are done. */
static void sort_by_size(verify_job *j) {
    const lb_source *s = j->s;
    /* Insertion by a bucket a power of two: stable, linear, no comparison function with a context.
     */
    u64 n = s->n_weights, count[65] = {0}, at[65] = {0};
    u64 *sorted = j->order;
    for (u64 i = 0; i < n; i++) {
        u64 size = s->tensors[s->weights[i].part[0]].size_bytes;
        count[size ? 64 - __builtin_clzll(size) : 0]++;
    }
    for (u32 b = 64; b > 0; b--)
        at[b - 1] = at[b] + count[b];
    for (u64 i = 0; i < n; i++) {
        u64 size = s->tensors[s->weights[i].part[0]].size_bytes;
        sorted[at[size ? 64 - __builtin_clzll(size) : 0]++] = i;
    }
}

static lb_status sum_up(lb_verify *v, const verify_job *j, lb_arena *perm, lb_err *err) {
    const lb_source *s = j->s;
    for (u64 i = 0; i < s->n_weights; i++) {
        const scan *x = &j->scans[i];
        u64 n = 0;
        if (lb_shape_elems(&s->weights[i].shape, &n))
            v->n_values += n;
        v->n_nan += x->n_nan;
        v->n_inf += x->n_inf;
        if (x->n_nan || x->n_inf)
            LB_TRY(lb_verify_add(v, s->weights[i].name,
                                 lb_arena_printf(perm, "%llu NaN and %llu infinite values",
                                                 (unsigned long long)x->n_nan,
                                                 (unsigned long long)x->n_inf),
                                 perm, err));
    }
    for (u64 i = 0; i < j->n_sums; i++) {
        v->n_files++;
        if (lb_str_eq_c(j->sums[i].want, j->sums[i].got))
            continue;
        v->n_files_different++;
        LB_TRY(lb_verify_add(v, j->sums[i].name, LB_STR("its SHA-256 is not the one beside it"),
                             perm, err));
    }
    return LB_OK;
}

/* Sums of squares are not negative; the scan of the weights does not know that. */
static lb_status check_importance(lb_verify *v, const verify_job *j, lb_arena *perm, lb_err *err) {
    const lb_imatrix *im = j->s->imatrix;
    for (u64 i = 0; i < im->n_entries; i++) {
        lb_err wrong = {0};
        lb_status st = lb_imatrix_check(j->s, j->fds, &im->entries[i], &wrong);
        if (st == LB_E_FORMAT)
            st = lb_verify_add(v, LB_STR_NONE, lb_arena_printf(perm, "%s", wrong.msg), perm, err);
        else if (st != LB_OK)
            st = lb_fail(err, st, "%s", wrong.msg);
        LB_TRY(st);
        LB_TRY(lb_interrupt_check(err));
    }
    return LB_OK;
}

lb_status lb_verify_run(lb_verify *out, const lb_source *s, const lb_verify_options *o,
                        lb_arena *perm, lb_err *err) {
    verify_job j = {.o = o, .s = s};
    u64 size = 0, fit;
    u32 n_threads;
    lb_status st;
    memset(out, 0, sizeof *out);
    out->n_tensors = s->n_tensors;
    lb_mutex_init(&j.lock);
    out->importance = s->imatrix != NULL;
    if (!out->importance)
        LB_TRY_DONE(st, check_architecture(out, s, perm, err));
    if (s->computed) {
        st = lb_verify_computed(out, s, o, perm, err);
        goto done;
    }
    LB_TRY_DONE(st, set_up(&j, perm, err));
    sort_by_size(&j);
    LB_TRY_DONE(st, find_sums(&j, out, perm, err));
    fit = o->memory_bytes / 2 / j.worker_bytes;
    if (fit == 0) {
        st = lb_fail(err, LB_E_LIMIT, "--memory: verifying this model needs at least %llu MB",
                     (unsigned long long)(2 * j.worker_bytes / 1000000 + 1));
        goto done;
    }
    n_threads = (u32)LB_MIN((u64)LB_MAX(o->n_threads, 1u), LB_MIN(fit, (u64)LB_WORK_THREADS_MAX));
    size = n_threads * j.worker_bytes;
    j.memory = lb_os_map_anon(size);
    if (!j.memory) {
        st = lb_fail(err, LB_E_NOMEM, "out of memory for %u threads", n_threads);
        goto done;
    }
    LB_TRY_DONE(st, lb_fds_new(&j.fds, s->files, s->n_files, LB_WORK_FILES_MAX, err));
    LB_TRY_DONE(st, lb_work_run(n_threads, s->n_weights, scan_weight, &j, err));
    LB_TRY_DONE(st, lb_work_run(n_threads, j.n_sums, hash_file, &j, err));
    LB_TRY_DONE(st, sum_up(out, &j, perm, err));
    if (out->importance)
        LB_TRY_DONE(st, check_importance(out, &j, perm, err));
    LB_TRY_DONE(st, check_lbrx_json(out, &j, perm, err));
    out->bytes_read = j.done_bytes;
done:
    lb_os_unmap(j.memory, size);
    lb_fds_free(&j.fds);
    lb_mutex_deinit(&j.lock);
    return st;
}

lb_status lb_verify_json(const lb_verify *v, lb_buf *out, lb_err *err) {
    lb_buf_printf(out, "{\"ok\": %s, \"architecture\": ", v->n_problems ? "false" : "true");
    if (v->architecture.len)
        lb_json_write_str(out, v->architecture, false);
    else
        lb_buf_put_c(out, "null");
    lb_buf_printf(out,
                  ", \"tensors\": %llu, \"values\": %llu, \"nan\": %llu, \"inf\": %llu, "
                  "\"hashes\": {\"checked\": %llu, \"different\": %llu}, "
                  "\"files\": {\"checked\": %llu, \"different\": %llu}, ",
                  (unsigned long long)v->n_tensors, (unsigned long long)v->n_values,
                  (unsigned long long)v->n_nan, (unsigned long long)v->n_inf,
                  (unsigned long long)v->n_hashes, (unsigned long long)v->n_hashes_different,
                  (unsigned long long)v->n_files, (unsigned long long)v->n_files_different);
    if (v->against)
        lb_buf_printf(out, "\"against\": {\"recomputed\": %llu, \"different\": %llu}, ",
                      (unsigned long long)v->n_made, (unsigned long long)v->n_made_different);
    lb_buf_put_c(out, "\"problems\": [");
    for (u64 i = 0; i < v->n_problems; i++) {
        lb_buf_put_c(out, i ? ", {\"where\": " : "{\"where\": ");
        lb_json_write_str(out, v->problems[i].where, false);
        lb_buf_put_c(out, ", \"problem\": ");
        lb_json_write_str(out, v->problems[i].what, false);
        lb_buf_put_c(out, "}");
    }
    lb_buf_put_c(out, "]}\n");
    return lb_buf_status(out, err);
}
