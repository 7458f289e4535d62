/* SPDX-License-Identifier: Apache-2.0 */
/* pre.c: the check hash, the comparison of structures, and forms as JSON. */
#include "text/pre.h"

#include "base/hash.h"
#include "text/hf_encode.h"
#include "text/pre_tables.h"

/* ---- the check hash ---- */

static void hash_ids(const u32 *v, size_t n, lb_sha256 *sha, bool *first) {
    lb_buf text = {0};
    for (size_t i = 0; i < n; i++) {
        lb_buf_reset(&text);
        lb_buf_printf(&text, *first ? "%u" : ", %u", v[i]);
        lb_sha256_update(sha, text.ptr, text.len);
        *first = false;
    }
    lb_buf_deinit(&text);
}

static const char *find_hash(const char *sha256) {
    u32 lo = 0, hi = lb_pre_n_hashes;
    while (lo < hi) {
        u32 mid = lo + (hi - lo) / 2;
        int c = strcmp(lb_pre_hashes[mid].sha256, sha256);
        if (c == 0)
            return lb_pre_hashes[mid].pre;
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static const u32 *ids_of(const lb_buf *b) {
    return (const u32 *)(const void *)b->ptr;
}

static const char *try_hash(const lb_buf *before, const lb_buf *ids, const lb_buf *after,
                            char sha256[65]) {
    lb_sha256 sha;
    bool first = true;
    lb_sha256_init(&sha);
    lb_sha256_update(&sha, "[", 1);
    hash_ids(ids_of(before), before->len / 4, &sha, &first);
    hash_ids(ids_of(ids), ids->len / 4, &sha, &first);
    hash_ids(ids_of(after), after->len / 4, &sha, &first);
    lb_sha256_update(&sha, "]", 1);
    lb_sha256_hex(&sha, sha256);
    return find_hash(sha256);
}

/* The id of tokenizer_config's `which`_token when add_`which`_token is set. */
static void put_flagged(const lb_hf_tok *t, const lb_json *config, const char *add,
                        const char *which, lb_buf *out) {
    bool on = false;
    lb_str text;
    u32 id;
    const lb_json *token = lb_json_get(config, which);
    if (!lb_json_as_bool(lb_json_get(config, add), &on) || !on)
        return;
    if (!lb_json_as_str(token, &text) && !lb_json_as_str(lb_json_get(token, "content"), &text))
        return;
    if (lb_hf_tok_id(t, text, &id))
        lb_buf_put_u32(out, id);
}

static lb_status detect_by_hash(const lb_hf_tok *t, const lb_json *config, lb_pre_found *out,
                                lb_err *err) {
    lb_hf_enc e;
    lb_buf ids = {0}, before = {0}, after = {0}, none = {0};
    char other[65];
    LB_TRY(lb_hf_enc_init(&e, t, err));
    lb_status st =
        lb_hf_encode(&e, (lb_str){lb_pre_check_text, lb_pre_check_len}, false, &ids, err);
    if (st != LB_OK)
        goto done;
    put_flagged(t, config, "add_bos_token", "bos_token", &before);
    put_flagged(t, config, "add_eos_token", "eos_token", &after);
    LB_TRY_DONE(st, lb_buf_status(&before, err));
    LB_TRY_DONE(st, lb_buf_status(&after, err));
    const char *pre = try_hash(&e.before, &ids, &e.after, out->sha256);
    if (!pre)
        pre = try_hash(&before, &ids, &after, other);
    if (!pre)
        pre = try_hash(&none, &ids, &none, other);
    out->pre = lb_str_c(pre);
    out->how = "hash";
done:
    lb_buf_deinit(&ids);
    lb_buf_deinit(&before);
    lb_buf_deinit(&after);
    lb_hf_enc_deinit(&e);
    return st;
}

lb_status lb_pre_detect(const lb_hf_tok *t, const lb_json *config, lb_pre_found *out, lb_err *err) {
    *out = (lb_pre_found){0};
    lb_err own = {0};
    lb_status st = detect_by_hash(t, config, out, &own);
    if (st != LB_OK && st != LB_E_UNSUPPORTED && st != LB_E_LIMIT)
        return lb_fail_at(err, st, own.off, "%s", own.msg);
    if (out->pre.ptr)
        return LB_OK;
    const lb_pre_form *f = lb_pre_form_by_structure(t);
    if (f) {
        out->pre = lb_pre_form_name(f);
        out->how = "structure";
        return LB_OK;
    }
    return lb_fail(
        err, LB_E_UNSUPPORTED,
        "the pre-tokenizer is not known (%s%s%s): if llama.cpp has a name for it, give it "
        "with --set tokenizer.ggml.pre=str:NAME",
        st == LB_OK ? "check hash " : own.msg, st == LB_OK ? out->sha256 : "",
        st == LB_OK ? ", no known structure either" : "");
}

/* ---- forms ---- */

lb_str lb_pre_form_name(const lb_pre_form *f) {
    const char *space = strchr(f->names, ' ');
    return space ? (lb_str){f->names, (size_t)(space - f->names)} : lb_str_c(f->names);
}

const lb_pre_form *lb_pre_form_by_name(lb_str pre) {
    for (u32 i = 0; i < lb_pre_n_forms; i++) {
        const char *p = lb_pre_forms[i].names;
        while (*p) {
            size_t n = strcspn(p, " ");
            if (lb_str_eq(pre, (lb_str){p, n}))
                return &lb_pre_forms[i];
            p += n + (p[n] == ' ');
        }
    }
    return NULL;
}

/* A short text that is the same for pre-tokenizers that cut alike: nested sequences flattened,
 * ByteLevel's own pattern written out, options of offsets left out. */
static void canonical_steps(const lb_json *json, const char *list, lb_buf *out) {
    lb_str type, pattern, behavior;
    bool on = false;
    if (!json || json->type == LB_JNULL)
        return;
    if (!lb_json_as_str(lb_json_get(json, "type"), &type))
        type = LB_STR_NONE;
    if (lb_str_eq_c(type, "Sequence")) {
        const lb_json *steps = lb_json_get(json, list);
        for (const lb_json *v = steps ? steps->first : NULL; v; v = v->next)
            canonical_steps(v, list, out);
        return;
    }
    bool isolated = lb_json_as_str(lb_json_get(json, "behavior"), &behavior) &&
                    lb_str_eq_c(behavior, "Isolated");
    if (lb_str_eq_c(type, "Split") && isolated &&
        lb_json_as_str(lb_json_path(json, "pattern.Regex"), &pattern) &&
        !(lb_json_as_bool(lb_json_get(json, "invert"), &on) && on)) {
        lb_buf_put_c(out, "split ");
        lb_buf_put_str(out, pattern);
    } else if (lb_str_eq_c(type, "ByteLevel") &&
               lb_json_as_bool(lb_json_get(json, "add_prefix_space"), &on) && !on) {
        on = true;
        (void)lb_json_as_bool(lb_json_get(json, "use_regex"), &on);
        lb_buf_put_c(out, on ? "split " LB_GPT2_PATTERN "\nbytes" : "bytes");
    } else {
        lb_json_write(out, json, (lb_json_style){.compact = true});
    }
    lb_buf_put_u8(out, '\n');
}

static bool same_steps(const lb_json *a, const lb_json *b, const char *list) {
    lb_buf x = {0}, y = {0};
    canonical_steps(a, list, &x);
    canonical_steps(b, list, &y);
    bool same = !x.oom && !y.oom && lb_str_eq(lb_buf_str(&x), lb_buf_str(&y));
    lb_buf_deinit(&x);
    lb_buf_deinit(&y);
    return same;
}

#define LETTERS_AND_DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

/* Whether nothing but given texts is cut out: what transformers makes of a SentencePiece model's
 * user-defined pieces, "<a>|<b>". */
static bool cuts_literals(const lb_json *json) {
    lb_str type = LB_STR_NONE, pattern;
    if (!json || json->type == LB_JNULL)
        return true;
    (void)lb_json_as_str(lb_json_get(json, "type"), &type);
    if (lb_str_eq_c(type, "Sequence")) { /* recursion: as deep as the JSON */
        const lb_json *steps = lb_json_get(json, "pretokenizers"), *v = steps ? steps->first : NULL;
        while (v && cuts_literals(v))
            v = v->next;
        return !v;
    }
    if (!lb_str_eq_c(type, "Split") ||
        !lb_json_as_str(lb_json_path(json, "pattern.Regex"), &pattern))
        return false;
    for (size_t i = 0; i < pattern.len; i++) {
        bool escaped = pattern.ptr[i] == '\\' && i + 1 < pattern.len;
        i += escaped;
        if (strchr(escaped ? LETTERS_AND_DIGITS : "\\.*+?()[]{}^$", pattern.ptr[i]))
            return false;
    }
    return true;
}

/* RAW: the normalizer has replaced all spaces, so the form's step cuts nothing; nor does it matter
 * whether a whole word is looked up first. */
static bool same_cut(const lb_json *pre, const lb_pre_form *f, lb_arena *scratch) {
    return ((f->flags & LB_PRE_RAW) && cuts_literals(pre)) ||
           same_steps(pre, lb_pre_form_pre_tokenizer(f, scratch), "pretokenizers");
}

/* First with the same normalizer; then, since llama.cpp normalizes no byte-level text, with NFC
 * there or not. */
const lb_pre_form *lb_pre_form_by_structure(const lb_hf_tok *t) {
    const lb_pre_form *found = NULL;
    lb_arena scratch = {0};
    bool ignore_merges = false;
    const lb_json *normalizer = lb_json_get(t->rest, "normalizer");
    const lb_json *pre = lb_json_get(t->rest, "pre_tokenizer");
    (void)lb_json_as_bool(lb_json_get(t->model, "ignore_merges"), &ignore_merges);
    lb_json *nfc = lb_json_new_object(&scratch);
    if (nfc)
        (void)lb_json_set(&scratch, nfc, "type", lb_json_new_str(&scratch, LB_STR("NFC")));
    bool plain =
        same_steps(normalizer, NULL, "normalizers") || same_steps(normalizer, nfc, "normalizers");
    for (u32 pass = 0; pass < 2 && !found; pass++) {
        for (u32 i = 0; i < lb_pre_n_forms && !found; i++) {
            const lb_pre_form *f = &lb_pre_forms[i];
            bool raw = f->flags & LB_PRE_RAW;
            if (!raw && ((f->flags & LB_PRE_IGNORE_MERGES) != 0) != ignore_merges)
                continue;
            bool normal = pass == 0 ? same_steps(normalizer, lb_pre_form_normalizer(f, &scratch),
                                                 "normalizers")
                                    : plain && !raw;
            if (normal && same_cut(pre, f, &scratch))
                found = f;
        }
    }
    lb_arena_deinit(&scratch);
    return found;
}

/* ---- forms as JSON ---- */

static lb_json *typed(lb_arena *perm, const char *type) {
    lb_json *o = lb_json_new_object(perm);
    if (!o || !lb_json_set(perm, o, "type", lb_json_new_str(perm, lb_str_c(type))))
        return NULL;
    return o;
}

static bool put(lb_arena *perm, lb_json *o, const char *key, lb_json *v) {
    return o && v && lb_json_set(perm, o, key, v);
}

static bool put_pattern(lb_arena *perm, lb_json *o, const char *kind, const char *text) {
    lb_json *pattern = lb_json_new_object(perm);
    return put(perm, pattern, kind, lb_json_new_str(perm, lb_str_c(text))) &&
           put(perm, o, "pattern", pattern);
}

lb_json *lb_pre_form_normalizer(const lb_pre_form *f, lb_arena *perm) {
    if (f->flags & LB_PRE_NFC)
        return typed(perm, "NFC");
    if (!(f->flags & LB_PRE_RAW))
        return lb_json_new_null(perm);
    lb_json *o = typed(perm, "Replace");
    bool ok = put_pattern(perm, o, "String", " ") &&
              put(perm, o, "content", lb_json_new_str(perm, LB_STR("\xe2\x96\x81")));
    return ok ? o : NULL;
}

static lb_json *byte_level(lb_arena *perm, const lb_pre_form *f, bool use_regex) {
    lb_json *o = typed(perm, "ByteLevel");
    bool ok =
        put(perm, o, "add_prefix_space", lb_json_new_bool(perm, false)) &&
        put(perm, o, "trim_offsets", lb_json_new_bool(perm, !(f->flags & LB_PRE_UNTRIMMED))) &&
        put(perm, o, "use_regex", lb_json_new_bool(perm, use_regex));
    return ok ? o : NULL;
}

static lb_json *split(lb_arena *perm, const char *kind, const char *pattern, const char *behavior) {
    lb_json *o = typed(perm, "Split");
    bool ok = put_pattern(perm, o, kind, pattern) &&
              put(perm, o, "behavior", lb_json_new_str(perm, lb_str_c(behavior))) &&
              put(perm, o, "invert", lb_json_new_bool(perm, false));
    return ok ? o : NULL;
}

static lb_json *one_step(lb_arena *perm, const lb_pre_form *f, u32 i) {
    lb_json *o = NULL;
    bool ok = false;
    switch (f->steps[i].kind) {
    case LB_PRE_END:
        break;
    case LB_PRE_SPLIT:
        return split(perm, "Regex", f->steps[i].pattern, "Isolated");
    case LB_PRE_SPACES:
        return split(perm, "String", " ", "MergedWithPrevious");
    case LB_PRE_DIGITS:
    case LB_PRE_DIGIT_RUNS:
        o = typed(perm, "Digits");
        ok = put(perm, o, "individual_digits",
                 lb_json_new_bool(perm, f->steps[i].kind == LB_PRE_DIGITS));
        break;
    case LB_PRE_PUNCT_RUNS:
        o = typed(perm, "Punctuation");
        ok = put(perm, o, "behavior", lb_json_new_str(perm, LB_STR("Contiguous")));
        break;
    case LB_PRE_BYTES:
        return byte_level(perm, f, false);
    case LB_PRE_BYTES_GPT2:
        return byte_level(perm, f, true);
    }
    return ok ? o : NULL;
}

lb_json *lb_pre_form_pre_tokenizer(const lb_pre_form *f, lb_arena *perm) {
    if (f->steps[1].kind == LB_PRE_END)
        return one_step(perm, f, 0);
    lb_json *o = typed(perm, "Sequence"), *list = lb_json_new_array(perm);
    if (!put(perm, o, "pretokenizers", list))
        return NULL;
    for (u32 i = 0; i < LB_PRE_STEPS_MAX && f->steps[i].kind != LB_PRE_END; i++) {
        lb_json *step = one_step(perm, f, i);
        if (!step || !lb_json_push(list, step))
            return NULL;
    }
    return o;
}
