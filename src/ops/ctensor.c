/* SPDX-License-Identifier: Apache-2.0 */
/* ctensor.c: stored tensors -> canonical tensors, by the architecture table's rows read backwards.
 */
#include "ops/ctensor.h"

bool lb_ctensor_is_float(lb_dtype t) {
    return t == LB_F32 || t == LB_F16 || t == LB_BF16;
}

static lb_world world_of(const lb_source *s) {
    return s->format == LB_FORMAT_GGUF  ? LB_WORLD_GGUF
           : s->format == LB_FORMAT_MLX ? LB_WORLD_MLX
                                        : LB_WORLD_HF;
}

static lb_status find_family(lb_plan *p, lb_ctensors *c, lb_err *err) {
    const lb_source *s = c->source;
    lb_status st = LB_E_UNSUPPORTED;
    if (s->format == LB_FORMAT_GGUF) {
        st = lb_arch_from_gguf(s->gguf, lb_source_weight(s, LB_STR("output.weight")) != NULL,
                               &c->arch, &c->hp, &c->arch_err);
    } else if (s->config.len) {
        LB_TRY(lb_json_parse(s->config, "config.json", &p->perm, &c->config, err));
        st = lb_arch_from_config(c->config, &c->arch, &c->hp, &c->arch_err);
    } else {
        (void)lb_fail(&c->arch_err, LB_E_UNSUPPORTED,
                      "'%.*s' has no config.json: its architecture is not known", LB_FMT(s->label));
    }
    if (st == LB_OK)
        return LB_OK;
    c->arch = NULL;
    if (st == LB_E_NOMEM) {
        if (err)
            *err = c->arch_err;
        return st;
    }
    return LB_OK;
}

/* GGUF -> canonical: the inverse of the row's relayout. */
static lb_status from_gguf(lb_plan *p, const lb_ctensors *c, const lb_weight *w, lb_ctensor *t,
                           lb_err *err) {
    lb_graph *g = &p->graph;
    u64 heads = lb_arch_relayout_heads(t->match.row->relayout, &c->hp);
    switch (t->match.row->relayout) {
    case LB_RL_NONE:
        t->node = lb_expr_read(g, c->source_index, w);
        return LB_OK;
    case LB_RL_ROPE_Q:
    case LB_RL_ROPE_K:
        t->node = w->shape.rank == 1 ? lb_expr_read_as(g, c->source_index, w, w->shape.dim[0], 1)
                                     : lb_expr_read(g, c->source_index, w);
        t->node = lb_expr_heads(g, t->node, heads, true);
        return LB_OK;
    case LB_RL_ADD_ONE:
        t->node = lb_expr_map1(
            g, LB_MAP_ADD_C, lb_expr_decode(g, lb_expr_read(g, c->source_index, w)), LB_CONST(-1));
        t->values = true;
        return LB_OK;
    default:
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': its relayout has no way back yet",
                       LB_FMT(w->name));
    }
}

/* The original bytes kept beside a tensor that was changed; NULL where there are none. */
static lb_status take_original(lb_plan *p, const lb_ctensors *c, lb_ctensor *t, lb_err *err) {
    lb_str name = lb_arena_printf(&p->perm, LB_ORIG_PREFIX "%.*s", LB_FMT(t->name));
    if (!name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    const lb_weight *w = lb_source_weight(c->source, name);
    if (!w)
        return LB_OK;
    if (!lb_shape_eq(&w->shape, &t->shape))
        return lb_fail(err, LB_E_FORMAT, "tensor '%.*s' does not have the shape of '%.*s'",
                       LB_FMT(name), LB_FMT(t->name));
    t->dtype = c->source->tensors[w->part[0]].dtype;
    t->node = lb_expr_read(&p->graph, c->source_index, w);
    t->values = false;
    t->original = true;
    return LB_OK;
}

static lb_status add_dropped(lb_plan *p, lb_ctensors *c, lb_str name, lb_err *err) {
    if ((c->n_dropped & (c->n_dropped - 1)) == 0) { /* grows at powers of two */
        lb_str *n = lb_arena_new(&p->perm, lb_str, c->n_dropped ? 2 * c->n_dropped : 1);
        if (!n)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        if (c->n_dropped)
            memcpy(n, c->dropped, c->n_dropped * sizeof *n);
        c->dropped = n;
    }
    c->dropped[c->n_dropped++] = name;
    return LB_OK;
}

static lb_status add_tensor(lb_plan *p, lb_ctensors *c, u32 weight, lb_err *err) {
    const lb_weight *w = &c->source->weights[weight];
    const lb_tensor *stored = &c->source->tensors[w->part[0]];
    lb_dtype_class cls = lb_dtype_get(stored->dtype)->cls;
    lb_ctensor t = {.name = w->name, .shape = w->shape, .dtype = stored->dtype, .weight = weight};
    t.quantized = w->enc.kind != LB_ENC_PLAIN || cls == LB_CLASS_BLOCK;
    t.carried = !t.quantized && (cls == LB_CLASS_INT || cls == LB_CLASS_OPAQUE);
    t.known = c->arch && lb_arch_find(c->arch, world_of(c->source), w->name, &t.match);
    if (c->source->format == LB_FORMAT_GGUF) {
        if (lb_str_starts(w->name, LB_STR(LB_ORIG_PREFIX)))
            return LB_OK;
        if (!t.known)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s' has no place in the %s family: it would be lost",
                           LB_FMT(w->name), lb_arch_name(c->arch));
        if (t.match.n_rows > 1)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s': fused tensors are not read back yet", LB_FMT(w->name));
        lb_arch_seen_add(&c->seen, &t.match, &w->shape);
        if (t.match.row->relayout == LB_RL_MADE)
            return add_dropped(p, c, w->name, err);
        LB_TRY(from_gguf(p, c, w, &t, err));
        t.name = lb_arch_tensor_name(t.match.row, LB_WORLD_HF, &t.match, &p->perm);
        if (!t.name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        if (t.values)
            LB_TRY(take_original(p, c, &t, err));
    } else {
        if (t.known)
            lb_arch_seen_add(&c->seen, &t.match, &w->shape);
        t.node = lb_expr_read(&p->graph, c->source_index, w);
    }
    c->tensors[c->n_tensors++] = t;
    return LB_OK;
}

static void find_main_dtype(lb_ctensors *c) {
    u64 bytes[LB_DTYPE_COUNT] = {0}, quantized = 0, best = 0;
    c->main_dtype = LB_BF16;
    for (u64 i = 0; i < c->n_tensors; i++) {
        const lb_ctensor *t = &c->tensors[i];
        u64 n = 0;
        if (t->shape.rank < 2 || t->carried || !lb_shape_elems(&t->shape, &n))
            continue;
        if (t->quantized || !lb_ctensor_is_float(t->dtype))
            quantized += n;
        else
            bytes[t->dtype] += n;
    }
    for (u32 d = 0; d < LB_DTYPE_COUNT; d++)
        if (bytes[d] > best) {
            best = bytes[d];
            c->main_dtype = (lb_dtype)d;
        }
    if (quantized > best)
        c->main_dtype = LB_BF16;
}

lb_status lb_ctensors_build(lb_plan *p, u32 source_index, lb_ctensors *c, lb_err *err) {
    const lb_source *s = p->graph.sources[source_index];
    *c = (lb_ctensors){.source = s, .source_index = source_index};
    LB_TRY(find_family(p, c, err));
    if (s->format == LB_FORMAT_GGUF && !c->arch) {
        if (err)
            *err = c->arch_err;
        return c->arch_err.code;
    }
    c->tensors = lb_arena_new(&p->perm, lb_ctensor, s->n_weights + 1);
    if (!c->tensors)
        return lb_fail(err, LB_E_NOMEM, "out of memory for %llu tensors",
                       (unsigned long long)s->n_weights);
    for (u64 i = 0; i < s->n_weights; i++)
        LB_TRY(add_tensor(p, c, (u32)i, err));
    find_main_dtype(c);
    return LB_OK;
}

lb_node_id lb_ctensor_encode(lb_plan *p, const lb_ctensor *t, lb_dtype dtype) {
    lb_node_id x = t->node;
    if (!t->values && (t->quantized || t->dtype != dtype))
        x = lb_expr_decode(&p->graph, x);
    return lb_expr_encode(&p->graph, x, dtype);
}
