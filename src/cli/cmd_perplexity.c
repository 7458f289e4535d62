/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_perplexity.c: `lbrx perplexity MODEL -f TEXT`. */
#include "base/os.h"
#include "cli/infer.h"
#include "cli/text.h"
#include "io/json.h"
#include "io/progress.h"
#include "ops/divergence.h"
#include "ops/score.h"

typedef struct perplexity_opts {
    lb_common common;
    lb_infer_opts infer;
    const char *file, *save, *kl;
    u64 n_chunks;
    u32 acts; /* index of "ggml|usual" */
    bool force, no_sync;
} perplexity_opts;

static const lb_opt rows[] = {
    {.name = "file",
     .short_name = 'f',
     .kind = LB_OPT_PATH,
     .arg = "TEXT",
     .required = true,
     .help = "file with the text",
     .off = offsetof(perplexity_opts, file)},
    {.name = "chunks",
     .kind = LB_OPT_INT,
     .arg = "N",
     .max = 1u << 30,
     .help = "only the first N chunks of --ctx tokens; all unless given",
     .off = offsetof(perplexity_opts, n_chunks)},
    {.name = "activations",
     .kind = LB_OPT_ENUM,
     .arg = "ggml|usual",
     .initial = "ggml",
     .help = "what the CPU rounds activations to where the weights are GGUF's: ggml: as "
             "llama-perplexity does, for figures to compare with its own; usual: as `generate`",
     .off = offsetof(perplexity_opts, acts)},
    {.name = "save-logits",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "write the logits of all scored tokens here, exactly: 4 bytes x vocabulary a token",
     .off = offsetof(perplexity_opts, save)},
    {.name = "kl",
     .kind = LB_OPT_PATH,
     .arg = "FILE",
     .help = "compare with the logits in FILE, of another model over the same text",
     .off = offsetof(perplexity_opts, kl)},
    {.name = "force",
     .kind = LB_OPT_FLAG,
     .help = "replace an existing file of logits once the new one is complete",
     .off = offsetof(perplexity_opts, force)},
    {.name = "no-sync",
     .kind = LB_OPT_FLAG,
     .help = "do not wait until the logits are on the disk",
     .off = offsetof(perplexity_opts, no_sync)},
};

/* A run: what each chunk's rows go to. */
typedef struct running {
    lb_infer infer;
    lb_progress progress;
    lb_logits_writer *writer;
    lb_divergence *other;
    lb_logits here; /* n_chunks: of the whole text */
    u64 n_chunks;   /* that are measured */
} running;

static lb_status take_rows(void *user, u64 chunk, u32 first, u32 n_rows, const u32 *ids,
                           const float *logits, lb_err *err) {
    running *x = user;
    u64 row = chunk * lb_logits_n_rows(&x->here) + (first - x->here.n_ctx / 2);
    if (x->writer)
        LB_TRY(lb_logits_put(x->writer, row, n_rows, logits, err));
    return x->other ? lb_divergence_add(x->other, row, n_rows, logits, ids + first + 1, err)
                    : LB_OK;
}

static void show_progress(void *user, u64 done, u64 total) {
    lb_progress_update(&((running *)user)->progress, done, total);
}

static void put_mean(lb_buf *out, const char *key, const char *key_stderr, lb_mean m) {
    lb_buf_printf(out, ",\"%s\":", key);
    lb_json_write_number(out, m.value);
    lb_buf_printf(out, ",\"%s\":", key_stderr);
    lb_json_write_number(out, m.stderr_);
}

static void put_number(lb_buf *out, const char *key, double v) {
    lb_buf_printf(out, ",\"%s\":", key);
    lb_json_write_number(out, v);
}

static void put_json(const running *x, const perplexity_opts *o, const lb_perplexity *p,
                     const lb_divergence_result *d, lb_buf *out) {
    lb_buf_put_c(out, "{\"perplexity\":");
    lb_json_write_number(out, lb_perplexity_value(p));
    put_number(out, "stderr", lb_perplexity_stderr(p));
    lb_buf_printf(out, ",\"tokens\":%llu,\"ctx\":%llu", (unsigned long long)p->n_tokens,
                  (unsigned long long)o->infer.n_ctx);
    if (x->other) {
        put_mean(out, "kl_mean", "kl_stderr", d->kl);
        put_number(out, "kl_median", d->kl_median);
        put_number(out, "kl_p99", d->kl_p99);
        put_number(out, "kl_max", d->kl_max);
        put_mean(out, "top1_agreement", "top1_stderr", d->same_top);
        put_number(out, "perplexity_base", d->perplexity_base);
        put_mean(out, "log_ratio", "log_ratio_stderr", d->log_ratio);
        put_mean(out, "p_rms", "p_rms_stderr", d->p_rms);
    }
    if (x->writer) {
        lb_buf_put_c(out, ",\"logits\":");
        lb_json_write_str(out, lb_str_c(o->save), false);
        lb_buf_printf(out, ",\"bytes_written\":%llu",
                      (unsigned long long)lb_logits_written(x->writer));
    }
    lb_buf_put_c(out, "}\n");
}

/* exp(m) - 1, in per cent. */
static void put_change(lb_buf *out, lb_mean m) {
    double ratio = lb_exp_f64(m.value);
    lb_buf_printf(out, "%+.4f +- %.4f %%", 100 * (ratio - 1), 100 * ratio * m.stderr_);
}

static void put_text(const running *x, const perplexity_opts *o, const lb_perplexity *p,
                     const lb_divergence_result *d, lb_buf *out) {
    char size[LB_TEXT_BYTES];
    lb_buf_printf(out, "perplexity %.4f +- %.4f (%llu tokens in %llu chunks of %llu)\n",
                  lb_perplexity_value(p), lb_perplexity_stderr(p), (unsigned long long)p->n_tokens,
                  (unsigned long long)p->n_chunks, (unsigned long long)o->infer.n_ctx);
    if (x->other) {
        lb_buf_printf(out, "against %.4f of ", d->perplexity_base);
        lb_put_safe(out, lb_str_c(o->kl));
        lb_buf_put_c(out, ": ");
        put_change(out, d->log_ratio);
        lb_buf_printf(out, " (ln of the ratio %.6f +- %.6f)\n", d->log_ratio.value,
                      d->log_ratio.stderr_);
        lb_buf_printf(out,
                      "divergence (nats) %.6g +- %.2g, median %.6g, 99 %% of tokens below %.6g, "
                      "largest %.6g\n",
                      d->kl.value, d->kl.stderr_, d->kl_median, d->kl_p99, d->kl_max);
        lb_buf_printf(
            out, "change of the right token's probability, root mean square: %.4f +- %.4f %%\n",
            100 * d->p_rms.value, 100 * d->p_rms.stderr_);
        lb_buf_printf(out, "same most likely token: %.3f +- %.3f %%\n", 100 * d->same_top.value,
                      100 * d->same_top.stderr_);
    }
    if (x->writer) {
        lb_buf_put_c(out, "logits: ");
        lb_put_safe(out, lb_str_c(o->save));
        lb_buf_printf(out, ", %s\n", lb_size_text(lb_logits_written(x->writer), size));
    }
}

/* What the text's tokens are for: the file that is read begins with them, the file that is written
 * has room. */
static lb_status begin_files(running *x, const perplexity_opts *o, const u32 *ids, lb_err *err) {
    const lb_logits *there = x->other ? lb_divergence_head(x->other) : NULL;
    x->n_chunks = o->n_chunks ? LB_MIN(o->n_chunks, x->here.n_chunks) : x->here.n_chunks;
    if (there && o->n_chunks > there->n_chunks)
        return lb_fail(err, LB_E_USAGE, "--chunks %llu: %s has %llu",
                       (unsigned long long)o->n_chunks, o->kl, (unsigned long long)there->n_chunks);
    if (there) {
        x->n_chunks = LB_MIN(x->n_chunks, there->n_chunks);
        LB_TRY(lb_divergence_begin(x->other, &x->here, ids, LB_MAX(x->n_chunks, (u64)1), err));
    }
    if (!o->save || x->here.n_chunks < 2) /* too short a text is refused where it is measured */
        return LB_OK;
    lb_logits l = x->here;
    l.n_chunks = x->n_chunks;
    return lb_logits_create(&x->writer,
                            &(lb_logits_target){o->save, .force = o->force, .no_sync = o->no_sync},
                            x->infer.source, &l, ids, err);
}

static lb_status measure(running *x, const perplexity_opts *o, const lb_buf *ids, lb_cli *cli,
                         lb_err *err) {
    lb_perplexity p;
    lb_divergence_result d = {0};
    const u32 *id = (const u32 *)(const void *)ids->ptr;
    u64 n = ids->len / sizeof *id;
    u32 bos = lb_infer_bos(&x->infer);
    LB_TRY(lb_infer_context(&x->infer, o->infer.n_ctx, err));
    x->here = (lb_logits){.n_vocab = lb_model_n_vocab(lb_context_model(x->infer.context)),
                          .n_ctx = (u32)o->infer.n_ctx,
                          .bos = bos,
                          .n_chunks = n / o->infer.n_ctx};
    LB_TRY(begin_files(x, o, id, err));
    lb_progress_begin(&x->progress, o->common.progress, "perplexity");
    x->progress.unit = "tokens";
    lb_status st = lb_perplexity_run(x->infer.context, id, n,
                                     &(lb_perplexity_opts){.n_ctx = (u32)o->infer.n_ctx,
                                                           .n_chunks_max = (u32)x->n_chunks,
                                                           .bos = bos,
                                                           .row = take_rows,
                                                           .progress = show_progress,
                                                           .user = x},
                                     &p, err);
    lb_progress_end(&x->progress);
    LB_TRY(st);
    if (x->writer)
        LB_TRY(lb_logits_finish(x->writer, err));
    if (x->other)
        lb_divergence_end(x->other, &d);
    (o->common.json ? put_json : put_text)(x, o, &p, &d, &cli->out);
    return LB_OK;
}

/* The file that is compared with says of how many tokens chunks are; what is written must not be
 * that file. All before the model is loaded, which may take long. */
static lb_status open_files(running *x, perplexity_opts *o, lb_err *err) {
    lb_fstat a, b;
    if (o->kl)
        LB_TRY(lb_divergence_open(&x->other, o->kl, err));
    if (!o->infer.n_ctx)
        o->infer.n_ctx = o->kl ? lb_divergence_head(x->other)->n_ctx : 512;
    if (o->infer.n_ctx < 4)
        return lb_fail(err, LB_E_USAGE, "perplexity: --ctx: at least 4");
    if (!o->save)
        return LB_OK;
    if (o->kl && lb_os_stat(o->kl, &a, NULL) == LB_OK && lb_os_stat(o->save, &b, NULL) == LB_OK &&
        a.dev == b.dev && a.ino == b.ino)
        return lb_fail(err, LB_E_USAGE, "--save-logits '%s' is the file of --kl: name another",
                       o->save);
    return lb_logits_check_target(&(lb_logits_target){o->save, .force = o->force}, NULL, err);
}

static lb_status run(lb_cli *cli, const void *opts, const char *const *args, u32 n_args,
                     lb_err *err) {
    perplexity_opts o = *(const perplexity_opts *)opts;
    running *x = lb_arena_new(&cli->arena, running, 1);
    lb_buf ids = {0};
    (void)n_args;
    if (!x)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    x->infer.any_device = true;
    lb_status st = open_files(x, &o, err);
    if (st == LB_OK)
        st = lb_infer_open(&x->infer, cli, &o.common, &o.infer, args[0], err);
    if (st == LB_OK && o.acts == 0 && lb_infer_is_gguf(&x->infer))
        x->infer.acts = LB_ACTS_GGML;
    if (st == LB_OK && !x->infer.planned)
        st = lb_infer_encode_file(&x->infer, o.file, &ids, err);
    if (st == LB_OK && !x->infer.planned)
        st = measure(x, &o, &ids, cli, err);
    if (st == LB_E_NOMEM && lb_mem_refused())
        st = lb_fail(err, LB_E_LIMIT,
                     "perplexity: the text and its logits do not fit --memory: give it more");
    lb_logits_close(&x->writer);
    lb_divergence_close(&x->other);
    lb_infer_close(&x->infer);
    lb_buf_deinit(&ids);
    return st;
}

const lb_command lb_cmd_perplexity = {
    .name = "perplexity",
    .summary = "Measures how well a model predicts a text.",
    .args = "MODEL",
    .examples = {{"of a model", "lbrx perplexity model.gguf -f wiki.txt"},
                 {"what a model makes of a text, to compare others with",
                  "lbrx perplexity model.gguf -f wiki.txt --chunks 10 --save-logits wiki.logits"},
                 {"what quantization changed",
                  "lbrx perplexity model-q4_k_m.gguf -f wiki.txt --kl wiki.logits"}},
    .details =
        "The text is cut into chunks of --ctx tokens (512 unless given, or those of --kl); of "
        "each the second half is scored, as llama-perplexity does it. --kl compares with "
        "exact logits of the same tokens: mean, median, 99th percentile and maximum of the "
        "divergence KL(file's model || MODEL) in nats, the change of perplexity with its "
        "standard error, the change of the right token's probability and how often the most "
        "likely token is the same. On the CPU activations that meet a GGUF's weights are rounded "
        "as llama.cpp rounds them (--activations).",
    .n_args_min = 1,
    .n_args_max = 1,
    .group = {LB_GROUP("Options", rows, 0), LB_GROUP_INFER(offsetof(perplexity_opts, infer)),
              LB_GROUP_GPUS(offsetof(perplexity_opts, infer)),
              LB_GROUP_COMMON(offsetof(perplexity_opts, common))},
    .size_bytes = sizeof(perplexity_opts),
    .run = run,
};
