/* SPDX-License-Identifier: Apache-2.0 */
/* fake_write.c: made-up models as HF folders and GGUF files, by the layouts of src/format. */
#include "base/os.h"
#include "fake_model.h"
#include "format/gguf_write.h"
#include "format/st_layout.h"
#include "io/json.h"
#include <stdio.h>

#define PIECE_ELEMS ((u64)1 << 16) /* values made at a time; a multiple of every block */

/* One stored tensor: which matrices follow one another in it. */
typedef struct piece {
    const fm_tensor *t;
    u32 expert, n_matrices;
    lb_dtype dtype;
    u32 file;
    u64 off_bytes;
} piece;

typedef struct output {
    const fm_spec *spec;
    const char *dir;
    lb_arena perm;
    fm_tensor *t;
    u64 n;
    piece *pieces; /* in file order */
    u64 n_pieces;
    lb_err *err;
} output;

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a made-up model");
}

static lb_status fill_piece(const output *o, const piece *p, int fd, const char *path, u8 *buffer) {
    u64 n = p->t->dim[0] * (p->t->rank == 2 ? p->t->dim[1] : 1), off = p->off_bytes;
    for (u32 m = 0; m < p->n_matrices; m++) {
        for (u64 from = 0; from < n; from += PIECE_ELEMS) {
            u64 count = LB_MIN(PIECE_ELEMS, n - from), bytes = 0;
            if (!lb_dtype_bytes(p->dtype, count, &bytes))
                return lb_fail(o->err, LB_E_FORMAT, "%.*s: no whole blocks", LB_FMT(p->t->hf));
            fm_values(p->t, p->expert + m, p->dtype, from, count, buffer);
            LB_TRY(lb_os_pwrite(fd, path, buffer, bytes, off, o->err));
            off += bytes;
        }
    }
    return LB_OK;
}

/* A file of size_bytes with this header, and the values of its pieces unless the model is sparse.
 */
static lb_status write_file(const output *o, lb_str name, lb_str header, u64 size_bytes, u32 file) {
    lb_arena scratch = {0};
    int fd = -1;
    const char *path = lb_os_join(&scratch, o->dir, name);
    u8 *buffer = lb_arena_new(&scratch, u8, PIECE_ELEMS * 4);
    lb_status st = path && buffer ? LB_OK : no_memory(o->err);
    if (st == LB_OK)
        st = lb_os_unlink(path, o->err);
    if (st == LB_OK)
        st = lb_os_open_write(path, true, &fd, o->err);
    if (st == LB_OK)
        st = lb_os_truncate(fd, path, size_bytes, o->err);
    if (st == LB_OK)
        st = lb_os_pwrite(fd, path, header.ptr, header.len, 0, o->err);
    for (u64 i = 0; st == LB_OK && !o->spec->sparse && i < o->n_pieces; i++) {
        if (o->pieces[i].file == file)
            st = fill_piece(o, &o->pieces[i], fd, path, buffer);
    }
    lb_os_close(&fd);
    lb_arena_deinit(&scratch);
    return st;
}

static lb_status begin(output *o, lb_err *err) {
    LB_TRY(lb_os_mkdir(o->dir, true, err));
    LB_TRY(fm_tensors(o->spec, &o->perm, &o->t, &o->n, err));
    u64 n = 0;
    for (u64 i = 0; i < o->n; i++)
        n += LB_MAX(o->t[i].n_stack, (u64)1);
    o->pieces = lb_arena_new(&o->perm, piece, n);
    return o->pieces ? LB_OK : no_memory(err);
}

/* ---- config.json ---- */

static void set_u64(lb_arena *a, lb_json *c, const char *key, u64 v) {
    (void)lb_json_set(a, c, key, lb_json_new_u64(a, v));
}

static void set_str(lb_arena *a, lb_json *c, const char *key, const char *v) {
    (void)lb_json_set(a, c, key, lb_json_new_str(a, lb_str_c(v)));
}

static void set_family(lb_arena *a, lb_json *c, const fm_spec *s) {
    static const char *const classes[FM_FAMILIES] = {"LlamaForCausalLM", "Qwen2ForCausalLM",
                                                     "Qwen3ForCausalLM", "Gemma3ForCausalLM",
                                                     "Qwen3MoeForCausalLM"};
    static const char *const types[FM_FAMILIES] = {"llama", "qwen2", "qwen3", "gemma3_text",
                                                   "qwen3_moe"};
    lb_json *names = lb_json_new_array(a);
    if (names)
        (void)lb_json_push(names, lb_json_new_str(a, lb_str_c(classes[s->family])));
    (void)lb_json_set(a, c, "architectures", names);
    set_str(a, c, "model_type", types[s->family]);
    if (s->family == FM_GEMMA3) {
        set_str(a, c, "hidden_activation", "gelu_pytorch_tanh");
        set_u64(a, c, "query_pre_attn_scalar", s->head_dim);
        set_u64(a, c, "sliding_window", 512);
        set_u64(a, c, "sliding_window_pattern", 6);
        (void)lb_json_set(a, c, "rope_local_base_freq", lb_json_new_f64(a, 10000.0));
    } else {
        set_str(a, c, "hidden_act", "silu");
    }
    if (s->family == FM_QWEN3_MOE) {
        set_u64(a, c, "num_experts", s->n_experts);
        set_u64(a, c, "num_experts_per_tok", s->n_experts_used);
        set_u64(a, c, "moe_intermediate_size", s->ffn);
        set_u64(a, c, "decoder_sparse_step", 1);
        (void)lb_json_set(a, c, "norm_topk_prob", lb_json_new_bool(a, true));
        (void)lb_json_set(a, c, "mlp_only_layers", lb_json_new_array(a));
    }
}

static const char *torch_name(lb_dtype t) {
    return t == LB_F32 ? "float32" : t == LB_F16 ? "float16" : "bfloat16";
}

static lb_status write_config(output *o) {
    const fm_spec *s = o->spec;
    lb_arena *a = &o->perm;
    lb_buf text = {0};
    lb_json *c = lb_json_new_object(a);
    if (!c)
        return no_memory(o->err);
    set_family(a, c, s);
    set_u64(a, c, "hidden_size", s->hidden);
    set_u64(a, c, "intermediate_size", s->ffn);
    set_u64(a, c, "num_hidden_layers", s->n_layers);
    set_u64(a, c, "num_attention_heads", s->n_heads);
    set_u64(a, c, "num_key_value_heads", s->n_kv_heads);
    set_u64(a, c, "head_dim", s->head_dim);
    set_u64(a, c, "vocab_size", s->vocab);
    set_u64(a, c, "max_position_embeddings", 4096);
    set_u64(a, c, "bos_token_id", 1);
    set_u64(a, c, "eos_token_id", 2);
    (void)lb_json_set(a, c, "rms_norm_eps", lb_json_new_f64(a, 1e-5));
    (void)lb_json_set(a, c, "rope_theta", lb_json_new_f64(a, 10000.0));
    (void)lb_json_set(a, c, "tie_word_embeddings", lb_json_new_bool(a, s->tied));
    set_str(a, c, "torch_dtype", torch_name(s->dtype));
    lb_json_write(&text, c, (lb_json_style){.indent = 2});
    lb_buf_put_c(&text, "\n");
    lb_status st = lb_buf_status(&text, o->err);
    if (st == LB_OK) {
        output bare = {.spec = s, .dir = o->dir, .err = o->err};
        st = write_file(&bare, LB_STR("config.json"), lb_buf_str(&text), text.len, 0);
    }
    lb_buf_deinit(&text);
    return st;
}

/* ---- safetensors ---- */

/* "%u" in the name becomes the expert's number. */
static lb_str expert_name(lb_arena *perm, lb_str name, u32 expert) {
    size_t at;
    if (!lb_str_find(name, LB_STR("%u"), &at))
        return name;
    return lb_arena_printf(perm, "%.*s%u%.*s", (int)at, name.ptr, expert, (int)(name.len - at - 2),
                           name.ptr + at + 2);
}

static lb_status hf_items(output *o, lb_st_item **out) {
    u64 n = 0;
    for (u64 i = 0; i < o->n; i++) {
        for (u32 e = 0; e < LB_MAX(o->t[i].n_stack, (u64)1); e++)
            o->pieces[n++] = (piece){&o->t[i], e, 1, o->spec->dtype, 0, 0};
    }
    o->n_pieces = n;
    lb_st_item *items = lb_arena_new(&o->perm, lb_st_item, n);
    if (!items)
        return no_memory(o->err);
    for (u64 i = 0; i < n; i++) {
        const fm_tensor *t = o->pieces[i].t;
        items[i] = (lb_st_item){.name = expert_name(&o->perm, t->hf, o->pieces[i].expert),
                                .dtype = o->spec->dtype,
                                .shape = {t->rank, {t->dim[0], t->dim[1]}}};
        if (!items[i].name.ptr)
            return no_memory(o->err);
    }
    *out = items;
    return LB_OK;
}

static lb_status write_shards(output *o) {
    static const lb_st_meta meta[] = {{{"format", 6}, {"pt", 2}, 0}};
    lb_st_item *items = NULL;
    lb_st_layout l;
    lb_st_layout_opts opts = {.style = LB_ST_HF,
                              .max_shard_bytes = o->spec->max_file_bytes,
                              .data_align = 8,
                              .meta = meta,
                              .n_meta = 1,
                              .n_parameters = fm_parameters(o->t, o->n)};
    LB_TRY(hf_items(o, &items));
    LB_TRY(lb_st_layout_plan(items, o->n_pieces, &opts, &o->perm, &l, o->err));
    for (u64 i = 0; i < o->n_pieces; i++) {
        o->pieces[i].file = items[i].shard;
        o->pieces[i].off_bytes = items[i].off_bytes;
    }
    for (u32 i = 0; i < l.n_shards; i++)
        LB_TRY(write_file(o, l.shards[i].name, l.shards[i].header, l.shards[i].size_bytes, i));
    output bare = {.spec = o->spec, .dir = o->dir, .err = o->err};
    return l.index_name.len ? write_file(&bare, l.index_name, l.index, l.index.len, 0) : LB_OK;
}

lb_status fm_write_hf(const char *dir, const fm_spec *spec, lb_err *err) {
    output o = {.spec = spec, .dir = dir, .err = err};
    lb_status st = begin(&o, err);
    if (st == LB_OK)
        st = write_config(&o);
    if (st == LB_OK)
        st = write_shards(&o);
    lb_arena_deinit(&o.perm);
    return st;
}

/* ---- GGUF ---- */

/* <unk>, <s>, </s>, 256 bytes, then words; types as llama.cpp's llama_token_type. */
static lb_status set_vocab(lb_gguf_meta *m, lb_arena *a, const fm_spec *s, lb_err *err) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    lb_str *tokens = lb_arena_new(a, lb_str, s->vocab);
    float *scores = lb_arena_new(a, float, s->vocab);
    i32 *types = lb_arena_new(a, i32, s->vocab);
    if (!tokens || !scores || !types)
        return no_memory(err);
    for (u64 i = 0; i < s->vocab; i++) {
        if (i < 3)
            tokens[i] = lb_str_c(special[i]);
        else if (i < 259)
            tokens[i] = lb_arena_printf(a, "<0x%02X>", (unsigned)(i - 3));
        else
            tokens[i] = lb_arena_printf(a, "\xe2\x96\x81w%llu", (unsigned long long)i);
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        scores[i] = i < 259 ? 0.0f : -(float)(i - 259);
        if (!tokens[i].ptr)
            return no_memory(err);
    }
    LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.model", LB_STR("llama"), err));
    LB_TRY(lb_meta_set_str(m, "tokenizer.ggml.pre", LB_STR("default"), err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.tokens", LB_GGUF_STR, s->vocab, tokens, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.scores", LB_GGUF_F32, s->vocab, scores, err));
    LB_TRY(lb_meta_set_array(m, "tokenizer.ggml.token_type", LB_GGUF_I32, s->vocab, types, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.bos_token_id", 1, err));
    LB_TRY(lb_meta_set_u32(m, "tokenizer.ggml.eos_token_id", 2, err));
    return lb_meta_set_u32(m, "tokenizer.ggml.unknown_token_id", 0, err);
}

static lb_status set_arch_keys(lb_gguf_meta *m, const fm_spec *s, lb_err *err) {
    const struct {
        const char *key;
        u64 v;
    } keys[] = {
        {"context_length", 4096},
        {"embedding_length", s->hidden},
        {"block_count", s->n_layers},
        {"feed_forward_length", s->ffn},
        {"attention.head_count", s->n_heads},
        {"attention.head_count_kv", s->n_kv_heads},
        {"attention.key_length", s->head_dim},
        {"attention.value_length", s->head_dim},
        {"rope.dimension_count", s->head_dim},
        {"vocab_size", s->vocab},
        {"attention.sliding_window", s->family == FM_GEMMA3 ? 512 : 0},
        {"expert_count", s->n_experts},
        {"expert_used_count", s->n_experts_used},
        {"expert_feed_forward_length", s->n_experts ? s->ffn : 0},
    };
    char key[128];
    const char *arch = fm_family_name(s->family);
    for (size_t i = 0; i < LB_LEN(keys); i++) {
        (void)snprintf(key, sizeof key, "%s.%s", arch, keys[i].key);
        if (keys[i].v > 0)
            LB_TRY(lb_meta_set_u32(m, key, (u32)keys[i].v, err));
    }
    (void)snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", arch);
    LB_TRY(lb_meta_set_f32(m, key, 1e-5f, err));
    (void)snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    return lb_meta_set_f32(m, key, 10000.0f, err);
}

static lb_status set_meta(lb_gguf_meta *m, lb_arena *a, const fm_spec *s, lb_err *err) {
    u32 ftype = s->dtype == LB_F32 ? 0 : s->dtype == LB_F16 ? 1 : s->dtype == LB_BF16 ? 32 : 1024;
    LB_TRY(lb_meta_set_str(m, "general.architecture", lb_str_c(fm_family_name(s->family)), err));
    LB_TRY(lb_meta_set_str(m, "general.type", LB_STR("model"), err));
    LB_TRY(lb_meta_set_str(m, "general.name", LB_STR("made up"), err));
    LB_TRY(lb_meta_set_u32(m, "general.file_type", ftype, err));
    LB_TRY(lb_meta_set_u32(m, "general.quantization_version", 2, err));
    LB_TRY(set_arch_keys(m, s, err));
    return set_vocab(m, a, s, err);
}

static lb_status gguf_items(output *o, lb_gguf_item **out) {
    lb_gguf_item *items = lb_arena_new(&o->perm, lb_gguf_item, o->n);
    if (!items)
        return no_memory(o->err);
    for (u64 i = 0; i < o->n; i++) {
        const fm_tensor *t = &o->t[i];
        lb_dtype dtype = t->f32_in_gguf ? LB_F32 : o->spec->dtype;
        lb_shape shape = {t->rank, {t->dim[0], t->dim[1]}};
        if (t->n_stack)
            shape = (lb_shape){3, {t->n_stack, t->dim[0], t->dim[1]}};
        items[i] = (lb_gguf_item){.name = t->gguf, .dtype = dtype, .shape = shape};
        o->pieces[i] = (piece){t, 0, (u32)LB_MAX(t->n_stack, (u64)1), dtype, 0, 0};
    }
    o->n_pieces = o->n;
    *out = items;
    return LB_OK;
}

static lb_status write_gguf(output *o, lb_gguf_meta *m, const char *stem, lb_arena *perm,
                            const char **path) {
    lb_gguf_item *items = NULL;
    lb_gguf_layout l;
    lb_gguf_layout_opts opts = {
        .meta = m, .stem = lb_str_c(stem), .max_file_bytes = o->spec->max_file_bytes};
    LB_TRY(gguf_items(o, &items));
    LB_TRY(lb_gguf_layout_plan(items, o->n, &opts, &o->perm, &l, o->err));
    for (u64 i = 0; i < o->n; i++) {
        o->pieces[i].file = items[i].file;
        o->pieces[i].off_bytes = items[i].off_bytes;
    }
    for (u32 i = 0; i < l.n_files; i++)
        LB_TRY(write_file(o, l.files[i].name, l.files[i].header, l.files[i].size_bytes, i));
    if (path)
        *path = lb_os_join(perm, o->dir, l.files[0].name);
    return !path || *path ? LB_OK : no_memory(o->err);
}

lb_status fm_write_gguf(const char *dir, const char *stem, const fm_spec *spec, lb_arena *perm,
                        const char **path, lb_err *err) {
    output o = {.spec = spec, .dir = dir, .err = err};
    lb_gguf_meta m;
    lb_meta_init(&m, &o.perm);
    lb_status st = begin(&o, err);
    if (st == LB_OK)
        st = set_meta(&m, &o.perm, spec, err);
    if (st == LB_OK)
        st = write_gguf(&o, &m, stem, perm, path);
    lb_meta_deinit(&m);
    lb_arena_deinit(&o.perm);
    return st;
}
