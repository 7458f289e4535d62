/* SPDX-License-Identifier: Apache-2.0 */
/* config_file.c: a merge file of one or several documents (mergekit-multi): which refers to which,
 * in what order they are made, and which is the result. */
#include "io/yaml.h"
#include "merge/config_internal.h"

typedef struct file {
    lb_str what;
    lb_arena *perm;
    lb_err *err;
    lb_merge_config *docs; /* in the order of the text */
    u32 n;
    lb_map names; /* -> index into docs */
    u32 *place;   /* [n] of each in the order of making; LB_NO_MERGE: not yet */
    u32 *order;   /* [n] the reverse */
} file;

static lb_status no_memory(const file *f) {
    return lb_fail(f->err, LB_E_NOMEM, "%.*s: out of memory", LB_FMT(f->what));
}

static lb_status read_doc(file *f, const lb_json *root, u32 flags, lb_merge_config *out) {
    lb_merge_reader r = {.what = f->what, .perm = f->perm, .err = f->err, .config = out};
    lb_status st = lb_merge_read_config(&r, root, flags);
    lb_map_deinit(&r.refs);
    return st;
}

static lb_status read_docs(file *f, const lb_json *all, u32 flags) {
    if (!(f->docs = lb_arena_new(f->perm, lb_merge_config, all->n + 1)))
        return no_memory(f);
    for (const lb_json *d = all->first; d; d = d->next)
        if (d->type != LB_JNULL)
            LB_TRY(read_doc(f, d, flags, &f->docs[f->n++]));
    if (f->n == 0)
        return lb_fail(f->err, LB_E_FORMAT, "%.*s: is empty: no merge", LB_FMT(f->what));
    return LB_OK;
}

/* Names of documents are names of files: intermediate results may be kept under them. */
static lb_status collect_names(file *f) {
    u32 unnamed = LB_NO_MERGE;
    for (u32 i = 0; i < f->n; i++) {
        const lb_merge_config *c = &f->docs[i];
        bool twice;
        if (c->name.len == 0 && unnamed != LB_NO_MERGE)
            return lb_fail(f->err, LB_E_FORMAT,
                           "%.*s: line %u: the documents of lines %u and %u have no `name`: only "
                           "the result may lack it",
                           LB_FMT(f->what), c->line, f->docs[unnamed].line, c->line);
        if (c->name.len == 0) {
            unnamed = i;
            continue;
        }
        if (!lb_str_is_file_name(c->name))
            return lb_fail(f->err, LB_E_FORMAT,
                           "%.*s: line %u: name: '%.*s' is no plain name (without / and \\)",
                           LB_FMT(f->what), c->line, LB_FMT(c->name));
        LB_TRY(lb_map_put(&f->names, c->name, i, &twice, f->err));
        if (twice)
            return lb_fail(f->err, LB_E_FORMAT, "%.*s: line %u: name: '%.*s' stands twice",
                           LB_FMT(f->what), c->line, LB_FMT(c->name));
    }
    return LB_OK;
}

/* The models of a document that are results of others. */
static void find_merges(const file *f, lb_merge_config *c) {
    u64 at;
    for (u32 i = 0; i < c->n_refs; i++)
        if (lb_map_find(&f->names, c->models[i].path, &at))
            c->models[i].merge = (u32)at;
}

static bool is_ready(const file *f, const lb_merge_config *c) {
    for (u32 i = 0; i < c->n_refs; i++)
        if (c->models[i].merge != LB_NO_MERGE && f->place[c->models[i].merge] == LB_NO_MERGE)
            return false;
    return true;
}

/* From a document that can't be made along what it waits for, until one comes again. */
static lb_status cycle(const file *f, u32 at) {
    lb_buf chain = {0};
    for (u32 step = 0; step < f->n; step++) /* into the cycle */
        for (u32 i = 0; i < f->docs[at].n_refs; i++) {
            u32 next = f->docs[at].models[i].merge;
            if (next != LB_NO_MERGE && f->place[next] == LB_NO_MERGE) {
                at = next;
                break;
            }
        }
    u32 start = at;
    do {
        const lb_merge_config *c = &f->docs[at];
        lb_buf_printf(&chain, "%.*s -> ", LB_FMT(c->name));
        for (u32 i = 0; i < c->n_refs; i++)
            if (c->models[i].merge != LB_NO_MERGE && f->place[c->models[i].merge] == LB_NO_MERGE) {
                at = c->models[i].merge;
                break;
            }
    } while (at != start);
    lb_status st =
        lb_fail(f->err, LB_E_FORMAT, "%.*s: line %u: merges need each other in a circle: %.*s%.*s",
                LB_FMT(f->what), f->docs[start].line, LB_FMT(lb_buf_str(&chain)),
                LB_FMT(f->docs[start].name));
    lb_buf_deinit(&chain);
    return st;
}

/* The document without a name, else the one that no other uses. */
static lb_status find_result(const file *f, u32 *out) {
    u32 n = 0;
    for (u32 i = 0; i < f->n; i++)
        if (f->docs[i].name.len == 0) {
            *out = i;
            return LB_OK;
        }
    bool *used = lb_arena_new(f->perm, bool, f->n);
    if (!used)
        return no_memory(f);
    for (u32 i = 0; i < f->n; i++)
        for (u32 k = 0; k < f->docs[i].n_refs; k++)
            if (f->docs[i].models[k].merge != LB_NO_MERGE)
                used[f->docs[i].models[k].merge] = true;
    u32 first = LB_NO_MERGE;
    for (u32 i = 0; i < f->n; i++)
        if (!used[i] && n++ == 0)
            first = i;
        else if (!used[i])
            *out = i;
    if (n > 1)
        return lb_fail(f->err, LB_E_FORMAT,
                       "%.*s: line %u: %u merges are used by no other ('%.*s', '%.*s'...): leave "
                       "the `name` of the result away",
                       LB_FMT(f->what), f->docs[*out].line, n, LB_FMT(f->docs[first].name),
                       LB_FMT(f->docs[*out].name));
    *out = first;
    return LB_OK;
}

/* Each behind those that it needs, otherwise as in the text, the result last. */
static lb_status put_in_order(file *f) {
    u32 done = 0, result = 0;
    f->place = lb_arena_new(f->perm, u32, f->n);
    f->order = lb_arena_new(f->perm, u32, f->n);
    if (!f->place || !f->order)
        return no_memory(f);
    for (u32 i = 0; i < f->n; i++)
        f->place[i] = LB_NO_MERGE;
    for (bool moved = true; moved && done < f->n;) {
        moved = false;
        for (u32 i = 0; i < f->n; i++)
            if (f->place[i] == LB_NO_MERGE && is_ready(f, &f->docs[i])) {
                f->order[done] = i;
                f->place[i] = done++;
                moved = true;
            }
    }
    for (u32 i = 0; done < f->n && i < f->n; i++)
        if (f->place[i] == LB_NO_MERGE)
            return cycle(f, i);
    LB_TRY(find_result(f, &result));
    for (u32 i = f->place[result]; i + 1 < f->n; i++)
        f->order[i] = f->order[i + 1];
    f->order[f->n - 1] = result;
    for (u32 i = 0; i < f->n; i++)
        f->place[f->order[i]] = i;
    return LB_OK;
}

#define DOCUMENTS_MAX 1000 /* putting in order is quadratic */

static lb_status finish(file *f, lb_merge_file *out) {
    if (f->n == 1) { /* its name is only a name: a model may be called the same */
        *out = (lb_merge_file){f->docs, 1};
        return LB_OK;
    }
    if (f->n > DOCUMENTS_MAX)
        return lb_fail(f->err, LB_E_LIMIT, "%.*s: more than %d documents", LB_FMT(f->what),
                       DOCUMENTS_MAX);
    LB_TRY(collect_names(f));
    for (u32 i = 0; i < f->n; i++)
        find_merges(f, &f->docs[i]);
    LB_TRY(put_in_order(f));
    lb_merge_config *merges = lb_arena_new(f->perm, lb_merge_config, f->n);
    if (!merges)
        return no_memory(f);
    for (u32 i = 0; i < f->n; i++) {
        merges[i] = f->docs[f->order[i]];
        for (u32 k = 0; k < merges[i].n_refs; k++)
            if (merges[i].models[k].merge != LB_NO_MERGE)
                merges[i].models[k].merge = f->place[merges[i].models[k].merge];
    }
    *out = (lb_merge_file){merges, f->n};
    return LB_OK;
}

lb_status lb_merge_file_parse(lb_str text, const char *what, u32 flags, lb_arena *perm,
                              lb_merge_file *out, lb_err *err) {
    file f = {.what = lb_arena_str(perm, lb_str_c(what)), .perm = perm, .err = err};
    lb_json *all;
    *out = (lb_merge_file){0};
    if (!f.what.ptr)
        return no_memory(&f);
    LB_TRY(lb_yaml_parse_all(text, what, 0, perm, &all, err));
    LB_TRY(read_docs(&f, all, flags));
    lb_status st = finish(&f, out);
    lb_map_deinit(&f.names);
    return st;
}
