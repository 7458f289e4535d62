/* SPDX-License-Identifier: Apache-2.0 */
/* quantize_hf.c: the codes of transformers and vLLM on a conversion's tensors.
 *
 * Which modules, and what config.json says: quant/hf_scheme.h. Codes are made of the values as the
 * plain folder would hold them. */
#include "arch/arch_config.h"
#include "ops/quantize_internal.h"

typedef struct job {
    lb_conv *c;
    lb_quantizer *q;
    u64 n;
    lb_out_tensor *from; /* [n] heap: the conversion's */
    lb_hf_tensor *tensors;
    lb_hf_choice *choices;
} job;

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
}

/* ---- outputs ---- */

/* "weight_shape": rows and columns. */
static lb_status push_shape(job *j, const lb_hf_choice *ch, const lb_out_tensor *t, lb_err *err) {
    static const lb_shape pair = {1, {2}};
    u8 bytes[16];
    for (u32 i = 0; i < 2; i++)
        lb_store_u64(bytes + 8 * (size_t)i, t->shape->dim[t->shape->rank - 2 + i]);
    lb_out_tensor out = {.dtype = LB_I64, .shape = &pair};
    out.name = lb_arena_printf(j->c->perm, "%.*s.weight_shape", LB_FMT(ch->path));
    out.node = lb_expr_bytes(&j->c->plan->graph, LB_I64, 2, bytes);
    return out.name.ptr ? lb_conv_push(j->c, &out, err) : oom(err);
}

static lb_status push_part(job *j, const lb_hf_choice *ch, const lb_out_tensor *t,
                           const lb_quant_pieces *x, lb_quant_part part, lb_err *err) {
    const lb_quant own = lb_hf_quant(&ch->form, t->dtype);
    const lb_quant *q = lb_quantizer_shared(j->c, &own);
    lb_shape *shape = lb_arena_new(j->c->perm, lb_shape, 1);
    lb_node_id *list = lb_arena_new(j->c->perm, lb_node_id, x->n);
    lb_out_tensor out = {.name = lb_hf_part_name(ch, part, j->c->perm)};
    if (!q || !shape || !list || !out.name.ptr)
        return oom(err);
    lb_hf_part_shape(ch, t->shape, part, shape);
    for (u32 i = 0; i < x->n; i++)
        list[i] = lb_expr_quant(&j->c->plan->graph, x->list[i].values, q, part);
    out.dtype = lb_quant_part_dtype(q, part);
    out.shape = shape;
    out.segments = list;
    out.n_segments = x->n;
    out.joint = part + 1 != lb_quant_n_parts(q);
    LB_TRY(lb_graph_status(&j->c->plan->graph, err));
    return lb_conv_push(j->c, &out, err);
}

static lb_status make_codes(job *j, const lb_hf_choice *ch, const lb_out_tensor *t, lb_err *err) {
    lb_graph *g = &j->c->plan->graph;
    u64 n_mats = ch->stack ? t->shape->dim[0] : 1;
    lb_quant_pieces x;
    lb_quant q = lb_hf_quant(&ch->form, t->dtype);
    LB_TRY(lb_quantize_pieces(j->c, t, NULL, n_mats, &x, err));
    if (q.scope == LB_SCOPE_TENSOR && x.n != n_mats)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' is put together of %u others: it has no scale of its own "
                       "(--group-size channel)",
                       LB_FMT(t->name), x.n);
    for (u32 i = 0; i < x.n; i++) {
        u32 own = x.n == t->n_segments ? i : 0; /* else all are cut from one */
        lb_node_id encoded = t->segments ? t->segments[own] : t->node;
        x.list[i].values = lb_quantize_plain(j->c, encoded, x.list[i].values, t->dtype);
    }
    LB_TRY(lb_graph_status(g, err));
    if (lb_hf_has_shape(&ch->form))
        LB_TRY(push_shape(j, ch, t, err));
    for (u32 k = lb_quant_n_parts(&q); k-- > 0;)
        LB_TRY(push_part(j, ch, t, &x, (lb_quant_part)k, err));
    return LB_OK;
}

static lb_status make_tensor(job *j, u64 i, lb_err *err) {
    const lb_hf_choice *ch = &j->choices[i];
    lb_out_tensor out = j->from[i];
    if (ch->quantized)
        return make_codes(j, ch, &j->from[i], err);
    if (ch->dtype != out.dtype)
        LB_TRY(lb_quantize_blocks(j->c, &j->from[i], ch->dtype, NULL, 1, &out, err));
    return lb_conv_push(j->c, &out, err);
}

/* ---- what people should know ---- */

static void say_left(const job *j, lb_hf_why why, const char *what) {
    lb_str first = {0};
    u64 n = 0, values = 0, all = 0;
    for (u64 i = 0; i < j->n; i++) {
        u64 elems = lb_quantize_elems(j->from[i].shape);
        all += elems;
        if (j->choices[i].why != why)
            continue;
        if (n++ == 0)
            first = j->from[i].name;
        values += elems;
    }
    if (n)
        lb_conv_remark(j->c,
                       "%llu matrices (%.1f %% of all values) stay as they are, the first %.*s: %s",
                       (unsigned long long)n, 100 * (double)values / (double)LB_MAX(all, (u64)1),
                       LB_FMT(first), what);
}

static void say_again(const job *j) {
    lb_str first = {0};
    u64 n = 0;
    for (u64 i = 0; i < j->n; i++) {
        const lb_out_tensor *t = &j->from[i];
        if (j->choices[i].quantized &&
            lb_quantize_was_codes(j->c, t->segments ? t->segments[0] : t->node) && n++ == 0)
            first = t->name;
    }
    lb_quantizer_say_again(j->c, n, first);
}

static void say_choices(const job *j) {
    say_left(j, LB_HF_WHY_ROWS, "their rows or columns are no whole groups or blocks");
    say_left(j, LB_HF_WHY_MATE, "loaders fuse them with matrices that cannot be quantized");
    say_left(j, LB_HF_WHY_STACK,
             j->q->type[0].hf.type == LB_HF_FP8_BLOCK
                 ? "experts in one tensor, of which transformers finds the scales on a GPU only "
                   "(--override experts=fp8-block)"
                 : "experts in one tensor: compressed-tensors has codes for matrices");
    say_left(j, LB_HF_WHY_TURNED, "inputs times outputs: no loader looks for codes there");
    say_again(j);
    for (u64 i = 0; i < j->n; i++)
        if (j->choices[i].quantized && j->choices[i].form.type == LB_HF_W8A8 &&
            lb_hf_experts_of(j->choices[i].path).len) {
            lb_conv_remark(j->c, "w8a8 of experts: vLLM reads it, transformers 5.24 does not");
            break;
        }
}

/* ---- as another folder has them ---- */

static bool has_part(const lb_source *s, const lb_weight *w, const char *ending) {
    for (u32 k = 1; k < w->n_parts; k++)
        if (lb_str_ends(s->tensors[w->part[k]].name, lb_str_c(ending)))
            return true;
    return false;
}

/* False: not one of these forms. */
static bool form_like(const lb_source *s, const lb_weight *w, lb_hf_form *f) {
    const lb_enc *e = &w->enc;
    *f = (lb_hf_form){.scope = e->block_rows == 0   ? LB_SCOPE_TENSOR
                               : e->group_size == 0 ? LB_SCOPE_CHANNEL
                               : e->block_rows == 1 ? LB_SCOPE_GROUP
                                                    : LB_SCOPE_BLOCK,
                      .group = e->group_size,
                      .asym = has_part(s, w, "weight_zero_point")};
    bool fine = has_part(s, w, "_scale_inv");
    f->type = e->kind == LB_ENC_PACKED ? LB_HF_W4A16
              : e->kind == LB_ENC_INT8 ? LB_HF_W8A8
              : fine                   ? LB_HF_FP8_BLOCK
                                       : LB_HF_FP8;
    bool rows = f->scope == LB_SCOPE_CHANNEL || f->scope == LB_SCOPE_TENSOR;
    switch (e->kind) {
    case LB_ENC_FP8:
        return fine ? e->block_rows == 128 && e->group_size == 128 : rows;
    case LB_ENC_INT8:
        return rows && !f->asym;
    case LB_ENC_PACKED:
        return e->bits == 4 && (f->scope == LB_SCOPE_GROUP || f->scope == LB_SCOPE_CHANNEL);
    default:
        return false;
    }
}

/* config.json's words for choices that come from another model: the form of most is that of the
 * first. */
static lb_status say_like(job *j, lb_err *err) {
    lb_conv *c = j->c;
    const lb_hf_form *first = NULL;
    for (u64 i = 0; i < j->n; i++) {
        j->tensors[i] = (lb_hf_tensor){j->from[i].name, *j->from[i].shape, j->from[i].dtype};
        if (!first && j->choices[i].quantized)
            first = &j->choices[i].form;
    }
    if (!first)
        return LB_OK;
    const lb_hf_job hj = {.form = first,
                          .ask = &j->q->hf_ask,
                          .overrides = &j->q->overrides,
                          .arch = c->canon.arch,
                          .hp = &c->canon.hp,
                          .n = j->n,
                          .tensors = j->tensors};
    for (u64 i = 0; i < j->n; i++) /* modules that are plain there are named */
        if (!j->choices[i].quantized) {
            j->choices[i] = (lb_hf_choice){.dtype = j->choices[i].dtype};
            j->choices[i].why = lb_hf_module_of(&hj, &j->tensors[i], &j->choices[i]);
        }
    return lb_hf_config(&hj, j->choices, c->perm, &j->q->config, err);
}

/* What that folder lacks stays plain: who compares finds it missing. */
static lb_status choose_like(job *j, lb_arena *scratch, lb_err *err) {
    const lb_source *s = j->q->o->like;
    for (u64 i = 0; i < j->n; i++) {
        const lb_out_tensor *t = &j->from[i];
        lb_hf_choice *ch = &j->choices[i];
        const lb_weight *w = lb_quantizer_like(j->c, t->name, t->shape, scratch);
        *ch = (lb_hf_choice){.dtype = t->dtype, .path = t->name, .stack = true};
        if (!w)
            continue;
        if (lb_str_ends(t->name, LB_STR(".weight"))) {
            ch->path = lb_str_sub(t->name, 0, t->name.len - 7);
            ch->stack = false;
        }
        if (w->enc.kind != LB_ENC_PLAIN)
            ch->quantized = form_like(s, w, &ch->form);
        else
            ch->dtype = s->tensors[w->part[0]].dtype;
        if (j->q->o->keep && w->enc.kind != LB_ENC_PLAIN && !ch->quantized)
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "--type keep: '%.*s' is stored in codes that lbrx reads and does not "
                           "write: name another --type",
                           LB_FMT(w->name));
    }
    return j->q->o->keep ? say_like(j, err) : LB_OK;
}

/* ---- all ---- */

static lb_status choose(job *j, lb_err *err) {
    lb_conv *c = j->c;
    for (u64 i = 0; i < j->n; i++)
        j->tensors[i] = (lb_hf_tensor){j->from[i].name, *j->from[i].shape, j->from[i].dtype};
    const lb_hf_job hj = {.form = &j->q->type[0].hf,
                          .ask = &j->q->hf_ask,
                          .overrides = &j->q->overrides,
                          .pure = j->q->o->pure,
                          .arch = c->canon.arch,
                          .hp = &c->canon.hp,
                          .n = j->n,
                          .tensors = j->tensors};
    LB_TRY(lb_hf_choose(&hj, j->choices, err));
    say_choices(j);
    return lb_hf_config(&hj, j->choices, c->perm, &j->q->config, err);
}

lb_status lb_quantize_hf(lb_conv *c, lb_err *err) {
    lb_arena scratch = {0};
    job j = {.c = c, .q = c->quantizer, .n = c->model.n_tensors, .from = c->model.tensors};
    u64 n_parameters = c->model.n_parameters;
    j.tensors = lb_arena_new(&scratch, lb_hf_tensor, j.n + 1);
    j.choices = lb_arena_new(&scratch, lb_hf_choice, j.n + 1);
    lb_status st = j.tensors && j.choices ? LB_OK : oom(err);
    if (st == LB_OK && j.q->o->like)
        st = choose_like(&j, &scratch, err);
    else if (st == LB_OK)
        st = choose(&j, err);
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

/* config.json with what it says of the codes; whatever else it says stays as it is. */
lb_status lb_quantize_hf_config(lb_conv *c, lb_buf *config, lb_err *err) {
    if (!c->quantizer || !c->quantizer->config || c->model.format == LB_FORMAT_MLX)
        return LB_OK;
    lb_buf with = {0};
    lb_status st = lb_arch_config_add(lb_buf_str(config), "quantization_config",
                                      c->quantizer->config, &with, err);
    lb_buf_deinit(config);
    *config = with;
    return st;
}
