/* SPDX-License-Identifier: Apache-2.0 */
/* encode_spm.c: see encode_spm.h. */
#include "text/encode_spm.h"

#include "base/texts.h"
#include "text/charsmap.h"
#include "text/norm.h"

static const char trim_ends[] = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +| +\\\\z\"},"
                                "\"content\":\"\"}";
static const char merge_spaces[] = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},"
                                   "\"content\":\" \"}";

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.model: out of memory");
}

static lb_status put_pieces(const lb_spm *m, lb_gguf_meta *meta, lb_err *err) {
    lb_texts texts = {0};
    lb_buf scores = {0}, types = {0};
    lb_status st = LB_OK;
    for (u64 i = 0; i < m->n_pieces && st == LB_OK; i++) {
        const lb_spm_piece *p = &m->pieces[i];
        i32 type = (i32)lb_spm_seen_type(m, p);
        st = lb_texts_add(&texts, p->text, err);
        lb_buf_put(&scores, &p->score, sizeof p->score);
        lb_buf_put(&types, &type, sizeof type);
    }
    if (st == LB_OK)
        st = lb_buf_status(&scores, err);
    if (st == LB_OK)
        st = lb_buf_status(&types, err);
    if (st == LB_OK)
        st = lb_meta_set_texts(meta, "tokenizer.ggml.tokens", &texts, err);
    if (st == LB_OK)
        st = lb_meta_set_array(meta, "tokenizer.ggml.scores", LB_GGUF_F32, m->n_pieces, scores.ptr,
                               err);
    if (st == LB_OK)
        st = lb_meta_set_array(meta, "tokenizer.ggml.token_type", LB_GGUF_I32, m->n_pieces,
                               types.ptr, err);
    lb_texts_deinit(&texts);
    lb_buf_deinit(&scores);
    lb_buf_deinit(&types);
    return st;
}

static lb_status put_id(lb_gguf_meta *meta, const char *key, i32 id, const lb_spm *m, lb_err *err) {
    return id >= 0 && (u64)id < m->n_pieces ? lb_meta_set_u32(meta, key, (u32)id, err) : LB_OK;
}

/* The file does not say what stands around a text: the folder's class does. */
static lb_status put_ends(const lb_tok_folder *f, lb_gguf_meta *meta, lb_err *err) {
    lb_str name = lb_tok_class_name(f);
    bool bos = lb_str_starts(name, LB_STR("Llama")) || lb_str_starts(name, LB_STR("Gemma"));
    bool eos = !bos;
    (void)lb_json_as_bool(lb_json_get(f->tok_config, "add_bos_token"), &bos);
    (void)lb_json_as_bool(lb_json_get(f->tok_config, "add_eos_token"), &eos);
    LB_TRY(lb_meta_set_bool(meta, "tokenizer.ggml.add_bos_token", bos, err));
    return lb_meta_set_bool(meta, "tokenizer.ggml.add_eos_token", eos, err);
}

lb_status lb_spm_unigram_keys(const lb_spm *m, const lb_tok_folder *f, lb_gguf_meta *meta,
                              lb_err *err) {
    if (m->treat_whitespace_as_suffix)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "tokenizer.model: treat_whitespace_as_suffix is not known here");
    LB_TRY(lb_meta_set_str(meta, "tokenizer.ggml.model", LB_STR("t5"), err));
    LB_TRY(put_pieces(m, meta, err));
    LB_TRY(lb_meta_set_bool(meta, "tokenizer.ggml.add_space_prefix", m->add_dummy_prefix, err));
    LB_TRY(lb_meta_set_bool(meta, "tokenizer.ggml.remove_extra_whitespaces",
                            m->remove_extra_whitespaces, err));
    if (m->precompiled_charsmap.len)
        LB_TRY(lb_meta_set_array(meta, "tokenizer.ggml.precompiled_charsmap", LB_GGUF_U8,
                                 m->precompiled_charsmap.len, m->precompiled_charsmap.ptr, err));
    LB_TRY(put_id(meta, "tokenizer.ggml.bos_token_id", m->bos_id, m, err));
    LB_TRY(put_id(meta, "tokenizer.ggml.eos_token_id", m->eos_id, m, err));
    LB_TRY(put_id(meta, "tokenizer.ggml.unknown_token_id", m->unk_id, m, err));
    LB_TRY(put_id(meta, "tokenizer.ggml.padding_token_id", m->pad_id, m, err));
    return put_ends(f, meta, err);
}

/* ---- BPE ---- */

static lb_status push(lb_json *list, lb_json *v, lb_err *err) {
    return v && lb_json_push(list, v) ? LB_OK : oom(err);
}

static lb_status push_text(lb_json *list, const char *text, lb_arena *arena, lb_err *err) {
    lb_json *v;
    LB_TRY(lb_json_parse(lb_str_c(text), "normalizer", arena, &v, err));
    return push(list, v, err);
}

static lb_status push_charsmap(lb_json *list, lb_str map, lb_arena *arena, lb_err *err) {
    lb_json *o = lb_json_new_object(arena);
    lb_buf text = {0};
    lb_base64_encode(map, &text);
    lb_status st = lb_buf_status(&text, err);
    lb_str kept = st == LB_OK ? lb_arena_str(arena, lb_buf_str(&text)) : LB_STR_NONE;
    lb_buf_deinit(&text);
    LB_TRY(st);
    if (!kept.ptr ||
        !lb_json_set(arena, o, "type", lb_json_new_str(arena, LB_STR("Precompiled"))) ||
        !lb_json_set(arena, o, "precompiled_charsmap", lb_json_new_str(arena, kept)) ||
        !lb_json_set(arena, o, LB_NORM_LONGEST, lb_json_new_bool(arena, true)))
        return oom(err);
    return push(list, o, err);
}

lb_status lb_spm_put_normalizer(const lb_spm *m, lb_json *rest, lb_arena *arena, lb_err *err) {
    if (!m->precompiled_charsmap.len && !m->remove_extra_whitespaces)
        return LB_OK;
    lb_json *o = lb_json_new_object(arena), *list = lb_json_new_array(arena);
    const lb_json *was = lb_json_get(rest, "normalizer");
    if (!o || !list)
        return oom(err);
    if (m->precompiled_charsmap.len)
        LB_TRY(push_charsmap(list, m->precompiled_charsmap, arena, err));
    if (m->remove_extra_whitespaces) {
        LB_TRY(push_text(list, trim_ends, arena, err));
        LB_TRY(push_text(list, merge_spaces, arena, err));
    }
    if (was && was->type == LB_JOBJECT)
        LB_TRY(push(list, lb_json_copy(arena, was), err));
    if (!lb_json_set(arena, o, "type", lb_json_new_str(arena, LB_STR("Sequence"))) ||
        !lb_json_set(arena, o, "normalizers", list) || !lb_json_set(arena, rest, "normalizer", o))
        return oom(err);
    return LB_OK;
}
