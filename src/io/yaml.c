/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.c: libyaml's events -> a tree of lb_json. See yaml.h. */
#include "io/yaml.h"
#include <yaml.h>

typedef struct anchor {
    lb_str name;
    lb_json *node;
    struct anchor *next;
} anchor;

typedef struct frame {
    lb_json *node; /* the collection that is being filled */
    lb_str key;    /* mapping: the key whose value comes next */
    u32 line;      /* that key's */
    bool has_key;
    bool merge;      /* that key is << */
    lb_json *merges; /* values of <<: taken in when the mapping's own keys are known */
    anchor *hidden;  /* known again when the collection is complete: no node contains itself */
} frame;

typedef struct builder {
    const char *what;
    u32 flags;
    lb_arena *perm;
    anchor *anchors;
    u64 n_nodes;
    frame stack[LB_JSON_DEPTH];
    u32 depth;
    lb_json *root;
    lb_json *all; /* the documents that are complete, where several may stand */
    lb_err *err;
} builder;

static lb_status no_memory(builder *b) {
    return lb_fail(b->err, LB_E_NOMEM, "%s: out of memory", b->what);
}

static lb_status bad(builder *b, const yaml_event_t *e, lb_status code, const char *text) {
    return lb_fail_at(b->err, code, e->start_mark.index, "%s: line %llu: %s", b->what,
                      (unsigned long long)e->start_mark.line + 1, text);
}

static u32 line_of(const yaml_event_t *e) {
    return (u32)LB_MIN(e->start_mark.line + 1, (size_t)INT32_MAX) & INT32_MAX;
}

/* ---- plain scalars (PyYAML's implicit resolvers) ---- */

static bool one_of(lb_str s, const char *const *list) {
    for (; *list; list++)
        if (lb_str_eq_c(s, *list))
            return true;
    return false;
}

static bool in_set(char c, const char *set) {
    return c != 0 && strchr(set, c) != NULL;
}

static bool all_in(lb_str s, size_t from, const char *set) {
    for (size_t i = from; i < s.len; i++)
        if (!in_set(s.ptr[i], set))
            return false;
    return from < s.len;
}

/* Digits of a base above or below ten, as a decimal number; false when it does not fit 64 bits. */
static bool to_decimal(lb_str s, size_t from, u32 base, u64 *out) {
    u64 v = 0;
    for (size_t i = from; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '_')
            continue;
        u32 digit = c <= '9' ? (u32)(c - '0') : (u32)((c | 32) - 'a' + 10);
        if (!lb_mul_u64(v, base, &v) || !lb_add_u64(v, digit, &v))
            return false;
    }
    *out = v;
    return true;
}

/* The number's text without underscores and plus. */
static lb_str strip(builder *b, lb_str s) {
    lb_str t = lb_arena_str(b->perm, s);
    char *c = (char *)(uintptr_t)t.ptr;
    size_t n = 0;
    for (size_t i = 0; c && i < t.len; i++)
        if (c[i] != '_' && !(i == 0 && c[i] == '+'))
            c[n++] = c[i];
    if (c)
        c[n] = 0;
    return (lb_str){c, n};
}

/* Returns false when s is no integer. */
static bool resolve_int(builder *b, lb_str s, lb_str *out) {
    size_t sign = s.len && in_set(s.ptr[0], "+-");
    lb_str rest = lb_str_sub(s, sign, s.len);
    u64 v = 0;
    u32 base = 0;
    if (lb_str_eq_c(rest, "0") ||
        (rest.len && in_set(rest.ptr[0], "123456789") && all_in(rest, 0, "0123456789_"))) {
        *out = strip(b, s);
        return true;
    }
    size_t from = 2;
    if (rest.len > 2 && rest.ptr[0] == '0' && rest.ptr[1] == 'b' && all_in(rest, 2, "01_"))
        base = 2;
    else if (rest.len > 2 && rest.ptr[0] == '0' && rest.ptr[1] == 'x' &&
             all_in(rest, 2, "0123456789abcdefABCDEF_"))
        base = 16;
    else if (rest.len > 1 && rest.ptr[0] == '0' && all_in(rest, 1, "01234567_")) {
        base = 8;
        from = 1;
    }
    if (!base || !to_decimal(rest, from, base, &v))
        return false;
    *out = lb_arena_printf(b->perm, "%s%llu", sign && s.ptr[0] == '-' ? "-" : "",
                           (unsigned long long)v);
    return true;
}

/* [-+]?digits.digits? with an exponent that has a sign, .digits, .inf, .nan */
static bool resolve_float(builder *b, lb_str s, lb_str *out) {
    static const char *const infs[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    size_t at = s.len && in_set(s.ptr[0], "+-"), sign = at, whole = 0, fraction = 0;
    lb_str rest = lb_str_sub(s, at, s.len);
    if (one_of(rest, infs)) {
        *out = sign && s.ptr[0] == '-' ? LB_STR("-Infinity") : LB_STR("Infinity");
        return true;
    }
    if (!sign && one_of(rest, nans)) {
        *out = LB_STR("NaN");
        return true;
    }
    while (at < s.len && in_set(s.ptr[at], whole ? "0123456789_" : "0123456789"))
        at++, whole++;
    if (at >= s.len || s.ptr[at] != '.')
        return false;
    at++;
    while (at < s.len && in_set(s.ptr[at], whole || fraction ? "0123456789_" : "0123456789"))
        at++, fraction++;
    if (whole + fraction == 0 || (whole == 0 && sign))
        return false;
    size_t digits_end = at;
    if (at < s.len) {
        if (!in_set(s.ptr[at], "eE") || at + 2 >= s.len || !in_set(s.ptr[at + 1], "+-") ||
            !all_in(s, at + 2, "0123456789"))
            return false;
    }
    lb_str head = strip(b, lb_str_sub(s, 0, digits_end));
    lb_str tail = lb_str_sub(s, digits_end, s.len);
    *out = lb_arena_printf(b->perm, "%s%.*s%s%.*s", whole ? "" : "0", LB_FMT(head),
                           lb_str_ends(head, LB_STR(".")) ? "0" : "", LB_FMT(tail));
    return true;
}

/* A leading zero in a float ("01.5") is YAML but not JSON. */
static lb_str json_number(builder *b, lb_str s) {
    size_t sign = s.len && s.ptr[0] == '-', at = sign;
    while (at + 1 < s.len && s.ptr[at] == '0' && s.ptr[at + 1] >= '0' && s.ptr[at + 1] <= '9')
        at++;
    if (at == sign)
        return s;
    return lb_arena_printf(b->perm, "%s%.*s", sign ? "-" : "", LB_FMT(lb_str_sub(s, at, s.len)));
}

static bool resolve_plain(builder *b, lb_json *node, lb_str s) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"yes",  "Yes", "YES", "true", "True",
                                      "TRUE", "on",  "On",  "ON",   NULL};
    static const char *const no[] = {"no",    "No",  "NO",  "false", "False",
                                     "FALSE", "off", "Off", "OFF",   NULL};
    lb_str text = s;
    if (one_of(s, nulls)) {
        node->type = LB_JNULL;
        return true;
    }
    if (one_of(s, yes) || one_of(s, no)) {
        node->type = LB_JBOOL;
        node->truth = one_of(s, yes);
    } else if (resolve_int(b, s, &text) || resolve_float(b, s, &text)) {
        node->type = LB_JNUMBER;
        if (text.ptr)
            text = json_number(b, text);
        if (!text.ptr)
            return false;
    } else {
        node->type = LB_JSTRING;
    }
    node->text = lb_arena_str(b->perm, text);
    return node->text.ptr != NULL;
}

/* ---- nodes ---- */

static lb_json *new_node(builder *b, const yaml_event_t *e, lb_json_type type) {
    lb_json *n = lb_arena_new(b->perm, lb_json, 1);
    b->n_nodes++;
    if (n) {
        n->type = type;
        n->line = line_of(e) & INT32_MAX;
    }
    return n;
}

static void link_child(lb_json *parent, lb_json *child) {
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->n++;
}

/* Nodes of a tree, counted up to `stop`, and its depth (a scalar: 0). */
static u64 measure(const lb_json *v, u64 stop, u32 *depth_max) {
    const lb_json *stack[LB_JSON_DEPTH + 1];
    u32 depth = 0;
    u64 n = 1;
    stack[0] = v->first;
    *depth_max = v->type == LB_JARRAY || v->type == LB_JOBJECT;
    while (n < stop) {
        const lb_json *at = stack[depth];
        if (!at) {
            if (depth-- == 0)
                break;
            continue;
        }
        stack[depth] = at->next;
        n++;
        if (at->type != LB_JARRAY && at->type != LB_JOBJECT)
            continue;
        LB_ASSERT(depth < LB_JSON_DEPTH);
        stack[++depth] = at->first;
        *depth_max = LB_MAX(*depth_max, depth + 1);
    }
    return n;
}

/* An alias stands for a copy: children are linked through their parents. */
static lb_status copy_node(builder *b, const yaml_event_t *e, const lb_json *v, lb_json **out) {
    u32 depth;
    b->n_nodes += measure(v, LB_YAML_NODES_MAX, &depth);
    if (b->n_nodes > LB_YAML_NODES_MAX)
        return bad(b, e, LB_E_LIMIT, "more nodes than LB_YAML_NODES_MAX");
    if (b->depth + depth > LB_JSON_DEPTH)
        return bad(b, e, LB_E_LIMIT, "nested deeper than LB_JSON_DEPTH");
    *out = lb_json_copy(b->perm, v);
    return *out ? LB_OK : no_memory(b);
}

/* The value of a key that is there already: taken over or refused. */
static lb_status put_pair(builder *b, const yaml_event_t *e, lb_json *map, lb_str key,
                          lb_json *value, bool weak) {
    lb_json *old = lb_json_get_str(map, key);
    value->key = key;
    if (!old) {
        if (map->n >= LB_YAML_KEYS_MAX)
            return bad(b, e, LB_E_LIMIT, "a mapping with more keys than LB_YAML_KEYS_MAX");
        link_child(map, value);
        return LB_OK;
    }
    if (weak)
        return LB_OK;
    if (!(b->flags & LB_YAML_LAST_WINS))
        return lb_fail_at(b->err, LB_E_FORMAT, e->start_mark.index,
                          "%s: line %u: the key %.*s stands twice in one mapping (line %u)",
                          b->what, value->line, (int)LB_MIN(key.len, 80), key.ptr, old->line);
    lb_json *next = old->next;
    *old = *value;
    old->next = next;
    return LB_OK;
}

/* `<<: *base`: keys of another mapping (or of several) that this one does not have itself. */
static lb_status merge_pairs(builder *b, const yaml_event_t *e, lb_json *map, const lb_json *from) {
    if (from->type != LB_JOBJECT)
        return bad(b, e, LB_E_FORMAT, "a merge key needs a mapping");
    for (const lb_json *m = from->first; m; m = m->next) {
        lb_json *copy;
        LB_TRY(copy_node(b, e, m, &copy));
        LB_TRY(put_pair(b, e, map, m->key, copy, true));
    }
    return LB_OK;
}

/* Puts a complete node where it belongs. */
static lb_status attach(builder *b, const yaml_event_t *e, lb_json *node) {
    if (b->depth == 0) {
        b->root = node;
        return LB_OK;
    }
    frame *f = &b->stack[b->depth - 1];
    if (f->node->type == LB_JARRAY) {
        link_child(f->node, node);
        return LB_OK;
    }
    if (!f->has_key) {
        if (node->type == LB_JARRAY || node->type == LB_JOBJECT)
            return bad(b, e, LB_E_FORMAT, "a key must be a plain value");
        f->key = node->type == LB_JNULL ? LB_STR("null") : node->text;
        f->line = node->line;
        f->has_key = true;
        f->merge = e->type == YAML_SCALAR_EVENT && !e->data.scalar.tag &&
                   e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && lb_str_eq_c(f->key, "<<");
        return LB_OK;
    }
    f->has_key = false;
    if (f->merge) {
        if (!f->merges && !(f->merges = new_node(b, e, LB_JARRAY)))
            return no_memory(b);
        link_child(f->merges, node);
        return LB_OK;
    }
    node->line = f->line & INT32_MAX;
    return put_pair(b, e, f->node, f->key, node, false);
}

static lb_status add_anchor(builder *b, const yaml_char_t *name, lb_json *node) {
    if (!name)
        return LB_OK;
    anchor *a = lb_arena_new(b->perm, anchor, 1);
    if (!a || !(a->name = lb_arena_str(b->perm, lb_str_c((const char *)name))).ptr)
        return no_memory(b);
    a->node = node;
    a->next = b->anchors;
    b->anchors = a;
    return LB_OK;
}

/* ---- events ---- */

static bool core_tag(const yaml_char_t *tag, const char *name) {
    lb_str t = lb_str_c((const char *)tag);
    return lb_str_starts(t, LB_STR("tag:yaml.org,2002:")) &&
           lb_str_eq_c(lb_str_sub(t, 18, t.len), name);
}

static lb_status on_scalar(builder *b, const yaml_event_t *e) {
    lb_json *node = new_node(b, e, LB_JSTRING);
    lb_str s = {(const char *)e->data.scalar.value, e->data.scalar.length};
    const yaml_char_t *tag = e->data.scalar.tag;
    bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (!node)
        return no_memory(b);
    if (tag && !core_tag(tag, "str")) {
        bool known = lb_str_eq_c(lb_str_c((const char *)tag), "!") || core_tag(tag, "int") ||
                     core_tag(tag, "float") || core_tag(tag, "bool") || core_tag(tag, "null");
        if (!known)
            return bad(b, e, LB_E_UNSUPPORTED, "a tag that is not of YAML's core");
        plain = true;
    } else if (tag) {
        plain = false;
    }
    if (plain ? !resolve_plain(b, node, s) : !(node->text = lb_arena_str(b->perm, s)).ptr)
        return no_memory(b);
    LB_TRY(add_anchor(b, e->data.scalar.anchor, node));
    return attach(b, e, node);
}

static lb_status on_start(builder *b, const yaml_event_t *e, lb_json_type type) {
    bool map = type == LB_JOBJECT;
    const yaml_char_t *tag = map ? e->data.mapping_start.tag : e->data.sequence_start.tag;
    const yaml_char_t *name = map ? e->data.mapping_start.anchor : e->data.sequence_start.anchor;
    if (tag && !core_tag(tag, map ? "map" : "seq"))
        return bad(b, e, LB_E_UNSUPPORTED, "a tag that is not of YAML's core");
    if (b->depth == LB_JSON_DEPTH)
        return bad(b, e, LB_E_LIMIT, "nested deeper than LB_JSON_DEPTH");
    lb_json *node = new_node(b, e, type);
    if (!node)
        return no_memory(b);
    frame *f = &b->stack[b->depth++];
    *f = (frame){.node = node};
    if (name) {
        LB_TRY(add_anchor(b, name, node));
        f->hidden = b->anchors;
        b->anchors = b->anchors->next;
    }
    return LB_OK;
}

static lb_status merge_all(builder *b, const yaml_event_t *e, const frame *f) {
    for (const lb_json *m = f->merges ? f->merges->first : NULL; m; m = m->next) {
        if (m->type != LB_JARRAY) {
            LB_TRY(merge_pairs(b, e, f->node, m));
            continue;
        }
        for (const lb_json *one = m->first; one; one = one->next)
            LB_TRY(merge_pairs(b, e, f->node, one));
    }
    return LB_OK;
}

static lb_status on_end(builder *b, const yaml_event_t *e) {
    frame f = b->stack[b->depth - 1];
    LB_TRY(merge_all(b, e, &f));
    b->depth--;
    if (f.hidden) {
        f.hidden->next = b->anchors;
        b->anchors = f.hidden;
    }
    return attach(b, e, f.node);
}

static lb_status on_alias(builder *b, const yaml_event_t *e) {
    lb_str name = lb_str_c((const char *)e->data.alias.anchor);
    for (const anchor *a = b->anchors; a; a = a->next) {
        if (!lb_str_eq(a->name, name))
            continue;
        lb_json *copy;
        LB_TRY(copy_node(b, e, a->node, &copy));
        copy->line = line_of(e) & INT32_MAX;
        return attach(b, e, copy);
    }
    return bad(b, e, LB_E_FORMAT, "an alias without its anchor");
}

/* The next document starts without the anchors of this one. */
static lb_status end_document(builder *b, const yaml_event_t *e) {
    if (!b->root && !(b->root = new_node(b, e, LB_JNULL)))
        return no_memory(b);
    if (!b->all)
        return LB_OK;
    link_child(b->all, b->root);
    b->root = NULL;
    b->anchors = NULL;
    return LB_OK;
}

static lb_status on_event(builder *b, const yaml_event_t *e) {
    if (b->n_nodes > LB_YAML_NODES_MAX)
        return bad(b, e, LB_E_LIMIT, "more nodes than LB_YAML_NODES_MAX");
    switch (e->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(b, e);
    case YAML_SEQUENCE_START_EVENT:
        return on_start(b, e, LB_JARRAY);
    case YAML_MAPPING_START_EVENT:
        return on_start(b, e, LB_JOBJECT);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return on_end(b, e);
    case YAML_ALIAS_EVENT:
        return on_alias(b, e);
    case YAML_DOCUMENT_START_EVENT:
        return b->root ? bad(b, e, LB_E_FORMAT, "more than one document") : LB_OK;
    case YAML_DOCUMENT_END_EVENT:
        return end_document(b, e);
    default:
        return LB_OK;
    }
}

static lb_status parser_failed(builder *b, const yaml_parser_t *p) {
    if (p->error == YAML_MEMORY_ERROR)
        return no_memory(b);
    return lb_fail_at(b->err, LB_E_FORMAT, p->problem_mark.index, "%s: line %llu: %s", b->what,
                      (unsigned long long)p->problem_mark.line + 1,
                      p->problem ? p->problem : "not YAML");
}

static lb_status parse(builder *b, lb_str text) {
    yaml_parser_t parser;
    lb_status st = LB_OK;
    bool end = false;
    if (!yaml_parser_initialize(&parser))
        return no_memory(b);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.ptr ? text.ptr : ""),
                                 text.len);
    while (st == LB_OK && !end) {
        yaml_event_t e;
        if (!yaml_parser_parse(&parser, &e)) {
            st = parser_failed(b, &parser);
            break;
        }
        end = e.type == YAML_STREAM_END_EVENT;
        st = on_event(b, &e);
        yaml_event_delete(&e);
    }
    yaml_parser_delete(&parser);
    return st;
}

lb_status lb_yaml_parse(lb_str text, const char *what, u32 flags, lb_arena *perm, lb_json **out,
                        lb_err *err) {
    builder b = {.what = what, .flags = flags, .perm = perm, .err = err};
    *out = NULL;
    LB_TRY(parse(&b, text));
    *out = b.root ? b.root : lb_json_new_null(perm);
    return *out ? LB_OK : no_memory(&b);
}

lb_status lb_yaml_parse_all(lb_str text, const char *what, u32 flags, lb_arena *perm, lb_json **out,
                            lb_err *err) {
    builder b = {.what = what, .flags = flags, .perm = perm, .err = err};
    *out = NULL;
    if (!(b.all = lb_json_new_array(perm)))
        return no_memory(&b);
    LB_TRY(parse(&b, text));
    *out = b.all;
    return LB_OK;
}
