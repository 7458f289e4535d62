/* SPDX-License-Identifier: Apache-2.0 */
/* tok_internlm2.c: a tokenizer.model with the tokens of the chat models laid over it, as the
 * reference does it for InternLM 2: the tokens of added_tokens.json come behind the vocabulary,
 * those of tokenizer_config.json and tokenizer.json take the places of pieces, and <|im_end|> among
 * them ends a text. Source: conversion/internlm.py (InternLM2Model.set_vocab) of llama-cpp-python
 * 0.3.36. */
#include "text/special.h"
#include "text/spm.h"
#include "text/tok_job.h"

#define ADDED_SCORE (-1000.0f)

/* A piece of one zero byte would end the text in llama.cpp: the reference's stand-in, a dragon. */
static lb_str piece_text(const lb_spm_piece *p) {
    return p->text.len == 1 && p->text.ptr[0] == 0 ? LB_STR("\xf0\x9f\x90\x89") : p->text;
}

static lb_status put_pieces(lb_tok_job *j, const lb_spm *spm, const lb_json *added, lb_err *err) {
    u64 n = j->opts->n_vocab ? j->opts->n_vocab : spm->n_pieces;
    LB_TRY(lb_tok_make_arrays(j, n + (added ? added->n : 0), true, err));
    for (u64 i = 0; i < n; i++) {
        if (i >= spm->n_pieces) {
            LB_TRY(lb_tok_pad(j, i, err));
            j->scores[i] = -10000.0f;
            continue;
        }
        const lb_spm_piece *p = &spm->pieces[i];
        i32 type = (i32)lb_spm_seen_type(spm, p);
        if (lb_str_starts(p->text, LB_STR("[UNUSED")))
            type = LB_SPM_UNUSED;
        LB_TRY(lb_tok_set(j, i, piece_text(p), type, err));
        j->scores[i] = p->score;
    }
    for (const lb_json *o = added ? added->first : NULL; o; o = o->next) {
        j->scores[n] = ADDED_SCORE;
        LB_TRY(lb_tok_set(j, n++, o->key, LB_SPM_USER_DEFINED, err));
    }
    return LB_OK;
}

/* One entry of a list of added tokens. *eos: <|im_end|>'s id, once there is one. */
static lb_status put_added(lb_tok_job *j, u64 id, const lb_json *entry, u64 *eos, lb_err *err) {
    bool special = false;
    lb_str text;
    if (!lb_json_as_str(lb_json_get(entry, "content"), &text) || id >= j->n)
        return lb_fail(err, LB_E_FORMAT,
                       "an added token has no content, or its id %llu is not one "
                       "of %llu tokens",
                       (unsigned long long)id, (unsigned long long)j->n);
    if (lb_str_eq_c(text, "<|im_end|>"))
        *eos = id;
    (void)lb_json_as_bool(lb_json_get(entry, "special"), &special);
    j->scores[id] = ADDED_SCORE;
    return lb_tok_set(j, id, text, special ? LB_SPM_CONTROL : LB_SPM_USER_DEFINED, err);
}

static lb_status put_lists(lb_tok_job *j, u64 *eos, lb_err *err) {
    u64 id;
    const lb_json *list = lb_json_get(j->f->tok_config, "added_tokens_decoder");
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        if (!lb_str_to_u64(o->key, &id))
            return lb_fail(err, LB_E_FORMAT,
                           "tokenizer_config.json: added_tokens_decoder: \"%.*s\" is no id",
                           LB_FMT(o->key));
        LB_TRY(put_added(j, id, o, eos, err));
    }
    if (!lb_tok_folder_has(j->f, "tokenizer.json"))
        return LB_OK;
    LB_TRY(lb_tok_folder_tokenizer(j->f, j->opts->keep, err));
    list = lb_json_get(j->f->tok.rest, "added_tokens");
    for (const lb_json *o = list ? list->first : NULL; o; o = o->next) {
        if (!lb_json_as_u64(lb_json_get(o, "id"), &id))
            return lb_fail(err, LB_E_FORMAT, "tokenizer.json: an added token has no id");
        LB_TRY(put_added(j, id, o, eos, err));
    }
    return LB_OK;
}

lb_status lb_tok_way_internlm2(lb_tok_job *j, lb_err *err) {
    lb_arena scratch = {0};
    lb_str bytes;
    lb_json *added;
    bool found, prefix = true;
    lb_spm spm;
    u64 eos = UINT64_MAX;
    LB_TRY(lb_tok_folder_json(j->f, "added_tokens.json", &added, err));
    lb_status st = lb_tok_folder_read_to(j->f, "tokenizer.model", &scratch, &bytes, &found, err);
    if (st == LB_OK)
        st = lb_spm_parse(&spm, bytes, "tokenizer.model", &scratch, err);
    if (st == LB_OK) {
        prefix = spm.add_dummy_prefix;
        st = put_pieces(j, &spm, added, err);
    }
    lb_arena_deinit(&scratch);
    LB_TRY(st);
    LB_TRY(put_lists(j, &eos, err));
    LB_TRY(lb_tok_put_vocab(j, "llama", lb_tok_pre(j, LB_STR("default"), "fixed"), err));
    LB_TRY(lb_meta_set_bool(j->meta, "tokenizer.ggml.add_space_prefix", prefix, err));
    lb_special_opts special = {.n_vocab = j->n, .eos = eos == UINT64_MAX ? NULL : &eos};
    return lb_special_put(j->f, &special, j->meta, err);
}
