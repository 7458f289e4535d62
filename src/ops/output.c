/* SPDX-License-Identifier: Apache-2.0 */
/* output.c: layout -> plan -> run -> finished files, for every operation that writes a model. */
#include "ops/output.h"
#include "base/interrupt.h"
#include "base/os.h"
#include "format/gguf_write.h"
#include "format/st_layout.h"
#include "io/json.h"
#include "ops/output_internal.h"

/* ---- layouts ---- */

static lb_status oom(lb_err *err) {
    return lb_fail(err, LB_E_NOMEM, "out of memory for the output's layout");
}

/* What is read: a merge is made of its inputs. Fields of 32 characters, one a source, whose digests
 * are known after the run. */
static lb_status source_keys(lb_output *x, lb_err *err) {
    const lb_graph *g = &x->plan->graph;
    x->keys = lb_arena_new(&x->plan->perm, lb_str, 2 * (u64)g->n_sources + 1);
    x->read = lb_arena_new(&x->plan->perm, u32, g->n_sources + 1);
    if (!x->keys || !x->read)
        return oom(err);
    for (u32 i = 0; i < g->n_sources; i++) {
        if (g->sources[i]->n_inputs || g->sources[i]->making)
            continue;
        u32 n = x->n_read++;
        x->read[n] = i;
        x->keys[2 * n] = lb_arena_printf(&x->plan->perm, "lbrx.source.%u.name", n);
        x->keys[2 * n + 1] = lb_arena_printf(&x->plan->perm, "lbrx.source.%u.digest", n);
        if (!x->keys[2 * n].ptr || !x->keys[2 * n + 1].ptr)
            return oom(err);
    }
    return LB_OK;
}

static lb_str label_of(const lb_output *x, u32 i) {
    return x->plan->graph.sources[x->read[i]]->label;
}

/* What a job computes; all else of it stands in the layout's item. */
typedef struct lb_out_roots {
    const lb_node_id *segments;
    u32 n_segments : 31, joint : 1;
    lb_node_id node;
} lb_out_roots;

/* Once the layout's items are filled the list of tensors is only needed for its nodes. */
static lb_status take_roots(lb_out_part *t, lb_err *err) {
    lb_out_model *m = t->model;
    t->roots = lb_alloc_zero((size_t)m->n_tensors + 1, sizeof *t->roots);
    if (!t->roots)
        return oom(err);
    for (u64 i = 0; i < m->n_tensors; i++)
        t->roots[i] = (lb_out_roots){m->tensors[i].segments, m->tensors[i].n_segments & INT32_MAX,
                                     m->tensors[i].joint, m->tensors[i].node};
    lb_free(m->tensors);
    m->tensors = NULL;
    return LB_OK;
}

static lb_node_id root_at(const lb_out_roots *r, u32 segment) {
    return r->segments ? r->segments[segment] : r->node;
}

/* Streams that are made together: of a part, those of one weight. */
typedef struct group {
    lb_stream streams[LB_ROOTS_MAX];
    const lb_out_roots *roots[LB_ROOTS_MAX];
    u32 n;
} group;

static lb_status add_group(lb_output *x, const group *g, lb_err *err) {
    lb_node_id root[LB_ROOTS_MAX];
    if (!lb_plan_job(x->plan, g->streams[0].name, g->streams, g->n))
        return oom(err);
    for (u32 k = 0; k < LB_MAX(g->roots[0]->n_segments, 1); k++) {
        for (u32 j = 0; j < g->n; j++)
            root[j] = root_at(g->roots[j], k);
        lb_plan_segment(x->plan, root);
    }
    return LB_OK;
}

static lb_stream stream_at(const lb_out_part *t, u64 i) {
    if (t->gguf_items) {
        const lb_gguf_item *g = &t->gguf_items[i];
        return (lb_stream){.file = t->first_file + g->file,
                           .off_bytes = g->off_bytes,
                           .size_bytes = g->size_bytes,
                           .name = g->name,
                           .dtype = g->dtype,
                           .shape = &g->shape};
    }
    const lb_st_item *s = &t->st_items[i];
    return (lb_stream){.file = s->shard,
                       .off_bytes = s->off_bytes,
                       .size_bytes = s->size_bytes,
                       .name = s->name,
                       .dtype = s->dtype,
                       .shape = &s->shape};
}

/* The part's streams from *i on that are of one weight. */
static u32 take_joint(const lb_output *x, const lb_out_part *t, u64 *i, lb_stream *streams,
                      const lb_out_roots **roots) {
    u32 n = 0;
    do {
        LB_ASSERT(n < LB_ROOTS_MAX);
        roots[n] = &t->roots[*i];
        streams[n] = stream_at(t, *i);
        const lb_node *root = lb_graph_node(&x->plan->graph, root_at(roots[n], 0));
        streams[n].codes = root->kind == LB_NODE_ENCODE && root->u.encode.repack != LB_REPACK_NONE;
        n++;
        (*i)++;
    } while (*i < t->model->n_tensors && t->roots[*i].joint);
    return n;
}

/* The parts' k-th weights in one job, as far as one takes them and they are cut alike. */
static lb_status add_weight(lb_output *x, u64 *at, lb_err *err) {
    group g = {.n = 0};
    for (u32 p = 0; p < x->n_parts; p++) {
        lb_stream streams[LB_ROOTS_MAX];
        const lb_out_roots *roots[LB_ROOTS_MAX];
        u32 n = take_joint(x, &x->part[p], &at[p], streams, roots);
        if (g.n && (g.n + n > LB_ROOTS_MAX || g.roots[0]->n_segments != roots[0]->n_segments)) {
            LB_TRY(add_group(x, &g, err));
            g.n = 0;
        }
        memcpy(g.streams + g.n, streams, n * sizeof *streams);
        memcpy(g.roots + g.n, roots, n * sizeof *roots);
        g.n += n;
    }
    return add_group(x, &g, err);
}

static lb_status add_jobs(lb_output *x, lb_err *err) {
    u64 *at = lb_arena_new(&x->plan->perm, u64, x->n_parts);
    if (!at)
        return oom(err);
    memset(at, 0, x->n_parts * sizeof *at);
    while (at[0] < x->model->n_tensors)
        LB_TRY(add_weight(x, at, err));
    return LB_OK;
}

static lb_status put_field(lb_output *x, u32 file, u64 off, u32 source, lb_err *err) {
    if (x->n_fields == x->cap_fields) {
        u32 cap = x->cap_fields ? 2 * x->cap_fields : 8;
        lb_out_field *f = lb_arena_new(&x->plan->perm, lb_out_field, cap);
        if (!f)
            return oom(err);
        if (x->n_fields)
            memcpy(f, x->fields, x->n_fields * sizeof *f);
        x->fields = f;
        x->cap_fields = cap;
    }
    x->fields[x->n_fields++] = (lb_out_field){file, off, source};
    return LB_OK;
}

static lb_status provenance_gguf(lb_output *x, const lb_out_model *model, const char **fields,
                                 lb_err *err) {
    static const char blank[] = "00000000000000000000000000000000";
    lb_gguf_meta *m = model->meta;
    LB_TRY(lb_meta_set_str(m, "lbrx.version", LB_STR(LB_VERSION), err));
    LB_TRY(lb_meta_set_str(m, "lbrx.operation", model->operation, err));
    for (u32 i = 0; i < x->n_read; i++) {
        LB_TRY(lb_meta_set_str(m, x->keys[2 * i].ptr, label_of(x, i), err));
        LB_TRY(lb_meta_set_str(m, x->keys[2 * i + 1].ptr, lb_str_c(blank), err));
        fields[i] = x->keys[2 * i + 1].ptr;
    }
    return LB_OK;
}

static lb_str gguf_stem(const lb_out_part *t) {
    lb_str base = t->path ? lb_os_base_name(lb_str_c(t->path)) : LB_STR("model.gguf");
    lb_str dot = LB_STR(".gguf");
    return lb_str_ends(base, dot) ? lb_str_sub(base, 0, base.len - dot.len) : base;
}

static lb_status make_gguf_head(void *ctx, lb_out *out, lb_err *err) {
    const lb_out_head *h = ctx;
    (void)err;
    lb_gguf_layout_write(&h->part->gguf, h->file, out);
    return LB_OK;
}

static lb_status make_st_head(void *ctx, lb_out *out, lb_err *err) {
    const lb_out_head *h = ctx;
    (void)err;
    lb_st_layout_write(&h->part->st, h->file, out);
    return LB_OK;
}

static lb_status make_st_index(void *ctx, lb_out *out, lb_err *err) {
    const lb_out_part *t = ctx;
    return lb_st_layout_index(&t->st, out, err);
}

/* The heads of all files of the plan so far, with those of a part that has just got its own. */
static lb_status make_heads(lb_output *x, lb_out_part *t, lb_sink_make make, lb_err *err) {
    u32 n = (u32)x->plan->n_files;
    lb_sink_head *heads = lb_arena_new(&x->plan->perm, lb_sink_head, n);
    lb_out_head *h = lb_arena_new(&x->plan->perm, lb_out_head, t->n_files);
    if (!heads || !h)
        return oom(err);
    if (t->first_file)
        memcpy(heads, x->heads, t->first_file * sizeof *heads);
    for (u32 i = 0; i < t->n_files; i++) {
        h[i] = (lb_out_head){t, i};
        heads[t->first_file + i] = (lb_sink_head){.make = make, .ctx = &h[i]};
    }
    x->heads = heads;
    return LB_OK;
}

static lb_status layout_gguf(lb_output *x, lb_out_part *t, lb_err *err) {
    const lb_out_model *m = t->model;
    lb_arena *perm = &x->plan->perm;
    u32 n_sources = x->n_read;
    lb_gguf_item *items = lb_arena_new(perm, lb_gguf_item, m->n_tensors + 1);
    const char **fields = lb_arena_new(perm, const char *, n_sources + 1);
    lb_gguf_layout *l = &t->gguf;
    if (!items || !fields)
        return oom(err);
    if (!x->opts->no_provenance)
        LB_TRY(provenance_gguf(x, m, fields, err));
    for (u64 i = 0; i < m->n_tensors; i++)
        items[i] = (lb_gguf_item){.name = m->tensors[i].name,
                                  .dtype = m->tensors[i].dtype,
                                  .file = m->keep_files ? m->tensors[i].file : 0,
                                  .shape = *m->tensors[i].shape};
    lb_gguf_layout_opts o = {.meta = m->meta,
                             .keep_files = m->keep_files,
                             .stem = gguf_stem(t),
                             .max_file_bytes = x->opts->max_shard_bytes,
                             .max_file_items = x->opts->max_shard_tensors,
                             .later = true,
                             .fields = fields,
                             .n_fields = x->opts->no_provenance ? 0 : n_sources};
    LB_TRY(take_roots(t, err));
    LB_TRY(lb_gguf_layout_plan(items, m->n_tensors, &o, perm, l, err));
    /* several files are written into a folder, then put beside each other */
    x->folder = x->n_parts > 1 || l->n_files > 1;
    t->n_files = l->n_files;
    for (u32 i = 0; i < l->n_files; i++) {
        lb_str name = l->n_files > 1    ? l->files[i].name
                      : x->n_parts == 1 ? LB_STR_NONE
                      : t->path         ? lb_os_base_name(lb_str_c(t->path))
                                        : LB_STR("model.gguf");
        (void)lb_plan_file(x->plan, name, l->files[i].size_bytes);
    }
    LB_TRY(make_heads(x, t, make_gguf_head, err));
    for (u32 i = 0; i < o.n_fields; i++)
        LB_TRY(put_field(x, t->first_file, l->field_off[i], i, err));
    t->gguf_items = items;
    return LB_OK;
}

/* __metadata__: what loaders ask for ("format"), the source's own strings, then provenance. */
static lb_status st_metadata(lb_output *x, lb_st_meta **out, u64 *n_out, lb_err *err) {
    lb_arena *perm = &x->plan->perm;
    lb_json *old = NULL;
    u64 n = 0;
    if (x->model->st_metadata.len)
        LB_TRY(lb_json_parse(x->model->st_metadata, "__metadata__", perm, &old, err));
    lb_st_meta *m = lb_arena_new(perm, lb_st_meta, (old ? old->n : 0) + 2 * (u64)x->n_read + 4);
    if (!m)
        return oom(err);
    if (x->model->format != LB_FORMAT_SAFETENSORS)
        m[n++] = (lb_st_meta){LB_STR("format"),
                              x->model->format == LB_FORMAT_MLX ? LB_STR("mlx") : LB_STR("pt"), 0};
    for (const lb_json *v = old ? old->first : NULL; v; v = v->next)
        if (v->type == LB_JSTRING && !lb_str_starts(v->key, LB_STR("lbrx.")) &&
            (x->model->format == LB_FORMAT_SAFETENSORS || !lb_str_eq_c(v->key, "format")))
            m[n++] = (lb_st_meta){v->key, v->text, 0};
    if (x->model->codes.len)
        m[n++] = (lb_st_meta){LB_STR("lbrx.codes"), x->model->codes, 0};
    if (!x->opts->no_provenance) {
        m[n++] = (lb_st_meta){LB_STR("lbrx.version"), LB_STR(LB_VERSION), 0};
        m[n++] = (lb_st_meta){LB_STR("lbrx.operation"), x->model->operation, 0};
        x->first_field = n;
        for (u32 i = 0; i < x->n_read; i++) {
            m[n++] = (lb_st_meta){x->keys[2 * i], label_of(x, i), 0};
            m[n++] = (lb_st_meta){x->keys[2 * i + 1], LB_STR_NONE, 32};
        }
    }
    *out = m;
    *n_out = n;
    return LB_OK;
}

static lb_status layout_st(lb_output *x, lb_out_part *t, lb_err *err) {
    const lb_out_model *m = t->model;
    lb_arena *perm = &x->plan->perm;
    bool mlx = m->format == LB_FORMAT_MLX, one = m->format == LB_FORMAT_SAFETENSORS;
    lb_st_item *items = lb_arena_new(perm, lb_st_item, m->n_tensors + 1);
    lb_st_meta *meta = NULL;
    u64 n_meta = 0;
    lb_st_layout *l = &t->st;
    if (!items)
        return oom(err);
    LB_TRY(st_metadata(x, &meta, &n_meta, err));
    for (u64 i = 0; i < m->n_tensors; i++)
        items[i] = (lb_st_item){.name = m->tensors[i].name,
                                .dtype = m->tensors[i].dtype,
                                .shape = *m->tensors[i].shape};
    u64 max = x->opts->max_shard_bytes;
    if (x->opts->max_shard_tensors)
        return lb_fail(err, LB_E_USAGE,
                       "--max-shard-tensors cuts GGUF files: for a folder name "
                       "--max-shard-size SIZE");
    if (one && max != 0 && max != UINT64_MAX)
        return lb_fail(err, LB_E_USAGE,
                       "--max-shard-size: a lone safetensors file stays one file: --to hf makes a "
                       "folder of shards");
    if (max == 0 && !one)
        max = mlx ? 5 * LB_GIB : 5000000000u; /* mlx-lm's and transformers' defaults */
    lb_st_layout_opts o = {.later = true,
                           .style =
                               mlx && !m->stem ? LB_ST_MLX : LB_ST_HF, /* adapters have no index */
                           .max_shard_bytes = max,
                           .data_align = mlx ? 16384 : 8,
                           .meta = meta,
                           .n_meta = n_meta,
                           .stem = m->stem,
                           .index_of_one = !one && !m->stem,
                           .n_parameters = m->n_parameters};
    LB_TRY(take_roots(t, err));
    LB_TRY(lb_st_layout_plan(items, m->n_tensors, &o, perm, l, err));
    x->folder = !one;
    t->n_files = l->n_shards;
    for (u32 i = 0; i < l->n_shards; i++) {
        (void)lb_plan_file(x->plan, one ? LB_STR_NONE : l->shards[i].name, l->shards[i].size_bytes);
        for (u32 k = 0; k < x->n_read && !x->opts->no_provenance; k++)
            LB_TRY(
                put_field(x, i, l->shards[i].field_off[x->first_field + 2 * (u64)k + 1], k, err));
    }
    LB_TRY(make_heads(x, t, make_st_head, err));
    x->index = (lb_sink_text){.name = l->index_name, .make = make_st_index, .ctx = t};
    /* the index is sorted: a list of pointers, and qsort's copy of it */
    x->plan->after_bytes = LB_MAX(x->plan->after_bytes, 2 * sizeof(void *) * m->n_tensors);
    t->st_items = items;
    return LB_OK;
}

static lb_status layout(lb_output *x, lb_err *err) {
    lb_status st = LB_OK;
    lb_plan_reserve(x->plan, x->part[0].model->n_tensors);
    for (u32 k = 0; k < x->n_parts && st == LB_OK; k++) {
        lb_out_part *t = &x->part[k];
        t->first_file = (u32)x->plan->n_files;
        st = t->model->format == LB_FORMAT_GGUF ? layout_gguf(x, t, err) : layout_st(x, t, err);
    }
    if (st == LB_OK)
        st = add_jobs(x, err);
    for (u32 k = 0; k < x->n_parts; k++)
        lb_free(x->part[k].roots);
    return st;
}

/* ---- after the run ---- */

/* The files of the folder: --force may replace them all later. */
static void put_files(const lb_output *x, lb_buf *out) {
    lb_buf_put_c(out, ",\n  \"files\": [\n    \"lbrx.json\"");
    if (x->opts->sha256)
        lb_buf_put_c(out, ",\n    \"SHA256SUMS\"");
    for (u64 i = 0; i < x->plan->n_files + x->n_texts; i++) {
        lb_buf_put_c(out, ",\n    ");
        lb_json_write_str(out,
                          i < x->plan->n_files ? x->plan->files[i].name
                                               : x->texts[i - x->plan->n_files].name,
                          true);
    }
    lb_buf_put_c(out, "\n  ]");
}

/* lbrx.json of a folder: what made it, from what, its files, the hash of every tensor. Schema 1. */
static lb_status write_json(void *ctx, lb_out *to, lb_err *err) {
    const lb_output *x = ctx;
    const lb_plan *p = x->plan;
    lb_buf *out = &to->buf;
    char hex[33];
    (void)err;
    lb_buf_put_c(out, "{\n  \"schema\": 1,\n  \"lbrx\": \"" LB_VERSION "\",\n  \"operation\": ");
    lb_json_write_str(out, x->model->operation, true);
    lb_buf_put_c(out, ",\n  \"sources\": [");
    for (u32 i = 0; i < x->n_read; i++) {
        lb_hash_hex(p->src[x->read[i]].digest, hex);
        lb_buf_put_c(out, i ? ",\n    {\"name\": " : "\n    {\"name\": ");
        lb_json_write_str(out, label_of(x, i), true);
        lb_buf_printf(out, ", \"digest\": \"%s\"}", hex);
    }
    lb_buf_put_c(out, "\n  ]");
    put_files(x, out);
    lb_buf_put_c(out, ",\n  \"hash\": \"xxh3-128\",\n  \"tensors\": {");
    bool first = true;
    for (u64 j = 0; j < p->n_jobs; j++)
        for (u32 s = 0; s < p->jobs[j].n_streams; s++, first = false) {
            lb_hash_hex(p->jobs[j].streams[s].hash, hex);
            lb_buf_put_c(out, first ? "\n    " : ",\n    ");
            lb_json_write_str(out, p->jobs[j].streams[s].name, true);
            lb_buf_printf(out, ": \"%s\"", hex);
            lb_out_spill(to);
        }
    lb_buf_put_c(out, "\n  }\n}\n");
    return LB_OK;
}

/* Digests for their places in the heads. */
static lb_status fill_fields(lb_output *x, lb_sink_patch **out, lb_err *err) {
    lb_sink_patch *p = lb_arena_new(&x->plan->perm, lb_sink_patch, x->n_fields + 1);
    if (!p)
        return oom(err);
    for (u32 i = 0; i < x->n_fields; i++) {
        const lb_out_field *f = &x->fields[i];
        char hex[33];
        lb_hash_hex(x->plan->src[x->read[f->source]].digest, hex);
        p[i] = (lb_sink_patch){.file = f->file, .off_bytes = f->off};
        memcpy(p[i].bytes, hex, sizeof p[i].bytes);
    }
    *out = p;
    return LB_OK;
}

static lb_status finish(lb_output *x, lb_err *err) {
    const lb_out_model *m = x->model;
    bool folder = m->format == LB_FORMAT_HF || m->format == LB_FORMAT_MLX;
    u32 n = 0;
    lb_sink_text *texts = lb_arena_new(&x->plan->perm, lb_sink_text, m->n_texts + 3);
    lb_sink_patch *patches = NULL;
    if (!texts)
        return oom(err);
    for (u32 i = 0; i < m->n_texts && folder; i++)
        texts[n++] = m->texts[i];
    if (x->index.name.len)
        texts[n++] = x->index;
    x->texts = texts;
    x->n_texts = n;
    if (folder && !x->opts->no_provenance)
        texts[n++] = (lb_sink_text){.name = LB_STR("lbrx.json"), .make = write_json, .ctx = x};
    LB_TRY(fill_fields(x, &patches, err));
    lb_sink_ending e = {.heads = x->heads,
                        .patches = patches,
                        .n_patches = x->n_fields,
                        .texts = texts,
                        .n_texts = n};
    return x->sink ? lb_sink_finish(x->sink, &e, err) : LB_OK;
}

static void sum_up(const lb_output *x, const lb_run_report *run, lb_out_report *r) {
    r->bytes_read = run->bytes_read;
    r->bytes_written = !lb_output_is_written(x->opts) ? 0 : run->bytes_written;
    r->bytes_moved = run->bytes_moved;
    r->n_jobs_kept = run->resumed_jobs;
    r->pool = run->pool;
    for (u64 j = 0; j < x->plan->n_jobs; j++)
        for (u32 s = 0; s < x->plan->jobs[j].n_streams; s++) {
            r->n_rounded += x->plan->jobs[j].streams[s].n_rounded;
            r->n_overflowed += x->plan->jobs[j].streams[s].n_overflowed;
            r->n_rounded_tensors += x->plan->jobs[j].streams[s].n_rounded != 0;
        }
}

static lb_status check_lossless(const lb_output *x, lb_err *err) {
    for (u64 j = 0; j < x->plan->n_jobs; j++)
        for (u32 s = 0; s < x->plan->jobs[j].n_streams; s++) {
            const lb_stream *t = &x->plan->jobs[j].streams[s];
            if (t->n_rounded)
                return lb_fail(err, LB_E_UNSUPPORTED,
                               "--lossless: %llu values of '%.*s' cannot be held exactly as %s: "
                               "choose another --dtype%s",
                               (unsigned long long)t->n_rounded, LB_FMT(t->name),
                               lb_dtype_get(t->dtype)->name, t->codes ? " or --codes none" : "");
        }
    return LB_OK;
}

/* What codes are kept for is seen from their types; whether each scale and bias has a place, from
 * the bytes alone. */
static lb_status check_codes(const lb_output *x, lb_err *err) {
    for (u64 j = 0; j < x->plan->n_jobs; j++)
        for (u32 s = 0; s < x->plan->jobs[j].n_streams; s++) {
            const lb_stream *t = &x->plan->jobs[j].streams[s];
            bool near = x->model->codes_near, rounded = t->n_rounded && !near;
            if (!t->codes || (!t->n_overflowed && !rounded))
                continue;
            return lb_fail(err, LB_E_UNSUPPORTED,
                           "tensor '%.*s': %llu of its values have a scale or bias that %s %s: "
                           "%s--codes none writes values instead of codes",
                           LB_FMT(t->name),
                           (unsigned long long)(rounded ? t->n_rounded : t->n_overflowed),
                           lb_dtype_get(t->dtype)->name,
                           t->n_overflowed ? "would make infinite" : "has no place for",
                           t->n_overflowed ? "" : "--codes near rounds it, ");
        }
    return LB_OK;
}

static lb_status tell_made(const lb_output *x, lb_err *err) {
    for (u64 j = 0; j < x->plan->n_jobs; j++)
        for (u32 s = 0; s < x->plan->jobs[j].n_streams; s++) {
            const lb_stream *t = &x->plan->jobs[j].streams[s];
            LB_TRY(x->opts->made(x->opts->made_user, t->name, t->dtype, t->shape, t->hash, err));
        }
    return LB_OK;
}

static lb_sink_options sink_options(const lb_output *x) {
    const lb_writer_opts *o = x->opts;
    return (lb_sink_options){.path = x->part[0].path,
                             .folder = x->folder,
                             .resume = o->resume,
                             .force = o->force,
                             .sync = !o->no_sync,
                             .sha256 = o->sha256,
                             .stop = o->stop,
                             .user = o->user,
                             .spread = x->folder && x->model->format == LB_FORMAT_GGUF};
}

static lb_status run(lb_output *x, lb_out_report *report, lb_err *err) {
    const lb_writer_opts *o = x->opts;
    lb_run_report rr = {0};
    lb_status st = LB_OK;
    lb_sink_options so = sink_options(x);
    if (lb_output_is_written(o))
        LB_TRY(lb_sink_open(&x->sink, x->plan, &so, err));
    lb_run_options ro = {.kernels = o->kernels,
                         .encoder = o->encoder,
                         .sink = x->sink,
                         .temp_dir = x->sink ? lb_sink_dir(x->sink) : NULL,
                         .stop = o->stop,
                         .progress = o->progress,
                         .user = o->user};
    st = lb_run(x->plan, &ro, &rr, err);
    bool refused = st == LB_E_FORMAT || st == LB_E_UNSUPPORTED; /* what it read */
    const lb_status opened = o->encoder ? lb_quant_device_wait(o->encoder, err) : LB_OK;
    if (opened != LB_OK) { /* as if that had been before */
        st = opened;
        refused = true;
    }
    if (st == LB_OK) {
        st = o->lossless ? check_lossless(x, err) : LB_OK;
        if (st == LB_OK)
            st = check_codes(x, err);
        if (st == LB_OK && o->made)
            st = tell_made(x, err);
        refused = st != LB_OK;
    }
    if (refused && x->sink) /* the same again would be refused again */
        lb_sink_discard(x->sink);
    if (st == LB_OK)
        st = finish(x, err);
    if (st == LB_OK && x->sink && o->sha256)
        memcpy(report->sha256, lb_sink_sha256(x->sink), sizeof report->sha256);
    bool kept = false;
    lb_sink_close(&x->sink, &kept);
    report->kept_partial = kept;
    sum_up(x, &rr, report);
    if (st != LB_OK && kept)
        lb_err_note(err, "; finished tensors are kept: run again with --resume");
    return st;
}

/* What conversions take at most where the budget is larger: more memory makes them no faster. */
#define LB_OUTPUT_ENOUGH_BYTES (256 * LB_MIB)

static lb_status begin(lb_output *x, lb_out_model *m, lb_err *err) {
    x->part = lb_arena_new(&x->plan->perm, lb_out_part, x->n_parts);
    if (!x->part)
        return oom(err);
    for (u32 k = 0; k < x->n_parts; k++)
        x->part[k] =
            (lb_out_part){.model = &m[k], .path = m[k].output ? m[k].output : x->opts->output};
    for (u32 i = 0; i < m->n_texts; i++)
        LB_TRY(lb_sink_check_name(m->texts[i].name, err));
    return source_keys(x, err);
}

/* So many values take the CPU about as long as a driver takes to start. */
#define LB_OUTPUT_BESIDE_ELEMS (256ull << 20)

/* Before the plan. *beside: the CPU begins while the device is opened. */
static lb_status open_encoder(const lb_output *x, bool *beside, lb_err *err) {
    const lb_graph *g = &x->plan->graph;
    u64 n_elems = 0;
    for (u32 i = 0; i < g->n; i++) {
        const lb_node *n = lb_graph_node(g, i);
        if (n->kind == LB_NODE_ENCODE && n->u.encode.quant && n->u.encode.part == LB_QUANT_CODES)
            n_elems += lb_graph_node(g, n->in[0])->n_rows * lb_graph_node(g, n->in[0])->n_cols;
    }
    *beside = x->opts->memory_bytes >= LB_OUTPUT_BESIDE_BYTES && !x->model->all_memory &&
              n_elems >= LB_OUTPUT_BESIDE_ELEMS;
    return *beside ? LB_OK : lb_quant_device_open(x->opts->encoder, err);
}

/* Kernels of the device that will quantize, before the first value. */
static lb_status try_encoder(const lb_output *x, bool beside, lb_err *err) {
    const lb_graph *g = &x->plan->graph;
    for (u32 i = 0; i < g->n; i++) {
        const lb_node *n = lb_graph_node(g, i);
        if (n->kind == LB_NODE_ENCODE && n->u.encode.quant)
            LB_TRY(lb_quant_device_try(x->opts->encoder, n->u.encode.quant, err));
    }
    return beside ? lb_quant_device_open_beside(x->opts->encoder, err) : LB_OK;
}

lb_status lb_output_write(lb_plan *p, lb_out_model *m, u32 n_models, const lb_writer_opts *o,
                          lb_buf *text, lb_out_report *report, lb_err *err) {
    lb_output x = {.plan = p, .model = m, .n_parts = n_models, .opts = o};
    u64 begun = lb_os_now_us();
    bool beside = false;
    *report = (lb_out_report){.format = m->format, .dry_run = o->dry_run};
    for (u32 k = 0; k < n_models; k++)
        report->n_tensors += m[k].n_tensors;
    p->options = m->identity.len ? m->identity : m->operation;
    p->want_digests = !o->no_provenance;
    p->only_finite = m->only_finite;
    p->encoder = o->encoder;
    LB_TRY(begin(&x, m, err));
    LB_TRY(layout(&x, err));
    if (o->encoder && !o->dry_run)
        LB_TRY(open_encoder(&x, &beside, err));
    x.plan->after_bytes += 512 * LB_KIB; /* pieces on their way to files */
    lb_plan_limits limits = {.memory_bytes = o->memory_bytes,
                             .enough_bytes = m->all_memory ? 0 : LB_OUTPUT_ENOUGH_BYTES,
                             .threads = o->threads};
    if (o->encoder) { /* a driver has much of its own in the process */
        limits.beside_bytes = lb_quant_device_pinned_bytes(o->encoder);
        limits.enough_bytes += m->all_memory ? 0 : lb_run_base_bytes() + limits.beside_bytes;
    }
    lb_status closed = lb_plan_close(p, &limits, err);
    report->needed_bytes = closed == LB_E_LIMIT ? p->peak_bytes : 0;
    LB_TRY(closed);
    LB_TRY(lb_interrupt_check(err));
    if (o->dry_run) {
        report->bytes_read = p->read_bytes;
        report->bytes_written = lb_output_is_written(o) ? p->write_bytes : 0;
        lb_mem_limit(0); /* nothing runs: the text may take the place of the buffers */
        lb_sink_options so = sink_options(&x);
        if (lb_output_is_written(o) && o->output)
            LB_TRY(lb_sink_check(p, &so, err));
        if (o->json)
            lb_output_json_plan(&x, text);
        else
            lb_output_print_plan(&x, text);
        return lb_buf_status(text, err);
    }
    if (o->planned)
        o->planned(o->user, lb_output_is_written(o) ? p->write_bytes : 0);
    if (o->encoder)
        LB_TRY(try_encoder(&x, beside, err));
    lb_status st = run(&x, report, err);
    report->seconds = (double)(lb_os_now_us() - begun) * 1e-6;
    report->peak_rss_bytes = lb_os_peak_rss();
    return st;
}
