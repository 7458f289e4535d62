/* SPDX-License-Identifier: Apache-2.0 */
/* tok_sheet.c: see tok_sheet.h. */
#include "text/tok_sheet.h"

#include "text/bytelevel.h"
#include "text/pre.h"
#include "text/spm.h"

static const char post_bytes[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                                 "\"trim_offsets\":false,\"use_regex\":true}";
static const char post_bytes_untrimmed[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"
    "\"use_regex\":false}";

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "tokenizer.json: out of memory");
}

lb_status lb_sheet_begin(lb_tok_sheet *s, const char *skeleton, lb_err *err) {
    LB_TRY(lb_json_parse(lb_str_c(skeleton), "tokenizer.json", s->a->arena, &s->root, err));
    s->model = lb_json_get(s->root, "model");
    return LB_OK;
}

lb_status lb_sheet_put(lb_tok_sheet *s, lb_json *object, const char *key, lb_json *value,
                       lb_err *err) {
    return lb_json_set(s->a->arena, object, key, value) ? LB_OK : no_memory(err);
}

lb_status lb_sheet_put_json(lb_tok_sheet *s, lb_json *object, const char *key, const char *text,
                            lb_err *err) {
    lb_json *v;
    LB_TRY(lb_json_parse(lb_str_c(text), key, s->a->arena, &v, err));
    return lb_sheet_put(s, object, key, v, err);
}

lb_status lb_sheet_put_bool(lb_tok_sheet *s, lb_json *object, const char *key, bool v,
                            lb_err *err) {
    return lb_sheet_put(s, object, key, lb_json_new_bool(s->a->arena, v), err);
}

lb_status lb_sheet_put_str(lb_tok_sheet *s, lb_json *object, const char *key, lb_str v,
                           lb_err *err) {
    return lb_sheet_put(s, object, key, lb_json_new_str(s->a->arena, v), err);
}

bool lb_tok_named_token(const lb_tok_arrays *a, const char *key, lb_str *text, u64 *id) {
    if (!lb_kv_as_u64(lb_meta_find(a->meta, key), id) || *id >= a->n)
        return false;
    *text = lb_tok_text(a, *id);
    return true;
}

bool lb_tok_end_of(const lb_tok_arrays *a, const char *key, u64 otherwise, lb_tok_end *e) {
    e->on = lb_tok_named_token(a, key, &e->text, &e->id);
    if (!e->on && otherwise < a->n) {
        e->on = true;
        e->id = otherwise;
        e->text = lb_tok_text(a, otherwise);
    }
    return e->on;
}

bool lb_tok_flag(const lb_tok_arrays *a, const char *key, bool *v) {
    return lb_kv_as_bool(lb_meta_find(a->meta, key), v);
}

static bool is_bpe(const lb_tok_arrays *a) {
    return lb_str_eq_c(a->model, "gpt2") || lb_tok_is_merged_spm(a);
}

/* ---- the post-processor ---- */

static lb_status push_special(lb_tok_sheet *s, lb_json *list, lb_str text, u32 type_id,
                              lb_err *err) {
    lb_arena *p = s->a->arena;
    lb_json *o = lb_json_new_object(p), *v = lb_json_new_object(p);
    LB_TRY(lb_sheet_put_str(s, v, "id", text, err));
    LB_TRY(lb_sheet_put(s, v, "type_id", lb_json_new_u64(p, type_id), err));
    LB_TRY(lb_sheet_put(s, o, "SpecialToken", v, err));
    return lb_json_push(list, o) ? LB_OK : no_memory(err);
}

static lb_status push_sequence(lb_tok_sheet *s, lb_json *list, const char *name, u32 type_id,
                               lb_err *err) {
    lb_arena *p = s->a->arena;
    lb_json *o = lb_json_new_object(p), *v = lb_json_new_object(p);
    LB_TRY(lb_sheet_put_str(s, v, "id", lb_str_c(name), err));
    LB_TRY(lb_sheet_put(s, v, "type_id", lb_json_new_u64(p, type_id), err));
    LB_TRY(lb_sheet_put(s, o, "Sequence", v, err));
    return lb_json_push(list, o) ? LB_OK : no_memory(err);
}

static lb_status put_known(lb_tok_sheet *s, lb_json *known, const lb_tok_end *t, lb_err *err) {
    lb_arena *p = s->a->arena;
    lb_json *o = lb_json_new_object(p), *ids = lb_json_new_array(p), *texts = lb_json_new_array(p);
    lb_json *id = lb_json_new_u64(p, t->id), *text = lb_json_new_str(p, t->text);
    LB_TRY(lb_sheet_put_str(s, o, "id", t->text, err));
    if (!ids || !texts || !id || !text || !lb_json_push(ids, id) || !lb_json_push(texts, text))
        return no_memory(err);
    LB_TRY(lb_sheet_put(s, o, "ids", ids, err));
    LB_TRY(lb_sheet_put(s, o, "tokens", texts, err));
    lb_buf key = {0};
    lb_buf_put_str(&key, t->text);
    lb_buf_put_u8(&key, 0);
    lb_status st = lb_buf_status(&key, err);
    if (st == LB_OK)
        st = lb_sheet_put(s, known, (const char *)key.ptr, o, err);
    lb_buf_deinit(&key);
    return st;
}

/* Between the texts of a pair: EOS and BOS, as transformers writes it; or separators. */
static lb_status push_middle(lb_tok_sheet *s, lb_json *pair, const lb_tok_ends *e, lb_err *err) {
    for (u32 i = 0; e->sep.on && i < e->n_sep; i++)
        LB_TRY(push_special(s, pair, e->sep.text, 0, err));
    if (e->sep.on)
        return LB_OK;
    if (e->eos.on)
        LB_TRY(push_special(s, pair, e->eos.text, 0, err));
    return e->bos.on ? push_special(s, pair, e->bos.text, 1, err) : LB_OK;
}

lb_status lb_sheet_template(lb_tok_sheet *s, const lb_tok_ends *e, lb_json **out, lb_err *err) {
    lb_arena *p = s->a->arena;
    lb_json *o = lb_json_new_object(p), *single = lb_json_new_array(p);
    lb_json *pair = lb_json_new_array(p), *known = lb_json_new_object(p);
    LB_TRY(lb_sheet_put_str(s, o, "type", LB_STR("TemplateProcessing"), err));
    LB_TRY(lb_sheet_put(s, o, "single", single, err));
    LB_TRY(lb_sheet_put(s, o, "pair", pair, err));
    LB_TRY(lb_sheet_put(s, o, "special_tokens", known, err));
    if (e->bos.on) {
        LB_TRY(push_special(s, single, e->bos.text, 0, err));
        LB_TRY(push_special(s, pair, e->bos.text, 0, err));
    }
    LB_TRY(push_sequence(s, single, "A", 0, err));
    LB_TRY(push_sequence(s, pair, "A", 0, err));
    LB_TRY(push_middle(s, pair, e, err));
    LB_TRY(push_sequence(s, pair, "B", 1, err));
    if (e->eos.on) {
        LB_TRY(push_special(s, single, e->eos.text, 0, err));
        LB_TRY(push_special(s, pair, e->eos.text, 1, err));
    }
    const lb_tok_end *all[] = {&e->bos, &e->eos, &e->sep};
    for (u32 i = 0; i < LB_LEN(all); i++)
        if (all[i]->on)
            LB_TRY(put_known(s, known, all[i], err));
    *out = o;
    return LB_OK;
}

lb_status lb_sheet_put_post(lb_tok_sheet *s, const lb_tok_post *rule, lb_err *err) {
    const lb_tok_arrays *a = s->a;
    lb_tok_ends e = {0};
    bool add_bos = rule->bos, add_eos = rule->eos, add_sep = false;
    bool has_bos = lb_tok_flag(a, "tokenizer.ggml.add_bos_token", &add_bos);
    bool has_eos = lb_tok_flag(a, "tokenizer.ggml.add_eos_token", &add_eos);
    (void)lb_tok_flag(a, "tokenizer.ggml.add_sep_token", &add_sep);
    (void)lb_tok_end_of(a, "tokenizer.ggml.bos_token_id", rule->bos_id, &e.bos);
    (void)lb_tok_end_of(a, "tokenizer.ggml.eos_token_id", rule->eos_id, &e.eos);
    if (!lb_tok_end_of(a, "tokenizer.ggml.seperator_token_id", UINT64_MAX, &e.sep))
        e.sep = e.eos;
    e.bos.on &= add_bos || rule->bos_always;
    e.eos.on &= add_eos;
    e.sep.on &= add_sep;
    e.n_sep = e.eos.on ? 2 : 1; /* twice where EOS closes a text, as RoBERTa */
    bool bytes = has_bos && has_eos && is_bpe(a);
    lb_json *template = NULL;
    if (e.bos.on || e.eos.on)
        LB_TRY(lb_sheet_template(s, &e, &template, err));
    if (!bytes)
        return template ? lb_sheet_put(s, s->root, "post_processor", template, err) : LB_OK;
    const lb_pre_form *f = lb_pre_form_by_name(a->pre);
    const char *text = f && (f->flags & LB_PRE_UNTRIMMED) ? post_bytes_untrimmed : post_bytes;
    if (!template)
        return lb_sheet_put_json(s, s->root, "post_processor", text, err);
    LB_TRY(lb_sheet_put_json(s, s->root, "post_processor",
                             "{\"type\":\"Sequence\",\"processors\":[]}", err));
    lb_json *list = lb_json_path(s->root, "post_processor.processors"), *first;
    LB_TRY(lb_json_parse(lb_str_c(text), "post_processor", a->arena, &first, err));
    return lb_json_push(list, first) && lb_json_push(list, template) ? LB_OK : no_memory(err);
}

/* ---- added tokens ---- */

bool lb_tok_is_added(const lb_tok_arrays *a, u64 i) {
    return a->type[i] == LB_SPM_CONTROL || a->type[i] == LB_SPM_USER_DEFINED ||
           a->type[i] == LB_SPM_UNKNOWN || lb_tok_is_whole(a, i);
}

/* GGUF has no place for it: llama.cpp (load, "per token attributes") goes by the model's name, and
 * so did the originals. The first rule that fits. */
static const struct strip_rule {
    const char *key, *part; /* the key's text, in small letters, has this */
    bool left;              /* lstrip; else rstrip */
    const char *only;       /* of this token; NULL: of all but those below */
    const char *but[4];
} strip_rules[] = {
    {"tokenizer.ggml.pre", "jina-v2-de", true, "<mask>", {NULL}},
    {"tokenizer.ggml.pre", "jina-v2-es", true, "<mask>", {NULL}},
    {"tokenizer.ggml.pre", "jina-v2-code", true, "<mask>", {NULL}},
    {"general.architecture", "nomic-bert-moe", true, "<mask>", {NULL}},
    {"general.architecture", "jina-bert-v3", true, "<mask>", {NULL}},
    {"general.name", "phi-3", false, NULL, {"<unk>", "<s>", "<|endoftext|>"}},
    {"general.name", "phi3", false, NULL, {"<unk>", "<s>", "<|endoftext|>"}},
    {"general.name", "modern-bert", true, "[MASK]", {NULL}},
};

static bool has_part(lb_str text, const char *part) {
    size_t n = strlen(part), k;
    for (size_t i = 0; i + n <= text.len; i++) {
        for (k = 0; k < n; k++) {
            char c = text.ptr[i + k];
            if ((c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c) != part[k])
                break;
        }
        if (k == n)
            return true;
    }
    return false;
}

static const struct strip_rule *find_strip(const lb_tok_arrays *a) {
    lb_str text;
    for (u32 i = 0; i < LB_LEN(strip_rules); i++)
        if (lb_kv_as_str(lb_meta_find(a->meta, strip_rules[i].key), &text) &&
            has_part(text, strip_rules[i].part))
            return &strip_rules[i];
    return NULL;
}

bool lb_tok_strips(const lb_tok_arrays *a, lb_str token, bool left) {
    const struct strip_rule *r = find_strip(a);
    if (!r || r->left != left)
        return false;
    if (r->only)
        return lb_str_eq_c(token, r->only);
    for (u32 i = 0; i < LB_LEN(r->but) && r->but[i]; i++)
        if (lb_str_eq_c(token, r->but[i]))
            return false;
    return true;
}

/* The reference decodes added tokens that are not marked normalized: one whose text, read in the
 * byte alphabet, is another text must be marked to come back as it is. */
static bool changes_when_decoded(const lb_tok_arrays *a, lb_str text) {
    lb_buf b = {0};
    bool changes = is_bpe(a) && lb_bytelevel_decode(&b, text) && !lb_str_eq(lb_buf_str(&b), text);
    lb_buf_deinit(&b);
    return changes;
}

lb_status lb_sheet_put_added(lb_tok_sheet *s, const lb_texts *contents, lb_err *err) {
    const lb_tok_arrays *a = s->a;
    lb_arena *p = a->arena;
    lb_json *list = lb_json_get(s->root, "added_tokens");
    for (u64 i = 0; i < a->n; i++) {
        if (!lb_tok_is_added(a, i))
            continue;
        lb_str content = lb_texts_get(contents, i);
        lb_json *o = lb_json_new_object(p);
        LB_TRY(lb_sheet_put(s, o, "id", lb_json_new_u64(p, i), err));
        LB_TRY(lb_sheet_put_str(s, o, "content", content, err));
        LB_TRY(lb_sheet_put_bool(s, o, "single_word", false, err));
        LB_TRY(lb_sheet_put_bool(s, o, "lstrip", lb_tok_strips(a, content, true), err));
        LB_TRY(lb_sheet_put_bool(s, o, "rstrip", lb_tok_strips(a, content, false), err));
        LB_TRY(lb_sheet_put_bool(s, o, "normalized", changes_when_decoded(a, content), err));
        bool plain = a->type[i] == LB_SPM_USER_DEFINED || a->type[i] == LB_SPM_NORMAL;
        LB_TRY(lb_sheet_put_bool(s, o, "special", !plain, err));
        if (!lb_json_push(list, o))
            return no_memory(err);
    }
    return LB_OK;
}
