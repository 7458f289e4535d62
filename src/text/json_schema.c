/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema.c: items, references, alternatives, constants and strings of a schema. */
#include "text/grammar.h"
#include "text/json_schema_internal.h"
#include <stdio.h>

/* Rules that others refer to. No surrogates by \u, so that every string is one in Unicode and its
 * length is the number of its characters. Space as llama.cpp's, so that a model cannot go on with
 * it for ever. */
#define COMMON                                                                               \
    "ws ::= | \" \" | \"\\n\"{1,2} [ \\t]{0,20}\n"                                           \
    "hex ::= [0-9a-fA-F]\n"                                                                  \
    "char ::= [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" ([0-9a-cA-CefEF] " \
    "hex{3} | [dD] [0-7] hex{2}))\n"                                                         \
    "plain ::= [^\"\\\\\\x7F\\x00-\\x1F]\n"                                                  \
    "string ::= \"\\\"\" char* \"\\\"\"\n"                                                   \
    "integer ::= \"-\"? (\"0\" | [1-9] [0-9]{0,15})\n"                                       \
    "number ::= integer (\".\" [0-9]{1,16})? ([eE] [-+]? (\"0\" | [1-9] [0-9]{0,1}))?\n"     \
    "value ::= object | array | string | number | \"true\" | \"false\" | \"null\"\n"         \
    "object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? ws "     \
    "\"}\"\n"                                                                                \
    "array ::= \"[\" ws (value (\",\" ws value)*)? ws \"]\"\n"

lb_status lb_schema_fail(lb_schema *s, lb_status code, const char *fmt, ...) {
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return lb_fail(s->err, code, "schema: %.*s: %s",
                   s->where.len ? (int)LB_MIN(s->where.len, (size_t)200) : 1,
                   s->where.len ? s->where.ptr : "#", what);
}

/* ---- text ---- */

void lb_schema_literal(lb_buf *out, lb_str text) {
    lb_buf_put_u8(out, '"');
    for (size_t i = 0; i < text.len; i++) {
        u8 c = (u8)text.ptr[i];
        if (c == '"' || c == '\\')
            lb_buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            lb_buf_printf(out, "\\x%02X", c);
        else
            lb_buf_put_u8(out, c);
    }
    lb_buf_put_u8(out, '"');
}

void lb_schema_value(lb_schema *s, const lb_json *v) {
    lb_buf text = {0};
    lb_json copy = *v;
    copy.key = LB_STR_NONE;
    lb_json_write(&text, &copy, (lb_json_style){.compact = true, .strict = true});
    s->out->oom |= text.oom;
    lb_schema_literal(s->out, lb_buf_str(&text));
    lb_buf_deinit(&text);
}

/* ---- items ---- */

static bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static u8 hex_of(char c) {
    return (u8)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

/* One step of a JSON pointer: ~1, ~0 and %XX decoded. */
static const lb_json *pointer_step(const lb_json *at, lb_str step) {
    char name[256];
    size_t n = 0;
    u64 index;
    for (size_t i = 0; i < step.len; i++) {
        if (n == sizeof name)
            return NULL;
        char c = step.ptr[i];
        if (c == '%' && i + 2 < step.len && is_hex(step.ptr[i + 1]) && is_hex(step.ptr[i + 2])) {
            c = (char)(hex_of(step.ptr[i + 1]) << 4 | hex_of(step.ptr[i + 2]));
            i += 2;
        } else if (c == '~' && i + 1 < step.len) {
            c = step.ptr[++i] == '1' ? '/' : '~';
        }
        name[n++] = c;
    }
    if (at->type == LB_JOBJECT)
        return lb_json_get_str(at, (lb_str){name, n});
    if (at->type != LB_JARRAY || !lb_str_to_u64((lb_str){name, n}, &index) || index >= at->n)
        return NULL;
    const lb_json *v = at->first;
    while (index--)
        v = v->next;
    return v;
}

static lb_status resolve(lb_schema *s, const lb_json *ref, const lb_json **out) {
    lb_str text;
    if (!lb_json_as_str(ref, &text))
        return lb_schema_fail(s, LB_E_FORMAT, "$ref is not a string");
    if (!text.len || text.ptr[0] != '#' || (text.len > 1 && text.ptr[1] != '/'))
        return lb_schema_fail(s, LB_E_UNSUPPORTED,
                              "$ref \"%.*s\": only references into the schema (#/...) are known",
                              (int)LB_MIN(text.len, (size_t)120), text.ptr);
    const lb_json *at = s->root;
    for (size_t i = 1; i < text.len && at;) {
        size_t end = i + 1;
        while (end < text.len && text.ptr[end] != '/')
            end++;
        at = pointer_step(at, lb_str_sub(text, i + 1, end));
        i = end;
    }
    if (!at)
        return lb_schema_fail(s, LB_E_NOT_FOUND, "$ref \"%.*s\" leads nowhere",
                              (int)LB_MIN(text.len, (size_t)120), text.ptr);
    *out = at;
    return LB_OK;
}

/* Keywords that are read, and those that say nothing about validity. */
static const char *const known[] = {"$ref",
                                    "allOf",
                                    "anyOf",
                                    "oneOf",
                                    "type",
                                    "enum",
                                    "const",
                                    "properties",
                                    "required",
                                    "additionalProperties",
                                    "items",
                                    "prefixItems",
                                    "additionalItems",
                                    "minItems",
                                    "maxItems",
                                    "pattern",
                                    "format",
                                    "minLength",
                                    "maxLength",
                                    "minimum",
                                    "maximum",
                                    "exclusiveMinimum",
                                    "exclusiveMaximum",
                                    "$defs",
                                    "definitions",
                                    "title",
                                    "description",
                                    "default",
                                    "examples",
                                    "example",
                                    "$schema",
                                    "$id",
                                    "id",
                                    "$comment",
                                    "deprecated",
                                    "readOnly",
                                    "writeOnly",
                                    "$anchor",
                                    "$vocabulary",
                                    "contentEncoding",
                                    "contentMediaType"};

static lb_status check_keywords(lb_schema *s, const lb_json *node) {
    for (const lb_json *k = node->first; k; k = k->next) {
        bool found = lb_str_starts(k->key, LB_STR("x-"));
        u64 v;
        for (u32 i = 0; i < LB_LEN(known) && !found; i++)
            found = lb_str_eq_c(k->key, known[i]);
        /* Said, but without effect. */
        if (!found && lb_str_eq_c(k->key, "uniqueItems"))
            found = k->type == LB_JBOOL && !k->truth;
        if (!found && (lb_str_eq_c(k->key, "minProperties") || lb_str_eq_c(k->key, "minContains")))
            found = lb_json_as_u64(k, &v) && v == 0;
        if (!found && lb_str_eq_c(k->key, "nullable"))
            found = k->type == LB_JBOOL && !k->truth;
        if (!found)
            return lb_schema_fail(s, LB_E_UNSUPPORTED, "the keyword \"%.*s\" is not known here",
                                  (int)LB_MIN(k->key.len, (size_t)60), k->key.ptr);
    }
    return LB_OK;
}

/* from: the part that refers to the node, by which circles are found. */
static lb_status put_part(lb_schema *s, lb_sitem *item, const lb_json *node, u32 from) {
    for (u32 i = 0; i < item->n; i++) {
        if (item->parts[i].node != node)
            continue;
        for (u32 up = from; up < item->n; up = item->up[up])
            if (up == i)
                return lb_schema_fail(s, LB_E_FORMAT,
                                      "a schema refers to itself as a condition of itself");
        return LB_OK;
    }
    if (item->n == LB_SCHEMA_PARTS_MAX)
        return lb_schema_fail(s, LB_E_LIMIT, "more than %d schemas hold for one value",
                              LB_SCHEMA_PARTS_MAX);
    item->up[item->n] = from;
    item->parts[item->n++] = (lb_spart){node, 0};
    return LB_OK;
}

lb_status lb_schema_add(lb_schema *s, lb_sitem *item, const lb_json *node, u32 from) {
    u32 at = item->n;
    if (node->type == LB_JBOOL) {
        item->never |= !node->truth;
        return LB_OK;
    }
    LB_TRY(put_part(s, item, node, from));
    for (; at < item->n; at++) { /* what a part refers to comes behind it */
        const lb_json *n = item->parts[at].node;
        if (n->type != LB_JOBJECT)
            return lb_schema_fail(s, LB_E_FORMAT,
                                  "a schema is neither an object nor true or false");
        LB_TRY(check_keywords(s, n));
        const lb_json *ref = lb_json_get(n, "$ref"), *all = lb_json_get(n, "allOf");
        if (ref) {
            LB_TRY(resolve(s, ref, &ref));
            if (ref->type == LB_JBOOL)
                item->never |= !ref->truth;
            else
                LB_TRY(put_part(s, item, ref, at));
        }
        if (all && all->type != LB_JARRAY)
            return lb_schema_fail(s, LB_E_FORMAT, "allOf is not a list");
        for (const lb_json *x = all ? all->first : NULL; x; x = x->next) {
            if (x->type == LB_JBOOL)
                item->never |= !x->truth;
            else
                LB_TRY(put_part(s, item, x, at));
        }
    }
    return LB_OK;
}

lb_status lb_schema_enter(lb_schema *s, const char *more, lb_str name) {
    s->where = lb_arena_printf(&s->arena, "%.*s%s%.*s", (int)LB_MIN(s->where.len, (size_t)300),
                               s->where.len ? s->where.ptr : "", more,
                               (int)LB_MIN(name.len, (size_t)80), name.len ? name.ptr : "");
    return s->where.ptr ? LB_OK : lb_fail(s->err, LB_E_NOMEM, "a schema: out of memory");
}

lb_status lb_schema_rule(lb_schema *s, const lb_sitem *item, const char *more, lb_str name,
                         u32 *out) {
    lb_str key = {(const char *)item->parts, item->n * sizeof *item->parts};
    u64 id = s->jobs.len / sizeof(lb_sjob);
    if (lb_map_find(&s->known, key, &id)) {
        *out = (u32)id;
        return LB_OK;
    }
    if (id >= LB_SCHEMA_RULES_MAX || s->out->len > LB_SCHEMA_TEXT_MAX)
        return lb_schema_fail(s, LB_E_LIMIT, "the grammar has more than %d rules",
                              LB_SCHEMA_RULES_MAX);
    lb_sjob job = {.n = item->n};
    job.parts = lb_arena_new(&s->arena, lb_spart, (u64)item->n + 1);
    const lb_str where = s->where;
    LB_TRY(lb_schema_enter(s, more, name));
    job.where = s->where;
    s->where = where;
    job.up = lb_arena_new(&s->arena, u32, (u64)item->n + 1);
    if (!job.parts || !job.up)
        return lb_fail(s->err, LB_E_NOMEM, "a schema: out of memory");
    if (item->n) {
        memcpy(job.parts, item->parts, item->n * sizeof *job.parts);
        memcpy(job.up, item->up, item->n * sizeof *job.up);
    }
    key.ptr = (const char *)job.parts;
    LB_TRY(lb_map_put(&s->known, key, id, NULL, s->err));
    lb_buf_put(&s->jobs, &job, sizeof job);
    *out = (u32)id;
    return lb_buf_status(&s->jobs, s->err);
}

/* ---- types ---- */

static u32 type_of_word(lb_str w) {
    static const struct {
        const char *name;
        u32 bits;
    } types[] = {{"null", LB_ST_NULL},       {"boolean", LB_ST_BOOLEAN},
                 {"integer", LB_ST_INTEGER}, {"number", LB_ST_INTEGER | LB_ST_NUMBER},
                 {"string", LB_ST_STRING},   {"array", LB_ST_ARRAY},
                 {"object", LB_ST_OBJECT}};
    for (u32 i = 0; i < LB_LEN(types); i++)
        if (lb_str_eq_c(w, types[i].name))
            return types[i].bits;
    return 0;
}

static u32 type_of_value(const lb_json *v) {
    switch (v->type) {
    case LB_JNULL:
        return LB_ST_NULL;
    case LB_JBOOL:
        return LB_ST_BOOLEAN;
    case LB_JSTRING:
        return LB_ST_STRING;
    case LB_JARRAY:
        return LB_ST_ARRAY;
    case LB_JOBJECT:
        return LB_ST_OBJECT;
    case LB_JNUMBER:
        break;
    }
    double d;
    if (lb_json_is_int(v))
        return LB_ST_INTEGER;
    return lb_json_as_f64(v, &d) && d >= -1e15 && d <= 1e15 && d == (double)(i64)d ? LB_ST_INTEGER
                                                                                   : LB_ST_NUMBER;
}

lb_status lb_schema_types(lb_schema *s, const lb_sitem *item, u32 *types) {
    *types = item->never ? 0 : LB_ST_ALL;
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *t = lb_json_get(item->parts[i].node, "type");
        u32 own = 0;
        if (!t)
            continue;
        if (t->type != LB_JSTRING && t->type != LB_JARRAY)
            return lb_schema_fail(s, LB_E_FORMAT, "type is neither a word nor a list");
        for (const lb_json *w = t->type == LB_JARRAY ? t->first : t; w;
             w = t->type == LB_JARRAY ? w->next : NULL) {
            u32 bits = w->type == LB_JSTRING ? type_of_word(w->text) : 0;
            if (!bits)
                return lb_schema_fail(s, LB_E_FORMAT, "the type \"%.*s\" is not known",
                                      (int)LB_MIN(w->text.len, (size_t)40),
                                      w->text.len ? w->text.ptr : "");
            own |= bits;
        }
        *types &= own;
    }
    return LB_OK;
}

/* ---- constants ---- */

static bool same_number(const lb_json *a, const lb_json *b) {
    double x, y;
    return lb_str_eq(a->text, b->text) ||
           (lb_json_as_f64(a, &x) && lb_json_as_f64(b, &y) && x == y);
}

static bool same_value(const lb_json *a, const lb_json *b) {
    if (a->type != b->type || a->n != b->n || (a->type == LB_JBOOL && a->truth != b->truth) ||
        (a->type == LB_JSTRING && !lb_str_eq(a->text, b->text)) ||
        (a->type == LB_JNUMBER && !same_number(a, b)))
        return false;
    for (const lb_json *x = a->first, *y = b->first; x; x = x->next, y = y->next) {
        const lb_json *z = a->type == LB_JOBJECT ? lb_json_get_str(b, x->key) : y;
        if (!z || !same_value(x, z)) /* at most LB_JSON_DEPTH deep */
            return false;
    }
    return true;
}

static bool is_allowed(const lb_sitem *item, const lb_json *v) {
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *c = lb_json_get(item->parts[i].node, "const");
        const lb_json *e = lb_json_get(item->parts[i].node, "enum");
        bool found = !e;
        if (c && !same_value(c, v))
            return false;
        for (const lb_json *x = e ? e->first : NULL; x && !found; x = x->next)
            found = same_value(x, v);
        if (!found)
            return false;
    }
    return true;
}

/* Keywords that would have to be tried on each constant. */
static lb_status refuse_beside_constants(lb_schema *s, const lb_sitem *item) {
    static const char *const beside[] = {"properties",
                                         "required",
                                         "additionalProperties",
                                         "items",
                                         "prefixItems",
                                         "minItems",
                                         "maxItems",
                                         "pattern",
                                         "minLength",
                                         "maxLength",
                                         "minimum",
                                         "maximum",
                                         "exclusiveMinimum",
                                         "exclusiveMaximum"};
    for (u32 i = 0; i < item->n; i++)
        for (u32 j = 0; j < LB_LEN(beside); j++)
            if (lb_json_get(item->parts[i].node, beside[j]))
                return lb_schema_fail(s, LB_E_UNSUPPORTED, "%s beside enum or const", beside[j]);
    return LB_OK;
}

/* *n: constants that the item leaves, written as alternatives if `write`; ~0: it has none. */
static lb_status constants(lb_schema *s, const lb_sitem *item, u32 types, bool write, u32 *n) {
    const lb_json *list = NULL;
    bool one = false;
    *n = ~0u;
    for (u32 i = 0; i < item->n && !list; i++) {
        const lb_json *e = lb_json_get(item->parts[i].node, "enum");
        list = lb_json_get(item->parts[i].node, "const");
        one = list != NULL;
        if (!list && e && e->type != LB_JARRAY)
            return lb_schema_fail(s, LB_E_FORMAT, "enum is not a list");
        list = list ? list : e;
    }
    if (!list)
        return LB_OK;
    LB_TRY(refuse_beside_constants(s, item));
    *n = 0;
    for (const lb_json *v = one ? list : list->first; v; v = one ? NULL : v->next) {
        if (!(type_of_value(v) & types) || !is_allowed(item, v))
            continue;
        if (write) {
            lb_buf_put_c(s->out, *n ? " | " : "");
            lb_schema_value(s, v);
        }
        ++*n;
    }
    return LB_OK;
}

static lb_status is_possible(lb_schema *s, const lb_sitem *item, bool *out) {
    u32 types, n;
    LB_TRY(lb_schema_types(s, item, &types));
    LB_TRY(constants(s, item, types, false, &n));
    *out = types && n;
    return LB_OK;
}

/* ---- strings ---- */

static lb_status string(lb_schema *s, const lb_sitem *item) {
    u64 least = 0, most = ~(u64)0, v;
    lb_str pattern = LB_STR_NONE, format = LB_STR_NONE;
    bool has_pattern = false, has_format = false;
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *node = item->parts[i].node, *x;
        if ((x = lb_json_get(node, "minLength"))) {
            if (!lb_json_as_u64(x, &v))
                return lb_schema_fail(s, LB_E_FORMAT, "minLength is not a count");
            least = LB_MAX(least, v);
        }
        if ((x = lb_json_get(node, "maxLength"))) {
            if (!lb_json_as_u64(x, &v))
                return lb_schema_fail(s, LB_E_FORMAT, "maxLength is not a count");
            most = LB_MIN(most, v);
        }
        if ((x = lb_json_get(node, "pattern"))) {
            lb_str own;
            if (!lb_json_as_str(x, &own))
                return lb_schema_fail(s, LB_E_FORMAT, "pattern is not a string");
            if (has_pattern && !lb_str_eq(own, pattern))
                return lb_schema_fail(s, LB_E_UNSUPPORTED, "two patterns for one string");
            pattern = own;
            has_pattern = true;
        }
        if ((x = lb_json_get(node, "format"))) {
            lb_str own;
            if (!lb_json_as_str(x, &own))
                return lb_schema_fail(s, LB_E_FORMAT, "format is not a string");
            if (has_format && !lb_str_eq(own, format))
                return lb_schema_fail(s, LB_E_UNSUPPORTED, "two formats for one string");
            format = own;
            has_format = true;
        }
    }
    if (most < least)
        return lb_schema_fail(s, LB_E_FORMAT, "maxLength is below minLength");
    bool has_length = least || most != ~(u64)0;
    if (has_pattern + has_format + has_length > 1)
        return lb_schema_fail(s, LB_E_UNSUPPORTED,
                              "only one of pattern, format and minLength/maxLength can be kept");
    if (has_length && (least > 100000 || (most != ~(u64)0 && most > 100000)))
        return lb_schema_fail(s, LB_E_LIMIT, "a length of more than 100000");
    if (!has_pattern && !has_format && !has_length) {
        lb_buf_put_c(s->out, "string");
        return LB_OK;
    }
    lb_buf_put_c(s->out, "\"\\\"\" ");
    if (has_pattern) {
        LB_TRY(lb_schema_pattern(s, pattern));
    } else if (has_format) {
        LB_TRY(lb_schema_format(s, format));
    } else {
        lb_buf_printf(s->out, "char{%llu,", (unsigned long long)least);
        if (most != ~(u64)0)
            lb_buf_put_dec(s->out, most);
        lb_buf_put_c(s->out, "}");
    }
    lb_buf_put_c(s->out, " \"\\\"\"");
    return LB_OK;
}

/* ---- jobs ---- */

/* The first alternatives that were not taken yet, of which part; NULL: none. */
static const lb_json *alternatives(lb_schema *s, const lb_sitem *item, u32 *part, u64 *bit) {
    for (u32 i = 0; i < item->n; i++)
        for (u32 k = 0; k < 2; k++) {
            const lb_json *x = lb_json_get(item->parts[i].node, k ? "oneOf" : "anyOf");
            u64 own = k ? LB_SCHEMA_ONE_OF : LB_SCHEMA_ANY_OF;
            if (!x || item->parts[i].taken & own)
                continue;
            *part = i;
            *bit = own;
            (void)s;
            return x;
        }
    return NULL;
}

static lb_status choose(lb_schema *s, const lb_sitem *item, const lb_json *list, u32 part,
                        u64 bit) {
    u32 n = 0, index = 0;
    if (list->type != LB_JARRAY || !list->n)
        return lb_schema_fail(s, LB_E_FORMAT, "anyOf or oneOf is not a list of schemas");
    for (const lb_json *x = list->first; x; x = x->next, index++) {
        char more[40];
        bool possible;
        u32 rule;
        lb_sitem *next = &s->item;
        const lb_str where = s->where;
        *next = *item;
        next->parts[part].taken |= bit;
        snprintf(more, sizeof more, "/%s/%u", bit == LB_SCHEMA_ANY_OF ? "anyOf" : "oneOf", index);
        LB_TRY(lb_schema_enter(s, more, LB_STR_NONE));
        LB_TRY(lb_schema_add(s, next, x, part));
        LB_TRY(is_possible(s, next, &possible));
        s->where = where;
        if (!possible)
            continue;
        LB_TRY(lb_schema_rule(s, next, more, LB_STR_NONE, &rule));
        lb_buf_printf(s->out, "%ss%u", n++ ? " | " : "", rule);
    }
    return n ? LB_OK : lb_schema_fail(s, LB_E_FORMAT, "no alternative can be valid");
}

static lb_status write_types(lb_schema *s, const lb_sitem *item, u32 types) {
    u32 n = 0;
    for (u32 t = 1; t <= LB_ST_OBJECT; t <<= 1) {
        if (!(types & t) || (t == LB_ST_INTEGER && types & LB_ST_NUMBER))
            continue;
        lb_buf_put_c(s->out, n++ ? " | " : "");
        if (t == LB_ST_NULL)
            lb_buf_put_c(s->out, "\"null\"");
        else if (t == LB_ST_BOOLEAN)
            lb_buf_put_c(s->out, "\"true\" | \"false\"");
        else if (t == LB_ST_STRING)
            LB_TRY(string(s, item));
        else if (t == LB_ST_ARRAY)
            LB_TRY(lb_schema_array(s, item));
        else if (t == LB_ST_OBJECT)
            LB_TRY(lb_schema_object(s, item));
        else
            LB_TRY(lb_schema_number(s, item, t == LB_ST_INTEGER));
    }
    return LB_OK;
}

static lb_status write_job(lb_schema *s, u32 i) {
    lb_sitem *item = lb_alloc_zero(1, sizeof *item);
    lb_status st = LB_OK;
    if (!item)
        return lb_fail(s->err, LB_E_NOMEM, "a schema: out of memory");
    const lb_sjob job = ((const lb_sjob *)(const void *)s->jobs.ptr)[i];
    s->where = job.where;
    item->n = job.n;
    if (job.n) {
        memcpy(item->parts, job.parts, job.n * sizeof *job.parts);
        memcpy(item->up, job.up, job.n * sizeof *job.up);
    }
    u32 types, n, part = 0;
    u64 bit = 0;
    lb_buf_printf(s->out, "s%u ::= ", i);
    const lb_json *list = alternatives(s, item, &part, &bit);
    LB_TRY_DONE(st, lb_schema_types(s, item, &types));
    LB_TRY_DONE(st, constants(s, item, types, true, &n));
    if (!types || !n)
        st = lb_schema_fail(s, LB_E_FORMAT, "the schema contradicts itself: no value is valid");
    else if (n != ~0u)
        st = list ? lb_schema_fail(s, LB_E_UNSUPPORTED, "anyOf or oneOf beside enum or const")
                  : LB_OK;
    else if (list)
        st = choose(s, item, list, part, bit);
    else
        st = write_types(s, item, types);
    lb_buf_put_c(s->out, "\n");
    lb_buf_put(s->out, s->after.ptr, s->after.len);
    s->out->oom |= s->after.oom;
    s->after.len = 0;
done:
    lb_free(item);
    return st;
}

lb_status lb_json_grammar(bool object, lb_buf *out, lb_err *err) {
    lb_buf_printf(out, "root ::= %s\n" COMMON, object ? "object" : "value");
    return lb_buf_status(out, err);
}

/* Whether some text of it ends: a value that must hold itself, and a pattern that matches nothing,
 * are seen by the grammar's compiler alone. What is written here is well formed. */
static lb_status check_ends(lb_str grammar, lb_err *err) {
    lb_grammar *g = NULL;
    lb_status st = lb_grammar_compile(&g, grammar, NULL, err);
    lb_grammar_free(&g);
    return st != LB_E_FORMAT
               ? st
               : lb_fail(err, st,
                         "schema: no document is valid: it would hold itself for ever, or match a "
                         "pattern that nothing matches");
}

lb_status lb_json_schema_grammar(const lb_json *schema, lb_buf *out, lb_err *err) {
    const size_t begin = out->len;
    lb_schema *s = lb_alloc_zero(1, sizeof *s);
    lb_sitem *root = lb_alloc_zero(1, sizeof *root);
    lb_status st = LB_OK;
    u32 rule;
    if (!s || !root) {
        st = lb_fail(err, LB_E_NOMEM, "a schema: out of memory");
        goto done;
    }
    s->root = schema;
    s->out = out;
    s->err = err;
    LB_TRY_DONE(st, lb_schema_add(s, root, schema, ~0u));
    if (root->never) {
        st = lb_schema_fail(s, LB_E_FORMAT, "the schema is false: no value is valid");
        goto done;
    }
    LB_TRY_DONE(st, lb_schema_rule(s, root, "#", LB_STR_NONE, &rule));
    lb_buf_put_c(out, "root ::= s0\n" COMMON);
    for (u32 i = 0; i < s->jobs.len / sizeof(lb_sjob) && st == LB_OK; i++)
        st = write_job(s, i);
    if (st == LB_OK)
        st = lb_buf_status(out, err);
    if (st == LB_OK)
        st = check_ends(lb_str_sub(lb_buf_str(out), begin, out->len), err);
done:
    if (s) {
        lb_arena_deinit(&s->arena);
        lb_map_deinit(&s->known);
        lb_buf_deinit(&s->jobs);
        lb_buf_deinit(&s->after);
    }
    lb_free(s);
    lb_free(root);
    return st;
}
