/* SPDX-License-Identifier: Apache-2.0 */
/* computed.c: see computed.h. */
#include "ops/computed.h"
#include "base/os.h"

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for a model that is computed");
}

lb_status lb_computed_new(lb_source **out, const lb_computed *c, const char *what, const char *file,
                          lb_err *err) {
    u32 index;
    lb_source *s = *out = lb_source_new(LB_FORMAT_HF, what);
    if (!s)
        return oom(err);
    s->computed = c;
    return file ? lb_source_add_file(s, file, lb_os_base_name(lb_str_c(file)), &index, err) : LB_OK;
}

lb_status lb_computed_room(lb_source *s, u32 n_inputs, lb_err *err) {
    s->inputs = lb_arena_new(&s->perm, lb_source *, n_inputs + 1);
    return s->inputs ? LB_OK : oom(err);
}

void lb_computed_take(lb_source *s, lb_source **input) {
    s->inputs[s->n_inputs++] = *input;
    *input = NULL;
}

/* ---- nodes ---- */

u32 lb_computed_span(const lb_source *s) {
    u32 n = 1;
    for (u32 i = 0; i < s->n_inputs; i++)
        n += lb_computed_span(s->inputs[i]);
    return n;
}

u32 lb_computed_input(const lb_plan *p, u32 index, u32 k) {
    const lb_source *s = p->graph.sources[index++];
    for (u32 i = 0; i < k; i++)
        index += lb_computed_span(s->inputs[i]);
    return index;
}

static lb_status make_room(lb_plan *p, lb_err *err) {
    lb_graph *g = &p->graph;
    if (g->computed)
        return LB_OK;
    g->computed = lb_arena_new(&p->perm, lb_node_id *, g->n_sources);
    if (!g->computed)
        return oom(err);
    memset(g->computed, 0, g->n_sources * sizeof *g->computed);
    return LB_OK;
}

lb_status lb_computed_bind(lb_plan *p, u32 index, lb_err *err) {
    const lb_source *s = p->graph.sources[index];
    if (!s->computed)
        return LB_OK;
    LB_TRY(make_room(p, err));
    if (p->graph.computed[index])
        return LB_OK;
    for (u32 i = 0; i < s->n_inputs; i++)
        LB_TRY(lb_computed_bind(p, lb_computed_input(p, index, i), err));
    lb_node_id *nodes = lb_arena_new(&p->perm, lb_node_id, s->n_weights + 1);
    if (!nodes)
        return oom(err);
    for (u64 i = 0; i < s->n_weights; i++)
        nodes[i] = LB_NODE_NONE;
    lb_status st = s->computed->bind(s->computed, p, index, nodes, err);
    if (st == LB_OK)
        st = lb_graph_status(&p->graph, err);
    if (st != LB_OK)
        lb_err_context(err, "%s", s->path);
    p->graph.computed[index] = nodes;
    return st;
}

lb_status lb_computed_plan(lb_plan **out, const lb_source *s, lb_err *err) {
    LB_TRY(lb_plan_new(out, &s, 1, err));
    for (u32 i = 0; i < s->n_inputs; i++)
        LB_TRY(lb_computed_bind(*out, lb_computed_input(*out, 0, i), err));
    return LB_OK;
}

/* ---- side files ---- */

/* Where the file is, or would be. */
static u64 place(const lb_source *s, lb_str name) {
    u64 i = 0;
    while (i < s->n_sides && lb_str_cmp(s->sides[i].name, name) < 0)
        i++;
    return i;
}

static bool is_at(const lb_source *s, u64 i, lb_str name) {
    return i < s->n_sides && lb_str_eq(s->sides[i].name, name);
}

lb_status lb_computed_side(lb_source *s, lb_str name, lb_str bytes, bool provenance, lb_err *err) {
    u64 at = place(s, name);
    if (!is_at(s, at, name)) {
        lb_side_file *list = lb_arena_new(&s->perm, lb_side_file, s->n_sides + 1);
        if (!list)
            return oom(err);
        for (u64 i = 0; i < s->n_sides; i++)
            list[i + (i >= at)] = s->sides[i];
        s->sides = list;
        s->n_sides++;
    }
    s->sides[at] =
        (lb_side_file){.bytes = bytes, .size_bytes = bytes.len, .provenance = provenance};
    s->sides[at].name = lb_arena_str(&s->perm, name);
    return s->sides[at].name.ptr ? LB_OK : oom(err);
}

lb_status lb_computed_sides_of(lb_source *s, const lb_source *from, lb_err *err) {
    s->sides = lb_arena_new(&s->perm, lb_side_file, from->n_sides + 1);
    if (!s->sides)
        return oom(err);
    for (u64 i = 0; i < from->n_sides; i++)
        s->sides[i] = from->sides[i];
    s->n_sides = from->n_sides;
    return LB_OK;
}

void lb_computed_drop_side(lb_source *s, lb_str name) {
    u64 at = place(s, name);
    if (!is_at(s, at, name))
        return;
    s->n_sides--;
    for (u64 i = at; i < s->n_sides; i++)
        s->sides[i] = s->sides[i + 1];
}

lb_status lb_computed_notes(lb_source *s, const lb_buf *lines, lb_err *err) {
    LB_TRY(lb_buf_status(lines, err));
    if (!lines->len)
        return LB_OK;
    s->notes = lb_arena_printf(&s->perm, "%.*s%s%.*s", LB_FMT(s->notes), s->notes.len ? "\n" : "",
                               (int)lines->len - 1, (const char *)lines->ptr);
    return s->notes.ptr ? LB_OK : oom(err);
}
