/* SPDX-License-Identifier: Apache-2.0 */
/* encode.c: where a model's tokenizer stands, and hf_encode.h over it. What is no tokenizer.json is
 * made one: by way of GGUF's keys, which all kinds can be turned into and out of. */
#include "text/encode.h"
#include "arch/arch.h"
#include "text/hf_encode.h"
#include "text/tok_folder.h"
#include "text/tokdata.h"
#include <stdlib.h>

struct lb_encoder {
    lb_tok_folder folder;
    lb_hf_enc enc;
    bool has_enc;
    lb_json *map;       /* special_tokens_map.json, where it counts */
    lb_source *rebuilt; /* the files that were made; NULL: the model's own */
    lb_arena arena;     /* of the meta */
    lb_gguf_meta meta;  /* from which */
};

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the tokenizer");
}

/* ---- tokenizers that are no tokenizer.json ---- */

static lb_status file_text(const lb_tok_file *f, lb_arena *perm, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    lb_out o = {.put = lb_out_to_buf, .ctx = &b};
    lb_status st = lb_tok_file_write(f, &o, err);
    lb_status end = lb_out_end(&o, err);
    if (st == LB_OK && end == LB_OK) {
        *out = lb_arena_str(perm, lb_buf_str(&b));
        st = out->ptr ? LB_OK : oom(err);
    }
    lb_buf_deinit(&b);
    return st == LB_OK ? end : st;
}

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
    LB_TRY(lb_tok_files_from_meta(meta, &s->perm, &files, &n, err));
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
        *f = (lb_side_file){.name = files[i].name, .bytes = files[i].bytes};
        if (files[i].meta)
            LB_TRY(file_text(&files[i], &s->perm, &f->bytes, err));
        f->size_bytes = f->bytes.len;
        s->n_sides++;
    }
    if (s->n_sides)
        qsort(s->sides, s->n_sides, sizeof *s->sides, by_name);
    return LB_OK;
}

/* tokenizer.model: to the keys of a GGUF, and back to a tokenizer.json. */
static lb_status rebuild_spm(lb_encoder *e, const lb_source *s, lb_err *err) {
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
    return st == LB_OK ? rebuild(e, &e->meta, s, err) : st;
}

static lb_status find_files(lb_encoder *e, const lb_source **s, lb_err *err) {
    lb_tok_folder look = {.src = *s};
    bool spm =
        !lb_tok_folder_has(&look, "tokenizer.json") && lb_tok_folder_has(&look, "tokenizer.model");
    if ((*s)->gguf)
        LB_TRY(rebuild(e, (*s)->gguf, NULL, err));
    else if (spm)
        LB_TRY(rebuild_spm(e, *s, err));
    if (e->rebuilt)
        *s = e->rebuilt;
    return LB_OK;
}

/* ---- ---- */

static lb_status open(lb_encoder *e, const lb_source *s, lb_err *err) {
    static const char *const kinds[] = {"BPE", "Unigram", "WordPiece", "WordLevel"};
    LB_TRY(find_files(e, &s, err));
    LB_TRY(lb_tok_folder_open(&e->folder, s, err));
    LB_TRY(lb_tok_folder_tokenizer(&e->folder, true, err));
    if (e->folder.tok.kind != LB_HF_BPE)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer.json: encoding with a model of type %s is not in this version",
                       kinds[e->folder.tok.kind]);
    LB_TRY(lb_tok_folder_add_configured(&e->folder, err));
    LB_TRY(lb_tok_folder_map(&e->folder, &e->map, err));
    LB_TRY(lb_hf_enc_init(&e->enc, &e->folder.tok, err));
    e->has_enc = true;
    return LB_OK;
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
    lb_tok_folder_close(&e->folder);
    lb_source_close(&e->rebuilt);
    lb_meta_deinit(&e->meta);
    lb_arena_deinit(&e->arena);
    lb_free(e);
    *out = NULL;
}

lb_status lb_encoder_encode(const lb_encoder *e, lb_str text, bool special, lb_buf *ids,
                            lb_err *err) {
    return lb_hf_encode(&e->enc, text, special, ids, err);
}

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
