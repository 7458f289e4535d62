/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_imatrix.c: `lbrx imatrix MODEL -f TEXT -o FILE` (ops/imatrix.h) and `imatrix merge`. */
#include "base/interrupt.h"
#include "base/os.h"
#include "cli/infer.h"
#include "cli/text.h"
#include "ops/imatrix.h"
#include "ops/score.h"
#include <stdio.h>

#define CHUNK_USUAL 512

enum { FORM_AUTO, FORM_GGUF, FORM_DAT };

/* ---- what both commands share ---- */

typedef struct output_opts {
    const char *output;
    u32 form; /* index of "auto|gguf|dat" */
    bool force, no_sync;
} output_opts;

static const lb_opt output_rows[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "the importance matrix: FILE.gguf, or FILE.dat for the legacy form",
     .required = true,
     .off = offsetof(output_opts, output)},
    {.name = "output-format",
     .kind = LB_OPT_ENUM,
     .arg = "auto|gguf|dat",
     .initial = "auto",
     .help = "the form, whatever the name says",
     .off = offsetof(output_opts, form)},
    {.name = "force",
     .kind = LB_OPT_FLAG,
     .help = "replace an existing file once the new one is complete",
     .off = offsetof(output_opts, force)},
    {.name = "no-sync",
     .kind = LB_OPT_FLAG,
     .help = "do not wait until the data are on the disk",
     .off = offsetof(output_opts, no_sync)},
};

static bool is_legacy(const output_opts *o) {
    return o->form == FORM_AUTO ? lb_str_ends(lb_str_c(o->output), LB_STR(".dat"))
                                : o->form == FORM_DAT;
}

static lb_status open_file(const char *path, lb_source **out, lb_err *err) {
    return lb_imatrix_open(out, path, err);
}

/* Remarks on stderr, a line each. */
static void put_notes(const lb_common *common, lb_str text) {
    lb_buf safe = {0};
    while (text.len && !common->quiet) {
        size_t end = text.len;
        (void)lb_str_find(text, LB_STR("\n"), &end);
        lb_buf_put_c(&safe, "warning: ");
        lb_put_safe(&safe, lb_str_sub(text, 0, end));
        lb_buf_put_u8(&safe, '\n');
        text = lb_str_sub(text, LB_MIN(end + 1, text.len), text.len);
    }
    if (!safe.oom && safe.len)
        (void)fwrite(safe.ptr, 1, safe.len, stderr);
    lb_buf_deinit(&safe);
}

static void put_unreached_json(const lb_imatrix_set *set, lb_buf *out) {
    const char *between = "";
    lb_buf_put_c(out, ",\"unreached\":{");
    for (u64 i = 0; i < lb_imatrix_set_n(set); i++) {
        const lb_imatrix_entry_sums *e = lb_imatrix_set_at(set, i);
        bool any = false;
        for (u64 k = 0; k < e->n_counts; k++) {
            if (e->counts[k])
                continue;
            if (!any) {
                lb_buf_put_c(out, between);
                lb_json_write_str(out, e->name, false);
            }
            lb_buf_printf(out, "%s%llu", any ? "," : ":[", (unsigned long long)k);
            any = true;
        }
        lb_buf_put_c(out, any ? "]" : "");
        between = any ? "," : between;
    }
    lb_buf_put_c(out, "}");
}

/* ---- imatrix ---- */

typedef struct imatrix_opts {
    lb_common common;
    lb_infer_opts infer;
    output_opts to;
    const char *file;
    u64 n_chunks, first_chunk, save_every;
    bool process_output, no_ppl, parse_special;
    lb_opt_list in_files;
} imatrix_opts;

static const lb_opt rows[] = {
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "TEXT",
     .required = true,
     .help = "file with the text to measure on",
     .off = offsetof(imatrix_opts, file)},
    {.name = "chunks",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "only N chunks of --ctx tokens; all unless given",
     .off = offsetof(imatrix_opts, n_chunks)},
    {.name = "from-chunk",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "pass over the first N chunks",
     .off = offsetof(imatrix_opts, first_chunk)},
    {.name = "chunk", .alias_of = "from-chunk", .hidden = true},
    {.name = "process-output",
     .kind = LB_OPT_FLAG,
     .help = "also for output.weight",
     .off = offsetof(imatrix_opts, process_output)},
    {.name = "no-ppl",
     .kind = LB_OPT_FLAG,
     .help = "do not measure the text's perplexity beside it: faster",
     .off = offsetof(imatrix_opts, no_ppl)},
    {.name = "parse-special",
     .kind = LB_OPT_FLAG,
     .help = "names of special tokens in the text are these tokens, not text",
     .off = offsetof(imatrix_opts, parse_special)},
    {.name = "save-frequency",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "after every N chunks keep what there is as FILE.at_CHUNK",
     .off = offsetof(imatrix_opts, save_every)},
    {.name = "in-file",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .repeatable = true,
     .help = "add to this importance matrix of the same model: to go on with one",
     .off = offsetof(imatrix_opts, in_files)},
};

typedef struct work {
    lb_cli *cli;
    const imatrix_opts *o;
    lb_infer *x;
    lb_imatrix_set *set;
    lb_imatrix_tap *tap;
    lb_source **in; /* [in_files.n] */
    const lb_source **inputs;
    lb_write_target target;
    lb_buf ids, notes;
    lb_progress progress;
    lb_imatrix_result result;
} work;

static void progress(void *user, u64 done, u64 total) {
    work *w = user;
    lb_progress_update(&w->progress, done, total);
}

static lb_str name_at(work *w, u64 chunk) {
    return lb_arena_printf(&w->cli->arena, "%s.at_%llu", w->o->to.output,
                           (unsigned long long)chunk);
}

static lb_status save(void *user, u64 chunk, lb_err *err) {
    work *w = user;
    lb_write_target t = w->target;
    lb_str name = name_at(w, chunk);
    t.path = name.ptr;
    return name.ptr ? lb_imatrix_set_write(w->set, &t, is_legacy(&w->o->to), err)
                    : lb_fail(err, LB_E_NOMEM, "out of memory for a name");
}

static lb_imatrix_opts options(work *w) {
    const imatrix_opts *o = w->o;
    return (lb_imatrix_opts){.n_ctx = (u32)o->infer.n_ctx,
                             .first_chunk = o->first_chunk,
                             .n_chunks_max = o->n_chunks,
                             .bos = lb_infer_bos(w->x),
                             .perplexity = !o->no_ppl,
                             .output = o->process_output,
                             .save_every = o->save_every,
                             .save = save,
                             .progress = progress,
                             .user = w};
}

/* Files that would be in the way are named before the work of hours. */
static lb_status check_names(work *w, const lb_imatrix_opts *io, lb_err *err) {
    u64 n = lb_imatrix_n_chunks(w->ids.len / sizeof(u32), io);
    LB_TRY(lb_write_check(&w->target, err));
    for (u64 i = io->save_every; io->save_every && i <= n; i += io->save_every) {
        lb_write_target t = w->target;
        lb_str name = name_at(w, io->first_chunk + i);
        if (!name.ptr)
            return lb_fail(err, LB_E_NOMEM, "out of memory for a name");
        t.path = name.ptr;
        LB_TRY(lb_write_check(&t, err));
    }
    return LB_OK;
}

static lb_status read_text(work *w, lb_err *err) {
    lb_arena arena = {0};
    lb_encode_work *e = NULL;
    lb_str text;
    u32 flags = LB_ENCODE_ADD | (w->o->parse_special ? 0 : LB_ENCODE_PLAIN);
    lb_status st = lb_os_read_file(w->o->file, LB_INFER_TEXT_MAX, &arena, &text, err);
    if (st == LB_OK && text.len && text.ptr[text.len - 1] == '\n')
        text.len--; /* as llama.cpp reads a file */
    if (st == LB_OK)
        st = lb_infer_tokenizer(w->x, err);
    if (st == LB_OK)
        st = lb_encode_work_new(&e, w->x->encoder, err);
    if (st == LB_OK)
        st = lb_encode_run(e, text, flags, &w->ids, err);
    lb_encode_work_free(&e);
    lb_arena_deinit(&arena);
    return st;
}

static lb_status read_files(work *w, lb_err *err) {
    u32 n = w->o->in_files.n;
    w->in = lb_arena_new(&w->cli->arena, lb_source *, n + 1);
    w->inputs = lb_arena_new(&w->cli->arena, const lb_source *, n + 1);
    if (!w->in || !w->inputs)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    LB_TRY(
        lb_imatrix_set_new(&w->set, w->o->common.memory_bytes / 4, NULL, w->o->infer.n_ctx, err));
    for (u32 i = 0; i < n; i++) {
        LB_TRY(open_file(w->o->in_files.item[i], &w->in[i], err));
        LB_TRY(lb_imatrix_set_add_file(w->set, w->in[i], err));
        w->inputs[i + 1] = w->in[i];
    }
    w->inputs[0] = w->x->source;
    w->target = (lb_write_target){.path = w->o->to.output,
                                  .force = w->o->to.force,
                                  .no_sync = w->o->to.no_sync,
                                  .inputs = w->inputs,
                                  .n_inputs = n + 1};
    return lb_imatrix_set_dataset(w->set, lb_os_base_name(lb_str_c(w->o->file)), err);
}

static void report(work *w) {
    const lb_imatrix_result *r = &w->result;
    lb_buf *out = &w->cli->out;
    const lb_perplexity p = {.n_tokens = r->n_scored, .nll = r->nll, .nll2 = r->nll2};
    u64 chunks = lb_imatrix_set_chunks(w->set);
    if (w->o->common.json) {
        lb_buf_put_c(out, "{\"output\":");
        lb_json_write_str(out, lb_str_c(w->o->to.output), false);
        lb_buf_printf(out,
                      ",\"format\":\"%s\",\"entries\":%llu,\"chunks\":%llu,\"chunk_count\":%llu,"
                      "\"chunk_size\":%llu,\"tokens\":%llu",
                      is_legacy(&w->o->to) ? "dat" : "gguf",
                      (unsigned long long)lb_imatrix_set_n(w->set), (unsigned long long)r->n_chunks,
                      (unsigned long long)chunks, (unsigned long long)w->o->infer.n_ctx,
                      (unsigned long long)(r->n_chunks * w->o->infer.n_ctx));
        if (r->n_scored)
            lb_buf_printf(out, ",\"perplexity\":%.9g,\"stderr\":%.6g", lb_perplexity_value(&p),
                          lb_perplexity_stderr(&p));
        put_unreached_json(w->set, out);
        lb_buf_put_c(out, "}\n");
        return;
    }
    lb_put_safe(out, lb_str_c(w->o->to.output));
    lb_buf_printf(out, ": %llu matrices, %llu chunks of %llu tokens",
                  (unsigned long long)lb_imatrix_set_n(w->set), (unsigned long long)chunks,
                  (unsigned long long)w->o->infer.n_ctx);
    if (r->n_scored)
        lb_buf_printf(out, "; perplexity %.4f +- %.4f", lb_perplexity_value(&p),
                      lb_perplexity_stderr(&p));
    lb_buf_put_c(out, "\n");
}

static lb_status measure(work *w, lb_err *err) {
    lb_infer *x = w->x;
    LB_TRY(read_text(w, err));
    LB_TRY(read_files(w, err));
    lb_imatrix_opts io = options(w);
    LB_TRY(check_names(w, &io, err));
    LB_TRY(lb_imatrix_tap_new(&w->tap, lb_loaded_weights(x->loaded), w->set, io.output, err));
    x->tap = lb_imatrix_tap_take;
    x->tap_user = w->tap;
    LB_TRY(lb_infer_context(x, w->o->infer.n_ctx, err));
    lb_progress_begin(&w->progress, w->o->common.progress, "imatrix");
    w->progress.unit = "tokens";
    lb_status st = lb_imatrix_run(x->context, w->tap, (const u32 *)(const void *)w->ids.ptr,
                                  w->ids.len / sizeof(u32), &io, &w->result, err);
    lb_progress_end(&w->progress);
    LB_TRY(st);
    LB_TRY(lb_imatrix_set_write(w->set, &w->target, is_legacy(&w->o->to), err));
    (void)lb_imatrix_set_unreached(w->set, &w->notes);
    put_notes(&w->o->common, lb_buf_str(&w->notes));
    report(w);
    return LB_OK;
}

static lb_status run_imatrix(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                             lb_err *err) {
    imatrix_opts o = *(const imatrix_opts *)opts;
    lb_infer *x = lb_arena_new(&cli->arena, lb_infer, 1);
    work *w = lb_arena_new(&cli->arena, work, 1);
    (void)n_args;
    if (!x || !w)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    *w = (work){.cli = cli, .o = &o, .x = x};
    if (!o.infer.n_ctx)
        o.infer.n_ctx = CHUNK_USUAL;
    o.infer.n_batch = LB_MAX(o.infer.n_batch, (u64)LB_IMATRIX_BATCH_MIN);
    x->any_device = x->sums = true;
    lb_status st = lb_infer_open(x, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK && !x->planned)
        st = measure(w, err);
    lb_imatrix_tap_free(&w->tap);
    lb_imatrix_set_free(&w->set);
    for (u32 i = 0; w->in && i < o.in_files.n; i++)
        lb_source_close(&w->in[i]);
    lb_buf_deinit(&w->ids);
    lb_buf_deinit(&w->notes);
    lb_infer_close(x);
    return st;
}

const lb_command lb_cmd_imatrix = {
    .name = "imatrix",
    .summary = "Measures which columns of a model's matrices matter, for quantize --imatrix.",
    .args = "MODEL -f TEXT -o FILE",
    .examples = {{"of a model in any format", "lbrx imatrix model/ -f text.txt -o imatrix.gguf"},
                 {"a hundred chunks, kept every ten",
                  "lbrx imatrix model.gguf -f text.txt -o i.gguf --chunks 100 --save-frequency 10"},
                 {"going on with what is there",
                  "lbrx imatrix model.gguf -f text.txt -o i.gguf --in-file i.gguf.at_40 "
                  "--from-chunk 40"}},
    .details =
        "The file is what llama-imatrix writes and llama-quantize reads: for each matrix of the "
        "layers the sum of squares of each column of its input, with counts of tokens, an expert's "
        "own where there are experts. Names are GGUF's, whatever the format of MODEL. Chunks have "
        "--ctx tokens (512 unless given). The bytes depend neither on --threads nor on --batch; on "
        "a "
        "GPU (--device) the sums are those of the CPU but for rounding. "
        "Experts that no token reached are named in a warning; they count as llama-imatrix has "
        "them: each column 1 when it is read.",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0),
              LB_GROUP("Output", output_rows, offsetof(imatrix_opts, to)),
              LB_GROUP_INFER(offsetof(imatrix_opts, infer)),
              LB_GROUP_GPUS(offsetof(imatrix_opts, infer)),
              LB_GROUP_COMMON(offsetof(imatrix_opts, common))},
    .size_bytes = sizeof(imatrix_opts),
    .run = run_imatrix,
};

/* ---- imatrix merge ---- */

typedef struct merge_opts {
    lb_common common;
    output_opts to;
    u64 chunk_size;
} merge_opts;

static const lb_opt merge_rows[] = {
    {.name = "ctx",
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = 1u << 26,
     .help = "tokens of a chunk, in which legacy files count and the result tells its length; "
             "what the GGUF inputs say, or 512, unless given",
     .off = offsetof(merge_opts, chunk_size)},
};

/* What the inputs say; *differ: not all the same. */
static u64 chunk_size_of(const lb_source *const *in, u32 n, bool *differ) {
    u64 size = 0;
    *differ = false;
    for (u32 i = 0; i < n; i++) {
        u64 has = in[i]->imatrix->chunk_size;
        *differ = *differ || (has && size && has != size);
        size = size ? size : has;
    }
    return size ? size : CHUNK_USUAL;
}

static lb_status merge(lb_cli *cli, const merge_opts *o, lb_source **in, u32 n,
                       lb_imatrix_set **set, lb_err *err) {
    const lb_source *const *inputs = (const lb_source *const *)in;
    lb_write_target t = {.path = o->to.output,
                         .force = o->to.force,
                         .no_sync = o->to.no_sync,
                         .inputs = inputs,
                         .n_inputs = n};
    bool differ;
    u64 size = chunk_size_of(inputs, n, &differ);
    if (differ && !o->chunk_size)
        return lb_fail(err, LB_E_USAGE,
                       "imatrix merge: the files were made of chunks of different sizes: say with "
                       "--ctx which the result is to tell");
    size = o->chunk_size ? o->chunk_size : size;
    LB_TRY(lb_write_check(&t, err));
    LB_TRY(lb_imatrix_set_new(set, o->common.memory_bytes / 4, NULL, size, err));
    for (u32 i = 0; i < n; i++)
        LB_TRY(lb_imatrix_set_add_file(*set, in[i], err));
    LB_TRY(lb_imatrix_set_write(*set, &t, is_legacy(&o->to), err));
    u64 chunks = lb_imatrix_set_chunks(*set);
    if (!o->common.json) {
        lb_put_safe(&cli->out, lb_str_c(o->to.output));
        lb_buf_printf(&cli->out, ": %u files, %llu matrices, %llu chunks of %llu tokens\n", n,
                      (unsigned long long)lb_imatrix_set_n(*set), (unsigned long long)chunks,
                      (unsigned long long)size);
        return LB_OK;
    }
    lb_buf_put_c(&cli->out, "{\"output\":");
    lb_json_write_str(&cli->out, lb_str_c(o->to.output), false);
    lb_buf_printf(&cli->out,
                  ",\"format\":\"%s\",\"files\":%u,\"entries\":%llu,\"chunk_count\":%llu,"
                  "\"chunk_size\":%llu",
                  is_legacy(&o->to) ? "dat" : "gguf", n, (unsigned long long)lb_imatrix_set_n(*set),
                  (unsigned long long)chunks, (unsigned long long)size);
    put_unreached_json(*set, &cli->out);
    lb_buf_put_c(&cli->out, "}\n");
    return LB_OK;
}

static lb_status run_merge(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                           lb_err *err) {
    merge_opts o = *(const merge_opts *)opts;
    lb_source **in = lb_arena_new(&cli->arena, lb_source *, n_args);
    lb_imatrix_set *set = NULL;
    if (!in)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    lb_status st = lb_common_finish(&o.common, err);
    if (st == LB_OK)
        (void)lb_cli_limit_heap(o.common.memory_bytes);
    for (u32 i = 0; i < n_args && st == LB_OK; i++)
        st = open_file(args[i], &in[i], err);
    if (st == LB_OK)
        st = merge(cli, &o, in, n_args, &set, err);
    lb_imatrix_set_free(&set);
    for (u32 i = 0; i < n_args; i++)
        lb_source_close(&in[i]);
    return st;
}

const lb_command lb_cmd_imatrix_merge = {
    .name = "imatrix merge",
    .summary = "Adds importance matrices of one model.",
    .args = "FILE... -o FILE",
    .examples = {{"of two texts", "lbrx imatrix merge english.gguf code.gguf -o both.gguf"},
                 {"a legacy file as a GGUF", "lbrx imatrix merge old.dat -o new.gguf"}},
    .details = "Sums and counts add up, so a text of twice the length weighs twice as much. Both "
               "forms may be mixed; a legacy file counts in chunks of --ctx tokens and has one "
               "count for all experts of a matrix.",
    .n_args_min = 1,
    .n_args_max = 4096,
    .group = {LB_GROUP("Options", merge_rows, 0),
              LB_GROUP("Output", output_rows, offsetof(merge_opts, to)),
              LB_GROUP_COMMON(offsetof(merge_opts, common))},
    .size_bytes = sizeof(merge_opts),
    .run = run_merge,
};
