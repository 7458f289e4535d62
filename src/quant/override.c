/* SPDX-License-Identifier: Apache-2.0 */
/* override.c: REGEX=TYPE, compiled and searched by PCRE2 (pcre2api(3), 10.42). */
#include "quant/override.h"
#include "quant/recipe.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* A name has 64 bytes or few more, and a user's pattern a few alternatives. */
#define MATCH_STEPS_MAX 1000000
#define MATCH_DEPTH_MAX 10000
#define MATCH_HEAP_KIB 1024
#define PATTERN_BYTES_MAX 4096

/* Where ECMAScript's grammar differs: "$" is the end and nothing before it, \u and \x take its
 * forms, "[]" matches nothing, a group that took no part is empty. */
#define OPTIONS                                                                                    \
    (PCRE2_DOLLAR_ENDONLY | PCRE2_ALT_BSUX | PCRE2_ALLOW_EMPTY_CLASS | PCRE2_MATCH_UNSET_BACKREF | \
     PCRE2_NEVER_UTF | PCRE2_NEVER_UCP)

static void *from_arena(PCRE2_SIZE size, void *arena) {
    return lb_arena_push(arena, size, _Alignof(max_align_t));
}

static void to_nobody(void *ptr, void *arena) {
    (void)ptr;
    (void)arena;
}

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the patterns of overrides");
}

static lb_status begin(lb_overrides *o, lb_err *err) {
    if (o->limits)
        return LB_OK;
    o->context = pcre2_general_context_create(from_arena, to_nobody, o->arena);
    o->match = o->context ? pcre2_match_data_create(1, o->context) : NULL;
    o->limits = o->match ? pcre2_match_context_create(o->context) : NULL;
    if (!o->limits)
        return no_memory(err);
    (void)pcre2_set_match_limit(o->limits, MATCH_STEPS_MAX);
    (void)pcre2_set_depth_limit(o->limits, MATCH_DEPTH_MAX);
    (void)pcre2_set_heap_limit(o->limits, MATCH_HEAP_KIB);
    return LB_OK;
}

static lb_status compile(const lb_overrides *o, lb_override *v, lb_err *err) {
    int code = 0;
    PCRE2_SIZE at = 0;
    PCRE2_UCHAR why[120] = "";
    pcre2_compile_context *c = pcre2_compile_context_create(o->context);
    if (!c)
        return no_memory(err);
    v->code = pcre2_compile((PCRE2_SPTR)v->pattern.ptr, v->pattern.len, OPTIONS, &code, &at, c);
    if (!v->code && code == PCRE2_ERROR_HEAP_FAILED)
        return no_memory(err);
    if (!v->code) {
        (void)pcre2_get_error_message(code, why, LB_LEN(why));
        return lb_fail(err, LB_E_USAGE, "override \"%.*s\": %s, at byte %zu of the pattern",
                       LB_FMT(v->pattern), (const char *)why, at);
    }
    return LB_OK;
}

static lb_status find_type(const lb_overrides *o, lb_str name, lb_override *v, lb_err *err) {
    if (o->find_type)
        return o->find_type(name, &v->type, err);
    LB_TRY(lb_recipe_type_find(name, &v->dtype, err));
    v->type = (u32)v->dtype;
    return LB_OK;
}

lb_status lb_override_add(lb_overrides *o, lb_str text, bool lower, lb_err *err) {
    size_t eq = text.len;
    while (eq && text.ptr[eq - 1] != '=')
        eq--;
    if (!eq)
        return lb_fail(err, LB_E_USAGE, "override \"%.*s\": give PATTERN=TYPE", LB_FMT(text));
    lb_str pattern = lb_str_sub(text, 0, eq - 1);
    if (!pattern.len || pattern.len > PATTERN_BYTES_MAX)
        return lb_fail(err, LB_E_USAGE, "override \"%.*s\": a pattern has 1 to %d bytes",
                       (int)LB_MIN(text.len, (size_t)120), text.ptr, PATTERN_BYTES_MAX);
    lb_override *v = lb_arena_new(o->arena, lb_override, 1);
    char *copy = lb_arena_new(o->arena, char, pattern.len);
    if (!v || !copy)
        return no_memory(err);
    for (size_t i = 0; i < pattern.len; i++) {
        const char c = pattern.ptr[i];
        copy[i] = lower && c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    v->pattern = (lb_str){copy, pattern.len};
    v->type_name = lb_arena_str(o->arena, lb_str_sub(text, eq, text.len));
    if (!v->type_name.ptr)
        return no_memory(err);
    lb_status st = find_type(o, lb_str_sub(text, eq, text.len), v, err);
    if (st != LB_OK) {
        lb_err_context(err, "override \"%.*s\"", LB_FMT(text));
        return st;
    }
    LB_TRY(begin(o, err));
    LB_TRY(compile(o, v, err));
    if (o->last)
        o->last->next = v;
    else
        o->first = v;
    o->last = v;
    return LB_OK;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

lb_status lb_override_add_words(lb_overrides *o, lb_str text, bool lower, lb_err *err) {
    for (size_t i = 0, from; i < text.len;) {
        for (from = i; i < text.len && !is_space(text.ptr[i]); i++) {
        }
        if (i > from)
            LB_TRY(lb_override_add(o, lb_str_sub(text, from, i), lower, err));
        else
            i++;
    }
    return LB_OK;
}

lb_status lb_override_matches(const lb_overrides *o, const lb_override *v, lb_str name, bool *out,
                              lb_err *err) {
    int rc = pcre2_match(v->code, (PCRE2_SPTR)(name.ptr ? name.ptr : ""), name.len, 0, 0, o->match,
                         o->limits);
    *out = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH)
        return LB_OK;
    if (rc == PCRE2_ERROR_NOMEMORY)
        return no_memory(err);
    return lb_fail(err, LB_E_LIMIT, "override \"%.*s\": tensor '%.*s' takes too many steps",
                   LB_FMT(v->pattern), LB_FMT(name));
}

lb_status lb_override_find(const lb_overrides *o, lb_str name, const lb_override **out,
                           lb_err *err) {
    *out = NULL;
    for (const lb_override *v = o ? o->first : NULL; v && !*out; v = v->next) {
        bool found = false;
        LB_TRY(lb_override_matches(o, v, name, &found, err));
        if (found)
            *out = v;
    }
    return LB_OK;
}
