/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c: where a model's tokenizer stands, and hf_encode.h over it. What is no tokenizer.json is
 * made one: by way of GGUF's keys, which all kinds can be turned into and out of. */
#include "text/encode.h"
#include "arch/arch.h"
#include "text/bytelevel.h"
#include "text/decode_steps.h"
#include "text/encode_spm.h"
#include "text/hf_encode.h"
#include "text/tok_folder.h"
#include "text/tok_keep.h"
#include "text/spm.h"
#include "text/tokdata.h"
#include <stdlib.h>

struct lb_encoder {
    lb_tok_folder folder;
    lb_hf_enc enc;
    bool has_enc;
    lb_json *map;                /* special_tokens_map.json, where it counts */
    lb_source *rebuilt;          /* the files that were made; NULL: the model's own */
    const lb_gguf_meta *made_of; /* its tokenizer.json is what these keys say; NULL: it has bytes */
    lb_arena arena;              /* of the meta */
    lb_gguf_meta meta;           /* from which */
    const lb_gguf_meta *keys;    /* the GGUF's, the model's own or meta; NULL: a folder's files */
    lb_decode_steps *decoder;
    u64 n_all;      /* 1 + the largest id */
    u32 *added_of;  /* [n_all] 1 + place in tok.added; 0: none */
    lb_str *normal; /* [n_added] of those that are matched in the normalized text; else empty */
    lb_buf ends;    /* u32 each, in order */
    lb_spm spm;     /* of a tokenizer.model that stands for all; n_pieces 0: none */
};

struct lb_encode_work {
    lb_hf_work *hf;
    lb_buf valid;
};

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tokenizer");
}

/* ---- tokenizers that are no tokenizer.json ---- */

static int by_name(const void *a, const void *b) {
    return lb_str_cmp(((const lb_side_file *)a)->name, ((const lb_side_file *)b)->name);
}

/* The files that a GGUF's keys give, beside those of `beside` (NULL: none), which stay what they
 * are. */
static lb_status rebuild(lb_encoder *e, const lb_gguf_meta *meta, const lb_source *beside,
                         lb_err *err) {
    lb_tok_file *files;
    u64 n;
    lb_source *s = e->rebuilt = lb_source_new(LB_FORMAT_HF, "tokenizer");
    if (!s)
        return oom(err);
    e->made_of = NULL;
    LB_TRY(lb_tok_files_look(meta, &s->perm, &files, &n, err));
    const u64 n_beside = beside ? beside->n_sides : 0;
    if (!(s->sides = lb_arena_new(&s->perm, lb_side_file, n + n_beside + 1)))
        return oom(err);
    for (; s->n_sides < n_beside; s->n_sides++)
        s->sides[s->n_sides] = beside->sides[s->n_sides];
    if (beside)
        s->config = beside->config;
    for (u64 i = 0; i < n; i++) {
        lb_side_file *f = &s->sides[s->n_sides];
        if (beside ? !lb_str_eq_c(files[i].name, "tokenizer.json")
                   : files[i].meta && files[i].made == LB_TOK_MADE_SPM)
            continue; /* they have it; the other form of the same */
        *f = (lb_side_file){
            .name = files[i].name, .bytes = files[i].bytes, .size_bytes = files[i].bytes.len};
        if (files[i].meta) /* tokenizer.json, of which nobody reads the bytes */
            e->made_of = meta;
        s->n_sides++;
    }
    if (s->n_sides)
        qsort(s->sides, s->n_sides, sizeof *s->sides, by_name);
    return LB_OK;
}

/* tokenizer.model: to the keys of a GGUF, and back to a tokenizer.json. */
static lb_status rebuild_bpe(lb_encoder *e, const lb_source *s, lb_err *err) {
    lb_tok *t = NULL;
    lb_tok_opts o = {.arch = LB_STR("llama")};
    lb_json *config;
    const lb_arch *arch;
    lb_hparams hp;
    if (s->config.len)
        LB_TRY(lb_json_parse(s->config, "config.json", &e->arena, &config, err));
    if (s->config.len && lb_arch_from_config(config, &arch, &hp, NULL) == LB_OK)
        o = (lb_tok_opts){.arch = lb_str_c(lb_arch_name(arch)), .n_vocab = hp.n_vocab};
    LB_TRY(lb_tok_open(&t, s, err));
    lb_status st = lb_tok_to_meta(t, &o, &e->meta, NULL, err);
    lb_tok_close(&t);
    if (st == LB_OK && !e->spm.add_dummy_prefix) /* the file says so, whatever the architecture */
        st = lb_meta_set_bool(&e->meta, "tokenizer.ggml.add_space_prefix", false, err);
    return st == LB_OK ? rebuild(e, &e->meta, s, err) : st;
}

static lb_status rebuild_unigram(lb_encoder *e, const lb_source *s, lb_err *err) {
    lb_tok_folder f;
    LB_TRY(lb_tok_folder_open(&f, s, err));
    lb_status st = lb_spm_unigram_keys(&e->spm, &f, &e->meta, err);
    lb_tok_folder_close(&f);
    return st == LB_OK ? rebuild(e, &e->meta, s, err) : st;
}

static lb_status rebuild_spm(lb_encoder *e, const lb_source *s, lb_err *err) {
    lb_tok_folder look = {.src = s};
    lb_str bytes;
    bool found;
    LB_TRY(lb_tok_folder_read_to(&look, "tokenizer.model", &e->arena, &bytes, &found, err));
    LB_TRY(lb_spm_parse(&e->spm, bytes, "tokenizer.model", &e->arena, err));
    return e->spm.model == LB_SPM_UNIGRAM ? rebuild_unigram(e, s, err) : rebuild_bpe(e, s, err);
}

/* A GGUF that kept a tokenizer.model and no tokenizer.json: what its other keys say, which are
 * those of llama.cpp. */
static lb_status rebuild_gguf(lb_encoder *e, const lb_gguf_meta *keys, lb_err *err) {
    LB_TRY(rebuild(e, keys, NULL, err));
    lb_tok_folder look = {.src = e->rebuilt};
    if (lb_tok_folder_has(&look, "tokenizer.json") || !lb_tok_kept(keys))
        return LB_OK;
    for (u64 i = 0; i < keys->n; i++)
        if (!lb_str_starts(keys->kv[i].key, LB_STR("lbrx.")))
            LB_TRY(lb_meta_adopt(&e->meta, &keys->kv[i], err));
    lb_source_close(&e->rebuilt);
    return rebuild(e, &e->meta, NULL, err);
}

static lb_status find_files(lb_encoder *e, const lb_source **s, lb_err *err) {
    lb_tok_folder look = {.src = *s};
    bool spm =
        !lb_tok_folder_has(&look, "tokenizer.json") && lb_tok_folder_has(&look, "tokenizer.model");
    if ((*s)->gguf)
        LB_TRY(rebuild_gguf(e, e->keys = (*s)->gguf, err));
    else if (spm)
        LB_TRY(rebuild_spm(e, *s, err));
    if (spm && !(*s)->gguf)
        e->keys = &e->meta;
    if (e->rebuilt)
        *s = e->rebuilt;
    return LB_OK;
}

/* ---- what the files say beyond tokenizer.json ---- */

/* What SentencePiece or llama.cpp read takes the longest entry of the table of characters. */
static lb_status mark_longest(lb_json *norm, lb_arena *arena, lb_err *err) {
    lb_str type;
    if (!norm || norm->type != LB_JOBJECT)
        return LB_OK;
    if (lb_json_as_str(lb_json_get(norm, "type"), &type) && lb_str_eq_c(type, "Precompiled"))
        return lb_json_set(arena, norm, LB_NORM_LONGEST, lb_json_new_bool(arena, true)) ? LB_OK
                                                                                        : oom(err);
    lb_json *list = lb_json_get(norm, "normalizers");
    for (lb_json *v = list ? list->first : NULL; v; v = v->next)
        LB_TRY(mark_longest(v, arena, err));
    return LB_OK;
}

/* llama.cpp composes nothing: a GGUF that does not bring its tokenizer.json along gives its ids. */
static void leave_uncomposed(lb_encoder *e) {
    lb_json *rest = e->folder.tok.rest;
    lb_str type;
    if (e->keys && !lb_tok_kept(e->keys) && !lb_meta_find(e->keys, "tokenizer.huggingface.json") &&
        lb_json_as_str(lb_json_path(rest, "normalizer.type"), &type) && lb_str_eq_c(type, "NFC"))
        lb_json_remove(rest, "normalizer");
}

/* add_bos_token and add_eos_token of tokenizer_config.json: with either of them transformers puts
 * its own post-processor in the place of the file's. */
static lb_status configured_ends(lb_encoder *e, lb_err *err) {
    const lb_json *c = e->folder.tok_config;
    const lb_json *bos = lb_json_get(c, "add_bos_token"), *eos = lb_json_get(c, "add_eos_token");
    bool add_bos = false, add_eos = false;
    if (!bos && !eos)
        return LB_OK;
    (void)lb_json_as_bool(bos, &add_bos);
    (void)lb_json_as_bool(eos, &add_eos);
    lb_buf_reset(&e->enc.before);
    lb_buf_reset(&e->enc.after);
    u32 id = add_bos ? lb_encoder_special_id(e, "bos_token") : LB_NO_ID;
    if (id != LB_NO_ID)
        lb_buf_put_u32(&e->enc.before, id);
    id = add_eos ? lb_encoder_special_id(e, "eos_token") : LB_NO_ID;
    if (id != LB_NO_ID)
        lb_buf_put_u32(&e->enc.after, id);
    LB_TRY(lb_buf_status(&e->enc.before, err));
    return lb_buf_status(&e->enc.after, err);
}

/* ---- ends ---- */

static int by_id(const void *a, const void *b) {
    u32 x = *(const u32 *)a, y = *(const u32 *)b;
    return (x > y) - (x < y);
}

static void add_end(lb_encoder *e, u64 id) {
    if (id < e->n_all && !lb_encoder_is_end(e, (u32)id))
        lb_buf_put_u32(&e->ends, (u32)id);
}

/* A number or a list of them. */
static void add_end_json(lb_encoder *e, const lb_json *v) {
    u64 id;
    if (lb_json_as_u64(v, &id))
        add_end(e, id);
    for (const lb_json *x = v && v->type == LB_JARRAY ? v->first : NULL; x; x = x->next)
        if (lb_json_as_u64(x, &id))
            add_end(e, id);
}

static void drop_end(lb_encoder *e, u32 id) {
    u32 *v = (u32 *)(void *)e->ends.ptr;
    u64 n = e->ends.len / 4, k = 0;
    for (u64 i = 0; i < n; i++)
        if (v[i] != id)
            v[k++] = v[i];
    e->ends.len = (size_t)k * 4;
}

/* llama.cpp, src/llama-vocab.cpp ("tokens that cause end-of-generation"). */
static void add_known_ends(lb_encoder *e) {
    static const char *const texts[] = {
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<|flush|>",
        "<|calls|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<eos>",
        "<end_of_utterance>",
        "<turn|>",
        "<|tool_response>",
        "[e~[",
        ("<\xef\xbd\x9c"
         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
    };
    for (u32 i = 0; i < LB_LEN(texts); i++) {
        u32 id = lb_encoder_find(e, lb_str_c(texts[i]));
        if (id != LB_NO_ID)
            add_end(e, id);
    }
    /* gpt-oss: a message ends in <|end|>, an answer in <|return|> or <|call|>; solar-open alike */
    u32 end = lb_encoder_find(e, LB_STR("<|end|>"));
    bool harmony = lb_encoder_find(e, LB_STR("<|return|>")) != LB_NO_ID &&
                   lb_encoder_find(e, LB_STR("<|call|>")) != LB_NO_ID;
    bool solar = lb_encoder_find(e, LB_STR("<|calls|>")) != LB_NO_ID &&
                 lb_encoder_find(e, LB_STR("<|flush|>")) != LB_NO_ID;
    if (end != LB_NO_ID && (harmony || solar))
        drop_end(e, end);
    /* gemma 4 has the old </s> as a token that is no end */
    u32 tool = lb_encoder_find(e, LB_STR("<|tool_response>"));
    u32 old = lb_encoder_find(e, LB_STR("</s>"));
    if (tool != LB_NO_ID && old != LB_NO_ID)
        drop_end(e, old);
}

static lb_status find_ends(lb_encoder *e, const lb_source *s, lb_err *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    lb_arena scratch = {0};
    lb_json *config = NULL;
    lb_str text;
    u64 id;
    bool found;
    lb_tok_folder own = {.src = s};
    add_known_ends(e);
    for (u32 i = 0; i < LB_LEN(keys); i++)
        if (e->keys && lb_kv_as_u64(lb_meta_find(e->keys, keys[i]), &id))
            add_end(e, id);
    u32 eos = lb_encoder_special_id(e, "eos_token");
    if (eos != LB_NO_ID)
        add_end(e, eos);
    lb_status st =
        lb_tok_folder_read_to(&own, "generation_config.json", &scratch, &text, &found, err);
    if (st == LB_OK && found)
        st = lb_json_parse(text, "generation_config.json", &scratch, &config, err);
    if (st == LB_OK) {
        add_end_json(e, lb_json_get(config, "eos_token_id"));
        add_end_json(e, lb_json_get(e->folder.config, "eos_token_id"));
        add_end_json(e, lb_json_path(e->folder.config, "text_config.eos_token_id"));
        st = lb_buf_status(&e->ends, err);
    }
    if (st == LB_OK && e->ends.len)
        qsort(e->ends.ptr, e->ends.len / 4, 4, by_id);
    lb_arena_deinit(&scratch);
    return st;
}

/* ---- opening ---- */

static lb_status index_added(lb_encoder *e, lb_err *err) {
    const lb_hf_tok *t = &e->folder.tok;
    e->n_all = lb_hf_tok_n_all(t);
    e->added_of = lb_arena_new(&e->arena, u32, e->n_all + 1);
    if (!e->added_of)
        return oom(err);
    e->normal = lb_arena_new(&e->arena, lb_str, t->n_added + 1);
    if (!e->normal)
        return oom(err);
    for (u64 i = 0; i < e->enc.normalized.n; i++)
        e->normal[e->enc.normalized.v[i].index] = e->enc.normalized.v[i].text;
    for (u64 i = 0; i < t->n_added; i++)
        if (t->added[i].id < e->n_all)
            e->added_of[t->added[i].id] = (u32)i + 1;
    return LB_OK;
}

static lb_status open(lb_encoder *e, const lb_source *model, lb_err *err) {
    const lb_source *s = model;
    LB_TRY(find_files(e, &s, err));
    LB_TRY(lb_tok_folder_open(&e->folder, s, err));
    LB_TRY(e->made_of ? lb_tok_folder_take(&e->folder, e->made_of, err)
                      : lb_tok_folder_tokenizer(&e->folder, true, err));
    LB_TRY(lb_tok_folder_add_configured(&e->folder, err));
    LB_TRY(lb_tok_folder_map(&e->folder, &e->map, err));
    if (e->rebuilt)
        LB_TRY(mark_longest(lb_json_get(e->folder.tok.rest, "normalizer"), &e->folder.arena, err));
    if (e->spm.n_pieces && e->spm.model == LB_SPM_BPE)
        LB_TRY(lb_spm_put_normalizer(&e->spm, e->folder.tok.rest, &e->folder.arena, err));
    if (model->gguf)
        leave_uncomposed(e);
    LB_TRY(lb_hf_enc_init(&e->enc, &e->folder.tok, err));
    e->has_enc = true;
    LB_TRY(lb_decode_steps_new(&e->decoder, lb_json_get(e->folder.tok.rest, "decoder"), err));
    LB_TRY(index_added(e, err));
    if (!e->rebuilt)
        LB_TRY(configured_ends(e, err));
    return find_ends(e, model, err);
}

lb_status lb_encoder_open(lb_encoder **out, const lb_source *s, lb_err *err) {
    lb_encoder *e = *out = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return oom(err);
    lb_meta_init(&e->meta, &e->arena);
    lb_status st = open(e, s, err);
    if (st != LB_OK) {
        lb_err_context(err, "%s: tokenizer", s->path);
        lb_encoder_close(out);
    }
    return st;
}

void lb_encoder_close(lb_encoder **out) {
    lb_encoder *e = *out;
    if (!e)
        return;
    if (e->has_enc)
        lb_hf_enc_deinit(&e->enc);
    lb_decode_steps_free(&e->decoder);
    lb_buf_deinit(&e->ends);
    lb_tok_folder_close(&e->folder);
    lb_source_close(&e->rebuilt);
    lb_meta_deinit(&e->meta);
    lb_arena_deinit(&e->arena);
    lb_free(e);
    *out = NULL;
}

/* ---- text -> ids ---- */

lb_status lb_encode_work_new(lb_encode_work **out, const lb_encoder *e, lb_err *err) {
    lb_encode_work *w = *out = lb_alloc_zero(1, sizeof *w);
    if (w && !(w->hf = lb_hf_work_new(&e->enc)))
        lb_encode_work_free(out);
    return *out ? LB_OK : oom(err);
}

void lb_encode_work_free(lb_encode_work **w) {
    if (!*w)
        return;
    lb_hf_work_free(&(*w)->hf);
    lb_buf_deinit(&(*w)->valid);
    lb_free(*w);
    *w = NULL;
}

lb_status lb_encode_run(lb_encode_work *w, lb_str text, u32 flags, lb_buf *ids, lb_err *err) {
    u32 f = (flags & LB_ENCODE_ADD ? LB_HF_ADD : 0u) | (flags & LB_ENCODE_PLAIN ? LB_HF_PLAIN : 0u);
    if (lb_str_is_utf8(text))
        return lb_hf_encode_flags(w->hf, text, f, ids, err);
    lb_buf_reset(&w->valid);
    lb_utf8_put_lossy(&w->valid, text);
    LB_TRY(lb_buf_status(&w->valid, err));
    return lb_hf_encode_flags(w->hf, lb_buf_str(&w->valid), f, ids, err);
}

lb_status lb_encoder_encode(const lb_encoder *e, lb_str text, bool special, lb_buf *ids,
                            lb_err *err) {
    lb_encode_work *w;
    LB_TRY(lb_encode_work_new(&w, e, err));
    lb_status st = lb_encode_run(w, text, special ? LB_ENCODE_ADD : 0, ids, err);
    lb_encode_work_free(&w);
    return st;
}

/* ---- tokens ---- */

lb_str lb_encoder_special(const lb_encoder *e, const char *key) {
    lb_str text = LB_STR_NONE;
    const lb_json *v = lb_json_get(e->map, key);
    v = v ? v : lb_json_get(e->folder.tok_config, key);
    if (v) /* null: the model has none */
        return lb_tok_token_text(v, &text) ? text : LB_STR_NONE;
    for (const lb_tok_default *d = lb_tok_class_defaults(&e->folder); d->key; d++)
        if (strcmp(d->key, key) == 0)
            return lb_str_c(d->text);
    return text;
}

u32 lb_encoder_find(const lb_encoder *e, lb_str text) {
    u32 id;
    return lb_hf_tok_id(&e->folder.tok, text, &id) ? id : LB_NO_ID;
}

u32 lb_encoder_special_id(const lb_encoder *e, const char *key) {
    lb_str text = lb_encoder_special(e, key);
    return text.len ? lb_encoder_find(e, text) : LB_NO_ID;
}

u64 lb_encoder_n_vocab(const lb_encoder *e) {
    return e->n_all;
}

lb_token_kind lb_encoder_token(const lb_encoder *e, u32 id, lb_str *text) {
    const lb_hf_tok *t = &e->folder.tok;
    lb_str none;
    text = text ? text : &none;
    *text = LB_STR_NONE;
    if (id >= e->n_all)
        return LB_TOKEN_NONE;
    if (e->added_of[id]) {
        const lb_hf_added *a = &t->added[e->added_of[id] - 1];
        *text = a->content;
        return a->special ? LB_TOKEN_CONTROL : LB_TOKEN_USER;
    }
    if (!lb_texts_has(&t->token, id))
        return LB_TOKEN_NONE;
    *text = lb_texts_get(&t->token, id);
    const lb_gguf_kv *types = e->keys ? lb_meta_find(e->keys, "tokenizer.ggml.token_type") : NULL;
    i64 type;
    if (types && types->type == LB_GGUF_ARRAY && id < types->n &&
        lb_kv_elem_i64(types, id, &type) && type == LB_SPM_UNUSED)
        return LB_TOKEN_UNUSED;
    if (lb_decode_steps_has_bytes(e->decoder) && lb_byte_token_value(*text) >= 0)
        return LB_TOKEN_BYTE;
    bool unknown = (t->kind == LB_HF_BPE && id == e->enc.bpe.unk) ||
                   (t->kind == LB_HF_UNIGRAM && id == e->enc.unigram.unk) ||
                   (t->kind != LB_HF_BPE && t->kind != LB_HF_UNIGRAM && id == e->enc.words.unk);
    return unknown ? LB_TOKEN_UNKNOWN : LB_TOKEN_NORMAL;
}

lb_str lb_encoder_decoded(const lb_encoder *e, u32 id) {
    lb_str text;
    (void)lb_encoder_token(e, id, &text);
    if (text.ptr && e->added_of[id] && e->normal[e->added_of[id] - 1].len)
        return e->normal[e->added_of[id] - 1];
    return text;
}

lb_status lb_encoder_bytes(const lb_encoder *e, u32 id, lb_buf *out, lb_err *err) {
    lb_str text;
    lb_token_kind kind = lb_encoder_token(e, id, &text);
    if (kind == LB_TOKEN_CONTROL)
        lb_buf_put_str(out, text);
    else if (kind != LB_TOKEN_NONE)
        lb_decode_steps_piece(e->decoder, lb_encoder_decoded(e, id), out);
    return lb_buf_status(out, err);
}

const u32 *lb_encoder_ends(const lb_encoder *e, u64 *n) {
    *n = e->ends.len / 4;
    return (const u32 *)(const void *)e->ends.ptr;
}

bool lb_encoder_is_end(const lb_encoder *e, u32 id) {
    u64 n;
    const u32 *v = lb_encoder_ends(e, &n);
    for (u64 i = 0; i < n; i++)
        if (v[i] == id)
            return true;
    return false;
}

bool lb_encoder_adds_bos(const lb_encoder *e) {
    u32 bos = lb_encoder_special_id(e, "bos_token"), first;
    if (bos == LB_NO_ID || e->enc.before.len < 4)
        return false;
    memcpy(&first, e->enc.before.ptr, 4);
    return first == bos;
}

const struct lb_decode_steps *lb_encoder_decoder(const lb_encoder *e) {
    return e->decoder;
}
