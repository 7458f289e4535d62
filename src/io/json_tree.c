/* SPDX-License-Identifier: Apache-2.0 */
/* json_tree.c: the tree: parsing, finding, building.
 *
 * Duplicate keys are found by comparing with the few keys before, from the 9th key of an object on
 * through a hash map, which lives only while that object is being read. */
#include "io/json.h"

#define LINEAR_KEYS 8
#define TREE_DEPTH (2 * LB_JSON_DEPTH)

typedef struct level {
    lb_json *node;
    lb_map keys; /* used from LINEAR_KEYS members on */
} level;

typedef struct parser {
    lb_json_reader reader;
    lb_arena *perm;
    u32 depth;
    level levels[LB_JSON_DEPTH];
} parser;

static void append(lb_json *parent, lb_json *child) {
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->n++;
}

static lb_status no_memory(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "JSON: out of memory for the tree");
}

static lb_status duplicate(const parser *p, lb_str key, lb_err *err) {
    /* The reader stands behind the colon: near enough to find it. */
    return lb_fail_at(err, LB_E_FORMAT, p->reader.pos,
                      "JSON: byte %zu: key \"%.*s\" is there twice", p->reader.pos, LB_FMT(key));
}

static lb_status check_key(parser *p, level *l, lb_str key, lb_err *err) {
    bool existed = false;
    const lb_json *c = l->node->first;
    if (l->node->n < LINEAR_KEYS) {
        for (; c; c = c->next)
            if (lb_str_eq(c->key, key))
                return duplicate(p, key, err);
        return LB_OK;
    }
    if (l->keys.n == 0)
        for (; c; c = c->next)
            LB_TRY(lb_map_put(&l->keys, c->key, 0, NULL, err));
    LB_TRY(lb_map_put(&l->keys, key, 0, &existed, err));
    return existed ? duplicate(p, key, err) : LB_OK;
}

static lb_status fill_scalar(parser *p, lb_json *v, lb_json_tok tok, lb_err *err) {
    switch (tok) {
    case LB_JSON_STRING:
        v->type = LB_JSTRING;
        return lb_json_string(&p->reader, p->perm, &v->text, err);
    case LB_JSON_NUMBER:
        v->type = LB_JNUMBER;
        v->text = p->reader.raw;
        return LB_OK;
    case LB_JSON_TRUE:
    case LB_JSON_FALSE:
        v->type = LB_JBOOL;
        v->truth = tok == LB_JSON_TRUE;
        return LB_OK;
    default:
        v->type = LB_JNULL;
        return LB_OK;
    }
}

static lb_status parse_tokens(parser *p, lb_json **out, lb_err *err) {
    lb_json_tok tok;
    lb_str key = LB_STR_NONE;
    for (;;) {
        LB_TRY(lb_json_next(&p->reader, &tok, err));
        level *top = p->depth ? &p->levels[p->depth - 1] : NULL;
        switch (tok) {
        case LB_JSON_END:
            return LB_OK;
        case LB_JSON_KEY:
            LB_TRY(lb_json_string(&p->reader, p->perm, &key, err));
            LB_TRY(check_key(p, top, key, err));
            continue;
        case LB_JSON_OBJECT_END:
        case LB_JSON_ARRAY_END:
            lb_map_deinit(&top->keys);
            p->depth--;
            continue;
        default:
            break;
        }
        lb_json *v = lb_arena_new(p->perm, lb_json, 1);
        if (!v)
            return no_memory(err);
        v->key = key;
        key = LB_STR_NONE;
        if (top)
            append(top->node, v);
        else
            *out = v;
        if (tok == LB_JSON_OBJECT || tok == LB_JSON_ARRAY) {
            v->type = tok == LB_JSON_OBJECT ? LB_JOBJECT : LB_JARRAY;
            p->levels[p->depth++] = (level){.node = v};
        } else {
            LB_TRY(fill_scalar(p, v, tok, err));
        }
    }
}

lb_status lb_json_parse(lb_str text, const char *what, lb_arena *perm, lb_json **out, lb_err *err) {
    parser p;
    p.perm = perm;
    p.depth = 0;
    *out = NULL;
    lb_json_begin(&p.reader, text);
    lb_status st = parse_tokens(&p, out, err);
    for (u32 i = 0; i < p.depth; i++)
        lb_map_deinit(&p.levels[i].keys);
    if (st != LB_OK) {
        *out = NULL;
        lb_err_context(err, "%s", what);
    }
    return st;
}

/* ---- finding ---- */

lb_json *lb_json_get_str(const lb_json *object, lb_str key) {
    if (!object || object->type != LB_JOBJECT)
        return NULL;
    for (lb_json *c = object->first; c; c = c->next)
        if (lb_str_eq(c->key, key))
            return c;
    return NULL;
}

lb_json *lb_json_get(const lb_json *object, const char *key) {
    return lb_json_get_str(object, lb_str_c(key));
}

lb_json *lb_json_path(const lb_json *object, const char *dotted) {
    for (;;) {
        const char *dot = strchr(dotted, '.');
        lb_str key = dot ? (lb_str){dotted, (size_t)(dot - dotted)} : lb_str_c(dotted);
        lb_json *v = lb_json_get_str(object, key);
        if (!dot || !v)
            return v;
        object = v;
        dotted = dot + 1;
    }
}

bool lb_json_as_str(const lb_json *v, lb_str *out) {
    if (!v || v->type != LB_JSTRING)
        return false;
    *out = v->text;
    return true;
}

bool lb_json_as_bool(const lb_json *v, bool *out) {
    if (!v || v->type != LB_JBOOL)
        return false;
    *out = v->truth;
    return true;
}

/* ---- building ---- */

static lb_json *new_node(lb_arena *perm, lb_json_type type) {
    lb_json *v = lb_arena_new(perm, lb_json, 1);
    if (v)
        v->type = type;
    return v;
}

/* A copy of text; NULL node where there is no memory for it. */
static lb_json *new_text(lb_arena *perm, lb_json_type type, lb_str text) {
    lb_json *v = new_node(perm, type);
    if (!v)
        return NULL;
    v->text = lb_arena_str(perm, text);
    return v->text.ptr ? v : NULL;
}

lb_json *lb_json_new_object(lb_arena *perm) {
    return new_node(perm, LB_JOBJECT);
}

lb_json *lb_json_new_array(lb_arena *perm) {
    return new_node(perm, LB_JARRAY);
}

lb_json *lb_json_new_null(lb_arena *perm) {
    return new_node(perm, LB_JNULL);
}

lb_json *lb_json_new_bool(lb_arena *perm, bool b) {
    lb_json *v = new_node(perm, LB_JBOOL);
    if (v)
        v->truth = b;
    return v;
}

lb_json *lb_json_new_str(lb_arena *perm, lb_str s) {
    return new_text(perm, LB_JSTRING, s);
}

static lb_json *new_number(lb_arena *perm, lb_str text) {
    return text.ptr ? new_text(perm, LB_JNUMBER, text) : NULL;
}

lb_json *lb_json_new_u64(lb_arena *perm, u64 n) {
    char text[21], *p = text + sizeof text; /* 2^64 - 1 has 20 digits */
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    return new_number(perm, (lb_str){p, (size_t)(text + sizeof text - p)});
}

lb_json *lb_json_new_i64(lb_arena *perm, i64 n) {
    if (n >= 0)
        return lb_json_new_u64(perm, (u64)n);
    lb_json *v = lb_json_new_u64(perm, 0 - (u64)n);
    if (!v)
        return NULL;
    char text[21] = "-";
    memcpy(text + 1, v->text.ptr, v->text.len);
    return new_number(perm, (lb_str){text, v->text.len + 1});
}

lb_json *lb_json_new_f64(lb_arena *perm, double x) {
    lb_buf b = {0};
    lb_json_write_f64(&b, x);
    lb_json *v = b.oom ? NULL : new_number(perm, lb_buf_str(&b));
    lb_buf_deinit(&b);
    return v;
}

/* Recursion is bounded by TREE_DEPTH here and below. */
static lb_json *copy(lb_arena *perm, const lb_json *from, u32 depth) {
    LB_ASSERT(depth < TREE_DEPTH);
    lb_json *to = new_node(perm, from->type);
    if (!to)
        return NULL;
    to->truth = from->truth;
    to->line = from->line;
    if (from->text.ptr && !(to->text = lb_arena_str(perm, from->text)).ptr)
        return NULL;
    for (const lb_json *c = from->first; c; c = c->next) {
        lb_json *child = copy(perm, c, depth + 1);
        if (!child || (c->key.ptr && !(child->key = lb_arena_str(perm, c->key)).ptr))
            return NULL;
        append(to, child);
    }
    return to;
}

lb_json *lb_json_copy(lb_arena *perm, const lb_json *v) {
    return v ? copy(perm, v, 0) : NULL;
}

bool lb_json_push(lb_json *array, lb_json *value) {
    if (!array || !value)
        return false;
    LB_ASSERT(array->type == LB_JARRAY);
    append(array, value);
    return true;
}

bool lb_json_set(lb_arena *perm, lb_json *object, const char *key, lb_json *value) {
    if (!object || !value)
        return false;
    LB_ASSERT(object->type == LB_JOBJECT);
    lb_json *before = NULL, *old = object->first;
    while (old && !lb_str_eq_c(old->key, key)) {
        before = old;
        old = old->next;
    }
    lb_str name = old ? old->key : lb_arena_str(perm, lb_str_c(key));
    if (!name.ptr)
        return false;
    value->key = name;
    if (!old) {
        append(object, value);
        return true;
    }
    if (old == value)
        return true;
    value->next = old->next;
    if (before)
        before->next = value;
    else
        object->first = value;
    if (object->last == old)
        object->last = value;
    return true;
}

void lb_json_remove(lb_json *object, const char *key) {
    if (!object || object->type != LB_JOBJECT)
        return;
    lb_json *before = NULL, *old = object->first;
    while (old && !lb_str_eq_c(old->key, key)) {
        before = old;
        old = old->next;
    }
    if (!old)
        return;
    if (before)
        before->next = old->next;
    else
        object->first = old->next;
    if (object->last == old)
        object->last = before;
    object->n--;
}

/* ---- sorting: a bottom-up merge sort of the list ---- */

static lb_json *merge(lb_json *a, lb_json *b) {
    lb_json *first = NULL, **tail = &first;
    while (a && b) {
        lb_json **least = lb_str_cmp(b->key, a->key) < 0 ? &b : &a;
        *tail = *least;
        tail = &(*least)->next;
        *least = *tail;
    }
    *tail = a ? a : b;
    return first;
}

/* runs[k] is empty or a sorted list of 2^k members, older ones higher up. */
static lb_json *sort_list(lb_json *list) {
    lb_json *runs[64] = {NULL};
    while (list) {
        lb_json *run = list;
        size_t k = 0;
        list = list->next;
        run->next = NULL;
        for (; runs[k]; k++) {
            run = merge(runs[k], run);
            runs[k] = NULL;
        }
        runs[k] = run;
    }
    for (size_t k = 0; k < LB_LEN(runs); k++)
        list = merge(runs[k], list);
    return list;
}

static void sort_keys(lb_json *v, u32 depth) {
    LB_ASSERT(depth < TREE_DEPTH);
    if (v->type == LB_JOBJECT) {
        v->first = sort_list(v->first);
        v->last = NULL;
    }
    for (lb_json *c = v->first; c; c = c->next) {
        v->last = c;
        sort_keys(c, depth + 1);
    }
}

void lb_json_sort_keys(lb_json *v) {
    if (v)
        sort_keys(v, 0);
}
