/* SPDX-License-Identifier: Apache-2.0 */
/* json_schema_object.c: objects and arrays of a schema.
 *
 * The properties of an object come in their order, those that are not required may be left out: for
 * each place i two rules, "nothing was written yet" (f) and "a comma is due" (t):
 *   f(i) ::= member(i) t(i+1) | f(i+1)        t(i) ::= "," member(i) t(i+1) | t(i+1)
 * so that n properties take 2n rules, whatever is required. */
#include "text/json_schema_internal.h"
#include <stdio.h>

typedef struct property {
    lb_str name;
    bool required;
    u32 rule;
} property;

typedef struct object {
    lb_buf list;    /* of property */
    lb_map by_name; /* name -> index */
    bool closed, has_extra;
    u32 extra_rule; /* of the values of other names */
} object;

static property *property_at(const object *o, u64 i) {
    return (property *)(void *)o->list.ptr + i;
}

static u64 n_properties(const object *o) {
    return o->list.len / sizeof(property);
}

static lb_status add_name(lb_schema *s, object *o, lb_str name, bool required) {
    u64 i = n_properties(o);
    bool existed = false;
    LB_TRY(lb_map_put(&o->by_name, name, i, &existed, s->err));
    if (existed) {
        LB_ASSERT(lb_map_find(&o->by_name, name, &i));
        property_at(o, i)->required |= required;
        return LB_OK;
    }
    property p = {.name = name, .required = required};
    lb_buf_put(&o->list, &p, sizeof p);
    return lb_buf_status(&o->list, s->err);
}

static lb_status collect(lb_schema *s, const lb_sitem *item, object *o) {
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *p = lb_json_get(item->parts[i].node, "properties");
        if (p && p->type != LB_JOBJECT)
            return lb_schema_fail(s, LB_E_FORMAT, "properties is not an object");
        for (const lb_json *x = p ? p->first : NULL; x; x = x->next)
            LB_TRY(add_name(s, o, x->key, false));
    }
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *r = lb_json_get(item->parts[i].node, "required");
        if (r && r->type != LB_JARRAY)
            return lb_schema_fail(s, LB_E_FORMAT, "required is not a list of names");
        for (const lb_json *x = r ? r->first : NULL; x; x = x->next) {
            if (x->type != LB_JSTRING)
                return lb_schema_fail(s, LB_E_FORMAT, "required is not a list of names");
            LB_TRY(add_name(s, o, x->text, true));
        }
    }
    return LB_OK;
}

/* All schemas that hold for the value of a name (NULL: of a name that none has). */
static lb_status value_item(lb_schema *s, const lb_sitem *item, const lb_str *name, lb_sitem *out) {
    const lb_str where = s->where;
    out->n = 0;
    out->never = false;
    LB_TRY(lb_schema_enter(s, name ? "/properties/" : "/additionalProperties",
                           name ? *name : LB_STR_NONE));
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *node = item->parts[i].node;
        const lb_json *own = name ? lb_json_get_str(lb_json_get(node, "properties"), *name) : NULL;
        if (!own)
            own = lb_json_get(node, "additionalProperties");
        if (own)
            LB_TRY(lb_schema_add(s, out, own, ~0u));
    }
    u32 types;
    LB_TRY(lb_schema_types(s, out, &types)); /* its faults are of this place */
    s->where = where;
    return LB_OK;
}

static lb_status make_values(lb_schema *s, const lb_sitem *item, object *o) {
    u64 kept = 0;
    for (u64 i = 0; i < n_properties(o); i++) {
        property p = *property_at(o, i);
        u32 types = 0;
        LB_TRY(value_item(s, item, &p.name, &s->item));
        LB_TRY(lb_schema_types(s, &s->item, &types));
        if (!types) {
            if (p.required)
                return lb_schema_fail(s, LB_E_FORMAT,
                                      "the required property \"%.*s\" can have no value",
                                      (int)LB_MIN(p.name.len, (size_t)60), p.name.ptr);
            continue; /* it may not be there */
        }
        LB_TRY(lb_schema_rule(s, &s->item, "/properties/", p.name, &p.rule));
        *property_at(o, kept++) = p;
    }
    o->list.len = kept * sizeof(property);
    /* Other names: where a schema says so, or where none names any property. */
    bool said = false, named = false;
    for (u32 i = 0; i < item->n; i++) {
        said |= lb_json_get(item->parts[i].node, "additionalProperties") != NULL;
        named |= lb_json_get(item->parts[i].node, "properties") != NULL;
    }
    LB_TRY(value_item(s, item, NULL, &s->item));
    o->has_extra = !s->item.never && (said || (!named && !n_properties(o)));
    return o->has_extra
               ? lb_schema_rule(s, &s->item, "/additionalProperties", LB_STR_NONE, &o->extra_rule)
               : LB_OK;
}

static void put_member(lb_schema *s, const property *p) {
    lb_buf key = {0};
    lb_json_write_str(&key, p->name, false);
    s->out->oom |= key.oom;
    lb_schema_literal(s->out, lb_buf_str(&key));
    lb_buf_deinit(&key);
    lb_buf_printf(s->out, " \":\" ws s%u", p->rule);
}

/* ---- names that are none of the properties ---- */

static void put_class_char(lb_buf *b, u32 c) {
    lb_buf_printf(b, "\\U%08X", c);
}

/* Characters of a name, in order; at most the length of the bytes. */
static u32 decode(lb_str t, size_t *at) {
    u8 c = (u8)t.ptr[*at];
    u32 len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    u32 v = len == 1 ? c : c & (0x7fu >> len);
    for (u32 i = 1; i < len; i++)
        v = v << 6 | ((u8)t.ptr[*at + i] & 0x3fu);
    *at += len;
    return v;
}

typedef struct name_node {
    u32 c, child, sibling; /* index + 1 */
    bool end;
} name_node;

/* Whether JSON writes the name without escapes: others cannot be met here. */
static bool is_plain(lb_str name) {
    for (size_t i = 0; i < name.len; i++) {
        u8 c = (u8)name.ptr[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f)
            return false;
    }
    return true;
}

static lb_status build_names(const object *o, lb_buf *nodes, lb_err *err) {
    name_node root = {0};
    lb_buf_put(nodes, &root, sizeof root);
    for (u64 i = 0; i < n_properties(o) && !nodes->oom; i++) {
        lb_str name = property_at(o, i)->name;
        u32 at = 0;
        for (size_t k = 0; is_plain(name) && k < name.len && !nodes->oom;) {
            u32 c = decode(name, &k), child;
            name_node *n = (name_node *)(void *)nodes->ptr;
            for (child = n[at].child; child && n[child - 1].c != c;)
                child = n[child - 1].sibling;
            if (!child) {
                name_node made = {.c = c, .sibling = n[at].child};
                child = (u32)(nodes->len / sizeof made) + 1;
                n[at].child = child;
                lb_buf_put(nodes, &made, sizeof made);
            }
            at = child - 1;
        }
        if (!nodes->oom && is_plain(name))
            ((name_node *)(void *)nodes->ptr)[at].end = true;
    }
    return lb_buf_status(nodes, err);
}

/* Rules x<first + i>: what may follow behind node i. Written without escapes: a name that needs one
 * is left to those that are listed. */
static lb_status put_names(lb_schema *s, const object *o, u32 *first) {
    lb_buf nodes = {0};
    lb_status st = build_names(o, &nodes, s->err);
    const name_node *n = (const name_node *)(const void *)nodes.ptr;
    const u32 count = (u32)(nodes.len / sizeof *n);
    *first = s->n_extra;
    s->n_extra += count;
    for (u32 i = 0; i < count && st == LB_OK; i++) {
        lb_buf_printf(s->out, "x%u ::= ", *first + i);
        for (u32 c = n[i].child; c; c = n[c - 1].sibling) {
            lb_buf_put_c(s->out, "[");
            put_class_char(s->out, n[c - 1].c);
            lb_buf_printf(s->out, "] x%u | ", *first + c - 1);
        }
        lb_buf_put_c(s->out, "[^\\\"\\\\\\x7F\\x00-\\x1F");
        for (u32 c = n[i].child; c; c = n[c - 1].sibling)
            put_class_char(s->out, n[c - 1].c);
        lb_buf_put_c(s->out, n[i].end ? "] plain*\n" : "] plain* | \"\"\n");
        if (s->out->len > LB_SCHEMA_TEXT_MAX)
            st = lb_schema_fail(s, LB_E_LIMIT, "the grammar is too long");
    }
    lb_buf_deinit(&nodes);
    return st;
}

/* ---- the object ---- */

static void put_rest(lb_schema *s, const object *o, u32 names, bool first) {
    char member[80];
    lb_buf_put_c(s->out, "\"\" ");
    if (!o->has_extra)
        return;
    snprintf(member, sizeof member, "\"\\\"\" x%u \"\\\"\" \":\" ws s%u", names, o->extra_rule);
    if (first)
        lb_buf_printf(s->out, "(%s (\",\" ws %s)*)?", member, member);
    else
        lb_buf_printf(s->out, "(\",\" ws %s)*", member);
}

static lb_status put_object(lb_schema *s, const lb_sitem *item, object *o) {
    LB_TRY(collect(s, item, o));
    LB_TRY(make_values(s, item, o));
    const u32 n = (u32)n_properties(o);
    u32 names = 0, base = s->n_extra; /* f(i) is x<base + 2 i>, t(i) the one behind */
    s->n_extra += 2 * n + 2;
    lb_buf_printf(s->out, "\"{\" ws x%u ws \"}\"", base);
    /* The rules stand behind the one under way: its line goes on in another buffer. */
    lb_buf rules = {0}, *line = s->out;
    lb_status st = LB_OK;
    s->out = &rules;
    if (o->has_extra)
        LB_TRY_DONE(st, put_names(s, o, &names));
    for (u32 i = 0; i < n; i++) {
        const property *p = property_at(o, i);
        for (u32 comma = 0; comma < 2; comma++) {
            lb_buf_printf(&rules, "x%u ::= %s", base + 2 * i + comma, comma ? "\",\" ws " : "");
            put_member(s, p);
            lb_buf_printf(&rules, " x%u", base + 2 * i + 3);
            if (!p->required)
                lb_buf_printf(&rules, " | x%u", base + 2 * i + 2 + comma);
            lb_buf_put_c(&rules, "\n");
        }
    }
    for (u32 comma = 0; comma < 2; comma++) {
        lb_buf_printf(&rules, "x%u ::= ", base + 2 * n + comma);
        put_rest(s, o, names, !comma);
        lb_buf_put_c(&rules, "\n");
    }
done:
    s->out = line;
    s->after.oom |= rules.oom;
    lb_buf_put(&s->after, rules.ptr, rules.len);
    lb_buf_deinit(&rules);
    return st == LB_OK ? lb_buf_status(&s->after, s->err) : st;
}

lb_status lb_schema_object(lb_schema *s, const lb_sitem *item) {
    object o = {0};
    lb_status st = put_object(s, item, &o);
    lb_buf_deinit(&o.list);
    lb_map_deinit(&o.by_name);
    return st;
}

/* ---- arrays ---- */

static lb_status count_of(lb_schema *s, const lb_json *node, const char *key, u64 *out, bool *has) {
    const lb_json *x = lb_json_get(node, key);
    *has = x != NULL;
    if (x && !lb_json_as_u64(x, out))
        return lb_schema_fail(s, LB_E_FORMAT, "%s is not a count", key);
    if (x && *out > 100000)
        return lb_schema_fail(s, LB_E_LIMIT, "%s of more than 100000", key);
    return LB_OK;
}

/* The list of schemas for the first elements, and that of the others (NULL: not said). */
static void lists_of(const lb_json *node, const lb_json **first, const lb_json **others) {
    const lb_json *items = lb_json_get(node, "items");
    *first = lb_json_get(node, "prefixItems");
    *others = items;
    if (!*first && items && items->type == LB_JARRAY) { /* before draft 2020-12 */
        *first = items;
        *others = lb_json_get(node, "additionalItems");
    }
}

/* What holds for element `at`; said: whether a schema says so. */
static lb_status element_item(lb_schema *s, const lb_sitem *item, u64 at, lb_sitem *out,
                              bool *said) {
    const lb_str where = s->where;
    out->n = 0;
    out->never = false;
    *said = false;
    LB_TRY(lb_schema_enter(s, "/items", LB_STR_NONE));
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *first, *others, *own = NULL;
        lists_of(item->parts[i].node, &first, &others);
        if (first && at < first->n) {
            own = first->first;
            for (u64 k = 0; k < at; k++)
                own = own->next;
        } else {
            own = others;
        }
        *said |= own != NULL;
        if (own)
            LB_TRY(lb_schema_add(s, out, own, ~0u));
    }
    u32 types;
    LB_TRY(lb_schema_types(s, out, &types));
    s->where = where;
    return LB_OK;
}

lb_status lb_schema_array(lb_schema *s, const lb_sitem *item) {
    u64 least = 0, most = ~(u64)0, n_first = 0, v = 0;
    for (u32 i = 0; i < item->n; i++) {
        const lb_json *node = item->parts[i].node, *first, *others;
        bool has;
        LB_TRY(count_of(s, node, "minItems", &v, &has));
        if (has)
            least = LB_MAX(least, v);
        LB_TRY(count_of(s, node, "maxItems", &v, &has));
        if (has)
            most = LB_MIN(most, v);
        lists_of(node, &first, &others);
        if (first && first->type != LB_JARRAY)
            return lb_schema_fail(s, LB_E_FORMAT, "prefixItems is not a list");
        n_first = LB_MAX(n_first, first ? first->n : 0);
    }
    if (n_first > 1000)
        return lb_schema_fail(s, LB_E_LIMIT, "prefixItems of more than 1000");
    /* Elements behind the listed ones. */
    u32 types, other = 0;
    bool said;
    LB_TRY(element_item(s, item, n_first, &s->item, &said));
    LB_TRY(lb_schema_types(s, &s->item, &types));
    if (!types || (!said && n_first && least <= n_first))
        most = LB_MIN(most, n_first);
    if (most > n_first)
        LB_TRY(lb_schema_rule(s, &s->item, "/items", LB_STR_NONE, &other));
    if (least > most)
        return lb_schema_fail(s, LB_E_FORMAT, "no array can be as long as minItems says");
    lb_buf_put_c(s->out, "\"[\" ws ");
    u64 n = 0, open = 0;
    for (; n < n_first && n < most; n++) {
        u32 rule;
        LB_TRY(element_item(s, item, n, &s->item, &said));
        LB_TRY(lb_schema_types(s, &s->item, &types));
        if (!types && n < least)
            return lb_schema_fail(s, LB_E_FORMAT, "element %llu can have no value",
                                  (unsigned long long)n);
        if (!types) {
            most = n;
            break;
        }
        LB_TRY(lb_schema_rule(s, &s->item, "/prefixItems", LB_STR_NONE, &rule));
        if (n >= least) {
            lb_buf_put_c(s->out, "(");
            open++;
        }
        lb_buf_printf(s->out, "%ss%u ", n ? "\",\" ws " : "", rule);
    }
    if (open > 200)
        return lb_schema_fail(s, LB_E_LIMIT, "more than 200 optional elements in prefixItems");
    if (most > n) {
        u64 need = least > n ? least - n : 0;
        if (!n) { /* the first of all has no comma */
            lb_buf_printf(s->out, need ? "s%u " : "(s%u ", other);
            lb_buf_printf(s->out, "(\",\" ws s%u){%llu,", other,
                          (unsigned long long)(need ? need - 1 : 0));
            if (most != ~(u64)0)
                lb_buf_put_dec(s->out, most - 1);
            lb_buf_put_c(s->out, need ? "} " : "})? ");
        } else {
            lb_buf_printf(s->out, "(\",\" ws s%u){%llu,", other, (unsigned long long)need);
            if (most != ~(u64)0)
                lb_buf_put_dec(s->out, most - n);
            lb_buf_put_c(s->out, "} ");
        }
    }
    while (open--)
        lb_buf_put_c(s->out, ")? ");
    lb_buf_put_c(s->out, "ws \"]\"");
    return LB_OK;
}
