/* SPDX-License-Identifier: Apache-2.0 */
/* device_rows.c: matrices that resident.c has put behind one another, as one: products of few
 * tokens are fewer launches so, and gate and up meet where their sums are made. */
#include "model/device_rows.h"

static bool behind(lb_dev_arg a, u64 bytes, lb_dev_arg b) {
    return a.buf == b.buf && a.off_bytes + bytes == b.off_bytes;
}

bool lb_dmat_alike(const lb_dmat *a, const lb_dmat *b) {
    const lb_mv_args *x = &a->args, *y = &b->args;
    const bool groups = a->form != LB_DEV_SCALED || (x->scale_rows == 1 && y->scale_rows == 1);
    const bool stacks = x->n_mats > 1 && x->n_mats == y->n_mats && x->n_rows == y->n_rows;
    return a->form == b->form && memcmp(a->kernel, b->kernel, sizeof a->kernel) == 0 && groups &&
           x->n_cols == y->n_cols && x->group_elems == y->group_elems &&
           x->scale_type == y->scale_type && (stacks || (x->n_mats <= 1 && y->n_mats <= 1)) &&
           !(x->times < y->times || x->times > y->times);
}

bool lb_dmat_bytes(const lb_dmat *m, u64 *bytes) {
    const u32 n = m->form == LB_DEV_BLOCKS ? 1 : m->form == LB_DEV_AFFINE ? 3 : 2;
    lb_dev_shape s;
    lb_err none;
    if (lb_dev_kernel_shape(m->kernel[m->args.n_mats > 1 ? LB_DEV_MVE : LB_DEV_MV], &m->args, &s,
                            &none) != LB_OK)
        return false;
    for (u32 i = 0; i < LB_DMAT_PIECES; i++)
        bytes[i] = i < n ? s.need_bytes[i] : 0;
    return true;
}

bool lb_dmat_join(lb_dmat *a, const lb_dmat *b) {
    u64 bytes[LB_DMAT_PIECES];
    if (!lb_dmat_alike(a, b) || a->args.n_rows > UINT32_MAX - b->args.n_rows ||
        !lb_dmat_bytes(a, bytes) || !behind(a->w, bytes[0], b->w) ||
        (bytes[1] && !behind(a->scales, bytes[1], b->scales)) ||
        (bytes[2] && !behind(a->biases, bytes[2], b->biases)))
        return false;
    a->args.n_rows += b->args.n_rows;
    return true;
}

static bool same_arg(lb_dev_arg a, lb_dev_arg b) {
    return a.buf == b.buf && a.off_bytes == b.off_bytes;
}

static bool same_input(const lb_dinput *a, const lb_dinput *b) {
    return same_arg(a->x, b->x) && a->pre == b->pre && same_arg(a->w, b->w) &&
           a->stride == b->stride && a->second == b->second && a->gated == b->gated;
}

static bool same_output(const lb_doutput *a, const lb_doutput *b) {
    return same_arg(a->y, b->y) && !a->sum && !b->sum && !a->act && !b->act;
}

bool lb_drun_join(lb_drun *r, const lb_drun *next) {
    const lb_dproduct *a = &r->p, *b = &next->p;
    return r->use == next->use && (r->use == LB_DEV_MT || r->use == LB_DEV_MV) && a->n == b->n &&
           a->stride == b->stride && same_input(&a->in, &b->in) && same_output(&a->out, &b->out) &&
           next->first == r->first + r->m.args.n_rows && lb_dmat_join(&r->m, &next->m);
}

bool lb_dlinears_join(const lb_dlinear *const *l, u32 n, lb_dmat *out) {
    bool any = false;
    for (u32 i = 0; i < n; i++) {
        if (l[i]->bias.buf)
            return false;
        for (u32 k = 0; k < l[i]->n_parts; k++) {
            if (any && !lb_dmat_join(out, &l[i]->parts[k]))
                return false;
            if (!any)
                *out = l[i]->parts[k];
            any = true;
        }
    }
    return any;
}

/* Plans and tiles are made of all experts, whichever are wanted: fewer rows of each than these are
 * made one by one sooner, of codes of less than 8 bits more than of others (docs/perf/LOG.md). */
#define ROWS_PLANNED 5u
#define ROWS_PLANNED_NARROW 8u

static u32 rows_planned(const lb_dmat *m) {
    u64 bytes[LB_DMAT_PIECES];
    const u64 values = (u64)m->args.n_mats * m->args.n_rows * m->args.n_cols;
    return lb_dmat_bytes(m, bytes) && bytes[0] < values ? ROWS_PLANNED_NARROW : ROWS_PLANNED;
}

bool lb_dmat_by_rows(const lb_context *c, const lb_dmat *m, u32 n_rows) {
    return lb_dmat_has(c, m, LB_DEV_MTE) && n_rows < (u64)rows_planned(m) * m->args.n_mats;
}

bool lb_dmat_has(const lb_context *c, const lb_dmat *m, lb_dev_use few) {
    return m->kernel[few] != m->kernel[few == LB_DEV_MT ? LB_DEV_MV : LB_DEV_MVE] &&
           lb_dev_has(c->device->r->d, m->kernel[few]);
}
