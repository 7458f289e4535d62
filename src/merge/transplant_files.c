/* SPDX-License-Identifier: Apache-2.0 */
/* transplant_files.c: see transplant_files.h. */
#include "merge/transplant_files.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the result's config");
}

/* The keys that every model may have, and the roles that they are of. */
static const struct {
    const char *key, *role;
} plain[] = {
    {"bos_token_id", "bos_token"},   {"eos_token_id", "eos_token"}, {"pad_token_id", "pad_token"},
    {"unk_token_id", "unk_token"},   {"sep_token_id", "sep_token"}, {"cls_token_id", "cls_token"},
    {"mask_token_id", "mask_token"},
};

static bool is_plain(lb_str key, u32 *which) {
    for (u32 i = 0; i < LB_LEN(plain); i++)
        if (lb_str_eq_c(key, plain[i].key)) {
            *which = i;
            return true;
        }
    return false;
}

static bool names_token(lb_str key) {
    return lb_str_ends(key, LB_STR("_token_id")) || lb_str_ends(key, LB_STR("_token_index"));
}

static u64 find_role(const lb_token_set *t, const char *role) {
    for (u64 i = 0; i < t->n_ids; i++) {
        lb_str key = lb_token_key(t, i);
        if (key.ptr && key.ptr[0] == LB_TOKEN_ROLE &&
            lb_str_eq_c(lb_str_sub(key, 1, key.len), role))
            return i;
    }
    return LB_NO_TOKEN_ID;
}

/* What a config says, in it or in the part that is the language model's. */
static const lb_json *said(const lb_json *config, const char *key) {
    const lb_json *v = lb_json_get(config, key);
    v = v ? v : lb_json_get(lb_json_get(config, "text_config"), key);
    return v && v->type != LB_JNULL ? v : NULL;
}

/* For the donor's token of a role. */
static lb_json *id_of(const lb_token_ids *t, const lb_json *first, u32 which, lb_arena *perm) {
    const lb_json *v = said(first, plain[which].key);
    v = v ? v : said(t->config, plain[which].key);
    if (v)
        return lb_json_copy(perm, v);
    u64 id = find_role(t->donor, plain[which].role);
    return id == LB_NO_TOKEN_ID ? lb_json_new_null(perm) : lb_json_new_u64(perm, id);
}

static u64 find_text(const lb_token_set *t, lb_str text) {
    for (u64 i = 0; i < t->n_ids; i++)
        if (lb_texts_has(&t->text, i) && lb_str_eq(lb_texts_get(&t->text, i), text))
            return i;
    return LB_NO_TOKEN_ID;
}

/* A key of the model's own: of an image's token, say. */
static lb_status set_own(const lb_token_ids *t, const lb_json *v, lb_json **out, lb_arena *perm,
                         lb_err *err) {
    u64 id;
    if (!lb_json_as_u64(v, &id)) {
        *out = lb_json_copy(perm, v);
        return *out ? LB_OK : oom(err);
    }
    lb_str text = id < t->model->n_ids ? lb_texts_get(&t->model->text, id) : LB_STR_NONE;
    u64 there = text.ptr ? find_text(t->donor, text) : LB_NO_TOKEN_ID;
    if (there == LB_NO_TOKEN_ID)
        return lb_fail(err, LB_E_UNSUPPORTED,
                       "config.json: '%.*s' is token %llu ('%.*s'), which the donor's tokenizer "
                       "does not have: the result could not use it",
                       LB_FMT(v->key), (unsigned long long)id, LB_FMT(text));
    *out = lb_json_new_u64(perm, there);
    return *out ? LB_OK : oom(err);
}

static lb_status set_ids(const lb_token_ids *t, const lb_json *first, lb_json *object,
                         lb_arena *perm, lb_err *err) {
    lb_json *copy = lb_json_copy(perm, object); /* members are replaced while it is walked */
    if (!copy)
        return oom(err);
    for (const lb_json *v = copy->first; v; v = v->next) {
        u32 which;
        lb_json *id = NULL;
        if (is_plain(v->key, &which))
            id = id_of(t, first, which, perm);
        else if (names_token(v->key))
            LB_TRY(set_own(t, v, &id, perm, err));
        else
            continue;
        lb_str key = lb_arena_str(perm, v->key);
        if (!id || !key.ptr || !lb_json_set(perm, object, key.ptr, id))
            return oom(err);
    }
    return LB_OK;
}

/* Keys that the donor has and the model lacks. */
static lb_status add_ids(const lb_json *donor, lb_json *object, lb_arena *perm, lb_err *err) {
    for (u32 i = 0; i < LB_LEN(plain); i++) {
        const lb_json *v = said(donor, plain[i].key);
        if (v && !lb_json_get(object, plain[i].key) &&
            !lb_json_set(perm, object, plain[i].key, lb_json_copy(perm, v)))
            return oom(err);
    }
    return LB_OK;
}

lb_status lb_token_ids_config(const lb_token_ids *t, lb_str config, lb_arena *perm, lb_str *out,
                              lb_err *err) {
    lb_json *root;
    LB_TRY(lb_json_parse(config, "config.json", perm, &root, err));
    if (root->type != LB_JOBJECT)
        return lb_fail(err, LB_E_FORMAT, "config.json: an object ({...}) expected");
    LB_TRY(set_ids(t, NULL, root, perm, err));
    lb_json *text = lb_json_get(root, "text_config");
    if (text && text->type == LB_JOBJECT) {
        LB_TRY(set_ids(t, NULL, text, perm, err));
    } else {
        LB_TRY(add_ids(t->config, root, perm, err));
    }
    return lb_json_file(root, perm, out, err);
}

/* Lists of tokens of the old vocabulary. */
static const char *const lists[] = {
    "suppress_tokens",    "begin_suppress_tokens", "bad_words_ids",       "force_words_ids",
    "forced_decoder_ids", "stop_token_ids",        "forced_bos_token_id", "forced_eos_token_id"};

lb_status lb_token_ids_generation(const lb_token_ids *t, lb_str model, lb_str donor, lb_arena *perm,
                                  lb_str *out, lb_err *err) {
    lb_json *root = NULL, *theirs = NULL;
    *out = LB_STR_NONE;
    if (donor.len)
        LB_TRY(lb_json_parse(donor, "generation_config.json", perm, &theirs, err));
    if (model.len)
        LB_TRY(lb_json_parse(model, "generation_config.json", perm, &root, err));
    else if (theirs)
        root = lb_json_new_object(perm);
    else
        return LB_OK;
    if (!root)
        return oom(err);
    if (root->type != LB_JOBJECT)
        return lb_fail(err, LB_E_FORMAT, "generation_config.json: an object ({...}) expected");
    for (u32 i = 0; i < LB_LEN(lists); i++)
        lb_json_remove(root, lists[i]);
    LB_TRY(set_ids(t, theirs, root, perm, err));
    LB_TRY(add_ids(theirs, root, perm, err));
    return root->n ? lb_json_file(root, perm, out, err) : LB_OK;
}

bool lb_is_tokenizer_file(lb_str name) {
    static const char *const names[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "vocab.txt",
                                        "merges.txt",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "tekken.json",
                                        "spiece.model",
                                        "sentencepiece.bpe.model",
                                        "sentencepiece.model"};
    static const char *const starts[] = {"additional_chat_templates/", "tokenization_",
                                         "tokenizer.model"};
    for (u32 i = 0; i < LB_LEN(names); i++)
        if (lb_str_eq_c(name, names[i]))
            return true;
    for (u32 i = 0; i < LB_LEN(starts); i++)
        if (lb_str_starts(name, lb_str_c(starts[i])))
            return true;
    return lb_str_ends(name, LB_STR(".tiktoken"));
}
