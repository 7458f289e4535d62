/* SPDX-License-Identifier: Apache-2.0 */
/* tok_rebuild_config.c: tokenizer_config.json, special_tokens_map.json, added_tokens.json and
 * tokenizer.model from the keys of a GGUF.
 *
 * The class is PreTrainedTokenizerFast for all: transformers then takes tokenizer.json as it
 * stands, while classes of families build parts of it anew (5.x) and lose what a GGUF says
 * otherwise. */
#include "text/tok_rebuild.h"

#include "io/json.h"
#include "text/pre.h"
#include "text/spm.h"
#include "text/tok_job.h"
#include "text/tok_sheet.h"

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer_config.json: out of memory");
}

static lb_status put(lb_arena *p, lb_json *o, const char *key, lb_json *v, lb_err *err) {
    return lb_json_set(p, o, key, v) ? LB_OK : no_memory(err);
}

static const struct {
    const char *name, *key;
} specials[] = {
    {"bos_token", "tokenizer.ggml.bos_token_id"},
    {"cls_token", "tokenizer.ggml.cls_token_id"},
    {"eos_token", "tokenizer.ggml.eos_token_id"},
    {"mask_token", "tokenizer.ggml.mask_token_id"},
    {"pad_token", "tokenizer.ggml.padding_token_id"},
    {"sep_token", "tokenizer.ggml.seperator_token_id"},
    {"unk_token", "tokenizer.ggml.unknown_token_id"},
};

/* A user-defined token whose text or type added_tokens_decoder would change (the reference holds
 * "<|x|>" to be a control token and makes U+2581 a space): it goes to added_tokens.json. */
static bool is_plain_added(const lb_tok_arrays *a, u64 i) {
    size_t at;
    return lb_tok_is_spm(a) && a->type[i] == LB_SPM_USER_DEFINED &&
           (lb_tok_looks_special(lb_tok_text(a, i)) ||
            lb_str_find(lb_tok_text(a, i), LB_STR("\xe2\x96\x81"), &at));
}

/* Which tokens added_tokens_decoder lists. For SentencePiece it overrides tokenizer.model and sets
 * the score to -1000 (the reference's rule): only those that were set so are listed. */
static bool is_listed(const lb_tok_arrays *a, u64 i) {
    u8 type = a->type[i];
    if (lb_tok_is_spm(a))
        return (type == LB_SPM_USER_DEFINED && !is_plain_added(a, i)) ||
               (type == LB_SPM_CONTROL && (a->flat_scores || a->score[i] == -1000.0f));
    return type == LB_SPM_CONTROL || type == LB_SPM_USER_DEFINED || type == LB_SPM_UNKNOWN;
}

/* A member whose key is known to be new: lb_json_set would search all the others. */
static void append(lb_json *object, lb_json *member) {
    if (object->last)
        object->last->next = member;
    else
        object->first = member;
    object->last = member;
    object->n++;
}

static lb_status put_decoder(const lb_tok_arrays *a, lb_json *config, lb_err *err) {
    lb_arena *p = a->arena;
    lb_json *decoder = lb_json_new_object(p);
    if (!decoder)
        return no_memory(err);
    for (u64 i = 0; i < a->n; i++) {
        lb_str text;
        if (!is_listed(a, i))
            continue;
        LB_TRY(lb_tok_piece_text(a, i, &text, err));
        lb_json *o = lb_json_new_object(p);
        LB_TRY(put(p, o, "content", lb_json_new_str(p, text), err));
        LB_TRY(put(p, o, "lstrip", lb_json_new_bool(p, lb_tok_strips(a, text, true)), err));
        LB_TRY(put(p, o, "normalized", lb_json_new_bool(p, false), err));
        LB_TRY(put(p, o, "rstrip", lb_json_new_bool(p, lb_tok_strips(a, text, false)), err));
        LB_TRY(put(p, o, "single_word", lb_json_new_bool(p, false), err));
        LB_TRY(put(p, o, "special", lb_json_new_bool(p, a->type[i] != LB_SPM_USER_DEFINED), err));
        o->key = lb_arena_printf(p, "%llu", (unsigned long long)i);
        if (!o->key.ptr)
            return no_memory(err);
        append(decoder, o);
    }
    return decoder->n ? put(p, config, "added_tokens_decoder", decoder, err) : LB_OK;
}

/* {"text": id, ...}; *out = NULL where there is none. */
static lb_status make_added(const lb_tok_arrays *a, lb_json **out, lb_err *err) {
    lb_json *added = lb_json_new_object(a->arena);
    if (!added)
        return no_memory(err);
    for (u64 i = 0; i < a->n; i++) {
        if (!is_plain_added(a, i))
            continue;
        lb_json *id = lb_json_new_u64(a->arena, i);
        if (!id)
            return no_memory(err);
        id->key = lb_tok_text(a, i);
        append(added, id);
    }
    *out = added->n ? added : NULL;
    return LB_OK;
}

/* The add_*_token flags and add_prefix_space, where the GGUF has them. */
static lb_status put_flags(const lb_tok_arrays *a, lb_json *config, lb_err *err) {
    static const char *const flags[][2] = {
        {"add_bos_token", "tokenizer.ggml.add_bos_token"},
        {"add_eos_token", "tokenizer.ggml.add_eos_token"},
        {"add_sep_token", "tokenizer.ggml.add_sep_token"},
        {"add_prefix_space", "tokenizer.ggml.add_space_prefix"},
    };
    for (u32 i = 0; i < LB_LEN(flags); i++) {
        bool on;
        if (lb_kv_as_bool(lb_meta_find(a->meta, flags[i][1]), &on))
            LB_TRY(put(a->arena, config, flags[i][0], lb_json_new_bool(a->arena, on), err));
    }
    return LB_OK;
}

static lb_status put_specials(const lb_tok_arrays *a, lb_json *config, lb_json *map, lb_err *err) {
    lb_arena *p = a->arena;
    for (u32 i = 0; i < LB_LEN(specials); i++) {
        u64 id;
        if (!lb_kv_as_u64(lb_meta_find(a->meta, specials[i].key), &id) || id >= a->n)
            continue;
        LB_TRY(put(p, config, specials[i].name, lb_json_new_str(p, lb_tok_text(a, id)), err));
        LB_TRY(put(p, map, specials[i].name, lb_json_new_str(p, lb_tok_text(a, id)), err));
    }
    return LB_OK;
}

/* Where the scores are flat there is no tokenizer.model, and the reference takes for control tokens
 * those that the configuration names. */
static lb_status put_more_specials(const lb_tok_arrays *a, lb_json *config, lb_err *err) {
    lb_json *list = lb_json_new_array(a->arena);
    if (!list)
        return no_memory(err);
    for (u64 i = 0; i < a->n; i++)
        if (a->type[i] == LB_SPM_CONTROL &&
            !lb_json_push(list, lb_json_new_str(a->arena, lb_tok_text(a, i))))
            return no_memory(err);
    return list->n ? put(a->arena, config, "additional_special_tokens", list, err) : LB_OK;
}

static lb_status to_text(lb_arena *p, const lb_json *v, lb_str *out, lb_err *err) {
    lb_buf b = {0};
    lb_json_write(&b, v, (lb_json_style){.indent = 2});
    lb_buf_put_u8(&b, '\n');
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK) {
        *out = lb_arena_str(p, lb_buf_str(&b));
        if (!out->ptr)
            st = no_memory(err);
    }
    lb_buf_deinit(&b);
    return st;
}

lb_status lb_tok_rebuild_config(const lb_tok_arrays *a, lb_tok_texts *out, lb_err *err) {
    lb_arena *p = a->arena;
    lb_json *config = lb_json_new_object(p), *map = lb_json_new_object(p), *added = NULL;
    const lb_pre_form *f =
        lb_tok_is_spm(a) || lb_tok_is_unigram(a) ? NULL : lb_pre_form_by_name(a->pre);
    lb_str arch = LB_STR_NONE;
    u64 n_ctx;
    LB_TRY(put_flags(a, config, err));
    LB_TRY(put_decoder(a, config, err));
    LB_TRY(
        put(p, config, "clean_up_tokenization_spaces",
            lb_json_new_bool(p, (f && (f->flags & LB_PRE_CLEAN)) || lb_str_eq_c(a->model, "bert")),
            err));
    LB_TRY(put_specials(a, config, map, err));
    if (a->flat_scores || lb_tok_is_merged_spm(a))
        LB_TRY(put_more_specials(a, config, err));
    (void)lb_kv_as_str(lb_meta_find(a->meta, "general.architecture"), &arch);
    if (lb_kv_as_u64(lb_meta_find_arch(a->meta, arch, "context_length"), &n_ctx))
        LB_TRY(put(p, config, "model_max_length", lb_json_new_u64(p, n_ctx), err));
    LB_TRY(put(p, config, "tokenizer_class", lb_json_new_str(p, LB_STR("PreTrainedTokenizerFast")),
               err));
    LB_TRY(make_added(a, &added, err));
    LB_TRY(to_text(p, config, &out->config, err));
    LB_TRY(to_text(p, map, &out->map, err));
    return added ? to_text(p, added, &out->added, err) : LB_OK;
}

/* ---- tokenizer.model ---- */

static void put_varint(lb_buf *b, u64 v) {
    for (; v >= 0x80; v >>= 7)
        lb_buf_put_u8(b, (u8)(v | 0x80));
    lb_buf_put_u8(b, (u8)v);
}

static void put_field(lb_buf *b, u32 number, u64 v) {
    put_varint(b, number << 3);
    put_varint(b, v);
}

static void put_message(lb_buf *b, u32 number, lb_str bytes) {
    put_varint(b, number << 3 | 2);
    put_varint(b, bytes.len);
    lb_buf_put_str(b, bytes);
}

void lb_spm_put_piece(lb_buf *out, lb_buf *scratch, const lb_spm_piece *piece, bool normal_type) {
    lb_buf_reset(scratch);
    put_message(scratch, 1, piece->text);
    lb_buf_put_u8(scratch, 2 << 3 | 5);
    lb_buf_put_u32(scratch, lb_f32_bits(piece->score));
    if (normal_type || piece->type != LB_SPM_NORMAL)
        put_field(scratch, 3, (u64)piece->type);
    put_message(out, 1, lb_buf_str(scratch));
}

static void put_id(lb_buf *b, const lb_tok_arrays *a, u32 field, const char *key) {
    u64 id;
    bool there = lb_kv_as_u64(lb_meta_find(a->meta, key), &id) && id < a->n;
    /* "none" is -1, a varint of ten bytes (sentencepiece_model.proto: int32) */
    put_field(b, field, there ? id : UINT64_MAX);
}

lb_status lb_tok_rebuild_spm(const lb_tok_arrays *a, lb_out *out, lb_err *err) {
    lb_buf *b = &out->buf, part = {0};
    lb_status st = LB_OK;
    bool prefix = true, extra = false, bytes = false;
    lb_str map;
    LB_TRY(lb_tok_charsmap(a, &map, err));
    (void)lb_kv_as_bool(lb_meta_find(a->meta, "tokenizer.ggml.add_space_prefix"), &prefix);
    (void)lb_kv_as_bool(lb_meta_find(a->meta, "tokenizer.ggml.remove_extra_whitespaces"), &extra);
    for (u64 i = 0; i < a->n && !lb_out_failed(out); i++) {
        lb_spm_piece piece = {.score = a->score[i], .type = (lb_spm_type)a->type[i]};
        LB_TRY_DONE(st, lb_tok_piece_text(a, i, &piece.text, err));
        if (lb_tok_is_whole(a, i))
            piece.type = LB_SPM_USER_DEFINED;
        lb_spm_put_piece(b, &part, &piece, true);
        bytes |= piece.type == LB_SPM_BYTE;
        lb_out_spill(out);
    }
    lb_buf_reset(&part); /* TrainerSpec */
    put_field(&part, 3, lb_tok_is_unigram(a) ? LB_SPM_UNIGRAM : LB_SPM_BPE);
    put_field(&part, 4, a->n);
    put_field(&part, 35, bytes);
    put_id(&part, a, 40, "tokenizer.ggml.unknown_token_id");
    put_id(&part, a, 41, "tokenizer.ggml.bos_token_id");
    put_id(&part, a, 42, "tokenizer.ggml.eos_token_id");
    put_id(&part, a, 43, "tokenizer.ggml.padding_token_id");
    put_message(b, 2, lb_buf_str(&part));
    lb_buf_reset(&part); /* NormalizerSpec */
    put_message(&part, 1, map.len ? LB_STR("user_defined") : LB_STR("identity"));
    if (map.len)
        put_message(&part, 2, map);
    put_field(&part, 3, prefix);
    put_field(&part, 4, extra);
    put_field(&part, 5, 1);
    put_message(b, 3, lb_buf_str(&part));
    st = lb_buf_status(&part, err);
done:
    lb_buf_deinit(&part);
    return st;
}
