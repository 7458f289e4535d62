/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c: see rows.h. */
#include "ops/rows.h"
#include "base/os.h"
#include "ops/computed.h"
#include "ops/merge_view.h"

#define TEMP_NAME "temporary file"

/* A stored matrix whose rows lie one behind the other in a type that decodes value by value. */
static bool is_plain(const lb_plan *p, const lb_node *n) {
    if (n->kind != LB_NODE_READ || n->u.read.weight->enc.kind != LB_ENC_PLAIN)
        return false;
    const lb_source *s = p->graph.sources[n->u.read.source];
    const lb_tensor *t = &s->tensors[n->u.read.weight->part[0]];
    return !s->computed && t->lies == LB_LIES_DENSE &&
           lb_dtype_get(t->dtype)->cls == LB_CLASS_FLOAT;
}

static lb_status open_plain(lb_rows *r, const lb_plan *p, const lb_node *n,
                            const lb_making_env *env, lb_err *err) {
    const lb_source *s = p->graph.sources[n->u.read.source];
    const lb_tensor *t = &s->tensors[n->u.read.weight->part[0]];
    if (!lb_dtype_bytes(t->dtype, n->n_cols, &r->row_bytes))
        return lb_fail(err, LB_E_LIMIT, "tensor '%.*s' is too large", LB_FMT(t->name));
    r->path = s->files[t->file].path;
    r->off_bytes = t->off_bytes;
    r->decode = lb_kernels_decode(env->kernels, t->dtype);
    return lb_os_open_read(r->path, &r->fd, err);
}

/* As f32 into a file without a name. */
static lb_status open_computed(lb_rows *r, lb_plan *p, lb_node_id x, const lb_making_env *env,
                               lb_err *err) {
    lb_shape shape = {.rank = 2, .dim = {r->n_rows, r->n_cols}};
    lb_stream out = {.name = LB_STR("rows"), .dtype = LB_F32, .shape = &shape};
    lb_plan_limits limits = {.memory_bytes = lb_run_base_bytes() + env->memory_bytes,
                             .threads = env->threads};
    lb_run_options o = {.kernels = env->kernels,
                        .temp_dir = env->temp_dir,
                        .stop = env->stop,
                        .user = env->user,
                        .raw_fd = &r->fd};
    r->path = TEMP_NAME;
    r->row_bytes = r->n_cols * sizeof(float);
    r->decode = env->kernels->decode_f32_f32;
    out.size_bytes = r->n_rows * r->row_bytes;
    out.file = lb_plan_file(p, LB_STR_NONE, out.size_bytes);
    lb_plan_output(p, &out, lb_expr_encode(&p->graph, lb_expr_decode(&p->graph, x), LB_F32));
    LB_TRY(lb_plan_close(p, &limits, err));
    LB_TRY(lb_os_open_temp(env->temp_dir, &r->fd, err));
    return lb_run(p, &o, NULL, err);
}

static lb_status open_of(lb_rows *r, lb_plan *p, lb_merge_view *v, lb_str name,
                         const lb_making_env *env, lb_err *err) {
    LB_TRY(lb_computed_bind(p, 0, err));
    LB_TRY(lb_merge_view_make(p, 0, NULL, v, err));
    u32 i = 0;
    while (i < v->n && !lb_str_eq(v->facts[i].name, name))
        i++;
    if (i == v->n)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s' is not there", LB_FMT(name));
    const lb_node *n = lb_graph_node(&p->graph, v->nodes[i]);
    r->n_rows = n->n_rows;
    r->n_cols = n->n_cols;
    return is_plain(p, n) ? open_plain(r, p, n, env, err)
                          : open_computed(r, p, v->nodes[i], env, err);
}

lb_status lb_rows_open(lb_rows *r, const lb_source *s, lb_str name, const lb_making_env *env,
                       lb_err *err) {
    lb_plan *p = NULL;
    lb_merge_view v = {0};
    *r = (lb_rows){.fd = -1};
    LB_TRY(lb_plan_new(&p, &s, 1, err));
    lb_status st = open_of(r, p, &v, name, env, err);
    lb_merge_view_deinit(&v);
    lb_plan_free(&p);
    if (st != LB_OK) {
        lb_err_context(err, "%s", s->path);
        lb_rows_close(r);
    }
    return st;
}

void lb_rows_close(lb_rows *r) {
    if (r->decode || r->fd > 0)
        lb_os_close(&r->fd);
    *r = (lb_rows){0};
}

lb_status lb_rows_read(const lb_rows *r, u64 first, u64 n, u8 *scratch, float *out, lb_err *err) {
    LB_TRY(lb_os_pread(r->fd, r->path, scratch, n * r->row_bytes,
                       r->off_bytes + first * r->row_bytes, err));
    r->decode((size_t)(n * r->n_cols), out, scratch);
    return LB_OK;
}

lb_status lb_rows_gather(const lb_rows *r, const u32 *row, u64 n, u8 *scratch, float *out,
                         lb_err *err) {
    for (u64 i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && row[k] == row[i] + (k - i);)
            k++;
        LB_TRY(lb_rows_read(r, row[i], k - i, scratch, out + i * r->n_cols, err));
    }
    return LB_OK;
}
