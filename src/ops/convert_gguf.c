/* SPDX-License-Identifier: Apache-2.0 */
/* convert_gguf.c: canonical tensors -> GGUF, as convert_hf_to_gguf.py of llama-cpp-python 0.3.36
 * does it (names, types, order, relayouts), plus what the way back needs under lbrx.*. */
#include "base/os.h"
#include "ops/convert_internal.h"
#include "text/tokdata.h"
#include <stdlib.h>

/* ---- HF or MLX -> GGUF ---- */

/* llama.h's LLAMA_FTYPE of an unquantized file. */
static u32 file_type(lb_dtype t) {
    return t == LB_F32 ? 0 : t == LB_F16 ? 1 : 32;
}

static lb_dtype target_dtype(const lb_conv *c, const lb_assembly *a, const lb_made_of *m) {
    const lb_ctensor *t = m->first;
    if (lb_arch_gguf_is_f32(t->match.row, t->match.suffix, lb_assembly_rank(a, m)))
        return LB_F32;
    if (c->o->cast)
        return c->o->dtype;
    return !t->quantized && lb_ctensor_is_float(t->dtype) ? t->dtype : c->canon.main_dtype;
}

static bool may_be_codes(const lb_assembly *a, const lb_made_of *m) {
    return m->first->known && !lb_arch_gguf_is_f32(m->first->match.row, m->first->match.suffix,
                                                   lb_assembly_rank(a, m));
}

/* GGUF has a type for the codes as they are stored. */
static bool keeps_codes(const lb_conv *c, const lb_assembly *a, const lb_made_of *m, u32 *form) {
    return may_be_codes(a, m) && lb_conv_keeps_codes(c, a, m, form);
}

typedef struct order {
    lb_str file, name;
    u64 index;
    bool unpacked; /* stored under another name: the reference appends what it makes of codes */
} order;

/* By shard file, then by name, as the reference walks them. */
static int by_file_and_name(const void *a, const void *b) {
    const order *x = a, *y = b;
    if (x->unpacked != y->unpacked)
        return x->unpacked ? 1 : -1;
    int d = lb_str_cmp(x->file, y->file);
    d = d ? d : lb_str_cmp(x->name, y->name);
    return d ? d : x->index < y->index ? -1 : x->index > y->index;
}

/* The places of the canonical tensors in that sequence: heap, u64 list[n_tensors]. */
static lb_status sorted(lb_conv *c, u64 **out, lb_err *err) {
    u64 n = c->canon.n_tensors;
    order *o = lb_alloc_zero((size_t)n + 1, sizeof *o);
    u64 *list = lb_alloc_zero((size_t)n + 1, sizeof *list);
    *out = list;
    if (!o || !list) {
        lb_free(o);
        return lb_fail(err, LB_E_NOMEM, "out of memory for the list of tensors");
    }
    for (u64 i = 0; i < n; i++) {
        const lb_weight *w = &c->src->weights[c->canon.tensors[i].weight];
        const lb_tensor *t = &c->src->tensors[w->part[0]];
        o[i] = (order){c->src->n_files ? c->src->files[t->file].name : LB_STR_NONE, w->name, i,
                       c->src->format == LB_FORMAT_HF && !lb_str_eq(t->name, w->name)};
    }
    qsort(o, n, sizeof *o, by_file_and_name);
    for (u64 i = 0; i < n; i++)
        list[i] = o[i].index;
    lb_free(o);
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
                .name = made[i].name, .dtype = LB_F32, .shape = &made[i].shape, .node = x},
            err));
    }
    return LB_OK;
}

typedef struct dtype_notes {
    lb_texts text; /* "name type" */
    lb_buf line;
} dtype_notes;

/* What the way back could not know: a tensor that is F32 here and was not of the matrices' type. */
static lb_status note_dtype(lb_conv *c, const lb_made_of *m, lb_dtype dtype, dtype_notes *notes,
                            lb_err *err) {
    const lb_ctensor *t = m->first;
    if (t->quantized || !lb_ctensor_is_float(t->dtype) || c->o->cast)
        return LB_OK;
    bool back_as_main =
        dtype == LB_F32 && c->canon.main_dtype != LB_F32 && !(t->match.row->flags & LB_ROW_HF_F32);
    if (back_as_main ? t->dtype == c->canon.main_dtype : t->dtype == dtype)
        return LB_OK;
    lb_str name = lb_ctensor_hf_name(&c->canon, t, m->ref[0].expert, c->perm);
    if (!name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    lb_buf_reset(&notes->line);
    lb_buf_printf(&notes->line, "%.*s %s", LB_FMT(name), lb_dtype_get(t->dtype)->name);
    LB_TRY(lb_buf_status(&notes->line, err));
    return lb_texts_add(&notes->text, lb_buf_str(&notes->line), err);
}

/* Not for llama.cpp, which refuses files with tensors that it does not know. */
static lb_status keep_original(lb_conv *c, const lb_ctensor *t, lb_err *err) {
    lb_out_tensor out = {.dtype = t->dtype};
    lb_str hf = lb_ctensor_hf_name(&c->canon, t, LB_NO_INDEX, c->perm);
    lb_piece x;
    out.name = lb_arena_printf(c->perm, LB_ORIG_PREFIX "%.*s", LB_FMT(hf));
    if (!hf.ptr || !out.name.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for names");
    if (t->quantized)
        return LB_OK;
    LB_TRY(lb_conv_shape(c, t, &t->shape, &out.shape, err));
    LB_TRY(lb_ctensor_piece(c->plan, &c->canon, t, LB_NO_INDEX, false, &x, err));
    out.node = lb_piece_encode(c->plan, t, &x, t->dtype);
    return lb_conv_push(c, &out, err);
}

static lb_status add_tensor(lb_conv *c, const lb_assembly *a, const lb_made_of *m, u64 vocab_rows,
                            dtype_notes *notes, lb_err *err) {
    const lb_ctensor *t = m->first;
    if (!t->known)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tensor '%.*s' has no place in the %s family of GGUF: it would be lost",
                       LB_FMT(m->name), lb_arch_name(c->canon.arch));
    lb_out_tensor out = {.name = m->name, .dtype = target_dtype(c, a, m)};
    u32 form;
    bool codes = keeps_codes(c, a, m, &form);
    lb_repack block = codes ? lb_conv_codes_block(c, form) : LB_REPACK_NONE;
    u64 rows = UINT64_MAX, had = t->shape.rank ? t->shape.dim[0] : 1;
    lb_made made;
    if (t->match.row->flags & LB_ROW_CUT_VOCAB && vocab_rows < had) {
        lb_conv_remark(c, "%.*s: %llu of %llu rows kept (the tokenizer has no more tokens)",
                       LB_FMT(c->src->weights[t->weight].name), (unsigned long long)vocab_rows,
                       (unsigned long long)had);
        rows = vocab_rows;
    }
    if (codes) {
        out.dtype = lb_repack_dtype(block);
        lb_conv_count_codes(c, out.dtype);
    } else if (may_be_codes(a, m)) {
        lb_conv_note_values(c, a, m);
    }
    LB_TRY(codes ? lb_assembly_repack(a, m, block, rows, &made, err)
                 : lb_assembly_make(a, m, out.dtype, rows, &made, err));
    LB_TRY(lb_conv_shape(c, t, &made.shape, &out.shape, err));
    out.segments = made.segments;
    out.n_segments = made.n_segments;
    LB_TRY(note_dtype(c, m, out.dtype, notes, err));
    const char *loss = lb_ctensor_loss(&c->canon, t, LB_WORLD_GGUF);
    if (loss && c->o->w.dry_run)
        lb_conv_remark(c, "%.*s: %s", LB_FMT(c->src->weights[t->weight].name), loss);
    c->n_f16_sums += loss && t->dtype == LB_F16 && !c->o->w.lossless;
    LB_TRY(lb_conv_push(c, &out, err));
    return loss && c->o->w.lossless ? keep_original(c, t, err) : LB_OK;
}

static lb_status side_json(lb_conv *c, const char *name, lb_json **out, lb_err *err) {
    const lb_side_file *f = lb_source_side(c->src, lb_str_c(name));
    lb_str text;
    *out = NULL;
    if (!f)
        return LB_OK;
    LB_TRY(lb_side_read(f, 16 * LB_MIB, c->perm, &text, err));
    return lb_json_parse(text, name, c->perm, out, err);
}

/* The config that the file's tensors need: that of the language model. */
static lb_status keep_texts(lb_conv *c, lb_err *err) {
    lb_str text;
    lb_buf config = {0};
    const lb_side_file *f = lb_source_side(c->src, LB_STR("generation_config.json"));
    LB_TRY(lb_arch_config_tied(c->src->config, &c->canon.hp, c->perm, &text, err));
    lb_status st = lb_arch_config_text(text, &config, err);
    if (st == LB_OK) {
        text = lb_buf_str(&config);
        st = lb_conv_config_without(c, &text, err);
    }
    if (st == LB_OK)
        st = lb_meta_set_str(&c->meta, LB_KEY_HF_CONFIG, text, err);
    lb_buf_deinit(&config);
    LB_TRY(st);
    if (f) {
        LB_TRY(lb_side_read(f, 16 * LB_MIB, c->perm, &text, err));
        LB_TRY(lb_meta_set_str(&c->meta, LB_KEY_HF_GENERATION, text, err));
    }
    return lb_arch_config_seal(&c->meta, err);
}

static lb_status share_all(lb_gguf_meta *to, const lb_gguf_meta *from, lb_err *err) {
    for (u64 i = 0; i < from->n; i++)
        LB_TRY(lb_meta_share(to, &from->kv[i], err));
    return LB_OK;
}

/* The tokenizer's keys, and those from which its files come back; read once for both. */
typedef struct tok_keys {
    lb_gguf_meta keys, kept;
    lb_tok_info info;
} tok_keys;

static lb_status read_tokenizer(lb_conv *c, tok_keys *t, lb_err *err) {
    lb_tok *tok;
    lb_tok_opts to = {.arch = lb_str_c(lb_arch_name(c->canon.arch)),
                      .n_vocab = c->canon.hp.n_vocab,
                      .keep = !c->o->w.no_provenance};
    for (u32 i = 0; i < c->o->n_set; i++) {
        lb_str s = lb_str_c(c->o->set[i]), pre = LB_STR("tokenizer.ggml.pre=str:");
        if (lb_str_starts(s, pre))
            to.pre = lb_str_sub(s, pre.len, s.len);
    }
    LB_TRY(lb_tok_open(&tok, c->src, err));
    lb_status st = lb_tok_to_meta(tok, &to, &t->keys, &t->info, err);
    if (st == LB_OK && to.keep)
        st = lb_tok_keep(tok, &t->keys, &t->kept, err);
    lb_tok_close(&tok);
    return st;
}

/* Parameters as the reference counts them: elements of what the file will hold. */
static void count_params(lb_conv *c, lb_arch_meta_in *in) {
    u64 sum = 0, n_stacks = 0;
    for (u64 i = 0; i < c->model.n_tensors; i++) {
        u64 n = 0;
        if (lb_str_starts(c->model.tensors[i].name, LB_STR(LB_ORIG_PREFIX)) ||
            !lb_shape_elems(c->model.tensors[i].shape, &n))
            continue;
        const lb_shape *s = c->model.tensors[i].shape;
        size_t at;
        in->n_params += n;
        if (!lb_str_find(c->model.tensors[i].name, LB_STR("_exps."), &at) || s->rank < 3) {
            in->n_params_shared += n;
            continue;
        }
        u64 experts = s->dim[0];
        in->n_params_expert += experts ? n / experts : 0;
        sum += experts;
        n_stacks++;
    }
    in->n_expert = n_stacks ? sum / n_stacks : 0;
}

/* modules.json of an embedding model: the config of its pooling, and what is not the language
 * model's, which the reference writes on request only. */
static lb_status read_modules(lb_conv *c, lb_arch_meta_in *in, lb_err *err) {
    const lb_side_file *f = lb_source_side(c->src, LB_STR("modules.json"));
    lb_json *modules, *pooling;
    lb_str type, path, text;
    LB_TRY(side_json(c, "modules.json", &modules, err));
    for (const lb_json *m = modules ? modules->first : NULL; m; m = m->next) {
        if (!lb_json_as_str(lb_json_get(m, "type"), &type) ||
            !lb_json_as_str(lb_json_get(m, "path"), &path))
            continue;
        if (lb_str_ends(type, LB_STR("Dense")))
            lb_conv_remark(c, "left out: %.*s (a module behind the model)", LB_FMT(path));
        if (in->pooling || !f->path || !lb_str_ends(type, LB_STR("Pooling")))
            continue;
        if (!lb_str_is_file_name(path))
            return lb_fail(err, LB_E_FORMAT, "modules.json: '%.*s' is not a folder's name",
                           LB_FMT(path));
        size_t dir = strlen(f->path) - strlen("modules.json");
        lb_str name =
            lb_arena_printf(c->perm, "%.*s%.*s/config.json", (int)dir, f->path, LB_FMT(path));
        if (!name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for names");
        LB_TRY(lb_os_read_file(name.ptr, LB_MIB, c->perm, &text, err));
        LB_TRY(lb_json_parse(text, "config.json of the pooling", c->perm, &pooling, err));
        in->pooling = pooling;
    }
    return LB_OK;
}

static void remark_lines(lb_conv *c, lb_str lines) {
    while (lines.len) {
        size_t n = (size_t)((const char *)memchr(lines.ptr, '\n', lines.len) - lines.ptr);
        lb_conv_remark(c, "%.*s", (int)n, lines.ptr);
        lines = lb_str_sub(lines, n + 1, lines.len);
    }
}

/* What a model that is computed was made by (a merge file...), as "lbrx.text.NAME". */
static lb_status keep_origin(lb_conv *c, lb_err *err) {
    for (u64 i = 0; i < c->src->n_sides && !c->o->w.no_provenance; i++) {
        const lb_side_file *f = &c->src->sides[i];
        if (!f->provenance || !lb_str_is_utf8(f->bytes))
            continue;
        const char *key = lb_arena_printf(c->perm, "lbrx.text.%.*s", LB_FMT(f->name)).ptr;
        if (!key)
            return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
        LB_TRY(lb_meta_set_str(&c->meta, key, f->bytes, err));
    }
    return LB_OK;
}

static lb_status model_meta(lb_conv *c, lb_err *err) {
    lb_json *generation;
    lb_arch_meta_in in = {.config = c->canon.config, .label = lb_os_base_name(c->src->label)};
    LB_TRY(side_json(c, "generation_config.json", &generation, err));
    in.generation = generation;
    LB_TRY(read_modules(c, &in, err));
    LB_TRY(lb_conv_card(c, &in.readme, err));
    in.file_type = lb_conv_codes_file_type(c);
    if (in.file_type == UINT32_MAX)
        in.file_type = file_type(c->o->cast ? c->o->dtype : c->canon.main_dtype);
    /* A folder of MLX without such layers still has the config that names them. */
    in.no_mtp = c->canon.left_extras & 1u << LB_EXTRA_MTP ||
                (c->src->format == LB_FORMAT_MLX && c->canon.seen.n_mtp == 0);
    in.n_mtp = c->canon.seen.n_mtp;
    if (!in.no_mtp && c->canon.hp.n_mtp > in.n_mtp)
        lb_conv_remark(c,
                       "config.json names %llu layers of multi-token prediction, the model has "
                       "%llu: the GGUF says what the config says (--mtp drop: none)",
                       (unsigned long long)c->canon.hp.n_mtp, (unsigned long long)in.n_mtp);
    count_params(c, &in);
    lb_buf said = {0};
    in.said = &said;
    lb_status st = lb_arch_meta_from_config(c->canon.arch, &in, &c->meta, err);
    if (st == LB_OK && (st = lb_buf_status(&said, err)) == LB_OK)
        remark_lines(c, lb_buf_str(&said));
    lb_buf_deinit(&said);
    return st;
}

static lb_status assemble(lb_conv *c, lb_assembly *a, lb_err *err) {
    u64 *list = NULL;
    lb_status st = sorted(c, &list, err);
    if (st == LB_OK)
        st = lb_assemble(c->plan, &c->canon, LB_WORLD_GGUF, list, a, err);
    lb_free(list);
    if (st == LB_OK)
        st = lb_conv_say_left_out(c, a, "made again at run time", err);
    return st;
}

static lb_status add_tensors(lb_conv *c, u64 vocab_rows, dtype_notes *notes, lb_err *err) {
    lb_assembly a = {0};
    lb_status st = assemble(c, &a, err);
    if (st == LB_OK)
        st = add_made(c, err);
    /* the reference writes first what it need not turn into values */
    u32 form;
    for (u32 pass = 0; pass < 2; pass++)
        for (u64 i = 0; i < a.n && st == LB_OK; i++)
            if (keeps_codes(c, &a, &a.tensor[i], &form) == (pass == 0))
                st = add_tensor(c, &a, &a.tensor[i], vocab_rows, notes, err);
    lb_assembly_deinit(&a);
    lb_conv_say_values(c);
    if (c->n_f16_sums)
        lb_conv_remark(c,
                       "%llu tensors are computed in f16 (--dry-run lists them), as the reference "
                       "converter does: --lossless also keeps the original values",
                       (unsigned long long)c->n_f16_sums);
    return st;
}
/* Tensors, then keys. */
static lb_status all_to_gguf(lb_conv *c, const tok_keys *tok, lb_err *err) {
    dtype_notes notes = {0};
    lb_status st = add_tensors(c, tok->info.n_embd_rows, &notes, err);
    if (st == LB_OK)
        st = lb_graph_status(&c->plan->graph, err);
    if (st == LB_OK)
        st = model_meta(c, err);
    if (st == LB_OK)
        st = share_all(&c->meta, &tok->keys, err);
    if (st == LB_OK && !c->o->w.no_provenance) {
        st = keep_texts(c, err);
        if (st == LB_OK)
            st = keep_origin(c, err);
        if (st == LB_OK)
            st = share_all(&c->meta, &tok->kept, err);
        if (st == LB_OK && notes.text.n)
            st = lb_meta_set_texts(&c->meta, LB_KEY_HF_DTYPES, &notes.text, err);
    }
    lb_texts_deinit(&notes.text);
    lb_buf_deinit(&notes.line);
    return st;
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
    LB_TRY(lb_conv_choose_extras(c, LB_WORLD_GGUF, err));
    /* the tokenizer first: it says how many rows of the embedding are kept; its keys come last */
    tok_keys tok = {.info = {.n_embd_rows = UINT64_MAX}};
    lb_meta_init(&tok.keys, c->perm);
    lb_meta_init(&tok.kept, c->perm);
    lb_status st = read_tokenizer(c, &tok, err);
    if (st == LB_OK)
        st = all_to_gguf(c, &tok, err);
    lb_meta_deinit(&tok.keys);
    lb_meta_deinit(&tok.kept);
    LB_TRY(st);
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
    u8 *extra;
    LB_TRY(lb_conv_extras_of(c, &extra, err));
    for (u64 i = 0; i < c->src->n_weights; i++) {
        const lb_weight *w = &c->src->weights[i];
        if (c->canon.left_extras & 1u << extra[w->part[0]])
            continue;
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
            c, &(lb_out_tensor){.name = w->name, .dtype = dtype, .shape = &w->shape, .node = x},
            err));
    }
    return LB_OK;
}

lb_status lb_conv_gguf_to_gguf(lb_conv *c, lb_err *err) {
    for (u64 i = 0; i < c->src->gguf->n; i++) {
        const lb_gguf_kv *kv = &c->src->gguf->kv[i];
        if (!lb_str_starts(kv->key, LB_STR("lbrx.source.")))
            LB_TRY(lb_meta_share(&c->meta, kv, err));
    }
    LB_TRY(lb_conv_drop_extras(c, err));
    if (c->o->cast) {
        LB_TRY(cast_tensors(c, err));
        LB_TRY(lb_meta_set_u32(&c->meta, "general.file_type", file_type(c->o->dtype), err));
    } else {
        LB_TRY(lb_conv_same_tensors(c, err));
    }
    if (c->o->keep[LB_EXTRA_MTP] == LB_KEEP_DROP)
        LB_TRY(lb_arch_meta_without(c->canon.arch, LB_EXTRA_MTP, &c->meta, err));
    c->model.meta = &c->meta;
    return lb_conv_edit_meta(c, err);
}
