/* SPDX-License-Identifier: Apache-2.0 */
/* grammar.c: parsed rules into one array, characters into bytes; left recursion is refused. */
#include "text/grammar_internal.h"

/* ---- sets of characters as sequences of bytes ---- */

typedef struct builder {
    lb_buf nodes, edges; /* edges of a node under way stand in `lists` */
    lb_buf *lists;       /* one a node of the set, of lb_byte_edge */
    u32 n_lists, room;
    bool oom;
} builder;

static u32 new_list(builder *b) {
    if (b->n_lists == b->room) {
        u32 room = b->room ? 2 * b->room : 16;
        lb_buf *more = lb_realloc(b->lists, room * sizeof *more);
        if (!more) {
            b->oom = true;
            return 0;
        }
        memset(more + b->room, 0, (room - b->room) * sizeof *more);
        b->lists = more;
        b->room = room;
    }
    return b->n_lists++;
}

/* The sequence of n ranges of bytes goes in: sequences come in ascending order, so that only the
 * last edge of a node can be the one to follow. */
static void put_sequence(builder *b, const u8 (*range)[2], u32 n) {
    u32 at = 0;
    for (u32 i = 0; i < n && !b->oom; i++) {
        lb_buf *l = &b->lists[at];
        u32 have = (u32)(l->len / sizeof(lb_byte_edge));
        lb_byte_edge *last = have ? (lb_byte_edge *)(void *)l->ptr + have - 1 : NULL;
        bool end = i + 1 == n;
        if (last && !end && last->lo == range[i][0] && last->hi == range[i][1] &&
            last->next != LB_BYTE_END) {
            at = last->next;
            continue;
        }
        u32 next = end ? LB_BYTE_END : new_list(b);
        lb_byte_edge e = {next, range[i][0], range[i][1]};
        lb_buf_put(&b->lists[at], &e, sizeof e);
        b->oom |= b->lists[at].oom;
        at = next;
    }
}

static u32 encode(u32 c, u8 *out) {
    if (c < 0x80) {
        out[0] = (u8)c;
        return 1;
    }
    u32 n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (u32 i = n; i-- > 1; c >>= 6)
        out[i] = (u8)(0x80 | (c & 0x3f));
    out[0] = (u8)((0xf00u >> n) | c);
    return n;
}

/* [lo, hi] without surrogates, which are no characters in UTF-8: of one length in bytes, cut so
 * that in each part all bytes behind the first that differs run over all their values. */
static void put_range(builder *b, u32 lo, u32 hi) {
    static const u32 last_of[] = {0x7f, 0x7ff, 0xffff, 0x10ffff};
    while (lo <= hi && !b->oom) {
        u32 end = hi;
        if (lo >= 0xd800 && lo <= 0xdfff) {
            lo = 0xe000;
            continue;
        }
        if (lo < 0xd800 && end >= 0xd800)
            end = 0xd7ff;
        for (u32 i = 0; i < LB_LEN(last_of); i++)
            if (lo <= last_of[i] && end > last_of[i])
                end = last_of[i];
        for (u32 bits = 6; end > 0x7f && bits <= 18; bits += 6) {
            u32 mask = (1u << bits) - 1;
            if ((lo & ~mask) == (end & ~mask))
                break;
            if (lo & mask) /* up to where the next block begins */
                end = LB_MIN(end, lo | mask);
            else if ((end & mask) != mask && (end & ~mask) > lo)
                end = (end & ~mask) - 1;
            if ((lo & ~mask) == (end & ~mask))
                break;
        }
        u8 a[4], z[4], range[4][2];
        u32 n = encode(lo, a);
        encode(end, z);
        for (u32 i = 0; i < n; i++) {
            range[i][0] = a[i];
            range[i][1] = z[i];
        }
        put_sequence(b, (const u8(*)[2])range, n);
        lo = end + 1;
    }
}

static lb_status build_set(builder *b, const lb_gset *set, u32 *first, lb_err *err) {
    for (u32 i = 0; i < b->n_lists; i++)
        b->lists[i].len = 0;
    b->n_lists = 0;
    new_list(b);
    for (u32 i = 0; i < set->n; i++)
        put_range(b, set->ranges[i].lo, set->ranges[i].hi);
    if (b->oom)
        return lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    *first = (u32)(b->nodes.len / sizeof(lb_byte_node));
    for (u32 i = 0; i < b->n_lists; i++) {
        lb_byte_edge *e = (lb_byte_edge *)(void *)b->lists[i].ptr;
        u32 n = (u32)(b->lists[i].len / sizeof *e);
        lb_byte_node node = {(u32)(b->edges.len / sizeof *e), n};
        for (u32 j = 0; j < n; j++)
            if (e[j].next != LB_BYTE_END)
                e[j].next += *first;
        lb_buf_put(&b->edges, e, n * sizeof *e);
        lb_buf_put(&b->nodes, &node, sizeof node);
    }
    LB_TRY(lb_buf_status(&b->edges, err));
    return lb_buf_status(&b->nodes, err);
}

static lb_status build_sets(lb_gparse *p, lb_grammar *g, lb_err *err) {
    builder b = {0};
    const u32 n = (u32)(p->sets.len / sizeof(lb_gset));
    u32 *first = lb_alloc_zero((size_t)n + 1, sizeof *first);
    lb_status st = first ? LB_OK : lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    for (u32 i = 0; i < n && st == LB_OK; i++)
        st = build_set(&b, (const lb_gset *)(void *)p->sets.ptr + i, &first[i], err);
    if (st == LB_OK) {
        for (u32 i = 0; i < g->n_elems; i++)
            if (g->elems[i].type == LB_GELEM_SET)
                g->elems[i].value = first[g->elems[i].value];
        g->nodes = (lb_byte_node *)(void *)b.nodes.ptr;
        g->edges = (lb_byte_edge *)(void *)b.edges.ptr;
        g->n_nodes = (u32)(b.nodes.len / sizeof(lb_byte_node));
        g->n_edges = (u32)(b.edges.len / sizeof(lb_byte_edge));
        b.nodes = b.edges = (lb_buf){0};
    }
    for (u32 i = 0; i < b.room; i++)
        lb_buf_deinit(&b.lists[i]);
    lb_free(b.lists);
    lb_buf_deinit(&b.nodes);
    lb_buf_deinit(&b.edges);
    lb_free(first);
    return st;
}

/* ---- rules ---- */

static lb_status flatten(lb_gparse *p, lb_grammar *g, lb_err *err) {
    u64 n = 0;
    g->n_rules = (u32)(p->rules.len / sizeof(lb_grule));
    for (u32 i = 0; i < g->n_rules; i++)
        n += lb_gparse_rule(p, i)->elems.len / sizeof(lb_gelem);
    g->rules = lb_alloc_zero(g->n_rules + (size_t)1, sizeof *g->rules);
    g->elems = lb_alloc_zero(n + 1, sizeof *g->elems);
    if (!g->rules || !g->elems)
        return lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    for (u32 i = 0; i < g->n_rules; i++) {
        lb_buf *from = &lb_gparse_rule(p, i)->elems;
        g->rules[i] = g->n_elems;
        memcpy(g->elems + g->n_elems, from->ptr, from->len);
        g->n_elems += (u32)(from->len / sizeof(lb_gelem));
    }
    for (u32 i = 0; i < g->n_elems; i++)
        g->has_tokens |= g->elems[i].type >= LB_GELEM_TOKEN;
    return LB_OK;
}

/* Whether an element can be what is looked for: nothing at all, or (ends) a text that ends. */
static bool can_be(const lb_grammar *g, lb_gelem e, bool ends, const u8 *found) {
    if (e.type == LB_GELEM_REF)
        return found[e.value];
    return ends && (e.type != LB_GELEM_SET || g->nodes[e.value].n);
}

/* Which rules can be empty, or (ends) which have a text that ends, until nothing changes; a rule is
 * looked at again when one that it refers to became so. */
static lb_status find_rules(const lb_grammar *g, bool ends, u8 *nullable, lb_err *err) {
    u32 *head = lb_alloc_zero(g->n_rules + (size_t)1, sizeof *head);
    u32 *next = lb_alloc_zero(g->n_elems + (size_t)1, sizeof *next);
    u32 *owner = lb_alloc_zero(g->n_elems + (size_t)1, sizeof *owner);
    u32 *todo = lb_alloc_zero(g->n_rules + (size_t)1, sizeof *todo);
    u8 *waits = lb_alloc_zero(g->n_rules + (size_t)1, 1);
    lb_status st = LB_OK;
    u32 n_todo = 0;
    if (!head || !next || !owner || !todo || !waits) {
        st = lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
        goto done;
    }
    for (u32 r = 0; r < g->n_rules; r++) {
        for (u32 i = g->rules[r]; g->elems[i].type != LB_GELEM_END; i++)
            if (g->elems[i].type == LB_GELEM_REF) {
                owner[i] = r;
                next[i] = head[g->elems[i].value];
                head[g->elems[i].value] = i + 1;
            }
        todo[n_todo++] = r;
        waits[r] = 1;
    }
    while (n_todo) {
        u32 r = todo[--n_todo];
        bool empty = true, found = false;
        waits[r] = 0;
        for (u32 i = g->rules[r]; !nullable[r]; i++) {
            lb_gelem e = g->elems[i];
            if (lb_gelem_is_end(e)) {
                found |= empty;
                empty = true;
                if (e.type == LB_GELEM_END)
                    break;
            } else {
                empty &= can_be(g, e, ends, nullable);
            }
        }
        if (!found)
            continue;
        nullable[r] = 1;
        for (u32 i = head[r]; i; i = next[i - 1])
            if (!nullable[owner[i - 1]] && !waits[owner[i - 1]]) {
                waits[owner[i - 1]] = 1;
                todo[n_todo++] = owner[i - 1];
            }
    }
done:
    lb_free(head);
    lb_free(next);
    lb_free(owner);
    lb_free(todo);
    lb_free(waits);
    return st;
}

/* The next reference at the left of rule r from element *i on (with what may be empty before it),
 * or false. *tail: nothing stands behind it. *first: nothing stands before it. */
static bool next_left(const lb_grammar *g, u32 *i, bool *first, bool *tail) {
    for (;; ++*i) {
        lb_gelem e = g->elems[*i];
        if (e.type == LB_GELEM_END)
            return false;
        if (e.type == LB_GELEM_ALT) {
            *first = true;
            continue;
        }
        if (e.type == LB_GELEM_REF) {
            *tail = lb_gelem_is_end(g->elems[*i + 1]);
            return true;
        }
        while (!lb_gelem_is_end(g->elems[*i + 1])) /* a character: nothing more at the left */
            ++*i;
    }
}

static void step_left(const lb_grammar *g, const u8 *nullable, u32 *i, bool *first) {
    if (nullable[g->elems[*i].value])
        *first = false;
    else
        while (!lb_gelem_is_end(g->elems[*i + 1]))
            ++*i;
    ++*i;
}

typedef struct walk {
    u32 rule, at;
    bool first;
} walk;

/* Strongly connected components (R. Tarjan, 1972) of the graph "begins with": a component that
 * holds a reference with something behind it never ends to grow; one of references that nothing
 * stands before is recursion for nothing. Others (through what may be empty, at the end) are
 * harmless, and
 * ("a"?)* is one. only_first: the graph of the references that come first. */
static lb_status find_cycle(const lb_grammar *g, const u8 *nullable, bool only_first, u32 *bad,
                            lb_err *err) {
    const size_t n = g->n_rules + (size_t)1;
    u32 *index = lb_alloc_zero(n, sizeof *index), *low = lb_alloc_zero(n, sizeof *low);
    u32 *held = lb_alloc_zero(n, sizeof *held), *component = lb_alloc_zero(n, sizeof *component);
    walk *path = lb_alloc_zero(n, sizeof *path);
    u32 count = 0, n_held = 0, n_path = 0, n_components = 0;
    lb_status st = LB_OK;
    *bad = 0xffffffffu;
    if (!index || !low || !held || !component || !path) {
        st = lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
        goto done;
    }
    for (u32 start = 0; start < g->n_rules; start++) {
        if (index[start])
            continue;
        path[n_path++] = (walk){start, g->rules[start], true};
        index[start] = low[start] = ++count;
        held[n_held++] = start;
        while (n_path) {
            walk *w = &path[n_path - 1];
            bool tail;
            if (next_left(g, &w->at, &w->first, &tail)) {
                u32 to = g->elems[w->at].value;
                bool skip = only_first && !w->first;
                u32 rule = w->rule;
                step_left(g, nullable, &w->at, &w->first);
                if (skip)
                    continue;
                if (!index[to]) {
                    index[to] = low[to] = ++count;
                    held[n_held++] = to;
                    path[n_path++] = (walk){to, g->rules[to], true};
                } else if (!component[to]) {
                    low[rule] = LB_MIN(low[rule], index[to]);
                }
                continue;
            }
            u32 rule = w->rule;
            n_path--;
            if (n_path)
                low[path[n_path - 1].rule] = LB_MIN(low[path[n_path - 1].rule], low[rule]);
            if (low[rule] == index[rule]) {
                n_components++;
                do
                    component[held[--n_held]] = n_components;
                while (held[n_held] != rule);
            }
        }
    }
    for (u32 r = 0; r < g->n_rules && *bad == 0xffffffffu; r++) {
        bool first = true, tail;
        for (u32 i = g->rules[r]; next_left(g, &i, &first, &tail);) {
            u32 to = g->elems[i].value;
            if (component[to] == component[r] && (only_first ? first : !tail))
                *bad = r;
            step_left(g, nullable, &i, &first);
        }
    }
done:
    lb_free(index);
    lb_free(low);
    lb_free(held);
    lb_free(component);
    lb_free(path);
    return st;
}

static lb_status refuse_left_recursion(lb_gparse *p, const lb_grammar *g, lb_err *err) {
    u8 *nullable = lb_alloc_zero(g->n_rules + (size_t)1, 1);
    u32 bad = 0xffffffffu;
    lb_status st = nullable ? LB_OK : lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    if (st == LB_OK)
        st = find_rules(g, false, nullable, err);
    for (u32 pass = 0; pass < 2 && st == LB_OK && bad == 0xffffffffu; pass++)
        st = find_cycle(g, nullable, pass == 1, &bad, err);
    if (st == LB_OK && bad != 0xffffffffu) {
        const lb_grule *r = lb_gparse_rule(p, bad);
        st = lb_gparse_fail(p, LB_E_UNSUPPORTED, r->at,
                            "left recursion: the rule \"%.*s\" may begin with itself",
                            (int)LB_MIN(r->name.len, (size_t)60), r->name.ptr);
    }
    lb_free(nullable);
    return st;
}

/* Leaves out alternatives without a text that ends: a text that entered one would never be done. */
static lb_status drop_endless(lb_gparse *p, lb_grammar *g, lb_err *err) {
    u8 *ends = lb_alloc_zero(g->n_rules + (size_t)1, 1);
    u32 to = 0;
    lb_status st = ends ? LB_OK : lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    if (st == LB_OK)
        st = find_rules(g, true, ends, err);
    if (st == LB_OK && !ends[g->root]) {
        const lb_grule *r = lb_gparse_rule(p, g->root);
        st = lb_gparse_fail(p, LB_E_FORMAT, r->at,
                            "the rule \"%.*s\" has no text that ends: it needs itself, or a class "
                            "of characters that holds none",
                            (int)LB_MIN(r->name.len, (size_t)60), r->name.ptr);
    }
    for (u32 r = 0; r < g->n_rules && st == LB_OK; r++) {
        u32 i = g->rules[r], n_kept = 0;
        g->rules[r] = to;
        for (bool last = false; !last;) {
            u32 from = i, put = to;
            bool all = true;
            for (; !lb_gelem_is_end(g->elems[i]); i++)
                all &= can_be(g, g->elems[i], true, ends);
            last = g->elems[i++].type == LB_GELEM_END;
            if (!all)
                continue;
            if (n_kept++)
                g->elems[put++].type = LB_GELEM_ALT;
            for (u32 k = from; !lb_gelem_is_end(g->elems[k]); k++)
                g->elems[put++] = g->elems[k];
            to = put;
        }
        /* The end; of a rule with nothing left, which nothing refers to now. */
        g->elems[to++] = (lb_gelem){LB_GELEM_END, 0};
    }
    if (st == LB_OK)
        g->n_elems = to;
    lb_free(ends);
    return st;
}

lb_status lb_grammar_compile(lb_grammar **out, lb_str text, const lb_grammar_opts *o, lb_err *err) {
    lb_gparse p = {.text = text, .o = o, .err = err};
    const char *root = o && o->root ? o->root : "root";
    lb_grammar *g = lb_alloc_zero(1, sizeof *g);
    lb_status st;
    u64 id;
    *out = NULL;
    if (!g)
        return lb_fail(err, LB_E_NOMEM, "a grammar: out of memory");
    LB_TRY_DONE(st, lb_gparse_text(&p));
    if (!lb_map_find(&p.names, lb_str_c(root), &id)) {
        st = lb_fail(err, LB_E_FORMAT, "grammar: there is no rule \"%s\"", root);
        goto done;
    }
    g->root = (u32)id;
    LB_TRY_DONE(st, flatten(&p, g, err));
    LB_TRY_DONE(st, build_sets(&p, g, err));
    LB_TRY_DONE(st, refuse_left_recursion(&p, g, err));
    LB_TRY_DONE(st, drop_endless(&p, g, err));
    *out = g;
    g = NULL;
done:
    lb_grammar_free(&g);
    lb_gparse_deinit(&p);
    return st;
}

void lb_grammar_free(lb_grammar **g) {
    if (!*g)
        return;
    lb_free((*g)->elems);
    lb_free((*g)->rules);
    lb_free((*g)->nodes);
    lb_free((*g)->edges);
    lb_free(*g);
    *g = NULL;
}
