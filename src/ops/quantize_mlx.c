/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_mlx.c: the groups of MLX on a conversion's tensors, as mlx_lm.convert -q makes them.
 *
 * Which modules, with how many bits: quant/mlx_recipe.h. Codes are made of the values as the plain
 * folder would hold them; a module that is stored with just these codes keeps them. */
#include "ops/quantize_internal.h"

typedef struct job {
    lb_conv *c;
    lb_quantizer *q;
    u64 n;
    lb_out_tensor *from; /* [n] heap: the conversion's */
    lb_mlx_tensor *tensors;
    lb_mlx_choice *choices;
} job;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
}

static lb_quant quant_of(const lb_enc *e, lb_dtype dtype, const lb_quantize_opts *o) {
    lb_quant_kind kind = e->kind == LB_ENC_MLX_MXFP4   ? LB_QUANT_MXFP4
                         : e->kind == LB_ENC_MLX_MXFP8 ? LB_QUANT_MXFP8
                         : e->kind == LB_ENC_MLX_NVFP4 ? LB_QUANT_NVFP4
                                                       : LB_QUANT_AFFINE;
    return (lb_quant){.kind = kind,
                      .bits = e->bits,
                      .group = e->group_size,
                      .round = lb_round_of(dtype),
                      .cpu_rule = o->cpu_rule,
                      .refine = o->refine};
}

/* One a kind of codes and type of values. */
static lb_status shared_quant(job *j, const lb_enc *e, lb_dtype dtype, const lb_quant **out,
                              lb_err *err) {
    const lb_quant x = quant_of(e, dtype, j->q->o);
    *out = lb_quantizer_shared(j->c, &x);
    return *out ? LB_OK : oom(err);
}

/* ---- codes that are there already ---- */

/* The weight whose rows a segment has as they are stored, if it has such codes. *x: its rows. */
static const lb_weight *codes_of(const job *j, lb_node_id segment, const lb_enc *e, lb_node_id *x) {
    lb_graph *g = &j->c->plan->graph;
    lb_node_id v = lb_quantize_values(g, segment);
    *x = v == LB_NODE_NONE ? v : lb_expr_codes(g, v);
    const lb_node *n = *x == LB_NODE_NONE ? NULL : lb_graph_node(g, *x);
    while (n && n->kind == LB_NODE_INDEX && (n->op == LB_INDEX_ROWS || n->op == LB_INDEX_RUNS))
        n = lb_graph_node(g, n->in[0]);
    const lb_weight *w = n && n->kind == LB_NODE_READ ? n->u.read.weight : NULL;
    return w && w->enc.kind == e->kind && w->enc.bits == e->bits &&
                   w->enc.group_size == e->group_size
               ? w
               : NULL;
}

static u32 n_segments(const lb_out_tensor *t) {
    return t->segments ? t->n_segments : 1;
}

static lb_node_id segment_at(const lb_out_tensor *t, u32 i) {
    return t->segments ? t->segments[i] : t->node;
}

static const lb_node *read_below(const lb_graph *g, lb_node_id x) {
    const lb_node *n = lb_graph_node(g, x);
    while (n->kind != LB_NODE_READ)
        n = lb_graph_node(g, n->in[0]);
    return n;
}

static lb_dtype part_dtype(const lb_graph *g, lb_node_id x, u32 part) {
    const lb_node *n = read_below(g, x);
    return g->sources[n->u.read.source]->tensors[n->u.read.weight->part[part]].dtype;
}

/* Of a folder of MLX all of a weight; where types are kept any rows of stored ones. */
static bool has_codes(const job *j, const lb_out_tensor *t, const lb_enc *e) {
    const lb_graph *g = &j->c->plan->graph;
    const lb_weight *first = NULL;
    lb_node_id at = LB_NODE_NONE, x;
    bool any_rows = j->q->o->keep;
    if (!any_rows && (j->c->src->format != LB_FORMAT_MLX || n_segments(t) != 1))
        return false;
    for (u32 i = 0; i < n_segments(t); i++) {
        const lb_weight *w = codes_of(j, segment_at(t, i), e, &x);
        if (!w || (!any_rows && lb_graph_node(g, x)->kind != LB_NODE_READ))
            return false;
        if (!first) {
            first = w;
            at = x;
        }
        if (w->n_parts != first->n_parts)
            return false;
        for (u32 k = 0; k < w->n_parts; k++)
            if (part_dtype(g, x, k) != part_dtype(g, at, k))
                return false;
    }
    return first != NULL;
}

/* ---- outputs ---- */

static const char *const part_names[LB_QUANT_PARTS] = {"weight", "scales", "biases"};

static lb_status part_of(job *j, const lb_mlx_choice *ch, const lb_out_tensor *t,
                         lb_quant_part part, lb_out_tensor *out, lb_err *err) {
    lb_shape *shape = lb_arena_new(j->c->perm, lb_shape, 1);
    *out = (lb_out_tensor){
        .name = lb_arena_printf(j->c->perm, "%.*s.%s", LB_FMT(ch->path), part_names[part]),
        .shape = shape};
    if (!shape || !out->name.ptr)
        return oom(err);
    *shape = *t->shape;
    return LB_OK;
}

/* The rows x of a weight in one of the tensors that it is stored in. */
static lb_node_id rows_of_part(lb_conv *c, lb_node_id x, u32 part) {
    lb_graph *g = &c->plan->graph;
    const lb_node *n = lb_graph_node(g, x);
    if (n->kind == LB_NODE_READ) {
        u32 i = n->u.read.weight->part[part];
        const lb_tensor *t = &g->sources[n->u.read.source]->tensors[i];
        lb_weight *raw = lb_arena_new(c->perm, lb_weight, 1);
        if (!raw)
            return LB_NODE_NONE;
        *raw = (lb_weight){.name = t->name, .shape = t->shape, .n_parts = 1, .part = {i}};
        return lb_expr_read(g, n->u.read.source, raw);
    }
    lb_node_id below = rows_of_part(c, n->in[0], part);
    if (below == LB_NODE_NONE)
        return below;
    return n->op == LB_INDEX_ROWS
               ? lb_expr_rows(g, below, n->u.index.from, n->u.index.step, n->n_rows)
               : lb_expr_runs(g, below, n->u.index.from, n->u.index.half, n->u.index.step,
                              n->n_rows);
}

static lb_status keep_codes(job *j, const lb_mlx_choice *ch, const lb_out_tensor *t, lb_err *err) {
    lb_conv *c = j->c;
    lb_graph *g = &c->plan->graph;
    u32 n = n_segments(t);
    lb_node_id *x = lb_arena_new(c->perm, lb_node_id, n);
    if (!x)
        return oom(err);
    const lb_weight *w = NULL;
    for (u32 i = 0; i < n; i++)
        w = codes_of(j, segment_at(t, i), &ch->enc, &x[i]);
    for (u32 k = w->n_parts; k-- > 0;) {
        lb_out_tensor out;
        lb_node_id *list = lb_arena_new(c->perm, lb_node_id, n);
        LB_TRY(part_of(j, ch, t, (lb_quant_part)k, &out, err));
        lb_shape *shape = lb_arena_new(c->perm, lb_shape, 1);
        if (!list || !shape)
            return oom(err);
        out.dtype = part_dtype(g, x[0], k);
        for (u32 i = 0; i < n; i++) {
            lb_node_id part = rows_of_part(c, x[i], k);
            if (part == LB_NODE_NONE && lb_graph_status(g, err) == LB_OK)
                return oom(err);
            LB_TRY(lb_graph_status(g, err));
            list[i] = lb_expr_encode(g, part, out.dtype);
        }
        LB_TRY(lb_graph_status(g, err));
        *shape = *t->shape;
        shape->dim[shape->rank - 1] = lb_graph_node(g, list[0])->n_cols;
        out.shape = shape;
        out.segments = list;
        out.n_segments = n;
        LB_TRY(lb_conv_push(c, &out, err));
    }
    return lb_graph_status(g, err);
}

static lb_status make_codes(job *j, const lb_mlx_choice *ch, const lb_out_tensor *t, lb_err *err) {
    lb_conv *c = j->c;
    lb_graph *g = &c->plan->graph;
    u32 n = t->segments ? t->n_segments : 1;
    const lb_quant *q = NULL;
    lb_node_id *values = lb_arena_new(c->perm, lb_node_id, n);
    if (!values)
        return oom(err);
    LB_TRY(shared_quant(j, &ch->enc, t->dtype, &q, err));
    for (u32 i = 0; i < n; i++)
        values[i] =
            lb_quantize_plain(c, t->segments ? t->segments[i] : t->node, LB_NODE_NONE, t->dtype);
    for (u32 k = lb_quant_n_parts(q); k-- > 0;) {
        lb_out_tensor out;
        lb_shape *shape;
        LB_TRY(part_of(j, ch, t, (lb_quant_part)k, &out, err));
        shape = lb_arena_new(c->perm, lb_shape, 1);
        lb_node_id *list = lb_arena_new(c->perm, lb_node_id, n);
        if (!shape || !list)
            return oom(err);
        *shape = *t->shape;
        u64 *cols = &shape->dim[shape->rank - 1];
        *cols = *cols / lb_quant_cols(q) * lb_quant_part_elems(q, (lb_quant_part)k);
        for (u32 i = 0; i < n; i++)
            list[i] = lb_expr_quant(g, values[i], q, (lb_quant_part)k);
        out.shape = shape;
        out.dtype = lb_quant_part_dtype(q, (lb_quant_part)k);
        out.segments = list;
        out.n_segments = n;
        out.joint = k + 1 != lb_quant_n_parts(q);
        LB_TRY(lb_conv_push(c, &out, err));
    }
    return lb_graph_status(g, err);
}

static lb_status make_tensor(job *j, u64 i, lb_err *err) {
    lb_out_tensor *t = &j->from[i];
    const lb_mlx_choice *ch = &j->choices[i];
    if (ch->enc.kind != LB_ENC_PLAIN)
        return has_codes(j, t, &ch->enc) ? keep_codes(j, ch, t, err) : make_codes(j, ch, t, err);
    lb_out_tensor out = *t;
    bool given = ch->why == LB_MLX_WHY_OVERRIDE || j->q->o->like;
    if (given && ch->dtype != t->dtype)
        LB_TRY(lb_quantize_blocks(j->c, t, ch->dtype, NULL, 1, &out, err));
    return lb_conv_push(j->c, &out, err);
}

/* ---- what people should know ---- */

static u32 bits_of(const lb_enc *e) {
    return e->kind == LB_ENC_MLX_AFFINE ? e->bits : e->kind == LB_ENC_MLX_MXFP8 ? 8 : 4;
}

static bool is_critical(const job *j, lb_str name) {
    lb_arch_match m;
    const lb_ctensors *x = &j->c->canon;
    if (!x->arch || !lb_arch_find(x->arch, &x->hp, LB_WORLD_MLX, name, &m))
        return false;
    lb_role r = (lb_role)m.row->role;
    return r == LB_ROLE_TOKEN_EMBD || r == LB_ROLE_OUTPUT || r == LB_ROLE_FFN_ROUTER ||
           r == LB_ROLE_FFN_SHARED_ROUTER;
}

/* Embeddings, head and routers below 6 bit: raised to 8 (6 of them are no form of the small float
 * modes), or named. */
static void mind_critical(job *j, const lb_mlx_opts *o) {
    lb_str first = {0};
    u32 bits = 0;
    u64 n = 0;
    for (u64 i = 0; i < j->n; i++) {
        lb_mlx_choice *ch = &j->choices[i];
        if (ch->enc.kind == LB_ENC_PLAIN || ch->why == LB_MLX_WHY_OVERRIDE ||
            ch->why == LB_MLX_WHY_CODES || bits_of(&ch->enc) >= 6 ||
            !is_critical(j, j->tensors[i].name))
            continue;
        if (n++ == 0) {
            first = ch->path;
            bits = bits_of(&ch->enc);
        }
        if (j->q->o->protect) {
            u32 group = ch->enc.kind == LB_ENC_MLX_AFFINE ? ch->enc.group_size : 32;
            lb_enc up = {.kind = LB_ENC_MLX_AFFINE, .bits = 8, .group_size = group};
            lb_mlx_choice_give(o, &up, LB_MLX_WHY_OVERRIDE, ch);
        }
    }
    if (n && j->q->o->protect)
        lb_conv_remark(j->c, "%.*s and the like, %llu in all, raised from %u to 8 bit (--protect)",
                       LB_FMT(first), (unsigned long long)n, bits);
    else if (n)
        lb_conv_remark(j->c,
                       "%.*s and the like, %llu in all, have %u bit, as mlx-lm decides: --protect "
                       "keeps embeddings, head and routers at 6 bit and more",
                       LB_FMT(first), (unsigned long long)n, bits);
}

static void say_choices(const job *j) {
    u64 n_rows = 0, n_again = 0;
    lb_str rows = {0}, again = {0};
    for (u64 i = 0; i < j->n; i++) {
        const lb_out_tensor *t = &j->from[i];
        const lb_mlx_choice *ch = &j->choices[i];
        if (ch->why == LB_MLX_WHY_ROWS && n_rows++ == 0)
            rows = t->name;
        bool codes = lb_quantize_was_codes(j->c, t->segments ? t->segments[0] : t->node);
        if (codes && ch->enc.kind != LB_ENC_PLAIN && !has_codes(j, t, &ch->enc) && n_again++ == 0)
            again = t->name;
    }
    if (n_rows)
        lb_conv_remark(j->c,
                       "%llu tensors stay as they are, the first %.*s: rows are no whole groups",
                       (unsigned long long)n_rows, LB_FMT(rows));
    lb_quantizer_say_again(j->c, n_again, again);
}

/* ---- a target ---- */

/* Bytes of a module's outputs. */
static u64 bytes_of(const lb_out_tensor *t, const lb_quant *q) {
    u64 n = lb_quantize_elems(t->shape), all = 0;
    for (u32 k = 0; k < lb_quant_n_parts(q); k++) {
        u64 bytes = 0;
        u64 elems = n / lb_quant_cols(q) * lb_quant_part_elems(q, (lb_quant_part)k);
        if (lb_dtype_bytes(lb_quant_part_dtype(q, (lb_quant_part)k), elems, &bytes))
            all += bytes;
    }
    return all;
}

static bool has_choice(const lb_mlx_choice *ch) {
    return ch->enc.kind != LB_ENC_PLAIN && ch->why != LB_MLX_WHY_CODES;
}

/* What module i may become: types[] says which of the candidates. */
static lb_status list_options(job *j, u64 i, u32 *types, lb_quant_choice *out, lb_err *err) {
    const lb_out_tensor *t = &j->from[i];
    const lb_mlx_choice *ch = &j->choices[i];
    u64 *sizes = lb_arena_new(j->c->perm, u64, LB_CANDIDATES_MAX);
    const lb_quant *own[LB_CANDIDATES_MAX];
    u32 n = 0;
    u64 cols = t->shape->dim[t->shape->rank - 1];
    if (!sizes)
        return oom(err);
    for (u32 k = 0; k < j->q->n_candidates && ch->why == LB_MLX_WHY_DEFAULT; k++) {
        const lb_enc *e = &j->q->groupings[k].enc;
        if (cols % e->group_size || (is_critical(j, t->name) && bits_of(e) < 6))
            continue;
        LB_TRY(shared_quant(j, e, t->dtype, &own[n], err));
        types[n++] = k;
    }
    if (n == 0) { /* a rule's or an override's */
        LB_TRY(shared_quant(j, &ch->enc, t->dtype, &own[n], err));
        types[n++] = UINT32_MAX;
    }
    for (u32 k = 0; k < n; k++)
        sizes[k] = bytes_of(t, own[k]);
    *out = (lb_quant_choice){.name = t->name, .n_options = n, .size_bytes = sizes};
    if (n == 1)
        return LB_OK;
    LB_TRY(lb_quantize_pieces(j->c, t, NULL, 1, &out->pieces, err));
    const lb_quant **q = lb_arena_new(j->c->perm, const lb_quant *, (u64)out->pieces.n *n);
    if (!q)
        return oom(err);
    for (u32 p = 0; p < out->pieces.n; p++)
        memcpy(q + (u64)p * n, own, n * sizeof *q);
    out->quants = q;
    return LB_OK;
}

enum { HEAD_OF_TENSOR = 320, HEAD_OF_FILE = 20480 }; /* more than safetensors' heads take */

static lb_status choose_for_target(job *j, const lb_mlx_opts *o, lb_err *err) {
    lb_arena *perm = j->c->perm;
    lb_quant_choice *list = lb_arena_new(perm, lb_quant_choice, j->n + 1);
    u32(*types)[LB_CANDIDATES_MAX] = lb_arena_push_array(perm, j->n + 1, sizeof *types, 8);
    u64 *of = lb_arena_new(perm, u64, j->n + 1), n = 0;
    lb_quant_room room = {.head_bytes = HEAD_OF_FILE};
    if (!list || !types || !of)
        return oom(err);
    for (u64 i = 0; i < j->n; i++) {
        u64 elems = lb_quantize_elems(j->from[i].shape), bytes = 0;
        room.n_values += elems;
        room.head_bytes +=
            (u64)(has_choice(&j->choices[i]) ? 3 : 1) * (HEAD_OF_TENSOR + j->from[i].name.len);
        if (has_choice(&j->choices[i])) {
            LB_TRY(list_options(j, i, types[n], &list[n], err));
            of[n++] = i;
        } else if (lb_dtype_bytes(j->from[i].dtype, elems, &bytes)) {
            room.other_bytes += bytes;
        }
    }
    LB_TRY(lb_quantize_choose(j->c, list, n, &room, err));
    for (u64 k = 0; k < n; k++) {
        u32 t = types[k][list[k].chosen];
        if (t != UINT32_MAX)
            lb_mlx_choice_give(o, &j->q->groupings[t].enc, LB_MLX_WHY_RECIPE, &j->choices[of[k]]);
    }
    return LB_OK;
}

/* ---- all ---- */

static bool same_enc(const lb_enc *a, const lb_enc *b) {
    return a->kind == b->kind && a->bits == b->bits && a->group_size == b->group_size;
}

/* config.json's words for choices that come from another model: an entry for all that differs from
 * the first. */
static lb_status say_like(job *j, lb_err *err) {
    lb_conv *c = j->c;
    lb_mlx_opts o = {0};
    for (u64 i = 0; i < j->n; i++) {
        lb_mlx_choice *ch = &j->choices[i];
        j->tensors[i] = (lb_mlx_tensor){j->from[i].name, *j->from[i].shape, j->from[i].dtype};
        if (ch->enc.kind == LB_ENC_PLAIN)
            continue;
        if (o.enc.kind == LB_ENC_PLAIN)
            o.enc = ch->enc;
        ch->has_entry = !same_enc(&ch->enc, &o.enc);
        ch->said = LB_MLX_SAID_ALL;
    }
    if (o.enc.kind == LB_ENC_PLAIN)
        return LB_OK;
    const lb_mlx_job mj = {&o, c->canon.arch, &c->canon.hp, j->n, j->tensors};
    return lb_mlx_quantization(&mj, j->choices, NULL, c->perm, &j->q->config, err);
}

/* As another folder has them. What that lacks stays plain: who compares finds it missing. */
static lb_status choose_like(job *j, lb_arena *scratch, lb_err *err) {
    const lb_source *s = j->q->o->like;
    for (u64 i = 0; i < j->n; i++) {
        const lb_out_tensor *t = &j->from[i];
        lb_mlx_choice *ch = &j->choices[i];
        const lb_weight *w = lb_quantizer_like(j->c, t->name, t->shape, scratch);
        *ch = (lb_mlx_choice){.dtype = t->dtype, .why = LB_MLX_WHY_CODES};
        if (!w)
            continue;
        if (lb_str_ends(t->name, LB_STR(".weight")))
            ch->path = lb_str_sub(t->name, 0, t->name.len - 7);
        if (ch->path.len && w->enc.kind >= LB_ENC_MLX_AFFINE && w->enc.kind <= LB_ENC_MLX_NVFP4)
            ch->enc = w->enc;
        else
            ch->dtype = s->tensors[w->part[0]].dtype;
    }
    return j->q->o->keep ? say_like(j, err) : LB_OK;
}

static lb_status choose(job *j, lb_mlx_opts *o, lb_err *err) {
    lb_conv *c = j->c;
    lb_json *kept = NULL, *said = NULL;
    if (!c->canon.arch)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "%s: which of its matrices mlx-lm's class has quantized is not known",
                       c->canon.arch_err.msg);
    for (u64 i = 0; i < j->n; i++)
        j->tensors[i] = (lb_mlx_tensor){j->from[i].name, *j->from[i].shape, j->from[i].dtype};
    o->pure = j->q->o->pure;
    o->overrides = &j->q->overrides;
    const lb_mlx_job mj = {o, c->canon.arch, &c->canon.hp, j->n, j->tensors};
    LB_TRY(lb_mlx_choose(&mj, j->choices, err));
    LB_TRY(lb_mlx_check_overrides(&mj, err));
    if (lb_quantizer_has_target(j->q))
        LB_TRY(choose_for_target(j, o, err));
    else
        mind_critical(j, o);
    say_choices(j);
    LB_TRY(lb_conv_codes_config(c, &kept, err));
    LB_TRY(lb_mlx_quantization(&mj, j->choices, kept, c->perm, &said, err));
    j->q->config = said;
    return LB_OK;
}

lb_status lb_quantize_mlx(lb_conv *c, lb_err *err) {
    lb_arena scratch = {0};
    job j = {.c = c, .q = c->quantizer, .n = c->model.n_tensors, .from = c->model.tensors};
    u64 n_parameters = c->model.n_parameters;
    j.tensors = lb_arena_new(&scratch, lb_mlx_tensor, j.n + 1);
    j.choices = lb_arena_new(&scratch, lb_mlx_choice, j.n + 1);
    lb_status st = j.tensors && j.choices ? LB_OK : oom(err);
    if (st == LB_OK && j.q->o->like)
        st = choose_like(&j, &scratch, err);
    else if (st == LB_OK)
        st = choose(&j, &j.q->type[0].mlx, err);
    c->model.tensors = NULL;
    c->model.n_tensors = 0;
    c->cap_tensors = 0;
    for (u64 i = 0; i < j.n && st == LB_OK; i++)
        st = make_tensor(&j, i, err);
    c->model.n_parameters = n_parameters; /* values, not words */
    lb_free(j.from);
    lb_arena_deinit(&scratch);
    return st;
}
