/* SPDX-License-Identifier: Apache-2.0 */
/* against.c: the source is run through convert with the model's types; hashes are compared. */
#include "ops/against.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "format/safetensors.h"
#include "ops/quantize.h"

enum { PIECE = 1 << 20 };

typedef struct against {
    lb_verify *v;
    const lb_source *model;
    lb_fds *fds;
    lb_map by_name; /* stored tensors of the model */
    bool *seen;     /* [n_tensors] */
    u8 *piece;
    lb_arena *perm;
} against;

static lb_status hash_tensor(against *x, const lb_tensor *t, lb_hash128 *out, lb_err *err) {
    const char *path = x->model->files[t->file].path;
    lb_xxh h;
    int fd;
    lb_xxh_init(&h);
    LB_TRY(lb_fds_get(x->fds, t->file, &fd, err));
    lb_status st = LB_OK;
    for (u64 at = 0, n; at < t->size_bytes && st == LB_OK; at += n) {
        n = LB_MIN(t->size_bytes - at, (u64)PIECE);
        st = lb_os_pread(fd, path, x->piece, n, t->off_bytes + at, err);
        lb_xxh_update(&h, x->piece, n);
        if (st == LB_OK)
            st = lb_interrupt_check(err);
    }
    lb_fds_put(x->fds, t->file);
    *out = lb_xxh_digest(&h);
    x->v->bytes_read += t->size_bytes;
    return st;
}

static lb_status problem(against *x, lb_str name, const char *what, lb_err *err) {
    x->v->n_made_different++;
    lb_str own = lb_arena_str(x->perm, name);
    return own.ptr ? lb_verify_add(x->v, own, lb_str_c(what), x->perm, err)
                   : lb_fail(err, LB_E_NOMEM, "out of memory for the list of problems");
}

static lb_status compare(void *user, lb_str name, lb_dtype dtype, const lb_shape *shape,
                         lb_hash128 hash, lb_err *err) {
    against *x = user;
    u64 i;
    lb_hash128 have;
    x->v->n_made++;
    if (!lb_map_find(&x->by_name, name, &i))
        return problem(x, name, "the model lacks it, and the source has it", err);
    const lb_tensor *t = &x->model->tensors[i];
    x->seen[i] = true;
    if (t->dtype != dtype || !lb_shape_eq(&t->shape, shape))
        return problem(x, name, "its shape or type is not what the source gives", err);
    LB_TRY(hash_tensor(x, t, &have, err));
    if (lb_hash_eq(have, hash))
        return LB_OK;
    return problem(x, name, "its bytes are not what the source gives in this type", err);
}

static lb_status index_model(against *x, lb_err *err) {
    bool existed;
    for (u64 i = 0; i < x->model->n_tensors; i++)
        LB_TRY(lb_map_put(&x->by_name, x->model->tensors[i].name, i, &existed, err));
    return LB_OK;
}

static lb_to target_of(const lb_source *model) {
    return model->format == LB_FORMAT_GGUF  ? LB_TO_GGUF
           : model->format == LB_FORMAT_MLX ? LB_TO_MLX
                                            : LB_TO_HF;
}

lb_str lb_against_operation(const lb_source *m, lb_arena *perm) {
    const lb_gguf_kv *kv = m->gguf ? lb_meta_find(m->gguf, "lbrx.operation") : NULL;
    lb_str s = LB_STR_NONE;
    if (kv && lb_kv_as_str(kv, &s))
        return s;
    if (!m->gguf && lb_st_metadata_find(m->st_metadata, LB_STR("lbrx.operation"), perm, &s))
        return s;
    return LB_STR_NONE;
}

static bool says(lb_str operation, const char *option) {
    size_t at;
    return lb_str_find(operation, lb_str_c(option), &at);
}

static lb_status recompute(against *x, const lb_source *source, const lb_against_opts *o,
                           lb_err *err) {
    lb_str made = lb_against_operation(x->model, x->perm);
    lb_quantize_opts q = {.like = x->model,
                          .imatrix = o->imatrix,
                          .refine = o->refine || says(made, " --refine"),
                          .cpu_rule = o->cpu_rule || says(made, " --mlx-rule cpu")};
    if (says(made, " --imatrix ") && !o->imatrix)
        return lb_fail(err, LB_E_USAGE,
                       "%s was quantized with an importance matrix (%.*s): give it with --imatrix",
                       x->model->path, LB_FMT(made));
    lb_convert_opts c = {.verb = "verify", .quantize = &q, .w = o->w};
    lb_out_report report;
    lb_buf text = {0};
    c.w.to = target_of(x->model);
    c.w.no_write = true;
    c.w.no_provenance = true;
    c.w.made = compare;
    c.w.made_user = x;
    lb_status st = lb_convert(source, &c, &text, NULL, &report, err);
    lb_buf_deinit(&text);
    if (st != LB_OK)
        return st;
    x->v->bytes_read += report.bytes_read;
    for (u64 i = 0; i < x->model->n_tensors; i++)
        if (!x->seen[i])
            LB_TRY(problem(x, x->model->tensors[i].name, "the source gives no such tensor", err));
    return LB_OK;
}

lb_status lb_against_run(lb_verify *v, const lb_source *model, const lb_source *source,
                         const lb_against_opts *o, lb_arena *perm, lb_err *err) {
    against x = {.v = v, .model = model, .perm = perm};
    v->against = true;
    x.seen = lb_arena_new(perm, bool, model->n_tensors + 1);
    x.piece = lb_alloc(PIECE);
    lb_status st = x.seen && x.piece ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory");
    if (st == LB_OK) {
        memset(x.seen, 0, model->n_tensors * sizeof *x.seen);
        st = lb_fds_new(&x.fds, model->files, model->n_files, 16, err);
    }
    if (st == LB_OK)
        st = index_model(&x, err);
    if (st == LB_OK)
        st = recompute(&x, source, o, err);
    lb_fds_free(&x.fds);
    lb_map_deinit(&x.by_name);
    lb_free(x.piece);
    return st;
}
