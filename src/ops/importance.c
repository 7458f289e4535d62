/* SPDX-License-Identifier: Apache-2.0 */
/* importance.c: entries of an importance matrix, read for a model. */
#include "ops/importance.h"
#include "base/os.h"
#include "ops/quantize.h"

#define HEAP_BYTES_MAX (8 * LB_MIB) /* more of it goes to a file */
enum { PIECE = 65536 };             /* values, on their way there */

bool lb_quantize_is_named(const char *const *names, u32 n, lb_str name) {
    size_t at;
    for (u32 i = 0; i < n; i++)
        if (lb_str_find(name, lb_str_c(names[i]), &at))
            return true;
    return false;
}

static bool counts(const lb_importance_opts *o, lb_str name) {
    return !lb_quantize_is_named(o->exclude, o->n_exclude, name) &&
           (!o->n_include || lb_quantize_is_named(o->include, o->n_include, name));
}

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the importance matrix");
}

/* Which entries are for a tensor, and where their values will lie. */
static lb_status place(lb_importance *x, const lb_importance_opts *o,
                       const lb_imatrix_tensor *tensors, u64 n, u64 *n_values, lb_err *err) {
    const lb_imatrix *im = x->file->imatrix;
    x->place = lb_alloc((size_t)im->n_entries * sizeof *x->place + 1);
    if (!x->place)
        return oom(err);
    for (u64 i = 0; i < im->n_entries; i++) {
        x->place[i] = UINT64_MAX;
        x->n_entries += counts(o, im->entries[i].name);
    }
    for (u64 i = 0; i < n; i++) {
        const lb_imatrix_entry *e = lb_imatrix_find(im, tensors[i].name);
        if (!e || !counts(o, e->name) || !lb_imatrix_fits(e, &tensors[i].shape))
            continue;
        x->place[e - im->entries] = *n_values;
        x->n_used++;
        if (!lb_add_u64(*n_values, e->n_values, n_values))
            return lb_fail(err, LB_E_LIMIT, "the importance matrix is too large");
    }
    return LB_OK;
}

static lb_status read_all(lb_importance *x, float *values, lb_err *err) {
    const lb_imatrix *im = x->file->imatrix;
    for (u64 i = 0; i < im->n_entries; i++)
        if (x->place[i] != UINT64_MAX)
            LB_TRY(lb_imatrix_read(x->file, x->fds, &im->entries[i], 0, im->entries[i].n_values,
                                   values + x->place[i], err));
    return LB_OK;
}

static lb_status copy_to(lb_importance *x, int fd, const char *dir, float *piece, lb_err *err) {
    const lb_imatrix *im = x->file->imatrix;
    for (u64 i = 0; i < im->n_entries; i++) {
        const lb_imatrix_entry *e = &im->entries[i];
        for (u64 at = 0, n; x->place[i] != UINT64_MAX && at < e->n_values; at += n) {
            n = LB_MIN(e->n_values - at, PIECE);
            LB_TRY(lb_imatrix_read(x->file, x->fds, e, at, n, piece, err));
            LB_TRY(lb_os_pwrite(fd, dir, piece, n * sizeof *piece,
                                (x->place[i] + at) * sizeof *piece, err));
        }
    }
    return LB_OK;
}

/* Pages of a file are not the process's memory. */
static lb_status map_all(lb_importance *x, const lb_importance_opts *o, lb_err *err) {
    const char *tmp = lb_os_env("TMPDIR");
    const char *dir = o->temp_dir ? o->temp_dir : tmp ? tmp : "/tmp";
    float *piece = lb_alloc(PIECE * sizeof *piece);
    int fd = -1;
    lb_status st = piece ? lb_os_open_temp(dir, &fd, err) : oom(err);
    if (st == LB_OK)
        st = copy_to(x, fd, dir, piece, err);
    lb_free(piece);
    if (st == LB_OK)
        st = lb_mapped_open(&x->mapped, fd, "a temporary file", x->values_bytes, err);
    else
        lb_os_close(&fd);
    x->values = (const float *)(const void *)x->mapped.base;
    return st;
}

static lb_status load(lb_importance *x, const lb_importance_opts *o, u64 n_values, lb_err *err) {
    if (!lb_mul_u64(n_values, sizeof *x->values, &x->values_bytes))
        return lb_fail(err, LB_E_LIMIT, "the importance matrix is too large");
    if (x->values_bytes > HEAP_BYTES_MAX)
        return map_all(x, o, err);
    x->own = lb_alloc((size_t)x->values_bytes + 1);
    x->values = x->own;
    return x->own ? read_all(x, x->own, err) : oom(err);
}

lb_status lb_importance_open(lb_importance *x, const lb_importance_opts *o,
                             const lb_imatrix_tensor *tensors, u64 n, lb_err *err) {
    lb_imatrix_match match;
    u64 n_values = 0;
    *x = (lb_importance){0};
    LB_TRY(lb_imatrix_open(&x->file, o->path, err));
    LB_TRY(lb_imatrix_match_model(x->file, tensors, n, &match, err));
    x->n_left = match.n_left;
    x->first_left = match.first_left;
    LB_TRY(lb_fds_new(&x->fds, x->file->files, x->file->n_files, 1, err));
    LB_TRY(place(x, o, tensors, n, &n_values, err));
    return load(x, o, n_values, err);
}

void lb_importance_close(lb_importance *x) {
    lb_fds_free(&x->fds);
    lb_source_close(&x->file);
    lb_free(x->place);
    lb_mapped_close(&x->mapped);
    lb_free(x->own);
    *x = (lb_importance){0};
}

const float *lb_importance_of(const lb_importance *x, lb_str name, const lb_shape *shape,
                              u64 *n_mats) {
    const lb_imatrix *im = x->file ? x->file->imatrix : NULL;
    const lb_imatrix_entry *e = im ? lb_imatrix_find(im, name) : NULL;
    *n_mats = 1;
    if (!e || x->place[e - im->entries] == UINT64_MAX || !shape->rank)
        return NULL;
    *n_mats = e->n_values / shape->dim[shape->rank - 1];
    return x->values + x->place[e - im->entries];
}
