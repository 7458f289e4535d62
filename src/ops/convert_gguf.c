/* SPDX-License-Identifier: Apache-2.0 */
/* convert_gguf.c: canonical tensors -> GGUF, as convert_hf_to_gguf.py of llama-cpp-python 0.3.36
 * does it (names, types, order, relayouts), plus what the way back needs under lbrx.*. */
#include "base/os.h"
#include "ops/convert_internal.h"
#include "text/tokdata.h"
#include <errno.h>
#include <stdlib.h>

/* ---- metadata edits ---- */

static lb_status parse_number(lb_gguf_kv *kv, const char *type, const char *value, lb_err *err) {
    static const struct {
        const char *name;
        lb_gguf_type type;
        u32 bits; /* 0: a float */
        bool is_signed;
    } kinds[] = {{"u8", LB_GGUF_U8, 8, false},    {"i8", LB_GGUF_I8, 8, true},
                 {"u16", LB_GGUF_U16, 16, false}, {"i16", LB_GGUF_I16, 16, true},
                 {"u32", LB_GGUF_U32, 32, false}, {"i32", LB_GGUF_I32, 32, true},
                 {"u64", LB_GGUF_U64, 64, false}, {"i64", LB_GGUF_I64, 64, true},
                 {"f32", LB_GGUF_F32, 0, true},   {"f64", LB_GGUF_F64, 0, true}};
    char *end = NULL;
    for (u32 i = 0; i < LB_LEN(kinds); i++) {
        if (strcmp(type, kinds[i].name) != 0)
            continue;
        u32 bits = kinds[i].bits;
        bool fits = true;
        kv->type = kinds[i].type;
        errno = 0;
        if (bits == 0) {
            double d = strtod(value, &end);
            kv->v.f = kinds[i].type == LB_GGUF_F32 ? (double)(float)d : d;
        } else if (kinds[i].is_signed) {
            kv->v.i = strtoll(value, &end, 10);
            i64 max = (i64)(UINT64_MAX >> (65 - bits));
            fits = errno == 0 && kv->v.i <= max && kv->v.i >= -max - 1;
        } else { /* strtoull takes a sign */
            kv->v.u = strtoull(value, &end, 10);
            fits = errno == 0 && kv->v.u <= UINT64_MAX >> (64 - bits) && !strchr(value, '-');
        }
        if (!*value || *end || !fits)
            return lb_fail(err, LB_E_USAGE, "--set: '%s' is not a value of type %s", value, type);
        return LB_OK;
    }
    return lb_fail(err, LB_E_USAGE,
                   "--set: '%s' is not one of u8|i8|u16|i16|u32|i32|u64|i64|f32|f64|bool|str",
                   type);
}

static lb_status set_one(lb_conv *c, const char *text, lb_err *err) {
    lb_str s = lb_str_c(text);
    size_t eq, colon;
    if (!lb_str_find(s, LB_STR("="), &eq) || eq == 0 ||
        !lb_str_find(lb_str_sub(s, eq + 1, s.len), LB_STR(":"), &colon))
        return lb_fail(err, LB_E_USAGE,
                       "--set '%s': write KEY=TYPE:VALUE (general.name=str:My model)", text);
    lb_str type = lb_arena_str(c->perm, lb_str_sub(s, eq + 1, eq + 1 + colon));
    lb_str value = lb_str_sub(s, eq + colon + 2, s.len);
    lb_gguf_kv kv = {.key = lb_str_sub(s, 0, eq)};
    if (!type.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    if (lb_str_eq_c(type, "str") || lb_str_eq_c(type, "string")) {
        kv.type = LB_GGUF_STR;
        kv.v.s = value;
    } else if (lb_str_eq_c(type, "bool")) {
        kv.type = LB_GGUF_BOOL;
        kv.v.u = lb_str_eq_c(value, "true") || lb_str_eq_c(value, "1");
        if (!kv.v.u && !lb_str_eq_c(value, "false") && !lb_str_eq_c(value, "0"))
            return lb_fail(err, LB_E_USAGE, "--set: '%.*s' is neither true nor false",
                           LB_FMT(value));
    } else {
        LB_TRY(parse_number(&kv, type.ptr, value.ptr, err));
    }
    return lb_meta_set(&c->meta, &kv, err);
}

lb_status lb_conv_edit_meta(lb_conv *c, lb_err *err) {
    const lb_convert_opts *o = c->o;
    for (u32 i = 0; i < o->n_unset; i++) {
        if (!lb_meta_find(&c->meta, o->unset[i]))
            return lb_fail(err, LB_E_USAGE, "--unset: the model has no key '%s'", o->unset[i]);
        lb_meta_remove(&c->meta, o->unset[i]);
    }
    for (u32 i = 0; i < o->n_set; i++)
        LB_TRY(set_one(c, o->set[i], err));
    if (o->chat_template) {
        lb_str text;
        LB_TRY(lb_os_read_file(o->chat_template, 16 * LB_MIB, c->perm, &text, err));
        LB_TRY(lb_meta_set_str(&c->meta, "tokenizer.chat_template", text, err));
    }
    return LB_OK;
}

/* ---- HF or MLX -> GGUF ---- */

/* llama.h's LLAMA_FTYPE of an unquantized file. */
static u32 file_type(lb_dtype t) {
    return t == LB_F32 ? 0 : t == LB_F16 ? 1 : 32;
}

static lb_dtype target_dtype(const lb_conv *c, const lb_ctensor *t) {
    if (lb_arch_gguf_is_f32(t->match.row, t->match.suffix, t->shape.rank))
        return LB_F32;
    if (c->o->cast)
        return c->o->dtype;
    return !t->quantized && lb_ctensor_is_float(t->dtype) ? t->dtype : c->canon.main_dtype;
}

/* The canonical tensor in GGUF's layout, as an encode node. */
static lb_status to_gguf_node(lb_conv *c, const lb_ctensor *t, lb_dtype dtype, u64 *rows,
                              lb_node_id *out, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    const lb_weight *w = &c->src->weights[t->weight];
    lb_ctensor x = *t;
    lb_relayout r = t->match.row->relayout;
    switch (r) {
    case LB_RL_NONE:
        break;
    case LB_RL_ROPE_Q:
    case LB_RL_ROPE_K:
        if (w->shape.rank == 1)
            x.node = lb_expr_read_as(g, c->canon.source_index, w, w->shape.dim[0], 1);
        x.node = lb_expr_heads(g, x.node, lb_arch_relayout_heads(r, &c->canon.hp), false);
        break;
    case LB_RL_ADD_ONE:
        x.node = lb_expr_map1(g, LB_MAP_ADD_C, lb_expr_decode(g, x.node), LB_CONST(1));
        x.values = true;
        if (t->dtype == LB_F16) /* the reference adds in f16 */
            x.node = lb_expr_map1(g, LB_MAP_ROUND_F16, x.node, LB_CONST(0));
        break;
    default:
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': its relayout is not known",
                       LB_FMT(t->name));
    }
    if (*rows < t->shape.dim[0]) { /* rows that the tokenizer does not know (gemma) */
        u64 n_rows =
            lb_graph_node(g, x.node == LB_NODE_NONE ? 0 : x.node)->n_rows / t->shape.dim[0] * *rows;
        x.node = lb_expr_rows(g, x.node, 0, 1, n_rows);
    }
    *out = lb_ctensor_encode(c->plan, &x, dtype);
    return LB_OK;
}

typedef struct order {
    lb_str file, name;
    u64 index;
} order;

/* By shard file, then by name, as the reference walks them. */
static int by_file_and_name(const void *a, const void *b) {
    const order *x = a, *y = b;
    int d = lb_str_cmp(x->file, y->file);
    return d ? d : lb_str_cmp(x->name, y->name);
}

static lb_status sorted(lb_conv *c, order **out, lb_err *err) {
    order *o = lb_arena_new(c->perm, order, c->canon.n_tensors + 1);
    if (!o)
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    for (u64 i = 0; i < c->canon.n_tensors; i++) {
        const lb_ctensor *t = &c->canon.tensors[i];
        u32 file = c->src->tensors[c->src->weights[t->weight].part[0]].file;
        o[i] = (order){c->src->files[file].name, t->name, i};
    }
    qsort(o, c->canon.n_tensors, sizeof *o, by_file_and_name);
    *out = o;
    return LB_OK;
}

static lb_status add_made(lb_conv *c, lb_err *err) {
    lb_arch_made_tensor *made = NULL;
    u32 n = 0;
    LB_TRY(lb_arch_made(c->canon.arch, c->canon.config, c->perm, &made, &n, err));
    for (u32 i = 0; i < n; i++) {
        u64 rows, cols;
        lb_shape_matrix(&made[i].shape, &rows, &cols);
        lb_node_id x = lb_expr_const(&c->plan->graph, rows, cols, made[i].values);
        x = lb_expr_encode(&c->plan->graph, x, LB_F32);
        LB_TRY(lb_conv_push(
            c,
            &(lb_out_tensor){
                .name = made[i].name, .dtype = LB_F32, .shape = made[i].shape, .node = x},
            err));
    }
    return LB_OK;
}

typedef struct dtype_notes {
    lb_str *text; /* [n] "name type" */
    u64 n;
} dtype_notes;

/* What the way back could not know: a tensor that is F32 here and was not of the matrices' type. */
static lb_status note_dtype(lb_conv *c, const lb_ctensor *t, lb_dtype dtype, dtype_notes *notes,
                            lb_err *err) {
    if (t->quantized || !lb_ctensor_is_float(t->dtype) || c->o->cast)
        return LB_OK;
    bool back_as_main = dtype == LB_F32 && c->canon.main_dtype != LB_F32;
    if (back_as_main ? t->dtype == c->canon.main_dtype : t->dtype == dtype)
        return LB_OK;
    notes->text[notes->n] =
        lb_arena_printf(c->perm, "%.*s %s", LB_FMT(t->name), lb_dtype_get(t->dtype)->name);
    if (!notes->text[notes->n].ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    notes->n++;
    return LB_OK;
}

/* Not for llama.cpp, which refuses files with tensors that it does not know. */
static lb_status keep_original(lb_conv *c, const lb_ctensor *t, lb_err *err) {
    lb_out_tensor out = {.dtype = t->dtype, .shape = t->shape};
    out.name = lb_arena_printf(c->perm, LB_ORIG_PREFIX "%.*s", LB_FMT(t->name));
    if (!out.name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (t->quantized)
        return LB_OK;
    out.node = lb_ctensor_encode(c->plan, t, t->dtype);
    return lb_conv_push(c, &out, err);
}

static lb_status add_tensor(lb_conv *c, const lb_ctensor *t, u64 vocab_rows, dtype_notes *notes,
                            lb_err *err) {
    if (!t->known)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' has no place in the %s family of GGUF: it would be lost",
                       LB_FMT(t->name), lb_arch_name(c->canon.arch));
    if (lb_arch_is_dropped(t->match.row, LB_WORLD_GGUF, &c->canon.hp)) {
        lb_conv_remark(c, "left out: %.*s (made again at run time)", LB_FMT(t->name));
        return LB_OK;
    }
    if (t->match.n_rows > 1)
        return lb_fail(err, LB_E_UNSUPPORTED, "tensor '%.*s': fused tensors are not supported yet",
                       LB_FMT(t->name));
    lb_dtype dtype = target_dtype(c, t);
    u64 rows = t->shape.rank ? t->shape.dim[0] : 1;
    if (t->match.row->flags & LB_ROW_CUT_VOCAB && vocab_rows < rows) {
        lb_conv_remark(c, "%.*s: %llu of %llu rows kept (the tokenizer has no more tokens)",
                       LB_FMT(t->name), (unsigned long long)vocab_rows, (unsigned long long)rows);
        rows = vocab_rows;
    }
    lb_out_tensor out = {.dtype = dtype, .shape = t->shape};
    LB_TRY(to_gguf_node(c, t, dtype, &rows, &out.node, err));
    if (out.shape.rank)
        out.shape.dim[0] = rows;
    out.name = lb_arch_tensor_name(t->match.row, LB_WORLD_GGUF, &t->match, c->perm);
    if (!out.name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    LB_TRY(note_dtype(c, t, dtype, notes, err));
    if (t->match.row->relayout == LB_RL_ADD_ONE && c->o->w.dry_run)
        lb_conv_remark(c, "%.*s: stored as value + 1 in f32; values below 2^-16 lose bits",
                       LB_FMT(t->name));
    LB_TRY(lb_conv_push(c, &out, err));
    return t->match.row->relayout == LB_RL_ADD_ONE && c->o->w.lossless ? keep_original(c, t, err)
                                                                       : LB_OK;
}

static lb_status side_json(lb_conv *c, const char *name, lb_json **out, lb_err *err) {
    const lb_side_file *f = lb_source_side(c->src, lb_str_c(name));
    lb_str text;
    *out = NULL;
    if (!f)
        return LB_OK;
    LB_TRY(lb_os_read_file(f->path, 16 * LB_MIB, c->perm, &text, err));
    return lb_json_parse(text, name, c->perm, out, err);
}

static lb_status keep_texts(lb_conv *c, lb_err *err) {
    lb_str text;
    const lb_side_file *f = lb_source_side(c->src, LB_STR("generation_config.json"));
    LB_TRY(lb_meta_set_str(&c->meta, LB_KEY_HF_CONFIG, c->src->config, err));
    if (f) {
        LB_TRY(lb_os_read_file(f->path, 16 * LB_MIB, c->perm, &text, err));
        LB_TRY(lb_meta_set_str(&c->meta, LB_KEY_HF_GENERATION, text, err));
    }
    return lb_tok_keep_from_folder(c->src, &c->meta, err);
}

/* Parameters as the reference counts them: elements of what the file will hold. */
static void count_params(lb_conv *c, lb_arch_meta_in *in) {
    for (u64 i = 0; i < c->model.n_tensors; i++) {
        u64 n = 0;
        if (lb_str_starts(c->model.tensors[i].name, LB_STR(LB_ORIG_PREFIX)) ||
            !lb_shape_elems(&c->model.tensors[i].shape, &n))
            continue;
        in->n_params += n;
        in->n_params_shared += n;
    }
}

static lb_status model_meta(lb_conv *c, lb_err *err) {
    lb_json *generation, *readme = NULL;
    lb_arch_meta_in in = {.config = c->canon.config, .label = c->src->label};
    const lb_side_file *f = lb_source_side(c->src, LB_STR("README.md"));
    (void)readme;
    LB_TRY(side_json(c, "generation_config.json", &generation, err));
    in.generation = generation;
    if (f && f->size_bytes <= 4 * LB_MIB)
        LB_TRY(lb_os_read_file(f->path, 4 * LB_MIB, c->perm, &in.readme, err));
    in.file_type = file_type(c->o->cast ? c->o->dtype : c->canon.main_dtype);
    count_params(c, &in);
    return lb_arch_meta_from_config(c->canon.arch, &in, &c->meta, err);
}

lb_status lb_conv_to_gguf(lb_conv *c, lb_err *err) {
    LB_TRY(lb_ctensors_build(c->plan, 0, &c->canon, err));
    if (!c->canon.arch) {
        if (err)
            *err = c->canon.arch_err;
        return c->canon.arch_err.code;
    }
    LB_TRY(lb_arch_seen_check(c->canon.arch, &c->canon.hp, &c->canon.seen,
                              c->src->format == LB_FORMAT_MLX ? LB_WORLD_MLX : LB_WORLD_HF, err));
    /* the tokenizer first: it says how many rows of the embedding are kept; its keys come last */
    lb_gguf_meta tok;
    lb_tok_info info = {.n_embd_rows = UINT64_MAX};
    lb_tok_opts to = {.arch = lb_str_c(lb_arch_name(c->canon.arch)),
                      .n_vocab = c->canon.hp.n_vocab};
    for (u32 i = 0; i < c->o->n_set; i++) {
        lb_str s = lb_str_c(c->o->set[i]), pre = LB_STR("tokenizer.ggml.pre=str:");
        if (lb_str_starts(s, pre))
            to.pre = lb_str_sub(s, pre.len, s.len);
    }
    lb_meta_init(&tok, c->perm);
    lb_status st = lb_tok_meta_from_folder(c->src, &to, &tok, &info, err);
    dtype_notes notes = {0};
    order *list = NULL;
    if (st == LB_OK)
        st = sorted(c, &list, err);
    if (st == LB_OK && !(notes.text = lb_arena_new(c->perm, lb_str, c->canon.n_tensors + 1)))
        st = lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    if (st == LB_OK)
        st = add_made(c, err);
    for (u64 i = 0; i < c->canon.n_tensors && st == LB_OK; i++)
        st = add_tensor(c, &c->canon.tensors[list[i].index], info.n_embd_rows, &notes, err);
    if (st == LB_OK)
        st = lb_graph_status(&c->plan->graph, err);
    if (st == LB_OK)
        st = model_meta(c, err);
    for (u64 i = 0; i < tok.n && st == LB_OK; i++)
        st = lb_meta_set(&c->meta, &tok.kv[i], err);
    lb_meta_deinit(&tok);
    LB_TRY(st);
    if (!c->o->w.no_provenance) {
        LB_TRY(keep_texts(c, err));
        if (notes.n)
            LB_TRY(lb_meta_set_array(&c->meta, LB_KEY_HF_DTYPES, LB_GGUF_STR, notes.n, notes.text,
                                     err));
    }
    c->model.meta = &c->meta;
    return lb_conv_edit_meta(c, err);
}

/* ---- GGUF -> GGUF: the same tensors, or their values ---- */

static bool stays_f32(const lb_tensor *t) {
    return t->shape.rank < 2 || lb_str_ends(t->name, LB_STR("_norm.weight")) ||
           !lb_str_ends(t->name, LB_STR(".weight"));
}

static lb_status cast_tensors(lb_conv *c, lb_err *err) {
    lb_graph *g = &c->plan->graph;
    for (u64 i = 0; i < c->src->n_weights; i++) {
        const lb_weight *w = &c->src->weights[i];
        const lb_tensor *t = &c->src->tensors[w->part[0]];
        lb_dtype_class cls = lb_dtype_get(t->dtype)->cls;
        bool values = cls == LB_CLASS_FLOAT || cls == LB_CLASS_BLOCK;
        lb_dtype dtype =
            !values || (stays_f32(t) && w->enc.kind == LB_ENC_PLAIN) ? t->dtype : c->o->dtype;
        lb_node_id x = lb_expr_read(g, 0, w);
        if (dtype != t->dtype || w->enc.kind != LB_ENC_PLAIN)
            x = lb_expr_decode(g, x);
        x = lb_expr_encode(g, x, dtype);
        LB_TRY(lb_conv_push(
            c, &(lb_out_tensor){.name = w->name, .dtype = dtype, .shape = w->shape, .node = x},
            err));
    }
    return LB_OK;
}

lb_status lb_conv_gguf_to_gguf(lb_conv *c, lb_err *err) {
    for (u64 i = 0; i < c->src->gguf->n; i++) {
        const lb_gguf_kv *kv = &c->src->gguf->kv[i];
        if (!lb_str_starts(kv->key, LB_STR("lbrx.source.")))
            LB_TRY(lb_meta_set(&c->meta, kv, err));
    }
    if (c->o->cast) {
        LB_TRY(cast_tensors(c, err));
        LB_TRY(lb_meta_set_u32(&c->meta, "general.file_type", file_type(c->o->dtype), err));
    } else {
        LB_TRY(lb_conv_same_tensors(c, err));
    }
    c->model.meta = &c->meta;
    return lb_conv_edit_meta(c, err);
}
