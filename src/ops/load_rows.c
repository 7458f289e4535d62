/* SPDX-License-Identifier: Apache-2.0 */
/* load_rows.c: stored rows that an expression only picks and orders, as a matrix over the mapped
 * file. */
#include "base/os.h"
#include "io/cur.h"
#include "ops/load_internal.h"
#include "plan/plan.h"

/* ---- maps ---- */

static lb_status map_file(const lb_file *f, lb_mapped *out, lb_err *err) {
    lb_fstat st;
    int fd;
    LB_TRY(lb_os_open_read(f->path, &fd, err));
    lb_status status = lb_os_fstat(fd, f->path, &st, err);
    if (status == LB_OK && (st.size_bytes != f->size_bytes || st.ino != f->ino))
        status = lb_fail(err, LB_E_IO, "%s was changed while it was in use", f->path);
    if (status != LB_OK) {
        lb_os_close(&fd);
        return status;
    }
    return lb_mapped_open(out, fd, f->path, f->size_bytes, err);
}

lb_status lb_maps_get(lb_maps *m, const lb_source *s, u32 file, const u8 **out, lb_err *err) {
    for (u64 i = 0; i < m->n; i++)
        if (m->list[i].source == s && m->list[i].file == file) {
            *out = m->list[i].map.base;
            return LB_OK;
        }
    if (m->n == m->cap) {
        u64 cap = m->cap ? 2 * m->cap : 8;
        void *list = lb_realloc(m->list, cap * sizeof *m->list);
        if (!list)
            return lb_fail(err, LB_E_NOMEM, "out of memory for the list of files");
        m->list = list;
        m->cap = cap;
    }
    struct lb_map_of x = {.source = s, .file = file};
    LB_TRY(map_file(&s->files[file], &x.map, err));
    if (m->n >= lb_os_max_open_files() / 2)
        lb_os_close(&x.map.fd); /* hints then go by the addresses */
    m->list[m->n++] = x;
    *out = x.map.base;
    return LB_OK;
}

void lb_maps_deinit(lb_maps *m) {
    for (u64 i = 0; i < m->n; i++)
        lb_mapped_close(&m->list[i].map);
    lb_free(m->list);
    *m = (lb_maps){0};
}

/* ---- matrices of weights ---- */

typedef struct part {
    const lb_tensor *t;
    const u8 *ptr;
} part;

static lb_status part_of(lb_maps *maps, const lb_source *s, const lb_weight *w, u32 i, part *out,
                         lb_err *err) {
    *out = (part){0};
    if (i >= w->n_parts)
        return LB_OK;
    out->t = &s->tensors[w->part[i]];
    LB_TRY(lb_maps_get(maps, s, out->t->file, &out->ptr, err));
    out->ptr += out->t->off_bytes;
    return LB_OK;
}

static bool is_plain_scale(lb_dtype t) {
    return t == LB_F32 || t == LB_F16 || t == LB_BF16;
}

/* One number beside the scales; false: there are several. */
static bool one_factor(const part *p, float *out) {
    *out = 1;
    if (!p->t)
        return true;
    if (p->t->n_elems != 1 || p->t->dtype != LB_F32)
        return false;
    memcpy(out, p->ptr, sizeof *out);
    return true;
}

static bool plain_mat(lb_mat *m, const part *p) {
    const lb_dtype_info *d = lb_dtype_get(p->t->dtype);
    m->dtype = p->t->dtype;
    return p->t->lies == LB_LIES_DENSE && (d->cls == LB_CLASS_FLOAT || d->cls == LB_CLASS_BLOCK) &&
           lb_dtype_bytes(m->dtype, m->n_cols, &m->row_bytes);
}

static bool mlx_mat(lb_mat *m, const lb_enc *e, const part *p) {
    if (!e->group_size || m->n_cols % e->group_size || (m->n_cols * e->bits) % 8)
        return false;
    u64 groups = m->n_cols / e->group_size;
    m->bits = e->bits;
    m->group = e->group_size;
    m->row_bytes = m->n_cols * e->bits / 8;
    m->scale = p[1].ptr;
    m->scale_dtype = p[1].t->dtype;
    if (m->kind == LB_ENC_MLX_AFFINE) {
        m->bias = p[2].ptr;
        if (!is_plain_scale(m->scale_dtype) || p[2].t->dtype != m->scale_dtype)
            return false;
    }
    return lb_dtype_bytes(m->scale_dtype, groups, &m->scale_bytes);
}

static bool fp8_mat(lb_mat *m, const lb_enc *e, const part *p) {
    u64 per = e->group_size ? (m->n_cols + e->group_size - 1) / e->group_size : 1;
    m->dtype = p[0].t->dtype;
    m->group = e->group_size;
    m->block_rows = e->block_rows;
    m->row_bytes = m->n_cols;
    m->scale = p[1].ptr;
    m->scale_dtype = p[1].t->dtype;
    return e->rounded == LB_F32 && m->dtype == LB_F8_E4M3 && is_plain_scale(m->scale_dtype) &&
           p[0].t->shape.rank == 2 && lb_dtype_bytes(m->scale_dtype, per, &m->scale_bytes);
}

/* All of a weight; false: no kernel reads it so. */
static lb_status whole(lb_maps *maps, const lb_source *s, const lb_node *read, lb_mat *m, bool *is,
                       lb_err *err) {
    const lb_weight *w = read->u.read.weight;
    const lb_enc *e = &w->enc;
    part p[3];
    *is = false;
    *m = (lb_mat){.kind = (u8)e->kind,
                  .times = 1,
                  .scale_dtype = LB_F32,
                  .n_rows = read->n_rows,
                  .n_cols = read->n_cols};
    for (u32 i = 0; i < 3; i++)
        LB_TRY(part_of(maps, s, w, i, &p[i], err));
    m->codes = p[0].ptr;
    switch (e->kind) {
    case LB_ENC_PLAIN:
        *is = plain_mat(m, &p[0]);
        break;
    case LB_ENC_GGUF_SCALED:
        m->kind = LB_ENC_PLAIN;
        *is = plain_mat(m, &p[0]) && one_factor(&p[1], &m->times);
        break;
    case LB_ENC_MLX_AFFINE:
    case LB_ENC_MLX_MXFP4:
    case LB_ENC_MLX_MXFP8:
        *is = mlx_mat(m, e, p);
        break;
    case LB_ENC_MLX_NVFP4:
        *is = mlx_mat(m, e, p) && one_factor(&p[2], &m->times);
        break;
    case LB_ENC_FP8:
        *is = fp8_mat(m, e, p);
        break;
    default:
        break;
    }
    return LB_OK;
}

/* Rows from, from + step... of it. */
static bool pick(lb_mat *m, u64 from, u64 step, u64 n) {
    bool blocks = m->kind == LB_ENC_FP8 && m->block_rows != 1 && m->block_rows;
    if (blocks && (step != 1 || from % m->block_rows))
        return false;
    *m = lb_mat_part(m, from, n);
    m->row_bytes *= step;
    m->scale_bytes *= m->block_rows == 0 && m->kind == LB_ENC_FP8 ? 1 : step;
    return true;
}

lb_status lb_load_rows(lb_maps *maps, const lb_graph *g, lb_node_id node, lb_mat *out, bool *is,
                       lb_err *err) {
    const lb_node *n = lb_graph_node(g, node);
    *is = false;
    if (n->kind == LB_NODE_DECODE)
        return lb_load_rows(maps, g, n->in[0], out, is, err);
    if (n->kind == LB_NODE_READ) {
        const lb_source *s = g->sources[n->u.read.source];
        return s->computed || s->making ? LB_OK : whole(maps, s, n, out, is, err);
    }
    if (n->kind != LB_NODE_INDEX || n->op != LB_INDEX_ROWS)
        return LB_OK;
    LB_TRY(lb_load_rows(maps, g, n->in[0], out, is, err));
    *is = *is && pick(out, n->u.index.from, n->u.index.step, n->n_rows);
    return LB_OK;
}

lb_node_id lb_load_unturned(const lb_graph *g, lb_node_id node, bool *turned) {
    const lb_node *n = lb_graph_node(g, node);
    if (n->kind == LB_NODE_INDEX && n->op == LB_INDEX_HEADS) {
        *turned = true;
        return n->in[0];
    }
    return node;
}
