/* SPDX-License-Identifier: Apache-2.0 */
/* convert_meta.c: --set, --unset and --chat-template: what the user has changed in a GGUF's keys
 * and in the chat template of a folder. */
#include "base/os.h"
#include "ops/convert_internal.h"
#include "text/tokdata.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- values ---- */

typedef struct kind {
    const char *name;
    lb_gguf_type type;
    u32 bits; /* of an integer; 0: of another kind */
    bool is_signed;
} kind;

static const kind *kind_of(lb_str name) {
    static const kind kinds[] = {{"u8", LB_GGUF_U8, 8, false},    {"i8", LB_GGUF_I8, 8, true},
                                 {"u16", LB_GGUF_U16, 16, false}, {"i16", LB_GGUF_I16, 16, true},
                                 {"u32", LB_GGUF_U32, 32, false}, {"i32", LB_GGUF_I32, 32, true},
                                 {"u64", LB_GGUF_U64, 64, false}, {"i64", LB_GGUF_I64, 64, true},
                                 {"f32", LB_GGUF_F32, 0, true},   {"f64", LB_GGUF_F64, 0, true},
                                 {"bool", LB_GGUF_BOOL, 0, 0},    {"str", LB_GGUF_STR, 0, 0},
                                 {"string", LB_GGUF_STR, 0, 0}};
    for (u32 i = 0; i < LB_LEN(kinds); i++)
        if (lb_str_eq_c(name, kinds[i].name))
            return &kinds[i];
    return NULL;
}

/* Of a text that is NUL-terminated. */
static bool read_number(const kind *k, const char *text, lb_gguf_kv *kv) {
    char *end = NULL;
    bool fits;
    errno = 0;
    if (k->bits == 0) {
        double d = strtod(text, &end);
        kv->v.f = k->type == LB_GGUF_F32 ? (double)(float)d : d;
        fits = !isinf(kv->v.f) || !strpbrk(text, "0123456789"); /* "inf" is meant so */
    } else if (k->is_signed) {
        kv->v.i = strtoll(text, &end, 10);
        i64 max = (i64)(UINT64_MAX >> (65 - k->bits));
        fits = errno == 0 && kv->v.i <= max && kv->v.i >= -max - 1;
    } else { /* strtoull takes a sign */
        kv->v.u = strtoull(text, &end, 10);
        fits = errno == 0 && kv->v.u <= UINT64_MAX >> (64 - k->bits) && !strchr(text, '-');
    }
    return *text && !*end && fits && (u8)*text > ' ';
}

static bool read_value(const kind *k, lb_str text, lb_gguf_kv *kv) {
    kv->type = k->type;
    if (k->type == LB_GGUF_STR) {
        kv->v.s = text;
        return lb_str_is_utf8(text);
    }
    if (k->type != LB_GGUF_BOOL)
        return read_number(k, text.ptr, kv);
    kv->v.u = lb_str_eq_c(text, "true") || lb_str_eq_c(text, "1");
    return kv->v.u || lb_str_eq_c(text, "false") || lb_str_eq_c(text, "0");
}

static lb_status refuse_value(const kind *k, lb_str text, lb_err *err) {
    if (k->type == LB_GGUF_BOOL)
        return lb_fail(err, LB_E_USAGE, "--set: '%.*s' is neither true nor false", LB_FMT(text));
    if (k->type == LB_GGUF_STR)
        return lb_fail(err, LB_E_USAGE, "--set: a text is not UTF-8");
    return lb_fail(err, LB_E_USAGE, "--set: '%.*s' is not a value of type %s", LB_FMT(text),
                   k->name);
}

/* ---- arrays ---- */

/* The text of an element that may stand in an array of the kind. */
static bool element_text(lb_arena *arena, const kind *k, const lb_json *v, lb_str *out) {
    bool is_str = k->type == LB_GGUF_STR, is_bool = k->type == LB_GGUF_BOOL;
    if (v->type != (is_str ? LB_JSTRING : is_bool ? LB_JBOOL : LB_JNUMBER))
        return false;
    *out = is_bool ? v->truth ? LB_STR("true") : LB_STR("false") : lb_arena_str(arena, v->text);
    return out->ptr != NULL;
}

static void pack(lb_buf *b, const lb_gguf_kv *kv) {
    u8 bytes[8];
    lb_store_u64(bytes, kv->v.u);
    if (kv->type == LB_GGUF_F32)
        lb_store_u32(bytes, lb_f32_bits((float)kv->v.f));
    lb_buf_put(b, bytes, lb_gguf_type_bytes(kv->type));
}

static lb_status set_array(lb_conv *c, const char *key, const kind *k, lb_str text, lb_err *err) {
    lb_json *list;
    lb_err why = {0};
    lb_gguf_kv one = {0};
    lb_buf b = {0};
    if (lb_json_parse(text, "array", c->perm, &list, &why) != LB_OK || list->type != LB_JARRAY)
        return lb_fail(err, LB_E_USAGE,
                       "--set: the value of '%s' is no array: write %s[]:[...] as in JSON", key,
                       k->name);
    lb_str *texts = lb_arena_new(c->perm, lb_str, list->n + 1);
    if (!texts)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    u64 n = 0;
    for (const lb_json *v = list->first; v; v = v->next, n++) {
        if (!element_text(c->perm, k, v, &texts[n]) || !read_value(k, texts[n], &one)) {
            lb_buf_deinit(&b);
            return lb_fail(err, LB_E_USAGE, "--set: element %llu of '%s' is not a value of type %s",
                           (unsigned long long)n, key, k->name);
        }
        if (k->type != LB_GGUF_STR)
            pack(&b, &one);
    }
    lb_status st = lb_buf_status(&b, err);
    if (st == LB_OK)
        st = lb_meta_set_array(&c->meta, key, k->type, n,
                               k->type == LB_GGUF_STR ? (const void *)texts : b.ptr, err);
    lb_buf_deinit(&b);
    return st;
}

/* ---- keys ---- */

/* As GGUF has keys: ASCII without blanks. Some say what lies where, and are the writer's. */
static lb_status check_key(lb_str key, lb_err *err) {
    for (size_t i = 0; i < key.len; i++)
        if ((u8)key.ptr[i] <= ' ' || (u8)key.ptr[i] >= 0x7f)
            return lb_fail(err, LB_E_USAGE,
                           "--set: '%.*s' is not a key: letters, digits, dots and the like",
                           LB_FMT(key));
    if (lb_str_starts(key, LB_STR("split.")))
        return lb_fail(err, LB_E_USAGE,
                       "--set: '%.*s' belongs to the files' layout: see --max-shard-size",
                       LB_FMT(key));
    if (lb_str_starts(key, LB_STR("lbrx.")))
        return lb_fail(err, LB_E_USAGE,
                       "--set: '%.*s' is lbrx's own record: --no-provenance leaves it out",
                       LB_FMT(key));
    if (lb_str_starts(key, LB_STR("GGUF.")))
        return lb_fail(err, LB_E_USAGE,
                       "--set: '%.*s' is what tools call a field of the header: no key may be "
                       "called so",
                       LB_FMT(key));
    return LB_OK;
}

static const char *type_text(const lb_gguf_kv *kv, char buf[32]) {
    (void)snprintf(buf, 32, "%s%s",
                   lb_gguf_type_name(kv->type == LB_GGUF_ARRAY ? kv->elem : kv->type),
                   kv->type == LB_GGUF_ARRAY ? "[]" : "");
    return buf;
}

/* Readers ask for a key by its type: llama.cpp stops at another. */
static void remark_on_type(lb_conv *c, const char *key, const lb_gguf_kv *had) {
    char was[32], is[32];
    const lb_gguf_kv *now = lb_meta_find(&c->meta, key);
    if (now && (now->type != had->type || (now->type == LB_GGUF_ARRAY && now->elem != had->elem)))
        lb_conv_remark(c, "--set: '%s' was %s and is %s now: readers may refuse it", key,
                       type_text(had, was), type_text(now, is));
}

lb_status lb_conv_set_key(lb_conv *c, const char *text, lb_err *err) {
    lb_str s = lb_str_c(text);
    size_t eq, colon;
    if (!lb_str_find(s, LB_STR("="), &eq) || eq == 0 ||
        !lb_str_find(lb_str_sub(s, eq + 1, s.len), LB_STR(":"), &colon))
        return lb_fail(err, LB_E_USAGE,
                       "--set '%s': write KEY=TYPE:VALUE (general.name=str:My model)", text);
    lb_str type = lb_str_sub(s, eq + 1, eq + 1 + colon);
    lb_str value = lb_str_sub(s, eq + colon + 2, s.len);
    bool is_array = lb_str_ends(type, LB_STR("[]"));
    const kind *k = kind_of(lb_str_sub(type, 0, type.len - (is_array ? 2 : 0)));
    lb_gguf_kv kv = {.key = lb_arena_str(c->perm, lb_str_sub(s, 0, eq))};
    if (!kv.key.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory for metadata");
    LB_TRY(check_key(kv.key, err));
    if (!k)
        return lb_fail(
            err, LB_E_USAGE,
            "--set: '%.*s' is not one of u8|i8|u16|i16|u32|i32|u64|i64|f32|f64|bool|str, "
            "or one of them with [] for an array (i32[]:[1, 2])",
            LB_FMT(type));
    if (lb_str_eq_c(kv.key, "general.architecture") && (is_array || k->type != LB_GGUF_STR))
        return lb_fail(err, LB_E_USAGE, "--set: 'general.architecture' is a str in every GGUF");
    const lb_gguf_kv *old = lb_meta_find(&c->meta, kv.key.ptr);
    lb_gguf_kv had = old ? *old : (lb_gguf_kv){0};
    if (is_array)
        LB_TRY(set_array(c, kv.key.ptr, k, value, err));
    else if (!read_value(k, value, &kv))
        return refuse_value(k, value, err);
    else
        LB_TRY(lb_meta_set(&c->meta, &kv, err));
    if (old)
        remark_on_type(c, kv.key.ptr, &had);
    return LB_OK;
}

static lb_status unset_one(lb_conv *c, const char *key, lb_err *err) {
    if (!lb_meta_find(&c->meta, key))
        return lb_fail(err, LB_E_USAGE, "--unset: the model has no key '%s'", key);
    if (strcmp(key, "general.architecture") == 0)
        return lb_fail(err, LB_E_USAGE,
                       "--unset: a GGUF without 'general.architecture' is no model: --set it to "
                       "another");
    lb_meta_remove(&c->meta, key);
    return LB_OK;
}

/* ---- GGUF ---- */

static lb_status reads(const lb_conv *c, lb_err *err) {
    const lb_arch *arch;
    lb_hparams hp;
    return lb_arch_from_gguf(&c->meta, true, &arch, &hp, err);
}

lb_status lb_conv_edit_meta(lb_conv *c, lb_err *err) {
    const lb_convert_opts *o = c->o;
    lb_err why = {0};
    bool could_read = (o->n_set || o->n_unset) && reads(c, NULL) == LB_OK;
    for (u32 i = 0; i < o->n_unset; i++)
        LB_TRY(unset_one(c, o->unset[i], err));
    for (u32 i = 0; i < o->n_set; i++)
        LB_TRY(lb_conv_set_key(c, o->set[i], err));
    if (could_read && reads(c, &why) != LB_OK)
        lb_conv_remark(c, "with these keys lbrx does not read the model any more: %s", why.msg);
    return o->chat_template
               ? lb_meta_set_str(&c->meta, "tokenizer.chat_template", c->chat_template, err)
               : LB_OK;
}

/* ---- folders ---- */

static lb_sink_text *find_text(lb_conv *c, const char *name) {
    for (u32 i = 0; i < c->model.n_texts; i++)
        if (lb_str_eq_c(c->model.texts[i].name, name))
            return &c->model.texts[i];
    return NULL;
}

/* Readers do not agree on which comes first, the file or tokenizer_config.json: there is one. */
lb_status lb_conv_edit_template(lb_conv *c, lb_err *err) {
    bool listed = false;
    if (!c->o->chat_template)
        return LB_OK;
    lb_sink_text *config = find_text(c, "tokenizer_config.json");
    if (config) {
        lb_str text = config->bytes, edited;
        if (config->copy_from)
            LB_TRY(lb_os_read_file(config->copy_from, 16 * LB_MIB, c->perm, &text, err));
        LB_TRY(lb_tok_config_template(text, c->chat_template, c->perm, &edited, &listed, err));
        if (edited.ptr != text.ptr)
            *config = (lb_sink_text){.name = config->name, .bytes = edited};
    }
    lb_sink_text *old = find_text(c, "chat_template.json");
    if (old)
        *old = c->model.texts[--c->model.n_texts];
    if (listed && !find_text(c, "chat_template.jinja"))
        return LB_OK;
    return lb_conv_push_text(
        c, (lb_sink_text){.name = LB_STR("chat_template.jinja"), .bytes = c->chat_template}, err);
}
