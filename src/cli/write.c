/* SPDX-License-Identifier: Apache-2.0 */
/* write.c: what all commands that write a model share. */
#include "cli/write.h"
#include "base/interrupt.h"
#include "cli/text.h"
#include "plan/encoder.h"
#include <stdio.h>

const lb_opt lb_write_opts[LB_WRITE_OPTS] = {
    {.name = "output",
     .short_name = 'o',
     .kind = LB_OPT_PATH,
     .arg = "PATH",
     .help = "write the result here: a folder, or a file NAME.gguf",
     .off = offsetof(lb_writing, output)},
    {.name = "to",
     .kind = LB_OPT_ENUM,
     .arg = "auto|hf|mlx|gguf|none",
     .initial = "auto",
     .help = "format of the result; auto: gguf for a name that ends so, else the input's; none: "
             "run everything, write nothing",
     .off = offsetof(lb_writing, to)},
    {.name = "max-shard-size",
     .kind = LB_OPT_SIZE,
     .arg = "SIZE",
     .min = 1,
     .help = "cut the weights into files of at most this size: HF 5GB, MLX 5GiB, GGUF one file "
             "unless given",
     .off = offsetof(lb_writing, max_shard_bytes)},
    {.name = "max-shard-tensors",
     .kind = LB_OPT_INT,
     .arg = "N",
     .min = 1,
     .max = INT32_MAX,
     .help = "cut a GGUF into files of at most so many tensors",
     .off = offsetof(lb_writing, max_shard_tensors)},
    {.name = "dry-run",
     .kind = LB_OPT_FLAG,
     .help = "print the plan (inputs, every tensor, bytes, peak memory) and write nothing",
     .off = offsetof(lb_writing, dry_run)},
    {.name = "resume",
     .kind = LB_OPT_FLAG,
     .help = "go on after an interruption: finished tensors are checked and kept",
     .off = offsetof(lb_writing, resume)},
    {.name = "force",
     .kind = LB_OPT_FLAG,
     .help = "replace an existing output once the new one is complete",
     .off = offsetof(lb_writing, force)},
    {.name = "no-sync",
     .kind = LB_OPT_FLAG,
     .help = "do not wait until the data are on the disk",
     .off = offsetof(lb_writing, no_sync)},
    {.name = "sha256",
     .kind = LB_OPT_FLAG,
     .help = "also write SHA-256 sums of the files",
     .off = offsetof(lb_writing, sha256)},
    {.name = "no-provenance",
     .kind = LB_OPT_FLAG,
     .help = "leave out where the model comes from and by what it was made",
     .off = offsetof(lb_writing, no_provenance)},
};

static void progress(void *user, u64 done, u64 total) {
    lb_writer *w = user;
    lb_progress_update(&w->progress, done, total);
}

static lb_status begin(lb_writer *w, const lb_cli *cli, const lb_writing *o, lb_common *common,
                       const char *verb, lb_err *err) {
    static const lb_to to[] = {LB_TO_AUTO, LB_TO_HF, LB_TO_MLX, LB_TO_GGUF, LB_TO_NONE};
    if (o->max_shard_tensors && o->max_shard_bytes && o->max_shard_bytes != UINT64_MAX)
        return lb_fail(err, LB_E_USAGE,
                       "--max-shard-size and --max-shard-tensors exclude each other");
    *w = (lb_writer){0};
    lb_kernels_init(&w->kernels, cli->isa_mask);
    w->opts = (lb_writer_opts){.output = o->output,
                               .to = to[o->to],
                               .memory_bytes = common->memory_bytes,
                               .threads = (u32)common->n_threads,
                               .max_shard_bytes = o->max_shard_bytes,
                               .max_shard_tensors = o->max_shard_tensors,
                               .dry_run = o->dry_run,
                               .resume = o->resume,
                               .force = o->force,
                               .no_sync = o->no_sync,
                               .no_provenance = o->no_provenance,
                               .sha256 = o->sha256,
                               .json = common->json,
                               .kernels = &w->kernels,
                               .stop = lb_interrupt_stop,
                               .progress = progress,
                               .user = w};
    if (!o->output && w->opts.to != LB_TO_NONE)
        return lb_fail(err, LB_E_USAGE, "%s: no output: name it with -o PATH, or use --to none",
                       verb);
    if (o->output && strcmp(o->output, "-") == 0)
        return lb_fail(err, LB_E_USAGE,
                       "%s: a model is not written from front to end, so not to standard output: "
                       "name a file (./- is one)",
                       verb);
    lb_cli_log(cli, "%s: %u threads, memory %llu bytes, output %s", verb, w->opts.threads,
               (unsigned long long)common->memory_bytes, o->output ? o->output : "none");
    if (common->choice.kind != LB_DEV_CPU || common->choice.emulated)
        LB_TRY(lb_quant_device_new(&w->encoder,
                                   &(lb_dev_opts){.kind = common->choice.kind,
                                                  .index = common->choice.index,
                                                  .memory_bytes = common->device_memory_bytes},
                                   w->opts.threads, common->memory_bytes, err));
    w->opts.encoder = w->encoder;
    if (w->encoder && (o->dry_run || common->memory_bytes < LB_OUTPUT_BESIDE_BYTES))
        LB_TRY(lb_quant_device_open(w->encoder, err));
    w->process_bytes = lb_cli_limit_heap(common->memory_bytes);
    lb_progress_begin(&w->progress, common->progress, verb);
    return LB_OK;
}

lb_status lb_writer_begin(lb_writer *w, const lb_cli *cli, const lb_writing *o, lb_common *common,
                          const char *verb, lb_err *err) {
    LB_TRY(lb_common_finish(common, err));
    return begin(w, cli, o, common, verb, err);
}

lb_status lb_writer_begin_device(lb_writer *w, const lb_cli *cli, const lb_writing *o,
                                 lb_common *common, const char *verb, lb_err *err) {
    LB_TRY(lb_common_finish_device(common, err));
    return begin(w, cli, o, common, verb, err);
}

/* Remarks and plans quote names that stand in files: no control byte of theirs reaches the
 * terminal, but a line's end. */
static void put_lines(lb_buf *out, const char *prefix, lb_str text) {
    while (text.len) {
        size_t end = text.len;
        (void)lb_str_find(text, LB_STR("\n"), &end);
        lb_buf_put_c(out, prefix);
        lb_put_safe(out, lb_str_sub(text, 0, end));
        lb_buf_put_u8(out, '\n');
        text = lb_str_sub(text, end + 1, text.len);
    }
}

static void print_remarks(lb_str text) {
    lb_buf safe = {0};
    put_lines(&safe, "note: ", text);
    if (!safe.oom)
        (void)fwrite(safe.ptr, 1, safe.len, stderr);
    lb_buf_deinit(&safe);
}

void lb_quant_device_warn(const lb_quant_device *e, bool quiet) {
    const char *why = lb_quant_device_refusal(e);
    if (why && !quiet)
        fprintf(stderr, "warning: %s: %s; the CPU quantizes instead\n", lb_quant_device_id(e), why);
}

/* What the device has done; told: a person is told where that is nothing. */
static void end_encoder(lb_writer *w, const lb_cli *cli, bool told, bool quiet) {
    lb_quant_device_stats s;
    if (!w->encoder)
        return;
    lb_quant_device_stats_get(w->encoder, &s);
    lb_cli_log(cli, "%s: %llu values quantized in %llu batches", lb_quant_device_id(w->encoder),
               (unsigned long long)s.n_elems, (unsigned long long)s.n_batches);
    lb_quant_device_warn(w->encoder, quiet);
    if (told && s.n_batches == 0 && !lb_quant_device_has_any(w->encoder))
        lb_buf_printf(
            &w->remarks,
            "nothing was quantized on %s, which makes K- and IQ-quants, and MLX's groups without "
            "--refine\n",
            lb_quant_device_id(w->encoder));
    lb_quant_device_free(&w->encoder);
}

void lb_writer_end(lb_writer *w, lb_cli *cli, const lb_common *common, const lb_out_report *r,
                   const lb_buf *plan, lb_status st) {
    lb_progress_end(&w->progress);
    end_encoder(w, cli, st == LB_OK && r && !r->dry_run && !common->quiet, common->quiet);
    if (w->remarks.len && !common->quiet && !(r && r->dry_run))
        print_remarks(lb_buf_str(&w->remarks));
    lb_buf_deinit(&w->remarks);
    if (st != LB_OK)
        return;
    lb_cli_log(cli,
               "%llu tensors, pool: %llu allocations, %llu reuses, %llu bytes; %llu bytes moved, "
               "resident peak %llu bytes",
               (unsigned long long)r->n_tensors, (unsigned long long)r->pool.allocations,
               (unsigned long long)r->pool.reuses, (unsigned long long)r->pool.peak_bytes,
               (unsigned long long)r->bytes_moved, (unsigned long long)r->peak_rss_bytes);
    if (r->dry_run && common->json)
        lb_buf_put_str(&cli->out, lb_buf_str(plan));
    else if (r->dry_run)
        put_lines(&cli->out, "", lb_buf_str(plan));
    else if (common->json)
        lb_output_json(&w->opts, r, &cli->out);
    else
        lb_output_text(&w->opts, r, &cli->out);
}
