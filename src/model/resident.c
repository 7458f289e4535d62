/* SPDX-License-Identifier: Apache-2.0 */
/* resident.c: see resident.h. All weights are gone through twice: once to see what cannot be done
 * and to count bytes, once to copy. */
#include "base/interrupt.h"
#include "base/mem.h"
#include "io/size.h"
#include "model/device_parts.h"
#include "model/device_rows.h"
#include "model/windows.h"
#include <stdio.h>

#define CHUNK_BYTES                                                               \
    (256 * LB_MIB) /* copies share buffers of this size: one for each wastes more \
                    */
#define PIECE_ALIGN 256u

typedef struct upload {
    lb_resident *r;
    bool dry;
    lb_windows *windows; /* NULL: the device's memory is the host's */
    bool copies;         /* nothing is read where it is mapped */
    lb_dev_buf *chunk;
    u64 chunk_at, left; /* bytes that are still to come */
    /* where matrices go that shall lie behind one another: rows, scales, biases; bytes left */
    lb_dev_arg shared[LB_DMAT_PIECES];
    u64 shared_left[LB_DMAT_PIECES];
    lb_err *err;
} upload;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a model on a device");
}

/* ---- bytes ---- */

/* It is freed with the model. */
static lb_status keep(upload *u, lb_dev_buf *b) {
    lb_resident *r = u->r;
    if (r->n_bufs == r->cap_bufs) {
        const u32 cap = LB_MAX(64u, 2 * r->cap_bufs);
        lb_dev_buf **more = lb_realloc(r->bufs, cap * sizeof *more);
        if (!more) {
            lb_dev_buf_free(&b);
            return no_memory(u->err);
        }
        r->bufs = more;
        r->cap_bufs = cap;
    }
    r->bufs[r->n_bufs++] = b;
    return LB_OK;
}

/* Room for a piece on the device. */
static lb_status place(upload *u, u64 bytes, lb_dev_arg *out) {
    const u64 room = lb_round_up(bytes, PIECE_ALIGN);
    if (u->dry) {
        u->r->bytes += room;
        return LB_OK;
    }
    if (room >= CHUNK_BYTES / 8) { /* by itself: else chunks would end with as much that is lost */
        LB_TRY(lb_dev_buf_new(u->r->d, LB_DEV_OWN, room, &out->buf, u->err));
        out->off_bytes = 0;
        u->left -= LB_MIN(room, u->left);
        return keep(u, out->buf);
    }
    if (!u->chunk || room > lb_dev_buf_bytes(u->chunk) - u->chunk_at) {
        const u64 size = LB_MAX(room, LB_MIN(CHUNK_BYTES, u->left));
        LB_TRY(lb_dev_buf_new(u->r->d, LB_DEV_OWN, size, &u->chunk, u->err));
        LB_TRY(keep(u, u->chunk));
        u->chunk_at = 0;
    }
    *out = (lb_dev_arg){u->chunk, u->chunk_at};
    u->chunk_at += room;
    u->left -= LB_MIN(room, u->left);
    return LB_OK;
}

static lb_status put(upload *u, const lb_rows *rs, lb_dev_arg to) {
    lb_dev_queue *q = u->r->q;
    if (u->windows)
        return lb_windows_put(u->windows, to, rs, u->err);
    if (rs->stride == rs->bytes)
        return lb_dev_queue_write(q, to.buf, to.off_bytes, rs->base, rs->n * rs->bytes, u->err);
    for (u64 i = 0; i < rs->n; i++)
        LB_TRY(lb_dev_queue_write(q, to.buf, to.off_bytes + i * rs->bytes,
                                  rs->base + i * rs->stride, rs->bytes, u->err));
    return LB_OK;
}

/* What was put is there. */
static lb_status settle(upload *u) {
    if (u->windows)
        LB_TRY(lb_windows_end(u->windows, u->err));
    return lb_dev_queue_wait(u->r->q, u->err);
}

/* Whether a kernel can read them where they are: n pieces that follow each other. */
static bool in_place(const upload *u, const lb_rows *piece, u32 n) {
    const lb_dev_info *d = lb_dev_info_get(u->r->d);
    bool ok =
        !u->copies && d->unified && d->maps_files && (uintptr_t)piece->base % LB_DEV_ALIGN == 0;
    for (u32 i = 0; i < n && ok; i++)
        ok = piece[i].stride == piece[i].bytes &&
             (i == 0 || piece[i].base == piece[i - 1].base + piece[i - 1].n * piece[i - 1].bytes);
    return ok;
}

/* A place of a matrix: in the room that it shares with others, or its own. */
static lb_status place_mat(upload *u, u32 which, u64 bytes, lb_dev_arg *out) {
    if (bytes > u->shared_left[which])
        return place(u, bytes, out);
    *out = u->shared[which];
    u->shared[which].off_bytes += bytes;
    u->shared_left[which] -= bytes;
    return LB_OK;
}

/* n pieces of the same size, one after the other: which of a matrix's. */
static lb_status take(upload *u, u32 which, const lb_rows *piece, u32 n, lb_dev_arg *out) {
    const u64 bytes = piece->n * piece->bytes;
    if (n * bytes > u->shared_left[which] && in_place(u, piece, n)) {
        out->off_bytes = 0;
        if (u->dry)
            return LB_OK;
        LB_TRY(lb_dev_buf_map(u->r->d, piece->base, n * bytes, &out->buf, u->err));
        return keep(u, out->buf);
    }
    LB_TRY(place_mat(u, which, n * bytes, out));
    for (u32 i = 0; i < n && !u->dry; i++) {
        LB_TRY(lb_interrupt_check(u->err));
        LB_TRY(put(u, &piece[i], (lb_dev_arg){out->buf, out->off_bytes + i * bytes}));
    }
    return LB_OK;
}

static lb_status vector(upload *u, const float *x, u64 n, lb_dev_arg *out) {
    if (!x)
        return LB_OK;
    const lb_rows r = {(const u8 *)x, 1, n * sizeof(float), n * sizeof(float)};
    LB_TRY(place(u, r.bytes, out));
    return u->dry ? LB_OK : put(u, &r, *out);
}

/* ---- matrices ---- */

static lb_status refuse(const upload *u, lb_str name, const char *why) {
    return lb_fail(u->err, LB_E_UNSUPPORTED, "tensor '%.*s': %s: the model cannot be run on %s",
                   LB_FMT(name), why, lb_dev_info_get(u->r->d)->id);
}

static lb_status refuse_type(const upload *u, lb_str name, const lb_mat *m) {
    char why[96];
    if (m->kind == LB_ENC_MLX_AFFINE)
        (void)snprintf(why, sizeof why, "no kernel for MLX's %u bits", m->bits);
    else if (m->kind == LB_ENC_PLAIN)
        (void)snprintf(why, sizeof why, "no kernel for %s", lb_dtype_get(m->dtype)->name);
    else
        (void)snprintf(why, sizeof why, "no kernel for values with scales of their own (%s)",
                       m->kind == LB_ENC_MLX_MXFP4   ? "mxfp4"
                       : m->kind == LB_ENC_MLX_MXFP8 ? "mxfp8"
                       : m->kind == LB_ENC_MLX_NVFP4 ? "nvfp4"
                                                     : "fp8");
    return refuse(u, name, why);
}

/* Of scales; the number of bytes of one. */
static u32 scale_type(const lb_mat *m, u32 *out) {
    if (m->kind == LB_ENC_MLX_MXFP4 || m->kind == LB_ENC_MLX_MXFP8 || m->kind == LB_ENC_MLX_NVFP4) {
        *out = m->kind == LB_ENC_MLX_NVFP4 ? LB_DEV_E4M3 : LB_DEV_E8M0;
        return 1;
    }
    *out = m->scale_dtype == LB_F32   ? LB_DEV_F32
           : m->scale_dtype == LB_F16 ? LB_DEV_F16
                                      : LB_DEV_BF16;
    return m->scale_dtype == LB_F32                                ? 4
           : m->scale_dtype == LB_F16 || m->scale_dtype == LB_BF16 ? 2
                                                                   : 0;
}

static bool same_form(const lb_mat *a, const lb_mat *b) {
    return a->kind == b->kind && a->dtype == b->dtype && a->bits == b->bits &&
           a->group == b->group && a->block_rows == b->block_rows &&
           a->scale_dtype == b->scale_dtype && a->n_rows == b->n_rows && a->n_cols == b->n_cols &&
           !(a->times < b->times || a->times > b->times);
}

static u32 code_bits(const lb_mat *m) {
    return m->kind == LB_ENC_MLX_AFFINE                                 ? m->bits
           : m->kind == LB_ENC_MLX_MXFP4 || m->kind == LB_ENC_MLX_NVFP4 ? 4
                                                                        : 8;
}

/* The kernel of few tokens, where the device has one that takes the shape. */
static void choose_few(const upload *u, const lb_mat *m, u32 n, lb_dmat *out) {
    const u32 type = out->form == LB_DEV_BLOCKS ? (u32)m->dtype : code_bits(m);
    lb_mv_args a = out->args;
    lb_dev_shape shape;
    lb_err why;
    lb_dev_kernel k;
    const lb_dev_use use = n == 1 ? LB_DEV_MT : LB_DEV_MTE;
    out->kernel[LB_DEV_MT] = out->kernel[LB_DEV_MV];
    out->kernel[LB_DEV_MTE] = out->kernel[LB_DEV_MVE];
    if (!lb_dev_kernel_of(use, out->form, type, &k) || !lb_dev_has(u->r->d, k))
        return;
    a.per_x = 1;
    lb_dev_mt_share(lb_dev_info_get(u->r->d), k, false, &a);
    if (lb_dev_kernel_shape(k, &a, &shape, &why) == LB_OK)
        out->kernel[use] = k;
}

/* The kernels of a form, and the values that they have. */
static lb_status describe(const upload *u, lb_str name, const lb_mat *m, u32 n, lb_dmat *out) {
    lb_dev_shape shape;
    lb_err why = {0};
    *out = (lb_dmat){.form = m->kind == LB_ENC_PLAIN        ? LB_DEV_BLOCKS
                             : m->kind == LB_ENC_MLX_AFFINE ? LB_DEV_AFFINE
                                                            : LB_DEV_SCALED,
                     .args = {.n_rows = (u32)m->n_rows,
                              .n_cols = (u32)m->n_cols,
                              .n_tokens = 1,
                              .n_mats = n,
                              .simdgroups = 1, /* until a batch shares rows otherwise */
                              .split = 1,
                              .times = m->times}};
    if (out->form != LB_DEV_BLOCKS) {
        out->args.group_elems = m->group ? m->group : (u32)lb_round_up(m->n_cols, 32);
        out->args.scale_rows = m->kind != LB_ENC_FP8 ? 1
                               : m->block_rows       ? m->block_rows
                                                     : (u32)m->n_rows;
        if (!scale_type(m, &out->args.scale_type) || !m->scale ||
            (out->form == LB_DEV_AFFINE && !m->bias))
            return refuse_type(u, name, m);
    }
    for (u32 use = LB_DEV_MV; use <= LB_DEV_ROWS; use++)
        if (!lb_dev_kernel_of((lb_dev_use)use, out->form,
                              out->form == LB_DEV_BLOCKS ? (u32)m->dtype : code_bits(m),
                              &out->kernel[use]))
            return refuse_type(u, name, m);
    if (lb_dev_kernel_shape(out->kernel[n > 1 ? LB_DEV_MVE : LB_DEV_MV], &out->args, &shape,
                            &why) != LB_OK ||
        lb_dev_kernel_shape(out->kernel[LB_DEV_MM], &out->args, &shape, &why) != LB_OK)
        return refuse(u, name, why.msg);
    choose_few(u, m, n, out);
    return LB_OK;
}

/* n matrices of one form. */
static lb_status matrix(upload *u, lb_str name, const lb_mat *m, u32 n, lb_dmat *out) {
    lb_rows *piece = lb_alloc_zero(n, sizeof *piece);
    u64 bytes = 0;
    if (!piece)
        return no_memory(u->err);
    lb_status st = describe(u, name, m, n, out);
    for (u32 i = 1; i < n && st == LB_OK; i++)
        if (!same_form(m, &m[i]))
            st = refuse(u, name, "experts of several types");
    if (st == LB_OK && out->form == LB_DEV_BLOCKS && !lb_dtype_bytes(m->dtype, m->n_cols, &bytes))
        st = refuse_type(u, name, m);
    if (out->form != LB_DEV_BLOCKS)
        bytes = m->n_cols / 8 * code_bits(m);
    for (u32 i = 0; i < n; i++)
        piece[i] = (lb_rows){m[i].codes, m[i].n_rows, bytes, m[i].row_bytes};
    if (st == LB_OK)
        st = take(u, 0, piece, n, &out->w);
    for (u32 b = 0; b < (u32)(out->form == LB_DEV_BLOCKS   ? 0
                              : out->form == LB_DEV_AFFINE ? 2
                                                           : 1) &&
                    st == LB_OK;
         b++) {
        const lb_mv_args *a = &out->args;
        bytes = lb_ceil_div_u64(m->n_cols, a->group_elems) * scale_type(m, &(u32){0});
        for (u32 i = 0; i < n; i++)
            piece[i] =
                (lb_rows){b ? m[i].bias : m[i].scale, lb_ceil_div_u64(m[i].n_rows, a->scale_rows),
                          bytes, m[i].scale_bytes};
        st = take(u, 1 + b, piece, n, b ? &out->biases : &out->scales);
    }
    lb_free(piece);
    return st;
}

/* What a rank has of a matrix: rows of some spans, or columns of one; n_spans 0: all. */
typedef struct cut {
    bool cols;
    u32 n_spans;
    lb_span span[3];
} cut;

/* The pieces of w that a cut leaves, to out (NULL: they are counted). */
static u32 cut_pieces(const lb_mweight *w, const cut *how, lb_mat *out) {
    u32 n = 0;
    for (u32 i = 0; how->cols && i < w->n_mats; i++, n++)
        if (out)
            out[n] = lb_mat_cols(&w->mats[i], how->span[0]);
    for (u32 s = 0; !how->cols && s < how->n_spans; s++) {
        const u64 from = how->span[s].from, end = from + how->span[s].n;
        u64 at = 0;
        for (u32 i = 0; i < w->n_mats; at += w->mats[i++].n_rows) {
            const u64 a = LB_MAX(from, at), b = LB_MIN(end, at + w->mats[i].n_rows);
            if (a >= b)
                continue;
            if (out)
                out[n] = lb_mat_part(&w->mats[i], a - at, b - a);
            n++;
        }
    }
    return n;
}

/* A bias goes with its rows; beside columns the first rank has it. */
static lb_status cut_bias(upload *u, const float *bias, const cut *how, lb_dlinear *out) {
    float *x = bias && !how->cols ? lb_arena_new(&u->r->perm, float, out->n_rows) : NULL;
    u64 n = 0;
    if (!bias || (how->cols && u->r->rank))
        return LB_OK;
    if (how->cols)
        return vector(u, bias, out->n_rows, &out->bias);
    if (!x)
        return no_memory(u->err);
    for (u32 s = 0; s < how->n_spans; s++) {
        memcpy(x + n, bias + how->span[s].from, how->span[s].n * sizeof *x);
        n += how->span[s].n;
    }
    return vector(u, x, n, &out->bias);
}

static lb_status linear_cut(upload *u, const lb_linear *l, const cut *how, lb_dlinear *out) {
    const lb_mweight *w = l->w;
    if (!w)
        return LB_OK;
    const u32 n = cut_pieces(w, how, NULL);
    lb_dmat *parts = lb_arena_new(&u->r->perm, lb_dmat, n);
    lb_mat *mats = lb_arena_new(&u->r->perm, lb_mat, n);
    u64 rows = how->cols ? w->n_rows : 0;
    if (!parts || !mats)
        return no_memory(u->err);
    LB_ASSERT(w->n_stack == 1);
    (void)cut_pieces(w, how, mats);
    for (u32 i = 0; i < n; i++)
        LB_TRY(matrix(u, w->name, &mats[i], 1, &parts[i]));
    for (u32 s = 0; !how->cols && s < how->n_spans; s++)
        rows += how->span[s].n;
    *out = (lb_dlinear){.parts = parts,
                        .n_parts = n,
                        .n_rows = (u32)rows,
                        .n_cols = (u32)(how->cols ? how->span[0].n : w->n_cols),
                        .n_mats = 1};
    return cut_bias(u, l->bias, how, out);
}

static lb_status linear(upload *u, const lb_linear *l, lb_dlinear *out) {
    const lb_mweight *w = l->w;
    if (!w)
        return LB_OK;
    const u32 stack = (u32)w->n_stack, n = w->n_mats / stack;
    lb_dmat *parts = lb_arena_new(&u->r->perm, lb_dmat, n);
    if (!parts)
        return no_memory(u->err);
    if (stack > 1 && n > 1)
        return refuse(u, w->name, "experts whose rows lie in several places");
    if (stack > 1)
        LB_TRY(matrix(u, w->name, w->mats, stack, parts));
    for (u32 i = 0; stack == 1 && i < n; i++)
        LB_TRY(matrix(u, w->name, &w->mats[i], 1, &parts[i]));
    *out = (lb_dlinear){.parts = parts,
                        .n_parts = n,
                        .n_rows = (u32)(w->n_rows / w->n_stack),
                        .n_cols = (u32)w->n_cols,
                        .n_mats = stack};
    return vector(u, l->bias, w->n_rows, &out->bias);
}

/* A table whose rows are looked up. */
static lb_status table(upload *u, const lb_mweight *w, lb_dmat *out) {
    if (w->n_mats != 1)
        return refuse(u, w->name, "rows that lie in several places");
    return matrix(u, w->name, w->mats, 1, out);
}

static lb_status norm(upload *u, const lb_norm *n, lb_dnorm *out) {
    *out = (lb_dnorm){.n = n->n, .n_heads = n->n_heads, .eps = n->eps};
    if (!n->n)
        return LB_OK;
    out->w = u->r->ones;
    out->b = u->r->zeros;
    LB_TRY(vector(u, n->w, (u64)n->n * LB_MAX(n->n_heads, 1u), &out->w));
    return vector(u, n->b, n->n, &out->b);
}

/* ---- layers ---- */

static const struct {
    size_t from, to;
} linears[] =
    {
#define LINEAR(x) \
    { offsetof(lb_layer, x), offsetof(lb_dlayer, x) }
        LINEAR(qkv),         LINEAR(q),         LINEAR(k),
        LINEAR(v),           LINEAR(o),         LINEAR(gate),
        LINEAR(up),          LINEAR(down),      LINEAR(router),
        LINEAR(gate_exps),   LINEAR(up_exps),   LINEAR(down_exps),
        LINEAR(in_gate),     LINEAR(in_proj),   LINEAR(shared_router),
        LINEAR(gate_shared), LINEAR(up_shared), LINEAR(down_shared),
        LINEAR(q_a),         LINEAR(q_b),       LINEAR(kv_a),
        LINEAR(kv_b),        LINEAR(k_b),       LINEAR(v_b),
        LINEAR(in),          LINEAR(gate_z),    LINEAR(ba),
        LINEAR(beta),        LINEAR(alpha),     LINEAR(out),
#undef LINEAR
},
  norms[] = {
#define NORM(x) \
    { offsetof(lb_layer, x), offsetof(lb_dlayer, x) }
      NORM(attn_norm), NORM(attn_post_norm), NORM(ffn_norm), NORM(dense_post_norm),
      NORM(exps_norm), NORM(exps_post_norm), NORM(in_norm),  NORM(ffn_post_norm),
      NORM(q_norm),    NORM(k_norm),         NORM(q_a_norm), NORM(kv_a_norm),
      NORM(ssm_norm),
#undef NORM
};

static lb_status recurrent(upload *u, u32 i) {
    const lb_params *p = &u->r->m->p;
    const lb_layer *l = &u->r->m->layer[i];
    lb_dlayer *to = &u->r->layer[i];
    const u64 inner = p->ssm_inner + 2ull * p->ssm_groups * p->ssm_state;
    const u64 channels = l->mixer == LB_MIX_DELTA ? inner : p->n_embd;
    to->conv_bias = u->r->zeros;
    LB_TRY(vector(u, l->conv, channels * p->conv_width, &to->conv));
    LB_TRY(vector(u, l->conv_bias, channels, &to->conv_bias));
    LB_TRY(vector(u, l->ssm_a, p->ssm_heads, &to->ssm_a));
    return vector(u, l->ssm_dt, p->ssm_heads, &to->ssm_dt);
}

/* A rank's share of heads, behind first rows. */
static lb_span head_span(const lb_resident *r, u64 first, u32 n_heads, u32 dim) {
    const lb_span s = lb_span_of_rank((u64)n_heads * dim, dim, r->rank, r->n_ranks);
    return (lb_span){first + s.from, s.n};
}

/* Of the linear at `from` in layer i; none where all ranks have all of it. */
static cut cut_of(const lb_resident *r, u32 i, size_t from) {
    const lb_layer *l = &r->m->layer[i];
    const lb_layer_params *p = &r->m->p.layer[i];
    const u64 q = (u64)p->n_head * p->k_dim, k = (u64)p->n_head_kv * p->k_dim;
    const lb_span heads = head_span(r, 0, p->n_head, p->k_dim);
    const lb_span keys = head_span(r, 0, p->n_head_kv, p->k_dim);
    const u64 ff = l->down.w ? l->down.w->n_cols : 0;
    const lb_span part = lb_span_of_rank(ff, lb_ff_unit(l), r->rank, r->n_ranks);
    switch (from) {
    case offsetof(lb_layer, qkv):
        return (cut){.n_spans = 3,
                     .span = {heads, head_span(r, q, p->n_head_kv, p->k_dim),
                              head_span(r, q + k, p->n_head_kv, p->v_dim)}};
    case offsetof(lb_layer, q):
        return (cut){.n_spans = 1, .span = {heads}};
    case offsetof(lb_layer, k):
        return (cut){.n_spans = 1, .span = {keys}};
    case offsetof(lb_layer, v):
        return (cut){.n_spans = 1, .span = {head_span(r, 0, p->n_head_kv, p->v_dim)}};
    case offsetof(lb_layer, o):
        return (cut){.cols = true, .n_spans = 1, .span = {head_span(r, 0, p->n_head, p->v_dim)}};
    case offsetof(lb_layer, gate):
        return (cut){.n_spans = 1, .span = {part}};
    case offsetof(lb_layer, up):
        return (cut){.n_spans = l->fused ? 2 : 1, .span = {part, {ff + part.from, part.n}}};
    case offsetof(lb_layer, down):
        return (cut){.cols = true, .n_spans = 1, .span = {part}};
    default:
        return (cut){0};
    }
}

/* Where sessions add up what it reads. */
static void place_sums(lb_resident *r, const lb_mweight *w, lb_dlinear *l) {
    if (r->n_ranks > 1 || !l->parts)
        return;
    l->w = w;
    l->sums_at = r->sums_bytes;
    r->sums_bytes += lb_dsums_bytes(l);
}

static lb_status layer_linear(upload *u, u32 i, u32 k) {
    const lb_linear *l =
        (const lb_linear *)(const void *)((const u8 *)&u->r->m->layer[i] + linears[k].from);
    lb_dlinear *to = (lb_dlinear *)(void *)((u8 *)&u->r->layer[i] + linears[k].to);
    const cut how = u->r->n_ranks > 1 ? cut_of(u->r, i, linears[k].from) : (cut){0};
    LB_TRY(how.n_spans ? linear_cut(u, l, &how, to) : linear(u, l, to));
    place_sums(u->r, l->w, to);
    return LB_OK;
}

lb_dlinear *lb_resident_linear(const lb_resident *r, u32 layer, u32 k) {
    return k < LB_LEN(linears) ? (lb_dlinear *)(void *)((u8 *)&r->layer[layer] + linears[k].to)
                               : NULL;
}

/* Room for the first of n linears of layer i, from k on, that are alike: products of few tokens
 * take them as one matrix, two stacks as pairs of rows. Not where rows stay in the host's memory
 * (the kernels as C are for tests), nor of what ranks cut. */
static lb_status share_room(upload *u, u32 i, u32 k, u32 n) {
    const lb_dev_info *d = lb_dev_info_get(u->r->d);
    u64 all[LB_DMAT_PIECES] = {0};
    lb_dmat first, next;
    u32 n_mats = 0;
    bool fits = u->r->n_ranks == 1 && (d->kind == LB_DEV_CPU || !(d->unified && d->maps_files));
    for (u32 j = k; j < k + n && fits; j++) {
        const lb_linear *l =
            (const lb_linear *)(const void *)((const u8 *)&u->r->m->layer[i] + linears[j].from);
        fits = l->w && (l->w->n_stack == 1 || l->w->n_mats == l->w->n_stack);
        for (u32 m = 0; fits && m < l->w->n_mats / l->w->n_stack; m++) {
            u64 bytes[LB_DMAT_PIECES];
            LB_TRY(describe(u, l->w->name, &l->w->mats[m], (u32)l->w->n_stack, &next));
            if (!n_mats)
                first = next;
            /* what lies behind begins where a kernel's arguments may */
            fits = lb_dmat_alike(&first, &next) && lb_dmat_bytes(&next, bytes) &&
                   (all[0] | all[1] | all[2]) % LB_DEV_ALIGN == 0;
            n_mats += fits;
            for (u32 b = 0; fits && b < LB_DMAT_PIECES; b++)
                all[b] += bytes[b];
        }
    }
    for (u32 b = 0; n_mats > 1 && b < LB_DMAT_PIECES; b++)
        if (all[b]) {
            LB_TRY(place(u, all[b], &u->shared[b]));
            u->shared_left[b] = all[b];
        }
    return LB_OK;
}

static lb_status layer(upload *u, u32 i) {
    const lb_layer *l = &u->r->m->layer[i];
    lb_dlayer *to = &u->r->layer[i];
    const u8 *from = (const u8 *)l;
    for (u32 k = 0; k < LB_LEN(linears); k++) {
        if (linears[k].from == offsetof(lb_layer, q))
            LB_TRY(share_room(u, i, k, 3)); /* k, v */
        if (linears[k].from == offsetof(lb_layer, gate))
            LB_TRY(share_room(u, i, k, 2)); /* up */
        if (linears[k].from == offsetof(lb_layer, gate_exps))
            LB_TRY(share_room(u, i, k, 2)); /* up_exps */
        LB_TRY(layer_linear(u, i, k));
    }
    for (u32 k = 0; k < LB_LEN(norms); k++)
        LB_TRY(norm(u, (const lb_norm *)(const void *)(from + norms[k].from),
                    (lb_dnorm *)(void *)((u8 *)to + norms[k].to)));
    LB_TRY(recurrent(u, i));
    const u32 n_head = u->r->m->p.layer[i].n_head / u->r->n_ranks;
    LB_TRY(vector(u, l->sinks ? l->sinks + (size_t)u->r->rank * n_head : NULL, n_head, &to->sinks));
    LB_TRY(vector(u, l->router_scale, u->r->m->p.n_embd, &to->router_scale));
    LB_TRY(vector(u, l->exps_scale, u->r->m->p.n_expert, &to->exps_scale));
    return vector(u, l->selection, u->r->m->p.n_expert, &to->selection);
}

/* Factors of norms without weights, terms of those without biases. */
static lb_status constants(upload *u) {
    lb_resident *r = u->r;
    float *x;
    r->n_ones = LB_MAX(r->m->p.n_embd, LB_MAX(r->m->max_attn, LB_DEV_HEAD_MAX));
    x = lb_alloc_zero(r->n_ones, sizeof *x);
    if (!x)
        return no_memory(u->err);
    lb_status st = vector(u, x, r->n_ones, &r->zeros);
    if (st == LB_OK)
        st = u->dry ? LB_OK : settle(u);
    for (u32 i = 0; i < r->n_ones; i++)
        x[i] = 1;
    if (st == LB_OK)
        st = vector(u, x, r->n_ones, &r->ones);
    if (st == LB_OK)
        st = u->dry ? LB_OK : settle(u);
    lb_free(x);
    return st;
}

static lb_status embeddings(upload *u) {
    lb_resident *r = u->r;
    const lb_model *m = r->m;
    LB_TRY(table(u, m->embd, &r->embd));
    if (m->positions)
        LB_TRY(table(u, m->positions, &r->positions));
    if (m->layer_embd) {
        LB_TRY(table(u, m->layer_embd, &r->layer_embd));
        LB_TRY(linear(u, &m->layer_in_proj, &r->layer_in_proj));
        LB_TRY(norm(u, &m->layer_in_norm, &r->layer_in_norm));
    }
    return norm(u, &m->embd_norm, &r->embd_norm);
}

static lb_status output(upload *u) {
    lb_resident *r = u->r;
    const lb_model *m = r->m;
    LB_TRY(norm(u, &m->output_norm, &r->output_norm));
    if (m->output.w != m->embd) {
        LB_TRY(linear(u, &m->output, &r->output));
        place_sums(r, m->output.w, &r->output);
        return LB_OK;
    }
    if (!r->embeds)
        LB_TRY(table(u, m->embd, &r->embd));
    r->output = (lb_dlinear){.parts = &r->embd,
                             .n_parts = 1,
                             .n_rows = m->p.n_vocab,
                             .n_cols = m->p.n_embd,
                             .n_mats = 1};
    place_sums(r, m->embd, &r->output);
    return vector(u, m->output.bias, m->p.n_vocab, &r->output.bias);
}

static lb_status all(upload *u) {
    lb_resident *r = u->r;
    r->sums_bytes = 0;
    LB_TRY(constants(u));
    if (r->embeds)
        LB_TRY(embeddings(u));
    for (u32 i = r->first; i < r->end; i++)
        LB_TRY(layer(u, i));
    return r->ends ? output(u) : LB_OK;
}

/* ---- what the device's graph has no steps for ---- */

static const char *layer_lacks(const lb_model *m, u32 i) {
    const lb_layer *l = &m->layer[i];
    const lb_layer_params *p = &m->p.layer[i];
    const bool latent = l->mixer == LB_MIX_LATENT;
    if (l->mixer == LB_MIX_DELTA && m->p.ssm_state > LB_DEV_STATE_KEYS_MAX)
        return "a delta net with keys of more than 256 elements";
    if (l->mixer == LB_MIX_DELTA || l->mixer == LB_MIX_CONV)
        return NULL;
    if (latent && (p->k_dim > LB_DEV_WIDE_MAX || p->v_dim > LB_DEV_WIDE_MAX))
        return "latent attention with keys of more than 640 elements";
    if (latent && p->n_head != m->p.layer[0].n_head)
        return "latent attention with another number of heads than the first layer";
    if (l->exps_norm.n && l->parallel)
        return "experts beside a dense feed-forward, beside attention";
    if (!latent && (p->k_dim > LB_DEV_HEAD_MAX || p->v_dim > LB_DEV_HEAD_MAX))
        return "heads of more than 512 elements";
    if (l->up_exps.w && (m->p.n_expert > LB_DEV_EXPERTS_MAX || m->p.n_group > LB_DEV_GROUPS_MAX))
        return "more than 1024 experts";
    return NULL;
}

static lb_status check(const lb_resident *r, lb_err *err) {
    const lb_model *m = r->m;
    const char *id = lb_dev_info_get(r->d)->id;
    if (m->p.n_embd % 4)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "vectors of %u elements, no multiple of 4, cannot be computed on %s",
                       m->p.n_embd, id);
    for (u32 i = r->first; i < r->end; i++) {
        const char *what = layer_lacks(m, i);
        if (what)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "layer %u has %s, which cannot be run on %s: use --device cpu", i, what,
                           id);
    }
    return LB_OK;
}

static lb_status fits(const lb_resident *r, lb_err *err) {
    const lb_dev_info *d = lb_dev_info_get(r->d);
    char want[LB_SIZE_TEXT], free_text[LB_SIZE_TEXT];
    if (!d->free_bytes || r->bytes <= d->free_bytes)
        return LB_OK;
    return lb_fail(err, LB_E_NOMEM,
                   "%s: weights of %s do not fit its free memory of %s: use fewer bits (--type) or "
                   "--device cpu",
                   d->id, lb_size_text(r->bytes, want), lb_size_text(d->free_bytes, free_text));
}

static lb_status begin(lb_resident *r, lb_err *err) {
    r->layer = lb_arena_new(&r->perm, lb_dlayer, r->m->p.n_layers);
    if (!r->layer)
        return no_memory(err);
    LB_TRY(lb_dev_queue_new(r->d, &r->q, err));
    return check(r, err);
}

/* Pinned memory is the system's again when the windows are gone. */
static lb_status copy_all(lb_resident *r, const lb_part_in *in, lb_err *err) {
    upload u = {.r = r, .left = r->bytes, .err = err};
    const lb_resident_opts *o = in->opts;
    if (!lb_dev_info_get(r->d)->unified)
        LB_TRY(lb_windows_new(&u.windows,
                              &(lb_windows_in){.d = r->d,
                                               .threads = o ? o->session.threads : 1,
                                               .bytes = r->bytes,
                                               .done = in->done,
                                               .total = in->total,
                                               .progress = o ? o->progress : NULL,
                                               .user = o ? o->progress_user : NULL},
                              err));
    lb_status st = all(&u);
    if (st == LB_OK)
        st = settle(&u);
    lb_windows_free(&u.windows);
    lb_dev_pool_trim(r->d);
    return st;
}

static lb_status run(lb_resident *r, const lb_part_in *in, lb_err *err) {
    upload u = {.r = r, .dry = true, .err = err};
    LB_TRY(begin(r, err));
    LB_TRY(all(&u));
    LB_TRY(fits(r, err));
    return copy_all(r, in, err);
}

static lb_status new_part(lb_resident **out, const lb_part_in *in, lb_err *err) {
    *out = lb_alloc_zero(1, sizeof **out);
    if (!*out)
        return no_memory(err);
    **out = (lb_resident){.m = in->m,
                          .d = in->d,
                          .first = in->first,
                          .end = in->end,
                          .rank = in->rank,
                          .n_ranks = LB_MAX(in->n_ranks, 1u),
                          .embeds = in->first == 0 && in->rank == 0,
                          .ends = in->end == in->m->p.n_layers && in->rank == 0};
    return LB_OK;
}

lb_status lb_resident_part(lb_resident **out, const lb_part_in *in, lb_err *err) {
    lb_resident *r;
    *out = NULL;
    LB_TRY(new_part(&r, in, err));
    const lb_status st = run(r, in, err);
    if (st == LB_OK)
        *out = r;
    else
        lb_resident_free(&r);
    return st;
}

lb_status lb_resident_put(lb_resident *r, const lb_mweight *w, lb_dlinear *out, lb_err *err) {
    upload u = {.r = r, .copies = true, .err = err};
    const lb_status st = linear(&u, &(lb_linear){.w = w}, out);
    lb_err ignored;
    const lb_status waited = lb_dev_queue_wait(r->q, st == LB_OK ? err : &ignored);
    return st == LB_OK ? waited : st;
}

void lb_resident_drop(lb_resident *r, u32 n_bufs) {
    while (r->n_bufs > n_bufs)
        lb_dev_buf_free(&r->bufs[--r->n_bufs]);
}

/* What a step adds to what would be copied. */
static u64 since(const lb_resident *r, u64 *before) {
    const u64 bytes = r->bytes - *before;
    *before = r->bytes;
    return bytes;
}

static lb_status costs(lb_resident *r, u64 *layer_bytes, lb_resident_bytes_of *out, lb_err *err) {
    upload u = {.r = r, .dry = true, .err = err};
    u64 before = 0;
    LB_TRY(begin(r, err));
    LB_TRY(constants(&u));
    out->constants = since(r, &before);
    LB_TRY(embeddings(&u));
    out->embeddings = since(r, &before);
    for (u32 i = 0; i < r->m->p.n_layers; i++) {
        LB_TRY(layer(&u, i));
        layer_bytes[i] = since(r, &before);
    }
    LB_TRY(output(&u));
    out->shared = since(r, &before);
    out->sums = r->sums_bytes;
    r->embeds = false;
    LB_TRY(output(&u));
    out->output = since(r, &before);
    out->shared = out->output - out->shared;
    return LB_OK;
}

lb_status lb_resident_costs(const lb_model *m, lb_dev *d, u64 *layer_bytes,
                            lb_resident_bytes_of *out, lb_err *err) {
    const lb_part_in in = {.m = m, .d = d, .end = m->p.n_layers};
    lb_resident *r;
    LB_TRY(new_part(&r, &in, err));
    const lb_status st = costs(r, layer_bytes, out, err);
    lb_resident_free(&r);
    return st;
}

lb_status lb_resident_new(lb_resident **out, const lb_model *m, lb_dev *d, lb_err *err) {
    return lb_resident_part(out, &(lb_part_in){.m = m, .d = d, .end = m->p.n_layers}, err);
}

void lb_resident_free(lb_resident **rp) {
    for (lb_resident *r = *rp, *next; r; r = next) {
        next = r->next;
        lb_dev_queue_free(&r->q);
        for (u32 i = 0; i < r->n_bufs; i++)
            lb_dev_buf_free(&r->bufs[i]);
        lb_free(r->bufs);
        lb_arena_deinit(&r->perm);
        lb_free(r);
    }
    *rp = NULL;
}

u64 lb_resident_bytes(const lb_resident *r) {
    u64 n = 0;
    for (; r; r = r->next)
        n += r->bytes;
    return n;
}

const lb_dev_info *lb_resident_device(const lb_resident *r) {
    return lb_dev_info_get(r->d);
}
