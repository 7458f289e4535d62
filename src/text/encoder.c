/* SPDX-License-Identifier: Apache-2.0 */
/* encoder.c: see encoder.h. What has no tokenizer.json gets the one that it would be converted to.
 */
#include "text/encoder.h"
#include "text/hf_encode.h"
#include "text/tok_folder.h"
#include "text/tokdata.h"

struct lb_encoder {
    lb_tok_folder folder;
    lb_arena arena;
    lb_hf_tok own; /* parsed from a text that was made */
    bool has_own;
    lb_hf_enc enc;
};

static lb_status parse_made(lb_encoder *e, const lb_gguf_meta *meta, lb_err *err) {
    lb_tok_file *files;
    u64 n, i = 0;
    lb_buf text = {0};
    lb_out out = {.put = lb_out_to_buf, .ctx = &text};
    LB_TRY(lb_tok_files_from_meta(meta, &e->arena, &files, &n, err));
    while (i < n && !lb_str_eq_c(files[i].name, "tokenizer.json"))
        i++;
    if (i == n)
        return lb_fail(err, LB_E_UNSUPPORTED, "its tokenizer has no form in tokenizer.json");
    lb_buf_put_str(&out.buf, files[i].bytes);
    lb_status st = files[i].meta ? lb_tok_file_write(&files[i], &out, err) : LB_OK;
    lb_status ended = lb_out_end(&out, st == LB_OK ? err : NULL);
    st = st == LB_OK ? ended : st;
    lb_str kept = LB_STR_NONE;
    if (st == LB_OK) {
        kept = lb_arena_str(&e->arena, lb_buf_str(&text));
        st = kept.ptr ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory for a tokenizer");
    }
    lb_buf_deinit(&text);
    if (st == LB_OK)
        st = lb_hf_tok_parse(&e->own, kept, "tokenizer.json", &e->arena, err);
    e->has_own = st == LB_OK;
    return st;
}

static lb_status parse_other(lb_encoder *e, const lb_source *s, lb_err *err) {
    lb_tok_opts o = {.arch = LB_STR("llama"), .pre = LB_STR("default")};
    lb_gguf_meta meta;
    lb_tok *tok = NULL;
    lb_meta_init(&meta, &e->arena);
    lb_status st = lb_tok_open(&tok, s, err);
    if (st == LB_OK)
        st = lb_tok_to_meta(tok, &o, &meta, NULL, err);
    if (st == LB_OK)
        st = parse_made(e, &meta, err);
    lb_tok_close(&tok);
    lb_meta_deinit(&meta);
    return st;
}

static lb_status parse(lb_encoder *e, const lb_source *s, lb_err *err) {
    if (s->gguf)
        return parse_made(e, s->gguf, err);
    LB_TRY(lb_tok_folder_open(&e->folder, s, err));
    if (!lb_tok_folder_has(&e->folder, "tokenizer.json") && !lb_tok_has_legacy(&e->folder))
        return parse_other(e, s, err);
    LB_TRY(lb_tok_folder_tokenizer(&e->folder, true, err));
    return lb_tok_folder_add_configured(&e->folder, err);
}

lb_status lb_encoder_open(lb_encoder **out, const lb_source *s, lb_err *err) {
    lb_encoder *e = *out = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return lb_fail(err, LB_E_NOMEM, "out of memory for a tokenizer");
    lb_status st = parse(e, s, err);
    const lb_hf_tok *tok = e->has_own ? &e->own : &e->folder.tok;
    if (st == LB_OK && tok->kind != LB_HF_BPE)
        st = lb_fail(err, LB_E_UNSUPPORTED,
                     "its tokenizer is no BPE: only such ones cut text into tokens here");
    if (st == LB_OK)
        st = lb_hf_enc_init(&e->enc, tok, err);
    if (st != LB_OK) {
        lb_err_context(err, "%s", s->path);
        lb_encoder_close(out);
    }
    return st;
}

void lb_encoder_close(lb_encoder **e) {
    if (!*e)
        return;
    if ((*e)->enc.tok)
        lb_hf_enc_deinit(&(*e)->enc);
    if ((*e)->has_own)
        lb_hf_tok_deinit(&(*e)->own);
    if ((*e)->folder.src)
        lb_tok_folder_close(&(*e)->folder);
    lb_arena_deinit(&(*e)->arena);
    lb_free(*e);
    *e = NULL;
}

lb_status lb_encoder_run(const lb_encoder *e, lb_str text, lb_buf *ids, lb_err *err) {
    return lb_hf_encode(&e->enc, text, false, ids, err);
}
