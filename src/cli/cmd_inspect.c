/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_inspect.c: `lbrx inspect MODEL`: ops/inspect.h for people and for scripts. */
#include "cli/cli.h"
#include "cli/text.h"
#include "format/gguf.h"
#include "format/imatrix.h"
#include "ops/inspect.h"
#include "ops/saved.h"

typedef struct inspect_opts {
    lb_common common;
    bool tensors, metadata, hash;
} inspect_opts;

static const lb_opt rows[] = {
    {.name = "tensors",
     .kind = LB_OPT_FLAG,
     .help = "list every tensor: name, type, shape, bytes, file",
     .off = offsetof(inspect_opts, tensors)},
    {.name = "metadata",
     .kind = LB_OPT_FLAG,
     .help = "list the metadata: GGUF's keys, a folder's config.json",
     .off = offsetof(inspect_opts, metadata)},
    {.name = "hash",
     .kind = LB_OPT_FLAG,
     .help = "read every tensor and print the SHA-256 of its bytes",
     .off = offsetof(inspect_opts, hash)},
};

static void put_head(lb_cli *cli, const lb_inspect *in) {
    const lb_source *s = in->source;
    lb_buf *out = &cli->out;
    char a[LB_TEXT_BYTES], b[LB_TEXT_BYTES];
    lb_buf_put_c(out, "model         ");
    lb_put_safe(out, s->label);
    lb_buf_printf(out, "\nformat        %s", lb_format_name(s->format));
    if (s->format == LB_FORMAT_GGUF) {
        const lb_gguf_info *g = lb_gguf_info_get(s);
        lb_buf_printf(out, " (version %u, alignment %u)", g->version, g->align_bytes);
    }
    lb_buf_put_c(out, "\narchitecture  ");
    if (in->architecture.len)
        lb_put_safe(out, in->architecture);
    else
        lb_buf_put_c(out, "unknown");
    lb_buf_printf(out, "\nparameters    %s (%s)\n", lb_count_text(in->n_params, a),
                  lb_digits_text(in->n_params, b));
    lb_buf_printf(out, "size          %s (%s bytes)\n", lb_size_text(in->size_bytes, a),
                  lb_digits_text(in->size_bytes, b));
    lb_buf_printf(out, "bits/weight   %.3f\n", lb_inspect_bpw(in));
    lb_buf_printf(out, "files         %llu\ntensors       %llu\n", (unsigned long long)s->n_files,
                  (unsigned long long)s->n_tensors);
    if (s->n_weights != s->n_tensors)
        lb_buf_printf(out, "weights       %llu\n", (unsigned long long)s->n_weights);
}

/* ---- importance matrices ---- */

static void put_imatrix_head(lb_cli *cli, const lb_inspect *in) {
    const lb_source *s = in->source;
    const lb_imatrix *im = s->imatrix;
    lb_buf *out = &cli->out;
    char text[LB_TEXT_BYTES];
    u64 n_values = 0, n_split = 0;
    for (u64 i = 0; i < im->n_entries; i++) {
        n_values += im->entries[i].n_values;
        n_split += im->entries[i].n_counts > 1;
    }
    lb_buf_put_c(out, "file          ");
    lb_put_safe(out, s->label);
    lb_buf_printf(out, "\nformat        imatrix (%s)\n", im->legacy ? "legacy" : "GGUF");
    for (u64 i = 0; i < im->n_datasets; i++) {
        lb_buf_put_c(out, i ? "              " : "datasets      ");
        lb_put_safe(out, im->datasets[i]);
        lb_buf_put_c(out, "\n");
    }
    if (im->n_datasets == 0)
        lb_buf_put_c(out, "datasets      unknown\n");
    if (!im->has_chunks)
        lb_buf_put_c(out, "chunks        unknown\n");
    else if (im->legacy)
        lb_buf_printf(out, "chunks        %llu\n", (unsigned long long)im->chunk_count);
    else
        lb_buf_printf(out, "chunks        %llu of %llu tokens\n",
                      (unsigned long long)im->chunk_count, (unsigned long long)im->chunk_size);
    lb_buf_printf(out, "entries       %llu", (unsigned long long)im->n_entries);
    if (n_split)
        lb_buf_printf(out, " (%llu with a count an expert)", (unsigned long long)n_split);
    lb_buf_printf(out, "\ncounts        %llu", (unsigned long long)im->n_counts);
    if (im->n_empty)
        lb_buf_printf(out, " (zero: %llu)", (unsigned long long)im->n_empty);
    lb_buf_printf(out, "\nvalues        %s\n", lb_digits_text(n_values, text));
    lb_buf_printf(out, "size          %s\n", lb_size_text(in->size_bytes, text));
}

/* "512", or the least and the most of the experts. */
static void put_counts(lb_table *t, const lb_imatrix *im, const lb_imatrix_entry *e) {
    float low = e->counts[0], high = e->counts[0];
    for (u64 i = 1; i < e->n_counts; i++) {
        low = LB_MIN(low, e->counts[i]);
        high = LB_MAX(high, e->counts[i]);
    }
    if (e->n_counts == 1)
        lb_table_printf(t, "%llu", (unsigned long long)high);
    else
        lb_table_printf(t, "%llu to %llu", (unsigned long long)low, (unsigned long long)high);
    lb_table_printf(t, "%llu", (unsigned long long)e->n_empty);
    if (im->legacy)
        lb_table_printf(t, "%llu", (unsigned long long)high);
    else if (im->chunk_size)
        lb_table_printf(t, "%llu", (unsigned long long)high / im->chunk_size);
    else
        lb_table_cell(t, LB_STR("?"));
}

/* A legacy file does not say of how many matrices its values are. */
static void put_imatrix_entries(lb_cli *cli, const lb_inspect *in) {
    static const char *const heads[] = {"tensor", "columns", "experts", "counts", "zero", "chunks"};
    const lb_imatrix *im = in->source->imatrix;
    lb_table t = {.n_columns = LB_LEN(heads), .right = 62};
    for (size_t i = 0; i < LB_LEN(heads); i++)
        lb_table_cell(&t, im->legacy && i == 1 ? LB_STR("values") : lb_str_c(heads[i]));
    for (u64 i = 0; i < im->n_entries; i++) {
        const lb_imatrix_entry *e = &im->entries[i];
        lb_table_cell(&t, e->name);
        lb_table_printf(&t, "%llu", (unsigned long long)e->n_cols);
        if (im->legacy)
            lb_table_cell(&t, LB_STR("?"));
        else
            lb_table_printf(&t, "%llu", (unsigned long long)e->n_mats);
        put_counts(&t, im, e);
    }
    lb_buf_put_c(&cli->out, "\n");
    lb_table_end(&t, 0, &cli->out);
}

/* ---- models ---- */

static void put_types(lb_cli *cli, const lb_inspect *in) {
    lb_table t = {.n_columns = 4, .right = 1u << 1 | 1u << 2 | 1u << 3};
    char a[LB_TEXT_BYTES];
    lb_table_cell(&t, LB_STR("type"));
    lb_table_cell(&t, LB_STR("tensors"));
    lb_table_cell(&t, LB_STR("size"));
    lb_table_cell(&t, LB_STR("share"));
    for (u32 d = 0; d < LB_DTYPE_COUNT; d++) {
        const lb_inspect_type *sum = &in->type[d];
        if (sum->n_tensors == 0)
            continue;
        lb_table_cell(&t, lb_str_c(lb_dtype_get((lb_dtype)d)->name));
        lb_table_printf(&t, "%llu", (unsigned long long)sum->n_tensors);
        lb_table_cell(&t, lb_str_c(lb_size_text(sum->size_bytes, a)));
        lb_table_printf(&t, "%.1f %%",
                        in->size_bytes ? 100.0 * (double)sum->size_bytes / (double)in->size_bytes
                                       : 0.0);
    }
    lb_buf_put_c(&cli->out, "\n");
    lb_table_end(&t, 0, &cli->out);
}

static void put_notes(lb_cli *cli, lb_str notes) {
    while (notes.len) {
        const char *end = memchr(notes.ptr, '\n', notes.len);
        size_t n = end ? (size_t)(end - notes.ptr) : notes.len;
        if (n) {
            lb_buf_put_c(&cli->out, "note: ");
            lb_put_safe(&cli->out, (lb_str){notes.ptr, n});
            lb_buf_put_c(&cli->out, "\n");
        }
        n += end ? 1 : 0;
        notes = (lb_str){notes.ptr + n, notes.len - n};
    }
}

static void put_tensors(lb_cli *cli, const lb_inspect *in) {
    const lb_source *s = in->source;
    bool many = s->n_files > 1;
    lb_table t = {.n_columns = 4u + many + (in->sha256 != NULL), .right = 1u << 3};
    char a[LB_TEXT_BYTES], shape[LB_SHAPE_TEXT];
    for (u64 i = 0; i < s->n_tensors; i++) {
        const lb_tensor *x = &s->tensors[i];
        lb_table_cell(&t, x->name);
        lb_table_cell(&t, lb_str_c(lb_dtype_get(x->dtype)->name));
        lb_table_cell(&t, lb_str_c(lb_shape_text(&x->shape, shape)));
        lb_table_cell(&t, lb_str_c(lb_size_text(x->size_bytes, a)));
        if (many)
            lb_table_cell(&t, s->files[x->file].name);
        if (in->sha256)
            lb_table_cell(&t, lb_str_c(in->sha256[i]));
    }
    lb_buf_put_c(&cli->out, "\n");
    lb_table_end(&t, 0, &cli->out);
}

static void put_metadata(lb_cli *cli, const lb_inspect *in) {
    const lb_gguf_meta *m = in->source->gguf;
    lb_buf value = {0};
    lb_buf_put_c(&cli->out, "\n");
    if (!m) {
        if (in->config) {
            lb_json_write(&cli->out, in->config, (lb_json_style){.indent = 2, .ascii = true});
            lb_buf_put_c(&cli->out, "\n");
        }
        return;
    }
    for (u64 i = 0; i < m->n; i++) {
        const lb_gguf_kv *kv = &m->kv[i];
        lb_buf_reset(&value);
        lb_put_safe(&cli->out, kv->key);
        if (kv->type == LB_GGUF_ARRAY)
            lb_buf_printf(&cli->out, " [%s x %llu]", lb_gguf_type_name(kv->elem),
                          (unsigned long long)kv->n);
        else
            lb_buf_printf(&cli->out, " %s", lb_gguf_type_name(kv->type));
        lb_buf_put_c(&cli->out, " = ");
        lb_inspect_kv(kv, &value);
        lb_put_safe(&cli->out, lb_buf_str(&value));
        lb_buf_put_c(&cli->out, "\n");
        cli->out.oom = cli->out.oom || value.oom;
    }
    lb_buf_deinit(&value);
}

static lb_status hash(lb_cli *cli, lb_inspect *in, const lb_common *common, lb_err *err) {
    lb_progress progress;
    lb_progress_begin(&progress, common->progress, "hash");
    lb_status st = lb_inspect_hash(in,
                                   &(lb_inspect_hash_options){.n_threads = (u32)common->n_threads,
                                                              .memory_bytes = common->memory_bytes,
                                                              .progress = lb_progress_update,
                                                              .user = &progress},
                                   &cli->arena, err);
    lb_progress_end(&progress);
    return st;
}

static void put_text(lb_cli *cli, const lb_inspect *in, const inspect_opts *o) {
    if (in->source->imatrix) {
        put_imatrix_head(cli, in);
    } else {
        put_head(cli, in);
        put_types(cli, in);
    }
    put_notes(cli, in->source->notes);
    if (o->metadata)
        put_metadata(cli, in);
    if (in->source->imatrix && o->tensors)
        put_imatrix_entries(cli, in);
    if (o->hash || (o->tensors && !in->source->imatrix))
        put_tensors(cli, in);
}

/* ---- saved sessions ---- */

static bool is_session(const char *path) {
    lb_cur c;
    u8 head[8];
    if (lb_cur_open(&c, path, NULL) != LB_OK)
        return false;
    bool is = lb_cur_left(&c) >= sizeof head &&
              lb_cur_bytes(&c, head, sizeof head, "it", NULL) == LB_OK &&
              lb_session_file_is(head, sizeof head);
    lb_cur_close(&c);
    return is;
}

static void put_session(lb_buf *out, const char *path, const lb_saved *s) {
    const lb_session_file *f = &s->file;
    char size[LB_TEXT_BYTES], model[33];
    lb_hash_hex(f->model, model);
    lb_buf_put_c(out, "file          ");
    lb_put_safe(out, lb_str_c(path));
    lb_buf_printf(out, "\nformat        saved session (version %u)\n", LB_SESSION_VERSION);
    lb_buf_printf(out, "tokens        %u (%u held, vocabulary of %u)\n", f->n_ids, f->n_held,
                  f->n_vocab);
    lb_buf_printf(out, "kv type       %s%s\n", lb_dtype_get(f->kv_type)->name,
                  f->flags & LB_SESSION_ROTATED ? ", rotated" : "");
    lb_buf_printf(out, "a token       %s\n", lb_size_text(f->row_bytes, size));
    if (f->state_bytes)
        lb_buf_printf(out, "states        %s\n", lb_size_text(f->state_bytes, size));
    lb_buf_printf(out, "conversation  %s\n", f->text_bytes ? "yes" : "no");
    lb_buf_printf(out, "size          %s\nmodel         %s\n",
                  lb_size_text(s->cur.size_bytes, size), model);
}

static void put_session_json(lb_buf *out, const lb_saved *s) {
    const lb_session_file *f = &s->file;
    char model[33];
    lb_hash_hex(f->model, model);
    lb_buf_printf(out,
                  "{\"format\": \"session\", \"version\": %u, \"tokens\": %u, \"held\": %u, "
                  "\"vocabulary\": %u, \"kv_type\": \"%s\", \"rotated\": %s, "
                  "\"token_bytes\": %llu, \"state_bytes\": %llu, \"conversation\": %s, "
                  "\"bytes\": %llu, \"model\": \"%s\"}\n",
                  LB_SESSION_VERSION, f->n_ids, f->n_held, f->n_vocab,
                  lb_dtype_get(f->kv_type)->name, f->flags & LB_SESSION_ROTATED ? "true" : "false",
                  (unsigned long long)f->row_bytes, (unsigned long long)f->state_bytes,
                  f->text_bytes ? "true" : "false", (unsigned long long)s->cur.size_bytes, model);
}

static lb_status session(lb_cli *cli, const inspect_opts *o, const char *path, lb_err *err) {
    lb_saved s;
    lb_status st = lb_saved_open(&s, path, NULL, err);
    if (st == LB_OK && (o->tensors || o->metadata || o->hash))
        st = lb_fail(err, LB_E_USAGE,
                     "%s: a saved session: --tensors, --metadata and --hash are of models", path);
    if (st == LB_OK && o->common.json)
        put_session_json(&cli->out, &s);
    else if (st == LB_OK)
        put_session(&cli->out, path, &s);
    lb_saved_close(&s);
    return st;
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    inspect_opts o = *(const inspect_opts *)opts;
    lb_source *s = NULL;
    lb_inspect in;
    lb_status st;
    (void)n_args;
    LB_TRY(lb_common_finish(&o.common, err));
    if (is_session(args[0]))
        return session(cli, &o, args[0], err);
    LB_TRY_DONE(st, lb_cli_open_any(cli, &o.common, &s, args[0], err));
    if (s->computed && o.hash)
        LB_TRY_DONE(st, lb_fail(err, LB_E_UNSUPPORTED,
                                "%s: a model that is computed has no bytes before it is made: "
                                "--hash is of files",
                                args[0]));
    LB_TRY_DONE(st, lb_inspect_run(&in, s, &cli->arena, err));
    if (o.hash)
        LB_TRY_DONE(st, hash(cli, &in, &o.common, err));
    if (o.common.json)
        LB_TRY_DONE(st, lb_inspect_json(&in, &cli->out, err));
    else
        put_text(cli, &in, &o);
done:
    lb_source_close(&s);
    return st;
}

const lb_command lb_cmd_inspect = {
    .name = "inspect",
    .summary = "Shows what a model, an importance matrix or a saved session holds: format, types, "
               "metadata, tensors.",
    .args = "MODEL",
    .examples = {{"a summary", "lbrx inspect model.gguf"},
                 {"all tensors and the config of a folder",
                  "lbrx inspect model/ --tensors --metadata"},
                 {"names and hashes for a script", "lbrx inspect model/ --hash --json"}},
    .details =
        "With --json: format, architecture, parameters, bytes, bpw, metadata and tensors, always "
        "all of them. Shapes are row-major, slowest first, for every format. Long arrays of GGUF "
        "metadata stand as their type, length and the SHA-256 of their elements as stored. "
        "Importance "
        "matrices (GGUF and legacy .dat) show datasets, chunks and, with --tensors, columns, "
        "experts "
        "and counts of each entry; with --json in a member \"imatrix\".",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_COMMON(offsetof(inspect_opts, common))},
    .size_bytes = sizeof(inspect_opts),
    .run = run,
};
